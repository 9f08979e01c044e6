from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from worlds import two_memories

from cmcr import ConnectConfig, ConnectedSpace, Memory, Modality
from cmcr.cli import main
from cmcr.connect import connect
from cmcr.connect.methods.teacher import Teacher
from cmcr.connect.pairs import build_pairs
from cmcr.errors import InputError
from cmcr.memory.overlap import Side, join
from cmcr.numbers import ranks, recall_at, soft_info_nce

TEXT, IMAGE, AUDIO = Modality.TEXT, Modality.IMAGE, Modality.AUDIO


@pytest.fixture
def mem(tmp_path):
    return two_memories(tmp_path / "mem")


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def draw(rows, dim, seed):
    return torch.nn.functional.normalize(torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed)), dim=1)


@given(st.integers(1, 6), st.integers(1, 6), st.floats(0.004, 1.0), st.integers(0, 99))
def test_soft_info_nce_is_the_naive_double_loop(first, second, tau, seed):
    x, y = draw(first, 4, seed), draw(second, 4, seed + 1)
    teacher = draw(first, 3, seed + 2) @ draw(second, 3, seed + 3).T

    def cross(student, target):
        total = 0.0
        for s, t in zip(student.double().numpy() / tau, target.double().numpy() / tau, strict=True):
            log_soft = s - s.max() - np.log(np.exp(s - s.max()).sum())
            weight = np.exp(t - t.max()) / np.exp(t - t.max()).sum()
            total -= float(weight @ log_soft)
        return total / len(student)

    expected = (cross(x @ y.T, teacher) + cross((x @ y.T).T, teacher.T)) / 2
    rounding = 16 * torch.finfo(torch.float32).eps * (1 / tau + np.log(first * second) + 1)
    # The teacher's weights are off by a share that grows with 1 / tau too, and weigh logits of that size.
    assert float(soft_info_nce(x, y, teacher, tau)) == pytest.approx(expected, abs=rounding * (1 / tau + 1))


@pytest.mark.parametrize("tau", [0.3, 0.05, 0.004])  # the last is beyond what float32's exponentials hold
def test_soft_info_nce_has_the_gradients_of_the_cross_entropies_that_autograd_finds(tau):
    cross_entropy = torch.nn.functional.cross_entropy
    x, y, teacher = draw(40, 8, 0), draw(23, 8, 1), draw(40, 5, 2) @ draw(23, 5, 3).T
    found = [tensor.clone().requires_grad_() for tensor in (x, y)]
    true = [tensor.double().requires_grad_() for tensor in (x, y)]
    (3 * soft_info_nce(*found, teacher, tau)).backward()
    student, target = true[0] @ true[1].T / tau, teacher.double() / tau
    by_row, by_column = (cross_entropy(s, t.softmax(dim=1)) for s, t in ((student, target), (student.T, target.T)))
    (3 * (by_row + by_column) / 2).backward()
    for ours, exact in zip(found, true, strict=True):
        assert (ours.grad - exact.grad).norm() < 3e-6 * exact.grad.norm()
    with torch.no_grad():
        value = float(soft_info_nce(x, y, teacher, tau))
    assert value == pytest.approx(float((by_row + by_column).detach()) / 2, rel=1e-5)


@pytest.mark.parametrize(("tau", "soft_maxima"), [(0.05, 0), (0.004, 4)])
def test_soft_info_nce_takes_one_exponential_a_similarity_where_no_sum_overflows(tau, soft_maxima):
    x, y, teacher = draw(40, 8, 0).requires_grad_(), draw(23, 8, 1), draw(40, 5, 2) @ draw(23, 5, 3).T
    with Operations() as seen:
        soft_info_nce(x, y, teacher, tau).backward()
    assert sum("softmax" in name for name in seen.names) == soft_maxima
    assert sum(name.startswith("aten.exp") for name in seen.names) == 2


def test_soft_info_nce_gives_the_teacher_no_gradient_and_passes_on_what_is_not_a_number():
    x, teacher = draw(4, 3, 0).requires_grad_(), (draw(4, 3, 1) @ draw(4, 3, 2).T).requires_grad_()
    soft_info_nce(x, draw(4, 3, 3), teacher, 0.1).backward()
    assert x.grad is not None and teacher.grad is None
    assert soft_info_nce(x.detach() * float("nan"), draw(4, 3, 3), teacher, 0.1).isnan()


