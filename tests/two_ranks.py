"""One of two processes that train together, for test_distributed: rank as torchrun sets it, argument 1 a folder."""

import os
import sys
from pathlib import Path

import numpy as np
import torch

from cmcr.connect import ConnectConfig, new_projectors
from cmcr.connect.methods.c_mcr import batch_loss, fit
from cmcr.connect.pairs import PairBatch, Pairs
from cmcr.errors import ArtifactError
from cmcr.ranks import ALONE, LostRankError, joined

CONFIG = ConnectConfig(epochs=3, batch_size=32, hidden=16, tau=0.1)
LOSSES = {
    "joint": {},
    "separate": {"batch_norm": "separate"},
    "renormalized, squared": {"renormalize": True, "intra": "squared", "tau_pseudo": 0.3},
    "half-mlp": {"projector": "half-mlp"},
    "linear": {"projector": "linear"},
    "frozen": {},
}
STOP_AT = 4  # a step of the second epoch


class StoppedError(Exception):
    pass


def unit(rows, dim, seed):
    x = np.random.default_rng(seed).normal(size=(rows, dim))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def pairs():
    return Pairs(unit(100, 8, 0), unit(100, 6, 1), 0.9 * unit(100, 8, 2), 0.8 * unit(100, 6, 3))


def gradients(name, ranks, dtype):
    """Return loss, summed gradients and BatchNorm's statistics of one batch of 40, shared by the ranks."""
    from cmcr.space.batch_norm import join_batch_norms

    config = CONFIG.replace(**LOSSES[name])
    projectors = torch.nn.ModuleList(new_projectors(config, 8, 6))
    join_batch_norms(projectors, ranks)
    projectors.to(dtype).train(name != "frozen")
    own = np.arange(40).reshape(ranks.size, -1)[ranks.rank]
    rows = PairBatch(*(part.to(dtype) for part in vars(pairs().take(own)).values()))
    loss = batch_loss(tuple(projectors), rows, config, torch.Generator().manual_seed(0), ranks)
    loss.backward()
    summed = {key: ranks.reduce(parameter.grad) for key, parameter in projectors.named_parameters()}
    return {"loss": loss.detach()} | summed | {key: value.clone() for key, value in projectors.named_buffers()}


def train(ranks, checkpoint=None, stop=False):
    """Return the weights and the history of a run, by a validation that only rank 0 can answer."""

    def validate(f_a, f_b):
        assert ranks.rank == 0
        return {"selection": float(sum(weight.detach().double().sum() for weight in f_a.parameters()))}

    def stops(done, total, note):
        if stop and done == STOP_AT:
            raise StoppedError

    try:
        *projectors, state = fit(
            pairs(), np.arange(100), CONFIG, validate, checkpoint=checkpoint, ranks=ranks, progress=stops
        )
    except StoppedError:
        return None
    return {
        f"{i}.{key}": value for i, p in enumerate(projectors) for key, value in p.state_dict().items()
    }, state.history


def everything(ranks, folder):
    """Return what this rank computed; the test compares it with one process."""
    x = torch.arange(6.0).reshape(3, 2) + 10 * ranks.rank
    found = {
        "gather": ranks.gather(x),
        "sum": ranks.reduce(x),
        "max": ranks.reduce(-x, "max"),
        "input": x,
        "broadcast": ranks.broadcast(lambda: {"rank": ranks.rank}),
    }
    for name in LOSSES:
        for dtype in (torch.float32, torch.float64):
            found[name, dtype] = gradients(name, ranks, dtype)
    found["whole"] = train(ranks)
    train(ranks, folder / "two", stop=True)
    if ranks.rank == 0:
        (folder / "for one").write_bytes((folder / "two").read_bytes())
    ranks.reduce(x)  # none goes on before rank 0 has copied
    found["resumed"] = train(ranks, folder / "two")
    found["of one"] = train(ranks, folder / "one")
    try:
        train(ranks, folder / ("two" if ranks.rank == 0 else "absent"))
    except ArtifactError as error:
        found["other checkpoint"] = str(error)
    return found


def main():
    folder = Path(sys.argv[1])
    with joined("cpu") as ranks:
        found = everything(ranks, folder)
        torch.save(found, folder / f"found{ranks.rank}")
        if ranks.rank == 1:
            os._exit(9)
        ranks.reduce(torch.ones(1))


if __name__ == "__main__":
    assert ALONE.size == 1
    try:
        main()
    except LostRankError as error:
        sys.exit(str(error))
