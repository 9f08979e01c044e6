"""What a method returns, and how it is measured on held-out rows."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cmcr.connect.batches import PAPER_BATCH, batch_size_for
from cmcr.connect.checkpoint import Progressed
from cmcr.connect.config import ConnectConfig
from cmcr.connect.validation import Bench, Figures
from cmcr.files import write_atomic
from cmcr.hooks import Log
from cmcr.space import Projector

CHECKPOINT = "checkpoint.safetensors"


def _recorded(folder: Path, log: Log) -> Log:
    """Return a log that also keeps each record as a line of ``metrics.jsonl``."""
    records: list[dict[str, Any]] = []

    def record(values: dict[str, Any], step: int) -> None:
        records.append(values)
        write_atomic(folder / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in records).encode())
        log(values, step)

    return record


def _trained(bench: Bench, projectors: tuple[Projector, Projector], state: Progressed) -> Fitted:
    config, best = bench.config, next(line for line in state.history if line["epoch"] == state.best_epoch)
    size = batch_size_for(config, len(bench.train), bench.ranks.size)
    notes = () if config.batch_size or size == PAPER_BATCH else (_shrunk(size, len(bench.train), config),)
    return Fitted(projectors, config, {**best, "epoch": state.best_epoch, **bench.facts()}, size, notes)


def _shrunk(size: int, rows: int, config: ConnectConfig) -> str:
    steps = config.epochs * (rows // size)
    return (
        f"batch size {size} instead of the paper's {PAPER_BATCH}: {rows} overlap rows would give "
        f"too few steps (now {steps}); --batch-size sets it"
    )


def _measured(bench: Bench, projectors: tuple[Projector, Projector], extra: dict[str, float], log: Log) -> Fitted:
    metrics = _measured_on(bench, projectors) | extra
    log(metrics, 0)
    return Fitted(projectors, bench.config, metrics | bench.facts())


def _measured_on(bench: Bench, projectors: tuple[Projector, Projector]) -> Figures:
    """Return the bench's measures of projectors that lie on the processor, and stay there; or what is known of them."""
    if bench.known:
        return dict(bench.known.final)
    f_a, f_b = (projector.to(bench.device) for projector in projectors)
    measured = bench.measure(f_a, f_b)
    f_a.cpu()
    f_b.cpu()
    return measured


@dataclass(frozen=True)
class Fitted:
    """What a method returns: its two projectors, the recipe that made them and what was measured."""

    projectors: tuple[Projector, Projector]
    config: ConnectConfig
    metrics: Figures
    batch_size: int = 0
    notes: tuple[str, ...] = ()
