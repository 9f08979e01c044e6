"""Labelled data sets: a folder of class folders, a manifest, ESC-50, and what ``modelnet`` adds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from cmcr.errors import InputError, nearest
from cmcr.files import is_file
from cmcr.items import (
    PATHS,
    TABLES,
    Inputs,
    Item,
    Nothing,
    Record,
    Up,
    lines_of,
    read_items,
    read_table,
    read_text,
    readable,
)
from cmcr.modality import Modality, of_suffix

_LABELS = ("label", "class", "category")
_MAX_NAMES = 10 << 20


@dataclass(frozen=True)
class Labelled:
    """Items of known classes.

    >>> from pathlib import Path
    >>> from cmcr.datasets import read_labelled
    >>> for name in ("bell", "drum"):
    ...     Path("sounds", name).mkdir(parents=True)
    ...     Path("sounds", name, "1.wav").touch()
    >>> data = read_labelled(Path("sounds"), unpack=Path("unpacked"))
    >>> data.classes, data.labels
    (('bell', 'drum'), {'bell/1': 0, 'drum/1': 1})

    Attributes:
        name: Of the data set: ``modelnet40``, ``esc50``, or its folder's.
        layout: One of ``LAYOUTS``.
        path: Where it lies.
        inputs: Every item that is listed; one that cannot be used has a problem.
        labels: The class number of each item without a problem, by id.
        classes: Their names.
        expected: Items that the protocol asks for.
        split: Which part; empty where there are no parts.
        up: The axis that points up in clouds of this layout; None: as the encoder expects.
        folds: The fold of each item, by id, where the data set has folds.
        settings: What was chosen while reading.
        notes: What a reader of a result must know.
    """

    name: str
    layout: str
    path: Path
    inputs: Inputs
    labels: Mapping[str, int]
    classes: tuple[str, ...]
    expected: int
    split: str = ""
    up: Up | None = None
    folds: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def with_items(self, items: Sequence[Item]) -> Labelled:
        """Return the same data set with other items of the same ids."""
        return replace(self, inputs=replace(self.inputs, items=list(items)))


@dataclass(frozen=True)
class Request:
    """What is to be read.

    Attributes:
        path: A folder, or a file of one.
        layout: One of ``LAYOUTS``.
        modalities: What the items may be; None: any that is registered. Texts are no items here.
        unpack: Folder for what is taken out of archives.
        split: Which part; None: ``test`` where there are parts, else all.
        names: A file of class names, one a line, in the order of their numbers.
        points: Points wanted of a cloud, where a data set comes in several sizes; 0 for the largest.
    """

    path: Path
    layout: str
    modalities: Sequence[Modality]
    unpack: Path
    split: str | None = None
    names: Path | None = None
    points: int = 0

    def refuse_split(self) -> None:
        """Raise InputError if a part is asked of a layout that has none, or of a single file."""
        if self.split is not None:
            what = f"{self.path.name} is one file" if self.path.is_file() else f"layout {self.layout} has no splits"
            raise InputError(f"split {self.split!r}: {what}; leave --split out")


def read_labelled(
    path: Path,
    *,
    unpack: Path,
    layout: str | None = None,
    modalities: Sequence[Modality] | None = None,
    split: str | None = None,
    names: Path | None = None,
    points: int = 0,
) -> Labelled:
    """Read a labelled data set in the layout it is downloaded in.

    Args:
        path: Its folder; a ``.dat``, ``.h5`` or manifest file.
        unpack: Folder for what is taken out of archives; a second run finds it there.
        layout: One of ``LAYOUTS``; None: seen from what is there.
        modalities: What the items may be; None: any that is registered. Texts are no items here.
        split: Which part; None: ``test`` where there are parts, else all.
        names: A file of class names, one a line, in the order of their numbers.
        points: Points wanted of a cloud, where a data set comes in several sizes; 0 for the largest.

    Raises:
        InputError: a file that the layout needs is not there; the message says what was looked for and what was found.
        MissingExtraError: an h5 file, and h5py is not installed.
    """
    if layout is not None and layout not in LAYOUTS:
        raise InputError(f"unknown layout {layout!r}; expected {', '.join(LAYOUTS)}{nearest(layout, LAYOUTS)}")
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; expected a labelled data set")
    if names is not None and not names.is_file():
        raise InputError(f"{names}: no such file; expected class names, one a line")
    seen = layout or recognise(path)
    kinds = [kind for kind in modalities or Modality if kind is not Modality.TEXT]
    if not kinds:
        raise InputError(
            "texts have no classes here; expected pictures, sounds, point clouds or other files: see --modality"
        )
    request = Request(path, seen, kinds, unpack, split, names, points)
    return _readers()[seen](request)


LAYOUTS = {
    "modelnet40": "modelnet40_shape_names.txt, modelnet40_{train,test}.txt and <class>/<class>_NNNN.txt",
    "modelnet10": "the same with modelnet10_*",
    "princeton": "<class>/{train,test}/*.off",
    "ulip-dat": "modelnet40_{train,test}_{N}pts_fps.dat",
    "h5": "*.h5 with data and label, shape_names.txt",
    "esc50": "meta/esc50.csv and audio/*.wav",
    "manifest": "a .jsonl, .csv or .tsv with a path and a label",
    "folders": "<class>/*",
}
"""The layouts and what they are known by."""


def _readers() -> dict[str, Callable[[Request], Labelled]]:
    from cmcr.datasets import modelnet

    return {
        "modelnet40": modelnet.read_split_files,
        "modelnet10": modelnet.read_split_files,
        "princeton": modelnet.read_princeton,
        "ulip-dat": modelnet.read_dat,
        "h5": modelnet.read_h5,
        "esc50": read_esc50,
        "manifest": read_manifest,
        "folders": read_folders,
    }


def recognise(path: Path) -> str:
    """Return the layout of a folder or a file.

    Raises:
        InputError: none of the known ones.
    """
    if path.is_file():
        kinds = {".dat": "ulip-dat", ".h5": "h5", ".hdf5": "h5"} | dict.fromkeys(TABLES, "manifest")
        if path.suffix.lower() in kinds:
            return kinds[path.suffix.lower()]
        raise InputError(f"{path}: expected a folder, or a file {' '.join(kinds)}; see --layout")
    if (path / "meta" / "esc50.csv").is_file():
        return "esc50"
    files = [each.name.lower() for each in path.iterdir() if each.is_file()]
    packed = any(name.endswith(".dat") for name in files)
    for layout in ("modelnet40", "modelnet10"):
        listed = [name for name in files if name.startswith(f"{layout}_") and name.endswith(".txt")]
        if listed and not (packed and not subfolders(path)):
            return layout
    if any(name.endswith((".h5", ".hdf5")) for name in files):
        return "h5"
    if packed:
        return "ulip-dat"
    if any(next(path.glob(f"*/{part}/*.[oO][fF][fF]"), None) for part in ("train", "test")):
        return "princeton"
    if subfolders(path):
        return "folders"
    known = "; ".join(LAYOUTS.values())
    raise InputError(f"{path}: no layout known here; looked for {known}; found {found_in(path)}")


def collect(
    request: Request,
    name: str,
    modality: Modality,
    listed: Iterable[tuple[Item, str | int | Nothing]],
    classes: Sequence[str],
    **more: Any,
) -> Labelled:
    """Return a data set of items and their classes, by name or number; wrong classes and second ids are problems.

    Raises:
        InputError: nothing is listed.
    """
    index = {each: number for number, each in enumerate(classes)}
    items: list[Item] = []
    labels: dict[str, int] = {}
    seen: set[str] = set()
    for item, label in listed:
        number = label if isinstance(label, int) else index.get(label) if isinstance(label, str) else None
        problem = None
        if isinstance(label, Nothing) or label == "":
            problem = item.problem or f"no label{label.of('label') if isinstance(label, Nothing) else ''}"
        elif number is None:
            problem = f"unknown class {label!r}; not among the {len(classes)} names"
        elif not 0 <= number < len(classes):
            problem = f"label {number}; the {len(classes)} names are numbered 0 to {len(classes) - 1}"
        elif item.id in seen:
            problem = item.problem or "listed twice"
        key = item.id if item.id not in seen else f"{item.id}#{len(items)}"
        kept = replace(item, id=readable(key), source=readable(item.source), problem=problem or item.problem)
        seen.add(key)
        items.append(kept)
        if kept.problem is None and number is not None:
            labels[kept.id] = number
    if not items:
        raise InputError(f"{request.path}: lists no item in layout {request.layout}; found {found_in(request.path)}")
    more.setdefault("expected", len(items))
    return Labelled(name, request.layout, request.path, Inputs(modality, items), labels, tuple(classes), **more)


def read_names(path: Path) -> tuple[str, ...]:
    """Return class names, one a line.

    Raises:
        InputError: not text, none, or one twice.
    """
    if path.stat().st_size > _MAX_NAMES:
        raise InputError(f"{path}: {path.stat().st_size} bytes; expected class names, one a line")
    names = tuple(line.strip() for line in lines_of(read_text(path)) if line.strip())
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if not names or twice:
        raise InputError(f"{path}: {f'{twice[0]!r} twice' if twice else 'no class name in it'}; expected one a line")
    return names


def read_folders(request: Request) -> Labelled:
    """Read ``<class>/*``: the first folder below the root is the class."""
    request.refuse_split()
    only = request.modalities[0] if len(request.modalities) == 1 else None
    inputs = read_items(str(request.path), only, request.modalities)
    listed = [(item, item.id.split("/")) for item in inputs.items]
    inside = [(item, parts[0]) for item, parts in listed if len(parts) > 1]
    notes = []
    if len(inside) < len(listed):
        notes.append(f"{len(listed) - len(inside)} files lie beside the class folders and were left out")
    held = {label for _, label in inside}
    if bare := [name for name in subfolders(request.path) if name not in held]:
        notes.append(f"folders without a usable file, no classes: {', '.join(bare)}")
    if inputs.ignored:
        aside = ", ".join(f"{suffix} ({count})" for suffix, count in inputs.ignored.items())
        notes.append(f"left aside for their suffix: {aside}")
    notes += inputs.remarks
    classes = read_names(request.names) if request.names else sorted(held)
    return collect(request, request.path.resolve().name, inputs.modality, inside, classes, notes=tuple(notes))


def read_esc50(request: Request) -> Labelled:
    """Read ESC-50: ``meta/esc50.csv`` (filename, fold, category) and ``audio/``."""
    request.refuse_split()
    table, audio = request.path / "meta" / "esc50.csv", request.path / "audio"
    if not table.is_file() or not audio.is_dir():
        raise InputError(f"{request.path}: looked for meta/esc50.csv and audio/; found {found_in(request.path)}")
    records = list(read_table(table))
    if not records or not {"filename", "category"} <= set(records[0].columns):
        columns = ", ".join(records[0].columns) if records else "no row"
        raise InputError(f"{table}: looked for the columns filename and category; found {columns}")
    there = {each.name for each in audio.iterdir()}
    listed, folds = [], {}
    for record in records:
        name = record.values.get("filename", "")
        problem = record.problem or (None if name in there else "listed, but its file is missing")
        item = Item(PurePosixPath(name).stem, Modality.AUDIO, str(audio / name), path=audio / name, problem=problem)
        listed.append((item, _label(record, "category")))
        folds[item.id] = record.values.get("fold", "")
    classes = read_names(request.names) if request.names else _names_of(listed)
    return collect(request, "esc50", Modality.AUDIO, listed, classes, folds={k: v for k, v in folds.items() if v})


def read_manifest(request: Request) -> Labelled:
    """Read a table with a path (``path``, ``file``, ``image`` ...) and a ``label`` a row, perhaps an ``id``."""
    records = list(read_table(request.path))
    columns = list(dict.fromkeys(name for record in records for name in record.columns))
    if bad := next((record for record in records if record.problem and not columns), None):
        raise InputError(f"{request.path}:{bad.line}: {bad.problem}; no record in it can be used")
    paths = (*PATHS, *(name for kind in Modality if kind is not Modality.TEXT for name in kind.columns))
    path_column = next((name for name in paths if name in columns), None)
    label_column = next((name for name in _LABELS if name in columns), None)
    if path_column is None or label_column is None:
        looked = f"a path ({', '.join(paths)}) and a label ({', '.join(_LABELS)})"
        raise InputError(f"{request.path}: looked for {looked}; found {', '.join(columns) or 'no row'}")
    if request.split is not None:
        parts = list(dict.fromkeys(record.values.get("split", "") for record in records))
        if request.split not in parts:
            raise InputError(
                f"{request.path}: no row of split {request.split!r}; found {', '.join(filter(None, parts))}"
            )
        records = [record for record in records if record.values.get("split") == request.split]
    modality = _modality_of(request, [record.values[path_column] for record in records if path_column in record.values])
    listed = list(_rows(request.path, records, path_column, label_column, modality))
    known = read_names(request.names) if request.names else ()
    classes = known or _names_of(listed)
    numbered = [(item, _number(label, known)) for item, label in listed]
    return collect(request, request.path.stem, modality, numbered, classes, split=request.split or "")


def _rows(
    manifest: Path, records: Sequence[Record], path_column: str, label_column: str, modality: Modality
) -> Iterator[tuple[Item, str | Nothing]]:
    for record in records:
        name = record.values.get(path_column, "")
        where = manifest.parent / name
        no_path = None if name else f"no path in this row{record.why(path_column)}"
        problem = record.problem or no_path or record.no_id
        if problem is None and not is_file(where):
            problem = "listed, but its file is missing"
        key = PurePosixPath(name).with_suffix("").as_posix() if PurePosixPath(name).name else f"row {record.line}"
        key = record.values.get("id", key)
        yield Item(key, modality, where.as_posix(), path=where, problem=problem), _label(record, label_column)


def _label(record: Record, column: str) -> str | Nothing:
    return record.values.get(column) or record.nothing.get(column) or Nothing()


def _names_of(listed: Iterable[tuple[Item, str | Nothing]]) -> tuple[str, ...]:
    return tuple(sorted({label for _, label in listed if isinstance(label, str)}))


def _number(label: str | Nothing, names: Sequence[str]) -> str | int | Nothing:
    """Return a number as such where there are names that it numbers."""
    if isinstance(label, Nothing) or not names or label in names or not (label.isascii() and label.isdecimal()):
        return label
    return int(label) if len(label) < 19 else label


def _modality_of(request: Request, names: Sequence[str]) -> Modality:
    if len(request.modalities) == 1:
        return request.modalities[0]
    suffixes = sorted({PurePosixPath(name).suffix for name in names})
    kinds = [kind for kind in request.modalities if kind in {of_suffix(suffix) for suffix in suffixes}]
    if len(kinds) != 1:
        raise InputError(
            f"{request.path}: lists {' and '.join(kinds) or 'files of unknown kind'} ({' '.join(suffixes[:8])}); "
            f"choose one with --modality {' | '.join(request.modalities)}"
        )
    return kinds[0]


def subfolders(path: Path) -> list[str]:
    """Return the names of the folders in a folder, sorted and as UTF-8; hidden ones left out."""
    return sorted(readable(each.name) for each in path.iterdir() if each.is_dir() and not each.name.startswith("."))


def found_in(path: Path) -> str:
    """Return a few names of what lies in a folder, for an error."""
    folder = path if path.is_dir() else path.parent
    names = sorted(
        readable(each.name) + "/" * each.is_dir() for each in folder.iterdir() if not each.name.startswith(".")
    )
    return (
        ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "") if names else "an empty folder"
    )
