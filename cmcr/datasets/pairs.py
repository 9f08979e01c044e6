"""A manifest of things that belong together: JSONL or CSV, a column for each modality, perhaps several captions."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from cmcr.datasets.clip import Clip, Clips
from cmcr.errors import InputError
from cmcr.items import PATHS, Item, Nothing, Record, cell_text, read_table, text_item
from cmcr.modality import Modality, of_column, of_suffix

TEXTS = ("texts", "captions")
"""Columns of several texts, beside those of each modality; ``caption_1``, ``caption_2`` (as Clotho has them) too."""


def read_pairs(path: Path) -> Clips:
    """Read a manifest whose records each hold items of two or more modalities that belong together.

    A text column may hold a list (JSONL); records that repeat their files add captions. Paths are relative to the
    manifest. What joins records is ``id`` where there is one, else their files.

    Raises:
        InputError: no such file, not UTF-8, no record, or less than two modalities in it.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected a JSONL or CSV manifest with a column for each modality")
    clips: dict[str, Clip] = {}
    lacks: dict[str, str] = {}
    columns: set[str] = set()
    left_out: Counter[str] = Counter()
    for record in read_table(path):
        columns |= set(record.columns)
        clip = _clip(record, path)
        before = clips.get(clip.id)
        clips[clip.id] = clip if before is None else _joined(before, clip)
        lacks.setdefault(clip.id, _lack(record, clip))
        left_out.update(cell.what for cell in _no_texts(record) if cell.what)
    held = {modality for clip in clips.values() for modality in clip.parts}
    # Of several records about the same files one may have what another lacks, so this is known in the end only.
    whole = [replace(c, problem=c.problem or lacks[c.id] or None) if len(c.parts) < 2 else c for c in clips.values()]
    if len(held) < 2:
        bad = next((f"; first of all, {clip.id}: {clip.problem}" for clip in whole if clip.problem), "")
        raise InputError(
            f"{path}: a pair needs two modalities; looked for the columns {', '.join((*_known_columns(), *PATHS))}; "
            f"found {', '.join(sorted(columns)) or 'no record'}{bad}"
        )
    counts = ", ".join(f"{what} ({count})" for what, count in left_out.most_common())
    notes = (f"texts left out because they are none: {counts}",) if counts else ()
    return Clips("pairs", tuple(whole), len(clips), {"layout": "pairs"}, notes)


def _known_columns() -> list[str]:
    return [*(column for modality in Modality for column in modality.columns), *TEXTS]


def _clip(record: Record, manifest: Path) -> Clip:
    where = f"{manifest.name}:{record.line}"
    if record.problem is not None:
        table = manifest.suffix.lower() in (".csv", ".tsv")
        return Clip(where, problem=record.problem if table else "its line is not a JSON object")
    if record.no_id:
        return Clip(where, problem=record.no_id)
    parts: dict[Modality, tuple[Item, ...]] = {}
    for column, cells in _cells(record).items():
        modality = _modality(column, cells)
        if modality is Modality.TEXT and cells:
            items = tuple(text_item(text, where) for text in cells)
            parts[modality] = _unique((*parts.get(modality, ()), *items))
        elif modality is not None and cells:
            parts[modality] = (_file(cells[0], modality, manifest),)
    files = [item.id for modality, items in parts.items() if modality is not Modality.TEXT for item in items]
    name = record.values.get("id") or "+".join(files) or where
    return Clip(name.encode("utf-8", "backslashreplace").decode(), parts)


def _lack(record: Record, clip: Clip) -> str:
    """Return what a record has a column for, without anything of use in it."""
    columns = {name: _modality(name, ()) for name in record.nothing}
    lacking = [(name, modality) for name, modality in columns.items() if modality not in (None, *clip.parts)]
    found = ((modality, _why(record, name, modality)) for name, modality in lacking)
    return next((f"no {modality} in this record{why}" for modality, why in found if why), "")


def _why(record: Record, column: str, modality: Modality | None) -> str:
    """Return why a column is of no use; of texts a list is, unless none is in it."""
    listed = modality is Modality.TEXT and column in record.lists
    return f": {column} is a list without a text" if listed else record.why(column)


def _no_texts(record: Record) -> Iterator[Nothing]:
    """Yield the cells for texts, of lists those in them, that hold none."""
    for column, cell in record.nothing.items():
        if _modality(column, ()) is Modality.TEXT:
            inside = map(cell_text, record.lists.get(column, ()))
            yield from (each for each in inside if isinstance(each, Nothing))
            yield from () if column in record.lists else (cell,)


def _cells(record: Record) -> dict[str, tuple[str, ...]]:
    """Return the texts of every column; only of texts a record may list several, an empty one of which is counted."""
    texts = {
        column: tuple(
            text if isinstance(text, str) else ""
            for text in map(cell_text, cells)
            if isinstance(text, str) or not text.what
        )
        for column, cells in record.lists.items()
        if _modality(column, ()) is Modality.TEXT
    }
    return {column: (value,) for column, value in record.values.items()} | texts


def _modality(column: str, cells: Sequence[str]) -> Modality | None:
    if column in PATHS:
        return of_suffix(PurePosixPath(cells[0]).suffix) if cells else None
    return Modality.TEXT if column in TEXTS or re.fullmatch(r"caption_?\d+", column) else of_column(column)


def _file(name: str, modality: Modality, manifest: Path) -> Item:
    readable = name.encode("utf-8", "backslashreplace").decode()
    path = manifest.parent / name
    problem = None if readable == name else "its name is not UTF-8"
    return Item(readable, modality, (manifest.parent / readable).as_posix(), path=path, problem=problem)


def _joined(before: Clip, clip: Clip) -> Clip:
    """Add the captions of a second record about the same files."""
    parts = dict(before.parts)
    for modality, items in clip.parts.items():
        if modality is Modality.TEXT:
            parts[modality] = _unique((*parts.get(modality, ()), *items))
        elif parts.setdefault(modality, items) != items:
            return Clip(before.id, before.parts, problem="two records have its id, with other files")
    return Clip(before.id, parts, problem=before.problem or clip.problem)


def _unique(items: tuple[Item, ...]) -> tuple[Item, ...]:
    return tuple({item.id: item for item in items}.values())
