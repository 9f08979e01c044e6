"""Retrieval over pairs: two things with one id belong together, and each is asked for the other.

Protocol: the gallery holds the other side of every pair and nothing else; cosine in the connected space; recall@k is
the share of queries with a right answer among the first k, ties counted against it. Where an item has several captions,
any of them in the first k answers it, and each of them is a query of its own for the item, as is usual on COCO,
Flickr30K, AudioCaps and Clotho.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from cmcr.ask import Subject
from cmcr.ask.gallery import partly_seen
from cmcr.errors import InputError
from cmcr.evaluate.result import Result
from cmcr.items import Item, join_ids, what_differs
from cmcr.memory import Memory, Row, translation_notes
from cmcr.modality import Modality
from cmcr.numbers import retrieval as metrics
from cmcr.space import ConnectedSpace

CUTS = (1, 5, 10)
_CHUNK = 1024


@dataclass(frozen=True)
class PairedSide:
    """One side of N pairs.

    Attributes:
        name: What it is called in a result, e.g. ``audio``.
        modality: What it is.
        owners: (G,) the pair, 0 to N - 1, that each row belongs to; a pair with several captions has several rows.
        vectors: (G, dim) unit vectors in the space.
        shown: What each row was made from.
        memory: Where rows come from that are no items.
    """

    name: str
    modality: Modality
    owners: metrics.Rows
    vectors: metrics.Array
    shown: Sequence[Item | Row]
    memory: Memory | None = None


@dataclass(frozen=True)
class PairedResult(Result):
    """A result whose two directions may differ in queries, gallery and chance; ``chance`` is that of the first.

    Attributes:
        sizes: Of each direction, its queries and its gallery.
        chances: Of each direction, what guessing scores in it.
    """

    sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    chances: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Return columns and rows for a person; chance has a row for each direction where the two differ."""
        columns, rows = super().table()
        if not self._chances_differ:
            return columns, rows
        asked = [self._row(name, name, self.values[name], columns) for name in self.values]
        return columns, asked + [self._row(f"chance of {n}", n, self.chances[n], columns) for n in self.chances]

    def guesses(self) -> Mapping[str, Mapping[str, float]]:
        """Return what guessing scores, in each direction where the two differ."""
        return {f"chance of {n}": c for n, c in self.chances.items()} if self._chances_differ else super().guesses()

    @property
    def _chances_differ(self) -> bool:
        return len({tuple(chance.values()) for chance in self.chances.values()}) > 1

    def _row(self, title: str, direction: str, numbers: Mapping[str, float], columns: Sequence[str]) -> list[str]:
        queries, gallery = self.sizes[direction]
        one = Result("", {title: numbers}, queries, gallery, {name: numbers[name] for name in columns[3:]})
        return one.table()[1][0]


@dataclass(frozen=True)
class Paired:
    """A result, and what a page shows of it.

    Attributes:
        result: The numbers.
        ids: Of the N pairs.
        sides: The two.
        ranks: Of each direction, the rank of the first right answer to each query.
        missing: (id, reason) of the pairs that the data set lists and the result lacks.
    """

    result: PairedResult
    ids: Sequence[str]
    sides: tuple[PairedSide, PairedSide]
    ranks: Mapping[str, metrics.Rows]
    missing: Sequence[tuple[str, str]] = ()

    def directions(self) -> dict[str, tuple[PairedSide, PairedSide]]:
        """Return the queries and the gallery of each direction."""
        first, second = self.sides
        return {f"{first.name}->{second.name}": (first, second), f"{second.name}->{first.name}": (second, first)}


def evaluate(
    space: ConnectedSpace | Subject, memory_a: Memory, modality_a: Modality, memory_b: Memory, modality_b: Modality
) -> Result:
    """Ask each modality for the other, over the rows whose ids both memories hold; see ``evaluate_memories``."""
    return evaluate_memories(space, memory_a, modality_a, memory_b, modality_b).result


