"""Ex-MCR: its tuples against plain loops, each term of its loss, and what it makes of a base that stays."""

import numpy as np
import pytest
import torch
from worlds import DIM_A, DIM_B, LATENT, rows, space, two_memories, write

from cmcr import ConnectConfig, ConnectedSpace, Memory, Modality
from cmcr.cli import main
from cmcr.connect import connect
from cmcr.connect.link import _sides
from cmcr.connect.methods.ex_mcr import ExMcrObjective
from cmcr.connect.tuples import build_tuples
from cmcr.connect.validation import build_validation
from cmcr.memory.overlap import join
from cmcr.ranks import ALONE
from cmcr.space import join_spaces

TEXT, IMAGE, AUDIO, CLOUD = Modality.TEXT, Modality.IMAGE, Modality.AUDIO, Modality.POINT_CLOUD
QUICK = {"method": "ex-mcr", "epochs": 1, "min_steps": 8}


@pytest.fixture(scope="module")
def mem(tmp_path_factory):
    return two_memories(tmp_path_factory.mktemp("mem"))


def validation_of(mem, folder, **settings):
    a, b = Memory.open(mem[0]), Memory.open(mem[1])
    sides = _sides(a, b, join(a, b), (None, None), True, recalls=True)
    config = ConnectConfig(**{"method": "ex-mcr", "precision": "fp32"} | settings)
    return build_validation(sides, folder, config, "cpu", ALONE, lambda *_: None)


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


def test_tuples_are_those_of_plain_loops_and_weights_are_used_again(mem, tmp_path):
    validation = validation_of(mem, tmp_path, tau_memory=0.05)
    tuples, train = build_tuples(validation, ("overlap", "base", "leaf"), tmp_path / "tuples")
    a, b = (side.memory for side in validation.sides)
    texts = [
        m.vectors(TEXT)[side.rows[validation.train]] for m, side in ((a, validation.sides[0]), (b, validation.sides[1]))
    ]
    images, sounds = a.vectors(IMAGE), b.vectors(AUDIO)
    assert len(tuples) == 400 + 300 + 300 and len(train) == 380 + 600
    assert not set(validation.held) & set(train[:380])  # rows held out are not trained on, and answer nobody
    drawn = tuples.take(np.array([3, 400 + 7, 700 + 9]))
    found = [getattr(drawn, name).numpy() for name in ("overlap_a", "overlap_b", "pseudo_a", "pseudo_b")]

    def ask(query, bank):
        return softmax(bank @ (query / np.linalg.norm(query)) / 0.05)

    by_image, by_sound = ask(images[7], texts[0]), ask(sounds[9], texts[1])
    seen, heard = a.vectors(TEXT)[3], b.vectors(TEXT)[3]
    expected = [
        [seen, heard, ask(seen, images) @ images, ask(heard, sounds) @ sounds],
        [by_image @ texts[0], by_image @ texts[1], images[7], ask(by_image @ texts[1], sounds) @ sounds],
        [by_sound @ texts[0], by_sound @ texts[1], ask(by_sound @ texts[0], images) @ images, sounds[9]],
    ]  # fmt: skip
    for number, row in enumerate(expected):
        for part, wanted in zip(found, row, strict=True):
            np.testing.assert_allclose(part[number], wanted, atol=2e-3)


def test_tuples_are_kept_and_made_anew_for_other_rows(mem, tmp_path):
    validation = validation_of(mem, tmp_path)
    build_tuples(validation, ("overlap", "leaf"), tmp_path / "t")
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "t").iterdir()}
    assert {path.stem for path in times} == {"asked_b", "answered_b", "asking_b"}
    build_tuples(validation, ("overlap", "leaf"), tmp_path / "t")
    assert {path: path.stat().st_mtime_ns for path in times} == times
    validation.train = validation.train[1:]
    build_tuples(validation, ("overlap", "leaf"), tmp_path / "t")
    assert all(path.stat().st_mtime_ns > times[path] for path in times)


