"""``cmcr eval modelnet40`` and ``cmcr eval zero-shot``: class names as phrases, and items nearest to them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cmcr import console
from cmcr.cli.flags import with_flags
from cmcr.cli.modalities import modality_option
from cmcr.cli.options import Run, SubjectName
from cmcr.commands import EVALUATIONS
from cmcr.evaluate.zero_shot.choices import DATA, Choices, ModelNet40
from cmcr.modality import Modality

if TYPE_CHECKING:
    from cmcr.evaluate.zero_shot.classify import Classification, Outcome


def _classify(
    subject: SubjectName,
    data: Annotated[Path, typer.Option(help="Its folder, or a .dat, .h5 or manifest file.", show_default=False)],
    modality: Annotated[
        Modality | None,
        modality_option(help="Of the items. (default: seen from the files)", rich_help_panel=DATA),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Results, memories and unpacked clouds.")] = Path(),
    *,
    choices: Any,
    per_class: Annotated[bool, typer.Option("--per-class", help="Also print the accuracy of each class.")] = False,
    html: Annotated[bool, typer.Option("--html", help="Also write index.html, with the confusion matrix.")] = False,
    run: Run,
) -> None:
    from cmcr.evaluate.zero_shot.modelnet40 import evaluate_data, read_data
    from cmcr.report.page import readable_path

    opened = run.open(subject)
    read = read_data(opened, data, choices, out, modality)
    kind = read.inputs.modality
    if kind is not Modality.POINT_CLOUD and (choices.points or choices.up):
        raise typer.BadParameter(f"--points and --up are for point clouds; these items are {kind}")
    with console.progress("point clouds" if choices.preset else kind.value) as progress:
        outcome = evaluate_data(opened, read, choices, out, progress=progress)
    title = f"{'ModelNet40' if choices.preset else read.name} zero-shot: {readable_path(subject)}"
    _show(outcome, title, out, per_class, html, run)


modelnet40 = with_flags(_classify, ModelNet40, leave=["modality"], out=Path("results/modelnet40"))
modelnet40.__doc__ = f"""{EVALUATIONS["modelnet40"][1]}

Reads modelnet40_normal_resampled, Princeton's .off folders, ULIP's .dat cache, h5 files or a manifest.
"""
zero_shot = with_flags(_classify, Choices, out=Path("results/zero-shot"))
zero_shot.__doc__ = f"""{EVALUATIONS["zero-shot"][1]}

The layouts of cmcr eval modelnet40 are read too, ModelNet10 among them.
"""


def _show(outcome: Outcome, title: str, out: Path, per_class: bool, html: bool, run: Run) -> None:
    result = outcome.result
    page = None
    if html:
        from cmcr.evaluate.zero_shot.page import classification_page

        page = classification_page(outcome, title)
    for row, folds in result.folds.items():
        if folds:
            told = ", ".join(f"{fold} {values['top-1']:.3f}" for fold, values in folds.items())
            console.say(f"top-1 by fold, {row}: {told}")
    console.say(f"templates: {result.settings['templates']}; text by {result.settings['text encoder']}")
    run.present(result, title, out, page)
    if per_class and not run.as_json:
        console.show_table(["class", "items", *result.per_class], _class_rows(result), title="each class")
    if html:
        console.say(
            f"next: open {out / 'index.html'}; or cmcr eval retention on the same space: what connecting cost it"
        )
    else:
        other = "" if any(row.endswith(" alone") for row in result.values) else ", or with --ladder"
        console.say(f"next: the same command with --html for the confusion matrix{other}")


def _class_rows(result: Classification) -> list[list[str]]:
    rows = []
    for number, name in enumerate(result.classes):
        shares = [each[number] for each in result.per_class.values()]
        rows.append([name, str(result.counts[number]), *("" if x is None else f"{x:.3f}" for x in shares)])
    return rows
