"""Lists of ids, classes and splits as the users of data sets for classification have them."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cmcr.datasets.labels import FIELDS, read_labels
from cmcr.errors import InputError
from cmcr.items import TABLES, ById, lines_of, read_table, read_text

SPLITS = ("train", "training", "val", "valid", "validate", "validation", "dev", "test")
SPLIT_FIELDS = ("split", "subset", "partition")
FILES = (".csv", ".tsv", ".txt", ".jsonl")
_MEDIA = re.compile(r"\.(jpe?g|png|wav|flac|mp3|mp4|flv|avi|webm|npy|pkl|txt)$", re.IGNORECASE)
_TURN = re.compile(r"^\[[\d.]+ - [\d.]+\]\t(\S+)\t(\w+)\t")

Line = tuple[str, str, str]
"""An id, its class and its split; an empty class is left out and counted."""


@dataclass(frozen=True)
class ClassList:
    r"""What lists of a data set say.

    >>> from pathlib import Path
    >>> from cmcr.datasets import read_class_list
    >>> Path("train.csv").write_text("1001_DFA_ANG_XX,ANG\n1001_DFA_HAP_XX,HAP\n")
    40
    >>> known = read_class_list(Path("train.csv"))
    >>> known.labels["1001_DFA_ANG_XX"], known.layout, known.splits
    ('ANG', 'id,label', None)

    Attributes:
        labels: The class of each id.
        splits: The split of each id; None where nothing says it.
        layout: How the list was read.
        notes: What a reader must know, e.g. lines that were left out.
    """

    labels: ById
    splits: ById | None
    layout: str
    notes: tuple[str, ...] = ()


def read_class_list(path: Path, field: str | None = None) -> ClassList:
    """Return ids, classes and splits of a list file, or of a folder of them.

    Of a folder, files whose names begin with a split (``train.csv``, ``test_titles.csv``) are read, each for its split;
    or, of IEMOCAP, every file of evaluations below it.

    Layouts, seen from the content: a JSONL, CSV or TSV table with ``id`` and a class column (and ``split``); lines
    ``id<TAB>class``; CREMA-D's ``id,label`` and UPMC Food-101's ``file,title,label`` without a header; Kinetics'
    ``label,youtube_id,time_start,time_end,split``; ETHZ Food-101's ``class/number``; MVSA's ``ID text,image``;
    IEMOCAP's ``[start - end] turn emotion``; ``id label`` with a blank.

    Args:
        path: The file or folder.
        field: The column of a table that holds the class.

    Raises:
        InputError: missing, not UTF-8, of none of these layouts, or an id with two classes or two splits.
    """
    files = _files(path)
    found: list[Line] = []
    layouts, notes = [], []
    for each, split in files:
        layout, lines = _read(each, field)
        layouts.append(layout)
        found += [(name, label, said or split) for name, label, said in lines]
    if empty := sum(not label for _, label, _ in found):
        notes.append(f"{empty} of {len(found)} lines of {path} have no agreed class and were left out")
    kept = [line for line in found if line[1]]
    labels = _unique(((name, label) for name, label, _ in kept), path, "classes")
    splits = _unique(((name, split) for name, _, split in kept if split), path, "splits")
    if not labels:
        raise InputError(f"{path}: no label in it; expected a list of ids and classes")
    return ClassList(ById(labels, str(path)), ById(splits, str(path)) if splits else None, layouts[0], tuple(notes))


def _files(path: Path) -> list[tuple[Path, str]]:
    """Return list files, each with the split that its name says."""
    if path.is_file():
        return [(path, "")]
    if not path.is_dir():
        raise InputError(f"{path}: no such file or folder; expected a list of ids and classes, or a folder of lists")
    listed = [each for each in sorted(path.glob("[!.]*")) if each.suffix.lower() in FILES and each.is_file()]
    named = [(each, split) for each in listed if (split := _split_of(each.name))]
    # Names with a dot are what a Mac leaves beside the files, as in IEMOCAP's own archive.
    turns = [(each, "") for each in sorted(path.rglob("EmoEvaluation/[!.]*.txt")) if each.is_file()]
    if not named and not turns:
        raise InputError(f"{path}: no list in it; expected files named train*, val* or test*, or EmoEvaluation/*.txt")
    return named or turns


def _split_of(name: str) -> str:
    words = re.split(r"[^a-z]+", name.lower())
    return next((word for word in words[:-1] if word in SPLITS), "")


def _read(path: Path, field: str | None) -> tuple[str, list[Line]]:
    if path.suffix.lower() in TABLES and (field or _has_header(path)):
        return _of_table(path, field)
    lines = [line for line in lines_of(read_text(path)) if line.strip()]
    if not lines:
        raise InputError(f"{path}: no label in it; expected a list of ids and classes")
    for layout, fits, read in _LAYOUTS:
        if fits(lines):
            return layout, [(_MEDIA.sub("", name.strip()), label.strip(), split) for name, label, split in read(lines)]
    raise InputError(f"{path}: {lines[0][:60]!r}; expected a table with id and class, or lines id<TAB>class")


def _has_header(path: Path) -> bool:
    records = iter(read_table(path))
    first = next(records, None)
    columns = first.columns if first else []
    return bool({"id", "youtube_id", *FIELDS, *SPLIT_FIELDS} & set(columns))


def _of_table(path: Path, field: str | None) -> tuple[str, list[Line]]:
    records = list(read_table(path))
    if any({"youtube_id", "time_start", "time_end"} <= record.values.keys() for record in records):
        return "Kinetics", [_of_kinetics(record.values, field) for record in records]
    labels = read_labels(path, field)
    split = {record.values["id"]: _said_split(record.values) for record in records if "id" in record.values}
    return "table", [(name, label, split.get(name, "")) for name, label in labels.items()]


def _of_kinetics(values: dict[str, str], field: str | None) -> Line:
    """Return a clip by the name that Kinetics' downloaders give: YOUTUBE_000010_000020."""
    try:
        start, end = (int(float(values[name])) for name in ("time_start", "time_end"))
    except (KeyError, ValueError, OverflowError):
        return "", "", ""
    name = f"{values.get('youtube_id', '')}_{start:06d}_{end:06d}"
    return name, values.get(field or "label", ""), _said_split(values)


