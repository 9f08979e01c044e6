"""What a user has (folders, lists, tables, tars) -> items in a stable order."""

from typing import TYPE_CHECKING

from cmcr.lazy import lazily

if TYPE_CHECKING:
    from cmcr.items.cells import Nothing, cell_text
    from cmcr.items.ids import ById, join_ids, joining_form, readable, same_id, what_differs
    from cmcr.items.item import SAME_ID, Inputs, Item, Up, state_up, text_item, unique_items
    from cmcr.items.read import item_from_query, read_items
    from cmcr.items.roots import read_inputs
    from cmcr.items.tables import PATHS, TABLES, Record, decode, lines_of, read_rows, read_table, read_text

__all__ = [
    "PATHS",
    "SAME_ID",
    "TABLES",
    "ById",
    "Inputs",
    "Item",
    "Nothing",
    "Record",
    "Up",
    "cell_text",
    "decode",
    "item_from_query",
    "join_ids",
    "joining_form",
    "lines_of",
    "read_inputs",
    "read_items",
    "read_rows",
    "read_table",
    "read_text",
    "readable",
    "same_id",
    "state_up",
    "text_item",
    "unique_items",
    "what_differs",
]

__getattr__ = lazily(
    __name__,
    {
        "cells": ("Nothing", "cell_text"),
        "ids": ("ById", "join_ids", "joining_form", "readable", "same_id", "what_differs"),
        "item": ("Inputs", "Item", "SAME_ID", "Up", "text_item", "state_up", "unique_items"),
        "read": ("item_from_query", "read_items"),
        "roots": ("read_inputs",),
        "tables": ("PATHS", "Record", "TABLES", "decode", "lines_of", "read_rows", "read_table", "read_text"),
    },
)
