"""A manifest of things that belong together: JSONL or CSV, a column for each modality, perhaps several captions."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from cmcr.datasets.clip import Clip, Clips
from cmcr.errors import InputError
from cmcr.inputs import Item, text_item
from cmcr.modality import Modality, of_suffix
from cmcr.reading import parse_json
from cmcr.tables import decode, read_table

COLUMNS: dict[str, Modality] = {
    "image": Modality.IMAGE, "image_path": Modality.IMAGE,
    "audio": Modality.AUDIO, "audio_path": Modality.AUDIO,
    "point_cloud": Modality.POINT_CLOUD, "point_cloud_path": Modality.POINT_CLOUD, "points": Modality.POINT_CLOUD,
    "text": Modality.TEXT, "texts": Modality.TEXT, "caption": Modality.TEXT, "captions": Modality.TEXT,
}  # fmt: skip
"""Columns by their modality; ``caption_1``, ``caption_2`` and so on (as Clotho has them) are text, too."""
PATHS = ("path", "file", "filename", "file_name")
"""Columns whose modality is seen from the suffix of what they name."""


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
    columns: set[str] = set()
    for line, values, problem in _records(path):
        columns |= values.keys()
        clip = _clip(values, path, line) if problem is None else Clip(f"{path.name}:{line}", problem=problem)
        before = clips.get(clip.id)
        clips[clip.id] = clip if before is None else _joined(before, clip)
    held = {modality for clip in clips.values() for modality in clip.parts}
    if len(held) < 2:
        raise InputError(
            f"{path}: a pair needs two modalities; looked for the columns {', '.join((*COLUMNS, *PATHS))}; "
            f"found {', '.join(sorted(columns)) or 'no record'}"
        )
    return Clips("pairs", tuple(clips.values()), len(clips), {"layout": "pairs"})


def _records(path: Path) -> Iterator[tuple[int, Mapping[str, Any], str | None]]:
    """Yield (line, columns, problem); unlike elsewhere a JSONL cell may be a list."""
    if path.suffix.lower() in (".csv", ".tsv"):
        yield from ((record.line, record.values, record.problem) for record in read_table(path))
        return
    for number, line in enumerate(decode(path.read_bytes(), str(path)).split("\n"), 1):
        if line.strip():
            try:
                value = parse_json(line)
            except ValueError:
                value = None
            record = value if isinstance(value, dict) else {}
            yield number, record, None if record else "its line is not a JSON object"


def _clip(values: Mapping[str, Any], manifest: Path, line: int) -> Clip:
    parts: dict[Modality, tuple[Item, ...]] = {}
    where = f"{manifest.name}:{line}"
    for column, value in values.items():
        modality = _modality(column, value)
        if modality is Modality.TEXT:
            texts = value if isinstance(value, list) else [value]
            items = tuple(text_item(str(text), where) for text in texts)
            parts[modality] = _unique((*parts.get(modality, ()), *items))
        elif modality is not None and value not in (None, ""):
            parts[modality] = (_file(str(value), modality, manifest),)
    files = [item.id for modality, items in parts.items() if modality is not Modality.TEXT for item in items]
    given = values.get("id")
    name = str(given) if given not in (None, "") else "+".join(files) or where
    return Clip(name.encode("utf-8", "backslashreplace").decode(), parts)


def _modality(column: str, value: Any) -> Modality | None:
    if column in PATHS:
        return of_suffix(PurePosixPath(str(value)).suffix)
    return Modality.TEXT if re.fullmatch(r"caption_?\d+", column) else COLUMNS.get(column)


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
