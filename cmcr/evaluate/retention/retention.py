"""Retention: what connecting costs each source space, measured on pairs of its own two modalities.

Protocol: rows of one encoder's two modalities that carry one id belong together. Retrieval, classification and the
geometry of the vectors are measured on the same rows before (the encoder's unit vectors) and after (those vectors
projected into the space). *Kept* is after over before; retrieval and its ties are those of ``paired_retrieval``.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cmcr.ask import Subject
from cmcr.errors import InputError
from cmcr.evaluate.result import Result
from cmcr.evaluate.retention.pairs import Both, SourcePair, space_of
from cmcr.evaluate.retrieval.pairs import CUTS
from cmcr.evaluate.zero_shot.classes import build_classifier, phrases
from cmcr.modality import Modality
from cmcr.numbers import alignment, difference_interval, effective_rank, hubness, uniformity
from cmcr.numbers import retrieval as metrics
from cmcr.numbers.geometry import modality_gap

HUB_K = 10
"""Neighbours counted for hubness, as Radovanovic et al. do."""
ROWS = 5000
"""Rows a modality that uniformity, rank and hubness look at by default; their cost grows with the square."""

Numbers = dict[str, float]


@dataclass(frozen=True)
class Retention(Result):
    """A result whose rows are measures, each before and after; ``n`` counts the pairs of all source spaces."""

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Return columns and rows for a person: a measure a row."""
        columns = ["", "queries", "gallery", "chance", "before", "after", "kept", "difference", "95 % interval"]
        rows = []
        for name, found in self.values.items():
            sizes = [f"{found[key]:.0f}" if key in found else "" for key in ("queries", "gallery")]
            numbers = [f"{found[key]:.3f}" if key in found else "" for key in ("chance", "before", "after")]
            kept = f"{100 * found['kept']:.1f} %" if "kept" in found else ""
            low, high = (found.get(f"difference {end}") for end in ("low", "high"))
            interval = "" if low is None or high is None else f"{low:+.3f} to {high:+.3f}"
            rows.append([name, *sizes, *numbers, kept, f"{found['difference']:+.3f}", interval])
        return columns, rows


def evaluate(
    subject: Subject,
    pairs: Sequence[SourcePair],
    *,
    folder: Path,
    labels: Mapping[str, str] | None = None,
    templates: Sequence[str] = (),
    rows: int = ROWS,
    seed: int = 0,
) -> Retention:
    """Measure what each source space was before, and is after, it was projected.

    Args:
        subject: A connected space.
        pairs: From ``pair_of_memories`` or ``pairs_of_manifest``.
        folder: Keeps the vectors of the prompts.
        labels: Class of each id; classification is left out without them.
        templates: Class vectors are the encoder's texts of these with ``{}`` filled; without any, a class is the mean
            of its rows in the other modality, the query's own partner left out.
        rows: Rows a modality for uniformity, rank and hubness; more are sampled.
        seed: Of that sample.

    Returns:
        By encoder, what was asked and measure: ``before``, ``after``, ``difference``; for shares of right answers also
        ``kept`` (after / before), the difference's 95 % bootstrap interval, ``queries``, ``gallery`` and ``chance``.

    Raises:
        InputError: a bare encoder, no pairs, or labels of which no pair has an id.
    """
    start = time.perf_counter()
    space = space_of(subject)
    if not pairs:
        raise InputError("no pairs to measure retention on; give two modalities of a source encoder")
    values: dict[str, Numbers] = {}
    notes: list[str] = []
    for title, pair in zip(_titles(pairs), pairs, strict=True):
        a, b = pair.modalities
        after = subject.project(pair.raw[0], a, pair.encoder), subject.project(pair.raw[1], b, pair.encoder)
        found = _retrieval(pair, after)
        if labels is not None:
            right, left_out = _classification(subject, pair, after, labels, templates, folder / "prompts")
            found |= right
            notes += [f"{title}: {note}" for note in left_out]
        found |= _geometry(pair, after, rows, seed)
        values |= {f"{title} {name}": numbers for name, numbers in found.items()}
        notes += pair.notes
    if labels is not None and not any("top-1" in name for name in values):
        raise InputError(f"none of the {len(labels)} labels could be used: {'; '.join(notes)}")
    asked = [pair.expected for pair in pairs]
    classes = {"class vectors": "prompts" if templates else "means of the partners' rows", "templates": list(templates)}
    return Retention(
        name="retention",
        values=values,
        n=sum(len(pair.ids) for pair in pairs),
        gallery=max(len(pair.ids) for pair in pairs),
        chance={},
        settings={
            "method": space.method, "ties": "against", "uniformity t": 2, "hubness k": HUB_K,
            "geometry rows": rows, "geometry seed": seed, **(classes if labels is not None else {}),
        },
        fingerprints={"space": space.fingerprint} | {k: v for pair in pairs for k, v in pair.fingerprints.items()},
        notes=tuple(notes),
        seconds=round(time.perf_counter() - start, 3),
        expected=None if None in asked else sum(number for number in asked if number is not None),
        skipped=dict(sum((Counter(pair.skipped) for pair in pairs), Counter[str]())),
    )  # fmt: skip


