"""``cmcr eval ...``: measure a space."""

from __future__ import annotations

import typer

from cmcr.cli.groups import LazyGroup
from cmcr.commands import EVALUATIONS


class _Evaluations(LazyGroup):
    """The evaluations."""

    table = EVALUATIONS


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
