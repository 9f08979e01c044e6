import hashlib
import json
import os

import numpy as np
import pytest
import safetensors.torch
import torch
from worlds import DIM_A, DIM_B, rows, space, write

from cmcr import ConnectedSpace, Memory, Modality
from cmcr.errors import ArtifactError, InputError
from cmcr.space import Projector, ProjectorConfig, Route
from cmcr.space.space import SpaceEncoder

TEXT, IMAGE, AUDIO = Modality.TEXT, Modality.IMAGE, Modality.AUDIO


def made(kind="mlp"):
    torch.manual_seed(0)
    a = Projector(ProjectorConfig("mlp", DIM_A, 20, hidden=30))
    if kind == "route":
        b = Projector(ProjectorConfig("route", DIM_B, 20, anchors=9, centered=("audio",)))
        assert isinstance(b.body, Route)
        b.body.keys.copy_(torch.randn(9, DIM_B))
        b.body.values.copy_(torch.randn(9, 20))
    else:
        b = Projector(ProjectorConfig(kind, DIM_B, 20, hidden=30))
    a(torch.randn(50, DIM_A))  # BatchNorm statistics other than the initial ones
    encoders = {
        "enc-a": SpaceEncoder("enc-a", "fp-enc-a", DIM_A, (TEXT, IMAGE)),
        "enc-b": SpaceEncoder("enc-b", "fp-enc-b", DIM_B, (TEXT, AUDIO)),
    }
    return ConnectedSpace(encoders, {"enc-a": a, "enc-b": b}, TEXT, "c-mcr", {"epochs": 3}, {"overlap_r1": 0.5})


@pytest.fixture
def memory(tmp_path):
    latents = np.random.default_rng(0).normal(size=(40, 6))
    return Memory.open(write(tmp_path / "a", "enc-a", {IMAGE: (space(1, DIM_A, latents, 1), rows("i", 40))}))


@pytest.mark.parametrize("kind", ["mlp", "half-mlp", "linear", "identity", "route"])
def test_a_saved_space_projects_as_before(tmp_path, kind):
    before = made(kind) if kind != "identity" else made("linear")
    before.save(tmp_path / "space")
    after = ConnectedSpace.from_pretrained(tmp_path / "space")
    x = np.random.default_rng(1).normal(size=(12, DIM_B))
    assert np.array_equal(
        before.project(x, encoder="enc-b", modality=AUDIO), after.project(x, encoder="enc-b", modality="audio")
    )
    assert after.fingerprint == before.fingerprint
    assert list(after.encoders) == ["enc-a", "enc-b"]
    assert (after.method, after.overlap, after.dim) == ("c-mcr", TEXT, 20)
    assert after.recipe == {"epochs": 3} and after.metrics == {"overlap_r1": 0.5}


def test_saving_twice_gives_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        made().save(tmp_path / name)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == ["README.md", "config.json", "model.safetensors"]
    assert all((tmp_path / "one" / f).read_bytes() == (tmp_path / "two" / f).read_bytes() for f in files)


def test_project_gives_float32_unit_rows_of_memory_or_array(memory):
    connected = made()
    projected = connected.project(memory, modality="image")
    assert projected.dtype == np.float32 and projected.shape == (40, 20)
    assert np.allclose(np.linalg.norm(projected, axis=1), 1, atol=1e-5)
    again = connected.project(3 * memory.vectors(IMAGE), encoder="enc-a", modality=IMAGE)
    assert np.allclose(projected, again, atol=1e-5)


def test_projection_does_not_depend_on_the_block(memory, monkeypatch):
    connected = made("route")
    x = np.random.default_rng(1).normal(size=(50, DIM_B))
    whole = connected.project(x, encoder="enc-b", modality=AUDIO)
    monkeypatch.setattr("cmcr.space.space.BLOCK_FLOATS", 100)
    assert np.allclose(whole, connected.project(x, encoder="enc-b", modality=AUDIO), atol=1e-6)


def test_empty_array_projects_to_nothing():
    assert made().project(np.zeros((0, DIM_A)), encoder="enc-a", modality=TEXT).shape == (0, 20)


