"""Weights that a space stores by name, and routers asked for by name."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from spaces import DIMS, load_fake_encoder, make_space
from test_mixed import RAW, asked, world  # noqa: F401 - a fixture
from test_space import edit

from cmcr import ConnectedSpace, Memory, Modality
from cmcr.ask import Gallery, Subject, ask
from cmcr.ask import subject as subject_module
from cmcr.cli import main
from cmcr.errors import ArtifactError, InputError
from cmcr.space import Router

TEXT, AUDIO = Modality.TEXT, Modality.AUDIO
HERE = ["a dog", "--in", "seen", "--modality", "image"]


def test_a_preset_stands_for_its_weights_and_weights_stand_before_it(world, capsys):  # noqa: F811
    before = ConnectedSpace.from_pretrained("space").fingerprint
    assert main(["preset", "space", "versatile", "--weight", "hearer:text=0.5", "--weight", "hearer:audio=2"]) == 0
    capsys.readouterr()
    assert main(["preset", "space", "expert", "--weight", "hearer:text=1", "--weight", "seer:text=0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["presets"] == {"expert": {"text": {"hearer": 1, "seer": 0}}}
    assert ConnectedSpace.from_pretrained("space").fingerprint == before  # its indexes are still found
    for flags, same in (
        (["--preset", "versatile"], ["--weight", "hearer:text=0.5"]),
        (["--preset", "expert"], ["--weight", "hearer:text=1", "--weight", "seer:text=0"]),
        (["--preset", "versatile", "--weight", "hearer:text=3"], ["--weight", "hearer:text=3"]),
    ):
        one, other = asked(capsys, *HERE, *flags), asked(capsys, *HERE, *same)
        assert one["hits"] == other["hits"] and one["preset"] == flags[1]
    measured = ["eval", "retrieval", "space", "--a", "seen:text", "--a", "heard:text", "--b", "heard:text", "--json"]
    assert main([*measured, "--preset", "expert"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["settings"]["preset"] == "expert"
    assert all(values["recall@1"] == 1 for values in found["values"].values())  # both sides are the hearer's alone
    assert any("3 of 8 text items are not in all of the memories (seer 5, hearer 8)" in each for each in found["notes"])
    assert main(["info", "space"]) == 0 and "hearer:text=0.5" in capsys.readouterr().out


def test_presets_are_listed_and_removed(world, capsys):  # noqa: F811
    assert main(["preset", "space", "one", "--weight", "hearer:text=2"]) == 0
    assert main(["preset", "space", "two", "--weight", "hearer:audio=2"]) == 0
    capsys.readouterr()
    assert main(["preset", "space", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["presets"]) == {"one", "two"}
    assert main(["preset", "space", "one", "--remove"]) == 0
    assert main(["preset", "space", "two", "--remove"]) == 0
    assert "presets" not in json.loads(Path("space/config.json").read_text())


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        (["preset", "space", "a b", "--weight", "hearer:text=1"], 1, "preset 'a b': expected letters and digits"),
        (["preset", "space", "routed", "--weight", "hearer:text=1"], 1, "stands for what the routers of a space say"),
        (["preset", "space", "x", "--weight", "herer:text=1"], 1, "did you mean 'hearer'"),
        (["preset", "space", "x", "--weight", "hearer:text=0"], 1, "weights of preset x for text sum to 0"),
        (["preset", "space", "x"], 1, "preset 'x' is not in space (presets: none)"),
        (["preset", "space", "x", "--remove"], 1, "preset 'x' is not in space"),
        (["preset", "space", "--weight", "hearer:text=1"], 2, "expected the NAME"),
        (["preset", "space", "--remove"], 2, "takes the NAME of a preset"),
        (["retrieve", "space", *HERE, "--preset", "x"], 1, "--preset 'x' is not in this space (presets: none)"),
        (["retrieve", "space", *HERE, "--preset", "routed"], 1, "the space has no router; train one with cmcr weigh"),
        (["eval", "retrieval", "seer", "--a", "seen:text", "--b", "seen:image", "--preset", "x"], 1, "here is an"),
    ],
)  # fmt: skip
def test_presets_that_cannot_be_are_refused_in_one_line(world, capsys, command, code, message):  # noqa: F811
    assert main(command) == code
    told = capsys.readouterr().err
    assert message in told and (code == 2 or told.count("\n") == 1)


@pytest.mark.parametrize(
    ("preset", "message"),
    [
        ({"x": {"text": {"herer": 1}}}, "preset x weighs text of 'herer', which is not there"),
        ({"x": {"text": {"hearer": -1}}}, "preset x weighs 'hearer' -1.0, expected a finite number"),
        ({"x": {"text": {"hearer": "1"}}}, "presets.x.text.hearer is '1', expected a number"),
        ({"<b>": {"text": {"hearer": 1}}}, "expected letters and digits"),
    ],
)
def test_a_config_with_odd_presets_is_refused(tmp_path, preset, message):
    make_space().save(tmp_path / "space")
    edit(tmp_path / "space", lambda config, _: config.update(presets=preset))
    with pytest.raises(ArtifactError, match=message):
        ConnectedSpace.from_pretrained(tmp_path / "space")


def routed_space(hidden=(6, 4), scale=10.0, reads=("hearer", "seer"), weighs=("seer", "hearer")):
    torch.manual_seed(0)
    space = make_space()
    router = Router(TEXT, reads, sum(DIMS[name] for name in reads), weighs=weighs, hidden=hidden, scale=scale).eval()
    return ConnectedSpace(space.encoders, space.maps, TEXT, "c-mcr", routers=[router])


def by_hand(router, raw):
    """OmniBind's router, layer after layer, in float64."""
    x, state = np.concatenate([raw[name] for name in router.reads], axis=1), router.state_dict()
    values = {name: tensor.double().numpy() for name, tensor in state.items()}
    for number, activation in ((0, lambda y: np.maximum(y, 0)), (3, np.tanh)):
        x = x @ values[f"body.{number}.weight"].T + values[f"body.{number}.bias"]
        norm = {key: values[f"body.{number + 1}.{key}"] for key in ("running_mean", "running_var", "weight", "bias")}
        x = (x - norm["running_mean"]) / np.sqrt(norm["running_var"] + 1e-5) * norm["weight"] + norm["bias"]
        x = activation(x)
    x = x @ values["body.6.weight"].T + values["body.6.bias"]
    x = np.exp(router.scale / (1 + np.exp(-x)))
    return x / x.sum(axis=1, keepdims=True)


