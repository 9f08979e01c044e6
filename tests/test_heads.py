"""The published heads: recognised, the right head to the right encoder, computed as their layers say."""

import json
import os

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from cmcr.cli import app, main
from cmcr.encoders import ALIASES
from cmcr.errors import ArtifactError, InputError
from cmcr.memory import EncoderInfo, Memory, MemoryWriter, Row
from cmcr.modality import Modality
from cmcr.space import ConnectedSpace, heads

CLIP, CLAP, ULIP = (ALIASES[name] for name in ("clip", "clap", "ulip"))


def linear(generator, inputs, outputs):
    return {
        "weight": torch.randn(outputs, inputs, generator=generator) * inputs**-0.5,
        "bias": torch.randn(outputs, generator=generator) * 0.1,
    }


def norm(generator, width):
    return {
        "weight": torch.rand(width, generator=generator) + 0.5,
        "bias": torch.randn(width, generator=generator),
        "running_mean": torch.randn(width, generator=generator),
        "running_var": torch.rand(width, generator=generator) + 0.5,
        "num_batches_tracked": torch.tensor(3080),
    }


def audio_visual(dim=512, hidden=1024, seed=0):
    """The keys and shapes of clap_clip.pt."""
    generator, state = torch.Generator().manual_seed(seed), {}
    for head in ("Head_A", "Head_B"):
        for layer, values in {
            "net1.0": linear(generator, dim, hidden),
            "net1.1": norm(generator, hidden),
            "net2.0": linear(generator, hidden, dim),
            "net2.1": norm(generator, dim),
        }.items():
            state |= {f"{head}.{layer}.{name}": value for name, value in values.items()}
    return state


def three_d(dim=512, seed=1):
    """The keys and shapes of ulip_clip.pt."""
    generator, state = torch.Generator().manual_seed(seed), {}
    for head in ("Head_A", "Head_B"):
        for layer, values in {"net.0": linear(generator, dim, dim), "net.1": norm(generator, dim)}.items():
            state |= {f"{head}.{layer}.{name}": value for name, value in values.items()}
    return state


def by_hand(x, state, head):
    """What the layers say, one after the other, in float64."""

    def through_linear(x, name):
        return x @ state[f"{name}.weight"].double().T + state[f"{name}.bias"].double()

    def through_norm(x, name):
        mean, variance = state[f"{name}.running_mean"].double(), state[f"{name}.running_var"].double()
        scaled = (x - mean) / (variance + 1e-5).sqrt()
        return scaled * state[f"{name}.weight"].double() + state[f"{name}.bias"].double()

    x = x.double()
    if f"{head}.net.0.weight" in state:
        x = through_norm(through_linear(x, f"{head}.net.0"), f"{head}.net.1").clamp(min=0)
    else:
        x = through_norm(through_linear(x, f"{head}.net1.0"), f"{head}.net1.1").clamp(min=0)
        x = through_norm(through_linear(x, f"{head}.net2.0"), f"{head}.net2.1")
    return (x / x.norm(dim=1, keepdim=True)).numpy()


def unit(count=5, dim=512, seed=2):
    rows = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture(autouse=True)
def no_weights(tmp_path, monkeypatch):
    """As on a machine that has the heads' file and no encoder's weights."""
    monkeypatch.setenv("CMCR_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("socket.create_connection", lambda *_, **__: (_ for _ in ()).throw(OSError("no network")))


@pytest.mark.parametrize(
    ("state", "sides", "modalities"),
    [
        (audio_visual(), {CLIP: "Head_B", CLAP: "Head_A"}, {CLIP: "image", CLAP: "audio"}),
        (three_d(), {CLIP: "Head_A", ULIP: "Head_B"}, {CLIP: "text", ULIP: "point_cloud"}),
    ],
    ids=["clap_clip", "ulip_clip"],
)
def test_each_head_goes_to_its_encoder_and_computes_what_its_layers_say(tmp_path, state, sides, modalities):
    torch.save(state, tmp_path / "heads.pt")
    space, _ = heads.import_heads(tmp_path / "heads.pt")
    space.save(tmp_path / "space")
    space = ConnectedSpace.from_pretrained(tmp_path / "space")
    assert list(space.encoders) == list(sides)
    for encoder, head in sides.items():
        projected = space.project(unit(), encoder=encoder, modality=modalities[encoder])
        np.testing.assert_allclose(projected, by_hand(torch.from_numpy(unit()), state, head), atol=1e-6)
    counters = [t for name, t in space.projectors[CLIP].state_dict().items() if name.endswith("num_batches_tracked")]
    assert counters and all(int(counter) == 3080 for counter in counters)


def test_cosines_of_the_3d_heads_are_not_negative(tmp_path):
    torch.save(three_d(), tmp_path / "ulip_clip.pt")
    space, _ = heads.import_heads(tmp_path / "ulip_clip.pt")
    cloud, text = (
        space.project(unit(seed=seed), encoder=encoder, modality=modality)
        for seed, encoder, modality in ((3, ULIP, "point_cloud"), (4, CLIP, "text"))
    )
    assert (cloud @ text.T).min() >= 0


@pytest.mark.parametrize("wrapped", ["bare", "module.", "state_dict"])
def test_the_usual_wrappings_are_taken_off(tmp_path, wrapped):
    state = {("module." if wrapped == "module." else "") + key: value for key, value in three_d().items()}
    torch.save({"state_dict": state} if wrapped == "state_dict" else state, tmp_path / "heads.pt")
    assert heads.import_heads(tmp_path / "heads.pt")[0].overlap is Modality.IMAGE


def without(state, part):
    return {key: value for key, value in state.items() if part not in key}


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"layer.weight": torch.zeros(2, 2)}, r"keys layer\.weight \.\.\.; expected Head_A\.net1\.0\.weight"),
        (without(three_d(), "Head_B"), "no Head_B"),
        (without(three_d(), "running_mean"), r"1 missing: body\.1\.running_mean"),
        (three_d() | {"Head_A.net.5.weight": torch.zeros(2)}, r"1 unexpected: net\.5\.weight"),
        (three_d() | {"Head_A.net.1.bias": torch.zeros(7)}, r"body\.1\.bias \(7,\), not \(512,\)"),
    ],
    ids=["other file", "one head", "no statistics", "surplus layer", "odd shape"],
)
def test_what_is_not_a_heads_file_is_refused(tmp_path, state, message):
    torch.save(state, tmp_path / "heads.pt")
    with pytest.raises(ArtifactError, match=message):
        heads.import_heads(tmp_path / "heads.pt")


