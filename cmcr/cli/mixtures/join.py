"""``cmcr join``: spaces of one frozen base in, one space out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cmcr import console
from cmcr.errors import ArtifactError, InputError


def join(
    spaces: Annotated[list[Path], typer.Argument(metavar="SPACE", help="Spaces with the same frozen base.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The space folder to write.")],
    average: Annotated[
        bool, typer.Option("--average", help="An encoder that is in several enters by the mean of its maps there.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a space at the same place.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Join spaces that were connected to one frozen base; nothing is fitted anew."""
    from cmcr.files import locked
    from cmcr.space import ConnectedSpace, join_spaces

    if len(spaces) < 2:
        raise InputError(f"{spaces[0]} alone; give two or more spaces to join")
    space = join_spaces(*(ConnectedSpace.from_pretrained(path) for path in spaces), average=average)
    with locked(out):
        if (out / "config.json").exists() and not overwrite:
            raise ArtifactError(f"{out} holds a space; choose another folder or add --overwrite")
        space.save(out)
    held = {name: [str(modality) for modality in each.modalities] for name, each in space.encoders.items()}
    if as_json:
        console.show_json({"space": str(out), "base": space.base, "dim": space.dim, "encoders": held})
    else:
        rows = [[name, ", ".join(each), "base" if name == space.base else ""] for name, each in held.items()]
        console.show_table(["encoder", "modalities", ""], rows, title=f"{space.method} -> {out}")
    console.say(f"next: cmcr retrieve {out} QUERY --in MEMORY --modality {space.modalities[-1]} -k 10")
