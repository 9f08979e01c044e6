"""``cmcr eval NAME`` where an installed package brings the evaluation: its flags are its fields."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from cmcr import console
from cmcr.cli.flags import with_flags
from cmcr.cli.options import Run, SubjectName
from cmcr.cli.results import tell_next
from cmcr.evaluate.plugins import load_evaluation, run_evaluation, told_of


def command_of(name: str) -> Callable[..., Any]:
    """Return the command of an evaluation, which is loaded.

    Raises:
        InputError: as ``load_evaluation``.
    """

    def measure(
        subject: SubjectName,
        choices: Any,
        out: Annotated[Path, typer.Option("--out", "-o", help="Folder for results and vectors.")] = Path(
            f"results/{name}"
        ),
        html: Annotated[bool, typer.Option("--html", help="Also write index.html.")] = False,
        *,
        run: Run,
    ) -> None:
        opened = run.open(subject)
        with console.progress(name) as progress:
            result = run_evaluation(name, choices, opened, out, progress)
        page = None
        if html:
            from cmcr.evaluate.page import result_page

            with told_of(name):
                page = result_page(result, subject, choices.sections(result))
        title = f"{name} of {subject} ({opened.method})"
        run.present(result, title, out, page)
        tell_next("eval", "compare", out, then=" OTHER_RESULTS, to set another space beside it")

    kind = load_evaluation(name)
    command = with_flags(measure, kind)
    command.__doc__ = escape(kind.told())
    return command
