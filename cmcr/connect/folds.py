"""What is known of a connection of few rows: each row is held out by one of a few folds, which train without it."""

from __future__ import annotations

import json
import shutil
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cmcr.connect.fitted import Fitted
from cmcr.connect.split import LEAST, Split, folds
from cmcr.connect.validation import Figures, Known, Validation, untold
from cmcr.files import write_json
from cmcr.hooks import Log, Progress
from cmcr.numbers.ridge import RIDGE
from cmcr.space.run import FOLD_DONE, FOLDS

SHARES = ("overlap_r1", "pseudo_r1", "agreement")
GAPS = ("gap_before", "gap_after", "outer_gap_after")
FIGURES = (*SHARES, *(f"{name}_chance" for name in SHARES), *GAPS, "selection")


Fit = Callable[[Validation, Path, Progress, Log], Fitted]
"""A method: fits on a validation's training rows, with a folder for what a stopped run goes on from."""


def cross_validate(validation: Validation, fit: Fit, folder: Path, progress: Progress) -> Known:
    """Fit a method to each fold and return what they found of their held-out rows, together.

    A fold is trained anew by the same recipe. What a finished one found is kept in ``folder``, so that a stopped run
    does not train it again; the rest of a finished one is removed.
    """
    rows, epochs = len(validation.pairs), validation.config.epochs
    found = []
    for number, part in enumerate(folds(rows, validation.config), 1):

        def told(done: int, total: int, note: str = "", number: int = number) -> None:
            progress(done, total, f"fold {number}: {note}")

        found.append(_fold(validation, fit, part, folder / FOLDS / str(number), told))
    if not found:
        return _nothing(validation, rows, epochs)
    held = [fold["metrics"]["held_out"] for fold in found]
    agreeing = sum(fold["metrics"].get("agreement_rows", 0) for fold in found)
    final = _mean([fold["metrics"] for fold in found], held)
    reason = untold(final.get("agreement_chance", 1.0), agreeing, rows) if validation.config.pairing != "none" else ""
    facts: Figures = {"held_out": sum(held), "folds": len(found)}
    facts |= {"unmeasured": reason} if reason else {"agreement_rows": agreeing} if agreeing else {}

    def judged(figures: Figures) -> Figures:
        if not reason:
            return figures
        return {name: value for name, value in figures.items() if name != "agreement_chance"} | {"agreement": None}

    by_epoch = [judged(_mean(list(records), held)) for records in zip(*(f["history"] for f in found), strict=True)]
    ridges = [fold["metrics"]["ridge"] for fold in found if "ridge" in fold["metrics"]]
    return Known(by_epoch, judged(final), facts, statistics.median(ridges) if ridges else None)


def _fold(validation: Validation, fit: Fit, part: Split, folder: Path, progress: Progress) -> dict[str, Any]:
    """Return the records and the metrics of one fold."""
    path = folder / FOLD_DONE
    if path.exists():
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
        return found
    config = validation.config.replace(batch_size=min(validation.config.batch_size, len(part[0])))
    own = Validation(validation.pairs, validation.sides, config, validation.device, rows=part)
    history: list[Figures] = []
    fitted = fit(own, folder, progress, lambda record, step: history.append(record))
    shutil.rmtree(folder, ignore_errors=True)
    found = {"history": [record for record in history if "epoch" in record], "metrics": fitted.metrics}
    write_json(path, found)
    return found


def _mean(found: list[Figures], rows: list[int]) -> Figures:
    """Return the mean of each figure, each fold's by its rows, over the folds that know it."""
    mean: Figures = {}
    for name in FIGURES:
        known = [(each[name], count) for each, count in zip(found, rows, strict=True) if each.get(name) is not None]
        if known:
            values, weights = zip(*known, strict=True)
            mean[name] = float(np.average(values, weights=weights))
    return mean


def _nothing(validation: Validation, rows: int, epochs: int) -> Known:
    """Return that nothing is known: figures of so few rows are left to chance."""
    names = SHARES if all(side.outer for side in validation.sides) else SHARES[:1]
    unknown: Figures = dict.fromkeys(names)
    reason = (
        f"{rows} overlap rows are too few to hold any out ({LEAST} are wanted): how good the space is, is unknown; "
        "measure it with cmcr eval retrieval on pairs of yours"
    )
    return Known([unknown | {"unmeasured": reason}] * epochs, unknown, {"held_out": 0, "unmeasured": reason}, RIDGE)
