"""Rows that were removed: their numbers in one small file, so that nothing else of the memory is rewritten.

A row has two numbers. Its *stored* number counts every row of the shards and stays as it is until ``cmcr compact``; its
number for whoever reads the memory counts the rows that are left.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np

from cmcr.errors import ArtifactError
from cmcr.memory.manifest import CURE, Removed
from cmcr.reading import open_npy, read_bytes, reading

_HEADER = 1 << 12
NONE = np.zeros(0, np.int64)
"""The stored numbers of the removed rows of a modality of which none was removed."""


def packed_numbers(numbers: np.ndarray) -> bytes:
    """Return the .npy file of (R,) stored numbers, ascending."""
    file = io.BytesIO()
    np.save(file, numbers.astype("<i8"), allow_pickle=False)
    return file.getvalue()


def read_removed(folder: Path, removed: Removed, stored: int) -> np.ndarray:
    """Return the (R,) int64 stored numbers of the removed rows, ascending.

    Args:
        folder: The memory's.
        removed: As its manifest says.
        stored: How many rows the shards hold.

    Raises:
        ArtifactError: the file is missing, or not the one that was written: a row shown that was removed is worse than
            none.
    """
    path = folder / removed.numbers
    with reading(path, CURE):
        data = read_bytes(path, 8 * removed.rows + _HEADER)
        if hashlib.sha256(data).hexdigest() != removed.sha256:
            raise ArtifactError(f"{path}: its sha256 is not the manifest's; {CURE}")
        numbers = open_npy(path)
        if numbers.shape != (removed.rows,) or numbers.dtype != np.dtype("<i8"):
            raise ValueError(f"{numbers.dtype} of shape {numbers.shape}, expected int64 of ({removed.rows},)")
        if (np.diff(numbers) <= 0).any() or numbers[0] < 0 or numbers[-1] >= stored:
            raise ValueError(f"numbers that are not ascending below {stored}")
        return np.asarray(numbers, np.int64)


def to_stored(gone: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the stored numbers of rows that are left.

    >>> import numpy as np
    >>> from cmcr.memory.tombstones import to_left, to_stored
    >>> gone = np.array([0, 3])
    >>> to_stored(gone, np.array([0, 1, 2])).tolist(), to_left(gone, np.array([1, 2, 4])).tolist()
    ([1, 2, 4], [0, 1, 2])
    """
    return np.asarray(rows + np.searchsorted(gone - np.arange(len(gone)), rows, side="right"), np.int64)


def to_left(gone: np.ndarray, stored: np.ndarray) -> np.ndarray:
    """Return the numbers among the rows that are left; ``stored`` are none of the removed."""
    return np.asarray(stored - np.searchsorted(gone, stored), np.int64)
