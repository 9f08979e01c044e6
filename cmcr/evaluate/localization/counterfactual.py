"""Counterfactual recognition: is what sounds in the picture at all, and where? Extended VGG-SS and Extended Flickr.

Protocol (SLAVC, Mo and Morgado, 2022): the ordinary test set and as many pairs in which nothing in the picture sounds.
Each pair gets an answer as in localisation and a confidence; AP, max-F1 and LocAcc weigh both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cmcr.ask import Subject
from cmcr.errors import InputError
from cmcr.evaluate.localization.locate import Choices, Located, Outcome, locate
from cmcr.hooks import Progress, silent
from cmcr.numbers import bootstrap
from cmcr.numbers import localization as measured

if TYPE_CHECKING:
    from cmcr.datasets.clips import Clips

DRAWS = 200
"""Guesses that a level of chance is averaged over."""
RECALL_NOTE = (
    "by the published definitions an object found in the wrong place is a false positive but no false negative, so "
    "what recall divides by changes with the threshold"
)

Measure = Callable[[np.ndarray, np.ndarray, np.ndarray], float]
"""Takes (N,) confidences, whether an object sounds, and cIoU."""

_MEASURES: dict[str, Measure] = {
    "AP": measured.published_precision,
    "AP every step": measured.average_precision,
    "max-F1": measured.greatest_f1,
    "LocAcc": lambda confidence, present, cious: measured.location_accuracy(cious, present),
}


def evaluate(
    subject: Subject,
    clips: Clips,
    choices: Choices,
    *,
    folder: Path,
    progress: Progress = silent,
) -> Outcome:
    """Find the source in each pair, where there is one, and say how sure it is that there is.

    Args:
        subject: Embeds pictures and sounds into one space.
        clips: The pairs of an extended list.
        choices: What the protocol leaves open; SLAVC's confidence is ``top-quarter``.
        folder: Keeps the memories; localisation's serves as well.
        progress: Told after every batch.

    Returns:
        AP as published, AP over every step, max-F1 and LocAcc: of the answers, with 95 % bootstrap intervals; of the
        same answers with confidences drawn at random; and of the best proposals with confidences that know. Chance is
        the mean over ``DRAWS`` guesses (seed 0) of random answers with random confidences.

    Raises:
        InputError: every pair sounds, none can be used, or the subject lacks pictures or sounds.
    """
    if all(clip.sounding for clip in clips.clips):
        raise InputError(
            f"{clips.name}: every row sounds; expected a list that has non-sounding ones (*_test_plus_silent.csv)"
        )
    found = locate(subject, clips, choices, folder, progress)
    located = found.located
    sure, present, cious = table_of(located)
    if present.all() or not present.any():
        kind = "a" if not present.any() else "no"
        raise InputError(f"no pair with {kind} sounding object can be used: {found.reasons}")
    best = np.array([each.cious.max() for each in located])
    values = {
        found.row: measures(sure, present, cious) | _intervals(sure, present, cious),
        "its answers, confidence at random": _guessed(located, lambda each, rng: each.ciou),
        "oracle: best proposal, confidence knows": measures(np.where(present, best, -1.0), present, best),
    }
    chance = _guessed(located, lambda each, rng: float(each.guesses[rng.integers(len(each.guesses))]))
    counts = f"{np.count_nonzero(present)} pairs with an object that sounds, {np.count_nonzero(~present)} without"
    own: dict[str, Any] = {"confidence": choices.confidence, "draws of chance": DRAWS}
    return found.outcome("counterfactual", values, chance, [counts, RECALL_NOTE], **own)


def table_of(located: Sequence[Located]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (N,) confidences, (N,) whether something in the picture sounds, and (N,) cIoU."""
    return (
        np.array([each.confidence for each in located]),
        np.array([each.clip.sounding for each in located]),
        np.array([each.ciou for each in located]),
    )


def measures(confidence: np.ndarray, present: np.ndarray, cious: np.ndarray) -> dict[str, float]:
    """Return the numbers of (N,) pairs."""
    return {name: function(confidence, present, cious) for name, function in _MEASURES.items()}


def _intervals(confidence: np.ndarray, present: np.ndarray, cious: np.ndarray) -> dict[str, float]:
    """Return 95 % bootstrap intervals; LocAcc's over the pairs with an object alone."""
    numbers: dict[str, float] = {}
    for name, function in _MEASURES.items():
        among = np.flatnonzero(present) if name == "LocAcc" else np.arange(len(present))

        def redrawn(rows: np.ndarray, function: Measure = function) -> float:
            drawn = rows.astype(np.int64)
            return function(confidence[drawn], present[drawn], cious[drawn])

        numbers[f"{name} low"], numbers[f"{name} high"] = bootstrap(among, redrawn)
    return numbers


def _guessed(located: Sequence[Located], answer: Callable[[Located, np.random.Generator], float]) -> dict[str, float]:
    """Return the mean numbers of random confidences with some answers."""
    rng = np.random.default_rng(0)
    present = np.array([each.clip.sounding for each in located])
    draws = []
    for _ in range(DRAWS):
        cious = np.array([answer(each, rng) for each in located])
        draws.append(measures(rng.random(len(located)), present, cious))
    return {name: float(np.mean([draw[name] for draw in draws])) for name in _MEASURES}
