"""``cmcr connect``: two memories in, a connected space out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cmcr import console
from cmcr.cli.modalities import modality_option
from cmcr.cli.settings import SettingsCommand, with_settings
from cmcr.connect import ConnectConfig
from cmcr.hooks import tensorboard_log, unlogged
from cmcr.modality import Modality

if TYPE_CHECKING:
    from cmcr.connect import Connection


def _tell_measures(value: bool) -> None:
    if value:
        from cmcr.connect.measures import MEASURES

        console.show_table(("measure", "what it is"), MEASURES.items())
        raise typer.Exit


@with_settings
def connect(
    context: typer.Context,
    memory_a: Annotated[Path, typer.Argument(metavar="BASE", help="First memory; its encoder is the base.")],
    others: Annotated[
        list[Path],
        typer.Argument(metavar="OTHER", help="Second memory; of several, each is mapped into the frozen base."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The space folder to write.")],
    via: Annotated[
        list[Modality] | None,
        modality_option(help="The overlap, when both memories hold several modalities; may be given for each OTHER."),
    ] = None,
    freeze_base: Annotated[
        bool,
        typer.Option(
            "--freeze-base", help="Keep the base's vectors as they are (linear, route and other one-sided methods)."
        ),
    ] = False,
    outer_a: Annotated[Modality | None, modality_option(help="What to recall from the first memory.")] = None,
    outer_b: Annotated[Modality | None, modality_option(help="What to recall from the second memory.")] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(help="CSV, TSV or JSONL of rows known to belong together: two columns, an id of each memory."),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A TOML recipe; flags win over it.")] = None,
    run: Annotated[
        Path | None, typer.Option(help="Folder of pairs, metrics and checkpoint. (default: OUT.run)")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Drop another recipe's run and space.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    tensorboard: Annotated[Path | None, typer.Option(help="Also write TensorBoard logs into this folder.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    help_metrics: Annotated[
        bool,
        typer.Option("--help-metrics", callback=_tell_measures, is_eager=True, help="Say what is measured, and exit."),
    ] = False,
    **settings: Any,
) -> None:
    """Connect memories that share a modality with the first into one space, without any pair of the others."""
    flags = {name: value for name, value in (settings | context.meta["added"]).items() if value is not None}
    # Read as torch loads. Its C++ part warns at length about each process that is gone; our one line says it.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    from cmcr.connect import connect as run_connect
    from cmcr.connect import follow
    from cmcr.devices import choose_device
    from cmcr.ranks import joined

    # Only inside are the processes of torchrun one run, which tells an error once.
    with joined(device) as ranks:
        chosen = choose_device(device)
        recipe = (ConnectConfig.from_toml(config) if config else ConnectConfig()).replace(**flags)
        if ranks.rank:
            follow(out, recipe, ranks, star=len(others) > 1, run=run, device=chosen)
            return
        log = tensorboard_log(tensorboard) if tensorboard else unlogged
        with console.progress("connect") as progress:
            connection = run_connect(
                memory_a, *others, out=out, config=recipe, via=via, outer_a=outer_a, outer_b=outer_b,
                pairs=pairs, freeze_base=freeze_base, run=run, overwrite=overwrite, device=chosen, ranks=ranks,
                progress=progress, log=log,
            )  # fmt: skip
        _report(connection, out, memory_a, as_json)


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")
app.command("connect", cls=SettingsCommand)(connect)


def _report(connection: Connection, out: Path, memory_a: Path, as_json: bool) -> None:
    overlap, space = connection.overlap, connection.space
    for link in connection.links or (connection,):
        _report_joined(link, f"{link.space.links[0].b}: " if len(connection.links) > 1 else "")
    for note in connection.notes:
        console.say(note)
    for warning in connection.warnings:
        console.warn(warning)
    if as_json:
        console.show_json(
            {"space": str(out), "method": space.method, "dim": space.dim, "overlap_rows": len(overlap.rows_a)}
            | space.metrics
        )
    else:
        from cmcr.space import measured_table

        columns = ("measure (held-out overlap)", "value", "by chance")
        console.show_table(columns, measured_table(space.metrics), title=f"{space.method} -> {out}")
        console.say("what each measure is: cmcr connect --help-metrics")
    base = next(iter(space.encoders.values()))
    outer = next((m for m in base.modalities if m != space.overlap), space.overlap)
    console.say(f"next: cmcr retrieve {out} QUERY --in {memory_a} --modality {outer} -k 10")
    if space.method == "c-mcr":
        console.say("or connect with --method auto, which found more wherever it was measured (docs/methods.md)")


def _report_joined(connection: Connection, of: str) -> None:
    overlap = connection.overlap
    what = (
        f"known pairs of {overlap.modality} and {overlap.other}" if overlap.other else f"{overlap.modality} rows by id"
    )
    console.say(
        f"{of}joined {len(overlap.rows_a)} {what} ({overlap.only_a} only in the first memory, "
        f"{overlap.only_b} only in the second), {connection.rows[0]} to fit and {_held_out(connection)}"
    )
    if overlap.unchecked:
        console.warn(f"{of}{overlap.unchecked} joined rows are imported vectors: their content was not compared")


def _held_out(connection: Connection) -> str:
    held = connection.rows[1]
    if not held:
        return "none held out: too few to spare"
    return f"{held} held out" if "folds" not in connection.space.metrics else "each held out by one of the folds"
