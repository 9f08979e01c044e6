"""The page of ``cmcr retrieve --html``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cmcr.ask.gallery import Merged
from cmcr.ask.retrieve import Hit, Query
from cmcr.items import Item
from cmcr.memory import Memory
from cmcr.memory.memory import Row
from cmcr.modality import Modality
from cmcr.report import (
    Answer,
    Card,
    Media,
    Previews,
    Section,
    gallery,
    readable_name,
    shortened,
)
from cmcr.report.page import page, readable_path


def retrieval_page(
    queries: Sequence[Query],
    hits: Sequence[Sequence[Hit]],
    memory: Memory,
    modality: Modality,
    facts: Mapping[str, object] | None = None,
    previews: Previews | None = None,
) -> str:
    """Return the page of ``cmcr retrieve --html``: every query and what was found for it in ``memory``."""
    previews = previews or Previews()
    answers = []
    for query, found in zip(queries, hits, strict=True):
        cards = [
            Card(hit.id, show_hit(previews, memory, modality, hit), hit.rank, hit.score, says=shortened(hit.text or ""))
            for hit in found
        ]
        heading = f"{readable_name(query.modality)} → {readable_name(modality)}"
        answers.append(
            Answer(Card(_name(query), show_query(previews, query), says=_says(query.source)), cards, heading)
        )
    title = (
        f"{len(queries)} queries"
        if len(queries) != 1
        else f"Nearest {readable_name(modality)} to “{shortened(_name(queries[0]))}”"
    )
    return page(title, [Section("", body=gallery(answers))], facts=facts)


def _name(query: Query) -> str:
    """Return a query's name without the place of its file or memory: where that lies is the user's own affair."""
    if query.memory is not None:
        return f"{readable_path(str(query.memory.path))}#{query.source.id}"
    is_file = isinstance(query.source, Item) and query.source.path is not None
    return readable_path(query.name) if is_file else query.name


def _says(source: Item | Row) -> str:
    return shortened(source.text or "")


def show_query(previews: Previews, query: Query) -> Media:
    """Return what a query was made from."""
    if isinstance(query.source, Item):
        return previews.of_item(query.source)
    return previews.of_row(query.memory, query.modality, query.source) if query.memory else Media("none")


def show_hit(previews: Previews, memory: Memory, modality: Modality, hit: Hit) -> Media:
    """Return what a hit in ``memory`` shows."""
    if hit.memory is not None and isinstance(memory, Merged):
        memory = memory.member(hit.memory)
    return previews.of_row(memory, modality, Row(hit.id, hit.source, None, hit.text))
