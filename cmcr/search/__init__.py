"""Nearest vectors: exactly, or by indexes that FAISS makes."""

from typing import TYPE_CHECKING

from cmcr.lazy import lazily

if TYPE_CHECKING:
    from cmcr.search.debias import Bias, hub_biases, with_biases, with_ones
    from cmcr.search.duplicates import Duplicates, duplicates_of
    from cmcr.search.exact import Blocks, ExactIndex, Hits, Index, exact_search
    from cmcr.search.faiss import (
        IndexInfo,
        build_index,
        extend_index,
        index_path,
        load_index,
        opening_digest,
        read_info,
        save_index,
    )
    from cmcr.search.verify import stale_indexes

__all__ = [
    "Bias",
    "Blocks",
    "Duplicates",
    "ExactIndex",
    "Hits",
    "Index",
    "IndexInfo",
    "build_index",
    "duplicates_of",
    "exact_search",
    "extend_index",
    "hub_biases",
    "index_path",
    "load_index",
    "opening_digest",
    "read_info",
    "save_index",
    "stale_indexes",
    "with_biases",
    "with_ones",
]

__getattr__ = lazily(
    __name__,
    {
        "debias": ("Bias", "hub_biases", "with_biases", "with_ones"),
        "exact": ("Blocks", "ExactIndex", "Hits", "Index", "exact_search"),
        "duplicates": ("Duplicates", "duplicates_of"),
        "faiss": (
            "IndexInfo",
            "build_index",
            "extend_index",
            "index_path",
            "load_index",
            "opening_digest",
            "read_info",
            "save_index",
        ),
        "verify": ("stale_indexes",),
    },
)
