"""``cmcr fuse``: rows of several memories in, one memory of fused rows out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cmcr import console
from cmcr.cli.flags import with_flags
from cmcr.cli.modalities import memory_side, modality_option
from cmcr.cli.results import tell_next
from cmcr.fuse.settings import FuseSettings
from cmcr.modality import Modality

if TYPE_CHECKING:
    from cmcr.fuse import Fused


@with_flags
def fuse(
    sides: Annotated[
        list[str],
        typer.Argument(
            metavar="MEMORY:MODALITY...",
            help="Two or more; rows are joined by id, and may lack some.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="The memory to write. (default: with --model, that memory)", show_default=False
        ),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(help="Fuse by what made this memory, and train nothing.", show_default=False),
    ] = None,
    modality: Annotated[Modality, modality_option("--as", help="What the fused rows are called.")] = "fused",  # type: ignore[assignment]
    dtype: Annotated[
        Literal["float16", "float32"] | None, typer.Option(help="On disk; default: float16, or what the memory has.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    *,
    settings: FuseSettings,
) -> None:
    """Fuse rows of several memories into one vector each (CoMM): what they share, and what only one or both tell.

    It learns from rows that have two or more of the modalities, without labels; then every row is fused from what it
    has. The result is a memory like any other, with the weights beside its rows. A stopped run goes on with the same
    command.
    """
    place = out or model
    if place is None:
        raise typer.BadParameter("give the memory to write with -o")
    if model is not None and settings != FuseSettings():
        raise typer.BadParameter("--model is trained already; leave out the settings of training and views")
    from cmcr.devices import choose_device
    from cmcr.fuse.run import fuse as run
    from cmcr.fuse.run import fuse_with
    from cmcr.memory import Memory

    opened = [(Memory.open(path), kind) for path, kind in (memory_side(each, "MEMORY:MODALITY") for each in sides)]
    if model is not None:
        done = fuse_with(model, opened, place, modality=modality, dtype=dtype)
    else:
        with console.progress("training") as progress:
            done = run(
                opened, place, settings, modality=modality, dtype=dtype, device=choose_device(device), progress=progress
            )
    _tell(done, place, modality, as_json)


def _tell(done: Fused, place: Path, modality: Modality, as_json: bool) -> None:
    for note in done.notes:
        console.say(note)
    if done.trained:
        epochs, loss = done.fuser.settings.epochs, done.fuser.metrics["loss"]
        console.say(
            f"trained on {done.trained} rows that have two or more modalities; loss {loss:.3f} after {epochs} epochs"
        )
    already = f", {done.already} already there" if done.already else ""
    console.say(f"{place}: {done.added} {modality} rows of {done.fuser.dim} components{already}")
    if as_json:
        facts = {"trained": done.trained, "added": done.added, "already": done.already, "notes": list(done.notes)}
        console.show_json({"memory": str(place), "encoder": done.memory.encoder.name, **facts})
    tell_next("map", f"{place}:{modality}")
