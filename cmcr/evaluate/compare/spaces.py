"""Compare spaces on the spot: retrieval over one set of pairs in each, and paired tests on the same queries."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from cmcr.errors import InputError, nearest
from cmcr.evaluate.compare.results import SUBJECT, Comparison, PairedTest, columns, repeated
from cmcr.evaluate.retrieval.pairs import CUTS, evaluate_memories
from cmcr.memory import Memory
from cmcr.modality import Modality
from cmcr.numbers import difference_interval, holm, mcnemar, permutation_test
from cmcr.space import ConnectedSpace

TESTED = (*(f"recall@{k}" for k in CUTS), "mAP")
SEEDS = ("seed",)
"""Settings of a recipe that make another run of the same recipe."""

Side = tuple[Memory, Modality]


def compare_spaces(
    spaces: Sequence[tuple[str | None, Path]],
    first: Side,
    second: Side,
    *,
    measure: str = "recall@1",
    samples: int = 10_000,
    seed: int = 0,
) -> Comparison:
    """Measure retrieval over pairs in several spaces, and test every two groups on the same queries.

    Args:
        spaces: Group (None: the method, with the settings in which recipes of that method differ) and folder.
        first: Memory and modality of one side of the pairs.
        second: Of the other; rows with one id belong together.
        measure: What is tested: recall@1, recall@5, recall@10 or mAP.
        samples: Exchanges drawn by a permutation test.
        seed: Of these and of the bootstrap.

    Raises:
        InputError: fewer than two spaces, an unknown measure, or no id in both memories.
        ArtifactError: a memory belongs to none of a space's encoders.
    """
    if len({path for _, path in spaces}) < 2:
        raise InputError(f"{len(spaces)} spaces; expected two or more to compare")
    if measure not in TESTED:
        raise InputError(f"measure {measure!r}; expected {', '.join(TESTED)}{nearest(measure, TESTED)}")
    opened = {str(path): ConnectedSpace.from_pretrained(path) for _, path in spaces}
    groups: dict[str, list[str]] = {}
    for (name, path), title in zip(spaces, _recipes([opened[str(path)] for _, path in spaces]), strict=True):
        members = groups.setdefault(name or title, [])
        members += [] if str(path) in members else [str(path)]
    (memory_a, a), (memory_b, b) = first, second
    found = {path: evaluate_memories(space, memory_a, a, memory_b, b) for path, space in opened.items()}
    one = next(iter(found.values())).result
    values = {
        asked: {group: columns([found[path].result.values[asked] for path in paths]) for group, paths in groups.items()}
        for asked in one.values
    }
    marks = {path: measured.result.to_json() for path, measured in found.items()}
    ranks = {asked: {path: measured.ranks[asked] for path, measured in found.items()} for asked in one.values}
    data = {name: mark for name, mark in one.fingerprints.items() if name not in SUBJECT}
    return Comparison(
        benchmark=one.name,
        groups=groups,
        values=values,
        n=one.n,
        gallery=one.gallery,
        chance=one.chances,
        differs=tuple(repeated(marks, groups)),
        tests=tuple(_tests(ranks, groups, measure, samples, seed)),
        settings={"tested": measure, "samples": samples, "seed": seed, "ties": "against"},
        fingerprints=data | {path: space.fingerprint for path, space in opened.items()},
        notes=one.notes,
    )


def _recipes(spaces: Sequence[ConnectedSpace]) -> list[str]:
    """Return each space's method, with the settings in which the recipes of that method differ, seeds apart."""
    titles = []
    for space in spaces:
        alike = [other.recipe for other in spaces if other.method == space.method]
        names = sorted({name for recipe in alike for name in recipe} - {*SEEDS, "method"})
        differ = [n for n in names if len({json.dumps(r.get(n), default=str) for r in alike}) > 1]
        titles.append(" ".join([space.method, *(f"{name}={space.recipe.get(name)}" for name in differ)]))
    return titles


def _tests(
    ranks: Mapping[str, Mapping[str, np.ndarray]],
    groups: Mapping[str, Sequence[str]],
    measure: str,
    samples: int,
    seed: int,
) -> list[PairedTest]:
    found = []
    for asked, of in ranks.items():
        scores = {
            group: np.mean([_score(of[path], measure) for path in paths], axis=0) for group, paths in groups.items()
        }
        for one, other in itertools.combinations(groups, 2):
            x, y = scores[one], scores[other]
            exact = measure != "mAP" and len(groups[one]) == len(groups[other]) == 1
            p = mcnemar(x > 0, y > 0) if exact else permutation_test(x, y, samples, seed)
            low, high = difference_interval(x, y, seed=seed)
            kind = "McNemar, exact" if exact else "permutation"
            wins, losses = int((x > y).sum()), int((y > x).sum())
            found.append((asked, one, other, float(np.mean(x - y)), low, high, wins, losses, kind, p))
    adjusted = holm([row[-1] for row in found])
    return [PairedTest(*row, p_holm) for row, p_holm in zip(found, adjusted, strict=True)]


def _score(ranks: np.ndarray, measure: str) -> np.ndarray:
    """Return what each query adds to a measure: 1 / rank, or whether it hits."""
    if measure == "mAP":
        return np.asarray(1 / ranks)
    return np.asarray(ranks <= int(measure.removeprefix("recall@")), np.float64)
