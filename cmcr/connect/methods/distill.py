"""Projectors that also learn what routing knows of the memories."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cmcr.connect import train as training
from cmcr.connect.fitted import CHECKPOINT, Fitted, _measured_on, _recorded, _trained
from cmcr.connect.methods.teacher import Teacher
from cmcr.connect.validation import Bench
from cmcr.hooks import Log, Progress


def _distill(bench: Bench, folder: Path, progress: Progress, log: Log) -> Fitted:
    config = bench.config
    teacher = Teacher(
        bench.pairs, bench.train, (bench.sides[0], bench.sides[1]), bench.centers, config, folder / "pairs",
        bench.device, progress,
    )  # fmt: skip
    f_a, f_b, state = training.fit(
        bench.pairs,
        bench.train,
        config,
        bench.known.by_epoch if bench.known else bench.measure,
        teacher=teacher,
        checkpoint=folder / CHECKPOINT,
        device=bench.device,
        progress=progress,
        log=_recorded(folder, log),
    )
    fitted = _trained(bench, teacher.shrink((f_a, f_b)), state)
    note = (
        f"nearness of the memories to the overlap {teacher.nearness:.2f}: recalled pairs have weight "
        f"{teacher.trust:.2f}, routed similarities {1 - teacher.trust:.2f}"
    )
    measured = _measured_on(bench, fitted.projectors) | {"nearness": teacher.nearness, "trust": teacher.trust}
    return replace(fitted, metrics=fitted.metrics | measured, notes=(note, *fitted.notes))
