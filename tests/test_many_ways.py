"""Spaces of version 1, several maps a way, routers, and items that several encoders see."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from test_space import AUDIO, IMAGE, TEXT, edit, setting
from worlds import DIM_A, DIM_B

from cmcr import ConnectedSpace, Memory
from cmcr.ask import export_projectors
from cmcr.cli import main
from cmcr.errors import ArtifactError, InputError
from cmcr.space import Link, Projector, ProjectorConfig, Router, SpaceEncoder, Way

OLD = Path(__file__).parent / "version_1"
EXPECTED = json.loads((OLD / "expected.json").read_text())


@pytest.mark.parametrize("method", EXPECTED)
def test_a_folder_of_the_first_version_projects_as_it_did(method, tmp_path, capsys):
    space, expected = ConnectedSpace.from_pretrained(OLD / method), EXPECTED[method]
    for modality, rows in expected["projected"].items():
        assert np.allclose(space.project(Memory.open(OLD / "memory"), modality=modality), rows, atol=2e-6)
    audio = space.project(np.eye(3, DIM_B), encoder="enc-b", modality=AUDIO)
    assert np.allclose(audio, expected["audio"], atol=2e-6)
    assert space.fingerprint == expected["fingerprint"]  # so its indexes are found
    assert space.links == (Link("enc-a", "enc-b", TEXT),) and space.base is None  # the base was centred
    assert main(["info", str(OLD / method)]) == 0
    assert "image, text; 24 -> 24" in capsys.readouterr().out
    space.save(tmp_path / "new")
    assert ConnectedSpace.from_pretrained(tmp_path / "new").fingerprint == space.fingerprint
    weights = [folder / "model.safetensors" for folder in (tmp_path / "new", OLD / method)]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def mixed(weights=(1.0, 1.0), router=False):
    """Two encoders of texts: the first through two maps (images: through one of them), the second through one."""
    torch.manual_seed(0)
    maps = {name: Projector(ProjectorConfig("linear", DIM_A, 8)) for name in ("one", "two")}
    maps["three"] = Projector(ProjectorConfig("linear", DIM_B, 8))
    encoders = {
        "enc-a": SpaceEncoder("enc-a", "fp-a", DIM_A, (TEXT, IMAGE)),
        "enc-b": SpaceEncoder("enc-b", "fp-b", DIM_B, (TEXT, AUDIO)),
    }
    ways = (
        Way("enc-a", (TEXT,), ("one", "two"), weights[0]),
        Way("enc-a", (IMAGE,), ("two",)),
        Way("enc-b", (TEXT, AUDIO), ("three",), weights[1]),
    )
    routers = [Router(TEXT, ("enc-a", "enc-b"), DIM_A + DIM_B)] if router else []
    return ConnectedSpace(encoders, maps, TEXT, "c-mcr", ways=ways, routers=routers)


def drawn(count=5):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(count, DIM_A)), rng.normal(size=(count, DIM_B))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)), (y / np.linalg.norm(y, axis=1, keepdims=True))


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_a_way_of_several_maps_is_their_mean_and_each_modality_has_its_way():
    space, (x, _) = mixed(), drawn()
    one, two = (space.maps[name](torch.tensor(x, dtype=torch.float32)).detach().numpy() for name in ("one", "two"))
    assert np.allclose(space.project(x, encoder="enc-a", modality=TEXT), unit(one + two), atol=1e-6)
    assert np.allclose(space.project(x, encoder="enc-a", modality=IMAGE), two, atol=1e-6)


@pytest.mark.parametrize(
    ("own", "given", "shares"),
    [
        ((1, 1), None, (1, 1)),
        ((3, 1), None, (3, 1)),
        ((3, 1), {"enc-b": 5}, (3, 5)),
        ((1, 1), {"enc-a": 0, "enc-b": 0.1}, (0, 1)),
    ],
)
def test_mix_is_the_normalised_weighted_sum(own, given, shares):
    space, (x, y) = mixed(own), drawn()
    parts = [space.project(rows, encoder=e, modality=TEXT) for e, rows in (("enc-a", x), ("enc-b", y))]
    expected = unit(shares[0] * parts[0] + shares[1] * parts[1])
    found = space.mix({"enc-a": x, "enc-b": 7 * y}, modality="text", weights=given)
    assert found.dtype == np.float32 and np.allclose(found, expected, atol=1e-6)


def test_a_router_weighs_each_row_by_its_vectors_unless_the_caller_does():
    space, (x, y) = mixed(router=True), drawn()
    weights = space.routers[TEXT](torch.tensor(np.concatenate([x, y], axis=1), dtype=torch.float32)).detach().numpy()
    parts = [space.project(rows, encoder=e, modality=TEXT) for e, rows in (("enc-a", x), ("enc-b", y))]
    expected = unit(weights[:, :1] * parts[0] + weights[:, 1:] * parts[1])
    assert np.allclose(space.mix({"enc-b": y, "enc-a": x}, modality=TEXT), expected, atol=1e-6)
    even = space.mix({"enc-a": x, "enc-b": y}, modality=TEXT, weights={"enc-a": 1})
    assert np.allclose(even, unit(parts[0] + parts[1]), atol=1e-6)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"enc-c": 1}, "weight of 'enc-c', but the call has vectors of enc-a, enc-b; did you mean 'enc-"),
        ({"enc-a": -1}, "weight -1 of enc-a; expected a finite number of 0 or more"),
        ({"enc-a": float("nan")}, "weight nan of enc-a"),
        ({"enc-a": "half"}, "weight 'half' of enc-a"),
        ({"enc-a": 0, "enc-b": 0}, "the weights of enc-a, enc-b sum to 0"),
    ],
)
def test_weights_that_say_nothing_are_refused(weights, message):
    x, y = drawn()
    with pytest.raises(InputError, match=message):
        mixed().mix({"enc-a": x, "enc-b": y}, modality=TEXT, weights=weights)


@pytest.mark.parametrize("scale", [1e308, 1e-300])
def test_of_weights_only_their_proportion_counts(scale):
    x, y = drawn()
    one, same = (
        mixed().mix({"enc-a": x, "enc-b": y}, modality=TEXT, weights={"enc-a": each, "enc-b": each / 2})
        for each in (1, scale)
    )
    assert np.allclose(one, same, atol=1e-6)


def test_what_cannot_be_mixed_is_named():
    x, y = drawn()
    with pytest.raises(InputError, match="rows by encoder: enc-a 5, enc-b 4"):
        mixed().mix({"enc-a": x, "enc-b": y[:4]}, modality=TEXT)
    with pytest.raises(InputError, match="rows by encoder: none"):
        mixed().mix({}, modality=TEXT)
    with pytest.raises(InputError, match=r"modality .*audio.* not in this space"):
        mixed().mix({"enc-a": x}, modality=AUDIO)


def test_ways_and_routers_are_saved_and_part_of_the_fingerprint(tmp_path):
    before, (x, y) = mixed((2, 1), router=True), drawn()
    before.save(tmp_path / "space")
    after = ConnectedSpace.from_pretrained(tmp_path / "space")
    assert after.fingerprint == before.fingerprint != mixed((1, 1), router=True).fingerprint
    assert after.ways == before.ways and list(after.maps) == ["one", "two", "three"]
    both = {"enc-a": x, "enc-b": y}
    assert np.array_equal(after.mix(both, modality=TEXT), before.mix(both, modality=TEXT))
    assert main(["info", "--verify", str(tmp_path / "space")]) == 0


def rename(part, old, new):
    def change(config, tensors):
        for entry in config[part]:
            entry.update({key: new for key, value in entry.items() if value == old})

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (rename("maps", "three", "four"), "a way of 'enc-b' goes through 'three', which is no map"),
        (rename("maps", "three", "two"), "two maps have one name"),
        (setting("maps", ["three"], "way"), "the projector of 'three' maps 16 -> 8, expected 24 -> 8"),
        (setting("maps", [], "way"), "a way of 'enc-a' has no map"),
        (setting("maps", ["two"], "way"), "no way goes through map 'one'"),
        (setting("encoder", "enc-d", "way"), "a way is of 'enc-d', which is no encoder"),
        (setting("modalities", ["text", "image"], "way"), "its ways are not one for each modality of each encoder"),
        (setting("modalities", [], "way"), "its ways are not one for each modality of each encoder"),
        (setting("weight", 0, "way"), "a way of 'enc-a' weighs 0"),
        (setting("weight", float("inf"), "way"), "a way of 'enc-a' weighs inf"),
        (setting("b", "enc-d", "link"), "a link names 'enc-d'"),
        (setting("b", "enc-a", "link"), "a link joins 'enc-a' to itself"),
        (setting("outer_b", "image", "link"), "a link says image of 'enc-b', which it lacks"),
        (setting("via", "image", "link"), "a link is by image, which 'enc-b' lacks"),
        (setting("base", "enc-a", "config"), "base is 'enc-a', expected the first encoder, with a map that is the"),
        (lambda config, _: config["routers"][0].update(reads=["enc-a"]), "a router of text reads 1 encoders"),
        (lambda config, _: config["routers"][0].update(reads=["enc-a", "enc-d"]), "reads text of 'enc-d': not there"),
        (lambda config, _: config["routers"][0].update(reads=["enc-a", "enc-a"]), "reads an encoder twice"),
        (lambda config, _: config["routers"].append(config["routers"][0]), "two routers are of one modality"),
        (lambda config, _: config["routers"].clear(), "not the tensors"),
        (lambda _, tensors: tensors.update({"router.0.body.bias": torch.zeros(3)}), r"router.0.body.bias is \(3,\)"),
    ],
)
def test_a_config_of_many_ways_agrees_with_itself(tmp_path, change, message, monkeypatch):
    mixed(router=True).save(tmp_path / "space")
    edit(tmp_path / "space", change)
    monkeypatch.setattr(torch.nn.Module, "load_state_dict", None)  # nobody comes so far
    with pytest.raises(ArtifactError, match=f"damaged or was edited by hand .*{message}") as error:
        ConnectedSpace.from_pretrained(tmp_path / "space")
    assert "\n" not in str(error.value)


def test_each_way_is_exported_as_it_projects(tmp_path):
    space, (x, _) = mixed(), drawn()
    export_projectors(space, tmp_path, "torch")
    for modality in (TEXT, IMAGE):
        module = torch.export.load(tmp_path / f"enc-a-{modality.value}.pt2").module()
        exported = module(torch.tensor(x, dtype=torch.float32)).detach().numpy()
        assert np.allclose(exported, space.project(x, encoder="enc-a", modality=modality), atol=1e-6)
