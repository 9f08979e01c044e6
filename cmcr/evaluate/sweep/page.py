"""The page of ``cmcr eval sweep``: recall against the weight, both directions, and what the own space loses."""

from __future__ import annotations

from cmcr.evaluate.page import FILES, sentences
from cmcr.evaluate.sweep.sweep import Sweep
from cmcr.report import Section, beside, line_chart, results_table
from cmcr.report.page import page, readable_path


def sweep_page(result: Sweep, space: str) -> str:
    """Return the page of a result; ``space`` is its name."""
    of, best = result.settings["of"], result.best()
    curves = {name: list(zip(result.shares, points, strict=True)) for name, points in result.curves.items()}
    charts = [line_chart("recall@1 by share", curves, f"share of {of}", "recall@1")]
    lost = {"own space": list(zip(result.shares, result.lost().tolist(), strict=True))}
    if any(name.startswith("own ") for name in curves):
        charts.append(line_chart("what the own space loses", lost, f"share of {of}", "recall@1 lost"))
    columns, rows = result.table()
    cells: list[list[object]] = [[row[0], *(float(cell) if cell else "" for cell in row[1:])] for row in rows]
    flags = [[f"{share:g}", *told] for share, told in zip(result.shares, result.flags, strict=True)]
    about = (
        f"{result.n:,} pairs, {result.gallery:,} candidates each. The mean of both directions is highest where {of} "
        f"has the share {result.shares[best]:g}. Chosen on these pairs, so it is to be measured on others."
    )
    flagged = results_table(["share", *[""] * (len(flags[0]) - 1)], flags, [best], label="Weights by share")
    sections = [
        Section("Recall against the weight", about, beside(*charts)),
        Section(
            "What was measured",
            "recall@1, ties counted against it.",
            results_table(columns, cells, [best], label="recall@1 by share"),
        ),
        Section("As --weight says it", "", flagged),
    ]
    facts = {name: value for name, value in result.settings.items() if isinstance(value, str | int)}
    return page(f"How much {of} counts in {readable_path(space)}", sections, sentences(result), facts, FILES)
