"""Embed on Ray: its actors make the shards and stage them, this process commits them in order.

The only file that knows Ray. Actors need the memory's folder and the input under the same paths as here.
"""

from __future__ import annotations

import logging
import os
import pickle
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from cmcr.embed.part import Part
from cmcr.embed.run import SHARD_SIZE, EmbedReport, join, shards_to_do, views_for
from cmcr.embed.shard import Embedder, Pending
from cmcr.embed.staging import STAGED, Stage, unfinished
from cmcr.encoders.base import Encoder
from cmcr.errors import ArtifactError, CmcrError, MissingExtraError
from cmcr.hooks import Progress, silent
from cmcr.items import Inputs, Item
from cmcr.memory import Memory, MemoryWriter, Row, Skip, ViewSpec

_TRIES = 4
"""How often a shard is begun before the run gives up: what crashes its actor would do so for ever, for Ray retries."""


def embed_on_ray(
    load: Callable[[], Encoder],
    encoder: Encoder,
    inputs: Inputs,
    memory_path: str | Path,
    *,
    batch_size: int = 64,
    shard_size: int = SHARD_SIZE,
    dtype: str | None = None,
    retry_skipped: bool = False,
    actors: int | None = None,
    views: ViewSpec | None = None,
    progress: Progress = silent,
) -> EmbedReport:
    """Do what ``embed`` does, to the same bytes, on the cluster of ``RAY_ADDRESS`` or on this machine's processors.

    An actor that dies is started again and its shard made anew, a few times; what is staged stays.

    Args:
        load: Loads the encoder, in each actor once.
        encoder: The same encoder, for its name and fingerprint.
        inputs: As in ``embed``, like the arguments not named here.
        memory_path: The memory's folder, on a disk that every actor sees.
        batch_size: Items given to the encoder at once.
        shard_size: Items a shard.
        dtype: As in ``embed``.
        retry_skipped: As in ``embed``.
        actors: How many; None: one a GPU where there are any, else one a processor.
        views: As in ``embed``.
        progress: Told after every shard.

    Raises:
        MissingExtraError: Ray is not installed.
        CmcrError: as ``embed``; or the actors died over and over.
    """
    report, path = EmbedReport.begin(inputs), Path(os.path.realpath(memory_path))
    views = views_for(path, inputs.modality, views)
    with Embedder(encoder, inputs.modality, path, batch_size=batch_size, views=views) as embedder, _ray() as ray:
        if retry_skipped:
            with MemoryWriter(path, embedder.info, dtype) as writer:
                if unfinished(writer) is None:
                    writer.forget_skipped()
        stage, pending = join(embedder, inputs.items, report, shard_size=shard_size, dtype=dtype)
        if stage is not None:
            todo = shards_to_do(stage, Part(), report)
            report.missing = stage.commit()
            for rows, skips, noted in _made(ray, load, stage, pending, todo, batch_size, actors):
                report.embedded += rows
                report.skipped += skips
                report.noted += noted
                report.missing = stage.commit()
                progress(stage.plan.count - report.missing, stage.plan.count, f"{len(report.skipped)} skipped")
    report.rows, report.batch_size = Memory.open(path).rows(inputs.modality), batch_size
    report.views = views.count if views else 0
    return report


