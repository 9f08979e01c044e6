"""What connecting costs each source space."""
