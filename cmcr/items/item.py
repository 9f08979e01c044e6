"""An item: one thing to embed, and how its content is read."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Literal

from cmcr.errors import InputError, ItemError
from cmcr.items.cells import Nothing, cell_text
from cmcr.items.ids import joining_form, readable
from cmcr.modality import Modality

MAX_ITEM_BYTES = 1 << 30
"""A single item above 1 GiB is refused: no modality here needs it, and reading it would take the machine down."""


MAX_TEXT = 100_000
"""A single text above this many characters is refused: it is a file given as a line by mistake."""


SAME_ID = "has the same id as"
"""Begins the reason of an item whose id another one has; that one's source follows."""


Up = Literal["y", "z"]


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to embed.

    >>> from cmcr import Modality
    >>> from cmcr.items import Item
    >>> Item("dog", Modality.TEXT, "texts.txt:12", text="a dog").read()
    b'a dog'

    Attributes:
        id: Joins rows of two memories; unique within an input and modality.
        modality: What it is.
        source: Where it came from, for people: a path, ``texts.txt:12`` or ``shard.tar!key.png``.
        text: The text itself, for text given in a line or a manifest; else None.
        path: The file that holds the content, or None for ``text``.
        offset: First byte of the content in ``path`` (a tar member), else 0.
        size: Bytes of the content, None for the whole file.
        problem: Why it cannot be used, seen while listing; ``read`` raises it.
        up: The axis that points up in a point cloud's file; None: as the encoder expects.
    """

    id: str
    modality: Modality
    source: str
    text: str | None = None
    path: Path | None = None
    offset: int = 0
    size: int | None = None
    problem: str | None = None
    up: Up | None = None

    @property
    def suffix(self) -> str:
        """Lower-case suffix of the content's name, with the dot; empty for text."""
        return PurePosixPath(self.source).suffix.lower() if self.path is not None else ""

    def content_size(self) -> int:
        """Return how many bytes ``read`` will take; 0 where that cannot be told."""
        if self.path is None or self.problem is not None:
            return len(self.text or "")
        try:
            return self.path.stat().st_size if self.size is None else self.size
        except (OSError, ValueError):
            return 0

    def read(self) -> bytes:
        """Return the content: the file's or member's bytes; of a text its stripped UTF-8.

        Raises:
            ItemError: missing, unreadable, truncated, not a regular file, or too large; a text that is empty or not
                UTF-8.
        """
        if self.problem is not None:
            raise ItemError(self.problem)
        if self.path is None:
            return (self.text or "").encode()
        data = _read_part(self.path, self.offset, self.size)
        return _checked_text(data) if self.modality is Modality.TEXT else data


@dataclass(frozen=True, slots=True)
class Inputs:
    """What an input holds.

    >>> from cmcr import Modality
    >>> from cmcr.items import text_item, unique_items
    >>> lines = ["a dog", "a drum", "a dog"]
    >>> inputs = unique_items(Modality.TEXT, [text_item(line, "texts.txt") for line in lines])
    >>> [item.text for item in inputs.items], inputs.duplicates
    (['a dog', 'a drum'], 1)

    Attributes:
        modality: Of every item.
        items: With unique ids, except items with a ``problem``.
        duplicates: Texts dropped because the same text came before.
        ignored: Files left aside for their suffix, counted by suffix.
        remarks: What else the user is to know: which linked folders were followed, which links lead nowhere.
    """

    modality: Modality
    items: list[Item]
    duplicates: int = 0
    ignored: dict[str, int] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


def state_up(inputs: Inputs, up: Up) -> Inputs:
    """Return point clouds with a statement of which axis points up in their files.

    Raises:
        InputError: the items are no point clouds.
    """
    if inputs.modality is not Modality.POINT_CLOUD:
        raise InputError(f"--up {up} is for point clouds; these items are {inputs.modality}: leave it out")
    return replace(inputs, items=[replace(item, up=up) for item in inputs.items])


def text_item(line: str, source: str, given: str | None = None) -> Item:
    """Return a text as an item; without a ``given`` id, its id is derived from the text alone."""
    text, problem = line.strip(), None
    if not text:
        problem = "empty text"
    elif len(text) > MAX_TEXT:
        problem = f"{len(text)} characters; at most {MAX_TEXT} are read"
    elif readable(text) != text:
        problem = "not valid Unicode"
    digest = hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()
    return Item(given or f"t-{digest[:16]}", Modality.TEXT, source, text=None if problem else text, problem=problem)


def unique_items(modality: Modality, items: Iterable[Item], ignored: dict[str, int] | None = None) -> Inputs:
    """Return the items in their order: repeated texts dropped, any other second item of one id made a problem."""
    kept: list[Item] = []
    first: dict[str, Item] = {}
    duplicates = 0
    for item in map(_utf8, items):
        before = item if item.problem else first.setdefault(item.id, item)
        if before is item:
            kept.append(item)
        elif item.text is not None and item.text == before.text:
            duplicates += 1
        else:
            kept.append(replace(item, problem=f"{SAME_ID} {before.source}"))
    return Inputs(modality, kept, duplicates, ignored or {})


def _utf8(item: Item) -> Item:
    """Return an item whose id and source can be stored, whatever bytes the names it was made from held."""
    name, source = readable(item.id), readable(item.source)
    return item if (name, source) == (item.id, item.source) else replace(item, id=name, source=source)


def _read_part(path: Path, offset: int, size: int | None) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ItemError("not a regular file")
        size = status.st_size if size is None else size
        if size > MAX_ITEM_BYTES:
            raise ItemError(f"{size} bytes; at most {MAX_ITEM_BYTES} are read")
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read(size)
    except (OSError, ValueError) as error:
        raise ItemError(f"cannot be read: {getattr(error, 'strerror', None) or error}{_namesake(path)}") from error
    if len(data) < size:
        raise ItemError(f"truncated: {len(data)} of {size} bytes")
    return data


def _checked_text(data: bytes) -> bytes:
    try:
        text = data.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise ItemError(f"byte {error.start} (0x{data[error.start]:02x}) is not UTF-8") from None
    if not text:
        raise ItemError("empty text")
    if isinstance(found := cell_text(text, typed=False), Nothing):
        raise ItemError(f"no text{found.of('the file')}")
    if len(text) > MAX_TEXT:
        raise ItemError(f"{len(text)} characters; at most {MAX_TEXT} are read")
    return text.encode()


def _namesake(path: Path) -> str:
    """Return that a missing file lies there under the same name, its letters composed otherwise or blanks around it."""
    try:
        names = [] if os.path.lexists(path) else os.listdir(path.parent)  # noqa: PTH208 - lexists asks of the link itself
    except (OSError, ValueError):
        return ""
    same = next((name for name in names if joining_form(name) == joining_form(path.name)), None)
    return f"; there is {same!a}, the same name in other Unicode letters or with other blanks" if same else ""
