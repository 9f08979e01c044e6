"""What a card of a page shows: a thumbnail, a player, a text, or why not."""

from __future__ import annotations

import io
import wave
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from cmcr.decode.images import read_image
from cmcr.decode.sounds import read_audio
from cmcr.errors import ItemError
from cmcr.items import Item
from cmcr.memory import MediaRoots, Memory, OutsideError
from cmcr.memory.memory import Row
from cmcr.modality import Modality, Registration, resolved
from cmcr.reading import why
from cmcr.report.charts import data_uri, draw_point_cloud, image_uri
from cmcr.report.opus import encode_opus

if TYPE_CHECKING:
    from PIL.Image import Image

THUMBNAIL = 320
"""Pixels of the longer side of an embedded picture."""


AUDIO_RATE, AUDIO_SECONDS = 24_000, 10.0
"""Sounds are embedded as mono Opus, their first ten seconds; as 16-bit WAV where nothing encodes Opus."""


PAGE_BYTES = 32 << 20
"""What a page embeds at most; further cards say that they were left out."""


FILE_BYTES = 256 << 20
"""A hit's file above this is not read for its thumbnail."""


TEXT_CHARACTERS = 400


@dataclass(frozen=True)
class Media:
    """What a card shows: an embedded picture or sound (``uri``), a text, or only a note saying why not.

    >>> from cmcr.report import Media
    >>> Media("none", note="cannot be read: Permission denied").kind
    'none'
    """

    kind: str
    uri: str = ""
    text: str = ""
    note: str = ""


@dataclass(frozen=True)
class Card:
    """One thing on a page.

    >>> from cmcr.report import Card, Media
    >>> hit = Card("t-1", Media("text", text="a red drum"), rank=1, score=0.41)
    >>> hit.caption, hit.bar
    ('', 41)

    Attributes:
        title: Its id.
        media: What is shown of it.
        rank: From 1; None for a query.
        score: Cosine in the connected space, perhaps less the row's bias; None for a query.
        mark: ``right``, ``wrong``, or empty when it is not known.
        says: What there is to see or hear, in words, where somebody has said so.
    """

    title: str
    media: Media
    rank: int | None = None
    score: float | None = None
    mark: str = ""
    says: str = ""

    @property
    def seen(self) -> str:
        """What stands for the picture or the sound where there is neither: its words, or its id."""
        return self.says or self.title

    @property
    def caption(self) -> str:
        """The title, unless it only names the text that is shown anyway."""
        return "" if self.media.kind == "text" else self.title

    @property
    def bar(self) -> int:
        """Length of the score's bar in percent, of a card that stands alone; a negative cosine has none."""
        return self.bar_on(1.0)

    def bar_on(self, scale: float) -> int:
        """Return the length of the score's bar in percent, where the score ``scale`` has the full one."""
        return round(100 * min(max(self.score or 0.0, 0.0) / scale, 1.0)) if scale > 0 else 0