def evaluate_memories(
    space: ConnectedSpace | Subject, memory_a: Memory, modality_a: Modality, memory_b: Memory, modality_b: Modality
) -> Paired:
    """Ask each modality for the other, over the rows whose ids both memories hold.

    Args:
        space: Where both lie; or a subject, which may be a bare encoder.
        memory_a: The first memory; ids that differ only in Unicode form or in blanks around them are joined, too.
        modality_a: What is asked of it.
        memory_b: The second.
        modality_b: What is asked of that.

    Returns:
        For both directions recall@1/5/10 with the 95 % bootstrap interval of recall@1, median rank and mAP (with one
        relevant row a query, the mean reciprocal rank).

    Raises:
        InputError: no id is in both, or a memory lacks the modality.
        ArtifactError: a memory belongs to another encoder than the space, or than the bare encoder.
    """
    start = time.perf_counter()
    subject = space if isinstance(space, Subject) else Subject("space", space)
    subject.check_shares(((memory_a, modality_a), (memory_b, modality_b)))
    first, second = subject.project_memory(memory_a, modality_a), subject.project_memory(memory_b, modality_b)
    ids_a, ids_b = memory_a.ids(modality_a), memory_b.ids(modality_b)
    joined = join_ids(ids_a, ids_b, (str(memory_a.path), str(memory_b.path)))
    rows_a, rows_b = (np.array(rows, np.int64) for rows in joined)
    pairs = len(rows_a)
    if not pairs:
        raise InputError(
            f"no id is in both {memory_a.path} ({modality_a}: {ids_a[0]!r}, ...) and {memory_b.path} "
            f"({modality_b}: {ids_b[0]!r}, ...); pairs are joined by id{what_differs(ids_a, ids_b)}"
        )
    ids, partners = [ids_a[row] for row in rows_a], [ids_b[row] for row in rows_b]
    names = _names(memory_a, modality_a, memory_b, modality_b)
    sides = (
        _memory_side(names[0], memory_a, modality_a, first, rows_a),
        _memory_side(names[1], memory_b, modality_b, second, rows_b),
    )
    fingerprints = {
        "space": subject.fingerprint,
        names[0]: memory_a.fingerprint(modality_a),
        names[1]: memory_b.fingerprint(modality_b),
    }
    return measured(
        sides,
        ids,
        settings={"method": subject.method} | subject.told_shares(),
        fingerprints=fingerprints,
        notes=(
            *partly_seen(memory_a),
            *partly_seen(memory_b),
            *dict.fromkeys(translation_notes(memory_a, memory_b)),
            *_notes((names[0], len(ids_a)), (names[1], len(ids_b)), pairs),
            *_loosely_joined(ids, partners),
        ),
        start=start,
    )


def measured(
    sides: tuple[PairedSide, PairedSide],
    ids: Sequence[str],
    *,
    settings: Mapping[str, object],
    fingerprints: Mapping[str, str],
    notes: Sequence[str] = (),
    start: float,
    expected: int | None = None,
    missing: Sequence[tuple[str, str]] = (),
    skipped: Mapping[str, int] | None = None,
) -> Paired:
    """Rank both sides for each other.

    Args:
        sides: The two, whose owners are 0 to N - 1.
        ids: Of the N pairs.
        settings: What was chosen before it came to this.
        fingerprints: Of the space and the memories.
        notes: What a reader must know.
        start: ``time.perf_counter()`` when the work began.
        expected: Pairs that the protocol asks for.
        missing: (id, reason) of the pairs that are not here.
        skipped: Those reasons with their counts.
    """
    several = any(len(side.owners) > len(ids) for side in sides)
    ranks, values, sizes, chances = {}, {}, {}, {}
    for queries, gallery in (sides, sides[::-1]):
        name = f"{queries.name}->{gallery.name}"
        ranks[name] = rank_owners(queries, gallery)
        relevant = np.bincount(gallery.owners, minlength=len(ids))[queries.owners]
        values[name] = measures(ranks[name], queries.owners)
        if several:
            values[name]["mAP"] = metrics.mean_average_precision(
                queries.vectors, gallery.vectors, queries.owners, gallery.owners
            )
        sizes[name] = len(queries.owners), len(gallery.owners)
        chances[name] = chance(len(gallery.owners), relevant)
    recall = "hit rate per query, " + ("any caption of the item" if several else "one relevant")
    result = PairedResult(
        name="paired-retrieval",
        values=values,
        n=len(ids),
        gallery=len(ids),
        chance=next(iter(chances.values())),
        settings={**settings, "ties": "against", "recall": recall},
        fingerprints=fingerprints,
        notes=tuple(notes),
        seconds=round(time.perf_counter() - start, 3),
        expected=expected,
        skipped=skipped or {},
        sizes=sizes,
        chances=chances,
    )
    return Paired(result, ids, sides, ranks, missing)