def test_the_nearest_rows_alone_recall_nearly_what_all_do(mem, tmp_path):
    both = [
        build_tuples(validation_of(mem, tmp_path / p, pairing=p), ("leaf",), tmp_path / p / "t")[0]
        for p in ("full", "topk:50")
    ]
    drawn = [each.take(np.arange(400, 430)) for each in both]
    assert (drawn[0].pseudo_a - drawn[1].pseudo_a).abs().max() < 0.05


def loss_of(mem, folder, **settings):
    validation = validation_of(mem, folder, noise=0.0, **settings)
    validation.pairs, _ = build_tuples(validation, ("overlap", "base", "leaf"), folder / "tuples")
    objective = ExMcrObjective(validation)
    maps, batch = objective.maps(), objective.batch(np.arange(100, 900, 16), None)
    maps[1].train()
    return objective, maps, batch, objective.loss(maps, batch, torch.Generator(), ALONE)


def info_nce(x, y, tau):
    labels = torch.arange(len(x))
    ce = torch.nn.functional.cross_entropy
    return (ce(x @ y.T / tau, labels) + ce(y @ x.T / tau, labels)) / 2


def test_the_loss_is_a_quarter_of_four_terms_and_a_pull_before_the_projector(mem, tmp_path):
    objective, maps, batch, loss = loss_of(mem, tmp_path, intra_weight=0.3)
    body, normalize = maps[1].body, torch.nn.functional.normalize
    with torch.no_grad():  # a head that moves, so that the pull is not what it is at the identity
        body.head.weight += 0.1
    loss = objective.loss(maps, batch, torch.Generator(), ALONE)
    a, t = normalize(batch.pseudo_b, dim=1), normalize(batch.overlap_b, dim=1)
    base = normalize(batch.pseudo_a, dim=1), normalize(batch.overlap_a, dim=1)
    leaf = normalize(body.blocks(torch.cat([body.head(a), t])), dim=1).split(len(a))
    terms = [info_nce(x, y, 0.02) for x in leaf for y in base]
    pull = (body.head(a) - t).norm(dim=1).mean()
    assert torch.allclose(loss, sum(terms) / 4 + 0.3 * pull, atol=1e-4)
    for alone, term in zip(("outer-outer", "outer-overlap", "overlap-outer", "overlap-overlap"), terms, strict=True):
        objective.config = objective.config.replace(alignment=alone, intra_weight=0.0)
        assert torch.allclose(objective.loss(maps, batch, torch.Generator(), ALONE), term, atol=1e-4), alone
    loss.backward()
    assert body.head.weight.grad.abs().max() > 0 and not [p for p in maps[0].parameters() if p.requires_grad]


def test_the_head_is_the_identity_at_first_and_of_the_outer_modality_alone(mem, tmp_path):
    objective, maps, _, _ = loss_of(mem, tmp_path)
    assert maps[1].config.outer == ("audio",) and maps[1].config.hidden == 2 * DIM_A
    assert torch.equal(maps[1].body.head.weight, torch.eye(DIM_B)) and not maps[1].body.head.bias.any()
    objective.config = objective.config.replace(decoupled=False)
    assert objective.maps()[1].config.outer == ()


def recall_5(x, y):
    scores = x @ y.T
    return float(np.mean((scores >= np.diag(scores)[:, None]).sum(axis=1) <= 5))


@pytest.fixture(scope="module")
def connected(mem, tmp_path_factory):
    out = tmp_path_factory.mktemp("space") / "s"
    arguments = ["connect", str(mem[0]), str(mem[1]), "-o", str(out), "--method", "ex-mcr", "--freeze-base"]
    assert main([*arguments, "--epochs", "3", "--min-steps", "30"]) == 0
    return out


def test_the_base_is_kept_to_the_bit_and_the_pair_nobody_trained_is_found(connected, mem):
    made = ConnectedSpace.from_pretrained(connected)
    image = mem[2][0] / np.linalg.norm(mem[2][0], axis=1, keepdims=True)
    assert made.base == "enc-a" and np.allclose(made.project(image, encoder="enc-a", modality=IMAGE), image, atol=1e-7)
    sound = made.project(mem[2][1], encoder="enc-b", modality=AUDIO)
    assert min(recall_5(sound, image), recall_5(image, sound)) > 3 * 5 / 60
    head = made.projectors["enc-b"].body.head
    assert not torch.allclose(head.weight, torch.eye(DIM_B), atol=1e-3)


