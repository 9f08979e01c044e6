"""What a method returns, and how it is measured on held-out rows."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmcr.connect import train as training
from cmcr.connect.batches import PAPER_BATCH, batch_size_for
from cmcr.connect.config import ConnectConfig
from cmcr.connect.validation import Figures, Validation
from cmcr.files import write_atomic
from cmcr.hooks import Log, Progress
from cmcr.ranks import ALONE
from cmcr.space import Projector
from cmcr.space.run import CHECKPOINT

if TYPE_CHECKING:
    from cmcr.connect.methods.base import Trained


@dataclass(frozen=True)
class Fitted:
    """What a method returns: its two projectors, the recipe that made them and what was measured.

    >>> from cmcr import ConnectConfig
    >>> from cmcr.connect import Fitted
    >>> from cmcr.space import Projector, ProjectorConfig
    >>> eye = Projector(ProjectorConfig("identity", 2, 2))
    >>> Fitted((eye, eye), ConnectConfig("linear"), {"overlap_r1": 0.9}).batch_size
    0
    """

    projectors: tuple[Projector, Projector]
    config: ConnectConfig
    metrics: Figures
    batch_size: int = 0
    notes: tuple[str, ...] = ()


def measured(validation: Validation, projectors: tuple[Projector, Projector], figures: Figures, log: Log) -> Fitted:
    """Return what a training-free method fitted, measured; ``figures`` are told beside the measures."""
    metrics = _measured_on(validation, projectors) | figures
    log(metrics, 0)
    return Fitted(projectors, validation.config, metrics | validation.facts())


def train(method: Trained, validation: Validation, folder: Path, progress: Progress, log: Log) -> Fitted:
    """Train by a method's objective and return what it made of the maps, measured."""
    config = validation.config
    objective = method.objective(validation, folder, progress)
    trained, state = training.fit(
        objective,
        validation.train,
        config,
        validation.known.by_epoch if validation.known else validation.measure,
        checkpoint=folder / CHECKPOINT,
        device=validation.device,
        ranks=validation.ranks if method.along else ALONE,
        progress=progress,
        log=_recorded(folder, log),
    )
    best = next(line for line in state.history if line["epoch"] == state.best_epoch)
    metrics = {**best, "epoch": state.best_epoch, **validation.facts()}
    maps = objective.finish(trained)
    if maps is not trained:
        metrics |= _measured_on(validation, maps)
    size = batch_size_for(config, len(validation.train), validation.ranks.size)
    notes = () if config.batch_size or size == PAPER_BATCH else (_shrunk(size, len(validation.train), config),)
    return Fitted(maps, config, metrics | objective.figures(), size, (*objective.notes(), *notes))


def _recorded(folder: Path, log: Log) -> Log:
    """Return a log that also keeps each record as a line of ``metrics.jsonl``."""
    records: list[dict[str, Any]] = []

    def record(values: dict[str, Any], step: int) -> None:
        records.append(values)
        write_atomic(folder / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in records).encode())
        log(values, step)

    return record


def _shrunk(size: int, rows: int, config: ConnectConfig) -> str:
    steps = config.epochs * (rows // size)
    return (
        f"batch size {size} instead of the paper's {PAPER_BATCH}: {rows} rows would give "
        f"too few steps (now {steps}); --batch-size sets it"
    )


def _measured_on(validation: Validation, projectors: tuple[Projector, Projector]) -> Figures:
    """Return the measures of projectors that lie on the processor, and stay there; or what is known of them."""
    if validation.known:
        return dict(validation.known.final)
    f_a, f_b = (projector.to(validation.device) for projector in projectors)
    found = validation.measure(f_a, f_b)
    f_a.cpu()
    f_b.cpu()
    return found
