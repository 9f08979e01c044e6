"""Where a sound comes from in a picture: boxes as VGG-SS (JSON) and Flickr-SoundNet (XML) give them, and SLAVC's lists.

Layouts: hche11/Localizing-Visual-Sounds-the-Hard-Way and stoneMo/SLAVC.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from cmcr.errors import InputError, ItemError
from cmcr.items import Nothing, cell_text, read_rows, read_text
from cmcr.reading import parse_json, read_bytes, reading

OVERHANG = 0.1
"""A corner this far outside the picture is moved to its edge, as SLAVC does; further out it is no corner of it."""
FLICKR_GRID = 256
"""Flickr-SoundNet gives corners on a grid of this many cells a side, whatever the picture's size."""
MAX_XML = 1 << 20
MAX_JSON = 1 << 28
NON_SOUNDING = "non-sounding"


class NoAreaError(ItemError):
    """A box that marks no pixel: the truth is the same without it, as long as there is another."""


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in fractions of the picture: x to the right, y down, 0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1."""

    x0: float
    y0: float
    x1: float
    y1: float

    @classmethod
    def checked(cls, x0: float, y0: float, x1: float, y1: float) -> Box:
        """Return the box of these corners; what hangs over the edge by ``OVERHANG`` at most is cut off.

        Raises:
            ItemError: not finite, outside the picture, or swapped corners.
            NoAreaError: no area, which the official VGG-SS has a few of.
        """
        corners = (x0, y0, x1, y1)
        shown = "(" + ", ".join(f"{value:g}" for value in corners) + ")"
        if not all(math.isfinite(value) for value in corners):
            raise ItemError(f"box {shown}: not finite")
        if not all(-OVERHANG <= value <= 1 + OVERHANG for value in corners):
            raise ItemError(f"box {shown}: outside the picture; expected fractions of its sides")
        if x1 < x0 or y1 < y0:
            raise ItemError(f"box {shown}: swapped corners")
        left, top, right, bottom = (min(max(value, 0.0), 1.0) for value in corners)
        if left >= right or top >= bottom:
            raise NoAreaError(f"box {shown}: no area inside the picture")
        return cls(left, top, right, bottom)


@dataclass(frozen=True, slots=True)
class Annotated:
    """The truth about one picture.

    Attributes:
        id: Of the clip.
        label: Its class; empty where there is none.
        boxes: A tuple of boxes for each annotator.
        problem: Why they cannot be used.
        empty: Boxes without area that were left out, for there are others.
    """

    id: str
    label: str = ""
    boxes: tuple[tuple[Box, ...], ...] = ()
    problem: str | None = None
    empty: int = 0


@dataclass(frozen=True, slots=True)
class SoundTest:
    """One row of a list of tests: which picture goes with which sound, and whether it is said to sound."""

    image: str
    audio: str
    sounding: bool = True


def read_vggss(path: Path) -> list[Annotated]:
    """Read ``vggss.json``: a list of ``{"file", "class", "bbox": [[x0, y0, x1, y1], ...]}`` in fractions.

    All boxes of a picture are one annotator's, whose union is the truth.

    Raises:
        InputError: not such a list at all; one bad record only carries its problem.
    """
    with reading(path, "download it again", InputError, "not JSON"):
        records = parse_json(read_bytes(path, MAX_JSON))
    if not isinstance(records, list) or not records:
        raise InputError(f"{path}: expected a list of objects with file, class and bbox")
    return [_vggss_record(record, number) for number, record in enumerate(records)]


def _vggss_record(record: Any, number: int) -> Annotated:
    name, label = (
        cell_text(record.get(key, "")) if isinstance(record, dict) else Nothing() for key in ("file", "class")
    )
    if isinstance(name, Nothing):
        return Annotated(f"record {number}", problem=f"no file in its record{name.of('file')}")
    label = "" if isinstance(label, Nothing) else label
    boxes = record.get("bbox")
    if not isinstance(boxes, list) or not boxes:
        return Annotated(name, label, problem="no box in its record")
    try:
        kept = _with_area(partial(_corners, box) for box in boxes)
    except ItemError as error:
        return Annotated(name, label, problem=_kind_of(error))
    return Annotated(name, label, (kept,), empty=len(boxes) - len(kept))


def _with_area(boxes: Iterable[Callable[[], Box]]) -> tuple[Box, ...]:
    """Return the boxes that have an area.

    Raises:
        NoAreaError: none has.
        ItemError: one of them is wrong in another way.
    """
    kept: list[Box] = []
    empty: NoAreaError | None = None
    for make in boxes:
        try:
            kept.append(make())
        except NoAreaError as error:
            empty = error
    if empty and not kept:
        raise empty
    return tuple(kept)


def _corners(values: Any) -> Box:
    if not isinstance(values, list) or len(values) != 4:
        raise ItemError("box of other than four corners: expected x0, y0, x1, y1")
    try:
        return Box.checked(*(float(value) for value in values if not isinstance(value, bool)))
    except (TypeError, ValueError, OverflowError):
        raise ItemError("box of something else than numbers") from None


def _kind_of(error: ItemError) -> str:
    """Return a reason without its numbers, so that equal reasons can be counted."""
    return "box " + str(error).partition(": ")[2] if str(error).startswith("box (") else str(error)


def read_flickr(path: Path) -> Annotated:
    """Read one of Flickr-SoundNet's ``Annotations/<id>.xml``: a ``bbox`` element for each annotator.

    The first child of a ``bbox`` is no corner; then come xmin, ymin, xmax, ymax on a grid of 256 cells a side. An
    annotator who drew several boxes has several elements, which cannot be told from several annotators.
    """
    try:
        drawn = _bboxes(_read_some(path))
        kept = _with_area(partial(_flickr_box, texts) for texts in drawn)
    except ItemError as error:
        return Annotated(path.stem, problem=_kind_of(error))
    return Annotated(path.stem, boxes=tuple((box,) for box in kept), empty=len(drawn) - len(kept))


def _read_some(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(MAX_XML + 1)
    if len(data) > MAX_XML:
        raise ItemError("annotation above a mebibyte")
    return data


def _bboxes(data: bytes) -> list[list[str | None]]:
    """Return the texts of the children of every ``bbox``."""
    # Entities are defined in a document type only; written in UTF-16 the word would hide.
    if b"\0" in data or b"<!DOCTYPE" in data:
        raise ItemError("annotation with a document type, which may define entities, is not read")
    try:
        found = list(ElementTree.fromstring(data).iter("bbox"))  # noqa: S314 - entities are refused above
    except (ElementTree.ParseError, ValueError, LookupError):
        raise ItemError("annotation is not XML") from None
    if not found:
        raise ItemError("annotation without a bbox")
    return [[child.text for child in bbox] for bbox in found]


def _flickr_box(texts: list[str | None]) -> Box:
    if len(texts) != 5:
        raise ItemError("bbox of other than five children: expected one more, xmin, ymin, xmax, ymax")
    try:
        return Box.checked(*(float(text or "") / FLICKR_GRID for text in texts[1:]))
    except ValueError:
        raise ItemError("box of something else than numbers") from None


def read_listing(path: Path) -> list[SoundTest]:
    """Read a list of tests: rows of ids, or of ``video,audio,label`` as SLAVC's ``*_test_plus_silent.csv`` has.

    A header is passed over, and so is all but the first column of a list without sounds.

    Raises:
        InputError: no such file, not UTF-8, or no row in it.
    """
    try:
        text = read_text(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; expected a CSV list of ids") from None
    read = read_rows(text, str(path))
    if bad := next((row for row in read if row.problem), None):
        raise InputError(f"{path}:{bad.line}: {bad.problem}")
    cells = [[cell.strip() for cell in row.cells] for row in read]
    rows = [_row(row) for row in cells if row and row[0] and row[0] not in ("video", "id", "file")]
    if not rows:
        raise InputError(f"{path}: no row in it; expected ids, or video,audio,label")
    return rows


def _row(cells: list[str]) -> SoundTest:
    if len(cells) < 3:
        return SoundTest(cells[0], cells[0])
    return SoundTest(cells[0], cells[1] or cells[0], cells[2] != NON_SOUNDING)
