"""Pictures with their sounds as they are downloaded (AVE, VGG-SS, Flickr-SoundNet), and manifests of any pairs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cmcr.datasets.boxes import Annotated, read_flickr, read_listing, read_vggss
from cmcr.datasets.clip import Clip, Clips
from cmcr.datasets.clip_files import ClipEntry, FrameChoice, Media, filled
from cmcr.datasets.labelled import found_in
from cmcr.datasets.pairs import read_pairs
from cmcr.datasets.vggsound_av import find_tables, read_vggsound_av
from cmcr.errors import InputError
from cmcr.hooks import Progress, silent
from cmcr.items import TABLES, lines_of, read_text

__all__ = ["LAYOUTS", "Clip", "Clips", "FrameChoice", "read_clips"]

LAYOUTS = ("ave", "vggss", "flickr", "vggsound-av", "pairs")
AVE_ROWS, AVE_SPLITS = 4143, {"train": 3339, "val": 402, "test": 402}
"""Rows of the official Annotations.txt, by which it is recognised, and of the split files that belong to it."""
AVE_COLUMNS = "Category&VideoID&Quality&StartTime&EndTime"

_MARKS = (("testSet.txt", "ave"), ("Annotations.txt", "ave"), ("vggss.json", "vggss"), ("Annotations", "flickr"))
_MEDIA = ("", "AVE", "frames", "audio", "video", "videos", *map(str, range(10)))


@dataclass(frozen=True, slots=True)
class _List:
    """What a data set's own list asks for."""

    name: str
    wanted: list[ClipEntry]
    expected: int
    settings: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read_clips(
    data: Path,
    layout: str | None = None,
    *,
    unpack: Path,
    frames: str = "middle",
    split: str = "test",
    listing: Path | None = None,
    progress: Progress = silent,
) -> Clips:
    """Read a data set in the layout it is downloaded in.

    Args:
        data: Its folder; of a manifest, the file.
        layout: ``ave``, ``vggss``, ``flickr``, ``vggsound-av`` or ``pairs``; None: seen from what is there.
        unpack: Folder for what is taken out of videos; a second run finds it there.
        frames: Which frames of a video: ``middle``, ``mean:N``, or for AVE ``event``, the middle of what is annotated.
        split: Which part: ``test``, ``val`` or ``train`` (AVE), or ``all``.
        listing: One of SLAVC's ``*_test_plus_silent.csv``: its rows without a sounding object are added.
        progress: Told after every clip.

    Raises:
        InputError: a file that the layout needs is not there; the message says what was looked for and what was found.
    """
    kind = layout or _seen_layout(data)
    if kind == "pairs":
        return read_pairs(data)
    if kind not in LAYOUTS:
        raise InputError(f"layout {kind!r}; expected one of {', '.join(LAYOUTS)}")
    choice = FrameChoice.of(frames)
    if choice.event and kind != "ave":
        raise InputError(f"--frames event needs AVE's annotations, and {data} is {kind}; use middle or mean:N")
    if listing is not None and kind not in ("vggss", "flickr"):
        raise InputError(f"{listing}: a list of silent rows goes with vggss or flickr, and {data} is {kind}")
    if kind == "vggsound-av":
        return read_vggsound_av(data, unpack=unpack, split=split, frames=choice, progress=progress)
    asked = _READERS[kind](data, split)
    if listing is not None:
        asked = _with_silent(asked, listing)
    media = Media(root / name for root in _roots(data) for name in _MEDIA)
    clips = filled(asked.wanted, media, choice, unpack, progress)
    settings = {"layout": kind, **asked.settings, "frames": str(choice), "audio": "whole"}
    return Clips(kind, tuple(clips), asked.expected, settings, asked.notes)


def _seen_layout(data: Path) -> str:
    if data.suffix.lower() in TABLES:
        return "pairs"
    seen = next((kind for name, kind in _MARKS if _find(data, name)), None)
    seen = seen or ("vggsound-av" if find_tables(data) else None)
    if seen is None:
        raise InputError(
            f"{data}: no data set that is known here; looked for testSet.txt (AVE), vggss.json (VGG-SS), Annotations "
            f"(Flickr-SoundNet) or a manifest ({' '.join(sorted(TABLES))}); found {_content(data)}"
        )
    return seen


def _roots(data: Path) -> list[Path]:
    """Return where the parts of a data set lie: its folder, and those that its parts are commonly put in."""
    return [data, *(data / name for name in ("AVE_Dataset", "data", "Data", "metadata", "test"))]


def _find(data: Path, name: str) -> Path | None:
    return next((root / name for root in _roots(data) if (root / name).exists()), None)


