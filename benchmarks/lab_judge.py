"""Which recipe is better? Paired differences with intervals, regrets, and choices that never see the judged bed."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

MEASURES = ("R@1", "R@10", "AUC")
"""What is judged; a recipe must hold in each."""

Means = dict[str, dict[str, float]]
"""By recipe and measure, percent."""


@dataclass(frozen=True)
class Judged:
    """Every recipe on one bed.

    ``figures`` holds, by recipe and measure, (N,) percentages: of each pair, seeds and directions averaged; ``runs``
    the results themselves, one a seed; ``stale`` how many of them were measured by other code; ``rows`` what the
    memories held, in words.
    """

    name: str
    family: str
    sizes: np.ndarray
    figures: dict[str, dict[str, np.ndarray]]
    runs: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    stale: int = 0
    rows: str = ""

    @property
    def derived(self) -> bool:
        """Whether it was made of another bed's rows."""
        return self.name != self.family

    def means(self) -> Means:
        """Return the means over the pairs."""
        return {name: {measure: float(x.mean()) for measure, x in each.items()} for name, each in self.figures.items()}


@dataclass(frozen=True)
class Difference:
    """A recipe minus the best baseline, in points, with the 95 % interval over pairs drawn anew."""

    baseline: str
    mean: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """``win`` or ``loss`` where the interval leaves 0 out, else ``tie``."""
        return "win" if self.low > 0 else "loss" if self.high < 0 else "tie"


@functools.lru_cache(maxsize=8)
def redrawn(pairs: int, seed: int, samples: int = 1000) -> np.ndarray:
    """Return (samples, pairs) shares of each pair in samples of as many pairs, drawn with replacement."""
    drawn = np.random.default_rng(seed).multinomial(pairs, np.full(pairs, 1 / pairs), size=samples)
    return drawn / pairs


def difference(bed: Judged, recipe: str, against: Sequence[str], measure: str, seed: int = 0) -> Difference:
    """Compare a recipe, pair by pair, with that baseline which is best of the bed in this measure."""
    means = bed.means()
    best = max(against, key=lambda name: means[name][measure])
    each = bed.figures[recipe][measure] - bed.figures[best][measure]
    # Rounded: what cancels but for the last bit is no win.
    low, high = np.quantile(redrawn(len(each), seed) @ each, [0.025, 0.975]).round(9)
    return Difference(best, float(each.mean()), float(low), float(high))


def regrets(means: Means) -> dict[str, float]:
    """Return what each recipe loses against the best of a bed, from 0 to 1: the mean over R@1, R@10 and AUC.

    Of a recall it is 1 - recall / best recall; of AUC, whose error counts, 1 - least error / error.
    """
    lost = {name: [] for name in means}
    for measure in MEASURES:
        for name, value in means.items():
            top = max(each[measure] for each in means.values())
            small, large = (100 - top, 100 - value[measure]) if measure == "AUC" else (value[measure], top)
            lost[name].append(1 - small / large if large > 0 else 0.0)
    return {name: float(np.mean(values)) for name, values in lost.items()}


@dataclass(frozen=True)
class Fold:
    """A family of beds left out, what was chosen on the others, and what it loses on each bed of the family."""

    family: str
    choice: str
    expected: float
    lost: dict[str, dict[str, float]]
    """By bed: ``regret``, and points of each measure below the best recipe there."""


def over_families(beds: Sequence[Judged], values: Sequence[float]) -> float:
    """Return the mean over families of the mean over the beds of each: what was made of a bed counts with it."""
    families: dict[str, list[float]] = {}
    for bed, value in zip(beds, values, strict=True):
        families.setdefault(bed.family, []).append(value)
    return float(np.mean([np.mean(each) for each in families.values()]))


def average(beds: Sequence[Judged], recipes: Sequence[str]) -> dict[str, float]:
    """Return each recipe's regret over beds."""
    means = [bed.means() for bed in beds]
    each = [regrets({name: known[name] for name in recipes}) for known in means]
    return {name: over_families(beds, [found[name] for found in each]) for name in recipes}


def leave_one_out(beds: Sequence[Judged], recipes: Sequence[str]) -> list[Fold]:
    """Choose among the recipes by mean regret without a family of beds, and judge the choice on it; for each family.

    A bed leaves with all that was made of its rows. Of equal recipes the first is taken. One family alone gives
    nothing to choose by, and no fold.
    """
    folds = []
    families = list(dict.fromkeys(bed.family for bed in beds))
    for family in families if len(families) > 1 else ():
        seen = average([bed for bed in beds if bed.family != family], recipes)
        choice = min(recipes, key=lambda name: seen[name])
        lost = {bed.name: lost_with(bed, choice, recipes) for bed in beds if bed.family == family}
        folds.append(Fold(family, choice, seen[choice], lost))
    return folds


def lost_with(bed: Judged, choice: str, recipes: Sequence[str]) -> dict[str, float]:
    """Return a recipe's regret among the recipes of a bed, and points of each measure below the best there."""
    means = {name: each for name, each in bed.means().items() if name in recipes}
    points = {m: max(each[m] for each in means.values()) - means[choice][m] for m in MEASURES}
    return {"regret": regrets(means)[choice], **points}


def lost_by(bed: Judged, criterion: str, recipes: Sequence[str]) -> dict[str, float] | None:
    """Return what is lost, as ``lost_with`` tells it, where a number that ``connect`` finds without pairs chooses.

    In each seed that recipe is taken whose space has the largest number; what is lost is the mean over the seeds. None
    where fewer than two recipes have the number.
    """
    known = {name: [run.get("metrics", {}).get(criterion, np.nan) for run in bed.runs[name]] for name in recipes}
    known = {name: values for name, values in known.items() if not np.isnan(values).any()}
    if len(known) < 2:
        return None
    chosen = [max(known, key=lambda name: known[name][seed]) for seed in range(len(next(iter(known.values()))))]
    lost = [lost_with(bed, choice, recipes) for choice in chosen]
    return {key: float(np.mean([each[key] for each in lost])) for key in lost[0]}
