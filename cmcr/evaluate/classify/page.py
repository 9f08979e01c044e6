"""The page of ``cmcr eval classify``: curves over missing modalities, calibration, classes, gap and forgetting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cmcr.evaluate.classify.missing import MissingResult
from cmcr.evaluate.page import FILES, sentences
from cmcr.report import Section, line_chart, results_table
from cmcr.report.page import page

CLASSES_SHOWN = 60


def classify_page(result: MissingResult) -> str:
    """Return the page of a result."""
    facts = {name: value for name, value in result.settings.items() if isinstance(value, str | int | float)}
    facts |= {"modalities": ", ".join(result.settings["modalities"]), "rows measured on": result.n}
    sections = [
        _chart(result, "accuracy", "Accuracy against the share of missing modalities"),
        _table(result, "accuracy", "Accuracy", "Mean over the seeds, and the deviation between them."),
        _table(result, "ECE", "Calibration", "Expected calibration error, 15 bins; 0 is calibrated."),
        _classes(result),
        _numbers(result.forgotten, "Forgetting", "One modality is learnt after the other through the shared head; "
                 "then the first is asked again. before and after: its accuracy; second: that of the other."),
        _numbers(result.gaps, "Modality gap", "Distance between the means of the unit features of two modalities, "
                 "0 to 2: before training, after MLA, after the same network was trained jointly (sum), and after "
                 "concatenation."),
    ]  # fmt: skip
    return page("Classification with missing modalities", sections, sentences(result), facts, FILES)


def _shares(result: MissingResult) -> Sequence[int]:
    shares: Sequence[int] = result.settings["missing"]
    return shares


def _chart(result: MissingResult, measure: str, title: str) -> Section:
    shown = [name for name in result.curves if not name.startswith("MLA")]
    groups = {
        "MLA and its switches": [n for n in result.curves if n.startswith("MLA")],
        "MLA and others": ["MLA", *shown],
    }
    charts = [
        line_chart(
            group,
            {n: [(s, at[measure]) for s, at in zip(_shares(result), result.curves[n], strict=True)] for n in names},
            "percent asked to be missing",
            measure,
        )
        for group, names in groups.items()
    ]
    return Section(title, body=charts[1] + charts[0])


def _table(result: MissingResult, measure: str, title: str, about: str) -> Section:
    rows: list[list[object]] = [["in fact missing", *(f"{100 * at['missing']:.0f} %" for at in result.curves["MLA"])]]
    for name, curve in result.curves.items():
        rows.append([name, *(_cell(at, measure) for at in curve)])
    columns = ["", *(f"{share} %" for share in _shares(result))]
    about += " Bold: the best mean over the columns."
    return Section(title, about, results_table(columns, rows, _best(result, measure), label=title))


def _best(result: MissingResult, measure: str) -> list[int]:
    """Return the rows of the table whose mean is the best as it is printed: the highest accuracy, the lowest error."""
    sign = 1 if measure == "accuracy" else -1
    means = [sign * round(sum(at[measure] for at in curve) / len(curve), 3) for curve in result.curves.values()]
    return [number for number, mean in enumerate(means, 1) if mean == max(means)]


def _cell(at: Mapping[str, float], measure: str) -> str:
    value = at[measure]
    return f"{value:.3f} ± {at['deviation']:.3f}" if measure == "accuracy" else f"{value:.3f}"


def _classes(result: MissingResult) -> Section:
    names = list(result.per_class)
    rows: list[list[object]] = [
        [label, *("no row" if (value := result.per_class[name][0][number]) is None else value for name in names)]
        for number, label in enumerate(result.classes[:CLASSES_SHOWN])
    ]
    about = f"Accuracy over each class's rows, {_shares(result)[0]} % missing."
    if len(result.classes) > CLASSES_SHOWN:
        about += f" The first {CLASSES_SHOWN} of {len(result.classes)}; result.json has all."
    return Section("Each class", about, results_table(["", *names], rows, label="Each class"))


def _numbers(values: Mapping[str, Mapping[str, float]], title: str, about: str) -> Section:
    names = list(next(iter(values.values()), {}))
    rows: list[list[object]] = [[asked, *(f"{row[name]:.3f}" for name in names)] for asked, row in values.items()]
    return Section(title, about, results_table(["", *names], rows, label=title))