@pytest.mark.parametrize(
    ("array", "encoder", "modality", "message"),
    [
        (np.zeros((3, 5)), "enc-a", "text", r"shape \(N, 24\)"),
        (np.zeros(DIM_A), "enc-a", "text", r"shape \(N, 24\)"),
        (np.full((3, DIM_A), np.nan), "enc-a", "text", "row 0 .* zero or not finite"),
        (np.zeros((3, DIM_A)), "enc-a", "text", "row 0 .* zero or not finite"),
        (np.ones((3, DIM_A)), "enc-c", "text", "'enc-c' is not in this space .*did you mean 'enc-"),
        (np.ones((3, DIM_A)), "enc-a", "audio", "modality .*audio.* not in this space"),
        (np.ones((3, DIM_A)), None, "point_cloud", "modality .*point_cloud.* not in this space"),
        (np.ones((3, DIM_A)), "enc-a", "sound", "modality 'sound' is not in this space"),
        (np.ones((3, DIM_A)), "enc-a", None, "modality None: expected image, text"),
        (np.ones((3, DIM_A)), "enc-a", "texts", "did you mean 'text'"),
        (np.ones((3, DIM_A)), ["enc-a"], "text", "encoder .* is not in this space"),
        (np.ones((3, DIM_A)), 5, "text", "encoder 5 is not in this space"),
        ([[1.0], [1.0, 2.0]], "enc-a", "text", "list is no array"),
        (torch.ones((3, DIM_A), requires_grad=True), "enc-a", "text", "Tensor is no array"),
        (np.ones((3, DIM_A), complex), "enc-a", "text", "array complex128"),
        (np.ones((3, DIM_A), object), "enc-a", "text", "array object"),
        ("vectors.npy", "enc-a", "text", "has numbers of shape"),
        (np.full((3, DIM_A), 1e300), "enc-a", "text", "row 0 .* not finite as float32"),
        (np.full((3, DIM_A), 1e30), "enc-a", "text", "row 0 .* not finite as float32"),
    ],
)
def test_what_cannot_be_projected(array, encoder, modality, message):
    with pytest.raises(InputError, match=message):
        made().project(array, encoder=encoder, modality=modality)


def test_memory_of_another_encoder_names_both(tmp_path, memory):
    latents = np.random.default_rng(0).normal(size=(4, 6))
    other = write(tmp_path / "x", "enc-a", {IMAGE: (space(1, DIM_A, latents, 1), rows("i", 4))}, fingerprint="other")
    with pytest.raises(ArtifactError, match="was made by enc-a \\(other\\), this space connects enc-a \\(fp-enc-a\\)"):
        made().project(Memory.open(other), modality=IMAGE)
    with pytest.raises(InputError, match="holds image, no text"):
        made().project(memory, modality=TEXT)


def damage(folder, how):
    config, weights = folder / "config.json", folder / "model.safetensors"
    loaded = json.loads(config.read_text())
    if how == "no config":
        config.unlink()
    elif how == "not json":
        config.write_text("{")
    elif how == "a list":
        config.write_text("[]")
    elif how == "other version":
        config.write_text(json.dumps(loaded | {"version": 99}))
    elif how == "edited by hand":
        loaded["encoders"][0]["dim"] = 5
        loaded["maps"][0]["projector"]["in_dim"] = 5
        config.write_text(json.dumps(loaded))
    elif how == "missing entry":
        del loaded["maps"][0]["projector"]["kind"]
        config.write_text(json.dumps(loaded))
    elif how == "no weights":
        weights.unlink()
    elif how == "not safetensors":
        weights.write_bytes(b"PK not a safetensors file")
    elif how == "other weights":
        weights.write_bytes(weights.read_bytes()[:-4] + b"abcd")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("no config", "not a connected space"),
        ("not json", "not readable as JSON"),
        ("a list", "not readable as JSON"),
        ("other version", "version 99, expected 'cmcr-space' version 1 or 2"),
        ("edited by hand", "damaged or was edited by hand"),
        ("missing entry", "damaged or was edited by hand"),
        ("no weights", "No such file"),
        ("not safetensors", "is not the file config.json names"),
        ("other weights", "is not the file config.json names"),
    ],
)
def test_damaged_spaces_are_refused_in_one_line(tmp_path, how, message):
    made().save(tmp_path / "space")
    damage(tmp_path / "space", how)
    with pytest.raises(ArtifactError, match=message) as error:
        ConnectedSpace.from_pretrained(tmp_path / "space")
    assert "\n" not in str(error.value)


