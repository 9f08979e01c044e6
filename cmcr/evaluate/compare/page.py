"""The page of ``cmcr eval compare``: groups side by side, and which differences hold."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from cmcr.evaluate.compare.results import Comparison
from cmcr.evaluate.page import arrow
from cmcr.report import Section, beside, interval_chart, results_table
from cmcr.report.page import page

FILES = {"All numbers (comparison.json)": "comparison.json", "The table (comparison.csv)": "comparison.csv"}
"""What ``Comparison.write`` puts beside the page."""


def compare_page(comparison: Comparison) -> str:
    """Return the page of a comparison."""
    about = (
        f"{comparison.n} queries, {comparison.gallery} candidates each; mean and standard deviation over the results "
        "of a group."
    )
    columns, rows = comparison.table()
    table = results_table(columns, _arrows(rows), label="Side by side")
    sections = [Section("Side by side", about, beside(*_charts(comparison)) + table)]
    if comparison.tests:
        about = (
            f"{comparison.settings['tested']} on the same queries: the difference of the means with its 95 % paired "
            "bootstrap interval, on how many queries either is better, and the chance of such a difference were there "
            "none. Holm's adjustment counts all rows. Spaces of a group are averaged query by query: this tests these "
            "spaces, not what other seeds would give."
        )
        columns, rows = comparison.tests_table()
        tests = results_table(columns, _arrows(rows), label="Which differences hold")
        sections.append(Section("Which differences hold", about, tests))
    groups = [[name, ", ".join(members)] for name, members in comparison.groups.items()]
    members = results_table(["group", "results"], groups, label="What was compared")
    sections.append(Section("What was compared", body=members))
    lead = " ".join(f"Not comparable as it stands: {sentence}." for sentence in comparison.differs)
    return page(f"Comparison: {comparison.benchmark}", sections, lead, comparison.settings, FILES)


def _arrows(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    return [[arrow(asked), *cells] for asked, *cells in rows]


def _charts(comparison: Comparison) -> list[Markup]:
    """Draw for each question what was tested, recall@1 or the first measure: each group's mean and deviation."""
    names = comparison.table()[0][3:]
    measure = comparison.settings.get("tested") or ("recall@1" if "recall@1" in names else names[0])
    return [
        interval_chart(
            f"{arrow(asked)}: {measure}",
            {group: numbers.get(measure, ()) for group, numbers in found.items()},
            comparison.chance.get(asked, {}).get(measure),
        )
        for asked, found in comparison.values.items()
    ]
