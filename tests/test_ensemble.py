import re

import numpy as np
import pytest
import torch
from worlds import two_memories

from cmcr import ConnectConfig, ConnectedSpace, Memory, Modality
from cmcr.cli import main
from cmcr.connect import connect
from cmcr.connect.methods import views
from cmcr.numbers import ranks, recall_at
from cmcr.numbers.routing import directions, likelihoods, likeness, likeness_error, rarity

TEXT, IMAGE, AUDIO = Modality.TEXT, Modality.IMAGE, Modality.AUDIO


@pytest.fixture
def mem(tmp_path):
    return two_memories(tmp_path / "mem")


def draw(rows, dim, seed):
    return torch.nn.functional.normalize(torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed)), dim=1)


def naive_likelihood(a, b, keys_a, keys_b, tau):
    """The sum over overlap rows t of p(t|a) p(t|b) / sqrt(m_a(t) m_b(t)), by loops."""

    def described(rows, keys):
        found = []
        for row in rows.double().numpy():
            weight = np.exp(keys.double().numpy() @ row / tau)
            found.append(weight / weight.sum())
        return np.array(found)

    p, q = described(a, keys_a), described(b, keys_b)
    m, n = (x.mean(axis=0) + 1e-3 / len(keys_a) for x in (p, q))
    return np.array([[sum(x * y / np.sqrt(m * n)) for y in q] for x in p])


def test_the_likelihood_of_a_common_description_is_the_naive_loops_and_survives_the_cut():
    a, b, keys_a, keys_b = draw(12, 5, 0), draw(9, 4, 1), draw(40, 5, 2), draw(40, 4, 3)
    long = [
        torch.cat(list(likelihoods(rows, keys, 0.2))) * rarity(rows, keys, 0.2)
        for rows, keys in ((a, keys_a), (b, keys_b))
    ]
    expected = naive_likelihood(a, b, keys_a, keys_b, 0.2)
    np.testing.assert_allclose((long[0] @ long[1].T).numpy(), expected, rtol=2e-4)
    kept = directions((long[0], long[1]), 512)
    assert kept.shape[1] <= 12 + 9
    np.testing.assert_allclose((kept.T @ kept).numpy(), np.eye(kept.shape[1]), atol=1e-4)
    np.testing.assert_allclose((long[0] @ kept @ (long[1] @ kept).T).numpy(), expected, rtol=2e-3)
    # Fewer directions keep the most of both: no others of their number leave less out.
    few = directions((long[0], long[1]), 3)
    other = torch.linalg.qr(draw(40, 3, 9)).Q
    left = [sum(float((x - x @ v @ v.T).pow(2).sum()) / len(x) for x in long) for v in (few, other)]
    assert few.shape == (40, 3) and left[0] < left[1]


def test_likeness_is_one_of_one_law_and_less_of_another():
    overlap = draw(600, 12, 0)
    shifted = torch.nn.functional.normalize(draw(300, 12, 1) + 0.8 * draw(1, 12, 2), dim=1)
    clustered = torch.nn.functional.normalize(overlap[:1] + 0.1 * draw(600, 12, 4), dim=1)
    assert likeness(draw(300, 12, 3), overlap) > 0.97
    assert 0 <= likeness(shifted, clustered) < 0.7
    # Nearer than rows of the overlap are to each other: blurred towards it, and of another law as well.
    assert likeness(overlap[::2], overlap) < 0.9 * likeness(draw(300, 12, 3), overlap)
    assert likeness(draw(3, 12, 5), torch.zeros(2, 12)) == 0.0


def test_the_error_of_likeness_is_that_of_parts_of_the_rows():
    overlap, rows = draw(600, 12, 0), torch.nn.functional.normalize(draw(300, 12, 1) + 0.8 * draw(1, 12, 2), dim=1)
    found = [likeness(rows[number::5], overlap) for number in range(5)]
    assert likeness_error(rows, overlap) == pytest.approx(np.std(found, ddof=1) / 5**0.5, rel=1e-4)
    assert 0 < likeness_error(rows, overlap) < 0.05
    assert likeness_error(rows[:4], overlap) == 0


