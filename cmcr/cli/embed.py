"""``cmcr embed``: files in, a memory out. ``cmcr info``: what lies in a memory or a space."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cmcr import console
from cmcr.cli.flags import with_flags
from cmcr.cli.fuse.views import ViewFlags
from cmcr.cli.modalities import modality_option
from cmcr.embed import Part
from cmcr.errors import InputError
from cmcr.hooks import silent
from cmcr.modality import Modality
from cmcr.settings import Checked, setting

if TYPE_CHECKING:
    from cmcr.devices import Precision
    from cmcr.embed import EmbedReport
    from cmcr.encoders.base import Encoder

_IMPORT = "Vectors made elsewhere"
_WORK = "How the work is done"


@dataclass(frozen=True)
class _Work(Checked):
    """How much at once, by whom, and where."""

    shard_size: int = setting(10_000, "Items a shard.", positive=True, panel=_WORK)
    batch_size: str = setting("auto", "Items a batch, or auto: by device, halved when memory runs out.", panel=_WORK)
    workers: str | None = setting(None, "Threads that decode (default: by processors), or ray.", panel=_WORK)
    ray_actors: int | None = setting(
        None, "With --workers ray; default: one a GPU, or one a processor.", positive=True, panel=_WORK
    )
    part: str | None = setting(
        None,
        "Take every N-th shard; for N processes on one folder. Default: by torchrun's or Slurm's variables.",
        metavar="K/N",
        panel=_WORK,
    )
    device: str = setting("auto", "auto, cpu, cuda or mps.", panel=_WORK)
    precision: Literal["fp32", "bf16", "fp16"] = setting("fp32", "Of the encoder's matrix products.", panel=_WORK)

    def items_a_batch(self) -> int | None:
        """Return how many items a batch has; None: by device."""
        if self.batch_size == "auto":
            return None
        if not self.batch_size.isdecimal() or int(self.batch_size) < 1:
            expected = f"{self.batch_size!r}; expected auto, or 1 or more"
            raise typer.BadParameter(expected, param_hint="--batch-size")
        return int(self.batch_size)

    def sharing(self, retry_skipped: bool, update: bool) -> dict[str, Any]:
        """Return who does the work: threads here, one of several processes, or Ray's actors."""
        workers = self.workers
        if workers == "ray":
            if self.part is not None:
                raise typer.BadParameter("--workers ray shares the work itself; leave out --part")
            if update:
                raise typer.BadParameter("--update is for a process alone; leave out --workers ray")
            return {"actors": self.ray_actors}
        if self.ray_actors is not None:
            raise typer.BadParameter("--ray-actors goes with --workers ray")
        if workers is not None and (not workers.isdecimal() or int(workers) < 1):
            raise typer.BadParameter(f"{workers!r}; expected 1 or more, or ray", param_hint="--workers")
        chosen = _part(self.part) if self.part is not None else Part.from_environment()
        if chosen is not None and retry_skipped:
            raise typer.BadParameter(f"--retry-skipped is for a process alone, not for {chosen}; or give --workers ray")
        if chosen is not None and update:
            raise typer.BadParameter(f"--update is for a process alone, not for {chosen}")
        return {"workers": None if workers is None else int(workers), "part": chosen, "update": update}


@dataclass(frozen=True)
class _Vectors(Checked):
    """Vectors made elsewhere, and what is known of them."""

    from_vectors: Path | None = setting(None, "A .npy of shape (rows, D), or a clip-retrieval folder.", panel=_IMPORT)
    ids: Path | None = setting(None, "One id a line.", panel=_IMPORT)
    sources: Path | None = setting(None, "One text (or path) a line: the content of each row.", panel=_IMPORT)
    encoder_name: str | None = setting(None, "Who made the vectors.", panel=_IMPORT)
    fingerprint: str | None = setting(None, "Default: imported:NAME.", panel=_IMPORT)


@dataclass(frozen=True)
class _Loading:
    """What loads an encoder: here, or in a process of another machine."""

    name: str
    device: str
    weights: Sequence[Path]
    precision: Precision

    def __call__(self) -> Encoder:
        from cmcr.devices import choose_device
        from cmcr.encoders import load_encoder

        return load_encoder(self.name, choose_device(self.device), weights=self.weights, precision=self.precision)


