"""Retrieval over pairs: rows of two memories with one id belong together, and each is asked for the other.

Protocol: the gallery holds the other row of every pair and nothing else; cosine in the connected space; recall@k is the
share of queries whose own row is among the first k, ties counted against it.
"""

from __future__ import annotations

import time

import numpy as np

from cmcr import metrics
from cmcr.benchmarks import Result
from cmcr.errors import InputError
from cmcr.memory import Memory
from cmcr.modality import Modality
from cmcr.space import ConnectedSpace

CUTS = (1, 5, 10)


def evaluate(
    space: ConnectedSpace, memory_a: Memory, modality_a: Modality, memory_b: Memory, modality_b: Modality
) -> Result:
    """Ask each modality for the other, over the rows whose ids both memories hold.

    Returns:
        For both directions recall@1/5/10 with the 95 % bootstrap interval of recall@1, median rank and mAP (with one
        relevant row a query, the mean reciprocal rank).

    Raises:
        InputError: no id is in both, or a memory lacks the modality.
        ArtifactError: a memory belongs to another encoder than the space.
    """
    start = time.perf_counter()
    first, second = space.project(memory_a, modality=modality_a), space.project(memory_b, modality=modality_b)
    ids_a, ids_b = memory_a.ids(modality_a), memory_b.ids(modality_b)
    rows_a, rows_b = _join(ids_a, ids_b)
    if not len(rows_a):
        raise InputError(
            f"no id is in both {memory_a.path} ({modality_a}: {ids_a[0]!r}, ...) and {memory_b.path} "
            f"({modality_b}: {ids_b[0]!r}, ...); pairs are joined by id"
        )
    first, second = first[rows_a], second[rows_b]
    names = _names(memory_a, modality_a, memory_b, modality_b)
    values = {
        f"{names[0]}->{names[1]}": measures(metrics.ranks(first, second)),
        f"{names[1]}->{names[0]}": measures(metrics.ranks(second, first)),
    }
    pairs = len(rows_a)
    return Result(
        name="paired-retrieval",
        values=values,
        n=pairs,
        gallery=pairs,
        chance=chance(pairs),
        settings={"method": space.method, "ties": "against", "recall": "hit rate per query, one relevant"},
        fingerprints={
            "space": space.fingerprint,
            names[0]: memory_a.fingerprint(modality_a),
            names[1]: memory_b.fingerprint(modality_b),
        },
        notes=_notes((names[0], len(ids_a)), (names[1], len(ids_b)), pairs),
        seconds=round(time.perf_counter() - start, 3),
    )


def measures(ranks: metrics.Rows) -> dict[str, float]:
    """Return the numbers of one direction from the (Q,) ranks of the right rows."""
    low, high = metrics.bootstrap(ranks <= 1)
    recalls = {f"recall@{k}": metrics.recall_at(ranks, k) for k in CUTS}
    ordering = {"median rank": metrics.median_rank(ranks), "mAP": float(np.mean(1 / ranks))}
    return recalls | ordering | {"recall@1 low": low, "recall@1 high": high}


def chance(gallery: int) -> dict[str, float]:
    """Return what guessing scores in a gallery of this size."""
    recalls = {f"recall@{k}": metrics.chance_recall(gallery, k) for k in CUTS}
    return recalls | {"median rank": (gallery + 1) / 2, "mAP": float(np.mean(1 / np.arange(1, gallery + 1)))}


def _join(ids_a: list[str], ids_b: list[str]) -> tuple[metrics.Rows, metrics.Rows]:
    where = {name: row for row, name in enumerate(ids_b)}
    pairs = [(row, where[name]) for row, name in enumerate(ids_a) if name in where]
    both = np.array(pairs, np.int64).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def _names(memory_a: Memory, modality_a: Modality, memory_b: Memory, modality_b: Modality) -> tuple[str, str]:
    if modality_a is not modality_b:
        return modality_a.value, modality_b.value
    return f"{memory_a.encoder.name} {modality_a}", f"{memory_b.encoder.name} {modality_b}"


def _notes(first: tuple[str, int], second: tuple[str, int], pairs: int) -> tuple[str, ...]:
    return tuple(
        f"{rows - pairs} of {rows} {name} rows have no partner and were left out"
        for name, rows in (first, second)
        if rows > pairs
    )
