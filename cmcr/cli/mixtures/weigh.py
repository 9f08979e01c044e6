"""``cmcr weigh``: routers, which learn how much each encoder's view of an item counts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cmcr import console
from cmcr.cli.flags import with_flags
from cmcr.cli.results import tell_next
from cmcr.errors import ArtifactError
from cmcr.routers.config import RouterConfig


@with_flags
def weigh(
    space: Annotated[Path, typer.Argument(help="A space folder.", show_default=False)],
    memories: Annotated[
        list[Path], typer.Option("--in", help="A memory of each encoder; rows need no pairs.", show_default=False)
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The space with routers: a folder.", show_default=False)],
    *,
    choices: RouterConfig,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a space that is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was measured as JSON.")] = False,
) -> None:
    """Train routers: of each item that several encoders see, how much the view of each counts.

    Trained on items of which the best specialists retrieved the other modalities; no pair is needed, and the maps of
    the space stay as they are. --preset routed of the commands that ask or measure then lets the routers weigh.
    """
    from cmcr.files import locked
    from cmcr.memory import Memory
    from cmcr.routers import train_routers
    from cmcr.space import ConnectedSpace

    opened = ConnectedSpace.from_pretrained(space)
    with locked(out):
        if (out / "config.json").exists() and not overwrite:
            raise ArtifactError(f"{out} holds a space; choose another folder or add --overwrite")
        with console.progress("training routers") as progress:
            made = train_routers(opened, [Memory.open(path) for path in memories], choices, progress)
        made.space.save(out)
    for note in made.notes:
        console.say(note)
    routed = [str(modality) for modality in made.space.routers]
    if as_json:
        console.show_json({"space": str(out), "routers": routed, "metrics": dict(made.metrics)})
    else:
        rows = [[name, f"{value:.3f}"] for name, value in made.metrics.items()]
        console.show_table(["measure", "value"], rows, title=f"routers of {', '.join(routed)} -> {out}")
    tell_next("retrieve", out, then=" QUERY --in MEMORY --preset routed")
