"""``cmcr eval interactions``: what two modalities share of what labels need, and what each or only both know."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cmcr import console
from cmcr.cli.flags import with_flags
from cmcr.cli.modalities import memory_side
from cmcr.cli.results import tell_next
from cmcr.evaluate.interactions.choices import InteractionChoices

if TYPE_CHECKING:
    from cmcr.datasets import ClassList
    from cmcr.evaluate.interactions.interactions import InteractionsResult


@with_flags
def interactions(
    first: Annotated[str, typer.Argument(metavar="A", help="MEMORY:MODALITY.", show_default=False)],
    second: Annotated[str, typer.Argument(metavar="B", help="MEMORY:MODALITY; joined to A by id.", show_default=False)],
    labels: Annotated[
        Path,
        typer.Option(
            help="Classes: a table with id and class columns (and a split), or a data set's list file, or its folder.",
            show_default=False,
        ),
    ],
    label_field: Annotated[
        list[str] | None,
        typer.Option(help="A column of the table, repeatable; default: class, label or category."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of result.json and index.html.")] = Path(
        "results/interactions"
    ),
    html: Annotated[bool, typer.Option("--html", help="Also write index.html.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    *,
    choices: InteractionChoices,
) -> None:
    """How much of what labels need is shared by two modalities, in one of them, or only in both together.

    Works on memories as they are, before anything is connected or fused: by it one chooses encoders. What is measured
    is what linear probes and products of two directions find on rows held out, in shares of the label's entropy.
    """
    from cmcr.evaluate.interactions.interactions import evaluate
    from cmcr.evaluate.interactions.page import interactions_page
    from cmcr.memory import Memory

    opened = [(Memory.open(path), kind) for path, kind in (memory_side(first, "A"), memory_side(second, "B"))]
    known = _read(labels, label_field)
    with console.progress("interactions") as progress:
        result = evaluate(opened, known, choices, progress)
    result.write(out, interactions_page(result) if html else None)
    for note in result.notes:
        console.say(note)
    if as_json:
        console.show_json(result.to_json())
    else:
        _show(result)
    console.say(f"wrote {out / ('index.html' if html else 'result.json')}")
    tell_next("classify", "fit", "--memory", first, "--memory", second, "--labels", labels)


def _read(path: Path, fields: list[str] | None) -> dict[str, ClassList]:
    from cmcr.datasets import read_class_list

    if not fields:
        return {"label": read_class_list(path)}
    return {name: read_class_list(path, name) for name in fields}


def _show(result: InteractionsResult) -> None:
    rows = []
    for name, label in result.labels.items():
        said = [f"{label.shares[part]:.3f} ({label.low[part]:.2f}-{label.high[part]:.2f})" for part in label.shares]
        rows.append([name, label.rows, label.classes, f"{label.bits:.2f}", *said])
    shuffled = [f"{value:.3f}" for value in result.chance.values()]
    rows.append(["labels shuffled", "", "", "", *shuffled])
    columns = ["label", "rows", "classes", "bits", *map(result.title, result.chance)]
    console.show_table(columns, rows, title="shares of what each label needs, with 95 % intervals")
