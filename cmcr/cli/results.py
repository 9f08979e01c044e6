"""How every ``cmcr eval`` shows what it measured."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from cmcr import console

if TYPE_CHECKING:
    from cmcr.benchmarks import Result


def present(result: Result, *, title: str, as_json: bool, strict: bool, out: Path | None, page: str | None) -> None:
    """Print a result, write ``result.json`` (and ``index.html`` when there is a page) into ``out``.

    Raises:
        typer.Exit: 1 with ``strict`` when items are missing.
    """
    from cmcr.files import write_atomic

    if out is not None:
        result.save(out / "result.json")
        if page is not None:
            write_atomic(out / "index.html", page.encode())
    for note in result.notes:
        console.say(note)
    if result.shortfall:
        console.warn(result.shortfall)
    if as_json:
        console.show_json(result.to_json())
    else:
        columns, rows = result.table()
        console.show_table(columns, rows, title=title)
    if out is not None:
        console.say(f"wrote {out / ('index.html' if page is not None else 'result.json')}")
    if strict and result.shortfall:
        raise typer.Exit(1)
