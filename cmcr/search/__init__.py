"""Nearest vectors: exactly, or by indexes that FAISS makes."""

from typing import TYPE_CHECKING

from cmcr.lazy import lazily

if TYPE_CHECKING:
    from cmcr.search.exact import Blocks, ExactIndex, Hits, Index, exact_search
    from cmcr.search.faiss import IndexInfo, build_index, index_path, load_index, opening_digest, read_info, save_index

__all__ = [
    "Blocks",
    "ExactIndex",
    "Hits",
    "Index",
    "IndexInfo",
    "build_index",
    "exact_search",
    "index_path",
    "load_index",
    "opening_digest",
    "read_info",
    "save_index",
]

__getattr__ = lazily(
    __name__,
    {
        "exact": ("Blocks", "ExactIndex", "Hits", "Index", "exact_search"),
        "faiss": ("IndexInfo", "build_index", "index_path", "load_index", "opening_digest", "read_info", "save_index"),
    },
)