def _titles(pairs: Sequence[SourcePair]) -> list[str]:
    """Return a name for each pair: its encoder, numbered where one is measured on the same modalities twice."""
    seen: Counter[tuple[str, frozenset[Modality]]] = Counter()
    titles = []
    for pair in pairs:
        key = pair.encoder, frozenset(pair.modalities)
        seen[key] += 1
        titles.append(pair.encoder if seen[key] == 1 else f"{pair.encoder} #{seen[key]}")
    return titles


def _retrieval(pair: SourcePair, after: Both) -> dict[str, Numbers]:
    a, b = pair.modalities
    size = len(pair.ids)
    was, now = (_ranks(both) for both in (pair.raw, after))
    found = {}
    for name in was:
        for k in CUTS:
            before, after_it = (np.mean(ranks[name] <= k, axis=0) for ranks in (was, now))
            chance = metrics.chance_recall(size, k)
            found[f"{name.format(a=a, b=b)} recall@{k}"] = _kept(before, after_it, size, chance)
    return found


def _ranks(both: Both) -> dict[str, np.ndarray]:
    """Return by direction the (directions, N) ranks of the partners."""
    forward, back = metrics.ranks(both[0], both[1]), metrics.ranks(both[1], both[0])
    return {"{a}->{b}": forward[None], "{b}->{a}": back[None], "{a}<->{b}": np.stack([forward, back])}


def _kept(before: np.ndarray, after: np.ndarray, gallery: int, chance: float) -> Numbers:
    """Return the numbers of (N,) shares of right answers before and after; ``kept`` where there was something."""
    was, now = float(np.mean(before)), float(np.mean(after))
    low, high = difference_interval(after, before)
    numbers = _difference(was, now) | {"difference low": low, "difference high": high}
    numbers |= {"queries": len(before), "gallery": gallery, "chance": chance}
    return numbers | ({"kept": now / was} if was else {})


def _difference(before: float, after: float) -> Numbers:
    return {"before": before, "after": after, "difference": after - before}


