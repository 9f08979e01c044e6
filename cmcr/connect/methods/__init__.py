"""One file a method of connecting."""
