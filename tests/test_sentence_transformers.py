"""Spaces as models of sentence-transformers, and values in memory beside the files that they are."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from cmcr import ConnectedSpace, Modality, Subject, load_encoder
from cmcr.ask import ask
from cmcr.cli import main
from cmcr.errors import InputError
from cmcr.sharing.values import embed_values
from cmcr.space import Projector, ProjectorConfig, SpaceEncoder, initialise

IMAGE, AUDIO, TEXT, CLOUD = Modality.IMAGE, Modality.AUDIO, Modality.TEXT, Modality.POINT_CLOUD


def tiny_space(*names):
    """A space of tiny encoders whose maps are drawn at random."""
    encoders, maps = {}, {}
    for number, name in enumerate(names):
        found = load_encoder(name)
        encoders[name] = SpaceEncoder(name, found.fingerprint, found.dim, tuple(found.modalities))
        maps[name] = Projector(ProjectorConfig("linear", found.dim, 32))
        initialise(maps[name], "default", torch.Generator().manual_seed(number))
    return ConnectedSpace(encoders, maps, TEXT, "linear")


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (40, 30, 3), dtype=np.uint8)).save("photo.png")
    soundfile.write("noise.wav", rng.uniform(-0.5, 0.5, 16_000), 16_000, subtype="FLOAT")
    np.save("shape.npy", rng.normal(size=(300, 3)).astype(np.float32))
    tiny_space("tiny-clip", "tiny-clap", "tiny-ulip").save("space")
    return Subject.open("space")


def values(kind):
    samples, rate = soundfile.read("noise.wav", dtype="float32")
    picture = Image.open("photo.png").convert("RGB")
    return {
        IMAGE: ("photo.png", ["photo.png", picture, np.asarray(picture)]),
        AUDIO: ("noise.wav", ["noise.wav", {"array": samples, "sampling_rate": rate}]),
        CLOUD: ("shape.npy", ["shape.npy", np.load("shape.npy"), torch.from_numpy(np.load("shape.npy"))]),
        TEXT: ("a red drum", ["a red drum"]),
    }[kind]


@pytest.mark.parametrize("modality", [IMAGE, AUDIO, CLOUD, TEXT], ids=str)
def test_a_value_lies_where_its_file_does(world, modality):
    query, held = values(modality)
    expected = ask(world, query, modality=modality).vector
    assert np.abs(embed_values(world, held, modality) - expected).max() < 1e-6
    assert embed_values(world, [], modality).shape == (0, 32)


@pytest.mark.parametrize(
    ("value", "modality", "message"),
    [
        ("https://example.org/a.png", IMAGE, "nothing is fetched"),
        ("absent.png", IMAGE, "absent.png"),
        (np.zeros((4, 4)), IMAGE, "expected (H, W, 3) of uint8"),
        (np.zeros(100), AUDIO, "ndarray as audio"),
        (3, TEXT, "int as text"),
        ("", TEXT, "empty text"),
    ],
)
def test_values_that_cannot_be_are_refused(world, value, modality, message):
    with pytest.raises(InputError, match=r".*") as error:
        embed_values(world, [value], modality)
    assert message in str(error.value)


@pytest.mark.slow
def test_the_library_loads_the_folder_and_gives_the_same_vectors(world, capsys):
    library = pytest.importorskip("sentence_transformers", minversion="6")
    assert main(["export", "space", "-o", "model", "--format", "sentence-transformers", "--json"]) == 0
    assert {"modules.json", "router_config.json"} <= {
        each["path"].rpartition("/")[2] for each in json.loads(capsys.readouterr().out)["files"]
    }
    with pytest.raises(ValueError, match="trust_remote_code"):  # as the library says of every class not its own
        library.SentenceTransformer("model", device="cpu")
    model = library.SentenceTransformer("model", device="cpu", trust_remote_code=True)
    assert model.get_embedding_dimension() == 32
    sound = values(AUDIO)[1][1]
    for asked, query in (
        ("a red drum", "a red drum"),
        (Image.open("photo.png"), "photo.png"),
        ("photo.png", "photo.png"),
        ("noise.wav", "noise.wav"),
        ({"audio": sound}, "noise.wav"),
    ):
        assert np.abs(model.encode(asked, show_progress_bar=False) - ask(world, query).vector).max() < 1e-6
    cloud = model.encode(["shape.npy"], task="point_cloud", show_progress_bar=False)[0]
    assert np.abs(cloud - ask(world, "shape.npy").vector).max() < 1e-6
    lines = ["a bell", "a longer text about a drum", "a cat"]
    expected = np.stack([ask(world, line).vector for line in lines])
    assert np.abs(model.encode(lines, batch_size=2, show_progress_bar=False) - expected).max() < 1e-6
    card = Path("model/README.md").read_text()
    assert "library_name: sentence-transformers" in card and "trust_remote_code=True" in card
    assert main(["export", "space", "-o", "model", "--format", "sentence-transformers"]) == 1
    assert "something is there already" in capsys.readouterr().err
