"""TextME: its loss against loops, and leaves that land in a base of texts alone."""

import numpy as np
import pytest
import torch
from worlds import DIM_A, DIM_B, LATENT, rows, space, write

from cmcr import ConnectConfig, ConnectedSpace, Modality
from cmcr.cli import main
from cmcr.connect import connect
from cmcr.connect.methods.text_anchor import banded_info_nce

TEXT, IMAGE, AUDIO = Modality.TEXT, Modality.IMAGE, Modality.AUDIO
QUICK = {"method": "text-anchor", "epochs": 10, "min_steps": 40}


def unit(shape, seed):
    return torch.nn.functional.normalize(torch.randn(shape, generator=torch.Generator().manual_seed(seed)), dim=1)


@pytest.mark.parametrize("band", [(0.1, 0.9), (0.4, 0.6), (0.0, 1.0)])
def test_the_loss_is_the_plain_loop_over_negatives_within_the_band(band):
    y = unit((12, 4), 0)
    x = torch.nn.functional.normalize(y + unit((12, 4), 1), dim=1)
    x[0] = -y[0]  # a pair below 0 is trained against all
    total = 0.0
    for i in range(12):
        own = float(x[i] @ y[i])
        kept = [float(x[i] @ y[j]) for j in range(12) if j != i]
        if own > 0:
            kept = [s for s in kept if band[0] * own <= s <= band[1] * own]
        total += -np.log(np.exp(own / 0.2) / (np.exp(own / 0.2) + sum(np.exp(s / 0.2) for s in kept)))
    assert banded_info_nce(x, y, 0.2, band).item() == pytest.approx(total / 12, rel=1e-5)


def test_a_row_beyond_the_band_has_no_gradient_and_one_within_it_has():
    x = torch.eye(3)[:1].repeat(3, 1)
    y = torch.nn.functional.normalize(torch.tensor([[1.0, 0, 0], [0.5, 1, 0], [0.99, 0.1, 0]]), dim=1).requires_grad_()
    banded_info_nce(x[:3], y, 0.1, (0.1, 0.9)).backward()
    asked_by_the_first = torch.autograd.grad(
        torch.nn.functional.cross_entropy(
            (x[:1] @ y.T / 0.1).masked_fill(torch.tensor([[False, False, True]]), float("-inf")), torch.tensor([0])
        ),
        y,
    )[0]
    assert y.grad is not None and not asked_by_the_first[2].any() and asked_by_the_first[1].any()


@pytest.fixture(scope="module")
def memories(tmp_path_factory):
    """A base of texts alone, eyes and ears that hold the texts too, and 60 things seen and heard that nobody holds."""
    folder, rng = tmp_path_factory.mktemp("anchor"), np.random.default_rng(0)
    latent = {name: rng.normal(size=(240, LATENT)) for name in "tis"}

    def held(seed, dim, name, modality):
        return space(seed, dim, latent[name], modality), rows(name, 240)

    write(folder / "texts", "enc-t", {TEXT: held(9, 30, "t", 0)})
    write(folder / "eyes", "enc-a", {TEXT: held(1, DIM_A, "t", 0), IMAGE: held(1, DIM_A, "i", 1)})
    write(folder / "ears", "enc-b", {TEXT: held(2, DIM_B, "t", 0), AUDIO: held(2, DIM_B, "s", 2)})
    things = rng.normal(size=(60, LATENT))
    seen = {TEXT: space(9, 30, things, 0), IMAGE: space(1, DIM_A, things, 1), AUDIO: space(2, DIM_B, things, 2)}
    return folder, seen


def recall_5(x, y):
    scores = x @ y.T
    return float(np.mean((scores >= np.diag(scores)[:, None]).sum(axis=1) <= 5))


def test_leaves_find_texts_and_each_other_in_a_space_of_texts_that_stays(memories, tmp_path):
    folder, seen = memories
    names = [str(folder / name) for name in ("texts", "eyes", "ears")]
    arguments = ["connect", *names, "-o", str(tmp_path / "s"), "--method", "text-anchor"]
    assert main([*arguments, "--epochs", "40", "--batch-size", "32"]) == 0
    made = ConnectedSpace.from_pretrained(tmp_path / "s")
    assert made.base == "enc-t" and list(made.encoders) == ["enc-t", "enc-a", "enc-b"]
    projector = made.projectors["enc-b"].config
    assert (projector.kind, projector.hidden, projector.centered) == ("gelu-mlp", 2 * DIM_B, ("text", "audio"))
    by = {TEXT: "enc-t", IMAGE: "enc-a", AUDIO: "enc-b"}
    placed = {m: made.project(x, encoder=by[m], modality=m) for m, x in seen.items()}
    assert np.allclose(placed[TEXT], seen[TEXT], atol=1e-6)
    chance = 5 / 60
    for one, other, times in ((IMAGE, TEXT, 4), (AUDIO, TEXT, 4), (IMAGE, AUDIO, 2), (AUDIO, IMAGE, 2)):
        assert recall_5(placed[one], placed[other]) > times * chance, (one, other)
    assert not list((tmp_path / "s.run").rglob("pseudo*"))  # nothing is recalled


@pytest.mark.parametrize(
    "settings", [{"center": False}, {"negatives_below": 1.0}, {"negatives_above": 0.0}, {"tau": 0.2}]
)
def test_each_switch_acts(settings, memories, tmp_path):
    folder, _ = memories
    made = [
        connect(folder / "texts", folder / "ears", out=tmp_path / name, config=ConnectConfig(**QUICK, **changes))
        for name, changes in (("plain", {}), ("changed", settings))
    ]
    assert made[0].space.fingerprint != made[1].space.fingerprint
    assert made[0].batch_size == made[0].space.recipe["batch_size"] == 64


def test_a_band_without_negatives_is_refused(memories, tmp_path, capsys):
    names = [str(memories[0] / name) for name in ("texts", "ears")]
    more = ["--method", "text-anchor", "--negatives-above", "0.9", "--negatives-below", "0.5"]
    assert main(["connect", *names, "-o", str(tmp_path / "s"), *more]) == 1
    assert "negatives above 0.9 and below 0.5" in capsys.readouterr().err