def test_a_router_of_several_layers_weighs_as_its_layers_say_and_is_saved(tmp_path):
    space = routed_space()
    router = space.routers[TEXT]
    for _, buffer in router.named_buffers():
        if buffer.dtype == torch.float32:
            buffer.copy_(torch.rand(buffer.shape) + 0.5)
    shares = by_hand(router, RAW)
    parts = {name: space.project(RAW[name], encoder=name, modality=TEXT) for name in RAW}
    expected = shares[:, :1] * parts["seer"] + shares[:, 1:] * parts["hearer"]
    expected /= np.linalg.norm(expected)
    assert np.allclose(space.mix(RAW, modality=TEXT), expected, atol=1e-6)
    space.save(tmp_path / "space")
    again = ConnectedSpace.from_pretrained(tmp_path / "space")
    assert again.fingerprint == space.fingerprint != routed_space(scale=1.0).fingerprint
    assert np.array_equal(again.mix(RAW, modality=TEXT), space.mix(RAW, modality=TEXT))


def test_a_router_may_weigh_more_than_it_reads_and_says_whom_it_needs(monkeypatch):
    space = routed_space(reads=("hearer",))
    found = space.mix(RAW, modality=TEXT)
    assert not np.allclose(found, space.mix(RAW, modality=TEXT, weights={"seer": 1, "hearer": 1}))
    both = routed_space()
    with pytest.raises(
        InputError, match="the router of text reads hearer, seer, and here are vectors of hearer, x; add seer"
    ):
        from cmcr.space.rows import route

        route(both.routers[TEXT], {"hearer": RAW["hearer"], "x": RAW["seer"]})
    with pytest.raises(
        InputError, match=r"the router of text weighs seer, hearer, and here are vectors of .*; leave x out"
    ):
        route(both.routers[TEXT], RAW | {"x": RAW["seer"]})


def test_routed_asks_all_whom_the_router_weighs(world, monkeypatch, capsys):  # noqa: F811
    space = routed_space()
    space.save("space")
    subject = Subject("space", space, preset="routed")
    query = ask(subject, "a dog")
    assert query.encoder == "seer+hearer"
    assert np.allclose(query.vector, space.mix(RAW, modality=TEXT)[0], atol=1e-6)
    assert asked(capsys, *HERE, "--preset", "routed")["encoder"] == "seer+hearer"
    assert asked(capsys, *HERE)["encoder"] == "seer"
    assert main(["info", "space"]) == 0
    assert "reads hearer, seer; weighs seer, hearer" in capsys.readouterr().out
    monkeypatch.setattr(
        subject_module, "load_encoder", lambda name, *a, **o: load_fake_encoder("x" * (name == "hearer") or name)
    )
    with pytest.raises(InputError, match="hearer embeds text in this space but is not an encoder that runs here"):
        ask(Subject("space", space, preset="routed"), "a dog")


def test_items_that_not_all_see_whom_the_router_reads_are_weighed_by_the_ways(world, tmp_path):  # noqa: F811
    space = routed_space()
    seen, heard = Memory.open("seen"), Memory.open("heard")
    placed = np.concatenate(list(Gallery(space, [seen, heard], TEXT).projected()))
    both = {"seer": seen.vectors(TEXT), "hearer": heard.vectors(TEXT)[:5]}
    assert np.allclose(placed[:5], space.mix(both, modality=TEXT), atol=1e-6)
    assert np.allclose(placed[5:], space.project(heard, modality=TEXT)[5:], atol=1e-6)