@pytest.fixture(scope="module")
def plain(mem, tmp_path_factory):
    out = tmp_path_factory.mktemp("plain") / "s"
    return connect(mem[0], mem[1], out=out, config=ConnectConfig(**QUICK), freeze_base=True).space.fingerprint


@pytest.mark.parametrize(
    "settings", [{"asking": "overlap"}, {"decoupled": False}, {"alignment": "outer-outer"}, {"intra_weight": 0.0}]
)
def test_each_switch_acts(settings, plain, mem, tmp_path):
    made = connect(mem[0], mem[1], out=tmp_path / "s", config=ConnectConfig(**QUICK, **settings), freeze_base=True)
    assert made.space.fingerprint != plain
    if settings == {"asking": "overlap"}:
        assert not list((tmp_path / "s.run" / "pairs").glob("ask*"))


def test_of_few_rows_each_fold_makes_its_own_tuples(tmp_path):
    a, b, _ = two_memories(tmp_path / "mem", texts=60, outer=80)
    made = connect(a, b, out=tmp_path / "s", config=ConnectConfig("ex-mcr", epochs=1, min_steps=2), freeze_base=True)
    assert made.rows == (60, 60) and made.space.metrics["folds"] == 5


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """Eyes (text, image), ears (the texts, sounds) and hands (the images, shapes)."""
    folder, rng = tmp_path_factory.mktemp("three"), np.random.default_rng(0)
    latent = {name: rng.normal(size=(240, LATENT)) for name in "tisp"}

    def held(seed, dim, name, modality):
        return space(seed, dim, latent[name], modality), rows(name, 240)

    write(folder / "eyes", "enc-a", {TEXT: held(1, DIM_A, "t", 0), IMAGE: held(1, DIM_A, "i", 1)})
    write(folder / "ears", "enc-b", {TEXT: held(2, DIM_B, "t", 0), AUDIO: held(2, DIM_B, "s", 2)})
    write(folder / "hands", "enc-c", {IMAGE: held(3, 20, "i", 1), CLOUD: held(3, 20, "p", 3)})
    return folder


def test_leaves_connected_apart_and_joined_are_those_connected_at_once(three, tmp_path):
    config = ConnectConfig(method="ex-mcr", epochs=1, min_steps=4)
    once = connect(three / "eyes", three / "ears", three / "hands", out=tmp_path / "once", config=config)
    apart = [
        connect(three / "eyes", three / leaf, out=tmp_path / leaf, config=config, freeze_base=True).space
        for leaf in ("ears", "hands")
    ]
    join_spaces(*apart).save(tmp_path / "joined")
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "joined" / name).read_bytes() == (tmp_path / "once" / name).read_bytes()
    assert [m.config.outer for m in list(once.space.maps.values())[1:]] == [("audio",), ("point_cloud",)]
    assert len(list((tmp_path / "once.run" / "links").glob("*.run"))) == len(once.links) == 2


def test_a_base_that_recalls_nothing_is_refused_with_what_it_holds(three, tmp_path, capsys):
    write(
        tmp_path / "texts",
        "enc-t",
        {TEXT: (space(9, 12, np.random.default_rng(0).normal(size=(240, LATENT)), 0), rows("t", 240))},
    )
    names = [str(tmp_path / "texts"), str(three / "ears")]
    assert main(["connect", *names, "-o", str(tmp_path / "s"), "--method", "ex-mcr", "--freeze-base"]) == 1
    told = capsys.readouterr().err.strip()
    assert "recall beside the text, and" in told and "texts holds text (" in told and "text-anchor" in told
    assert main(["connect", *names, "-o", str(tmp_path / "s"), "--method", "ex-mcr", "--asking", "all"]) == 1
    assert "asking 'all'; expected some of overlap, base, leaf" in capsys.readouterr().err
