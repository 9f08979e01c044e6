"""A bed: two frozen spaces that share only texts, unpaired rows of either, and pairs nobody trains on.

The folder holds .npy files, one vector a row: ``text_left`` and ``text_right`` (the same texts in both spaces: the
overlap), ``memory_left`` and ``memory_right`` (unpaired), ``eval_left`` and ``eval_right`` (pairs nobody trains on)
and, to see what each space keeps of its own, ``eval_text_left`` and ``eval_text_right`` (their true texts).
``eval_gallery``, if there, holds a number a pair: each is looked for among the pairs of its own number only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cmcr import Memory, Modality
from cmcr.errors import InputError
from cmcr.memory import EncoderInfo, MemoryWriter, Row
from cmcr.numbers import ranks
from cmcr.numbers.rows import spread

OUTER = {"left": Modality.IMAGE, "right": Modality.POINT_CLOUD}
"""What the outer rows are called; to a method the two are only names."""
SIDES = tuple(OUTER)


@dataclass(frozen=True)
class Side:
    """One space's rows, (N, D) unit vectors; ``eval_text`` is None where the pairs' texts are not known."""

    text: np.ndarray
    memory: np.ndarray
    eval: np.ndarray
    eval_text: np.ndarray | None = None

    def parts(self) -> dict[str, np.ndarray]:
        """Return the arrays there are, by name."""
        return {name: x for name, x in vars(self).items() if x is not None}

    def map(self, change: dict[str, np.ndarray]) -> Side:
        """Return a copy with some of its arrays changed."""
        return replace(self, **change)


@dataclass(frozen=True)
class Bed:
    """Two sides, and for each pair the number of its gallery; beds of one family come from the same rows."""

    name: str
    family: str
    left: Side
    right: Side
    galleries: np.ndarray

    def side(self, name: str) -> Side:
        """Return ``left`` or ``right``."""
        return self.left if name == "left" else self.right

    @property
    def sizes(self) -> np.ndarray:
        """How many rows each pair is looked for among."""
        _, number, counts = np.unique(self.galleries, return_inverse=True, return_counts=True)
        return counts[number]

    @property
    def digest(self) -> str:
        """sha256 (hex) over everything a measurement sees: equal for equal rows, whatever the folder is called."""
        total = hashlib.sha256(np.ascontiguousarray(self.galleries, np.int64).tobytes())
        for side in (self.left, self.right):
            for name, x in side.parts().items():
                total.update(f"{name} {x.shape}".encode() + np.ascontiguousarray(x, np.float32).tobytes())
        return total.hexdigest()


def unit(x: np.ndarray) -> np.ndarray:
    """Return rows of length 1 as float32."""
    x = np.asarray(x, np.float64)
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def read_rows(folder: Path, name: str) -> np.ndarray:
    """Return the rows of a file as float32 unit vectors.

    Raises:
        InputError: no such file, not .npy, not rows of numbers, or a row that is zero or not finite.
    """
    path = folder / f"{name}.npy"
    try:
        x = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}); expected a .npy file of one vector a row") from error
    if x.ndim != 2 or not len(x) or x.dtype.kind != "f":
        raise InputError(f"{path}: {x.dtype} {x.shape}; expected floating-point vectors, one a row")
    if not (np.isfinite(x).all() and x.any(axis=1).all()):
        raise InputError(f"{path}: a row is zero or not finite; expected vectors that can be normalised: drop that row")
    return unit(x)


def read_bed(folder: Path) -> Bed:
    """Read a folder; the bed and its family are called like it.

    Raises:
        InputError: a file is missing or cannot be used, or two files do not fit each other.
    """
    known = all((folder / f"eval_text_{side}.npy").exists() for side in SIDES)
    names = ("text", "memory", "eval", *(("eval_text",) if known else ()))
    left, right = (Side(**{name: read_rows(folder, f"{name}_{side}") for name in names}) for side in SIDES)
    for name in names:
        mine, others = len(getattr(left, name)), len(getattr(right, name))
        if name != "memory" and mine != others:
            raise InputError(f"{folder}: {mine} rows of {name}_left, {others} of {name}_right; expected as many")
    path, count = folder / "eval_gallery.npy", len(left.eval)
    galleries = np.load(path, allow_pickle=False) if path.exists() else np.zeros(count, np.int64)
    if galleries.shape != (count,):
        raise InputError(f"{path}: {galleries.shape}; expected one number a pair, ({count},)")
    name = folder.resolve().name
    return Bed(name, name, left, right, galleries.astype(np.int64))


def write_bed(bed: Bed, folder: Path) -> None:
    """Write a bed as a folder that ``read_bed`` reads; the galleries last, so that they tell that all is there."""
    folder.mkdir(parents=True, exist_ok=True)
    for side in SIDES:
        for name, x in bed.side(side).parts().items():
            np.save(folder / f"{name}_{side}.npy", x)
    np.save(folder / "eval_gallery.npy", bed.galleries)


def cut(bed: Bed, fewer: Callable[[int], int], name: str) -> Bed:
    """Return a bed with ``fewer(rows)`` of its texts and of the rows of each memory, evenly spread."""

    def some(x: np.ndarray) -> np.ndarray:
        return x[spread(len(x), fewer(len(x)))]

    left, right = (side.map({"text": some(side.text), "memory": some(side.memory)}) for side in (bed.left, bed.right))
    return replace(bed, name=name, left=left, right=right)


def memory(bed: Bed, side: str, path: Path) -> Memory:
    """Write one side's texts and unpaired rows as a memory."""
    parts = {Modality.TEXT: bed.side(side).text, OUTER[side]: bed.side(side).memory}
    with MemoryWriter(path, EncoderInfo(side, side, parts[Modality.TEXT].shape[1])) as writer:
        for modality, vectors in parts.items():
            rows = [Row(f"{modality}{number}", "", None, None) for number in range(len(vectors))]
            writer.append(modality, vectors, rows)
    return Memory.open(path)


def ranks_within(galleries: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return (2, N) ranks of each row's partner among the rows of its gallery, x asking y and y asking x."""
    found = np.zeros((2, len(x)), np.int64)
    for number in np.unique(galleries):
        part = galleries == number
        found[:, part] = ranks(x[part], y[part]), ranks(y[part], x[part])
    return found


def figures(found: np.ndarray, sizes: np.ndarray) -> dict[str, np.ndarray]:
    """Return R@1, R@5, R@10 and AUC (1 - normalised mean rank, 50 by chance) of each pair, in percent.

    Args:
        found: (..., N) ranks: of directions, and of seeds; all but the last axis are averaged.
        sizes: (N,) sizes of the galleries.
    """
    flat = found.reshape(-1, found.shape[-1])
    each = {f"R@{k}": 100.0 * (flat <= k).mean(axis=0) for k in (1, 5, 10)}
    return each | {"AUC": 100 * (1 - (flat - 1) / np.maximum(sizes - 1, 1)).mean(axis=0)}


def recall_10(bed: Bed, x: np.ndarray, y: np.ndarray) -> float:
    """Return R@10 of rows and their partners, both directions, in percent."""
    return float(figures(ranks_within(bed.galleries, x, y), bed.sizes)["R@10"].mean())