def test_card_states_encoders_numbers_and_recipe(tmp_path):
    made().save(tmp_path / "space")
    card = (tmp_path / "space" / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: cmcr\n")
    assert "| enc-b | text, audio | 16 | mlp |" in card
    assert "| overlap_r1 | 0.5 |" in card and "epochs = 3" in card


def edit(folder, change):
    """Change a space's config, and its tensors with the hash that goes with them."""
    config = json.loads((folder / "config.json").read_text())
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    change(config, tensors)
    data = safetensors.torch.save(tensors)
    (folder / "model.safetensors").write_bytes(data)
    config["model_sha256"] = hashlib.sha256(data).hexdigest()
    (folder / "config.json").write_text(json.dumps(config))


def setting(name, value, of="projector"):
    def change(config, tensors):
        first = {part: config[f"{part}s"][0] for part in ("encoder", "way", "map", "link")}
        (first | {"projector": first["map"]["projector"], "config": config})[of][name] = value

    return change


def filling(key, value):
    return lambda config, tensors: tensors[key].fill_(value)


def twice(config, tensors):
    config["encoders"][1]["name"] = config["encoders"][0]["name"]


def as_version_1(config, tensors):
    """Say the same as the first version did, where each encoder had one map of its own."""
    for entry, own in zip(config["encoders"], config["maps"], strict=False):
        entry["projector"] = own["projector"]
    for name in ("maps", "ways", "routers", "base", "links"):
        del config[name]
    config["version"] = 1


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (setting("hidden", 2_000_000), r"0\.body\.0\.weight is \(30, 24\), config.json says \(2000000, 24\)"),
        (setting("hidden", 20_000_000_000), "GB, more than half of memory"),
        (setting("hidden", 0), "hidden of a mlp is 0, expected 1 or more"),
        (setting("hidden", -5), "hidden of a mlp is -5"),
        (setting("hidden", True), "hidden is True, expected a whole number"),
        (setting("kind", "perceptron"), "kind is 'perceptron', expected one of mlp"),
        (setting("kind", "half-mlp"), "not the tensors that config.json asks for"),
        (setting("kind", "identity"), "identity of 24 -> 20"),
        (setting("in_dim", 25), "projector of 'enc-a' maps 25 -> 20, expected 24 -> 20"),
        (setting("tau", 0.0), "tau 0.0"),
        (setting("tau", float("inf")), "tau inf"),
        (setting("top_k", -1), "top_k -1"),
        (setting("centered", ["Smell"]), "centered .*Smell"),
        (setting("name", 3, "encoder"), "name is 3, expected text"),
        (setting("modalities", [], "encoder"), "has no modality"),
        (setting("modalities", ["text", "text"], "encoder"), "has a modality twice"),
        (setting("encoders", [], "config"), "it has no encoder"),
        (setting("overlap", "point_cloud", "config"), "no encoder has point_cloud"),
        (setting("recipe", [], "config"), "recipe is"),
        (setting("dim", 21, "config"), "maps 24 -> 20, expected 24 -> 21"),
        (twice, "two encoders have one name"),
        (filling("0.body.3.bias", float("nan")), r"0\.body\.3\.bias holds values that are not finite"),
        (filling("0.body.3.weight", float("inf")), r"0\.body\.3\.weight holds values that are not finite"),
        (filling("1.body.1.running_var", -1), r"1\.body\.1\.running_var holds negative variances"),
        (lambda config, tensors: tensors.update(more=torch.zeros(1)), "not the tensors"),
        (lambda config, tensors: tensors.pop("0.body.0.bias"), "not the tensors"),
        (lambda config, tensors: tensors.update({"0.body.0.bias": torch.zeros(30, dtype=torch.int32)}), "torch.int32"),
    ],
)
def test_a_config_that_does_not_fit_is_refused_before_anything_is_made_of_it(
    tmp_path, change, message, version, monkeypatch
):
    made().save(tmp_path / "space")
    edit(tmp_path / "space", change)
    if version == 1:
        edit(tmp_path / "space", as_version_1)
    monkeypatch.setattr(torch.nn.Module, "load_state_dict", None)  # nobody comes so far
    with pytest.raises(ArtifactError, match=f"damaged or was edited by hand .*{message}") as error:
        ConnectedSpace.from_pretrained(tmp_path / "space")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_pipe_is_not_waited_for_and_no_size_is_believed(tmp_path, name):
    made().save(tmp_path / "space")
    file = tmp_path / "space" / name
    content = file.read_bytes()
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(ArtifactError, match="not a regular file"):
        ConnectedSpace.from_pretrained(tmp_path / "space")
    file.unlink()
    file.write_bytes(content)
    os.truncate(file, 1 << 40)  # sparse: it takes no room on disk
    with pytest.raises(ArtifactError, match=r"more than \d+ bytes"):
        ConnectedSpace.from_pretrained(tmp_path / "space")
