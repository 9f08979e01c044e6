"""``cmcr eval modelnet40`` and ``cmcr eval zero-shot``: class names as phrases, and items nearest to them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cmcr import console
from cmcr.cli.modalities import modality_option
from cmcr.cli.options import PROTOCOL, AsJson, Device, PrecisionName, Strict, SubjectName, Weights, open_subject
from cmcr.cli.results import present
from cmcr.modality import Modality

if TYPE_CHECKING:
    from cmcr.evaluate.zero_shot.classes import Order, Templates
    from cmcr.evaluate.zero_shot.classify import Classification, Outcome

_DATA = "The data set"

_Data = Annotated[Path, typer.Option(help="Its folder, or a .dat, .h5 or manifest file.", show_default=False)]
_Layout = Annotated[
    str | None,
    typer.Option(
        help="modelnet40, modelnet10, princeton, ulip-dat, h5, esc50, manifest or folders. (default: as recognised)",
        rich_help_panel=_DATA,
    ),
]
_Split = Annotated[
    str | None, typer.Option(help="Which part. (default: test where there are parts)", rich_help_panel=_DATA)
]
_Names = Annotated[
    Path | None,
    typer.Option(help="Class names in the order of their numbers, one a line.", rich_help_panel=_DATA),
]
_Labels = Annotated[
    Path | None,
    typer.Option(help="What the classes are called: lines, or JSON as ULIP's labels.json.", rich_help_panel=PROTOCOL),
]
_TemplateSet = Annotated[
    str | None,
    typer.Option(help="Which list of a JSON file. (default: the one named after the data)", rich_help_panel=PROTOCOL),
]
_Order = Annotated[
    Literal["both", "project-first", "average-first"],
    typer.Option(help="Whether phrases are projected or averaged first.", rich_help_panel=PROTOCOL),
]
_Up = Annotated[
    Literal["y", "z"] | None,
    typer.Option(
        help="The axis that points up in the clouds. (default: z for Princeton's meshes, else as the encoder expects)",
        rich_help_panel=PROTOCOL,
    ),
]
_Encoder = Annotated[
    str | None,
    typer.Option(help="Embeds the items. (default: the space's first that can)", rich_help_panel=PROTOCOL),
]
_TextEncoder = Annotated[
    str | None,
    typer.Option(help="Embeds the phrases. (default: the space's first that can)", rich_help_panel=PROTOCOL),
]
_Ladder = Annotated[bool, typer.Option("--ladder", help="Also ask the items' encoder alone, with its own text tower.")]
_PerClass = Annotated[bool, typer.Option("--per-class", help="Also print the accuracy of each class.")]
_Html = Annotated[bool, typer.Option("--html", help="Also write index.html, with the confusion matrix.")]


def modelnet40(
    subject: SubjectName,
    data: _Data,
    out: Annotated[Path, typer.Option("--out", "-o", help="Results, memories and unpacked clouds.")] = Path(
        "results/modelnet40"
    ),
    layout: _Layout = None,
    split: _Split = None,
    names: _Names = None,
    points: Annotated[
        int, typer.Option(min=0, help="Farthest points kept of each cloud; 0: as it is.", rich_help_panel=PROTOCOL)
    ] = 8192,
    up: _Up = None,
    templates: Annotated[
        str,
        typer.Option(
            help="imagenet (open_clip's), plain, or a file: lines, or JSON as ULIP's.", rich_help_panel=PROTOCOL
        ),
    ] = "imagenet",
    template_set: _TemplateSet = None,
    labels: _Labels = None,
    order: _Order = "both",
    encoder: _Encoder = None,
    text_encoder: _TextEncoder = None,
    ladder: _Ladder = False,
    per_class: _PerClass = False,
    html: _Html = False,
    as_json: AsJson = False,
    strict: Strict = False,
    device: Device = "auto",
    weights: Weights = None,
    precision: PrecisionName = "fp32",
) -> None:
    """Zero-shot classification of ModelNet40's shapes, as ULIP measures it: top-1, top-3, top-5 and each class.

    Reads modelnet40_normal_resampled, Princeton's .off folders, ULIP's .dat cache, h5 files or a manifest.
    """
    from cmcr.evaluate.zero_shot.classes import load_templates
    from cmcr.evaluate.zero_shot.modelnet40 import NAME, evaluate

    phrases = load_templates(templates, NAME, template_set)
    opened = open_subject(subject, device, weights, precision)
    with console.progress("point clouds") as progress:
        outcome = evaluate(
            opened,
            data,
            folder=out,
            layout=layout,
            split=split,
            names=names,
            labels=labels,
            templates=phrases,
            points=points,
            up=up,
            orders=_orders(order),
            encoder=encoder,
            text_encoder=text_encoder,
            ladder=ladder,
            progress=progress,
        )
    _show(outcome, f"ModelNet40 zero-shot: {subject}", out, per_class, html, as_json, strict)


def zero_shot(
    subject: SubjectName,
    data: _Data,
    modality: Annotated[
        Modality | None,
        modality_option(help="Of the items. (default: seen from the files)", rich_help_panel=_DATA),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Results, memories and unpacked clouds.")] = Path(
        "results/zero-shot"
    ),
    layout: _Layout = None,
    split: _Split = None,
    names: _Names = None,
    points: Annotated[
        int, typer.Option(min=0, help="Farthest points kept of each cloud; 0: as it is.", rich_help_panel=PROTOCOL)
    ] = 0,
    up: _Up = None,
    templates: Annotated[
        str | None,
        typer.Option(
            help="imagenet (open_clip's), sound, plain, or a file: lines, or JSON as ULIP's. "
            "(default: sound for sounds, else imagenet)",
            rich_help_panel=PROTOCOL,
        ),
    ] = None,
    template_set: _TemplateSet = None,
    labels: _Labels = None,
    order: _Order = "both",
    encoder: _Encoder = None,
    text_encoder: _TextEncoder = None,
    ladder: _Ladder = False,
    per_class: _PerClass = False,
    html: _Html = False,
    as_json: AsJson = False,
    strict: Strict = False,
    device: Device = "auto",
    weights: Weights = None,
    precision: PrecisionName = "fp32",
) -> None:
    """Zero-shot classification of any labelled images, sounds or point clouds: a folder a class, ESC-50, a manifest.

    The layouts of cmcr eval modelnet40 are read too, ModelNet10 among them.
    """
    from cmcr.datasets import read_labelled
    from cmcr.evaluate.zero_shot.classes import class_labels
    from cmcr.evaluate.zero_shot.classify import evaluate
    from cmcr.evaluate.zero_shot.modelnet40 import prepared, with_own_sampling

    opened = open_subject(subject, device, weights, precision)
    read = read_labelled(
        data,
        unpack=out / "unpacked",
        layout=layout,
        modalities=[modality] if modality else opened.modalities,
        split=split,
        names=names,
        points=points,
    )
    kind = read.inputs.modality
    if kind is not Modality.POINT_CLOUD and (points or up):
        raise typer.BadParameter(f"--points and --up are for point clouds; these items are {kind}")
    chosen = templates or ("sound" if kind is Modality.AUDIO else "imagenet")
    phrases = _templates(chosen, read.name, template_set)
    said = class_labels(read.classes, labels, read.name)
    with console.progress(kind.value) as progress:
        if kind is Modality.POINT_CLOUD:
            read = prepared(read, out / "unpacked", points, up, progress)
        outcome = evaluate(
            opened,
            read,
            said,
            phrases,
            folder=out / "memories",
            orders=_orders(order),
            encoder=encoder,
            text_encoder=text_encoder,
            ladder=ladder,
            progress=progress,
        )
    _show(with_own_sampling(outcome), f"{read.name} zero-shot: {subject}", out, per_class, html, as_json, strict)


def _templates(source: str, data: str, key: str | None) -> Templates:
    from cmcr.evaluate.zero_shot.classes import load_templates

    return load_templates(source, data, key)


def _orders(order: str) -> tuple[Order, ...]:
    from cmcr.evaluate.zero_shot.classes import ORDERS

    return ORDERS if order == "both" else tuple(each for each in ORDERS if each == order)


def _show(outcome: Outcome, title: str, out: Path, per_class: bool, html: bool, as_json: bool, strict: bool) -> None:
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
    present(result, title=title, as_json=as_json, strict=strict, out=out, page=page)
    if per_class and not as_json:
        console.show_table(["class", "items", *result.per_class], _class_rows(result), title="each class")
    if html:
        console.say(
            f"next: open {out / 'index.html'}; or cmcr eval retention on the same space: what connecting cost it"
        )
    else:
        console.say("next: the same command with --html for the confusion matrix, or with --ladder")


def _class_rows(result: Classification) -> list[list[str]]:
    rows = []
    for number, name in enumerate(result.classes):
        shares = [each[number] for each in result.per_class.values()]
        rows.append([name, str(result.counts[number]), *("" if x is None else f"{x:.3f}" for x in shares)])
    return rows
