"""Fit two projectors on pairs: the loop of C-MCR, with checkpoint, resume and validation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from cmcr.connect.batch_norm import join_batch_norms
from cmcr.connect.batches import batch_size_for
from cmcr.connect.checkpoint import Progressed, _resume, _save
from cmcr.connect.config import ConnectConfig
from cmcr.connect.methods.c_mcr import batch_loss
from cmcr.connect.methods.teacher import Batch, Teacher
from cmcr.connect.pairs import Pairs, Rows
from cmcr.connect.rows import ahead
from cmcr.devices import matrix_products
from cmcr.errors import ArtifactError
from cmcr.hooks import Log, Progress, silent, unlogged
from cmcr.ranks import ALONE, Ranks
from cmcr.space import Projector, ProjectorConfig, initialise, with_centers

Validate = Callable[[Projector, Projector], dict[str, Any]]
"""Measures two projectors in eval mode; the larger its ``selection``, the better."""


def new_projectors(config: ConnectConfig, dim_a: int, dim_b: int) -> tuple[Projector, Projector]:
    """Return two initialised projectors into a common space, drawn from the config's seed."""
    out = config.dim or max(dim_a, dim_b)
    # What distill learns from has the components of both inputs: it gained from a wider hidden layer.
    hidden = config.hidden or out * (3 if config.method == "distill" else 2)
    generator = torch.Generator().manual_seed(config.seed)

    def one(in_dim: int) -> Projector:
        projector = Projector(
            ProjectorConfig(config.projector, in_dim, out, hidden=hidden if config.projector == "mlp" else 0)
        )
        initialise(projector, config.init, generator)
        return projector

    return one(dim_a), one(dim_b)


def fit(
    pairs: Pairs,
    train_rows: np.ndarray,
    config: ConnectConfig,
    validate: Validate | Sequence[dict[str, Any]],
    *,
    teacher: Teacher | None = None,
    checkpoint: Path | None = None,
    device: str = "cpu",
    ranks: Ranks = ALONE,
    progress: Progress = silent,
    log: Log = unlogged,
) -> tuple[Projector, Projector, Progressed]:
    """Train two projectors and return the best pair of them by ``validate``'s ``selection``.

    Every random draw comes from generators seeded by (seed, epoch), so that a run resumed at an epoch from
    ``checkpoint`` ends, on the CPU, with the same bytes as one that was never stopped. Several ``ranks`` share each
    batch, and end as one process would but for rounding; a run may be resumed with another number of them.

    Args:
        pairs: The training pairs.
        train_rows: (N,) rows of ``pairs`` to train on.
        config: The recipe.
        validate: Measures the projectors after each epoch; called on rank 0. Or what is known of each epoch from
            elsewhere. Of epochs with equal ``selection``, or without one, the later is the better.
        teacher: Trains by the method ``distill``, on one process; None: by C-MCR. With it the last epoch is the best:
            no measure without pairs that we know ranks its epochs.
        checkpoint: File to resume from (if it exists) and, on rank 0, to write after each epoch.
        device: Where to train.
        ranks: The processes that train together; all call this with the same arguments.
        progress: Called after each step.
        log: Called with each epoch's record.

    Raises:
        InputError: a batch that cannot be.
        ArtifactError: a checkpoint that cannot be read, or a loss that is not finite.
        LostRankError: another rank is gone.
    """
    size = batch_size_for(config, len(train_rows), ranks.size)
    dims = pairs.overlap_a.shape[1], pairs.overlap_b.shape[1]
    projectors = _projectors(config, dims, teacher)
    model = torch.nn.ModuleList(projectors)
    join_batch_norms(model, ranks)
    model.to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    best = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    state = _resume(checkpoint, model, optimizer, best, device) if checkpoint else Progressed()
    if ranks.broadcast(lambda: state.epoch) != state.epoch:
        raise ArtifactError(
            f"{checkpoint}: rank {ranks.rank} finds another one than rank 0; put the run where all see it"
        )
    for record in state.history:
        log(record, record["epoch"])
    steps = len(train_rows) // size
    wanted = _batches(train_rows, size, config, state.epoch, ranks)

    def take(part: Part) -> Rows | Batch:
        if teacher is None:
            return pairs.take(part.rows, device)
        return teacher.batch(part.rows, np.random.default_rng([config.seed, 1, part.step]))

    with closing(ahead(take, wanted)) as batches:
        for epoch in range(state.epoch, config.epochs):
            noise = torch.Generator().manual_seed(config.seed * 1_000_003 + epoch)
            total = 0.0
            model.train()
            for step in range(epoch * steps, (epoch + 1) * steps):
                share = step / (config.epochs * steps)
                optimizer.param_groups[0]["lr"] = config.lr * (1 + math.cos(math.pi * share)) / 2
                value = _step(projectors, optimizer, next(batches), config, noise, ranks, teacher)
                total += value
                progress(step + 1, config.epochs * steps, f"epoch {epoch + 1}, loss {value:.3f}")
            if not math.isfinite(total):
                raise ArtifactError(f"the loss became {total} in epoch {epoch + 1}; lower --lr or raise --tau")
            model.eval()
            measured = ranks.broadcast(lambda: validate(*projectors)) if callable(validate) else validate[epoch]
            record = {"epoch": epoch + 1, "loss": total / steps, **measured}
            state.epoch = epoch + 1
            state.history.append(record)
            selection = record.get("selection", state.best)
            if teacher or selection >= state.best:
                state.best, state.best_epoch = selection, epoch + 1
                best = {key: tensor.clone() for key, tensor in model.state_dict().items()}
            log(record, epoch + 1)
            if checkpoint and ranks.rank == 0:
                _save(checkpoint, model, optimizer, best, state)
    projectors = _projectors(config, dims, teacher)
    torch.nn.ModuleList(projectors).eval().load_state_dict(best)
    return *projectors, state


