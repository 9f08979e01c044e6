"""Options that every ``cmcr eval`` shares, what they open, and how a result is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cmcr import console
from cmcr.settings import Checked, setting

if TYPE_CHECKING:
    from cmcr.ask import Subject
    from cmcr.evaluate.result import Result
    from cmcr.report import Previews

WORK = "How the work is done"
"""A panel of the help."""

SubjectName = Annotated[str, typer.Argument(help="A space folder, or an encoder.", show_default=False)]


@dataclass(frozen=True)
class Run(Checked):
    """How an evaluation runs and tells: what every ``cmcr eval`` that embeds has last."""

    as_json: bool = setting(False, "Print one JSON document.", alias="json")
    strict: bool = setting(False, "Exit 1 when items are missing.")
    device: str = setting("auto", "auto, cpu, cuda or mps.", panel=WORK)
    weights: list[Path] | None = setting(None, "Encoders' weights: files, or folders that hold them.", panel=WORK)
    precision: Literal["fp32", "bf16", "fp16"] = setting("fp32", "Of the encoders' matrix products.", panel=WORK)

    def open(self, subject: str, shares: list[str] | None = None, preset: str | None = None) -> Subject:
        """Open what is evaluated, a space or a bare encoder."""
        return open_subject(subject, self.device, self.weights, self.precision, shares, preset)

    def present(self, result: Result, title: str, out: Path | None, page: str | None = None) -> None:
        """Print a result, write ``result.json``, ``result.csv`` (and ``index.html`` when there is a page) into ``out``.

        Raises:
            typer.Exit: 1 with ``--strict`` when items are missing.
        """
        if out is not None:
            result.write(out, page)
        for note in result.notes:
            console.say(note)
        if result.shortfall:
            console.warn(result.shortfall)
        if self.as_json:
            console.show_json(result.to_json())
        else:
            columns, rows = result.table()
            console.show_table(columns, rows, title=title)
        if out is not None:
            console.say(f"wrote {out / ('index.html' if page is not None else 'result.json')}")
        if self.strict and result.shortfall:
            raise typer.Exit(1)


EncoderWeight = Annotated[
    list[str] | None,
    typer.Option(
        "--weight",
        metavar="ENCODER:MODALITY=WEIGHT",
        help="How much an encoder counts where several see one item; it is asked for items of that modality, too.",
        show_default=False,
    ),
]
WeightPreset = Annotated[
    str | None,
    typer.Option(
        "--preset",
        metavar="NAME",
        help="Weights that the space stores (cmcr preset); routed: what its routers say (cmcr weigh).",
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
    preset: str | None = None,
) -> Subject:
    """Open a space or a bare encoder, as these options say."""
    from cmcr.ask import Subject
    from cmcr.devices import choose_device

    given = {"weights": weights or (), "precision": precision, "shares": shares or (), "preset": preset}
    return Subject.open(name, device=choose_device(device), **given)  # type: ignore[arg-type]
