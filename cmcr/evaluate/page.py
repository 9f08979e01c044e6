"""The page of a result: its numbers beside chance, its notes, what was chosen, and whatever else there is to show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from cmcr.evaluate.result import Result
from cmcr.report import Section, results_table
from cmcr.report.page import page, readable_path

FILES = {"All numbers (result.json)": "result.json", "The table (result.csv)": "result.csv"}
"""What ``Result.write`` puts beside the page of a result, by what the page's links say."""


def sentence(text: str) -> str:
    """Return a note as a sentence."""
    return f"{text[:1].upper()}{text[1:]}."


def arrow(asked: str) -> str:
    """Return a direction as a page shows it: ``audio → image``."""
    return asked.replace("->", " → ") if "<->" not in asked else asked.replace("<->", " ↔ ")


def sentences(result: Result) -> str:
    """Return what a reader must know: how many items are missing, and the notes."""
    return " ".join(sentence(note) for note in (result.shortfall, *result.notes) if note)


def interval(numbers: Mapping[str, float], name: str) -> str:
    """Return the 95 % interval of a measure in words; empty where there is none."""
    low, high = numbers.get(f"{name} low"), numbers.get(f"{name} high")
    return "" if low is None or high is None else f"{low:.3f} to {high:.3f}"


def numbers_table(result: Result, strong: Sequence[int] = (), intervals: str = "") -> Markup:
    """Return a result's rows, with chance below.

    Args:
        result: The result.
        strong: Numbers of the rows that are set off.
        intervals: A measure whose 95 % interval stands in a column of its own.
    """
    names = [*result.chance] or list(dict.fromkeys(name for row in result.values.values() for name in row))
    shown = {**result.values, **({"chance": result.chance} if result.chance else {})}
    rows: list[list[object]] = [[arrow(asked), *(row.get(name, "") for name in names)] for asked, row in shown.items()]
    if not intervals:
        return results_table(["", *names], rows, strong, label="What was measured")
    rows = [[*cells, interval(numbers, intervals)] for cells, numbers in zip(rows, shown.values(), strict=True)]
    return results_table(["", *names, f"{intervals}, interval"], rows, strong, label="What was measured")


def result_page(result: Result, subject: str, sections: Sequence[Section] = ()) -> str:
    """Return the page of a result; ``subject`` is the space or encoder, for the title."""
    sizes = f"{result.n:,} queries, {result.gallery:,} candidates each."
    numbers = Section("What was measured", sizes, numbers_table(result, range(len(result.values))))
    facts = {name: value for name, value in result.settings.items() if isinstance(value, str | int | float)}
    return page(f"{result.name}: {readable_path(subject)}", [numbers, *sections], sentences(result), facts, FILES)
