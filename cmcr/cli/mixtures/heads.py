"""``cmcr import-heads``: the projectors that the authors of C-MCR and of its successors published, as a space."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cmcr import console
from cmcr.errors import ArtifactError

_SIDES = "Whose vectors they take"


def import_heads(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="clap_clip.pt or ulip_clip.pt; ex_clap.pt, ex_ulip.pt; FreeBind's best.pt, one a mix; OmniBind's "
            "base.pt or large.pt; TextME's clip.pt, clap.pt, ...",
            show_default=False,
        ),
    ],
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
    encoder: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SIDE=NAME", help="Any other side: imagebind=mem/ib, base=..., ...", rich_help_panel=_SIDES
        ),
    ] = None,
    offsets: Annotated[
        list[str] | None,
        typer.Option(metavar="[SIDE=]FOLDER", help="TextME's text_embed_mean.pkl and img_embed_mean.pkl of a file."),
    ] = None,
    weights: Annotated[
        list[Path] | None, typer.Option(help="Encoders' weights: files, or folders that hold them.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a space that is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the space's encoders as JSON.")] = False,
) -> None:
    """Import the heads that C-MCR, Ex-MCR, FreeBind, OmniBind or TextME published as a connected space.

    Which paper's they are is told by their keys. Nothing in the files is run.
    """
    if (out / "config.json").exists() and not overwrite:
        raise ArtifactError(f"{out} holds a space; choose another folder, or --overwrite")
    from cmcr.space import import_heads as read

    given = {"clip": clip, "clap": clap, "ulip": ulip} | _by_side(encoder, "--encoder")
    sides, places = {side: name for side, name in given.items() if name}, _by_side(offsets, "--offsets")
    space, notes = read(
        files, sides=sides, weights=weights or (), offsets={side: Path(place) for side, place in places.items()}
    )
    space.save(out)
    for note in notes:
        console.say(note)
    if as_json:
        about = {e.name: {"fingerprint": e.fingerprint, "dim": e.dim} for e in space.encoders.values()}
        console.show_json({"space": str(out), "overlap": str(space.overlap), "dim": space.dim, "encoders": about})
    console.say(f"next: cmcr retrieve {out} QUERY --in MEMORY -k 10; or cmcr info {out}")


def _by_side(given: list[str] | None, flag: str) -> dict[str, str]:
    """Return what SIDE=VALUE say; of a folder alone the side is empty."""
    found = {}
    for each in given or ():
        side, equals, value = each.partition("=")
        if not equals and flag != "--offsets":
            raise typer.BadParameter(f"{each!r}; expected SIDE=NAME", param_hint=flag)
        found[side if equals else ""] = value if equals else side
    return found
