"""Fit two projectors on pairs: the loop of C-MCR, with checkpoint, resume and validation."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_tensors
from torch import Tensor

from cmcr.config import ConnectConfig
from cmcr.consistency import complete
from cmcr.errors import ArtifactError, InputError
from cmcr.files import write_atomic
from cmcr.hooks import Log, Progress, silent, unlogged
from cmcr.losses import inter_loss, intra_loss
from cmcr.pairing import Pairs, Rows
from cmcr.projector import Projector, ProjectorConfig, initialise

PAPER_BATCH, SMALLEST_BATCH = 10_240, 80
"""The automatic batch lies between; below about 80 rows InfoNCE has too few negatives (measured on small memories)."""
Validate = Callable[[Projector, Projector], dict[str, float]]
"""Measures two projectors in eval mode; the larger its ``selection``, the better."""


@dataclass
class Progressed:
    """Where a training run stands; what a checkpoint holds beside the tensors."""

    epoch: int = 0
    best_epoch: int = -1
    best: float = -math.inf
    history: list[dict[str, Any]] = field(default_factory=list)


def batch_size_for(config: ConnectConfig, rows: int) -> int:
    """Return the batch size: the one asked for, or the paper's halved until the run has ``min_steps`` steps.

    Raises:
        InputError: an explicit batch above the training rows, or fewer than 2 rows (BatchNorm and InfoNCE need 2).
    """
    if rows < 2:
        raise InputError(f"{rows} overlap row(s) to train on; at least 2 are needed: embed more overlap items")
    if config.batch_size > rows:
        raise InputError(f"batch size {config.batch_size} is above the {rows} training rows; lower it, or leave it out")
    if config.batch_size == 1:
        raise InputError("batch size 1 has no negatives; expected 2 or more")
    if config.batch_size:
        return config.batch_size
    size = PAPER_BATCH
    while size > SMALLEST_BATCH and (size > rows or config.epochs * (rows // size) < config.min_steps):
        size //= 2
    return min(size, rows)


def new_projectors(config: ConnectConfig, dim_a: int, dim_b: int) -> tuple[Projector, Projector]:
    """Return two initialised projectors into a common space, drawn from the config's seed."""
    out = config.dim or max(dim_a, dim_b)
    hidden = config.hidden or 2 * out
    generator = torch.Generator().manual_seed(config.seed)

    def one(in_dim: int) -> Projector:
        projector = Projector(
            ProjectorConfig(config.projector, in_dim, out, hidden=hidden if config.projector == "mlp" else 0)
        )
        initialise(projector, config.init, generator)
        return projector

    return one(dim_a), one(dim_b)


def batch_loss(
    projectors: tuple[Projector, Projector], rows: Rows, config: ConnectConfig, noise: torch.Generator
) -> Tensor:
    """Return the C-MCR loss of a batch: completion, projection, inter and intra loss.

    L = overlap_weight L_ttc + pseudo_weight L_avc + lambda L_intra
    """

    def completed(x: Tensor, recalled: bool = False) -> Tensor:
        if recalled and config.renormalize:
            x = torch.nn.functional.normalize(x, dim=1)
        return complete(x, config.noise, noise)

    sides = ((rows.overlap_a, rows.pseudo_a), (rows.overlap_b, rows.pseudo_b))
    overlap, pseudo = [], []
    for projector, (x, recalled) in zip(projectors, sides, strict=True):
        noisy = [completed(x)] if recalled is None else [completed(x), completed(recalled, recalled=True)]
        projected = _in_passes(projector, noisy, config.batch_norm == "joint")
        overlap.append(projected[0])
        pseudo += projected[1:]
    pair = (pseudo[0], pseudo[1]) if len(pseudo) == 2 else None
    loss = inter_loss(
        (overlap[0], overlap[1]),
        pair,
        config.tau,
        config.tau_pseudo or config.tau,
        config.overlap_weight,
        config.pseudo_weight,
    )
    if pair is not None and config.intra_weight:
        squared = config.intra == "squared"
        pull = intra_loss(overlap[0], pair[0], squared) + intra_loss(overlap[1], pair[1], squared)
        loss = loss + config.intra_weight * pull
    return loss


def _in_passes(projector: Projector, parts: list[Tensor], joint: bool) -> list[Tensor]:
    """Project parts of a batch in one BatchNorm pass or in one each."""
    if not joint:
        return [projector(part) for part in parts]
    return list(projector(torch.cat(parts)).split([len(part) for part in parts]))


