"""Options that every ``cmcr eval`` shares, and what they open."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cmcr import console

if TYPE_CHECKING:
    from cmcr.ask import Subject
    from cmcr.report import Previews

PROTOCOL, WORK = "What the protocol leaves open", "How the work is done"
"""Panels of the help."""

SubjectName = Annotated[str, typer.Argument(help="A space folder, or an encoder.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Strict = Annotated[bool, typer.Option("--strict", help="Exit 1 when items are missing.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.", rich_help_panel=WORK)]
Weights = Annotated[
    list[Path] | None, typer.Option(help="Encoders' weights: files, or folders that hold them.", rich_help_panel=WORK)
]
PrecisionName = Annotated[
    Literal["fp32", "bf16", "fp16"], typer.Option(help="Of the encoders' matrix products.", rich_help_panel=WORK)
]

EncoderWeight = Annotated[
    list[str] | None,
    typer.Option(
        "--weight",
        metavar="ENCODER:MODALITY=WEIGHT",
        help="How much an encoder counts where several see one item; it is asked for items of that modality, too.",
        show_default=False,
    ),
]
MediaRoot = Annotated[
    list[Path] | None,
    typer.Option(
        "--media-root",
        exists=True,
        file_okay=False,
        help="A folder whose files the page may show, besides the working directory; may be repeated.",
        show_default=False,
    ),
]


def previews_in(roots: Sequence[Path]) -> Previews:
    """Return what makes the pictures and sounds of a page, of files in these folders and the working directory."""
    from cmcr.memory import MediaRoots
    from cmcr.report import Previews

    return Previews(roots=MediaRoots(roots))


def warn_of_outside(previews: Previews) -> None:
    """Tell how many files a page does not show, for nobody allowed to open them."""
    if previews.outside:
        console.warn(
            f"{previews.outside} files were not opened for the page, for they lie outside of the working directory: "
            "allow their folder with --media-root DIR"
        )


def open_subject(
    name: str,
    device: str,
    weights: list[Path] | None,
    precision: Literal["fp32", "bf16", "fp16"],
    shares: list[str] | None = None,
) -> Subject:
    """Open what is evaluated, a space or a bare encoder, with the options above."""
    from cmcr.ask import Subject
    from cmcr.devices import choose_device

    return Subject.open(
        name, device=choose_device(device), weights=weights or (), precision=precision, shares=shares or ()
    )
