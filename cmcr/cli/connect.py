"""``cmcr connect``: two memories in, a connected space out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cmcr import console
from cmcr.cli.modalities import modality_option
from cmcr.connect import ConnectConfig
from cmcr.errors import InputError
from cmcr.hooks import tensorboard_log, unlogged
from cmcr.modality import Modality

if TYPE_CHECKING:
    from cmcr.connect import Connection

DEFAULTS, _DISTILL = ConnectConfig(), ConnectConfig(method="distill")

_BASICS, _LEARNING, _LOSSES, _PAIRING, _FREE = (
    "Basics",
    "Learning",
    "Losses",
    "Pairing",
    "Routing, distillation, training-free methods",
)


def _option(name: str, flag: str, panel: str, text: str) -> Any:
    default, other = getattr(DEFAULTS, name), getattr(_DISTILL, name)
    shown = f"{default}" if other == default or name == "method" else f"{default}; distill: {other}"
    return typer.Option(flag, help=f"{text} (default: {shown})", rich_help_panel=panel, show_default=False)


def connect(
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
        bool, typer.Option("--freeze-base", help="Keep the base's vectors as they are (linear, route).")
    ] = False,
    outer_a: Annotated[Modality | None, modality_option(help="What to recall from the first memory.")] = None,
    outer_b: Annotated[Modality | None, modality_option(help="What to recall from the second memory.")] = None,
    config: Annotated[Path | None, typer.Option(help="A TOML recipe; flags win over it.")] = None,
    run: Annotated[
        Path | None, typer.Option(help="Folder of pairs, metrics and checkpoint. (default: OUT.run)")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Drop another recipe's run and space.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    tensorboard: Annotated[Path | None, typer.Option(help="Also write TensorBoard logs into this folder.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    method: Annotated[
        Literal["auto", "c-mcr", "distill", "linear", "route"] | None,
        _option(
            "method",
            "--method",
            _BASICS,
            "c-mcr and distill train projectors (distill: better on real vectors); linear and route train nothing; "
            "auto: the one of c-mcr, distill and linear whose memories agree best.",
        ),
    ] = None,
    precision: Annotated[
        Literal["auto", "bf16", "fp32"] | None,
        _option("precision", "--precision", _BASICS, "Matrix products; auto: bf16 where the hardware has it."),
    ] = None,
    seed: Annotated[int | None, _option("seed", "--seed", _BASICS, "Seed of every random draw.")] = None,
    projector: Annotated[
        Literal["mlp", "half-mlp", "linear"] | None,
        _option("projector", "--projector", _LEARNING, "Layers of the projectors."),
    ] = None,
    dim: Annotated[
        int | None,
        _option("dim", "--dim", _LEARNING, "Components of the space; 0: the larger input's."),
    ] = None,
    hidden: Annotated[
        int | None, _option("hidden", "--hidden", _LEARNING, "Hidden width; 0: twice --dim (distill: three times).")
    ] = None,
    init: Annotated[
        Literal["default", "xavier", "identity"] | None, _option("init", "--init", _LEARNING, "Initial weights.")
    ] = None,
    batch_norm: Annotated[
        Literal["joint", "separate"] | None,
        _option("batch_norm", "--batch-norm", _LEARNING, "Overlap and pseudo rows in one BatchNorm pass or in two."),
    ] = None,
    epochs: Annotated[int | None, _option("epochs", "--epochs", _LEARNING, "Passes over the overlap.")] = None,
    batch_size: Annotated[
        int | None,
        _option("batch_size", "--batch-size", _LEARNING, "Rows a step; 0: 10240, halved until --min-steps fit."),
    ] = None,
    min_steps: Annotated[
        int | None, _option("min_steps", "--min-steps", _LEARNING, "Fewest steps of the automatic batch.")
    ] = None,
    lr: Annotated[float | None, _option("lr", "--lr", _LEARNING, "Peak learning rate.")] = None,
    weight_decay: Annotated[
        float | None, _option("weight_decay", "--weight-decay", _LEARNING, "Weight decay of AdamW.")
    ] = None,
    val_fraction: Annotated[
        float | None, _option("val_fraction", "--val-fraction", _LEARNING, "Overlap held out to pick the checkpoint.")
    ] = None,
    tau: Annotated[float | None, _option("tau", "--tau", _LOSSES, "Temperature of the inter losses.")] = None,
    tau_pseudo: Annotated[
        float | None, _option("tau_pseudo", "--tau-pseudo", _LOSSES, "Temperature of the pseudo pair; 0: --tau.")
    ] = None,
    noise: Annotated[
        float | None, _option("noise", "--noise", _LOSSES, "Variance per component of the completion noise.")
    ] = None,
    overlap_weight: Annotated[
        float | None, _option("overlap_weight", "--overlap-weight", _LOSSES, "Weight of the overlap pair's InfoNCE.")
    ] = None,
    pseudo_weight: Annotated[
        float | None, _option("pseudo_weight", "--pseudo-weight", _LOSSES, "Weight of the pseudo pair's InfoNCE.")
    ] = None,
    intra_weight: Annotated[
        float | None, _option("intra_weight", "--lambda", _LOSSES, "Weight of the intra loss.")
    ] = None,
    intra: Annotated[
        Literal["plain", "squared"] | None, _option("intra", "--intra", _LOSSES, "Distance of the intra loss.")
    ] = None,
    pairing: Annotated[
        str | None, _option("pairing", "--pairing", _PAIRING, "full softmax over the memory, topk:K, or none.")
    ] = None,
    tau_memory: Annotated[
        float | None, _option("tau_memory", "--tau-memory", _PAIRING, "Temperature of the softmax over a memory.")
    ] = None,
    renormalize: Annotated[
        bool | None,
        typer.Option(
            "--renormalize/--no-renormalize",
            help="Normalise recalled rows before the noise (default: no).",
            rich_help_panel=_PAIRING,
        ),
    ] = None,
    on: Annotated[
        Literal["overlap", "pseudo"] | None, _option("on", "--on", _FREE, "Rows that linear is fitted on.")
    ] = None,
    center: Annotated[
        bool | None,
        typer.Option(
            "--center/--no-center", help="Subtract each modality's mean first (default: yes).", rich_help_panel=_FREE
        ),
    ] = None,
    ridge: Annotated[
        float | None, _option("ridge", "--ridge", _FREE, "Relative ridge of linear; 0: picked on held-out overlap.")
    ] = None,
    route_tau: Annotated[float | None, _option("route_tau", "--route-tau", _FREE, "Temperature of routing.")] = None,
    distill_tau: Annotated[
        float | None, _option("distill_tau", "--distill-tau", _FREE, "Temperature of what distill learns from.")
    ] = None,
    own_weight: Annotated[
        float | None, _option("own_weight", "--own-weight", _FREE, "Weight of each space's own similarities.")
    ] = None,
    shrink: Annotated[
        float | None, _option("shrink", "--shrink", _FREE, "How far directions of little variance count less.")
    ] = None,
    route_density: Annotated[
        float | None, _option("route_density", "--route-density", _FREE, "Weight of overlap rows amid the memories.")
    ] = None,
    route_top_k: Annotated[
        int | None, _option("route_top_k", "--route-top-k", _FREE, "Overlap rows a vector is routed through; 0: all.")
    ] = None,
) -> None:
    """Connect memories that share a modality with the first into one space, without any pair of the others."""
    flags = {name: value for name, value in locals().items() if name in _SETTINGS and value is not None}
    # Read as torch loads. Its C++ part warns at length about each process that is gone; our one line says it.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    from cmcr.connect import connect as run_connect
    from cmcr.connect import connect_star, follow
    from cmcr.devices import choose_device
    from cmcr.ranks import joined

    # Only inside are the processes of torchrun one run, which tells an error once.
    with joined(device) as ranks:
        chosen = choose_device(device)
        recipe = (ConnectConfig.from_toml(config) if config else DEFAULTS).replace(**flags)
        if ranks.rank:
            follow(out, recipe, ranks, run=run, device=chosen)
            return
        log = tensorboard_log(tensorboard) if tensorboard else unlogged
        with console.progress("connect") as progress:
            if freeze_base or len(others) > 1:
                if outer_a or outer_b:
                    raise InputError("--outer-a and --outer-b are for two memories that both move; leave them out")
                connection = connect_star(
                    memory_a, others, out, recipe, via=via or (), run=run, overwrite=overwrite, device=chosen,
                    ranks=ranks, progress=progress, log=log,
                )  # fmt: skip
            else:
                if via and len(via) > 1:
                    raise InputError(f"{len(via)} overlaps for two memories; give one --via")
                connection = run_connect(
                    memory_a, others[0], out, recipe, via=via[0] if via else None, outer_a=outer_a, outer_b=outer_b,
                    run=run, overwrite=overwrite, device=chosen, ranks=ranks, progress=progress, log=log,
                )  # fmt: skip
        _report(connection, out, memory_a, as_json)


_SETTINGS = frozenset(DEFAULTS.to_dict())


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
    base = next(iter(space.encoders.values()))
    outer = next((m for m in base.modalities if m != space.overlap), space.overlap)
    console.say(f"next: cmcr retrieve {out} QUERY --in {memory_a} --modality {outer} -k 10")


def _report_joined(connection: Connection, of: str) -> None:
    overlap = connection.overlap
    console.say(
        f"{of}joined {len(overlap.rows_a)} {overlap.modality} rows by id ({overlap.only_a} only in the first memory, "
        f"{overlap.only_b} only in the second), {connection.rows[0]} to fit and {_held_out(connection)}"
    )
    if overlap.unchecked:
        console.warn(f"{of}{overlap.unchecked} joined rows are imported vectors: their content was not compared")


def _held_out(connection: Connection) -> str:
    held = connection.rows[1]
    if not held:
        return "none held out: too few to spare"
    return f"{held} held out" if "folds" not in connection.space.metrics else "each held out by one of the folds"
