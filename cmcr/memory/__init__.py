"""Memories: one encoder's vectors on disk, whole at every moment."""

from typing import TYPE_CHECKING

from cmcr.lazy import lazily

if TYPE_CHECKING:
    from cmcr.memory.arrays import ArrayMemory
    from cmcr.memory.manifest import MANIFEST, EncoderInfo, Manifest, Row, Skip
    from cmcr.memory.memory import CHANGED, Memory
    from cmcr.memory.roots import MediaRoots, OutsideError
    from cmcr.memory.translated import Translated, translation_notes
    from cmcr.memory.writer import MemoryWriter, Packed, pack, relative_to_memory

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
    "pack",
    "relative_to_memory",
    "translation_notes",
]

__getattr__ = lazily(
    __name__,
    {
        "arrays": ("ArrayMemory",),
        "manifest": ("EncoderInfo", "MANIFEST", "Manifest", "Row", "Skip"),
        "memory": ("CHANGED", "Memory"),
        "roots": ("MediaRoots", "OutsideError"),
        "translated": ("Translated", "translation_notes"),
        "writer": ("MemoryWriter", "Packed", "pack", "relative_to_memory"),
    },
)
