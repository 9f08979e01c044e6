"""Which rows an evaluation of interactions uses, and which of them are held out when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from cmcr.classify import Table
from cmcr.classify.splits import split_rows
from cmcr.errors import InputError
from cmcr.evaluate.interactions.choices import InteractionChoices
from cmcr.evaluate.interactions.probes import Fold, Numbers

LEAST = 20
"""Rows with a label and both modalities that must be measured."""


def choose_rows(
    table: Table, splits: Mapping[str, str] | None, choices: InteractionChoices
) -> tuple[Table, list[Fold], list[str]]:
    """Return the labelled rows with both modalities, which of them are held out when, and what a reader must know.

    Args:
        table: Rows of two channels, with labels.
        splits: The split of each id; None: every row is held out once.
        choices: How many rows and parts.

    Raises:
        InputError: no id in both memories, too few rows, or as ``split_rows``.
    """
    both = table.present.all(axis=1)
    if not both.any():
        one, two = (table.ids[int(table.present[:, m].argmax())] for m in (0, 1))
        raise InputError(
            f"no id is in both memories ({one!r}, ... and {two!r}, ...); expected rows of the same items, joined by id"
        )
    rows, notes = _drawn(_enough(_used(table.rows(both & (table.labels >= 0)))), choices)
    train, test = split_rows(rows, splits, choices.seed)
    if splits is None:
        return rows, _folds(rows.labels, choices), notes
    _enough(test)
    if len(np.unique(test.labels)) < 2:
        name = test.classes[test.labels[0]]
        raise InputError(f"one class only ({name!r}) in the part that is measured on; expected two or more")
    place = {name: number for number, name in enumerate(rows.ids)}
    train_rows, test_rows = (np.array([place[name] for name in part.ids]) for part in (train, test))
    return rows, [(train_rows, test_rows)], notes


def _enough(rows: Table) -> Table:
    if len(rows) < LEAST:
        names = " and ".join(channel.name for channel in rows.channels)
        raise InputError(
            f"{len(rows)} rows to measure have a label, {names}; expected {LEAST} or more: label or embed more items"
        )
    return rows


def _drawn(rows: Table, choices: InteractionChoices) -> tuple[Table, list[str]]:
    """Return no more rows than are asked for, of classes that still have two."""
    if len(rows) <= choices.rows:
        return rows, []
    notes = [f"{choices.rows} of {len(rows)} rows were drawn; --rows takes more"]
    chosen = np.random.default_rng([choices.seed, 1]).permutation(len(rows))[: choices.rows]
    drawn = rows.rows(np.sort(chosen))
    counts = np.bincount(drawn.labels, minlength=len(rows.classes))
    if rare := int((counts < 2).sum()):
        notes.append(f"{rare} of {len(rows.classes)} classes have fewer than two of the rows drawn and were left out")
    return _enough(_used(drawn.rows(counts[drawn.labels] > 1))), notes


def _used(table: Table) -> Table:
    """Return a table whose classes are those that its rows have."""
    kept, numbers = np.unique(table.labels, return_inverse=True)
    return replace(table, labels=numbers, classes=tuple(table.classes[number] for number in kept))


def _folds(labels: Numbers, choices: InteractionChoices) -> list[Fold]:
    """Return parts that have as much of each class as can be."""
    order = np.random.default_rng([choices.seed, 2]).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    parts = max(2, min(choices.folds, len(labels)))
    fold = np.empty(len(labels), np.int64)
    fold[order] = np.arange(len(labels)) % parts
    return [(np.flatnonzero(fold != number), np.flatnonzero(fold == number)) for number in range(parts)]
