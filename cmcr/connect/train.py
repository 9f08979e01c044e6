"""Train maps by an objective: the loop, with checkpoint, resume and validation. It knows no method's name."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from cmcr.connect.batches import batch_size_for
from cmcr.connect.config import ConnectConfig
from cmcr.devices import matrix_products
from cmcr.errors import ArtifactError
from cmcr.hooks import Log, Progress, silent, unlogged
from cmcr.numbers.rows import ahead
from cmcr.ranks import ALONE, Ranks
from cmcr.space import Projector, ProjectorConfig, initialise
from cmcr.space.batch_norm import join_batch_norms
from cmcr.space.checkpoint import Progressed, _resume, _save

if TYPE_CHECKING:
    from cmcr.connect.methods.base import Maps, Objective

Validate = Callable[[Projector, Projector], dict[str, Any]]
"""Measures two projectors in eval mode; the larger its ``selection``, the better."""


def new_projectors(config: ConnectConfig, dim_a: int, dim_b: int) -> Maps:
    """Return two initialised projectors into a common space, drawn from the config's seed.

    Args:
        config: A recipe of a method that trains.
        dim_a: Components of the first side's vectors.
        dim_b: Likewise of the second's.
    """
    out = config.dim or max(dim_a, dim_b)
    hidden = config.hidden or out * 2  # the paper's
    generator = torch.Generator().manual_seed(config.seed)

    def one(in_dim: int) -> Projector:
        projector = Projector(
            ProjectorConfig(config.projector, in_dim, out, hidden=hidden if config.projector == "mlp" else 0)
        )
        initialise(projector, config.init, generator)
        return projector

    return one(dim_a), one(dim_b)


def fit(
    objective: Objective,
    train_rows: np.ndarray,
    config: ConnectConfig,
    validate: Validate | Sequence[dict[str, Any]],
    *,
    checkpoint: Path | None = None,
    device: str = "cpu",
    ranks: Ranks = ALONE,
    progress: Progress = silent,
    log: Log = unlogged,
) -> tuple[Maps, Progressed]:
    """Train an objective's maps and return the best of them by ``validate``'s ``selection``, on the CPU.

    Every random draw comes from generators seeded by (seed, epoch), so that a run resumed at an epoch from
    ``checkpoint`` ends, on the CPU, with the same bytes as one that was never stopped. Several ``ranks`` share each
    batch, and end as one process would but for rounding; a run may be resumed with another number of them.

    Args:
        objective: What is trained, on which batches, by which loss.
        train_rows: (N,) row numbers of the pairs to train on.
        config: The recipe.
        validate: Measures the maps after each epoch; called on rank 0. Or what is known of each epoch from
            elsewhere. Of epochs with equal ``selection``, or without one, the later is the better.
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
    maps = objective.maps()
    model = torch.nn.ModuleList(maps)
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

    def take(part: StepRows) -> Any:
        return objective.batch(part.rows, np.random.default_rng([config.seed, 1, part.step]))

    with closing(ahead(take, wanted)) as batches:
        for epoch in range(state.epoch, config.epochs):
            noise = _noise(device).manual_seed(config.seed * 1_000_003 + epoch)
            total = 0.0
            model.train()
            for step in range(epoch * steps, (epoch + 1) * steps):
                share = step / (config.epochs * steps)
                optimizer.param_groups[0]["lr"] = config.lr * (1 + math.cos(math.pi * share)) / 2
                batch = next(batches)
                with matrix_products(torch.device(device).type, config.precision):
                    value = _step(objective, maps, optimizer, batch, noise, ranks)
                total += value
                progress(step + 1, config.epochs * steps, f"epoch {epoch + 1}, loss {value:.3f}")
            if not math.isfinite(total):
                raise ArtifactError(f"the loss became {total} in epoch {epoch + 1}; lower --lr or raise --tau")
            model.eval()
            measured = ranks.broadcast(lambda: validate(*maps)) if callable(validate) else validate[epoch]
            record = {"epoch": epoch + 1, "loss": total / steps, **measured}
            state.epoch = epoch + 1
            state.history.append(record)
            selection = record.get("selection", state.best)
            if objective.keeps_last or selection >= state.best:
                state.best, state.best_epoch = selection, epoch + 1
                best = {key: tensor.clone() for key, tensor in model.state_dict().items()}
            log(record, epoch + 1)
            if checkpoint and ranks.rank == 0:
                _save(checkpoint, model, optimizer, best, state)
    maps = objective.maps()
    torch.nn.ModuleList(maps).eval().load_state_dict(best)
    return maps, state


def _noise(device: str) -> torch.Generator:
    """Return the generator of a run's noise: on a GPU its own, or drawing would take longer than all else of a step."""
    return torch.Generator(device if device.startswith("cuda") else "cpu")


class StepRows(NamedTuple):
    """What a process takes of a batch: rows of the pairs, at a step counted from the start of the run."""

    rows: np.ndarray
    step: int


def _batches(train_rows: np.ndarray, size: int, config: ConnectConfig, epoch: int, ranks: Ranks) -> Iterator[StepRows]:
    """Yield this rank's part of each batch, from the start of ``epoch`` to the end of the run."""
    own = slice(ranks.rank * size // ranks.size, (ranks.rank + 1) * size // ranks.size)
    step = epoch * (len(train_rows) // size)
    for number in range(epoch, config.epochs):
        order = np.random.default_rng([config.seed, number]).permutation(train_rows)
        for start in range(0, len(order) - size + 1, size):
            # Sorted, so that rows of a memory-mapped file are read in the order they lie in.
            yield StepRows(np.sort(order[start : start + size])[own], step)
            step += 1


def _step(
    objective: Objective, maps: Maps, optimizer: torch.optim.Optimizer, batch: Any, noise: torch.Generator, ranks: Ranks
) -> float:
    """Take one optimiser step and return the loss before it."""
    optimizer.zero_grad()
    loss = objective.loss(maps, batch, noise, ranks)
    loss.backward()
    if ranks.size > 1:
        gradients = [p.grad for p in optimizer.param_groups[0]["params"] if p.grad is not None]
        summed = ranks.reduce(torch.cat([gradient.flatten() for gradient in gradients]))
        for gradient, part in zip(gradients, summed.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))
    optimizer.step()
    return loss.item()
