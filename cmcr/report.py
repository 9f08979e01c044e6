"""Self-contained HTML pages: galleries of hits, curves, heat maps and tables.

A page is one file that opens from disk: pictures and sounds are embedded, nothing is fetched (a content policy in the
page forbids it), no script runs, and every text is escaped. A source that is gone or broken leaves a note on its card.
"""

from __future__ import annotations

import io
import wave
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import numpy as np
from markupsafe import Markup

from cmcr.errors import ItemError
from cmcr.inputs import Item
from cmcr.media import read_audio, read_image, read_point_cloud
from cmcr.media_roots import MediaRoots, OutsideError
from cmcr.memory import Memory, Row
from cmcr.modality import Modality
from cmcr.report_charts import data_uri, draw_point_cloud, heat_map, image_uri, line_chart, render, results_table
from cmcr.retrieve import Hit, Query

__all__ = [
    "Answer",
    "Card",
    "Media",
    "Previews",
    "Section",
    "beside",
    "gallery",
    "heat_map",
    "line_chart",
    "page",
    "results_table",
    "retrieval_page",
]

THUMBNAIL = 320
"""Pixels of the longer side of an embedded picture."""
AUDIO_RATE, AUDIO_SECONDS = 22_050, 10.0
"""Sounds are embedded as mono 16-bit WAV, their first ten seconds."""
PAGE_BYTES = 32 << 20
"""What a page embeds at most; further cards say that they were left out."""
FILE_BYTES = 256 << 20
"""A hit's file above this is not read for its thumbnail."""
TEXT_CHARACTERS = 400


@dataclass(frozen=True)
class Media:
    """What a card shows: an embedded picture or sound (``uri``), a text, or only a note saying why not."""

    kind: str
    uri: str = ""
    text: str = ""
    note: str = ""


@dataclass(frozen=True)
class Card:
    """One thing on a page.

    Attributes:
        title: Its id.
        media: What is shown of it.
        rank: From 1; None for a query.
        score: Cosine in the connected space; None for a query.
        mark: ``right``, ``wrong``, or empty when it is not known.
    """

    title: str
    media: Media
    rank: int | None = None
    score: float | None = None
    mark: str = ""

    @property
    def caption(self) -> str:
        """The title, unless it only names the text that is shown anyway."""
        return "" if self.media.kind == "text" else self.title

    @property
    def bar(self) -> int:
        """Length of the score's bar in percent; a negative cosine has none."""
        return round(100 * min(max(self.score or 0.0, 0.0), 1.0))


@dataclass(frozen=True)
class Answer:
    """A query and its hits, one row of a gallery."""

    query: Card
    hits: Sequence[Card]
    heading: str = ""


@dataclass(frozen=True)
class Section:
    """A titled part of a page; ``body`` is markup made by this module, ``text`` is escaped."""

    title: str
    text: str = ""
    body: Markup = field(default_factory=Markup)


class Previews:
    """Makes what cards show, within the bytes one page may embed.

    Attributes:
        left: Bytes that may still be embedded.
        outside: How many files of rows were not opened, for they lie outside of the folders that are allowed.
    """

    def __init__(self, budget: int = PAGE_BYTES, roots: MediaRoots | None = None) -> None:
        """Embed ``budget`` bytes at most, of files in ``roots`` (None: the working directory) and memories' folders."""
        self.left, self.outside = budget, 0
        self._roots = roots or MediaRoots()

    def of_query(self, query: Query) -> Media:
        """Show what a query was made from."""
        if isinstance(query.source, Item):
            return self.of_item(query.source)
        return self.of_row(query.memory, query.modality, query.source) if query.memory else Media("none")

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
        suffix = PurePosixPath(row.source.rpartition("!")[2]).suffix.lower()
        if suffix not in modality.suffixes:
            return Media("none", note=f"not opened: {suffix or 'no suffix'} is not of {_name(modality)}")
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

    def of_hit(self, memory: Memory, modality: Modality, hit: Hit) -> Media:
        """Show a hit in ``memory``."""
        return self.of_row(memory, modality, Row(hit.id, hit.source, None, hit.text))

    def of(self, modality: Modality, data: bytes | None, suffix: str = "", text: str | None = None) -> Media:
        """Show content of any modality; never fails on it."""
        if modality is Modality.TEXT:
            known = text if text is not None else data.decode("utf-8", "replace") if data is not None else None
            return Media("text", text=_shortened(known)) if known is not None else Media("none", note="text not kept")
        if data is None:
            return Media("none", note="file not found")
        if self.left <= 0:
            return Media("none", note="left out to keep the page small")
        try:
            media = _MAKERS[modality](data, suffix)
        except ItemError as error:
            return Media("none", note=str(error))
        self.left -= len(media.uri)
        return media


def _shortened(text: str) -> str:
    return text if len(text) <= TEXT_CHARACTERS else text[: TEXT_CHARACTERS - 1].rstrip() + "…"


def _picture(data: bytes, suffix: str) -> Media:
    image = read_image(data)
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    return Media("image", image_uri(image, "JPEG", quality=85))


def _sound(data: bytes, suffix: str) -> Media:
    samples = read_audio(data, AUDIO_RATE, AUDIO_SECONDS)
    cut = len(samples) >= AUDIO_RATE * AUDIO_SECONDS
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(AUDIO_RATE)
        file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return Media("audio", data_uri("audio/wav", buffer.getvalue()), note="its first ten seconds" if cut else "")


def _cloud(data: bytes, suffix: str) -> Media:
    return Media("image", image_uri(draw_point_cloud(read_point_cloud(data, suffix)), "PNG", optimize=True))


_MAKERS: dict[Modality, Callable[[bytes, str], Media]] = {
    Modality.IMAGE: _picture,
    Modality.AUDIO: _sound,
    Modality.POINT_CLOUD: _cloud,
}


def gallery(answers: Sequence[Answer]) -> Markup:
    """Return queries and their hits as a grid of cards."""
    return render("gallery.html", answers=answers)


def beside(*parts: Markup) -> Markup:
    """Return parts next to each other where the page is wide enough, e.g. the heat maps before and after."""
    return Markup('<div class="maps">{}</div>').format(Markup("").join(parts))


def page(title: str, sections: Sequence[Section], lead: str = "", facts: Mapping[str, object] | None = None) -> str:
    """Return a whole page.

    Args:
        title: Heading and title of the page.
        sections: Its parts, in order.
        lead: A sentence or two below the heading.
        facts: Small named values below that, e.g. the space and the size of the gallery.
    """
    return str(render("page.html", title=title, sections=sections, lead=lead, facts=facts or {}))


def retrieval_page(
    queries: Sequence[Query],
    hits: Sequence[Sequence[Hit]],
    memory: Memory,
    modality: Modality,
    facts: Mapping[str, object] | None = None,
    previews: Previews | None = None,
) -> str:
    """Return the page of ``cmcr retrieve --html``: every query and what was found for it in ``memory``."""
    previews = previews or Previews()
    answers = []
    for query, found in zip(queries, hits, strict=True):
        cards = [Card(hit.id, previews.of_hit(memory, modality, hit), rank=hit.rank, score=hit.score) for hit in found]
        heading = f"{_name(query.modality)} → {_name(modality)}"
        answers.append(Answer(Card(query.name, previews.of_query(query)), cards, heading))
    title = (
        f"{len(queries)} queries"
        if len(queries) != 1
        else f"Nearest {_name(modality)} to “{_shortened(queries[0].name)}”"
    )
    return page(title, [Section("", body=gallery(answers))], facts=facts)


def _name(modality: Modality) -> str:
    return modality.value.replace("_", " ")
