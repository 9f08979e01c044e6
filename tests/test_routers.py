"""Routers learned on pseudo items: what is retrieved, the objective by hand, and that a text goes to its family."""

import json

import numpy as np
import pytest
import torch
from worlds import DIM_A, DIM_B, LATENT, rows, space, unit, write

from cmcr import ConnectConfig, ConnectedSpace, Memory, Modality
from cmcr.cli import main
from cmcr.connect import connect
from cmcr.errors import InputError
from cmcr.memory import Row
from cmcr.routers import RouterConfig, train_routers
from cmcr.routers.pools import pools_of
from cmcr.routers.pseudo import families, pseudo_items
from cmcr.routers.train import alignment, mixed, new_router, preference, prepare

TEXT, IMAGE, AUDIO, CLOUD = Modality.TEXT, Modality.IMAGE, Modality.AUDIO, Modality.POINT_CLOUD
SMALL = {"hidden": [24, 12], "epochs": 6, "batch_size": 128, "lr": 4e-3}
FAMILIES = ["enc-a=*pictures*", "enc-b=*sounds*"]


def texts(count, start=0):
    """Half of them of pictures, half of sounds."""
    named = [(f"t{n}", "of-pictures.txt" if n % 2 else "of-sounds.txt") for n in range(start, start + count)]
    return [Row(name, f"{source}:{number}", name, name) for number, (name, source) in enumerate(named)]


def views(latent, marks, seeds=(1, 2)):
    """Two encoders' rows of texts; of whom a text was written for shows in one direction of each space."""
    out = []
    for seed, dim in zip(seeds, (DIM_A, DIM_B), strict=True):
        direction = np.random.default_rng([seed, 77]).normal(size=dim)
        out.append(unit(space(seed, dim, latent, 0) + 0.35 * marks[:, None] * unit(direction[None])))
    return out


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """enc-a of texts and pictures (the base), enc-b of texts and sounds, enc-c of pictures and shapes."""
    folder, rng = tmp_path_factory.mktemp("routers"), np.random.default_rng(0)
    latent = {
        m: rng.normal(size=(count, LATENT)) for m, count in ((TEXT, 400), (IMAGE, 300), (AUDIO, 200), (CLOUD, 200))
    }
    seen, heard = views(latent[TEXT], np.arange(400) % 2 * 2.0 - 1)
    known = {m: rows(m.value, len(x)) for m, x in latent.items()}
    a = {TEXT: (seen, texts(400)), IMAGE: (space(1, DIM_A, latent[IMAGE], 1), known[IMAGE])}
    b = {TEXT: (heard, texts(400)), AUDIO: (space(2, DIM_B, latent[AUDIO], 1), known[AUDIO])}
    c = {IMAGE: (space(3, 20, latent[IMAGE], 0), known[IMAGE]), CLOUD: (space(3, 20, latent[CLOUD], 1), known[CLOUD])}
    for name, parts in (("a", a), ("b", b), ("c", c)):
        write(folder / name, f"enc-{name}", parts)
    config = ConnectConfig(method="linear")
    connect(folder / "a", folder / "b", folder / "c", out=folder / "space", config=config, freeze_base=True)
    return folder


@pytest.fixture(scope="module")
def opened(folder):
    return ConnectedSpace.from_pretrained(folder / "space"), [Memory.open(folder / name) for name in "abc"]


def test_pools_join_what_all_who_hold_a_modality_have_seen(opened, folder, tmp_path):
    connected, memories = opened
    pools = pools_of(connected, memories)
    assert {m: (len(pool), list(pool.views)) for m, pool in pools.items()} == {
        TEXT: (400, ["enc-a", "enc-b"]),
        IMAGE: (300, ["enc-a", "enc-c"]), AUDIO: (200, ["enc-b"]), CLOUD: (200, ["enc-c"]),
    }  # fmt: skip
    heard = space(2, DIM_B, np.random.default_rng(1).normal(size=(30, LATENT)), 0)
    fewer = Memory.open(write(tmp_path / "fewer", "enc-b", {TEXT: (heard, texts(30, 390)[::-1])}))
    joined = pools_of(connected, [memories[0], fewer])[TEXT]
    assert len(joined) == 10 and joined.left_out == 390
    assert np.allclose(joined.views["enc-a"], memories[0].vectors(TEXT)[390:])
    assert np.allclose(joined.views["enc-b"], fewer.vectors(TEXT)[::-1][:10])
    assert len(joined.draw(4, 0)) == 4 and joined.draw(4, 0).sources == joined.draw(4, 0).sources
    with pytest.raises(InputError, match="two of the memories hold image of enc-a"):
        pools_of(connected, [memories[0], memories[0]])
    stranger = write(tmp_path / "stranger", "enc-b", {TEXT: (heard, texts(30, 900))})
    with pytest.raises(InputError, match="no text is in all of"):
        pools_of(connected, [memories[0], Memory.open(stranger)])


