"""``cmcr eval ...``: measure a space."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cmcr import console
from cmcr.errors import nearest
from cmcr.modality import Modality

app = typer.Typer(no_args_is_help=True, help="Measure a space.")


@app.callback()
def _group() -> None:
    """Measure a space; every number stands beside its gallery size and what chance would score."""


@app.command()
def retrieval(
    space: Annotated[Path, typer.Argument(help="A space folder made by cmcr connect.", show_default=False)],
    a: Annotated[str, typer.Option("--a", help="MEMORY:MODALITY, e.g. mem/clap:audio.", show_default=False)],
    b: Annotated[str, typer.Option("--b", help="MEMORY:MODALITY of the partners.", show_default=False)],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Also write the result as JSON.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Retrieval over pairs, both ways: rows of the two memories that carry one id belong together.

    recall@k is the share of queries whose own partner is among the first k of all partners, ties counted against it.
    """
    from cmcr.benchmarks.paired_retrieval import evaluate
    from cmcr.memory import Memory
    from cmcr.space import ConnectedSpace

    (path_a, modality_a), (path_b, modality_b) = _side(a, "--a"), _side(b, "--b")
    opened = ConnectedSpace.from_pretrained(space)
    result = evaluate(opened, Memory.open(path_a), modality_a, Memory.open(path_b), modality_b)
    for note in result.notes:
        console.say(note)
    if out:
        result.save(out)
    if as_json:
        console.show_json(result.to_json())
    else:
        columns, rows = result.table()
        console.show_table(columns, rows, title=f"{result.name} in {space} ({opened.method})")
    held = path_b if modality_b in opened.modalities else path_a
    console.say(f"next: cmcr retrieve {space} QUERY --in {held} --modality {modality_b} --html hits.html")


def _side(value: str, option: str) -> tuple[Path, Modality]:
    path, _, name = value.rpartition(":")
    if not path or name not in list(Modality):
        expected = f"expected MEMORY:MODALITY with one of {', '.join(Modality)}{nearest(name, list(Modality))}"
        raise typer.BadParameter(f"{value!r}: {expected}", param_hint=option)
    return Path(path), Modality(name)
