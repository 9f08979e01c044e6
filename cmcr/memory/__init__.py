"""Memories: one encoder's vectors on disk, whole at every moment."""

from typing import TYPE_CHECKING

from cmcr.lazy import lazily

if TYPE_CHECKING:
    from cmcr.memory.arrays import ArrayMemory
    from cmcr.memory.manifest import MANIFEST, EncoderInfo, Manifest, Row, Skip, Views, ViewSpec
    from cmcr.memory.memory import CHANGED, Memory
    from cmcr.memory.roots import MediaRoots, OutsideError
    from cmcr.memory.shards.packed import Packed, pack
    from cmcr.memory.translated import Translated, translation_notes
    from cmcr.memory.views import read_views, view_count, views_fingerprint
    from cmcr.memory.writer import MemoryWriter, check_views, relative_to_memory

__all__ = [
    "CHANGED",
    "MANIFEST",
    "ArrayMemory",
    "EncoderInfo",
    "Manifest",
    "MediaRoots",
    "Memory",
    "MemoryWriter",
    "OutsideError",
    "Packed",
    "Row",
    "Skip",
    "Translated",
    "ViewSpec",
    "Views",
    "check_views",
    "pack",
    "read_views",
    "relative_to_memory",
    "translation_notes",
    "view_count",
    "views_fingerprint",
]

__getattr__ = lazily(
    __name__,
    {
        "arrays": ("ArrayMemory",),
        "manifest": ("EncoderInfo", "MANIFEST", "Manifest", "Row", "Skip", "ViewSpec", "Views"),
        "memory": ("CHANGED", "Memory"),
        "roots": ("MediaRoots", "OutsideError"),
        "translated": ("Translated", "translation_notes"),
        "views": ("read_views", "view_count", "views_fingerprint"),
        "shards.packed": ("Packed", "pack"),
        "writer": ("MemoryWriter", "check_views", "relative_to_memory"),
    },
)
