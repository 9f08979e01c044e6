"""Bytes of a stranger -> arrays: pictures, sounds, videos, pickles; what is wrong becomes an ItemError."""

from typing import TYPE_CHECKING

from cmcr.lazy import lazily

if TYPE_CHECKING:
    from cmcr.decode.common import decoding, memory_bytes, note, one_line, refuse_empty, reserve
    from cmcr.decode.images import LONGEST, MAX_PIXELS, cut_ends, read_image
    from cmcr.decode.sounds import MAX_SECONDS, read_audio

__all__ = [
    "LONGEST",
    "MAX_PIXELS",
    "MAX_SECONDS",
    "cut_ends",
    "decoding",
    "memory_bytes",
    "note",
    "one_line",
    "read_audio",
    "read_image",
    "refuse_empty",
    "reserve",
]

__getattr__ = lazily(
    __name__,
    {
        "common": ("decoding", "memory_bytes", "note", "one_line", "refuse_empty", "reserve"),
        "images": ("LONGEST", "MAX_PIXELS", "cut_ends", "read_image"),
        "sounds": ("MAX_SECONDS", "read_audio"),
    },
)
