"""ModelNet as people have it: text clouds with split files, Princeton's meshes, ULIP's pickled cache, h5 files."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from cmcr.datasets.labelled import Labelled, Request, collect, found_in, read_names, subfolders
from cmcr.decode import pickles as unpickle
from cmcr.errors import InputError, ItemError, MissingExtraError
from cmcr.files import write_atomic, write_json
from cmcr.items import Item, lines_of, read_items, read_text
from cmcr.modality import Modality
from cmcr.reading import plainly, read_json, reading

MODELNET40 = frozenset(
    """
    airplane bathtub bed bench bookshelf bottle bowl car chair cone cup curtain desk door dresser flower_pot glass_box
    guitar keyboard lamp laptop mantel monitor night_stand person piano plant radio range_hood sink sofa stairs stool
    table tent toilet tv_stand vase wardrobe xbox
    """.split()  # noqa: SIM905
)
"""The class names of ModelNet40, by which it is known."""
TEST_SHAPES = 2468
"""Shapes in the test split of ModelNet40."""
MAX_ARCHIVE = 4 << 30
"""Bytes of a ``.dat`` file, or that an h5 file may hold unpacked; ULIP's cache of the training split has 1.9 GB."""

_DAT = re.compile(r"(modelnet\d+)_(train|test)_(\d+)pts(_fps)?", re.I)
_BLOCK = 128  # clouds of an h5 file read together

Unpacked = tuple[np.ndarray | None, int | None, str | None]
"""What lies in an archive: (N, 3) positions, a class number, or why there is none."""


def read_split_files(request: Request) -> Labelled:
    """Read ``modelnet40_normal_resampled``: the class of ``<class>_NNNN`` is all before the last underscore."""
    folder, split = request.path, request.split or "test"
    classes = read_names(
        _looked_for(folder, request.names or folder / f"{request.layout}_shape_names.txt", "class names")
    )
    listing = _looked_for(folder, folder / f"{request.layout}_{split}.txt", "the shapes of the split")
    names = [line.strip() for line in lines_of(read_text(listing)) if line.strip()]
    wanted = {name.rpartition("_")[0] for name in names} & set(subfolders(folder))
    there = {label: {each.name for each in (folder / label).iterdir()} for label in wanted}
    listed = [(_resampled(folder, name, there), name.rpartition("_")[0]) for name in names]
    if listed and all(item.problem for item, _ in listed):
        raise InputError(
            f"{folder}: none of the {len(names)} shapes in {listing.name} is there; "
            f"looked for {listed[0][0].source}; found {found_in(folder)}"
        )
    part = set(classes) == MODELNET40 and split == "test" and len(names) != TEST_SHAPES
    notes = (f"{listing.name} lists {len(names)} shapes; ModelNet40's test split has {TEST_SHAPES}",) if part else ()
    return collect(request, request.layout, Modality.POINT_CLOUD, listed, classes, split=split, notes=notes)


def _resampled(folder: Path, name: str, there: dict[str, set[str]]) -> Item:
    label, file = name.rpartition("_")[0], f"{name}.txt"
    problem = None
    if not label:
        problem = "listed by a name without a class"
    elif label not in there:
        problem = f"class folder {label!r} is missing"
    elif file not in there[label]:  # so a name with a way out of the folder is not followed
        problem = "listed, but its file is missing"
    path = folder / label / file
    return Item(f"{label}/{name}", Modality.POINT_CLOUD, path.as_posix(), path=path, problem=problem)


def read_princeton(request: Request) -> Labelled:
    """Read ``<class>/{train,test}/*.off``. Its meshes are said to stand z-up, which no source here confirms."""
    split, classes = request.split or "test", read_names(request.names) if request.names else ()
    inputs = read_items(str(request.path), Modality.POINT_CLOUD, [Modality.POINT_CLOUD])
    parts = [(item, item.id.split("/")) for item in inputs.items]
    meshes = [(item, at) for item, at in parts if item.suffix == ".off" and len(at) == 3]
    listed = [(item, at[0]) for item, at in meshes if at[1] == split]
    if not listed:
        found = sorted({at[1] for _, at in meshes})
        raise InputError(
            f"{request.path}: looked for <class>/{split}/*.off; found {found_in(request.path)}"
            + (f" with {', '.join(found)}" if found else "")
        )
    classes = classes or tuple(sorted({at[0] for _, at in meshes}))
    empty = sorted(set(classes) - {label for _, label in listed})
    notes = (f"no {split} folder with meshes in: {', '.join(empty)}",) if empty else ()
    more: dict[str, Any] = {"split": split, "up": "z", "notes": notes}
    return _expected(collect(request, _name(request.path), Modality.POINT_CLOUD, listed, classes, **more))


