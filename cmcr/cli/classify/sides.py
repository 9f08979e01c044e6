"""What the commands of classification share: memories, labels, and what is said of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cmcr import console
from cmcr.cli.modalities import memory_side

if TYPE_CHECKING:
    from cmcr.classify import Table

Memories = Annotated[
    list[str],
    typer.Option(
        "--memory",
        metavar="MEMORY:MODALITY",
        help="Repeat for each modality; rows are joined by id, and may lack some. Their order is that of the steps.",
        show_default=False,
    ),
]
Labels = Annotated[
    Path,
    typer.Option(
        help="Classes: a table with id and a class column (and a split), or a data set's list file, or its folder.",
        show_default=False,
    ),
]
LabelField = Annotated[str | None, typer.Option(help="The table's column; default: class, label or category.")]


def read_rows(memories: Sequence[str], labels: Mapping[str, str] | None = None) -> Table:
    """Return the rows of memories, joined by id."""
    from cmcr.classify import join_table
    from cmcr.memory import Memory, translation_notes

    sides = [(Memory.open(path), modality) for path, modality in (memory_side(each, "--memory") for each in memories)]
    for note in translation_notes(*dict.fromkeys(memory for memory, _ in sides)):
        console.say(note)
    return join_table(sides, labels)