def naive(pools, modality, row):
    """What the specialists retrieve from one row, one modality after the other."""
    found = {modality: row}
    while len(found) < len(pools):
        for a, b in ((a, b) for a in found for b in pools if b not in found):
            shared = [name for name in pools[a].views if name in pools[b].views]
            if shared:
                scores = pools[b].views[shared[0]].astype(float) @ pools[a].views[shared[0]][found[a]].astype(float)
                found[b] = int(np.argmax(scores))
                break
    return found


def test_a_pseudo_item_is_what_the_specialists_retrieve_and_a_pseudo_embedding_a_mean_near_it(opened):
    pools = {m: pool.draw(50, 0) for m, pool in pools_of(*opened).items()}
    items = pseudo_items(pools, RouterConfig(written_for=FAMILIES))
    soft = pseudo_items(pools, RouterConfig(pseudo="embeddings", tau_memory=0.05))
    begun = [(modality, row) for modality in pools for row in range(len(pools[modality]))]
    for number in range(0, len(begun), 7):
        found = naive(pools, *begun[number])
        for modality, row in found.items():
            for name, view in pools[modality].views.items():
                assert np.array_equal(items.views[modality][name][number], view[row])
        family = 0 if "pictures" in pools[TEXT].sources[found[TEXT]] else 1
        assert items.family[number] == family and soft.family[number] == -1
    direct = begun.index((AUDIO, 0))
    weights = np.exp(pools[TEXT].views["enc-b"] @ pools[AUDIO].views["enc-b"][0] / 0.05)
    for name, view in pools[TEXT].views.items():
        assert np.allclose(soft.views[TEXT][name][direct], unit((weights @ view / weights.sum())[None])[0], atol=1e-5)
    cut = {TEXT: pools[TEXT], CLOUD: pools[CLOUD]}
    with pytest.raises(InputError, match="no encoder sees point_cloud and one of text"):
        pseudo_items(cut, RouterConfig())
    for given, message in (("enc-z=*", "one of enc-a, enc-b"), ("enc-a=*.wav", "sources like 'of-")):
        with pytest.raises(InputError, match=message):
            families(pools[TEXT], [given])


def test_the_objective_is_that_of_plain_loops(opened):
    connected, memories = opened
    pools = {m: pool.draw(8, 0) for m, pool in pools_of(connected, memories).items()}
    items = prepare(connected, pseudo_items(pools, RouterConfig(written_for=FAMILIES)))
    config = RouterConfig(hidden=[6, 4])
    routers = {TEXT: new_router(TEXT, ("enc-a", "enc-b"), DIM_A + DIM_B, config).eval()}
    vectors, weights = mixed(routers, items)
    for n in range(0, len(items), 5):
        total = sum(weights[TEXT][n, w] * items.placed[TEXT][n, w] for w in range(2))
        assert torch.allclose(vectors[TEXT][n], total / total.norm(), atol=1e-6)
        total = items.placed[IMAGE][n].sum(dim=0)
        assert torch.allclose(vectors[IMAGE][n], total / total.norm(), atol=1e-6)
    expected, names = [], list(vectors)
    for one in range(4):
        for other in range(one + 1, 4):
            logits = vectors[names[one]] @ vectors[names[other]].T / 0.05
            both = [-(each.diag() - each.logsumexp(dim=1)).mean() for each in (logits, logits.T)]
            expected.append(sum(both) / 2)
    assert torch.allclose(alignment(vectors, 0.05), torch.stack(expected).mean(), atol=1e-5)
    known = [-weights[TEXT][n, f].log() for n, f in enumerate(items.family.tolist()) if f >= 0]
    assert torch.allclose(preference(weights[TEXT], items.family), torch.stack(known).mean(), atol=1e-6)
    assert preference(weights[TEXT], torch.full((len(items),), -1)) == 0


