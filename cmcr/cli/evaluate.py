"""``cmcr eval ...``: measure a space."""

from __future__ import annotations

from typing import Any

import typer

from cmcr.cli.groups import LazyGroup
from cmcr.commands import EVALUATIONS


class _Evaluations(LazyGroup):
    """The evaluations, and those of installed packages."""

    table = EVALUATIONS

    def others(self) -> dict[str, str]:
        """Return the evaluations of installed packages, each with its package's summary."""
        from rich.markup import escape

        from cmcr.evaluate.plugins import summaries
        from cmcr.printable import printable

        return {name: escape(printable(line)) for name, line in summaries().items()}

    def load_other(self, name: str) -> Any:
        """Return the command of an installed package's evaluation."""
        from cmcr.cli.eval_plugin import command_of

        return command_of(name)


app = typer.Typer(
    cls=_Evaluations,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Measure a space.",
)


@app.callback()
def _group() -> None:
    """Measure a space; every number stands beside its gallery size and what chance would score."""
