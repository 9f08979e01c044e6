"""Which rows a classifier learns from, and which it is measured on."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from cmcr.classify.table import Table
from cmcr.errors import InputError

TRAIN = ("train", "training", "tr")
HELD_OUT = 0.25
"""Share of each class's rows that is held out where no list says which; at least one row."""


def split_rows(table: Table, listed: Mapping[str, str] | None = None, seed: int = 0) -> tuple[Table, Table]:
    """Return the labelled rows to learn from and those to measure on, which share no row.

    Args:
        table: Rows with labels; those without are left out.
        listed: The split of each id, of which ``train`` is learnt from and every other is measured on, but for
            ``val`` and its like, which are left out where there is a ``test``. None: a quarter of each class is held
            out.
        seed: Of that draw.

    Raises:
        InputError: one class only, a class with one row, or a class or a part without any row.
    """
    known = table.rows(table.labels >= 0)
    _check_classes(known)
    if listed is None:
        held = _drawn(known, seed)
        train, test = known.rows(~held), known.rows(held)
    else:
        said = [listed.get(name, "").strip().lower() for name in known.ids]
        measured = {"test"} if "test" in said else set(said) - {*TRAIN, ""}
        train = known.rows(np.array([each in TRAIN for each in said]))
        test = known.rows(np.array([each in measured for each in said]))
        _check_parts(train, test, sorted(set(said)))
    return train, test


def _check_classes(table: Table) -> None:
    counts = np.bincount(table.labels, minlength=len(table.classes))
    if len(table.classes) < 2:
        raise InputError(f"one class only ({table.classes[0]!r}); expected labels of two or more classes")
    if (few := np.flatnonzero(counts < 2)).size:
        names = ", ".join(repr(table.classes[number]) for number in few[:5])
        raise InputError(
            f"{len(few)} of {len(counts)} classes have one row ({names}); expected two or more, one to learn from and "
            "one to measure on: label more rows, or remove these labels"
        )


def _check_parts(train: Table, test: Table, said: list[str]) -> None:
    if not len(train) or not len(test):
        lacks = "train" if not len(train) else "test"
        raise InputError(f"no labelled row of the memories is in the split {lacks!r}; the list says {', '.join(said)}")
    absent = sorted(set(test.labels.tolist()) - set(train.labels.tolist()))
    if absent:
        raise InputError(
            f"{len(absent)} classes ({train.classes[absent[0]]!r}, ...) are only in the part that is measured on; "
            "expected each in the training part, too"
        )


def _drawn(table: Table, seed: int) -> np.ndarray:
    rng = np.random.default_rng([seed, 6])
    held = np.zeros(len(table), dtype=bool)
    for number in range(len(table.classes)):
        own = rng.permutation(np.flatnonzero(table.labels == number))
        held[own[: max(1, round(HELD_OUT * len(own)))]] = True
    return held
