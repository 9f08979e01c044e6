"""``cmcr classify fit`` without the command line: learn, measure on rows held out, and set baselines beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cmcr.classify.methods import fit_baselines
from cmcr.classify.model import Classifier
from cmcr.classify.settings import ClassifySettings
from cmcr.classify.splits import split_rows
from cmcr.classify.table import Table
from cmcr.errors import InputError
from cmcr.numbers.classification import accuracy, expected_calibration_error


@dataclass(frozen=True)
class Trained:
    """A classifier, what it and the baselines reach on the same held-out rows, and what a user must know.

    Attributes:
        classifier: Fitted to the training rows alone.
        measured: By method, MLA first: accuracy and ECE.
        notes: Rows and labels that were left out.
    """

    classifier: Classifier
    measured: Mapping[str, Mapping[str, float]]
    notes: tuple[str, ...]


def fit(table: Table, settings: ClassifySettings, listed: Mapping[str, str] | None = None) -> Trained:
    """Fit MLA, and everything it is set beside, to the training rows, and measure all on the others.

    Args:
        table: Rows with labels.
        settings: Of MLA; the baselines share what they have in common with it.
        listed: The split of each id; None: a quarter of each class is held out.

    Raises:
        InputError: as ``split_rows``; or no training row has one of the modalities.
    """
    train, test = split_rows(table, listed, settings.seed)
    if (empty := np.flatnonzero(~train.present.any(axis=0))).size:
        raise InputError(
            f"no training row has {train.channels[empty[0]].name}; leave it out, or label rows that have it"
        )
    classifier = Classifier.fit(train, settings)
    methods = {"MLA": classifier.mla} | fit_baselines(train, settings)
    measured = {}
    for name, method in methods.items():
        said = method.probabilities(test).numpy()
        measured[name] = {
            "accuracy": accuracy(said, test.labels),
            "ECE": expected_calibration_error(said, test.labels),
        }
    classifier.metrics = {"rows": len(train), "held out": len(test), **measured}
    return Trained(classifier, measured, notes_of(table))


def notes_of(table: Table) -> tuple[str, ...]:
    """Return what a reader must know of a table: labels without rows, rows without labels, and what rows lack."""
    known = table.rows(table.labels >= 0)
    lacking = (~known.present).sum(axis=0)
    notes = [
        f"{table.unknown} labels are of ids that no memory holds" if table.unknown else "",
        f"{len(table) - len(known)} of {len(table)} rows have no label and were left out",
        *(
            f"{count} of {len(known)} labelled rows lack {channel.name}"
            for count, channel in zip(lacking.tolist(), table.channels, strict=True)
            if count
        ),
    ]
    return tuple(note for note in notes if note and not note.startswith("0 "))