def read_dat(request: Request) -> Labelled:
    """Read ULIP's cache, a pickle of [list of (N, 6) float32, list of (1,) int32]; only ``unpickle.load`` reads it.

    Of several sizes the one of ``request.points`` is taken, else the largest.
    """
    path, folder = request.path, request.path if request.path.is_dir() else request.path.parent
    if path.is_dir():
        split = request.split or "test"
        named = [(match, each) for each in sorted(path.glob("*.dat")) if (match := _DAT.fullmatch(each.stem))]
        sizes = {int(match[3]): each for match, each in named if match[2].lower() == split}
        if not sizes:
            raise InputError(f"{path}: looked for modelnet40_{split}_{{N}}pts_fps.dat; found {found_in(path)}")
        path = sizes.get(request.points) or sizes[max(sizes)]
    else:
        request.refuse_split()
    match = _DAT.fullmatch(path.stem)
    prefix, split = (match[1].lower(), match[2].lower()) if match else ("modelnet40", "")
    classes = read_names(_looked_for(folder, request.names or folder / f"{prefix}_shape_names.txt", "class names"))
    listed = _unpacked([path], request.unpack, _in_dat)
    more: dict[str, Any] = {"split": split, "settings": {"file": path.name}}
    return _expected(collect(request, prefix, Modality.POINT_CLOUD, listed, classes, **more))


def _in_dat(path: Path) -> Iterator[Unpacked]:
    if path.stat().st_size > MAX_ARCHIVE:
        raise InputError(f"{path}: {path.stat().st_size} bytes; at most {MAX_ARCHIVE} are read")
    try:
        loaded = unpickle.load(path.read_bytes())
    except ItemError as error:
        raise InputError(f"{path}: {error}; expected ULIP's [list of clouds, list of labels]") from error
    if not isinstance(loaded, list | tuple) or len(loaded) != 2 or not all(isinstance(x, list | tuple) for x in loaded):
        raise InputError(f"{path}: a pickled {type(loaded).__name__}; expected ULIP's [list of clouds, list of labels]")
    clouds, labels = loaded
    if len(clouds) != len(labels):
        raise InputError(f"{path}: {len(clouds)} clouds and {len(labels)} labels; expected as many; get the file anew")
    yield from map(_checked, clouds, labels)


def read_h5(request: Request) -> Labelled:
    """Read h5 files with ``data`` (B, N, 3) and ``label`` (B, 1), as PointNet's, beside ``shape_names.txt``.

    Of a folder, those that ``{split}_files.txt`` lists, else those with the split in their name.
    """
    path, split = request.path, request.split or "test"
    folder, files = (path, _h5_files(path, split)) if path.is_dir() else (path.parent, [path])
    names = request.names or next(iter(sorted(folder.glob("*shape_names.txt"))), folder / "shape_names.txt")
    classes = read_names(_looked_for(folder, names, "class names"))
    listed = _unpacked(files, request.unpack, _in_h5)
    if path.is_file():
        request.refuse_split()
    more: dict[str, Any] = {
        "split": split if path.is_dir() else "",
        "settings": {"files": [each.name for each in files]},
    }
    return _expected(collect(request, _name(folder), Modality.POINT_CLOUD, listed, classes, **more))


def _h5_files(folder: Path, split: str) -> list[Path]:
    present = {each.name: each for each in sorted(folder.iterdir()) if each.suffix.lower() in (".h5", ".hdf5")}
    listing = folder / f"{split}_files.txt"
    if not listing.is_file():
        named = [each for name, each in present.items() if split in name.lower()]
        chosen = named or (list(present.values()) if len(present) == 1 else [])
        if not chosen:
            raise InputError(f"{folder}: looked for {split}_files.txt or *{split}*.h5; found {found_in(folder)}")
        return chosen
    lines = [line.strip() for line in lines_of(read_text(listing)) if line.strip()]
    wanted = [PurePosixPath(line).name for line in lines]  # they hold paths of the machine they were made on
    if missing := [name for name in wanted if name not in present]:
        raise InputError(f"{listing}: lists {', '.join(missing[:5])}; found {', '.join(present) or found_in(folder)}")
    return [present[name] for name in wanted]


