"""``cmcr import-heads``: the projectors that C-MCR's authors published, as a space."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cmcr import console
from cmcr.errors import ArtifactError

_SIDES = "Whose vectors they take"


def import_heads(
    file: Annotated[Path, typer.Argument(help="clap_clip.pt or ulip_clip.pt.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", help="The space: a new folder.", show_default=False)],
    clip: Annotated[
        str | None, typer.Option(help="Encoder, or a memory made with it. (default: clip)", rich_help_panel=_SIDES)
    ] = None,
    clap: Annotated[
        str | None, typer.Option(help="Encoder, or a memory made with it. (default: clap)", rich_help_panel=_SIDES)
    ] = None,
    ulip: Annotated[
        str | None, typer.Option(help="Encoder, or a memory made with it. (default: ulip)", rich_help_panel=_SIDES)
    ] = None,
    weights: Annotated[
        list[Path] | None, typer.Option(help="Encoders' weights: files, or folders that hold them.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a space that is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the space's encoders as JSON.")] = False,
) -> None:
    """Import the official C-MCR heads as a connected space."""
    if (out / "config.json").exists() and not overwrite:
        raise ArtifactError(f"{out} holds a space; choose another folder, or --overwrite")
    from cmcr.space import import_heads as read

    given = {"clip": clip, "clap": clap, "ulip": ulip}
    space, notes = read(file, sides={side: name for side, name in given.items() if name}, weights=weights or ())
    space.save(out)
    for note in notes:
        console.say(note)
    if as_json:
        about = {e.name: {"fingerprint": e.fingerprint, "dim": e.dim} for e in space.encoders.values()}
        console.show_json({"space": str(out), "overlap": str(space.overlap), "dim": space.dim, "encoders": about})
    console.say(f"next: cmcr retrieve {out} QUERY --in MEMORY -k 10; or cmcr info {out}")
