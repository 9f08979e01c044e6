"""Where in a picture a sound comes from."""