@with_flags
def embed(
    output: Annotated[Path, typer.Option("--out", "-o", help="The memory: a folder, made or gone on with.")],
    source: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="INPUT",
            help="Folders, globs, text files (one item a line), JSONL/CSV manifests, webdataset tars; - reads stdin.",
            show_default=False,
        ),
    ] = None,
    encoder: Annotated[
        str | None, typer.Option("--encoder", "-e", help="tiny-clip, clip, clap, ulip ...; see cmcr encoders.")
    ] = None,
    modality: Annotated[Modality | None, modality_option(help="Default: seen from the input.")] = None,
    id_prefix: Annotated[
        str | None,
        typer.Option(
            metavar="PREFIX",
            help="Ids become PREFIX/..., so that equal names of two inputs are told apart. (default: none; of several "
            "INPUTs, the ids below a folder begin with its name)",
        ),
    ] = None,
    dtype: Annotated[
        Literal["float16", "float32", "int8"] | None,
        typer.Option(
            help="On disk; default: float16, or what the memory has. int8: half of that, recall a little less."
        ),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 when an item was skipped.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as JSON on stdout.")] = False,
    retry_skipped: Annotated[bool, typer.Option("--retry-skipped", help="Try again what was skipped before.")] = False,
    update: Annotated[bool, typer.Option("--update", help="Embed anew what changed since it was embedded.")] = False,
    *,
    viewed: ViewFlags,
    work: _Work,
    weights: Annotated[
        list[Path] | None, typer.Option(help="The encoder's weights: a file, or a folder that holds it.")
    ] = None,
    up: Annotated[
        Literal["y", "z"] | None,
        typer.Option(help="The axis that points up in point clouds. (default: as the encoder expects)"),
    ] = None,
    vectors: _Vectors,
) -> None:
    """Embed files into a memory, or go on with one: only what is new is embedded.

    A bad item is skipped with its reason in skipped.jsonl; an interrupted run goes on with the same command. The same
    command in several processes (torchrun, srun, a job array, --part K/N) shares the work.
    """
    options: dict[str, Any] = {"shard_size": work.shard_size, "dtype": dtype, "retry_skipped": retry_skipped}
    if vectors.from_vectors is not None:
        if source or encoder is not None or vectors.encoder_name is None or viewed.views is not None:
            raise typer.BadParameter("--from-vectors needs --encoder-name, and none of INPUT, --encoder and --views")
        if id_prefix is not None:
            raise typer.BadParameter("--id-prefix goes with INPUT; --ids says the ids of vectors")
        if work.part is not None or work.workers == "ray":
            raise typer.BadParameter("--from-vectors is done by one process; leave out --part and --workers ray")
        options |= {"update": update, "encoder_name": vectors.encoder_name, "fingerprint": vectors.fingerprint}
        reports = _import(vectors.from_vectors, vectors.ids, vectors.sources, output, modality, options)
    else:
        if not source or encoder is None:
            raise typer.BadParameter("give INPUT and --encoder, or --from-vectors and --encoder-name")
        options |= {"batch_size": work.items_a_batch(), **work.sharing(retry_skipped, update), **viewed.spec()}
        load = _Loading(encoder, work.device, weights or (), work.precision)
        listing = {"modality": modality, "up": up, "id_prefix": id_prefix}
        reports = [_embed(source, load, output, listing, options)]
    _finish(reports, output, encoder, vectors.encoder_name, as_json=as_json, strict=strict)


def _part(given: str) -> Part:
    try:
        return Part.parse(given)
    except InputError as error:
        raise typer.BadParameter(str(error)) from None


def _embed(
    sources: list[str], load: _Loading, output: Path, listing: dict[str, Any], options: dict[str, Any]
) -> EmbedReport:
    from cmcr.devices import auto_batch_size, choose_device, choose_gpu
    from cmcr.embed import embed as run
    from cmcr.embed import embed_on_ray
    from cmcr.items import read_inputs

    device = choose_device(load.device)
    options["batch_size"] = asked = options["batch_size"] or auto_batch_size(device)
    part: Part | None = options.get("part")
    if device == "cuda" and part is not None:
        choose_gpu()
    encoder = load()
    inputs = read_inputs(sources, allowed=encoder.modalities, **listing)
    first = part is None or part.rank == 0  # one bar for all of them
    with console.progress(f"embedding {inputs.modality}") if first else nullcontext(silent) as progress:
        if "actors" in options:
            report = embed_on_ray(load, encoder, inputs, output, progress=progress, **options)
        else:
            report = run(encoder, inputs, output, progress=progress, **options)
    if report.batch_size < asked:
        console.warn(f"memory ran out at {asked} items a batch; went on with --batch-size {report.batch_size}")
    return report


