"""The tiny world's clouds in the forms ModelNet40 has: forty classes, a kind and a count each.

A class is a kind and a count, "one bell" or "three bells", in the two counts for which a size is held out: its test
shapes have that size, so no tower and no memory has seen such a thing. Its training shapes have the other sizes.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from cmcr.files import atomic, write_atomic
from cmcr.tiny.captions import NUMBERS
from cmcr.tiny.kinds import KINDS
from cmcr.tiny.scene import COLOURS, COUNTS, RHYTHMS, SIZES, Scene, is_held_out
from cmcr.tiny.shapes import shape

NAME = "modelnet40"
_KINDS = list(KINDS)[:20]


def _counts(kind: str) -> list[int]:
    """Return the counts of a kind of which a size is held out; of the three there are, those two apart."""
    held = [count for count in COUNTS if any(is_held_out(kind, count, size) for size in SIZES)]
    return next([count, count + 2] for count in held if count + 2 in held)


def _class(kind: str, count: int) -> str:
    singular, _, plural = KINDS[kind].nouns[0].partition("/")
    noun = singular if count == 1 else plural or f"{singular}s"
    return f"{NUMBERS[count][0]} {noun}".replace(" ", "_")


CLASSES: dict[str, tuple[str, int]] = {
    _class(kind, count): (kind, count) for kind in sorted(_KINDS) for count in _counts(kind)
}
"""The forty class names, each with its kind and count."""


def shapes(split: str, per_class: int, seed: int = 0) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the class and the (1024, 3) float32 points, z up, of ``per_class`` shapes of each class."""
    part = ("train", "test").index(split)
    for number, (name, (kind, count)) in enumerate(sorted(CLASSES.items())):
        sizes = [size for size in SIZES if is_held_out(kind, count, size) == (split == "test")]
        for copy in range(per_class):
            rng = np.random.default_rng([seed, part, number, copy])
            points = shape(Scene(kind, count, sizes[copy % len(sizes)], COLOURS[0], RHYTHMS[0]), rng)
            # Six decimals, as the text files have them, so that every form holds the same numbers.
            yield name, points.astype(np.float64).round(6).astype(np.float32)


def write_modelnet(folder: Path, per_class: int = 5, seed: int = 0, splits: Sequence[str] = ("train", "test")) -> Path:
    """Write ``modelnet40_normal_resampled``: names, split files, and a text cloud (x,y,z, no normals) a shape."""
    write_atomic(folder / f"{NAME}_shape_names.txt", "".join(f"{name}\n" for name in sorted(CLASSES)).encode())
    number = dict.fromkeys(CLASSES, 0)
    for split in splits:
        listed = []
        for name, points in shapes(split, per_class, seed):
            number[name] += 1
            listed.append(f"{name}_{number[name]:04d}")
            rows = "".join(f"{x:.6f},{y:.6f},{z:.6f},0,0,0\n" for x, y, z in points.tolist())
            write_atomic(folder / name / f"{listed[-1]}.txt", rows.encode())
        write_atomic(folder / f"{NAME}_{split}.txt", "".join(f"{each}\n" for each in listed).encode())
    return folder


def write_dat(folder: Path, per_class: int = 5, seed: int = 0, split: str = "test") -> Path:
    """Write ULIP's pickled cache of a split, and the names beside it; returns the ``.dat`` file."""
    points, labels = _arrays(split, per_class, seed)
    clouds = [np.concatenate([each, np.zeros_like(each)], axis=1) for each in points]
    write_atomic(folder / f"{NAME}_shape_names.txt", "".join(f"{name}\n" for name in sorted(CLASSES)).encode())
    path = folder / f"{NAME}_{split}_{points.shape[1]}pts_fps.dat"
    write_atomic(path, pickle.dumps([clouds, [np.array([label], np.int32) for label in labels]]))
    return path


def write_h5(folder: Path, per_class: int = 5, seed: int = 0, split: str = "test") -> Path:
    """Write a split as PointNet's h5 file, and ``shape_names.txt`` beside it; needs h5py. Returns the file."""
    import h5py  # type: ignore[import-untyped, import-not-found, unused-ignore]

    points, labels = _arrays(split, per_class, seed)
    write_atomic(folder / "shape_names.txt", "".join(f"{name}\n" for name in sorted(CLASSES)).encode())
    path = folder / f"ply_data_{split}0.h5"
    with atomic(path) as whole, h5py.File(whole, "w") as file:
        file["data"], file["label"] = points, labels[:, None].astype(np.uint8)
    return path


def _arrays(split: str, per_class: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (B, 1024, 3) float32 points and (B,) class numbers."""
    names, points = zip(*shapes(split, per_class, seed), strict=True)
    order = sorted(CLASSES)
    return np.stack(points), np.array([order.index(name) for name in names])
