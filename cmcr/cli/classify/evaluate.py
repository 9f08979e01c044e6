"""``cmcr eval classify``: what missing modalities cost, for MLA and everything it is set beside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cmcr import console
from cmcr.classify.settings import ClassifySettings
from cmcr.cli.classify.sides import LabelField, Labels, Memories, read_rows
from cmcr.cli.flags import with_flags
from cmcr.cli.results import tell_next
from cmcr.evaluate.classify.choices import MissingChoices


@with_flags
def classify(
    memory: Memories,
    labels: Labels,
    label_field: LabelField = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of result.json and index.html.")] = Path(
        "results/classify"
    ),
    html: Annotated[bool, typer.Option("--html", help="Also write index.html.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    *,
    choices: MissingChoices,
    settings: ClassifySettings,
) -> None:
    """Accuracy against the share of missing modalities: MLA, its switches, and everything it is set beside.

    Every row keeps one modality. With it: calibration, each class, the modality gap, and what P does to forgetting.
    """
    from cmcr.datasets import read_class_list
    from cmcr.evaluate.classify.missing import evaluate
    from cmcr.evaluate.classify.page import classify_page

    known = read_class_list(labels, label_field)
    with console.progress("classify") as progress:
        result = evaluate(read_rows(memory, known.labels), settings, choices, known.splits, progress)
    result.write(out, classify_page(result) if html else None)
    for note in (*known.notes, *result.notes):
        console.say(note)
    if as_json:
        console.show_json(result.to_json())
    else:
        rows = [[name, *(f"{at['accuracy']:.3f}" for at in curve)] for name, curve in result.curves.items()]
        title = f"accuracy by percent missing, {choices.seeds} seeds, {result.n} rows"
        console.show_table(["method", *map(str, choices.shares)], rows, title=title)
    console.say(f"wrote {out / ('index.html' if html else 'result.json')}")
    tell_next("classify", "fit", *(part for each in memory for part in ("--memory", each)), "--labels", labels)
