"""The page of ``cmcr eval retrieval --html``: numbers, ranks, and the first queries with what they found."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from cmcr.evaluate.page import FILES, arrow, interval
from cmcr.evaluate.retrieval.pairs import Paired, PairedSide
from cmcr.items import Item
from cmcr.numbers import retrieval as metrics
from cmcr.report import (
    Answer,
    Card,
    Media,
    Previews,
    Section,
    beside,
    gallery,
    line_chart,
    results_table,
    shortened,
)
from cmcr.report.page import page, readable_path, side_by_side

SHOWN, HITS = 4, 4
"""Queries a direction, and hits a query; the right answer is added where it is not among them."""
EXTREMES = 3
"""Best hits a direction, and as many of the worst failures."""
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
    for name, sides in paired.directions().items():
        sections += [_direction(paired, name, *sides, previews), _extremes(paired, name, *sides, previews)]
    sections += [_ranks(paired)]
    if result.skipped:
        rows = [[reason, count] for reason, count in result.skipped.items()]
        table = results_table(["reason", "pairs"], rows, label="What is missing")
        sections.append(Section("What is missing", result.shortfall, table))
    facts: dict[str, object] = {"pairs": result.n}
    facts |= {} if result.expected is None else {"asked for": result.expected}
    facts |= {name: value for name, value in result.settings.items() if isinstance(value, str | int)}
    lead = "Each side of every pair was asked for the other; a tick marks the right answer."
    title = f"Retrieval in {readable_path(subject)}"
    return page(title, sections, " ".join((lead, result.shortfall)).strip(), facts, FILES)


def _numbers(paired: Paired) -> Section:
    columns, rows = paired.result.table()
    cells = [[arrow(row[0]), int(row[1]), int(row[2]), *map(_number, columns[3:], row[3:])] for row in rows]
    known = [
        f"{arrow(name)}: recall@1 lies in {interval(numbers, 'recall@1')} (95 % bootstrap)"
        for name, numbers in paired.result.values.items()
    ]
    table = results_table(columns, cells, range(len(paired.result.values)), label="What was measured")
    text = "; ".join([*known, *paired.result.notes]) + ". Ties count against the result."
    return Section("What was measured", text, table)


def _direction(paired: Paired, name: str, queries: PairedSide, searched: PairedSide, previews: Previews) -> Section:
    first = range(min(SHOWN, len(queries.owners)))
    about = f"The first {len(first)} queries, not chosen; {len(searched.owners)} candidates each."
    return Section(arrow(name), about, gallery(_answers(paired, name, queries, searched, first, previews)))


def _extremes(paired: Paired, name: str, queries: PairedSide, searched: PairedSide, previews: Previews) -> Section:
    """Show where it does best and where worst: by the rank of the right answer, then by its cosine."""
    ranks, own = paired.ranks[name], own_cosines(queries, searched)
    order = np.lexsort((-own, ranks))
    chosen = {
        "Best hits": [row for row in order[:EXTREMES] if ranks[row] == 1],
        "Worst failures": [row for row in order[::-1][:EXTREMES] if ranks[row] > 1],
    }
    parts = {
        title: gallery(_answers(paired, name, queries, searched, rows, previews), level=4)
        for title, rows in chosen.items()
        if rows
    }
    about = (
        "Chosen: where the right answer comes first with the highest cosine, and where it comes last. It is first for "
        f"{np.sum(ranks == 1):,} of {len(ranks):,} queries, and behind rank 10 for {np.sum(ranks > 10):,}."
    )
    return Section(f"{arrow(name)}: the best and the worst", about, side_by_side(parts))


def own_cosines(queries: PairedSide, searched: PairedSide) -> np.ndarray:
    """Return (Q,) the cosine of each query with the nearest row that belongs to its pair; -1 where there is none."""
    order = np.argsort(searched.owners, kind="stable")
    owners = searched.owners[order]
    starts, ends = (np.searchsorted(owners, queries.owners, side) for side in ("left", "right"))
    found = np.full(len(queries.owners), -1.0)
    for step in range(int((ends - starts).max(initial=0))):  # as often as one pair has rows: once, or once a caption
        rows = np.flatnonzero(starts + step < ends)
        partners = searched.vectors[order[starts[rows] + step]]
        cosines = np.einsum("nd,nd->n", queries.vectors[rows], partners, dtype=np.float64)
        found[rows] = np.maximum(found[rows], cosines)
    return found


def _answers(
    paired: Paired,
    name: str,
    queries: PairedSide,
    searched: PairedSide,
    rows: Sequence[int],
    previews: Previews,
) -> list[Answer]:
    scores = metrics.cosine(queries.vectors[list(rows)], searched.vectors)
    return [_answer(paired, name, queries, searched, row, scores[place], previews) for place, row in enumerate(rows)]


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
            says=_says(searched, int(order[place])),
        )
        for place in places
    ]
    heading = f"rank {paired.ranks[name][row]} of {len(order)}"
    asked = Card(paired.ids[owner], _shown(queries, row, previews), says=_says(queries, row))
    return Answer(asked, hits, heading)


def _says(side: PairedSide, row: int) -> str:
    return shortened(side.shown[row].text or "")


def _shown(side: PairedSide, row: int, previews: Previews) -> Media:
    made_from = side.shown[row]
    if isinstance(made_from, Item):
        return previews.of_item(made_from)
    return previews.of_row(side.memory, side.modality, made_from) if side.memory else Media("none")


def _ranks(paired: Paired) -> Section:
    curves = {arrow(name): _curve(ranks) for name, ranks in paired.ranks.items()}
    size = max(gallery for _, gallery in paired.result.sizes.values())
    curves["chance, one right answer"] = [(1.0, 1 / size), (float(size), 1.0)]
    chart = line_chart("share of queries answered within rank k", curves, "k", "recall@k")
    rows = [[arrow(name), *np.histogram(ranks, _EDGES)[0].tolist()] for name, ranks in paired.ranks.items()]
    titles = ["rank 1", *(f"{low} to {high - 1}" for low, high in pairwise(_EDGES[1:-1])), f"{_EDGES[-2]} and on"]
    table = results_table(["", *titles], rows, label="Ranks of the right answers")
    return Section("Ranks of the right answers", "", beside(chart, table))


def _curve(ranks: np.ndarray) -> list[tuple[float, float]]:
    """Return (k, recall@k) where it changes."""
    at, counts = np.unique(ranks, return_counts=True)
    return list(zip(at.tolist(), (np.cumsum(counts) / len(ranks)).tolist(), strict=True))


def _number(column: str, cell: str) -> float | str:
    """Return a share as a number, which gets a bar, and a rank as it is."""
    return float(cell) if cell and "rank" not in column else cell
