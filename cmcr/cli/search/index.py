"""``cmcr index``: make asking a memory fast, and keep it so while the memory grows."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cmcr import console
from cmcr.cli.modalities import memory_side, modality_option
from cmcr.cli.retrieve import modality_of
from cmcr.modality import Modality

if TYPE_CHECKING:
    from cmcr.ask import Debias

Against = Annotated[
    str | None,
    typer.Option(
        "--debias",
        metavar="MEMORY:MODALITY",
        help="Take from each row what it owes to lying near everything: rows like the queries, of the space.",
        show_default=False,
    ),
]
DebiasK = Annotated[
    int | None, typer.Option(help="Reference rows that count for a row. (default: 128)", show_default=False)
]
DebiasAlpha = Annotated[
    float | None,
    typer.Option(help="How much of their mean cosine a row's score loses. (default: 0.75)", show_default=False),
]


def index(
    memory: Annotated[Path, typer.Argument(help="The memory to index.", show_default=False)],
    space: Annotated[Path, typer.Option(help="The space it is searched in.", show_default=False)],
    modality: Annotated[
        Modality | None, modality_option(help="Of the memory; may be left out where it holds one.", show_default=False)
    ] = None,
    kind: Annotated[
        Literal["flat", "hnsw", "ivf"],
        typer.Option(help="flat is exact; hnsw is fast and large; ivf is smaller and maps into memory."),
    ] = "hnsw",
    seed: Annotated[int, typer.Option(min=0, help="Of the clustering of ivf.")] = 0,
    debias: Against = None,
    debias_k: DebiasK = None,
    debias_alpha: DebiasAlpha = None,
    anew: Annotated[bool, typer.Option("--anew", help="Build it anew also where new rows would do.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Build a FAISS index of a memory as it lies in a space, kept beside the memory; extend it when the memory grew."""
    from cmcr.ask import make_index
    from cmcr.memory import Memory
    from cmcr.space import ConnectedSpace

    opened = Memory.open(memory)
    wanted = modality_of(opened, modality)
    against = read_debias(debias, debias_k, debias_alpha)
    path, info = make_index(ConnectedSpace.from_pretrained(space), opened, wanted, kind, seed, against, anew=anew)
    if as_json:
        console.show_json({"index": str(path)} | asdict(info))
    else:
        settings = ", ".join(f"{name} {value}" for name, value in info.parameters.items())
        console.show_table(("index", "kind", "rows", "dim", "settings"), [(path, kind, info.rows, info.dim, settings)])
    if info.bias:
        console.say(f"debiased: a score is the cosine less the row's bias, {info.bias}")
    console.say(f"next: cmcr retrieve {space} QUERY --in {memory} --modality {wanted} --index {kind}")


def read_debias(against: str | None, k: int | None, alpha: float | None) -> Debias | None:
    """Return what --debias and its settings ask for."""
    given: dict[str, Any] = {name: value for name, value in (("k", k), ("alpha", alpha)) if value is not None}
    if against is None:
        if given:
            raise typer.BadParameter("is a setting of --debias MEMORY:MODALITY", param_hint=f"--debias-{min(given)}")
        return None
    path, modality = memory_side(against, "--debias")
    from cmcr.ask import Debias
    from cmcr.memory import Memory

    return Debias(Memory.open(path), modality, **given)