def unseen(count=60):
    latent = np.random.default_rng(8).normal(size=(count, LATENT))
    by_family = {
        name: dict(zip(("enc-a", "enc-b"), views(latent, np.full(count, mark)), strict=True))
        for name, mark in (("enc-a", 1.0), ("enc-b", -1.0))
    }
    return by_family


def weight_of(router, rows):
    with torch.inference_mode():
        return router(
            torch.from_numpy(np.concatenate([rows[name] for name in router.reads], axis=1).astype(np.float32))
        )[:, 1].numpy()


def test_a_text_about_sounds_is_routed_to_the_expert_of_sounds_and_not_without_the_term(opened):
    connected, memories = opened
    made = train_routers(connected, memories, RouterConfig(written_for=FAMILIES, **SMALL))
    told = {name: weight_of(made.space.routers[TEXT], rows) for name, rows in unseen().items()}
    assert np.mean(told["enc-b"] > 0.5) > 0.9 and np.mean(told["enc-a"] < 0.5) > 0.9
    assert made.metrics["text.prefers_family"] > 0.9 > 0.75 > made.metrics["text.prefers_family_chance"]
    without = train_routers(connected, memories, RouterConfig(written_for=FAMILIES, language=0.0, **SMALL))
    plain = {name: weight_of(without.space.routers[TEXT], rows) for name, rows in unseen().items()}
    assert plain["enc-b"].mean() - plain["enc-a"].mean() < 0.5 * (told["enc-b"].mean() - told["enc-a"].mean())
    assert without.metrics["routed_loss"] < without.metrics["constant_loss"]  # the alignment acts by itself
    first, again = (train_routers(connected, memories, RouterConfig(**SMALL | {"epochs": 1})) for _ in range(2))
    assert again.space.fingerprint == first.space.fingerprint != without.space.fingerprint


def test_the_command_gives_a_space_whose_maps_are_the_same(folder, opened, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(folder)
    flags = ["--in", "a", "--in", "b", "--in", "c", "-o", str(tmp_path / "routed"), "--hidden", "16", "--hidden", "8"]
    flags += ["--epochs", "2", "--written-for", FAMILIES[0], "--written-for", FAMILIES[1]]
    assert main(["weigh", "space", *flags, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["routers"] == ["image", "text"] and found["metrics"]["routed_loss"] > 0
    routed = ConnectedSpace.from_pretrained(tmp_path / "routed")
    assert (
        routed.routers[TEXT].hidden == (16, 8) and routed.routers[TEXT].scale == 10 and routed.routers[IMAGE].scale == 1
    )
    assert routed.recipe["router.epochs"] == 2 and "router.text.prefers_family" in routed.metrics
    connected, memories = opened
    assert np.array_equal(routed.project(memories[1], modality=AUDIO), connected.project(memories[1], modality=AUDIO))
    both = {"enc-a": memories[0].vectors(TEXT), "enc-b": memories[1].vectors(TEXT)}
    assert not np.allclose(routed.mix(both, modality=TEXT), connected.mix(both, modality=TEXT))
    assert main(["weigh", "space", *flags]) == 1 and "--overwrite" in capsys.readouterr().err
    assert main(["weigh", "space", "--in", "b", "--in", "c", "-o", str(tmp_path / "no")]) == 1
    assert "nothing to weigh (image: enc-c; text: enc-b" in capsys.readouterr().err.replace(
        "text: enc-b; image: enc-c", "image: enc-c; text: enc-b"
    )
    assert main(["weigh", "space", "--in", "a", "--in", "b", *flags[6:], "--overwrite"]) == 0
    assert "no memory has image of enc-c, whose view no router weighs" in capsys.readouterr().err
