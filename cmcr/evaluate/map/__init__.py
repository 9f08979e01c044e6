"""A memory or a space as a plane of points."""