class Operations(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(str(function))
        return function(*args, **(kwargs or {}))


def known(pairs, sides, centers, config):
    """What a teacher reads of a Validation."""
    train = np.arange(len(pairs))
    return SimpleNamespace(pairs=pairs, train=train, sides=sides, centers=centers, config=config, device="cpu")


def teacher_of(mem, folder, **changes):
    a, b = (Memory.open(path) for path in mem[:2])
    overlap = join(a, b)
    sides = Side(a, TEXT, overlap.rows_a, IMAGE), Side(b, TEXT, overlap.rows_b, AUDIO)
    pairs = build_pairs(*sides, folder, 0.01)
    centers = [
        {str(m): torch.from_numpy(side.memory.vectors(m).mean(axis=0)) for m in (TEXT, side.outer)} for side in sides
    ]
    config = ConnectConfig(method="distill", precision="fp32", **changes)
    return Teacher(known(pairs, sides, centers, config), folder)


def test_routed_coordinates_are_those_of_the_naive_loop(mem, tmp_path):
    teacher = teacher_of(mem, tmp_path / "pairs", route_top_k=7, route_tau=0.1)
    batch = teacher.batch(np.arange(10**4) % 400, np.random.default_rng(0))  # so many that every memory row is drawn
    overlap = [unit(np.float32(x)) for x in (teacher.pairs.overlap_a, teacher.pairs.overlap_b)]
    texts = [unit(x - x.mean(axis=0)) for x in overlap]
    for side, own, drawn in zip(teacher.sides, texts, batch.drawn, strict=True):
        x = side.memory.vectors(side.outer)
        expected = []
        for row in unit(x - x.mean(axis=0)):
            similar = own @ row
            near = np.argsort(-similar)[:7]
            weight = np.exp(similar[near] / 0.1) / np.exp(similar[near] / 0.1).sum()
            expected.append(np.concatenate([unit((weight @ t[near])[None])[0] for t in texts]))
        expected = unit(np.array(expected) - np.mean(expected, axis=0))
        assert np.allclose(drawn.coordinates.numpy(), expected, atol=3e-3)  # float16 on disk
        assert np.allclose(drawn.vectors.numpy(), unit(x - x.mean(axis=0)), atol=1e-5)


def test_memories_far_from_the_overlap_are_not_trusted(mem, tmp_path, monkeypatch):
    near = teacher_of(mem, tmp_path / "near")
    assert 0 < near.nearness < 1 and 0 < near.trust < 1
    # Texts of another law than the memories: what they recall says little.
    for side in near.sides:
        texts = side.memory.vectors(TEXT)
        rng = np.random.default_rng(0)
        side.memory.vectors = lambda modality, rows=None, side=side, texts=texts, rng=rng: (
            unit(rng.normal(size=texts.shape)).astype(np.float32)[slice(None) if rows is None else rows]
            if modality == TEXT
            else Memory.vectors(side.memory, modality, rows)
        )
    sides = near.sides
    pairs = build_pairs(*sides, tmp_path / "far", 0.01)
    far = Teacher(known(pairs, sides, near.centers, near.config), tmp_path / "far")
    assert far.nearness < near.nearness and far.trust < near.trust
    monkeypatch.setattr("cmcr.connect.nearness.NEGLIGIBLE", near.trust + 0.01)  # too little to be worth its time
    assert teacher_of(mem, tmp_path / "near").trust == 0


def test_untrusted_memories_are_recalled_only_where_it_is_measured(mem, tmp_path, monkeypatch):
    a, b, _ = mem
    monkeypatch.setattr("cmcr.connect.nearness.NEGLIGIBLE", 1.1)
    made = connect(a, b, tmp_path / "s", ConnectConfig(method="distill", epochs=1))
    pairs = tmp_path / "s.run" / "pairs"
    assert not (pairs / "pseudo_a.npy").exists() and (pairs / "routed_a.npy").exists()
    assert np.load(tmp_path / "s.run" / "held-out" / "pseudo_a.npy").shape[0] == made.rows[1]
    assert made.space.metrics["trust"] == 0 and "pseudo_r1" in made.space.metrics
    # What only measures is recalled by the whole softmax, however training would recall.
    connect(a, b, tmp_path / "t", ConnectConfig(method="distill", epochs=1, pairing="topk:1"))
    whole, nearest = (np.load(tmp_path / f"{name}.run" / "held-out" / "pseudo_a.npy") for name in "st")
    assert np.array_equal(whole, nearest)


def outer_recall(space, pairs):
    image = space.project(pairs[0], encoder="enc-a", modality=IMAGE)
    audio = space.project(pairs[1], encoder="enc-b", modality=AUDIO)
    return (recall_at(ranks(image, audio), 1) + recall_at(ranks(audio, image), 1)) / 2


def test_distillation_connects_and_each_of_its_parts_acts(mem, tmp_path):
    a, b, pairs = mem
    config = ConnectConfig(method="distill", epochs=12)
    made = connect(a, b, tmp_path / "whole", config)
    assert outer_recall(made.space, pairs) > 0.25  # 15 times chance
    assert {m for e in made.space.encoders.values() for m in e.modalities} == {TEXT, IMAGE, AUDIO}
    assert any("nearness of the memories" in note for note in made.notes)
    assert made.space.metrics["epoch"] == 12
    assert made.space.dim == 512 and {p.config.hidden for p in made.space.projectors.values()} == {1024}
    image = made.space.project(pairs[0], encoder="enc-a", modality=IMAGE)
    for number, change in enumerate(
        [{"own_weight": 0.0}, {"distill_tau": 0.2}, {"route_tau": 0.5}, {"route_top_k": 2}, {"overlap_weight": 0.0},
         {"pseudo_weight": 0.0}, {"tau": 0.05}, {"noise": 0.0}]
    ):  # fmt: skip
        other = connect(a, b, tmp_path / f"{number}", config.replace(epochs=2, **change)).space
        same = connect(a, b, tmp_path / "two", config.replace(epochs=2), overwrite=number == 0).space
        assert not np.allclose(*(s.project(pairs[0], encoder="enc-a", modality=IMAGE) for s in (other, same)))
    assert np.isfinite(image).all()


def test_routing_alone_teaches_the_outer_pair(mem, tmp_path, monkeypatch):
    a, b, pairs = mem
    original = Teacher.__init__

    def blind(self, *args):
        original(self, *args)
        self.trust = 0.0

    monkeypatch.setattr(Teacher, "__init__", blind)
    config = ConnectConfig(method="distill", epochs=12)
    assert outer_recall(connect(a, b, tmp_path / "s", config).space, pairs) > 0.15
    # With coordinates that are another row's, nothing is left to learn.
    routed = Teacher._routed
    monkeypatch.setattr(
        Teacher, "_routed", lambda self, number, *rest: (x[::-1] if number else x for x in routed(self, number, *rest))
    )
    assert outer_recall(connect(a, b, tmp_path / "t", config).space, pairs) < 0.08


def test_stopped_and_resumed_it_ends_with_the_same_bytes(mem, tmp_path):
    a, b, _ = mem
    config = ConnectConfig(method="distill", epochs=3)

    def stops(done, total, note=""):
        if "epoch 2" in note:
            raise KeyboardInterrupt

    connect(a, b, tmp_path / "whole", config)
    with pytest.raises(KeyboardInterrupt):
        connect(a, b, tmp_path / "stopped", config, progress=stops)
    connect(a, b, tmp_path / "stopped", config)
    for name in ("config.json", "model.safetensors"):
        paths = [tmp_path / folder / name for folder in ("whole", "stopped")]
        assert paths[0].read_bytes() == paths[1].read_bytes()


def test_where_pairs_do_not_count_batches_hold_more_of_the_memories(mem, tmp_path):
    teacher = teacher_of(mem, tmp_path / "pairs")
    rows, rng = np.arange(0, 400, 5), np.random.default_rng(0)
    for trust, drawn, overlap in ((1.0, 20, 60), (0.5, 50, 40), (0.0, 80, 20)):
        teacher.trust = trust
        batch = teacher.batch(rows, rng)
        assert [len(each.vectors) for each in batch.drawn] == [drawn, drawn]
        assert len(batch.rows.overlap_a) == overlap


def test_auto_is_the_ensemble_and_says_why(mem, tmp_path, capsys):
    a, b, _ = mem
    arguments = ["connect", str(a), str(b), "-o", str(tmp_path / "s"), "--method", "auto", "--epochs", "2"]
    assert main(arguments) == 0
    assert "auto: ensemble, for there are rows enough to learn from" in capsys.readouterr().err
    alone = connect(a, b, tmp_path / "alone", ConnectConfig(method="ensemble", epochs=2)).space
    assert ConnectedSpace.from_pretrained(tmp_path / "s").fingerprint == alone.fingerprint


def test_auto_routes_where_there_is_too_little_to_choose_by(mem, tmp_path, monkeypatch):
    monkeypatch.setattr("cmcr.connect.choose.FEW", 401)
    made = connect(*mem[:2], tmp_path / "t", ConnectConfig(method="auto"))
    assert made.space.method == "route"
    assert "auto: route, for" in made.notes[0] and "the overlap has 400 rows" in made.notes[0]


def test_without_recalled_pairs_it_is_refused(mem, tmp_path):
    with pytest.raises(InputError, match="pairing is 'none'"):
        connect(*mem[:2], tmp_path / "s", ConnectConfig(method="distill", pairing="none"))


def test_settings_left_to_the_method_follow_it():
    config = ConnectConfig()
    assert (config.tau, config.lr, config.weight_decay) == (0.01, 1e-3, 0.01)
    assert config.replace(method="distill") == ConnectConfig(method="distill")
    assert ConnectConfig(method="distill").tau == 0.1 and ConnectConfig(method="distill").weight_decay == 0.05
    assert config.replace(method="distill", tau=0.01).tau == 0.01
    assert ConnectConfig(lr=0.5).replace(method="distill").lr == 0.5


@pytest.mark.parametrize("name", ["shrink", "route-density"])
def test_a_recipe_with_a_retired_setting_says_to_leave_it_out(tmp_path, name, capsys):
    (tmp_path / "old.toml").write_text(f'method = "distill"\n{name} = 0.5\n')
    assert main(["connect", "a", "b", "-o", str(tmp_path / "s"), "--config", str(tmp_path / "old.toml")]) in (1, 2)
    said = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert "is retired" in said and "leave it out" in said