def _in_h5(path: Path) -> Iterator[Unpacked]:
    try:
        import h5py  # type: ignore[import-untyped, import-not-found, unused-ignore]
    except ImportError:
        raise MissingExtraError("h5py", "h5", f"reading {path.name}") from None
    with reading(path, "get it anew", InputError, "damaged h5 file"), h5py.File(path, "r") as file:
        data, label = _h5_array(file, "data", path), _h5_array(file, "label", path)
        if len(data) != len(label) or data.ndim != 3:
            raise InputError(f"{path}: data {data.shape} and label {label.shape}; expected (B, N, 3) and (B, 1)")
        for start in range(0, len(data), _BLOCK):
            yield from map(_checked, data[start : start + _BLOCK], label[start : start + _BLOCK])


def _h5_array(file: Any, name: str, path: Path) -> Any:
    import h5py

    # Only what lies in the file itself: a link or an external array would read another file of this machine.
    link = file.get(name, getlink=True)
    found = file[name] if isinstance(link, h5py.HardLink) else None
    if not isinstance(found, h5py.Dataset) or found.external or found.is_virtual or not found.shape:
        raise InputError(f"{path}: no array {name!r} in it; looked for data and label; found {', '.join(file)}")
    if found.dtype.kind not in "fiu" or found.size * found.dtype.itemsize > MAX_ARCHIVE:
        raise InputError(f"{path}: {name} is {found.dtype} {found.shape}; expected numbers, up to {MAX_ARCHIVE} bytes")
    return found


def _checked(cloud: Any, label: Any) -> Unpacked:
    """Return the positions and the class number, or what is wrong with either."""
    points, number = np.asarray(cloud), np.asarray(label)
    if points.ndim != 2 or points.shape[1] not in (3, 6) or points.dtype.kind not in "fiu" or not len(points):
        return None, None, f"a cloud of {points.dtype} {points.shape}; expected (N, 3) or (N, 6)"
    if number.size != 1 or number.dtype.kind not in "iu":
        return None, None, f"a label of {number.dtype} {number.shape}; expected one whole number"
    return points[:, :3].astype(np.float32), int(number.reshape(-1)[0]), None


def _unpacked(
    archives: Iterable[Path], folder: Path, read: Callable[[Path], Iterator[Unpacked]]
) -> list[tuple[Item, int]]:
    """Return an item and a class number for everything in some archives, each unpacked once."""
    listed = []
    for archive in archives:
        status = archive.stat()
        stamp = hashlib.sha256(f"{status.st_size} {status.st_mtime_ns}".encode()).hexdigest()[:8]
        target = folder / f"{archive.stem}-{stamp}"
        for number, (label, problem) in enumerate(_index(target) or _unpack(target, read(archive))):
            path = target / f"{number:05d}.npy"
            key = f"{archive.stem}/{number:05d}"
            listed.append((Item(key, Modality.POINT_CLOUD, path.as_posix(), path=path, problem=problem), label or 0))
    return listed


def _unpack(target: Path, found: Iterable[Unpacked]) -> list[tuple[int | None, str | None]]:
    rows = []
    for number, (points, label, problem) in enumerate(found):
        if points is not None:
            buffer = io.BytesIO()
            np.save(buffer, points)
            write_atomic(target / f"{number:05d}.npy", buffer.getvalue())
        rows.append((label, problem))
    write_json(target / "index.json", rows)  # last: what has it is whole
    return rows


def _index(target: Path) -> list[tuple[int | None, str | None]] | None:
    try:
        with plainly():
            return [(label, problem) for label, problem in read_json(target / "index.json")]
    except (OSError, ValueError):
        return None


def _expected(data: Labelled) -> Labelled:
    """Return the data set with the size of ModelNet40's test split, where it is that and nothing lists its shapes."""
    whole = data.split == "test" and set(data.classes) == MODELNET40
    return replace(data, expected=max(TEST_SHAPES, data.expected)) if whole else data


def _looked_for(folder: Path, path: Path, what: str) -> Path:
    if not path.is_file():
        raise InputError(f"{folder}: looked for {path.name} with {what}; found {found_in(folder)}")
    return path


def _name(folder: Path) -> str:
    """Return ``modelnet40`` or ``modelnet10`` for a folder that says so, else its name."""
    match = re.search(r"modelnet[-_ ]?(10|40)", folder.resolve().name, re.I)
    return f"modelnet{match[1]}" if match else folder.resolve().name
