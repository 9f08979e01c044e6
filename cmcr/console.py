"""How cmcr talks: data on stdout, everything else on stderr, bars and tables only on a terminal.

Whatever is shown passes ``printable`` here: ids, captions, paths and errors may be a stranger's. Only the documents of
``show_json`` hold every character, the unfit ones as escapes.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cmcr import process
from cmcr.hooks import silent
from cmcr.printable import escaped, printable

if TYPE_CHECKING:
    from rich.console import Console

    from cmcr.hooks import Progress


_LONGEST = 3000
"""Characters of an error that are shown at most."""

_PAUSE = 10.0
"""Seconds between two lines of progress where no bar can be drawn."""

_quiet = False


def be_quiet(quiet: bool) -> None:
    """Set whether only warnings, errors and results are told: no notes, no progress."""
    global _quiet
    _quiet = quiet


def _stderr() -> Console:
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """Tell the user something on one line of stderr, word for word (no markup is read from it); unless quiet."""
    if not _quiet:
        _tell(text)


def _tell(text: str) -> None:
    try:
        sys.stderr.write(printable(text) + "\n")
    except (OSError, ValueError):  # nobody can be told: no reason to stop
        process.drop(sys.stderr)


def warn(text: str) -> None:
    """Tell the user on stderr that something is not as it should be, though work goes on."""
    _tell(f"warning: {text}")


def fail(text: str) -> None:
    """Print an error as exactly one line on stderr."""
    line = " ".join(text.split())
    if len(line) > _LONGEST:  # it quotes what a stranger's file holds; the cure stands at the end
        line = f"{line[: _LONGEST * 2 // 3]} … {line[-_LONGEST // 3 :]}"
    _tell(f"error: {line}")


@contextmanager
def progress(label: str) -> Iterator[Progress]:
    """Yield a progress callback: a bar with the time left on a terminal, a line now and then elsewhere."""
    if _quiet or not sys.stderr.isatty():
        yield silent if _quiet else _lines(label)
        return
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[note]}", markup=False), console=_stderr(), transient=True) as bar:
        task = bar.add_task(escape(printable(label)), total=None, note="")

        def update(done: int, total: int, note: str = "") -> None:
            bar.update(task, completed=done, total=total, note=printable(note))

        yield update


def _lines(label: str) -> Progress:
    """Return a callback for a log: what takes longer than a pause says how far it is, and how long it will take."""
    told = time.monotonic()
    first: tuple[float, int] | None = None

    def update(done: int, total: int, note: str = "") -> None:
        nonlocal told, first
        now = time.monotonic()
        start, before = first = first or (now, done)  # what an earlier run has done says nothing of the pace
        if now - told >= _PAUSE and done > before:
            told = now
            left = (now - start) / (done - before) * (total - done)
            say(f"{label}: {done:,} of {total:,}, about {_lasting(left)} left{f' ({note})' if note else ''}")

    return update


def _lasting(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes > 90 else f"{minutes} min {seconds} s"


def show_table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str | None = None) -> None:
    """Print a table on a terminal, tab-separated lines with a header elsewhere.

    Both are for reading, and the lines often end on a terminal too (``| head``): an id with a character that is unfit
    to be shown is exact in ``show_json`` only.
    """
    heads, *cells = [[printable(str(cell)) for cell in row] for row in (columns, *rows)]
    if not sys.stdout.isatty():
        lines = ["\t".join(" ".join(cell.split()) for cell in row) for row in (heads, *cells)]
        write("\n".join(lines) + "\n")
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table
    from rich.text import Text

    table = Table(*map(escape, heads), title=None if title is None else Text(printable(title)), title_justify="left")
    for row in cells:
        table.add_row(*(Text(cell) for cell in row))
    Console(highlight=False).print(table)


def show_json(value: Any) -> None:
    """Print one JSON document on stdout; a stream that is not Unicode gets JSON's own escapes."""
    narrow = not (sys.stdout.encoding or "").lower().startswith("utf")
    write(escaped(json.dumps(value, indent=2, ensure_ascii=narrow)) + "\n")


def write(text: str) -> None:
    """Write data on stdout.

    Raises:
        OSError: it cannot be written.
    """
    with _standard_output():
        sys.stdout.write(text)


def flush() -> None:
    """Hand on what was written on stdout: only then it is known whether all of it could be.

    Raises:
        OSError: it could not.
    """
    with _standard_output():
        sys.stdout.flush()


@contextmanager
def _standard_output() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        process.drop(sys.stdout)
        error.filename = error.filename or "standard output"
        raise