def _import(
    vectors: Path,
    ids: Path | None,
    sources: Path | None,
    output: Path,
    modality: Modality | None,
    options: dict[str, Any],
) -> list[EmbedReport]:
    from cmcr.embed import import_clip_retrieval, import_vectors

    with console.progress("importing") as progress:
        if vectors.is_dir():
            if ids is not None or sources is not None:
                raise typer.BadParameter("--ids and --sources go with a .npy file; a folder has its own metadata")
            return import_clip_retrieval(vectors, output, modality=modality, progress=progress, **options)
        if ids is None or modality is None:
            raise typer.BadParameter("--from-vectors FILE needs --ids and --modality")
        return [import_vectors(vectors, ids, output, modality=modality, sources=sources, progress=progress, **options)]


def _finish(
    reports: list[EmbedReport],
    output: Path,
    encoder: str | None,
    encoder_name: str | None,
    *,
    as_json: bool,
    strict: bool,
) -> None:
    """Tell what was done.

    Raises:
        typer.Exit: 1 when nothing of the input is in the memory, or with ``strict`` when an item was skipped.
    """
    for report in reports:
        _tell(report, output)
    kept = any(report.kept or report.missing for report in reports)
    if kept:
        _tell_next(reports, output, encoder)
    if as_json:
        name, added = encoder or encoder_name or "", [report.to_json() for report in reports]
        console.show_json({"memory": str(output), "encoder": name, "added": added})
    skipped = sum(len(report.skipped) for report in reports)
    if not kept:
        console.fail(f"{output}: nothing was embedded: all {skipped} items were skipped; mend them and run it again")
    if not kept or (strict and skipped):
        raise typer.Exit(1)


def _tell(report: EmbedReport, output: Path) -> None:
    from cmcr.embed import kind_of

    parts = [f"{report.embedded} {report.modality} embedded"]
    parts += [f"{report.updated} of them in place of older content"] if report.updated else []
    parts += [f"{report.already} already there"] if report.already else []
    parts += [f"{report.duplicates} repeated"] if report.duplicates else []
    parts += [f"{len(report.skipped)} skipped"] if report.skipped else []
    console.say(f"{output}: {', '.join(parts)}; it holds {report.rows}{report.viewed}")
    if report.missing:
        console.say(
            f"  {report.missing} of {report.shards} shards are not in it yet: other parts have still to make them"
        )
    if report.ignored:
        seen = ", ".join(f"{suffix} ({count})" for suffix, count in report.ignored.items())
        console.say(f"  left aside for their suffix: {seen}")
    for remark in report.remarks:
        console.say(f"  {remark}")
    for reason, count in report.reasons()[:3]:
        example = next(skip for skip in report.skipped if kind_of(skip.reason) == reason)
        console.say(f"  skipped {count}: {example.reason} ({example.source})")
    if report.changed:
        console.say(f"  {report.changed} changed since they were embedded; --update embeds them anew")
    for row, count in report.notes()[:3]:
        console.say(f"  noted {count}: {row.note} ({row.source})")
    if report.noted:
        console.say(f"  all of them: note in {output / 'metadata'}")
    if report.skipped:
        console.say(f"  all of them: {output / 'skipped.jsonl'}; --retry-skipped tries again")


def _tell_next(reports: list[EmbedReport], output: Path, encoder: str | None) -> None:
    if any(report.missing for report in reports):
        return
    from cmcr.memory import Memory

    more = f"cmcr connect {output} OTHER-MEMORY -o spaces/NAME"
    if encoder is not None and len(Memory.open(output).modalities) == 1:
        more = f"cmcr embed INPUT -e {encoder} -o {output} with another modality"
    console.say(f"next: {more}; or cmcr info {output}")
