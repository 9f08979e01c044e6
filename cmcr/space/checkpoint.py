"""Where a training run stands, in one file that a stopped run goes on from."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save as save_tensors
from torch import Tensor

from cmcr.files import write_atomic
from cmcr.reading import parse_json, reading
from cmcr.schema import checked


@dataclass
class Progressed:
    """Where a training run stands; what a checkpoint holds beside the tensors."""

    epoch: int = 0
    best_epoch: int = -1
    best: float = -math.inf
    history: list[dict[str, Any]] = field(default_factory=list)


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
