"""The page of ``cmcr eval retention``: what each source space had, and has left."""

from __future__ import annotations

from collections.abc import Mapping

from cmcr.evaluate.page import FILES, arrow
from cmcr.evaluate.retention.retention import Retention
from cmcr.report import Section, results_table
from cmcr.report.page import page

_ABOUT = {
    "modality gap": "Distance between the means of the two modalities; 0 to 2.",
    "alignment": "Mean squared distance of the rows that belong together; 0 is best.",
    "uniformity": "Log of the mean of exp(-2 d²) over pairs of rows: 0 is collapsed, lower is more spread.",
    "effective rank": "How many dimensions the rows use, by the entropy of their singular values.",
    "hubness": "Skewness of how often a row is among the 10 nearest: high means few rows are everybody's neighbours.",
    "anti-hubs": "Share of rows that are nobody's neighbour: what no query finds.",
}


def retention_page(result: Retention, space: str) -> str:
    """Return the page of a result; ``space`` is its name."""
    shares = {name: found for name, found in result.values.items() if "chance" in found}
    shape = {name: found for name, found in result.values.items() if "chance" not in found}
    sections = [
        Section(
            "What was kept",
            "Share of right answers within each source space, by the encoder's own vectors (before) and after "
            "projecting them; the interval is the 95 % paired bootstrap interval of the difference.",
            results_table(*_shares(shares), label="What was kept"),
        )
    ]
    sections += [
        Section(measure.capitalize(), about, results_table(["", "before", "after", "difference"], rows, label=measure))
        for measure, about in _ABOUT.items()
        if (rows := _shape(shape, measure))
    ]
    facts = {"space": space, **result.settings, "pairs": result.n}
    lead = " ".join(filter(None, [result.shortfall, *(f"{note}." for note in result.notes)]))
    return page("What connecting costs the source spaces", sections, lead, facts, FILES)


def _shares(values: Mapping[str, Mapping[str, float]]) -> tuple[list[str], list[list[object]]]:
    rows: list[list[object]] = []
    for name, found in values.items():
        low, high = found["difference low"], found["difference high"]
        kept = f"{100 * found['kept']:.1f} %" if "kept" in found else "nothing to keep"
        numbers = [found["chance"], found["before"], found["after"]]
        rows.append([arrow(name), int(found["gallery"]), *numbers, kept, f"{found['difference']:+.3f}",
                     f"{low:+.3f} to {high:+.3f}"])  # fmt: skip
    return ["", "gallery", "chance", "before", "after", "kept", "difference", "95 % interval"], rows


def _shape(values: Mapping[str, Mapping[str, float]], measure: str) -> list[list[object]]:
    found = {name.removesuffix(measure).rstrip(): row for name, row in values.items() if name.endswith(" " + measure)}
    return [
        [arrow(name), *(f"{row[key]:.3f}" for key in ("before", "after")), f"{row['difference']:+.3f}"]
        for name, row in found.items()
    ]
