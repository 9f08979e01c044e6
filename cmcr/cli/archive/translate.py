"""``cmcr translate``: move a memory to another encoder, without its files."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cmcr import console
from cmcr.cli.modalities import modality_option
from cmcr.cli.results import tell_next
from cmcr.modality import Modality


def translate(
    memory: Annotated[Path, typer.Argument(help="The old encoder's memory.", show_default=False)],
    space: Annotated[
        Path,
        typer.Option(help="Of cmcr connect NEW OLD --freeze-base, by rows that both embedded.", show_default=False),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The new memory's folder.", show_default=False)],
    modality: Annotated[
        Modality | None,
        modality_option(help="Of the rows; must be what the space was fitted on, which is the default."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Move a memory to another encoder: old vectors into the new one's own space, by a sample that both embedded.

    The new encoder's queries find the rows. The memory says that they were translated, and takes no embedded ones.
    """
    from cmcr.ask.translate import translate as run
    from cmcr.memory import Memory
    from cmcr.space import ConnectedSpace

    with console.progress("translate") as progress:
        report = run(Memory.open(memory), ConnectedSpace.from_pretrained(space), out, modality, progress=progress)
    if as_json:
        console.show_json(asdict(report))
    else:
        counts = [[name, getattr(report, name)] for name in ("translated", "already", "changed")]
        console.show_table(["rows", str(report.modality)], counts)
    console.say(f"{report.modality} {report.record}")
    if report.changed:
        console.warn(f"{report.changed} rows are of other content in {memory} now, and stayed as they were in {out}")
    console.say(f"wrote {out}: near what the new encoder would say, not the same (docs/translate.md)")
    tell_next("retrieve", space, "QUERY", "--in", out, "--modality", report.modality)
