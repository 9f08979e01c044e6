"""Fit two projectors on pairs: the loop of C-MCR, with checkpoint, resume and validation."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save as save_tensors
from torch import Tensor

from cmcr.batch_norm import join_batch_norms
from cmcr.config import ConnectConfig
from cmcr.consistency import complete
from cmcr.devices import matrix_products
from cmcr.distillation import Batch, Teacher
from cmcr.errors import ArtifactError, InputError
from cmcr.files import write_atomic
from cmcr.hooks import Log, Progress, silent, unlogged
from cmcr.loader import ahead
from cmcr.losses import inter_loss, intra_loss
from cmcr.pairing import Pairs, Rows
from cmcr.projector import Projector, ProjectorConfig, initialise, with_centers
from cmcr.ranks import ALONE, Ranks
from cmcr.reading import parse_json, reading
from cmcr.schema import checked

PAPER_BATCH, SMALLEST_BATCH = 10_240, 80
"""The automatic batch lies between; below about 80 rows InfoNCE has too few negatives (measured on small memories)."""
Validate = Callable[[Projector, Projector], dict[str, Any]]
"""Measures two projectors in eval mode; the larger its ``selection``, the better."""


@dataclass
class Progressed:
    """Where a training run stands; what a checkpoint holds beside the tensors."""

    epoch: int = 0
    best_epoch: int = -1
    best: float = -math.inf
    history: list[dict[str, Any]] = field(default_factory=list)


def batch_size_for(config: ConnectConfig, rows: int, ranks: int = 1) -> int:
    """Return the batch size: the one asked for, or the paper's halved until the run has ``min_steps`` steps.

    Raises:
        InputError: an explicit batch above the training rows, fewer than 2 rows (BatchNorm and InfoNCE need 2), or a
            batch that ``ranks`` processes cannot share equally.
    """
    if rows < 2:
        raise InputError(
            f"{rows} overlap row(s) to train on; at least 2 are needed: embed more of it, or lower --val-fraction"
        )
    if config.batch_size > rows:
        raise InputError(f"batch size {config.batch_size} is above the {rows} training rows; lower it, or leave it out")
    if config.batch_size == 1:
        raise InputError("batch size 1 has no negatives; expected 2 or more")
    if config.batch_size % ranks:
        raise InputError(
            f"batch size {config.batch_size} cannot be shared equally by {ranks} processes; use a multiple"
        )
    if rows < ranks:
        raise InputError(f"{rows} overlap rows to train on are too few for {ranks} processes; start fewer")
    if config.batch_size:
        return config.batch_size
    size = PAPER_BATCH
    while size > SMALLEST_BATCH and (size > rows or config.epochs * (rows // size) < config.min_steps):
        size //= 2
    size = min(size, rows)
    return size - size % ranks


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


def batch_loss(
    projectors: tuple[Projector, Projector],
    rows: Rows,
    config: ConnectConfig,
    noise: torch.Generator,
    ranks: Ranks = ALONE,
) -> Tensor:
    """Return the C-MCR loss of a batch: completion, projection, inter and intra loss.

    L = overlap_weight L_ttc + pseudo_weight L_avc + lambda L_intra

    With several ``ranks``, ``rows`` are this rank's part of the joint batch (parts lie in rank order), the value is the
    joint batch's, and the ranks' gradients add up to the joint one, provided BatchNorm is frozen or joint.
    """

    def completed(x: Tensor, recalled: bool = False) -> Tensor:
        if recalled and config.renormalize:
            x = torch.nn.functional.normalize(x, dim=1)
        return complete(x, config.noise, noise, ranks)

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
        ranks,
    )
    if pair is not None and config.intra_weight:
        squared = config.intra == "squared"
        pull = intra_loss(overlap[0], pair[0], squared, ranks) + intra_loss(overlap[1], pair[1], squared, ranks)
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
    with reading(path, "delete it to start anew", what="is not a checkpoint of this run"):
        with safe_open(path, framework="pt", device=device) as file:
            state: Progressed = checked(Progressed, parse_json(file.metadata()["state"]))
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (not a dict)
        _check_history(state)
        model.load_state_dict(_part(tensors, "model."))
        kept = _part(tensors, "best.")
        _check_shapes("best", kept, best)
        best.update(kept)
        moments: dict[int, dict[str, Tensor]] = {}
        for key, tensor in _part(tensors, "adamw.").items():
            number, name = key.split(".")
            moments.setdefault(int(number), {})[name] = tensor
        parameters = dict(enumerate(model.parameters()))
        for which, found in moments.items():  # those without a gradient have none
            like = {"step": torch.zeros(()), "exp_avg": parameters[which], "exp_avg_sq": parameters[which]}
            _check_shapes(f"adamw.{which}", found, like)
        optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    return state


def _check_history(state: Progressed) -> None:
    epochs = [record["epoch"] for record in state.history]
    if epochs != list(range(1, state.epoch + 1)) or state.best_epoch not in (-1, *epochs):
        raise ValueError(
            f"epochs {epochs[:5]} ..., of which {state.best_epoch} is the best, and it is at {state.epoch}"
        )
    if not all(isinstance(value, int | float) for record in state.history for value in record.values()):
        raise ValueError("a measure that is no number")


def _check_shapes(name: str, found: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> None:
    shapes = [{key: tuple(tensor.shape) for key, tensor in each.items()} for each in (found, like)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"{name}: tensors of other names or shapes")


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}
