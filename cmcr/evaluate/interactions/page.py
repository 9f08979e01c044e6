"""The page of ``cmcr eval interactions``: one bar a label, what it says in words, and the numbers behind it."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from cmcr.evaluate.interactions.interactions import InteractionsResult, LabelResult
from cmcr.evaluate.page import FILES, sentences
from cmcr.report import Section, results_table, stacked_bars
from cmcr.report.page import page

MUCH, MOST = 0.1, 0.5
"""Shares from which on a part is worth a sentence, and from which on it decides."""
GAUSSIAN = (
    "A second opinion, in bits, less those of shuffled labels: what means and covariances say. It sees no exclusive or "
    "and has no upper bound: of classes that both modalities tell apart, it counts to each what it tells more surely, "
    "where the bars call that shared."
)


def interactions_page(result: InteractionsResult) -> str:
    """Return the page of a result."""
    one, two = result.names
    facts = {name: value for name, value in result.settings.items() if isinstance(value, str | int | float)}
    about = (
        f"A bar is all that a label needs to be known. Shared: {one} alone tells it, and so does {two}. "
        f"Only {one}, only {two}: the other does not tell it. Only together: neither alone tells it, both together do. "
        "Not found: no probe found it in either; it may be there for a stronger model, or with more rows. "
        "The brackets below a bar are 95 % intervals over the rows; the thin bar is the same with shuffled labels."
    )
    sections = [
        Section("Who knows what the labels need", about, _bars(result)),
        *(Section(name, " ".join(words(result, name))) for name in result.labels),
        Section("Shares", "Of the label's entropy, with 95 % intervals over the rows.", _shares(result)),
        Section("Probes", "Accuracy on rows held out, with 95 % intervals. Chance: always the most frequent class. "
                "With products: all probes, those on products of two directions too.", _accuracy(result)),
        Section("As if all were Gaussian", GAUSSIAN, _gaussian(result)),
    ]  # fmt: skip
    return page(f"Interactions of {one} and {two}", sections, sentences(result), facts, FILES)


def words(result: InteractionsResult, name: str) -> list[str]:
    """Return what was found of a label in plain sentences, and what that means for choosing encoders."""
    label = result.labels[name]
    one, two = result.names
    of = label.shares
    found = 1 - of["not found"]
    said = [
        f"{label.classes} classes, {label.bits:.2f} bits, {label.rows} rows. The probes find {found:.0%} of it: "
        f"{of['shared']:.0%} in both {one} and {two}, {of['first']:.0%} only in {one}, {of['second']:.0%} only in "
        f"{two}, {of['together']:.0%} only in both together."
    ]
    return [*said, *_advice(label, one, two)]


def _advice(label: LabelResult, one: str, two: str) -> list[str]:
    of, told = label.shares, {part: label.sure(part) and label.shares[part] >= MUCH for part in label.shares}
    found = max(1 - of["not found"], 1e-9)
    said = []
    if not any(told[part] for part in ("shared", "first", "second", "together")):
        return [f"That is little: neither {one} nor {two} of these encoders is of use for this label; try others."]
    if told["shared"] and of["shared"] > MOST * found:
        said.append(f"Most of what is known is known twice: either of {one} and {two} can stand in for the other.")
    for part, own, other in (("first", one, two), ("second", two, one)):
        if told[part]:
            said.append(f"Keep {own}: {other} cannot replace it.")
    if told["together"]:
        said.append(_jointly(label))
    if not told["first"] and not told["together"]:
        said.append(f"Beside {two}, {one} adds little for this label.")
    if not told["second"] and not told["together"]:
        said.append(f"Beside {one}, {two} adds little for this label.")
    if of["not found"] > MOST:
        said.append("Most of the label was not found in either: other encoders or more rows may show more.")
    return said


def _jointly(label: LabelResult) -> str:
    """Return how both must be read for what neither tells alone: with products, where a linear probe of both fails."""
    at = label.accuracy
    alone = max(at["first"], at["second"], at["chance"])
    if at["both"] - alone >= (at["all"] - alone) / 2:
        return "Keep both: a linear model of both side by side tells what neither tells alone."
    return (
        f"Keep both, and let them be read jointly: a linear model of both side by side is right for {at['both']:.0%}, "
        f"with products of the two for {at['all']:.0%}."
    )


def _bars(result: InteractionsResult) -> Markup:
    parts = list(result.chance)
    bars = [
        (
            f"{name}: {label.bits:.2f} bits, {label.classes} classes",
            [(label.shares[part], label.low[part], label.high[part]) for part in parts],
            [label.shuffled[part] for part in parts],
        )
        for name, label in result.labels.items()
    ]
    return stacked_bars("share of what each label needs", [*map(result.title, parts)], bars)


def _shares(result: InteractionsResult) -> Markup:
    rows: list[list[object]] = []
    for name, label in result.labels.items():
        rows.append([name, *(_with_interval(label, part) for part in label.shares)])
        rows.append([f"{name}, shuffled", *(f"{label.shuffled[part]:.3f}" for part in label.shares)])
    return results_table(["", *map(result.title, result.chance)], rows)


def _with_interval(label: LabelResult, part: str) -> str:
    return f"{label.shares[part]:.3f} ({label.low[part]:.3f} to {label.high[part]:.3f})"


def _accuracy(result: InteractionsResult) -> Markup:
    columns = ["", "chance", *result.names, "both", "with products"]
    rows = [[name, f"{label.accuracy['chance']:.3f}", *_accuracies(label)] for name, label in result.labels.items()]
    return results_table(columns, rows)


def _accuracies(label: LabelResult) -> Sequence[str]:
    at = label.accuracy
    return [f"{at[s]:.3f} ({at[f'{s} low']:.3f} to {at[f'{s} high']:.3f})" for s in ("first", "second", "both", "all")]


def _gaussian(result: InteractionsResult) -> Markup:
    parts = [part for part in result.chance if part != "not found"]
    rows = [[name, *(f"{label.gaussian[part]:.2f}" for part in parts)] for name, label in result.labels.items()]
    return results_table(["", *map(result.title, parts)], rows)
