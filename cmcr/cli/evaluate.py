"""``cmcr eval ...``: measure a space."""

from __future__ import annotations

import typer

from cmcr.cli import eval_localization, eval_retention, eval_retrieval, eval_zero_shot

app = typer.Typer(no_args_is_help=True, help="Measure a space.")


@app.callback()
def _group() -> None:
    """Measure a space; every number stands beside its gallery size and what chance would score."""


app.command("retrieval")(eval_retrieval.retrieval)
app.command("modelnet40")(eval_zero_shot.modelnet40)
app.command("zero-shot")(eval_zero_shot.zero_shot)
app.command("localization")(eval_localization.localization)
app.command("counterfactual")(eval_localization.counterfactual)
app.command("retention")(eval_retention.retention)
app.command("compare")(eval_retention.compare)