def _needed(data: Path, name: str, what: str) -> Path:
    found = _find(data, name)
    if found is None:
        raise InputError(f"{data}: no {name} in it ({what}); found {_content(data)}")
    return found


def _content(data: Path) -> str:
    return found_in(data) if data.is_dir() else "a file" if data.exists() else "nothing there"


def _read_ave(data: Path, split: str) -> _List:
    if split not in (*AVE_SPLITS, "all"):
        raise InputError(f"--split {split!r}; AVE has {', '.join(AVE_SPLITS)} and all")
    name = "Annotations.txt" if split == "all" else f"{split}Set.txt"
    rows = _ave_rows(_needed(data, name, f"lines of {AVE_COLUMNS}"))
    annotations = _find(data, "Annotations.txt")
    official = annotations is not None and len(_ave_rows(annotations)) == AVE_ROWS
    asked = AVE_SPLITS.get(split, AVE_ROWS) if official else len(rows)
    return _once("ave", rows, asked, {"split": split})


def _ave_rows(path: Path) -> list[ClipEntry]:
    lines = [(number, line.strip()) for number, line in enumerate(lines_of(read_text(path)), 1)]
    lines = [(number, line) for number, line in lines if line and line.lower() != AVE_COLUMNS.lower()]
    if not lines:
        raise InputError(f"{path}: no line in it; expected lines of {AVE_COLUMNS}")
    return [_ave_row(line, f"{path.name}:{number}") for number, line in lines]


def _ave_row(line: str, where: str) -> ClipEntry:
    try:
        category, name, _, start, end = (part.strip() for part in line.split("&"))
        event = float(start), float(end)
        if not all(map(math.isfinite, event)):
            raise ValueError
        return ClipEntry(Clip(name, label=category), name, name, event)
    except ValueError:
        return ClipEntry(Clip(where, problem=f"its line is not {AVE_COLUMNS}"), "", "")


def _read_vggss(data: Path, split: str) -> _List:
    if split not in ("test", "all"):
        raise InputError(f"--split {split!r}; VGG-SS is one list: test")
    return _boxed("vggss", read_vggss(_needed(data, "vggss.json", "the boxes of VGG-SS")), votes=1)


def _read_flickr(data: Path, split: str) -> _List:
    if split not in ("test", "all"):
        raise InputError(f"--split {split!r}; Flickr-SoundNet has test and all")
    folder = _needed(data, "Annotations", "the boxes of Flickr-SoundNet, <id>.xml")
    files = {path.stem: path for path in sorted(folder.glob("*.xml"))}
    if not files:
        raise InputError(f"{folder}: no <id>.xml in it; found {_content(folder)}")
    names = list(files)
    if split == "test":
        names = [row.image for row in read_listing(_needed(data, "flickr_test.csv", "the test list; or --split all"))]
    missing = "no annotation of it in Annotations/"
    annotated = [read_flickr(files[name]) if name in files else Annotated(name, problem=missing) for name in names]
    return replace(_boxed("flickr", annotated, votes=2), settings={"split": split})


def _boxed(name: str, annotated: Sequence[Annotated], votes: int) -> _List:
    clips = [Clip(a.id, label=a.label, boxes=a.boxes, votes=votes, box_problem=a.problem) for a in annotated]
    asked = _once(name, [ClipEntry(clip, clip.id, clip.id) for clip in clips], len(clips), {})
    empty = sum(each.empty for each in annotated)
    notes = (f"boxes without area, beside others, were left out: {empty}",) if empty else ()
    return replace(asked, notes=asked.notes + notes)


def _once(name: str, rows: Sequence[ClipEntry], asked: int, settings: dict[str, Any]) -> _List:
    """Keep the first of the rows with one id; the protocol asks for no more than that."""
    first = {row.clip.id: row for row in reversed(rows)}
    repeated = len(rows) - len(first)
    notes = (f"rows that repeat an id were left out: {repeated}",) if repeated else ()
    return _List(name, [row for row in rows if first[row.clip.id] is row], asked - repeated, settings, notes)


_READERS: dict[str, Callable[[Path, str], _List]] = {"ave": _read_ave, "vggss": _read_vggss, "flickr": _read_flickr}


def _with_silent(sounding: _List, listing: Path) -> _List:
    silent_rows = {f"{row.image}+{row.audio}": row for row in read_listing(listing) if not row.sounding}
    if not silent_rows:
        raise InputError(f"{listing}: no row labelled non-sounding; expected the columns video,audio,label")
    added = [ClipEntry(Clip(name, sounding=False), row.image, row.audio) for name, row in silent_rows.items()]
    settings = {**sounding.settings, "list": listing.name}
    return replace(sounding, wanted=sounding.wanted + added, expected=sounding.expected + len(added), settings=settings)
