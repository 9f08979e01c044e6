"""``cmcr eval interactions``."""
