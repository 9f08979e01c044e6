"""Batches from arrays larger than memory: read next to nothing but the rows asked for, and ahead of the caller."""

from __future__ import annotations

import mmap
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np

Wanted = TypeVar("Wanted")
Made = TypeVar("Made")

ROWS = 1024
"""Rows read from a mapped file between two times its pages are given back."""
SPARSE = 16
"""A mapped file of more than so many times the rows wanted is read row by row, not in runs of many pages."""


def read_rows(array: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return ``array[rows]`` as float32, (len(rows), D); of a memory-mapped file hardly a page stays in this process.

    Touched pages of a mapping count as the process's own until the system is short of memory: a pass over the file
    would seem to take all of it, and does where memory is accounted (containers). They are given back as we go.
    """
    mapped = getattr(array, "_mmap", None)
    if mapped is None or array.flags.writeable or not hasattr(mmap, "MADV_DONTNEED"):
        return np.asarray(array[rows], np.float32)
    # Without this advice the system reads up to megabytes around each row of 1 kB.
    mapped.madvise(mmap.MADV_RANDOM if len(rows) * SPARSE < len(array) else mmap.MADV_NORMAL)
    found = np.empty((len(rows), *array.shape[1:]), np.float32)
    for start in range(0, len(rows), ROWS):
        found[start : start + ROWS] = array[rows[start : start + ROWS]]
        mapped.madvise(mmap.MADV_DONTNEED)
    return found


def widened(stored: np.ndarray) -> np.ndarray:
    """Return a float32 copy of (N, D) stored rows.

    Many float16 rows are widened by torch where it is loaded: numpy takes seven times as long, for it does one number
    after the other. Both are exact.
    """
    torch = sys.modules.get("torch")
    if torch is None or stored.dtype != np.float16 or stored.size < ROWS * ROWS:
        return np.array(stored, np.float32)
    wide: np.ndarray = torch.from_numpy(np.array(stored)).float().numpy()  # copied: torch warns of what is read-only
    return wide


def ahead(make: Callable[[Wanted], Made], wanted: Iterable[Wanted]) -> Generator[Made, None, None]:
    """Yield ``make(w)`` for each ``w`` in order; a thread makes the next while the caller works on the last.

    At most one made value waits. What ``make`` raises comes out where its value would. Closing the generator (do so:
    ``contextlib.closing``) waits for the value being made, and for no more.
    """
    thread = ThreadPoolExecutor(1, "cmcr-loader")
    waiting: deque[Future[Any]] = deque()
    try:
        for one in wanted:
            waiting.append(thread.submit(make, one))
            if len(waiting) > 1:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        thread.shutdown(cancel_futures=True)


def spread(rows: int, count: int) -> np.ndarray:
    """Return at most ``count`` row numbers, evenly spread over ``rows``."""
    return np.unique(np.linspace(0, rows - 1, min(rows, count)).astype(np.int64))


def mean_row(array: np.ndarray) -> np.ndarray:
    """Return the (D,) mean of an (N, D) array that may lie on disk, a block of rows at a time."""
    total = np.zeros(array.shape[1])
    for start in range(0, len(array), 1024):
        total += read_rows(array, np.arange(start, min(start + 1024, len(array)))).sum(axis=0)
    return (total / len(array)).astype(np.float32)
