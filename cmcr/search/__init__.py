"""Nearest vectors: exactly, or by indexes that FAISS makes."""

from typing import TYPE_CHECKING

from cmcr.lazy import lazily

if TYPE_CHECKING:
    from cmcr.search.debias import Bias, hub_biases, with_biases, with_ones
    from cmcr.search.exact import Blocks, ExactIndex, Hits, Index, exact_search
    from cmcr.search.faiss import IndexInfo, build_index, index_path, load_index, opening_digest, read_info, save_index

__all__ = [
    "Bias",
    "Blocks",
    "ExactIndex",
    "Hits",
    "Index",
    "IndexInfo",
    "build_index",
    "exact_search",
    "hub_biases",
    "index_path",
    "load_index",
    "opening_digest",
    "read_info",
    "save_index",
    "with_biases",
    "with_ones",
]

__getattr__ = lazily(
    __name__,
    {
        "debias": ("Bias", "hub_biases", "with_biases", "with_ones"),
        "exact": ("Blocks", "ExactIndex", "Hits", "Index", "exact_search"),
        "faiss": ("IndexInfo", "build_index", "index_path", "load_index", "opening_digest", "read_info", "save_index"),
    },
)
