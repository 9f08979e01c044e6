"""``cmcr classify fit`` and ``cmcr classify predict``."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from cmcr import console
from cmcr.classify.settings import ClassifySettings
from cmcr.cli.classify.sides import LabelField, Labels, Memories, read_rows
from cmcr.cli.flags import with_flags
from cmcr.cli.results import tell_next
from cmcr.commands import COMMANDS

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help=COMMANDS["classify"][1],
)


@app.command()
@with_flags
def fit(
    memory: Memories,
    labels: Labels,
    out: Annotated[Path, typer.Option("--out", "-o", help="The classifier's folder.")] = Path("classifier"),
    label_field: LabelField = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    *,
    settings: ClassifySettings,
) -> None:
    """Learn classes from memories whose rows are joined by id: one modality a step, one head for all (MLA).

    Beside it stand each modality alone, concatenation, sum, late fusion, OGM-GE and QMF, on the same held-out rows:
    those that the labels' split says, or a quarter of each class.
    """
    from cmcr.classify.config import refuse_other
    from cmcr.classify.run import fit as learn
    from cmcr.datasets import read_class_list

    refuse_other(out)
    known = read_class_list(labels, label_field)
    found = learn(read_rows(memory, known.labels), settings, known.splits)
    found.classifier.save(out)
    for note in (*known.notes, *found.notes):
        console.say(note)
    if as_json:
        console.show_json(found.classifier.metrics)
    else:
        rows = [[name, *(f"{each:.3f}" for each in numbers.values())] for name, numbers in found.measured.items()]
        held = found.classifier.metrics["held out"]
        console.show_table(["method", "accuracy", "ECE"], rows, title=f"{held} held-out rows")
    console.say(f"wrote {out}")
    tell_next("classify", "predict", out, *(part for each in memory for part in ("--memory", each)))


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="A classifier's folder.", show_default=False)],
    memory: Memories,
    out: Annotated[Path, typer.Option("--out", "-o", help="The CSV to write.")] = Path("predictions.csv"),
) -> None:
    """Predict the class of every row of these memories, from the modalities that it has.

    The CSV has id, label, its probability, and how much each modality counted for the row.
    """
    from cmcr.classify import Classifier

    found = Classifier.from_pretrained(model).predict(read_rows(memory))
    found.save(out)
    console.show_table(["class", "rows"], Counter(found.labels).most_common(), title=f"{len(found.ids)} rows")
    alone = int(((found.weights > 0).sum(axis=1) < len(found.channels)).sum())
    if alone:
        console.say(f"{alone} of {len(found.ids)} rows lack a modality and were predicted from the others")
    console.say(f"wrote {out}")
