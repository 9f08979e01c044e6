"""What every encoder offers: the only thing the rest of cmcr knows about a model library."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from cmcr.errors import ItemError
from cmcr.items import Item, Up
from cmcr.modality import Modality


class Encoder(Protocol):
    """A frozen contrastive model: some modalities, one vector space.

    >>> from cmcr import Modality, load_encoder
    >>> encoder = load_encoder("tiny-clap")
    >>> encoder.modalities, encoder.encode(Modality.TEXT, []).shape
    (('audio', 'text'), (0, 48))
    """

    @property
    def name(self) -> str:
        """How users name it."""
        ...

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """The modalities it embeds into its one space."""
        ...

    @property
    def dim(self) -> int:
        """Components of a vector."""
        ...

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) over weights and preprocessing: two encoders with one fingerprint give equal vectors."""
        ...

    def prepare(self, item: Item, data: bytes) -> Any:
        """Decode one item on the CPU, without the model; safe to call from several threads.

        Args:
            item: The item; its modality is one of ``modalities``.
            data: The item's content (``item.read()``; UTF-8 for text).

        Raises:
            ItemError: the content cannot be decoded; the message is the reason, without the item's name.
        """
        ...

    def encode(self, modality: Modality, prepared: Sequence[Any]) -> np.ndarray:
        """Embed what ``prepare`` returned.

        Returns:
            (N, dim) float32 unit vectors. An item's vector does not depend on its batch beyond 1e-5.
        """
        ...


def upright(points: np.ndarray, given: Up | None, expected: Up) -> np.ndarray:
    """Turn (N, 3) positions so that the axis an encoder expects points up; None: they are as it expects.

    A right-handed turn about x: z-up (x, y, z) becomes y-up (x, z, -y), and back.
    """
    if given in (None, expected):
        return points
    x, y, z = points.T
    return np.stack((x, z, -y) if given == "z" else (x, -z, y), axis=1)


def text_of(data: bytes) -> str:
    """Return an item's text.

    Raises:
        ItemError: not UTF-8, or nothing but space.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise ItemError(f"not UTF-8 at byte {error.start}") from None
    if not text.strip():
        raise ItemError("empty text")
    return text