def _classification(
    subject: Subject, pair: SourcePair, after: Both, labels: Mapping[str, str], templates: Sequence[str], folder: Path
) -> tuple[dict[str, Numbers], list[str]]:
    """Return the accuracies of a pair's modalities, and what was left out."""
    rows = [row for row, name in enumerate(pair.ids) if name in labels]
    left_out = len(pair.ids) - len(rows)
    notes = [f"{left_out} of {len(pair.ids)} rows have no label and were not classified"] if left_out else []
    if not rows:
        return {}, notes
    before, now = (tuple(vectors[rows] for vectors in both) for both in (pair.raw, after))
    own = [labels[pair.ids[row]] for row in rows]
    if not templates:
        found, dropped = _by_partners(pair.modalities, (before[0], before[1]), (now[0], now[1]), own)
        return found, notes + dropped
    if Modality.TEXT not in space_of(subject).encoders[pair.encoder].modalities:
        return {}, [*notes, f"{pair.encoder} has no text in this space, so prompts make no classes for it"]
    names = sorted(set(labels.values()))
    raw, _ = subject.texts(phrases(names, templates), folder, encoder=pair.encoder)
    classes = [
        build_classifier(raw, len(names), project)
        for project in (lambda rows: rows, lambda rows: subject.project(rows, Modality.TEXT, pair.encoder))
    ]
    truth = np.array([names.index(label) for label in own])
    found = {}
    for number, modality in enumerate(pair.modalities):
        if modality is not Modality.TEXT:
            hits = [
                metrics.ranks(vectors[number], known, truth) <= 1
                for vectors, known in zip((before, now), classes, strict=True)
            ]
            found[f"{modality} zero-shot top-1"] = _kept(hits[0], hits[1], len(names), 1 / len(names))
    return found, notes


def _by_partners(
    modalities: tuple[Modality, Modality], before: Both, after: Both, labels: Sequence[str]
) -> tuple[dict[str, Numbers], list[str]]:
    counts = Counter(labels)
    kept = [row for row, label in enumerate(labels) if counts[label] > 1]
    alone = len(labels) - len(kept)
    notes = [f"{alone} rows are alone in their class, which then has no mean, and were not classified"] if alone else []
    names, truth = np.unique(np.array(labels)[kept], return_inverse=True)
    found: dict[str, Numbers] = {}
    for asked, other in ((0, 1), (1, 0)) if len(names) else ():
        hits = [_nearest_mean(vectors[asked][kept], vectors[other][kept], truth) for vectors in (before, after)]
        title = f"{modalities[asked]} by class means of {modalities[other]} top-1"
        found[title] = _kept(hits[0], hits[1], len(names), 1 / len(names))
    return found, notes


def _nearest_mean(queries: np.ndarray, partners: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Tell of each query whether the class mean nearest to it, its own partner left out, is its class's."""
    sums = np.zeros((int(truth.max()) + 1, partners.shape[1]))
    np.add.at(sums, truth, partners)
    scores = metrics.cosine(queries, _unit(sums))
    own = (queries * _unit(sums[truth] - partners)).sum(axis=1)
    scores[np.arange(len(queries)), truth] = own
    return np.asarray(metrics.ranks_from_scores(scores, truth) <= 1)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12))


def _geometry(pair: SourcePair, after: Both, rows: int, seed: int) -> dict[str, Numbers]:
    size = len(pair.ids)
    shown = np.sort(np.random.default_rng(seed).choice(size, rows, replace=False)) if size > rows else np.arange(size)
    was, now = (_shape((one[shown], other[shown]), pair.modalities) for one, other in (pair.raw, after))
    return {name: _difference(was[name], now[name]) for name in was}


def _shape(both: Both, modalities: tuple[Modality, Modality]) -> Numbers:
    """Return how the vectors of two modalities lie; what so few rows cannot tell is left out."""
    (one, other), (a, b) = both, modalities
    found = {f"{a}|{b} modality gap": modality_gap(one, other), f"{a}|{b} alignment": alignment(one, other)}
    if len(one) <= HUB_K + 1:
        return found
    for name, queries, vectors in ((f"{a}", None, one), (f"{b}", None, other), (f"{a}->{b}", one, other),
                                   (f"{b}->{a}", other, one)):  # fmt: skip
        if queries is None:
            found |= {f"{name} uniformity": uniformity(vectors), f"{name} effective rank": effective_rank(vectors)}
        hubs = hubness(vectors, queries, HUB_K)
        found |= {f"{name} hubness": hubs.skewness, f"{name} anti-hubs": hubs.anti_hubs}
    return found