def _projectors(config: ConnectConfig, dims: tuple[int, int], teacher: Teacher | None) -> tuple[Projector, Projector]:
    """Return new projectors; those of ``distill`` centre what they project."""
    if teacher is None:
        return new_projectors(config, *dims)
    f_a, f_b = (
        with_centers(projector, centers)
        for projector, centers in zip(new_projectors(config, *dims), teacher.centers, strict=True)
    )
    return f_a, f_b


class Part(NamedTuple):
    """What a process takes of a batch: rows of the pairs, at a step counted from the start of the run."""

    rows: np.ndarray
    step: int


def _batches(train_rows: np.ndarray, size: int, config: ConnectConfig, epoch: int, ranks: Ranks) -> Iterator[Part]:
    """Yield this rank's part of each batch, from the start of ``epoch`` to the end of the run."""
    own = slice(ranks.rank * size // ranks.size, (ranks.rank + 1) * size // ranks.size)
    step = epoch * (len(train_rows) // size)
    for number in range(epoch, config.epochs):
        order = np.random.default_rng([config.seed, number]).permutation(train_rows)
        for start in range(0, len(order) - size + 1, size):
            # Sorted, so that rows of a memory-mapped file are read in the order they lie in.
            yield Part(np.sort(order[start : start + size])[own], step)
            step += 1


def _step(
    projectors: tuple[Projector, Projector],
    optimizer: torch.optim.Optimizer,
    batch: Rows | Batch,
    config: ConnectConfig,
    noise: torch.Generator,
    ranks: Ranks,
    teacher: Teacher | None,
) -> float:
    """Take one optimiser step and return the loss before it."""
    optimizer.zero_grad()
    device = next(projectors[0].parameters()).device.type
    with matrix_products(device, config.precision):
        if isinstance(batch, Batch):
            assert teacher is not None  # noqa: S101  (it made the batch)
            loss = teacher.loss(projectors, batch, noise)
        else:
            loss = batch_loss(projectors, batch, config, noise, ranks)
        loss.backward()
    if ranks.size > 1:
        gradients = [p.grad for p in optimizer.param_groups[0]["params"] if p.grad is not None]
        summed = ranks.reduce(torch.cat([gradient.flatten() for gradient in gradients]))
        for gradient, part in zip(gradients, summed.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))
    optimizer.step()
    return loss.item()
