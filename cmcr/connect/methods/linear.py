"""Training-free methods: a ridge regression, and routing through the overlap."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from cmcr.connect.fitted import Fitted, _measured
from cmcr.connect.methods import bridges as baselines
from cmcr.connect.pairs import Rows
from cmcr.connect.validation import Bench
from cmcr.hooks import Log, Progress


def _linear(bench: Bench, folder: Path, progress: Progress, log: Log) -> Fitted:
    config = bench.config
    train = bench.pairs.take(bench.train)
    centers = bench.centers if config.center else [{}, {}]
    modality = "overlap" if config.on == "overlap" else "pseudo"
    x, y = _fit_rows(bench, train, centers, modality)
    ridge = config.ridge or (bench.known and bench.known.ridge)
    if not ridge:
        held = _fit_rows(bench, bench.pairs.take(bench.held), centers, modality)
        ridge = baselines.pick_ridge(x, y, *held)
    bridge = baselines.linear_bridge(*baselines.fit_ridge(x, y, ridge), centers[1])
    projectors = baselines.identity(y.shape[1], centers[0]), bridge
    return _measured(bench, projectors, {"ridge": ridge}, log)


def _route(bench: Bench, folder: Path, progress: Progress, log: Log) -> Fitted:
    config = bench.config
    train = bench.pairs.take(bench.train)
    centers = bench.centers if config.center else [{}, {}]
    keys, values = _fit_rows(bench, train, centers, "overlap")
    bridge = baselines.route_bridge(keys, values, config.route_tau, config.route_top_k, centers[1])
    return _measured(bench, (baselines.identity(values.shape[1], centers[0]), bridge), {}, log)


def _fit_rows(bench: Bench, rows: Rows, centers: list[dict[str, Tensor]], part: str) -> tuple[Tensor, Tensor]:
    """Return what the bridge maps from (second space) and to (first space), centred as its input will be."""
    found = {"overlap": (rows.overlap_b, rows.overlap_a), "pseudo": (rows.pseudo_b, rows.pseudo_a)}[part]
    names = [side.overlap if part == "overlap" else side.outer for side in (bench.sides[1], bench.sides[0])]
    result = []
    for x, name, center in zip(found, names, (centers[1], centers[0]), strict=True):
        assert x is not None and name is not None  # noqa: S101  (refused before)
        x = torch.nn.functional.normalize(x, dim=1)
        result.append(torch.nn.functional.normalize(x - center[name], dim=1) if name in center else x)
    return result[0], result[1]