def test_a_hostile_heads_file_is_refused(tmp_path):
    class Hostile:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/ran",)

    torch.save(three_d() | {"x": Hostile()}, tmp_path / "heads.pt")
    with pytest.raises(ArtifactError, match="cannot be read as weights"):
        heads.import_heads(tmp_path / "heads.pt")
    assert not (tmp_path / "ran").exists()


def memory(path, name, modality, dim=512, count=6):
    rows = [Row(f"{modality}-{i}", f"{i}", None, f"number {i}") for i in range(count)]
    with MemoryWriter(path, EncoderInfo(name, f"imported:{name}", dim), "float32") as writer:
        writer.append(modality, unit(count, dim), rows, [])
    return str(path)


def test_sides_may_be_memories_and_then_the_space_knows_their_fingerprints(tmp_path):
    torch.save(audio_visual(), tmp_path / "clap_clip.pt")
    clip, clap = memory(tmp_path / "a", "my-clip", Modality.IMAGE), memory(tmp_path / "b", "my-clap", Modality.AUDIO)
    space, _ = heads.import_heads(tmp_path / "clap_clip.pt", sides={"clip": clip, "clap": clap})
    assert {e.name: e.fingerprint for e in space.encoders.values()} == {
        "my-clip": "imported:my-clip",
        "my-clap": "imported:my-clap",
    }
    with pytest.raises(InputError, match=r"--ulip: .* connects clip and clap"):
        heads.import_heads(tmp_path / "clap_clip.pt", sides={"ulip": clip})
    narrow = memory(tmp_path / "c", "narrow", Modality.IMAGE, dim=64)
    with pytest.raises(InputError, match="64 components, and the clip head takes 512"):
        heads.import_heads(tmp_path / "clap_clip.pt", sides={"clip": narrow})
    with pytest.raises(InputError, match="unknown encoder 'clop'"):
        heads.import_heads(tmp_path / "clap_clip.pt", sides={"clip": "clop"})


def test_an_encoder_that_is_not_here_enters_by_name_and_its_memories_are_taken(tmp_path):
    torch.save(audio_visual(), tmp_path / "clap_clip.pt")
    assert main(["import-heads", str(tmp_path / "clap_clip.pt"), "-o", str(tmp_path / "space")]) == 0
    memory(tmp_path / "mem", CLAP, Modality.AUDIO)
    result = CliRunner().invoke(
        app,
        [
            "retrieve",
            str(tmp_path / "space"),
            f"{tmp_path}/mem#audio-2",
            "--in",
            f"{tmp_path}/mem",
            "-k",
            "3",
            "--json",
        ],
    )
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["hits"][0]["id"] == "audio-2"
    memory(tmp_path / "other", "other-clap", Modality.AUDIO)
    with pytest.raises(ArtifactError, match=r"this space connects .*\(any\)"):
        ConnectedSpace.from_pretrained(tmp_path / "space").project(Memory.open(tmp_path / "other"), modality="audio")


def test_the_imported_space_is_evaluated_and_exported_like_ours(tmp_path, capsys):
    torch.save(audio_visual(), tmp_path / "clap_clip.pt")
    clip, clap = memory(tmp_path / "a", "my-clip", Modality.IMAGE), memory(tmp_path / "b", "my-clap", Modality.AUDIO)
    space = str(tmp_path / "space")
    assert main(["import-heads", str(tmp_path / "clap_clip.pt"), "-o", space, "--clip", clip, "--clap", clap]) == 0
    assert "Head_B is clip's, Head_A is clap's" in capsys.readouterr().err
    assert main(["import-heads", str(tmp_path / "clap_clip.pt"), "-o", space]) == 1  # is there already
    assert "--overwrite" in capsys.readouterr().err
    assert main(["info", space]) == 0
    capsys.readouterr()
    assert main(["eval", "retrieval", space, "--a", f"{clip}:image", "--b", f"{clip}:image", "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert measured["settings"]["method"] == "official-heads" and measured["gallery"] == 6
    assert main(["export", space, clip, "--modality", "image", "--format", "npy", "-o", str(tmp_path / "out")]) == 0
    np.testing.assert_allclose(
        np.load(tmp_path / "out" / "image.npy"), by_hand(torch.from_numpy(unit(6)), audio_visual(), "Head_B"), atol=1e-6
    )
