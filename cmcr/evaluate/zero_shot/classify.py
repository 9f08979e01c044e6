"""Zero-shot classification of labelled items, in a connected space or by a bare encoder.

Protocol (CLIP's, and ULIP's test_zeroshot_3d_core): a class vector is the normalised mean of the unit vectors of its
phrases, and the prediction is the class of greatest cosine. Where a projector lies between, both orders of averaging
and projecting are measured. Ties count against us: an item that is as near to another class as to its own is not right.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cmcr.ask import Embedded, Subject
from cmcr.datasets import Labelled
from cmcr.errors import InputError
from cmcr.evaluate.result import Result
from cmcr.evaluate.zero_shot.classes import ORDERS, Order, Templates, build_classifier, phrases
from cmcr.hooks import Progress, silent
from cmcr.items import Item
from cmcr.modality import Modality
from cmcr.numbers import Array, Rows
from cmcr.numbers import retrieval as metrics

KS = (1, 3, 5)


@dataclass(frozen=True)
class Classification(Result):
    """A ``Result`` with what is known of each class.

    Attributes:
        classes: Names of the classes, in the order of their numbers.
        labels: What they are called in the phrases.
        counts: Items of each class.
        per_class: By row, the accuracy of each class; None for a class without an item.
        confusion: By row, a line for each true class with the number of items predicted as each class.
        folds: By row and fold, the numbers of a data set that has folds.
    """

    classes: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    counts: tuple[int, ...] = ()
    per_class: Mapping[str, Sequence[float | None]] = field(default_factory=dict)
    confusion: Mapping[str, Sequence[Sequence[int]]] = field(default_factory=dict)
    folds: Mapping[str, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """A result with the arrays that a page shows.

    Attributes:
        result: The numbers.
        items: The N items that were classified.
        truth: (N,) class numbers.
        scores: By row, (N, C) cosines.
    """

    result: Classification
    items: list[Item]
    truth: Rows
    scores: Mapping[str, Array]


def evaluate(
    subject: Subject,
    data: Labelled,
    labels: Sequence[str],
    templates: Templates,
    *,
    folder: Path,
    orders: Sequence[Order] = ORDERS,
    encoder: str | None = None,
    text_encoder: str | None = None,
    ladder: bool = False,
    progress: Progress = silent,
) -> Outcome:
    """Classify every item of a data set by the phrases of its classes.

    Args:
        subject: A space or an encoder.
        data: Items and their classes.
        labels: What each class is called, from ``zero_shot.class_labels``.
        templates: Phrases with ``{}`` for the label.
        folder: Holds the memories of the items and of the phrases.
        orders: Which orders of averaging and projecting; a bare encoder projects nothing and has one.
        encoder: Which of the space's encoders embeds the items.
        text_encoder: Which embeds the phrases; the space's first that embeds text when left out.
        ladder: Also ask the items' encoder alone, with its own text tower.
        progress: Told after every batch.

    Returns:
        A row for each order (``encoder alone`` for a bare encoder and for the ladder) with top-1, top-3, top-5 and the
        mean accuracy of the classes; the 95 % bootstrap interval of top-1.

    Raises:
        InputError: no item could be embedded, a phrase that cannot be, or a modality the subject lacks.
    """
    start = time.perf_counter()
    if subject.space is None and (encoder or text_encoder):
        raise InputError(
            f"encoder {encoder or text_encoder!r}: {subject.name} is an encoder itself; name one of a space's"
        )
    texts, prompts = phrases(labels, templates.phrases), folder / "prompts"
    raw, reader = subject.texts(texts, prompts, encoder=text_encoder)  # first, for a bad phrase is soon found
    embedded = subject.embed(data.inputs, folder / _key(data), encoder=encoder, progress=progress)
    skipped = _skipped(embedded, data)
    if not embedded.items:
        reasons = "; ".join(f"{count} x {reason}" for reason, count in list(skipped.items())[:3])
        raise InputError(f"{data.path}: none of {len(data.inputs.items)} items could be embedded: {reasons}")
    scores, notes = _alone_first(subject, embedded, texts, prompts, len(labels)) if ladder else ({}, [])
    scores |= _in_space(subject, embedded, raw, reader, len(labels), orders)
    truth = np.array([data.labels[item.id] for item in embedded.items], np.int64)
    counts = np.bincount(truth, minlength=len(labels))
    tables = {row: confusion(table, truth) for row, table in scores.items()}
    result = Classification(
        name=data.name,
        values={row: measures(table, truth) for row, table in scores.items()},
        n=len(truth),
        gallery=len(labels),
        chance=chance(len(labels)),
        settings=_settings(subject, data, templates, orders, embedded.encoder, reader),
        fingerprints={"subject": subject.fingerprint, "items": embedded.fingerprint},
        notes=(*data.notes, *notes, *_silent_classes(data.classes, counts)),
        seconds=round(time.perf_counter() - start, 3),
        expected=data.expected,
        skipped=skipped,
        classes=data.classes,
        labels=tuple(labels),
        counts=tuple(int(count) for count in counts),
        per_class={row: _accuracies(table) for row, table in tables.items()},
        confusion={row: table.tolist() for row, table in tables.items()},
        folds={row: _by_fold(table, truth, embedded.items, data.folds) for row, table in scores.items()},
    )
    return Outcome(result, embedded.items, truth, scores)


def _alone_first(
    subject: Subject, embedded: Embedded, texts: Sequence[str], prompts: Path, classes: int
) -> tuple[dict[str, Array], list[str]]:
    """Return the (N, C) cosines of the items' encoder with its own text tower, or a note on why there are none."""
    name = embedded.encoder
    if subject.space is None:
        return {}, [f"ladder: {name} is asked alone anyway; give a space to see what comes after"]
    if Modality.TEXT not in subject.load(name).modalities:
        return {}, [f"ladder: {name} has no text tower, so it cannot be asked alone"]
    raw, _ = _alone(subject, name).texts(texts, prompts)
    return {f"{name} alone": metrics.cosine(embedded.raw, build_classifier(raw, classes, lambda vectors: vectors))}, []


