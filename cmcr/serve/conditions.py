"""Conditions that questions put on rows: evaluated one at a time and within a time, the last few answers kept."""

from __future__ import annotations

import threading
import time
from typing import NamedTuple

import numpy as np

from cmcr.ask.filters import Filtered, filter_rows
from cmcr.errors import InputError, ItemError, MissingExtraError
from cmcr.memory import Memory
from cmcr.modality import Modality
from cmcr.serve.kept import Kept
from cmcr.serve.shelf import Shelf
from cmcr.serve.workers import LateError

KEPT_BYTES = 64 << 20
"""What is kept of the numbers of rows that met conditions."""


class Met(NamedTuple):
    """The rows of a shelf that meet a condition.

    Attributes:
        numbers: For each part of the shelf the numbers of its rows, ascending.
        rows: How many rows the memories have.
        lacking: How many of those lack a value, so that nobody can say.
    """

    numbers: tuple[np.ndarray, ...]
    rows: int
    lacking: int


class Conditions:
    """What rows meet, found by DuckDB over every memory of a shelf.

    A condition may take a quarter of memory and a few cores, so there is never a second one beside it.
    """

    def __init__(self, most: int = KEPT_BYTES) -> None:
        """Keep ``most`` bytes of answers."""
        self._kept, self._lock = Kept[tuple[Modality, str], Met](most), threading.Lock()

    def meet(self, shelf: Shelf, where: str, seconds: float) -> Met:
        """Return the rows of a shelf that meet a condition.

        Raises:
            ItemError: it is none, names a column that is not there, fits no value, or DuckDB is not installed.
            ArtifactError: the columns of a memory are damaged.
            LateError: it takes longer than ``seconds``.
        """
        ends, key = time.monotonic() + seconds, (shelf.modality, where)
        found = self._kept.find(key)
        if found is not None:
            return found
        with self._lock:
            found = self._kept.find(key)
            if found is None:
                found = self._made(shelf, where, ends)
                self._kept.keep(key, found, sum(each.nbytes for each in found.numbers) + 4 * len(where))
            return found

    def _made(self, shelf: Shelf, where: str, ends: float) -> Met:
        met = [[_filtered(each, shelf.modality, where, ends) for each in part.memories] for part in shelf.parts]
        numbers = tuple(shelf.among(part, found) for part, found in zip(shelf.parts, met, strict=True))
        every = [each for found in met for each in found]
        return Met(numbers, sum(each.of for each in every), sum(each.unknown for each in every))


def _filtered(memory: Memory, modality: Modality, where: str, ends: float) -> Filtered:
    left = ends - time.monotonic()
    try:
        if left > 0:
            return filter_rows(memory, modality, where, seconds=left)
    except MissingExtraError as error:
        raise ItemError(str(error)) from error
    except InputError as error:
        if time.monotonic() < ends:
            raise ItemError(str(error).replace("--where", "where", 1)) from error
    raise LateError(f"where {where[:60]!r} takes longer than a query may; ask for less")
