"""``cmcr columns``: facts about a memory's rows, by which a search is narrowed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cmcr import console


def columns(
    memory: Annotated[Path, typer.Argument(help="A memory.", show_default=False)],
    table: Annotated[
        Path | None, typer.Argument(help="A CSV, JSONL or parquet file, one record a row.", show_default=False)
    ] = None,
    id_column: Annotated[str, typer.Option("--id", help="The table's column that holds the rows' ids.")] = "id",
    drop: Annotated[
        list[str] | None, typer.Option(help="Take this column away; may be repeated.", show_default=False)
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 when a record is left out.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Import facts about a memory's rows from a table, for --where of cmcr retrieve; or list them.

    Records are joined to rows by id. A row named again takes the new values; other rows and columns keep theirs.
    """
    if table is not None and drop:
        raise typer.BadParameter("takes columns away, and a TABLE brings some: one at a time", param_hint="--drop")
    from cmcr.memory import Memory
    from cmcr.memory.columns import column_types, drop_columns, filled, import_columns

    opened, left_out = Memory.open(memory), {}
    if drop:
        drop_columns(opened, drop)
    if table is not None:
        made = import_columns(opened, table, id_column)
        left_out = made.left_out
        console.say(f"{table}: {made.lines} records, {made.matched} of them of rows of {memory}")
        for reason, count in left_out.items():
            console.warn(f"{table}: {count} records left out: {reason}")
    values = filled(opened)
    held = [{"column": name, "type": kind, "values": values[name]} for name, kind in column_types(opened).items()]
    if as_json:
        console.show_json({"memory": str(memory), "columns": held, "left_out": left_out})
    else:
        console.show_table(("column", "type", "values"), [list(each.values()) for each in held])
    if held:
        first = held[0]["column"]
        console.say(f"next: cmcr retrieve SPACE QUERY --in {memory} --where '{first} IS NOT NULL'")
    if strict and left_out:
        raise typer.Exit(1)
