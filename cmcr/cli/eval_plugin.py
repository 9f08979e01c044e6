"""``cmcr eval NAME`` where an installed package brings the evaluation: its flags are its fields."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from cmcr import console
from cmcr.cli.flags import with_flags
from cmcr.cli.options import AsJson, Device, PrecisionName, Strict, SubjectName, Weights, open_subject
from cmcr.cli.results import present
from cmcr.evaluate.plugins import load_evaluation, run_evaluation


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
        as_json: AsJson = False,
        strict: Strict = False,
        device: Device = "auto",
        weights: Weights = None,
        precision: PrecisionName = "fp32",
    ) -> None:
        opened = open_subject(subject, device, weights, precision)
        with console.progress(name) as progress:
            result = run_evaluation(name, choices, opened, out, progress)
        page = None
        if html:
            from cmcr.evaluate.page import result_page

            page = result_page(result, subject, choices.sections(result))
        title = f"{name} of {subject} ({opened.method})"
        present(result, title=title, as_json=as_json, strict=strict, out=out, page=page)
        console.say(f"next: cmcr eval compare {shlex.quote(str(out))} OTHER_RESULTS, to set another space beside it")

    kind = load_evaluation(name)
    command = with_flags(measure, kind)
    command.__doc__ = escape(kind.told())
    return command
