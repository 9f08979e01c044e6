"""``cmcr classify`` and ``cmcr eval classify``."""
