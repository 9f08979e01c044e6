"""``cmcr fuse``."""