def _in_space(
    subject: Subject, embedded: Embedded, raw: np.ndarray, reader: str, classes: int, orders: Sequence[Order]
) -> dict[str, Array]:
    """Return the (N, C) cosines of each order, or of a bare encoder."""
    project = functools.partial(subject.project, modality=Modality.TEXT, encoder=reader)
    rows = {order: order for order in orders} if subject.space else {"encoder alone": ORDERS[0]}
    return {
        row: metrics.cosine(embedded.vectors, build_classifier(raw, classes, project, order))
        for row, order in rows.items()
    }


def _settings(
    subject: Subject, data: Labelled, templates: Templates, orders: Sequence[Order], encoder: str, reader: str
) -> dict[str, Any]:
    return {
        "data": str(data.path),
        "layout": data.layout,
        "split": data.split or "all",
        **data.settings,
        "templates": templates.told,
        "order": ", ".join(orders) if subject.space else "nothing is projected",
        "item encoder": encoder,
        "text encoder": reader,
        "method": subject.method,
        "ties": "against",
        "interval": "95 % bootstrap, 1000 samples, seed 0",
    }


def measures(scores: Array, truth: Rows) -> dict[str, float]:
    """Return the numbers of (N, C) cosines and (N,) class numbers."""
    ranks = metrics.ranks_from_scores(scores, truth)
    low, high = metrics.bootstrap(ranks <= 1)
    right, counts = np.bincount(truth, ranks <= 1, scores.shape[1]), np.bincount(truth, minlength=scores.shape[1])
    mean = float(np.mean(right[counts > 0] / counts[counts > 0]))
    tops = {f"top-{k}": metrics.recall_at(ranks, k) for k in KS}
    return tops | {"mean per class": mean, "top-1 low": low, "top-1 high": high}


def chance(classes: int) -> dict[str, float]:
    """Return what guessing one of the classes scores."""
    return {f"top-{k}": metrics.chance_recall(classes, k) for k in KS} | {"mean per class": 1 / classes}


def predictions(scores: Array, truth: Rows) -> Rows:
    """Return the (N,) predicted classes; of equals another than the true one, so that they agree with the ranks."""
    rivals = np.array(scores, np.float32)
    np.put_along_axis(rivals, truth[:, None], -np.inf, axis=1)
    right = metrics.ranks_from_scores(scores, truth) == 1
    return np.asarray(np.where(right, truth, rivals.argmax(axis=1)), np.int64)


def confusion(scores: Array, truth: Rows) -> Rows:
    """Return the (C, C) counts of items of each true class (row) that are predicted as each class (column)."""
    classes = scores.shape[1]
    pairs = truth * classes + predictions(scores, truth)
    return np.asarray(np.bincount(pairs, minlength=classes**2).reshape(classes, classes), np.int64)


def _alone(subject: Subject, encoder: str) -> Subject:
    """Return one of a space's encoders as a subject of its own; the loaded encoders are shared."""
    alone = copy.copy(subject)
    found = subject.load(encoder)
    alone.name, alone.space, alone.modalities, alone.fingerprint = encoder, None, found.modalities, found.fingerprint
    return alone


def _key(data: Labelled) -> str:
    """Return a folder name for the items' memory; other data, another part, other points or another axis change it."""
    settings = sorted((name, value) for name, value in data.settings.items() if name != "points given")
    told = repr((str(data.path.resolve()), data.layout, data.split, settings))
    return f"{re.sub(r'[^A-Za-z0-9.-]+', '_', data.name)}-{hashlib.sha256(told.encode()).hexdigest()[:8]}"


def _skipped(embedded: Embedded, data: Labelled) -> dict[str, int]:
    reasons = dict(Counter(skip.reason for skip in embedded.skips).most_common())
    absent = data.expected - len(data.inputs.items)
    return reasons | ({"not there": absent} if absent > 0 else {})


def _silent_classes(classes: Sequence[str], counts: np.ndarray) -> tuple[str, ...]:
    empty = [name for name, count in zip(classes, counts, strict=True) if not count]
    return (f"no item of {len(empty)} classes: {', '.join(empty[:20])}",) if empty else ()


def _accuracies(table: Rows) -> list[float | None]:
    return [float(row[number] / row.sum()) if row.sum() else None for number, row in enumerate(table)]


def _by_fold(
    scores: Array, truth: Rows, items: Sequence[Item], folds: Mapping[str, str]
) -> dict[str, dict[str, float]]:
    ranks = metrics.ranks_from_scores(scores, truth)
    own = np.array([folds.get(item.id, "") for item in items])
    return {
        fold: {"n": int((own == fold).sum())} | {f"top-{k}": metrics.recall_at(ranks[own == fold], k) for k in KS}
        for fold in sorted(set(own.tolist()) - {""})
    }
