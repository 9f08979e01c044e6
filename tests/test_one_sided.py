"""The recommended method for a base that stays: a mean of maps, without the gaps of the base."""

import numpy as np
import pytest
import torch
from worlds import two_memories

from cmcr import ConnectConfig, ConnectedSpace, Memory, Modality
from cmcr.cli import main
from cmcr.connect import connect
from cmcr.space import Projector, ProjectorConfig, bridges

TEXT, IMAGE, AUDIO = Modality.TEXT, Modality.IMAGE, Modality.AUDIO
QUICK = {"method": "one-sided", "epochs": 3, "min_steps": 20}


@pytest.fixture(scope="module")
def mem(tmp_path_factory):
    return two_memories(tmp_path_factory.mktemp("mem"))


@pytest.fixture(scope="module")
def connected(mem, tmp_path_factory):
    out = tmp_path_factory.mktemp("space") / "s"
    arguments = ["connect", str(mem[0]), str(mem[1]), "-o", str(out), "--freeze-base", "--method", "auto"]
    assert main([*arguments, "--epochs", "3", "--min-steps", "20"]) == 0
    return out


def draw(rows, dim, seed):
    return torch.nn.functional.normalize(torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_a_mean_is_the_plain_loop_over_its_parts():
    weight, keys, values, x = draw(5, 4, 0), draw(9, 4, 1), draw(9, 5, 2), draw(6, 4, 3)
    gaps, center, means = torch.linalg.qr(draw(5, 2, 4)).Q.T, draw(1, 4, 5)[0] / 3, draw(1, 10, 6)[0] / 3
    parts = [bridges.linear_bridge(weight, torch.zeros(5), {}), bridges.route_bridge(keys, values, 0.3, 0, {})]
    made = bridges.reweighted(bridges.mean(parts, gaps, {"audio": center}), (1.0, 3.0))
    made.body.means["audio"].data.copy_(means)
    found = made(x, "audio").detach()
    for row, projected in zip(x.double().numpy(), found.numpy(), strict=True):
        row = row - center.numpy()
        row = row / np.linalg.norm(row)
        e = np.exp(keys.numpy() @ row / 0.3)
        views = []
        for view, mean in zip(
            (weight.numpy() @ row, e / e.sum() @ values.numpy()), np.split(means.numpy(), 2), strict=True
        ):
            view = view - mean
            view = view - gaps.numpy().T @ (gaps.numpy() @ view)
            views.append(view / np.linalg.norm(view))
        expected = views[0] / 4 + 3 * views[1] / 4
        np.testing.assert_allclose(projected, expected / np.linalg.norm(expected), atol=1e-5)
    assert (found @ gaps.T).abs().max() < 1e-6
    again = Projector(ProjectorConfig(**made.config.to_dict() | {"parts": made.config.parts}))
    again.load_state_dict(made.state_dict())
    assert torch.equal(again.eval()(x, "audio").detach(), found)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": (1.0,)}, "1 weights of 2 parts"),
        ({"weights": (0.5, 0.6)}, "expected above 0 and 1 in sum"),
        ({"gaps": 4}, "4 gaps of 4 components"),
        ({"parts": (ProjectorConfig("linear", 4, 5), ProjectorConfig("identity", 4, 4))}, r"parts of \[5, 4\] comp"),
        ({"parts": (ProjectorConfig("mean", 4, 4), ProjectorConfig("identity", 4, 4))}, "an ensemble or a mean: mean"),
        ({"kind": "identity"}, "a identity has no parts"),
    ],
)  # fmt: skip
def test_a_mean_that_cannot_be_is_refused(changes, message):
    same = ProjectorConfig("identity", 4, 4)
    fields = {"kind": "mean", "in_dim": 4, "out_dim": 4, "parts": (same, same), "weights": (0.5, 0.5)}
    ProjectorConfig(**fields).check()
    with pytest.raises(ValueError, match=message):
        ProjectorConfig(**fields | changes).check()


def recall_5(x, y):
    scores = x @ y.T
    return float(np.mean((scores >= np.diag(scores)[:, None]).sum(axis=1) <= 5))


def test_auto_takes_it_for_a_frozen_base_which_is_kept_and_finds_the_pair_both_ways(connected, mem):
    made = ConnectedSpace.from_pretrained(connected)
    assert made.method == "one-sided" and made.base == "enc-a" and made.projectors["enc-b"].config.kind == "mean"
    image = mem[2][0] / np.linalg.norm(mem[2][0], axis=1, keepdims=True)
    assert np.allclose(made.project(image, encoder="enc-a", modality=IMAGE), image, atol=1e-7)
    sound = made.project(mem[2][1], encoder="enc-b", modality=AUDIO)
    assert min(recall_5(sound, image), recall_5(image, sound)) > 4 * 5 / 60


def test_what_it_makes_has_no_part_in_the_gap_of_the_base(connected, mem):
    made, base = ConnectedSpace.from_pretrained(connected), Memory.open(mem[0])
    means = [base.vectors(m).mean(axis=0) for m in (TEXT, IMAGE)]
    for modality, rows in ((AUDIO, mem[2][1]), (TEXT, Memory.open(mem[1]).vectors(TEXT))):
        placed = made.project(rows, encoder="enc-b", modality=modality)
        # Not exactly: the texts' mean is that of the rows trained on.
        assert max(np.abs(placed @ mean).max() for mean in means) < 0.02
        assert np.linalg.norm(placed.mean(axis=0)) < 0.25


def test_raw_rows_of_the_base_rank_as_centred_ones_do_and_only_for_the_gap_left_out(connected, mem):
    made, base = ConnectedSpace.from_pretrained(connected), Memory.open(mem[0])
    image, projector = mem[2][0], made.projectors["enc-b"]

    def differ():
        sound = made.project(mem[2][1], encoder="enc-b", modality=AUDIO)
        orders = [np.argsort(x @ sound.T, axis=1) for x in (image, image - base.vectors(IMAGE).mean(axis=0))]
        return float((orders[0] != orders[1]).mean())

    assert differ() < 0.01
    projector.body.gaps.zero_()
    assert differ() > 0.3


def test_only_the_student_learns_and_it_acts(mem, tmp_path):
    made = [
        connect(mem[0], mem[1], out=tmp_path / str(seed), config=ConnectConfig(**QUICK, seed=seed), freeze_base=True)
        for seed in (0, 1)
    ]
    students = [each.space.projectors["enc-b"].body.parts[1].state_dict() for each in made]
    assert not torch.equal(students[0]["0.weight"], students[1]["0.weight"])
    assert not list(made[0].space.projectors["enc-a"].parameters())
    assert {"nearness", "trust", "likeness"} <= made[0].space.metrics.keys()
    assert any("keeps 380 overlap rows" in note for note in made[0].notes)


def test_stopped_and_resumed_or_connected_again_it_is_the_same(connected, mem, tmp_path):
    config = ConnectConfig(method="auto", epochs=3, min_steps=20)
    made = connect(mem[0], mem[1], out=tmp_path / "s", config=config, freeze_base=True)
    assert (tmp_path / "s" / "model.safetensors").read_bytes() == (connected / "model.safetensors").read_bytes()
    assert made.space.fingerprint == ConnectedSpace.from_pretrained(connected).fingerprint


def test_auto_routes_into_a_frozen_base_where_there_is_too_little(tmp_path):
    a, b, _ = two_memories(tmp_path / "mem", texts=60, outer=80)
    made = connect(a, b, out=tmp_path / "s", config=ConnectConfig("auto"), freeze_base=True)
    assert made.space.method == "route" and any("one-sided wants 200 of each" in note for note in made.notes)