def _said_split(values: dict[str, str]) -> str:
    return next((values[name].strip().lower() for name in SPLIT_FIELDS if name in values), "")


def _cells(lines: Sequence[str]) -> Iterator[list[str]]:
    return csv.reader(io.StringIO("\n".join(lines)))


def _tabs(lines: Sequence[str]) -> list[Line]:
    return [(cells[0], cells[1], cells[2].lower() if len(cells) > 2 else "") for cells in map(_split_tabs, lines)]


def _split_tabs(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("\t")]


def _commas(lines: Sequence[str]) -> list[Line]:
    """Return the id and class of ``id,label``, ``id,label,split`` or ``id,title,label``."""
    found: list[Line] = []
    for cells in _cells(lines):
        split = cells[-1].strip().lower() if len(cells) > 2 and cells[-1].strip().lower() in SPLITS else ""
        found.append((cells[0], cells[-2 if split else -1], split))
    return found


def _folders(lines: Sequence[str]) -> list[Line]:
    return [(line.strip(), line.strip().rpartition("/")[0].rpartition("/")[2], "") for line in lines]


def _turns(lines: Sequence[str]) -> list[Line]:
    """Return IEMOCAP's turns; ``xxx`` says that nobody agreed."""
    found = [match.groups() for match in map(_TURN.match, lines) if match]
    return [(turn, "" if emotion == "xxx" else emotion, "") for turn, emotion in found]


def _mvsa(lines: Sequence[str]) -> list[Line]:
    return [(cells[0], _agreed(cells[1:]), "") for cells in map(_split_tabs, lines[1:])]


def _agreed(pairs: Sequence[str]) -> str:
    """Return one sentiment of the annotators' ``text,image`` pairs, as users of MVSA take it; empty: they disagree.

    Of each modality the majority counts; of the two, one that is neutral gives way, and opposites cancel.
    """
    both = [_majority(each) for each in zip(*(pair.split(",") for pair in pairs if "," in pair), strict=False)]
    if len(both) < 2 or not all(both):
        return ""
    sided = {each for each in both if each != "neutral"}
    return "" if len(sided) > 1 else next(iter(sided), "neutral")


def _majority(votes: Sequence[str]) -> str:
    (best, count), *_ = Counter(vote.strip().lower() for vote in votes).most_common(1)
    return best if 2 * count > len(votes) else ""


def _blanks(lines: Sequence[str]) -> list[Line]:
    return [(line.split()[0], line.split()[-1], "") for line in lines]


def _all(holds: Callable[[str], object]) -> Callable[[Sequence[str]], bool]:
    return lambda lines: all(map(holds, lines))


_LAYOUTS: tuple[tuple[str, Callable[[Sequence[str]], bool], Callable[[Sequence[str]], list[Line]]], ...] = (
    ("MVSA", lambda lines: lines[0].split()[:2] == ["ID", "text,image"], _mvsa),
    ("IEMOCAP", lambda lines: any(map(_TURN.match, lines)), _turns),
    ("id<TAB>class", _all(lambda line: len(_split_tabs(line)) in (2, 3) and all(_split_tabs(line))), _tabs),
    ("id,label", lambda lines: all(len(cells) > 1 for cells in _cells(lines)), _commas),
    ("class/number", _all(lambda line: "/" in line and len(line.split()) == 1), _folders),
    ("id label", _all(lambda line: len(line.split()) > 1), _blanks),
)


def _unique(pairs: Iterable[tuple[str, str]], path: Path, what: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in pairs:
        if found.setdefault(name, value) != value:
            raise InputError(f"{path}: {name!r} has two {what}, {found[name]!r} and {value!r}; keep one")
    return found
