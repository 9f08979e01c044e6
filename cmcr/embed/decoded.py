"""Items on their way to the encoder: decoded, or with the reason why not. Texts of a list are decoded many at once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from cmcr.decode import decoding, reserve
from cmcr.errors import CmcrError, ItemError
from cmcr.items import Item


@dataclass(slots=True)
class Decoded:
    """An item ready for the encoder, or with the reason why not."""

    item: Item
    hash: str | None = None
    text: str | None = None
    prepared: Any = None
    views: Sequence[Any] = ()
    reason: str | None = None
    note: str | None = None


@runtime_checkable
class PreparesTexts(Protocol):
    """An encoder that prepares many texts in one call, for less than as many calls of ``prepare`` cost."""

    def prepare_texts(self, texts: Sequence[str]) -> Sequence[Any]:
        """Return for each text what ``prepare`` returns; None: ``prepare`` refuses it, or has something to note."""
        ...


def decode_texts(encoder: PreparesTexts, items: Sequence[Item]) -> list[Decoded | None]:
    """Decode items that hold their text, in one frame; None: such an item is to be decoded by itself."""
    texts = [item.text or "" for item in items]
    try:
        with decoding():
            reserve(sum(map(len, texts)))
            prepared = encoder.prepare_texts(texts)
        hashes = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
    except Exception:  # of one of them, and which one is not known
        return [None] * len(items)
    made = zip(items, hashes, texts, prepared, strict=True)
    return [None if ready is None else Decoded(item, digest, text, ready) for item, digest, text, ready in made]


def digest_of(item: Item, data: bytes) -> str | None:
    """Return the hash of an item's content, hex; None: it came without its content."""
    # An imported vector may come without its content; the hash of nothing would make all of them look alike.
    if item.path is None and item.text is None:
        return None
    # A cloud read with another axis up is another content.
    return hashlib.sha256(data + f"up {item.up}".encode() if item.up else data).hexdigest()


def reason_of(error: Exception) -> str:
    """Return why an item fails, on one line; what is no item's fault is raised again."""
    text = " ".join(str(error).split())[:300]
    if isinstance(error, ItemError):
        return text
    if isinstance(error, CmcrError):
        raise error
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