def fit(
    pairs: Pairs,
    train_rows: np.ndarray,
    config: ConnectConfig,
    validate: Validate,
    *,
    checkpoint: Path | None = None,
    device: str = "cpu",
    progress: Progress = silent,
    log: Log = unlogged,
) -> tuple[Projector, Projector, Progressed]:
    """Train two projectors and return the best pair of them by ``validate``'s ``selection``.

    Every random draw comes from generators seeded by (seed, epoch), so that a run resumed at an epoch from
    ``checkpoint`` ends, on the CPU, with the same bytes as one that was never stopped.

    Args:
        pairs: The training pairs.
        train_rows: (N,) rows of ``pairs`` to train on.
        config: The recipe.
        validate: Measures the projectors after each epoch.
        checkpoint: File to resume from (if it exists) and to write after each epoch.
        device: Where to train.
        progress: Called after each step.
        log: Called with each epoch's record.

    Raises:
        InputError: a batch that cannot be.
        ArtifactError: a checkpoint that cannot be read, or a loss that is not finite.
    """
    size = batch_size_for(config, len(train_rows))
    projectors = new_projectors(config, pairs.overlap_a.shape[1], pairs.overlap_b.shape[1])
    model = torch.nn.ModuleList(projectors).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    best = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    state = _resume(checkpoint, model, optimizer, best, device) if checkpoint else Progressed()
    for record in state.history:
        log(record, record["epoch"])
    steps = len(train_rows) // size
    for epoch in range(state.epoch, config.epochs):
        order = np.random.default_rng([config.seed, epoch]).permutation(train_rows)
        noise = torch.Generator().manual_seed(config.seed * 1_000_003 + epoch)
        total = 0.0
        model.train()
        for step in range(steps):
            share = (epoch * steps + step) / (config.epochs * steps)
            optimizer.param_groups[0]["lr"] = config.lr * (1 + math.cos(math.pi * share)) / 2
            # Sorted, so that rows of a memory-mapped file are read in the order they lie in.
            rows = pairs.take(np.sort(order[step * size : (step + 1) * size]), device)
            loss = batch_loss(projectors, rows, config, noise)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            value = loss.item()
            total += value
            progress(epoch * steps + step + 1, config.epochs * steps, f"epoch {epoch + 1}, loss {value:.3f}")
        if not math.isfinite(total):
            raise ArtifactError(f"the loss became {total} in epoch {epoch + 1}; lower --lr or raise --tau")
        model.eval()
        record = {"epoch": epoch + 1, "loss": total / steps, **validate(*projectors)}
        state.epoch = epoch + 1
        state.history.append(record)
        if record["selection"] > state.best:
            state.best, state.best_epoch = record["selection"], epoch + 1
            best = {key: tensor.clone() for key, tensor in model.state_dict().items()}
        log(record, epoch + 1)
        if checkpoint:
            _save(checkpoint, model, optimizer, best, state)
    model.load_state_dict(best)
    model.cpu().eval()
    return *projectors, state


def _save(
    path: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer, best: dict[str, Tensor], state: Progressed
) -> None:
    """Write model, best model, AdamW's moments and the state as one safetensors file, so that they cannot disagree."""
    tensors = {f"model.{key}": tensor for key, tensor in model.state_dict().items()}
    tensors |= {f"best.{key}": tensor for key, tensor in best.items()}
    for number, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"adamw.{number}.{name}": tensor for name, tensor in moments.items()}
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
    write_atomic(path, save_tensors(tensors, metadata={"state": json.dumps(vars(state))}))


def _resume(
    path: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer, best: dict[str, Tensor], device: str
) -> Progressed:
    """Load what ``_save`` wrote into model, optimizer and ``best``; a missing file is a fresh start."""
    if not path.exists():
        return Progressed()
    try:
        with safe_open(path, framework="pt", device=device) as file:
            state = Progressed(**json.loads(file.metadata()["state"]))
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (not a dict)
        model.load_state_dict(_part(tensors, "model."))
        best.update(_part(tensors, "best."))
        moments: dict[int, dict[str, Tensor]] = {}
        for key, tensor in _part(tensors, "adamw.").items():
            number, name = key.split(".")
            moments.setdefault(int(number), {})[name] = tensor
        optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ArtifactError(f"{path} is not a checkpoint of this run; delete it to start anew") from error
    return state


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}