class Previews:
    """Makes what cards show, within the bytes one page may embed.

    >>> from cmcr import Modality
    >>> from cmcr.report import Previews
    >>> Previews(budget=0).of(Modality.IMAGE, b"any picture").note
    'left out to keep the page small'

    Attributes:
        left: Bytes that may still be embedded.
        outside: How many files of rows were not opened, for they lie outside of the folders that are allowed.
    """

    def __init__(self, budget: int = PAGE_BYTES, roots: MediaRoots | None = None) -> None:
        """Embed ``budget`` bytes at most, of files in ``roots`` (None: the working directory) and memories' folders."""
        self.left, self.outside = budget, 0
        self._roots = roots or MediaRoots()

    def of_item(self, item: Item) -> Media:
        """Show an item."""
        try:
            return self.of(item.modality, item.read(), item.suffix, item.text)
        except ItemError as error:
            return Media("none", note=str(error))

    def of_row(self, memory: Memory, modality: Modality, row: Row) -> Media:
        """Show a row of a memory: a text as the memory holds it, else its file, if it may be opened."""
        if modality is Modality.TEXT:
            return self.of(modality, None, text=row.text)
        if modality.registration is None:
            return _unknown(modality)
        suffix = PurePosixPath(row.source.rpartition("!")[2]).suffix.lower()
        if suffix not in modality.suffixes:
            return Media("none", note=f"not opened: {suffix or 'no suffix'} is not of {readable_name(modality)}")
        if self.left <= 0:
            return self.of(modality, b"")
        try:
            return self.of(modality, memory.source_bytes(row, self._roots, FILE_BYTES), suffix)
        except OutsideError as error:
            self.outside += 1
            return Media("none", note=str(error))
        except ItemError as error:
            return Media("none", note=str(error))
        except OSError as error:
            return Media("none", note=f"cannot be read: {error.strerror}")

    def of(self, modality: Modality, data: bytes | None, suffix: str = "", text: str | None = None) -> Media:
        """Show content of any modality; never fails on it."""
        if modality is Modality.TEXT:
            known = text if text is not None else data.decode("utf-8", "replace") if data is not None else None
            return Media("text", text=shortened(known)) if known is not None else Media("none", note="text not kept")
        if data is None:
            return Media("none", note="file not found")
        if self.left <= 0:
            return Media("none", note="left out to keep the page small")
        registered = modality.registration
        media = _unknown(modality) if registered is None else _shown(registered, data, suffix)
        self.left -= len(media.uri)
        return media


def shortened(text: str) -> str:
    """Return the beginning of a text that is longer than a card shows."""
    return text if len(text) <= TEXT_CHARACTERS else text[: TEXT_CHARACTERS - 1].rstrip() + "…"


def _unknown(modality: Modality) -> Media:
    return Media("none", note=f"no preview of {readable_name(modality)}")


def _shown(registered: Registration, data: bytes, suffix: str) -> Media:
    """Decode and show a file as its modality says; a decoder of another package may raise anything."""
    if registered.decode is None or registered.preview is None:
        return Media("none", note=f"no preview of {suffix}")
    from PIL.Image import Image

    try:
        made = resolved(registered.preview)(resolved(registered.decode)(data, suffix))
        if isinstance(made, Image):
            return show_picture(made)
        return made if isinstance(made, Media) else Media("text", text=shortened(str(made)))
    except ItemError as error:
        return Media("none", note=str(error))
    except Exception as error:
        return Media("none", note=f"cannot be shown ({type(error).__name__}: {why(error)})")


def decode_picture(data: bytes, suffix: str) -> Image:
    """Return a picture of any size."""
    return read_image(data)


def show_picture(image: Image) -> Media:
    """Show a picture as a small one."""
    image = image.convert("RGB")
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    return Media("image", image_uri(image, "JPEG", quality=85))


def decode_sound(data: bytes, suffix: str) -> np.ndarray:
    """Return the (N,) samples of a sound's first seconds, at ``AUDIO_RATE``."""
    return read_audio(data, AUDIO_RATE, AUDIO_SECONDS)


def show_sound(samples: np.ndarray) -> Media:
    """Show (N,) samples at ``AUDIO_RATE`` as a player."""
    notes = ["its first ten seconds"] if len(samples) >= AUDIO_RATE * AUDIO_SECONDS else []
    data = encode_opus(samples, AUDIO_RATE)
    if data is None:
        notes.append("as WAV: this FFmpeg encodes no Opus")
    uri = data_uri("audio/wav", _wav(samples)) if data is None else data_uri("audio/ogg", data)
    return Media("audio", uri, note=", ".join(notes))


def _wav(samples: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(AUDIO_RATE)
        file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return buffer.getvalue()


def show_cloud(points: np.ndarray) -> Media:
    """Show (N, 3) points as a drawing."""
    return Media("image", image_uri(draw_point_cloud(points), "PNG", optimize=True))


def readable_name(modality: Modality) -> str:
    """Return a modality's name with blanks: ``point cloud``."""
    return modality.value.replace("_", " ")
