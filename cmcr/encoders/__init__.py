"""Find an encoder by its name, loading only its own library."""

from __future__ import annotations

from cmcr.encoders.base import Encoder
from cmcr.errors import InputError, nearest

TINY = ("tiny-clip", "tiny-clap", "tiny-ulip")

__all__ = ["Encoder", "known_encoders", "load_encoder"]


def known_encoders() -> tuple[str, ...]:
    """Return the names and aliases that ``load_encoder`` understands."""
    return TINY


def load_encoder(name: str, device: str = "cpu") -> Encoder:
    """Load the encoder called ``name`` onto ``device``.

    Raises:
        InputError: the name is unknown; the message holds the nearest known one.
    """
    if name in TINY:
        from cmcr.encoders.tiny import TinyEncoder

        return TinyEncoder(name, device=device)
    known = known_encoders()
    raise InputError(f"unknown encoder {name!r}; expected one of {', '.join(known)}{nearest(name, known)}")
