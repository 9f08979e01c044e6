"""Ask a space: which encoder can embed a query, what is near it, how alike things are, and vectors for other tools."""

from typing import TYPE_CHECKING

from cmcr.lazy import lazily

if TYPE_CHECKING:
    from cmcr.ask.debias import Debias
    from cmcr.ask.export import export_projectors, export_vectors
    from cmcr.ask.filters import Filtered, filter_rows
    from cmcr.ask.gallery import Gallery, Merged
    from cmcr.ask.page import retrieval_page, show_hit, show_query
    from cmcr.ask.retrieve import CHECKED_BYTES, Hit, Query, ask, ask_many, make_index, open_index
    from cmcr.ask.row_names import open_side
    from cmcr.ask.shares import Shares
    from cmcr.ask.subject import Embedded, Subject

__all__ = [
    "CHECKED_BYTES",
    "Debias",
    "Embedded",
    "Filtered",
    "Gallery",
    "Hit",
    "Merged",
    "Query",
    "Shares",
    "Subject",
    "ask",
    "ask_many",
    "export_projectors",
    "export_vectors",
    "filter_rows",
    "make_index",
    "open_index",
    "open_side",
    "retrieval_page",
    "show_hit",
    "show_query",
]

__getattr__ = lazily(
    __name__,
    {
        "debias": ("Debias",),
        "export": ("export_projectors", "export_vectors"),
        "filters": ("Filtered", "filter_rows"),
        "gallery": ("Gallery", "Merged"),
        "page": ("retrieval_page", "show_hit", "show_query"),
        "retrieve": ("CHECKED_BYTES", "Hit", "Query", "ask", "ask_many", "make_index", "open_index"),
        "row_names": ("open_side",),
        "shares": ("Shares",),
        "subject": ("Embedded", "Subject"),
    },
)
