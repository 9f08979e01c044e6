"""How every ``cmcr eval`` shows what it measured."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from cmcr import console

if TYPE_CHECKING:
    from cmcr.evaluate.result import Result


def present(result: Result, *, title: str, as_json: bool, strict: bool, out: Path | None, page: str | None) -> None:
    """Print a result, write ``result.json`` (and ``index.html`` when there is a page) into ``out``.

    Raises:
        typer.Exit: 1 with ``strict`` when items are missing.
    """
    from cmcr.files import write_text

    if out is not None:
        result.save(out / "result.json")
        if page is not None:
            write_text(out / "index.html", page)
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


def folder_name(data: Path) -> str:
    """Return a name for what is kept of a data set, which no other has: ids of two must not meet in one memory."""
    where = data.resolve()
    readable = re.sub(r"[^A-Za-z0-9]+", "-", where.stem).strip("-")[:40]
    return f"{readable}-{hashlib.sha256(str(where).encode()).hexdigest()[:8]}"
