"""``cmcr eval sweep``: recall against how much one encoder counts of those that see an item."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cmcr import console
from cmcr.cli.flags import with_flags
from cmcr.cli.modalities import memory_side, one_modality
from cmcr.cli.options import Run
from cmcr.cli.results import tell_next
from cmcr.errors import InputError
from cmcr.modality import Modality

if TYPE_CHECKING:
    from cmcr.space import ConnectedSpace


@functools.partial(with_flags, leave=["device", "weights", "precision", "strict"])
def sweep(
    space: Annotated[Path, typer.Argument(help="A space folder.", show_default=False)],
    of: Annotated[
        str, typer.Option("--of", metavar="ENCODER:MODALITY", help="Whose weight is swept.", show_default=False)
    ],
    a: Annotated[
        list[str], typer.Option("--a", help="MEMORY:MODALITY; repeated: what several see.", show_default=False)
    ],
    b: Annotated[list[str], typer.Option("--b", help="MEMORY:MODALITY of the partners.", show_default=False)],
    own: Annotated[
        list[str] | None,
        typer.Option("--own", help="MEMORY:MODALITY of partners in the own space of the others; may be repeated."),
    ] = None,
    weight: Annotated[
        list[str] | None,
        typer.Option(metavar="ENCODER:MODALITY=WEIGHT", help="Of the others, which share what is left."),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, max=1000, help="From share 0 to share 1.")] = 10,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of result.json and index.html.")] = Path(
        "results/sweep"
    ),
    html: Annotated[bool, typer.Option("--html/--no-html", help="Write index.html, the curves.")] = True,
    *,
    run: Run,
) -> None:
    """Recall against the weight of an encoder: both directions, and what its items lose in the others' own space.

    Pairs are joined by id, as in cmcr eval retrieval. The share that is best here was chosen on these pairs: measure it
    on others, and keep it with cmcr preset.
    """
    sides = one_modality(a, "--a"), one_modality(b, "--b")
    partners = [memory_side(each, "--own") for each in own or ()]
    from cmcr.ask.shares import read_shares
    from cmcr.evaluate.sweep.page import sweep_page
    from cmcr.evaluate.sweep.sweep import evaluate
    from cmcr.memory import Memory
    from cmcr.space import ConnectedSpace

    opened = ConnectedSpace.from_pretrained(space)
    swept = _swept(of, opened)
    weights = read_shares(weight or [], opened).get(swept[1], {})
    first, second = (([Memory.open(path) for path in paths], modality) for paths, modality in sides)
    others = [([Memory.open(path)], modality) for path, modality in partners]
    result = evaluate(opened, swept, first, second, own=others, weights=weights, steps=steps)
    best = result.best()
    run.present(result, f"{of} in {space}", out, sweep_page(result, str(space)) if html else None)
    console.say(f"recall@1 is highest at the share {result.shares[best]:g}, on these pairs: measure it on others")
    kept = [word for flag in result.flags[best] for word in ("--weight", flag)]
    tell_next("preset", space, "NAME", *kept, then=", to keep it")


def _swept(of: str, space: ConnectedSpace) -> tuple[str, Modality]:
    """Return the two parts of ENCODER:MODALITY."""
    name, _, kind = of.rpartition(":")
    try:
        modality = Modality(kind)
        return space.encoder_for(modality, name).name, modality
    except InputError as error:
        raise InputError(f"--of {of!r}: {error}; expected ENCODER:MODALITY, such as tiny-clap:text") from None
