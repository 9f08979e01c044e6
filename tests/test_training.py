import dataclasses

import numpy as np
import pytest
import torch

from cmcr.connect import ConnectConfig, new_projectors
from cmcr.connect.batches import batch_size_for
from cmcr.connect.methods.c_mcr import batch_loss, fit
from cmcr.connect.pairs import Pairs
from cmcr.errors import ArtifactError, InputError

CONFIG = ConnectConfig(epochs=3, batch_size=32, hidden=16, tau=0.1)


def unit(rows, dim, seed):
    x = np.random.default_rng(seed).normal(size=(rows, dim))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def pairs():
    return Pairs(unit(100, 8, 0), unit(100, 6, 1), 0.9 * unit(100, 8, 2), 0.8 * unit(100, 6, 3))


def weights(projectors):
    return {f"{i}.{k}": v for i, p in enumerate(projectors) for k, v in p.state_dict().items()}


def same(left, right):
    return all(torch.equal(left[key], right[key]) for key in left)


def trained(pairs, config=CONFIG, validate=None, **settings):
    epochs = iter(range(1, 99))
    validate = validate or (lambda *p: {"selection": float(next(epochs))})
    *projectors, state = fit(pairs, np.arange(len(pairs)), config, validate, **settings)
    return weights(projectors), state


def test_same_seed_same_bytes_other_seed_other_bytes(pairs):
    assert same(trained(pairs)[0], trained(pairs)[0])
    assert not same(trained(pairs)[0], trained(pairs, CONFIG.replace(seed=1))[0])


class StoppedError(Exception):
    pass


@pytest.mark.parametrize("steps", [1, 3, 4, 7])
def test_a_stopped_run_resumes_to_the_same_bytes(pairs, tmp_path, steps):
    def stops(done, total, note=""):
        if done == steps:
            raise StoppedError

    def validate(*projectors):
        return {"selection": float(sum(w.detach().double().sum() for w in projectors[0].parameters()))}

    whole, state = trained(pairs, validate=validate)
    path = tmp_path / "checkpoint.safetensors"
    with pytest.raises(StoppedError):
        trained(pairs, validate=validate, checkpoint=path, progress=stops)
    records = []
    resumed, again = trained(pairs, validate=validate, checkpoint=path, log=lambda values, step: records.append(values))
    assert same(whole, resumed)
    assert again.history == state.history == records


def test_validation_picks_the_checkpoint(pairs):
    scores = iter([0.1, 0.9, 0.5])
    best, state = trained(pairs, validate=lambda *p: {"selection": next(scores)})
    assert state.best_epoch == 2
    kept = []

    def keep(*projectors):
        kept.append({k: v.clone() for k, v in weights(projectors).items()})
        return {"selection": 0.0}

    trained(pairs, validate=keep)
    assert same(best, kept[1]) and not same(best, kept[2])


@pytest.mark.parametrize("scores", [[0.5, 0.5, 0.5], [0.9, 0.9, 0.1], [None, None, None]])
def test_of_epochs_that_tie_the_later_is_kept(pairs, scores):
    records = [{} if score is None else {"selection": score} for score in scores]
    left = iter(records)
    best, state = trained(pairs, validate=lambda *p: next(left))
    assert state.best_epoch == (2 if 0.9 in scores else 3)
    again, known = trained(pairs, validate=records)  # what is known from elsewhere chooses likewise
    assert known.best_epoch == state.best_epoch and same(best, again)


def test_damaged_checkpoint_is_refused(pairs, tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(b"not safetensors")
    with pytest.raises(ArtifactError, match=r"not a checkpoint of this run \(.*\); delete it"):
        trained(pairs, checkpoint=path)


def test_loss_that_is_not_finite_stops_the_run(pairs):
    bad = dataclasses.replace(pairs, overlap_a=np.full_like(pairs.overlap_a, np.nan))
    with pytest.raises(ArtifactError, match="the loss became nan in epoch 1; lower --lr"):
        trained(bad)


SWITCHES = {
    "renormalize": True,
    "batch_norm": "separate",
    "intra": "squared",
    "intra_weight": 0.0,
    "overlap_weight": 0.0,
    "pseudo_weight": 0.0,
    "noise": 0.0,
    "tau": 0.05,
    "tau_pseudo": 0.05,
}


@pytest.mark.parametrize("name", SWITCHES)
def test_every_switch_of_the_loss_acts(pairs, name):
    def loss(config):
        projectors = new_projectors(config, 8, 6)
        return batch_loss(projectors, pairs.take(np.arange(40)), config, torch.Generator().manual_seed(0)).item()

    assert loss(CONFIG) != pytest.approx(loss(CONFIG.replace(**{name: SWITCHES[name]})), abs=1e-4)


@pytest.mark.parametrize(
    "change", [{"init": "identity"}, {"init": "xavier"}, {"lr": 0.01}, {"weight_decay": 0.5}, {"batch_size": 50}]
)
def test_every_switch_of_the_optimiser_acts(pairs, change):
    assert not same(trained(pairs)[0], trained(pairs, CONFIG.replace(**change))[0])


@pytest.mark.parametrize(("kind", "layers"), [("mlp", 5), ("half-mlp", 3)])
def test_projectors_have_the_asked_shape(kind, layers):
    a, b = new_projectors(ConnectConfig(projector=kind, dim=12), 8, 6)
    assert (a.config.in_dim, b.config.in_dim, a.config.out_dim, b.config.out_dim) == (8, 6, 12, 12)
    assert len(a.body) == layers
    assert new_projectors(ConnectConfig(), 8, 6)[1].config.out_dim == 8


def test_loss_without_memories_is_the_overlap_pair_alone(pairs):
    bare = dataclasses.replace(pairs, pseudo_a=None, pseudo_b=None)
    config = CONFIG.replace(noise=0.0, pseudo_weight=0.0, intra_weight=0.0, batch_norm="separate")
    losses = [
        batch_loss(new_projectors(config, 8, 6), p.take(np.arange(40)), config, torch.Generator()).item()
        for p in (pairs, bare)
    ]
    assert losses[0] == pytest.approx(losses[1])


@pytest.mark.parametrize(
    ("rows", "epochs", "expected"),
    [(1_660_000, 36, 10_240), (20_000, 36, 640), (5_000, 36, 160), (2_000, 36, 80), (100, 36, 80), (3, 36, 3)],
)
def test_batch_shrinks_until_there_are_enough_steps(rows, epochs, expected):
    assert batch_size_for(ConnectConfig(epochs=epochs), rows) == expected


@pytest.mark.parametrize(
    ("size", "rows", "message"), [(64, 32, "above the 32"), (1, 32, "no negatives"), (0, 1, "at least 2")]
)
def test_impossible_batches_are_refused(size, rows, message):
    with pytest.raises(InputError, match=message):
        batch_size_for(ConnectConfig(batch_size=size), rows)
