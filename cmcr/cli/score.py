"""``cmcr score``: how alike are these items?"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from cmcr import console
from cmcr.cli.options import open_subject
from cmcr.cli.results import tell_next


def score(
    items: Annotated[
        list[str],
        typer.Argument(metavar="A...", help="Texts, files, or rows MEMORY[:MODALITY]#ID.", show_default=False),
    ],
    space: Annotated[str, typer.Option("--space", "-s", help="A space folder, or an encoder.", show_default=False)],
    others: Annotated[
        list[str] | None,
        typer.Option("--with", "-w", metavar="B", help="What each A is scored with, repeatable.", show_default=False),
    ] = None,
    temperature: Annotated[float, typer.Option(help="Of the softmax along each A's row.")] = 0.1,
    encoder: Annotated[
        str | None, typer.Option(help="Which encoder embeds an item, where it can. (default: the first that can)")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    precision: Annotated[
        Literal["fp32", "bf16", "fp16"], typer.Option(help="Of the encoders' matrix products.")
    ] = "fp32",
    weights: Annotated[
        list[Path] | None, typer.Option(help="Encoders' weights: files, or folders that hold them.")
    ] = None,
    up: Annotated[
        Literal["y", "z"] | None,
        typer.Option(help="The axis that points up in point clouds. (default: as the encoder expects)"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Cosine of every A with every B, and its softmax over the Bs; without --with, of the first A with the others."""
    rows, columns = (items, others) if others else (items[:1], items[1:])
    if not columns:
        raise typer.BadParameter("one item alone; expected A B, or A... --with B", param_hint="A...")
    if not temperature > 0:
        raise typer.BadParameter(f"{temperature}; expected a number above 0", param_hint="--temperature")
    from cmcr.ask.score import score as scored

    subject = open_subject(space, device, weights, precision)
    found = scored(subject, rows, columns, temperature=temperature, encoder=encoder, up=up)
    for name, note in found.notes.items():
        console.warn(f"{name}: {note}")
    if as_json:
        values = asdict(found) | {"cosines": found.cosines.tolist(), "softmax": found.softmax.tolist()}
        if not found.notes:
            del values["notes"]
        console.show_json({"space": space, "method": subject.method} | values)
    else:
        table = [
            [a, b, f"{found.cosines[i, j]:.4f}", f"{found.softmax[i, j]:.4f}"]
            for i, a in enumerate(found.rows)
            for j, b in enumerate(found.columns)
        ]
        title = f"in {space} ({subject.method}); softmax at temperature {temperature:g}, along each row's items"
        console.show_table(["item", "with", "cosine", "softmax"], table, title=title)
    if subject.space is not None:
        tell_next("retrieve", space, rows[0], then=" --in MEMORY, for the nearest of many")
    else:
        tell_next("connect", then=" MEMORY MEMORY -o SPACE, to score across encoders")
