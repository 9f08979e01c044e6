"""What other libraries hand over (texts, pictures, samples, points, paths), embedded as cmcr embeds files."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cmcr.ask import Subject
from cmcr.errors import InputError
from cmcr.items import Inputs, Item
from cmcr.modality import Modality


@dataclass(frozen=True, slots=True)
class Held(Item):
    """An item whose content is in memory."""

    data: bytes = b""

    @property
    def suffix(self) -> str:
        """Lower-case suffix of the kind of file that the content is."""
        return Path(self.source).suffix

    def content_size(self) -> int:
        """Return how many bytes it has."""
        return len(self.data)

    def read(self) -> bytes:
        """Return the content."""
        return self.data


def embed_values(subject: Subject, values: Sequence[Any], modality: Modality, encoder: str | None = None) -> np.ndarray:
    """Return where values lie in a space.

    Args:
        subject: The space, or a bare encoder.
        values: Texts; paths of files; PIL pictures or (H, W, 3) uint8 arrays; sounds as ``{"array", "sampling_rate"}``
            with (samples,) or (channels, samples) numbers of -1 to 1; (N, 3) points.
        modality: What all of them are.
        encoder: Which of the space's encoders; its first that has the modality when left out.

    Returns:
        (N, dim) float32 unit vectors, in the order of the values.

    Raises:
        InputError: a value that cannot be embedded, for other libraries cannot leave one out.

    >>> import numpy as np
    >>> from cmcr import Modality, Subject
    >>> from cmcr.sharing.values import embed_values
    >>> sound = {"array": np.sin(np.arange(16_000) / 9), "sampling_rate": 16_000}
    >>> embed_values(Subject.open("tiny-clap"), [sound], Modality.AUDIO).shape
    (1, 48)
    """
    items = [item_of(value, modality, number) for number, value in enumerate(values)]
    if not items:
        return np.zeros((0, subject.space.dim if subject.space else subject.encoder_for(modality).dim), np.float32)
    made = subject.embed(Inputs(modality, items), encoder=encoder)
    if made.skips:
        raise InputError(f"{modality} {made.skips[0].source}: {made.skips[0].reason}")
    return made.vectors


def item_of(value: Any, modality: Modality, number: int) -> Item:
    """Return a value as an item, known by its number.

    Raises:
        InputError: of this modality, nobody can say what it is.
    """
    name, source = str(number), f"value {number}"
    if modality is Modality.TEXT and isinstance(value, str):
        return Item(name, modality, source, text=value)
    if isinstance(value, str | Path):
        if "://" in str(value):
            raise InputError(f"{str(value)[:80]!r}: nothing is fetched; give a file, or its content")
        return Item(name, modality, str(value), path=Path(value))
    suffix, data = _content(value, modality)
    return Held(name, modality, source + suffix, data=data)


def _content(value: Any, modality: Modality) -> tuple[str, bytes]:
    """Return a value as the file that it would be."""
    if hasattr(value, "numpy") and not isinstance(value, np.ndarray):  # a tensor
        value = value.detach().cpu().numpy()
    if modality is Modality.IMAGE:
        return ".png", _png(value)
    if modality is Modality.AUDIO and isinstance(value, Mapping) and {"array", "sampling_rate"} <= value.keys():
        return ".wav", _wav(np.asarray(value["array"], np.float32), int(value["sampling_rate"]))
    if modality is Modality.POINT_CLOUD and isinstance(value, np.ndarray):
        file = io.BytesIO()
        np.save(file, value.astype(np.float32))
        return ".npy", file.getvalue()
    raise InputError(f"{type(value).__name__} as {modality}: expected a path, or what cmcr.sharing.values lists")


def _png(value: Any) -> bytes:
    from PIL import Image

    if isinstance(value, np.ndarray):
        if value.dtype != np.uint8 or value.ndim != 3 or value.shape[2] != 3:
            raise InputError(f"a picture as {value.dtype} of shape {value.shape}; expected (H, W, 3) of uint8")
        value = Image.fromarray(value)
    if not isinstance(value, Image.Image):
        raise InputError(f"{type(value).__name__} as image: expected a path, a PIL picture or an array")
    file = io.BytesIO()
    value.save(file, "PNG", compress_level=1)
    return file.getvalue()


def _wav(samples: np.ndarray, rate: int) -> bytes:
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, samples.T if samples.ndim == 2 else samples, rate, format="WAV", subtype="FLOAT")
    return file.getvalue()