def outer_recall(space, pairs):
    image = space.project(pairs[0], encoder="enc-a", modality=IMAGE)
    audio = space.project(pairs[1], encoder="enc-b", modality=AUDIO)
    return (recall_at(ranks(image, audio), 1) + recall_at(ranks(audio, image), 1)) / 2


def test_every_modality_enters_the_space_and_the_pair_that_nobody_trained_is_found(mem, tmp_path, capsys):
    a, b, pairs = mem
    arguments = ["connect", str(a), str(b), "-o", str(tmp_path / "s"), "--method", "ensemble"]
    assert main([*arguments, "--epochs", "4", "--min-steps", "20"]) == 0
    said = capsys.readouterr().err
    space = ConnectedSpace.from_pretrained(tmp_path / "s")
    assert set(space.modalities) == {TEXT, IMAGE, AUDIO}
    assert outer_recall(space, pairs) > 0.25  # 15 times chance
    config = space.projectors["enc-a"].config
    assert config.kind == "ensemble" and config.segments == space.projectors["enc-b"].config.segments
    assert re.search(
        r"likeness of the memories to the overlap \d\.\d\d ± 0\.\d\d and \d\.\d\d ± 0\.\d\d: weights", said
    )
    assert "the space keeps 380 overlap rows" in said and "--method distill keeps none" in said
    assert 0 < space.metrics["likeness"] <= 1
    again = connect(a, b, tmp_path / "t", ConnectConfig(method="ensemble", epochs=4, min_steps=20)).space
    assert again.fingerprint == space.fingerprint


def test_each_view_and_each_setting_acts(mem, tmp_path, monkeypatch):
    a, b, pairs = mem

    def made(name, **changes):
        config = ConnectConfig(method="ensemble", epochs=1, min_steps=1, **changes)
        return connect(a, b, tmp_path / name, config).space

    whole = made("whole")
    seen = whole.project(pairs[0], encoder="enc-a", modality=IMAGE)
    cuts = np.cumsum(whole.projectors["enc-a"].config.segments)[:-1]
    assert all(np.abs(part).max() > 0.01 for part in np.split(seen, cuts, axis=1)[:4])
    for number, change in enumerate(({"likelihood_tau": 0.3}, {"directions": 5}, {"anchors": 50})):
        other = made(f"{number}", **change)
        moved = other.project(pairs[0], encoder="enc-a", modality=IMAGE)
        assert moved.shape != seen.shape or not np.allclose(moved, seen)
    assert other.projectors["enc-a"].config.parts[0].anchors == 50
    for number in range(5):
        for kind in ("FAR", "ALIKE", "TRUSTED"):
            monkeypatch.setattr(views, kind, torch.tensor([float(number != n) for n in range(5)]))
        weights = made(f"without {number}").projectors["enc-a"].config.weights
        assert weights[number] < 0.05 < max(weights)


def test_of_memories_like_the_overlap_the_student_has_no_share(mem, tmp_path, monkeypatch):
    a, b, _ = mem
    weights = []
    monkeypatch.setattr("cmcr.connect.nearness.NEGLIGIBLE", 1.1)  # no pair is trusted
    for name, alike in (("far", 0.3), ("alike", 1.0)):
        monkeypatch.setattr(views, "likeness", lambda rows, overlap, alike=alike: alike)
        space = connect(a, b, tmp_path / name, ConnectConfig(method="ensemble", epochs=1, min_steps=1)).space
        weights.append(space.projectors["enc-a"].config.weights)
    assert weights[1][4] < 0.01 < weights[0][4] and weights[1][0] > 2 * weights[0][0]