class _Maker:
    """What runs in an actor: stages one shard a call. Errors go back as values, for Ray would print each at length."""

    def __init__(
        self, load: Callable[[], Encoder], stage: Stage, batch_size: int, workers: int, run: str, folder: str
    ) -> None:
        self._load, self._stage, self._batch_size, self._workers, self._run = load, stage, batch_size, workers, run
        self._embedder: Embedder | None = None
        os.chdir(folder)  # paths of items may be relative to where the command was given

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        try:
            made: Any = self._make(int(batch["number"][0]), *pickle.loads(batch["items"][0]))  # noqa: S301 - from ``_made``
        except Exception as error:
            made = error if isinstance(error, CmcrError | OSError) else CmcrError(f"an actor of Ray: {error!r}")
        return {"made": [pickle.dumps(made)]}

    def _make(self, number: int, items: list[Item], changed: Mapping[str, str]) -> tuple[int, list[Skip], list[Row]]:
        plan = self._stage.plan
        with (self._stage.path / STAGED / f"{self._run}-{number}.tries").open("ab") as tries:
            if tries.tell() == _TRIES:
                raise CmcrError(
                    f"{items[0].id!r} to {items[-1].id!r} ended their actor {_TRIES} times: out of memory (give fewer "
                    f"--ray-actors), or one crashes its decoder (take it out, and delete {self._stage.path / STAGED})"
                )
            tries.write(b".")
        if self._embedder is None:
            sizes = {"batch_size": self._batch_size, "workers": self._workers}
            embedder = Embedder(self._load(), plan.modality, self._stage.path, **sizes, views=plan.views)
            if embedder.info != plan.encoder:
                raise ArtifactError(f"an actor of Ray has {embedder.info}, not {plan.encoder}; give all one version")
            self._embedder = embedder.__enter__()  # open until the actor ends
        embedded = self._embedder.shard(items, changed)
        self._stage.put(number, embedded)
        return len(embedded.rows), embedded.skips, embedded.noted


def _made(
    ray: Any,
    load: Callable[[], Encoder],
    stage: Stage,
    pending: Pending,
    numbers: Sequence[int],
    batch_size: int,
    actors: int | None,
) -> Iterator[tuple[int, list[Skip], list[Row]]]:
    """Let actors stage the shards; yield the rows, skips and rows with notes of each as it is done."""
    if not numbers:
        return
    have = ray.cluster_resources()
    gpus, cpus = int(have.get("GPU", 0)), max(1, int(have.get("CPU", 1)))
    actors = min(actors or gpus or cpus, len(numbers))
    shards = [
        {"number": number, "items": pickle.dumps((pending.items[stage.plan.part(number)], pending.changed))}
        for number in numbers
    ]
    made = ray.data.from_items(shards, override_num_blocks=len(shards)).map_batches(
        _Maker,
        fn_constructor_args=(load, stage, batch_size, max(1, cpus // actors), uuid.uuid4().hex, str(Path.cwd())),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=actors, max_tasks_in_flight_per_actor=1),
        num_gpus=1 if gpus else 0,
    )
    try:
        for row in made.iter_rows():
            result = pickle.loads(row["made"])  # noqa: S301 - from our own actor
            if isinstance(result, Exception):
                raise result
            yield result
    except ray.exceptions.RayError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise CmcrError(f"Ray gave up: {(lines or [type(error).__name__])[-1]}; the same command goes on") from error


@contextmanager
def _ray() -> Iterator[Any]:
    """Yield Ray, connected and quiet: it writes neither logs nor bars to the terminal and reports nothing home."""
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}
    try:
        import ray
        import ray.data
    except ImportError:
        raise MissingExtraError("ray", "ray", "--workers ray") from None
    address = os.environ.get("RAY_ADDRESS")
    local: dict[str, Any] = {} if address else {"num_cpus": os.cpu_count(), "include_dashboard": False}
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_no_progress_timeout_s = -1
    with ExitStack() as stack:
        stack.enter_context(redirect_stdout(sys.stderr))  # it reports dead actors on stdout, where only data belongs
        if not ray.is_initialized():
            with _silent_stderr():
                ray.init(address, log_to_driver=False, logging_level=logging.CRITICAL, **local)
            stack.callback(ray.shutdown)
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        yield ray


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Keep what compiled code writes to stderr from the terminal: Ray announces there that it was told to be quiet."""
    with ExitStack() as stack:
        kept = os.dup(2)
        stack.callback(os.close, kept)
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        stack.callback(os.dup2, kept, 2)
        yield