def rank_owners(queries: PairedSide, gallery: PairedSide) -> metrics.Rows:
    """Return the (Q,) ranks, from 1, of the best row of the gallery that belongs to the query's pair.

    It is one more than the number of rows of *other* pairs that score at least as high.
    """
    parts = [np.zeros(0, np.int64)]
    for start in range(0, len(queries.owners), _CHUNK):
        scores = metrics.cosine(queries.vectors[start : start + _CHUNK], gallery.vectors)
        own = queries.owners[start : start + _CHUNK, None] == gallery.owners
        best = np.where(own, scores, -np.inf).max(axis=1, keepdims=True)
        parts.append(1 + (~(scores < best) & ~own).sum(axis=1))
    return np.concatenate(parts)


def measures(ranks: metrics.Rows, owners: metrics.Rows | None = None) -> dict[str, float]:
    """Return the numbers of one direction.

    Args:
        ranks: (Q,) ranks of the right answers.
        owners: (Q,) the pair of each query. The interval is drawn over pairs, for captions of one are no independent
            queries; None: each query is a pair.
    """
    hits = ranks <= 1
    pairs = np.arange(len(ranks)) if owners is None else owners
    table = np.stack([np.bincount(pairs, hits), np.bincount(pairs)], axis=1)
    low, high = metrics.bootstrap(table, lambda drawn: float(drawn[:, 0].sum() / drawn[:, 1].sum()))
    recalls = {f"recall@{k}": metrics.recall_at(ranks, k) for k in CUTS}
    ordering = {"median rank": metrics.median_rank(ranks), "mAP": float(np.mean(1 / ranks))}
    return recalls | ordering | {"recall@1 low": low, "recall@1 high": high}


def chance(gallery: int, relevant: np.ndarray | int = 1) -> dict[str, float]:
    """Return what guessing scores in a gallery of this size.

    Args:
        gallery: Candidates.
        relevant: (Q,) right answers that each query has among them.
    """
    counts, shares = np.unique(np.atleast_1d(relevant), return_counts=True)
    missed = np.average([_missed(gallery, int(count)) for count in counts], axis=0, weights=shares)
    found = 1 - missed
    # Halfway between the ranks that half the guesses reach and pass; with one right answer (gallery + 1) / 2.
    median = (np.argmax(found >= 0.5 - 1e-9) + np.argmax(found > 0.5 + 1e-9)) / 2
    precision = np.average([_chance_precision(gallery, int(count)) for count in counts], weights=shares)
    recalls = {f"recall@{k}": float(found[min(k, gallery)]) for k in CUTS}
    return recalls | {"median rank": float(median), "mAP": float(precision)}


def _missed(gallery: int, relevant: int) -> np.ndarray:
    """Return for k = 0 ... gallery the probability that none of the relevant is among the first k of a random order."""
    k, before = np.arange(gallery + 1)[:, None], np.arange(relevant)
    return np.asarray(np.prod(np.maximum(gallery - k - before, 0) / (gallery - before), axis=1))


def _chance_precision(gallery: int, relevant: int) -> float:
    """Return the expected average precision of a random order: relevant at k, the others spread evenly before it."""
    k = np.arange(1, gallery + 1)
    return float(np.mean((1 + (k - 1) * (relevant - 1) / max(gallery - 1, 1)) / k))


def _memory_side(
    name: str, memory: Memory, modality: Modality, projected: metrics.Array, rows: metrics.Rows
) -> PairedSide:
    metadata = list(memory.metadata(modality))
    shown = [metadata[row] for row in rows]
    return PairedSide(name, modality, np.arange(len(rows)), projected[rows], shown, memory)


def _names(memory_a: Memory, modality_a: Modality, memory_b: Memory, modality_b: Modality) -> tuple[str, str]:
    if modality_a is not modality_b:
        return modality_a.value, modality_b.value
    return f"{memory_a.encoder.name} {modality_a}", f"{memory_b.encoder.name} {modality_b}"


def _loosely_joined(ids_a: Sequence[str], ids_b: Sequence[str]) -> tuple[str, ...]:
    apart = [(a, b) for a, b in zip(ids_a, ids_b, strict=True) if a != b]
    if not apart:
        return ()
    what = "whose ids differ in how their letters are composed or in blanks around them were joined"
    return (f"{len(apart)} pairs {what}: {apart[0][0]!a} and {apart[0][1]!a}",)


def _notes(first: tuple[str, int], second: tuple[str, int], pairs: int) -> tuple[str, ...]:
    return tuple(
        f"{rows - pairs} of {rows} {name} rows have no partner and were left out"
        for name, rows in (first, second)
        if rows > pairs
    )
