"""Commands that take spaces and vectors elsewhere."""
