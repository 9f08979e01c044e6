"""The page of a result: its numbers beside chance, its notes, what was chosen, and whatever else there is to show."""

from __future__ import annotations

from collections.abc import Sequence

from cmcr.evaluate.result import Result
from cmcr.report import Section, results_table
from cmcr.report.page import page


def sentence(text: str) -> str:
    """Return a note as a sentence."""
    return f"{text[:1].upper()}{text[1:]}."


def result_page(result: Result, subject: str, sections: Sequence[Section] = ()) -> str:
    """Return the page of a result; ``subject`` is the space or encoder, for the title."""
    names = [*result.chance] or list(dict.fromkeys(name for row in result.values.values() for name in row))
    rows = [[asked, *(row.get(name, "") for name in names)] for asked, row in result.values.items()]
    rows += [["chance", *(result.chance[name] for name in names)]] if result.chance else []
    sizes = f"{result.n:,} queries, {result.gallery:,} candidates each."
    numbers = Section("What was measured", sizes, results_table(["", *names], rows, range(len(result.values))))
    facts = {name: value for name, value in result.settings.items() if isinstance(value, str | int | float)}
    lead = " ".join(sentence(note) for note in (result.shortfall, *result.notes) if note)
    return page(f"{result.name}: {subject}", [numbers, *sections], lead, facts)
