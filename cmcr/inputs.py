"""Turn what a user has into items: another name of ``cmcr.items``."""

from cmcr.items import Inputs, Item, item_from_query, read_items

__all__ = ["Inputs", "Item", "item_from_query", "read_items"]
