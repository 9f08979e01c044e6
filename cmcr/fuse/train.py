"""Train the networks of a fusion: epochs in a seeded order, with a checkpoint after each, to go on from."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from cmcr.errors import ArtifactError
from cmcr.fuse.network import Adapter, Fusion, projection_head
from cmcr.fuse.objective import loss_of
from cmcr.fuse.rows import Rows, ViewMaker
from cmcr.fuse.settings import FuseSettings
from cmcr.hooks import Log, Progress, silent, unlogged
from cmcr.space.checkpoint import Progressed, _resume, _save


def new_network(dims: list[int], settings: FuseSettings) -> Fusion:
    """Return an untrained network that reads vectors of these sizes; of concatenation, one without anything to train.

    The seed draws the weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        return Fusion([Adapter(dim, settings.width) for dim in dims], settings.width, settings.layers)


def train(
    rows: Rows,
    settings: FuseSettings,
    *,
    checkpoint: Path | None = None,
    device: str = "cpu",
    progress: Progress = silent,
    log: Log = unlogged,
) -> tuple[Fusion, list[dict[str, Any]]]:
    """Return a trained network on the CPU, and a record of each epoch.

    Every draw comes from generators seeded by (seed, epoch): a run that goes on from ``checkpoint`` ends, on the CPU,
    with the bytes of one that was never stopped.

    Args:
        rows: All of them have two or more modalities.
        settings: Of the objective and the training.
        checkpoint: File to go on from, if it is there, and to write after each epoch.
        device: Where to train.
        progress: Called after each step.
        log: Called with each epoch's record.

    Raises:
        ArtifactError: a checkpoint that cannot be read, or a loss that is not finite.
    """
    net = new_network([channel.dim for channel in rows.table.channels], settings)
    for m, adapter in enumerate(net.adapters):
        assert isinstance(adapter, Adapter)  # noqa: S101  (what ``new_network`` made)
        adapter.fit_scale(torch.from_numpy(rows.table.vectors[m][rows.table.present[:, m]]))
    whole = nn.ModuleList([net, _seeded_head(settings)]).to(device)
    optimiser = torch.optim.AdamW(whole.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
    state = _resume(checkpoint, whole, optimiser, {}, device) if checkpoint else Progressed()
    for record in state.history:
        log(record, record["epoch"])
    views, present = ViewMaker(rows, settings, device), torch.from_numpy(rows.table.present).to(device)
    size = min(settings.batch, len(rows.table))
    steps = len(rows.table) // size
    whole.train()
    for epoch in range(state.epoch, settings.epochs):
        order = torch.from_numpy(np.random.default_rng([settings.seed, epoch]).permutation(len(rows.table)))
        generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + epoch)
        total = 0.0
        for step in range(steps):
            numbers = order[step * size : (step + 1) * size]
            share = (epoch + step / steps) / settings.epochs
            optimiser.param_groups[0]["lr"] = settings.lr * (1 + math.cos(math.pi * share)) / 2
            optimiser.zero_grad()
            loss = loss_of(net, whole[1], views.draw(numbers, generator), present[numbers], settings)
            loss.backward()
            optimiser.step()
            total += loss.item()
            progress(epoch * steps + step + 1, settings.epochs * steps, f"epoch {epoch + 1}, loss {loss.item():.3f}")
        if not math.isfinite(total):
            raise ArtifactError(f"the loss became {total} in epoch {epoch + 1}; lower --lr or raise --tau")
        state.epoch = epoch + 1
        state.history.append({"epoch": epoch + 1, "loss": total / steps})
        log(state.history[-1], epoch + 1)
        if checkpoint:
            _save(checkpoint, whole, optimiser, {}, state)
    return net.cpu().eval(), state.history


def _seeded_head(settings: FuseSettings) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed + 1)
        return projection_head(settings.width)
