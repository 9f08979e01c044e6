"""The page of ``cmcr eval compare``: groups side by side, and which differences hold."""

from __future__ import annotations

from cmcr.evaluate.compare.results import Comparison
from cmcr.report import Section, results_table
from cmcr.report.page import page


def compare_page(comparison: Comparison) -> str:
    """Return the page of a comparison."""
    about = (
        f"{comparison.n} queries, {comparison.gallery} candidates each; mean and standard deviation over the results "
        "of a group."
    )
    sections = [Section("Side by side", about, results_table(*comparison.table()))]
    if comparison.tests:
        about = (
            f"{comparison.settings['tested']} on the same queries: the difference of the means with its 95 % paired "
            "bootstrap interval, on how many queries either is better, and the chance of such a difference were there "
            "none. Holm's adjustment counts all rows. Spaces of a group are averaged query by query: this tests these "
            "spaces, not what other seeds would give."
        )
        sections.append(Section("Which differences hold", about, results_table(*comparison.tests_table())))
    groups = [[name, ", ".join(members)] for name, members in comparison.groups.items()]
    sections.append(Section("What was compared", body=results_table(["group", "results"], groups)))
    lead = " ".join(f"Not comparable as it stands: {sentence}." for sentence in comparison.differs)
    return page(f"Comparison: {comparison.benchmark}", sections, lead, comparison.settings)
