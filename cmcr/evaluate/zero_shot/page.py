"""The page of a zero-shot classification: accuracies, what is taken for what, each class, and some answers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cmcr.evaluate.page import FILES, numbers_table, sentences
from cmcr.evaluate.zero_shot.classes import ORDERS
from cmcr.evaluate.zero_shot.classify import Outcome, predictions
from cmcr.report import Answer, Card, Media, Previews, Section, gallery, heat_maps, results_table, shortened
from cmcr.report.page import page, side_by_side

SHOWN = 4
"""Right answers shown, and as many wrong ones."""
EXTREMES = 3
"""Best hits shown, and as many of the worst failures."""
CONFUSED = 15


def classification_page(outcome: Outcome, title: str) -> str:
    """Return the page of an outcome; examples and confused pairs are those of the first order, or of its only row."""
    result = outcome.result
    row = next((order for order in ORDERS if order in result.values), next(iter(result.values)))
    facts = {
        "items": f"{result.n} of {result.expected}" if result.shortfall else result.n,
        "classes": result.gallery,
        **{name: value for name, value in result.settings.items() if not isinstance(value, list | dict)},
    }
    sections = [_accuracies(outcome), _maps(outcome), _confused(outcome, row), _classes(outcome)]
    if result.folds.get(row):
        sections.insert(1, _folds(outcome))
    previews = Previews()
    sections += [_extremes(outcome, row, previews), _examples(outcome, row, previews)]
    return page(title, sections, sentences(result), facts, FILES)


def _accuracies(outcome: Outcome) -> Section:
    about = (
        "Share of items whose class is among the k nearest of all classes; ties count against us. The interval is a "
        "95 % bootstrap of top-1."
    )
    return Section("Accuracy", about, numbers_table(outcome.result, intervals="top-1"))


def _folds(outcome: Outcome) -> Section:
    rows = [
        [row, fold, *values.values()] for row, folds in outcome.result.folds.items() for fold, values in folds.items()
    ]
    names = next(iter(next(iter(outcome.result.folds.values())).values()))
    return Section("By fold", body=results_table(["", "fold", *names], rows, label="By fold"))


def _maps(outcome: Outcome) -> Section:
    maps = {}
    for row, table in outcome.result.confusion.items():
        counts = np.array(table, float)
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        maps[row] = shares
    about = "Share of each class's items predicted as each class; both in the order of the class table below."
    return Section("Confusion", about, heat_maps(maps, 0, 1, dict.fromkeys(maps, ("true class", "predicted class"))))


def _confused(outcome: Outcome, row: str) -> Section:
    result = outcome.result
    table = np.array(result.confusion[row])
    np.fill_diagonal(table, 0)
    places = sorted(np.argwhere(table).tolist(), key=lambda place: (-table[tuple(place)], place))[:CONFUSED]
    rows: list[list[object]] = [
        [result.labels[true], result.labels[taken], int(table[true, taken]), table[true, taken] / result.counts[true]]
        for true, taken in places
    ]
    body = results_table(["class", "taken for", "items", "share"], rows, label="What is taken for what")
    return Section("What is taken for what", row, body)


def _classes(outcome: Outcome) -> Section:
    result = outcome.result
    rows: list[list[object]] = [
        [name, label, result.counts[number], *(_share(shares[number]) for shares in result.per_class.values())]
        for number, (name, label) in enumerate(zip(result.classes, result.labels, strict=True))
    ]
    table = results_table(["class", "said as", "items", *result.per_class], rows, label="Each class")
    return Section("Each class", body=table)


def _share(value: float | None) -> float | str:
    return "no item" if value is None else value


def _extremes(outcome: Outcome, row: str, previews: Previews) -> Section:
    """Show where the right class is furthest ahead of all others, and where it is furthest behind the nearest one."""
    scores, truth = outcome.scores[row], np.asarray(outcome.truth)
    others = np.array(scores, float)
    np.put_along_axis(others, truth[:, None], -np.inf, axis=1)
    ahead = np.take_along_axis(scores, truth[:, None], axis=1)[:, 0] - others.max(axis=1)
    order = np.argsort(-ahead, kind="stable")
    chosen = {
        "Best hits": [number for number in order[:EXTREMES].tolist() if ahead[number] > 0],
        "Worst failures": [number for number in order[::-1][:EXTREMES].tolist() if ahead[number] <= 0],
    }
    parts = {
        title: gallery([_answer(outcome, row, number, previews) for number in numbers], level=4)
        for title, numbers in chosen.items()
        if numbers
    }
    about = f"{row}: chosen, where the right class is furthest ahead of all others, and where furthest behind."
    return Section("The best and the worst", about, side_by_side(parts))


def _examples(outcome: Outcome, row: str, previews: Previews) -> Section:
    """Show items spread evenly over those that are right and over those that are wrong, and their nearest classes."""
    right = predictions(outcome.scores[row], outcome.truth) == outcome.truth
    answers = [
        _answer(outcome, row, number, previews)
        for chosen in (np.flatnonzero(right), np.flatnonzero(~right))
        for number in _spread(chosen.tolist(), SHOWN)
    ]
    return Section("Some answers", f"{row}: {SHOWN} right ones, then {SHOWN} wrong ones, not chosen", gallery(answers))


def _spread(numbers: Sequence[int], count: int) -> list[int]:
    places = np.linspace(0, len(numbers) - 1, min(count, len(numbers))).round().astype(int)
    return [numbers[place] for place in places]


def _answer(outcome: Outcome, row: str, number: int, previews: Previews) -> Answer:
    labels, scores, truth = outcome.result.labels, outcome.scores[row][number], int(outcome.truth[number])
    item, nearest = outcome.items[number], np.argsort(-scores, kind="stable")[:5].tolist()
    hits = [
        Card(labels[each], Media("text", text=labels[each]), rank, float(scores[each]), _mark(each, truth, rank))
        for rank, each in enumerate(nearest, 1)
    ]
    asked = Card(item.id, previews.of_item(item), says=shortened(item.text or labels[truth]))
    return Answer(asked, hits, labels[truth])


def _mark(label: int, truth: int, rank: int) -> str:
    return "right" if label == truth else "wrong" if rank == 1 else ""
