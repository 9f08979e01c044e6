"""The page of ``cmcr eval retrieval --html``: numbers, ranks, and the first queries with what they found."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from cmcr.evaluate.page import interval
from cmcr.evaluate.retrieval.pairs import Paired, PairedSide
from cmcr.items import Item
from cmcr.numbers import retrieval as metrics
from cmcr.report import Answer, Card, Media, Previews, Section, beside, gallery, line_chart, results_table
from cmcr.report.page import page

SHOWN, HITS = 4, 4
"""Queries a direction, and hits a query; the right answer is added where it is not among them."""
_EDGES = (1, 2, 6, 11, 51, 1 << 62)


def paired_page(paired: Paired, subject: str, previews: Previews | None = None) -> str:
    """Return the page about a measurement.

    Args:
        paired: What was measured.
        subject: The space or encoder, for the title.
        previews: What makes its pictures and sounds.
    """
    result, previews = paired.result, previews or Previews()
    sections = [_numbers(paired)]
    sections += [_direction(paired, name, *sides, previews) for name, sides in paired.directions().items()]
    sections += [_ranks(paired)]
    if result.skipped:
        rows = [[reason, count] for reason, count in result.skipped.items()]
        sections.append(Section("What is missing", result.shortfall, results_table(["reason", "pairs"], rows)))
    facts: dict[str, object] = {"pairs": result.n}
    facts |= {} if result.expected is None else {"asked for": result.expected}
    facts |= {name: value for name, value in result.settings.items() if isinstance(value, str | int)}
    lead = "Each side of every pair was asked for the other; a tick marks the right answer."
    return page(f"Retrieval in {subject}", sections, " ".join((lead, result.shortfall)).strip(), facts)


def _numbers(paired: Paired) -> Section:
    columns, rows = paired.result.table()
    cells = [[_arrow(row[0]), int(row[1]), int(row[2]), *map(_number, columns[3:], row[3:])] for row in rows]
    known = [
        f"{_arrow(name)}: recall@1 lies in {interval(numbers, 'recall@1')} (95 % bootstrap)"
        for name, numbers in paired.result.values.items()
    ]
    text = "; ".join([*known, *paired.result.notes]) + ". Ties count against the result."
    return Section("What was measured", text, results_table(columns, cells, range(len(paired.result.values))))


def _direction(paired: Paired, name: str, queries: PairedSide, searched: PairedSide, previews: Previews) -> Section:
    first = range(min(SHOWN, len(queries.owners)))
    scores = metrics.cosine(queries.vectors[: len(first)], searched.vectors)
    answers = [_answer(paired, name, queries, searched, row, scores[row], previews) for row in first]
    about = f"The first {len(first)} queries, not chosen; {len(searched.owners)} candidates each."
    return Section(_arrow(name), about, gallery(answers))


def _answer(
    paired: Paired,
    name: str,
    queries: PairedSide,
    searched: PairedSide,
    row: int,
    scores: np.ndarray,
    previews: Previews,
) -> Answer:
    owner = queries.owners[row]
    order = np.argsort(-scores, kind="stable")
    right = searched.owners[order] == owner
    places = sorted({*range(min(HITS, len(order))), int(np.argmax(right))})
    hits = [
        Card(
            paired.ids[searched.owners[order[place]]],
            _shown(searched, int(order[place]), previews),
            rank=place + 1,
            score=float(scores[order[place]]),
            mark="right" if right[place] else "",
        )
        for place in places
    ]
    heading = f"rank {paired.ranks[name][row]} of {len(order)}"
    return Answer(Card(paired.ids[owner], _shown(queries, row, previews)), hits, heading)


def _shown(side: PairedSide, row: int, previews: Previews) -> Media:
    made_from = side.shown[row]
    if isinstance(made_from, Item):
        return previews.of_item(made_from)
    return previews.of_row(side.memory, side.modality, made_from) if side.memory else Media("none")


def _ranks(paired: Paired) -> Section:
    curves = {_arrow(name): _curve(ranks) for name, ranks in paired.ranks.items()}
    size = max(gallery for _, gallery in paired.result.sizes.values())
    curves["chance, one right answer"] = [(1.0, 1 / size), (float(size), 1.0)]
    chart = line_chart("share of queries answered within rank k", curves, "k", "recall@k")
    rows = [[_arrow(name), *np.histogram(ranks, _EDGES)[0].tolist()] for name, ranks in paired.ranks.items()]
    titles = ["rank 1", *(f"{low} to {high - 1}" for low, high in pairwise(_EDGES[1:-1])), f"{_EDGES[-2]} and on"]
    table = results_table(["", *titles], rows)
    return Section("Ranks of the right answers", "", beside(chart, table))


def _curve(ranks: np.ndarray) -> list[tuple[float, float]]:
    """Return (k, recall@k) where it changes."""
    at, counts = np.unique(ranks, return_counts=True)
    return list(zip(at.tolist(), (np.cumsum(counts) / len(ranks)).tolist(), strict=True))


def _arrow(direction: str) -> str:
    return direction.replace("->", " → ")


def _number(column: str, cell: str) -> float | str:
    """Return a share as a number, which gets a bar, and a rank as it is."""
    return float(cell) if cell and "rank" not in column else cell