def test_one_side_like_the_overlap_moves_the_weights_half_way(mem, tmp_path, monkeypatch):
    a, b, _ = mem
    monkeypatch.setattr("cmcr.connect.nearness.NEGLIGIBLE", 1.1)  # no pair is trusted
    shares = []
    for kinds in ((0.5, 0.5), (0.5, 1.0), (1.0, 1.0)):
        told = iter(kinds)
        monkeypatch.setattr(views, "likeness", lambda rows, overlap, told=told: next(told))
        config = ConnectConfig(method="ensemble", epochs=1, min_steps=1)
        weights = connect(a, b, tmp_path / f"{kinds}", config).space.projectors["enc-a"].config.weights
        shares.append(weights[4] / weights[1])  # of the student and of likely descriptions
    ratio = float(views.FAR[4] / views.FAR[1])
    half = float((views.FAR + views.ALIKE)[4] / (views.FAR + views.ALIKE)[1])
    assert shares[1] / shares[0] == pytest.approx(half / ratio, rel=1e-3) and shares[2] < 0.01 * shares[0]


def test_a_student_of_trusted_pairs_outweighs_the_other_views(mem, tmp_path, monkeypatch):
    a, b, _ = mem
    weights = []
    for trust in (0.0, 0.9):
        monkeypatch.setattr("cmcr.connect.methods.teacher.trust", lambda validation, trust=trust: (0.5, trust))
        config = ConnectConfig(method="ensemble", epochs=1, min_steps=1)
        weights.append(connect(a, b, tmp_path / f"{trust}", config).space.projectors["enc-a"].config.weights)
    assert weights[0][4] < 0.7 < 0.8 < weights[1][4]


def test_without_recalled_rows_it_is_refused(mem, tmp_path, capsys):
    arguments = ["connect", *map(str, mem[:2]), "-o", str(tmp_path / "s"), "--method", "ensemble", "--pairing", "none"]
    assert main(arguments) == 1
    assert "ensemble learns from both memories" in capsys.readouterr().err


def test_the_segments_and_their_weights_are_those_of_plain_loops(mem, tmp_path):
    a, b, _ = mem
    config = ConnectConfig(method="ensemble", epochs=1, min_steps=1, val_fraction=0.5, directions=10_000)
    space = connect(a, b, tmp_path / "s", config).space
    bodies = [space.projectors[name].body for name in ("enc-a", "enc-b")]
    route_of = [bodies[0].parts[0], bodies[1].parts[1]]
    keys = [route.keys.double().numpy() for route in route_of]

    def unit(x):
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    x, described = [], []
    for path, modality, own in zip((a, b), (IMAGE, AUDIO), keys, strict=True):
        rows = Memory.open(path).vectors(modality).astype(np.float64)
        x.append(unit(rows - rows.mean(axis=0)))
        weights = np.exp(x[-1] @ own.T / 0.1)
        p = weights / weights.sum(axis=1, keepdims=True)
        described.append(p / np.sqrt(p.mean(axis=0) + 1e-3 / len(own)))

    def centred(rows):
        return unit(rows - rows.mean(axis=0))

    left, _, right = np.linalg.svd(keys[0].T @ keys[1], full_matrices=False)
    views = [
        (centred(described[0] @ keys[1]), x[1]),
        (centred(described[0]), centred(described[1])),  # uncut, for there are as many directions as rows span
        (x[0], centred(described[1] @ keys[0])),
        (unit(x[0] @ left), unit(x[1] @ right.T)),
    ]
    cuts = np.cumsum(space.projectors["enc-a"].config.segments)[:-1]
    made = [
        np.split(space.project(Memory.open(path), modality=modality), cuts, axis=1)
        for path, modality in ((a, IMAGE), (b, AUDIO))
    ]
    weights = space.projectors["enc-a"].config.weights
    for left, right, weight, (p, q) in zip(*(side[:4] for side in made), weights[:4], views, strict=True):
        np.testing.assert_allclose(left @ right.T / weight, p @ q.T, atol=5e-3)
    # A view's weight over the deviation of its cosines: equal products where the wanted weights are equal.
    spreads = [(left @ right.T).std() for left, right in zip(*made, strict=True)]
    assert spreads[0] == pytest.approx(spreads[2], rel=1e-2)
