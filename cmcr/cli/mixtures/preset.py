"""``cmcr preset``: weights of encoders that a space stores under a name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cmcr import console
from cmcr.cli.options import EncoderWeight
from cmcr.cli.results import tell_next
from cmcr.errors import InputError, nearest

if TYPE_CHECKING:
    from cmcr.space import ConnectedSpace


def preset(
    space: Annotated[Path, typer.Argument(help="A space folder.", show_default=False)],
    name: Annotated[str | None, typer.Argument(help="Of the preset, such as versatile.", show_default=False)] = None,
    weight: EncoderWeight = None,
    remove: Annotated[bool, typer.Option("--remove", help="Take the preset out of the space.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the space's presets as JSON.")] = False,
) -> None:
    """Store weights of encoders in a space under a name, or list those that it has.

    Weights say how much each encoder counts where several see one item; they can be changed at any time, for nothing
    is trained. --preset NAME of the commands that ask or measure then stands for all of them.
    """
    if remove and (weight or name is None):
        raise typer.BadParameter("takes the NAME of a preset, and no --weight", param_hint="--remove")
    if weight and name is None:
        raise typer.BadParameter("expected the NAME to store the weights under", param_hint="NAME")
    from cmcr.ask.shares import read_shares
    from cmcr.files import locked
    from cmcr.space import ConnectedSpace

    with locked(space):
        opened = ConnectedSpace.from_pretrained(space)
        if name is not None and (remove or not weight) and name not in opened.presets:
            known = ", ".join(opened.presets) or "none"
            raise InputError(f"preset {name!r} is not in {space} (presets: {known}){nearest(name, opened.presets)}")
        if name is not None and (remove or weight):
            opened.keep_preset(name, None if remove else read_shares(weight or [], opened))
            opened.save(space)
    _show(opened, name if not remove else None, as_json)
    if name is not None and not remove:
        tell_next("retrieve", space, then=f" QUERY --in MEMORY --preset {name}")


def _show(space: ConnectedSpace, name: str | None, as_json: bool) -> None:
    shown = {each: kept for each, kept in space.presets.items() if name in (None, each)}
    if as_json:
        console.show_json({"presets": shown})
        return
    rows = [
        [each, encoder, str(modality), f"{weight:g}"]
        for each, preset in shown.items()
        for modality, weights in preset.items()
        for encoder, weight in weights.items()
    ]
    console.show_table(["preset", "encoder", "modality", "weight"], rows)
