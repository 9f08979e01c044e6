"""Shared fixtures: an encoder without a model, and files of each modality."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import settings
from PIL import Image

from cmcr import encoders, media
from cmcr.errors import ItemError
from cmcr.modality import Modality

# The same examples at every run, so that a failure is the change's and not the draw's; `make test-random` draws others,
# and what those find is written into its test as an example.
settings.register_profile("fixed", derandomize=True, deadline=None, max_examples=50)
settings.register_profile("random", deadline=None, max_examples=300, print_blob=True)
settings.load_profile("fixed")

# Pages carry the day they were made on; those that are compared must not differ when a run goes past midnight.
os.environ["SOURCE_DATE_EPOCH"] = "1767225600"

SPACES = {
    "fake-clip": (Modality.IMAGE, Modality.TEXT),
    "fake-clap": (Modality.AUDIO, Modality.TEXT),
    "fake-ulip": (Modality.POINT_CLOUD, Modality.IMAGE),
}


class FakeEncoder:
    """Honours ``Encoder``: a vector depends on the content alone; damaged files are refused."""

    def __init__(self, name="fake-clip", dim=16, fingerprint=None):
        self.name, self.dim, self.modalities = name, dim, SPACES[name]
        self.fingerprint = fingerprint or hashlib.sha256(f"{name} {dim}".encode()).hexdigest()

    def prepare(self, item, data):
        if item.modality is Modality.IMAGE:
            data = media.read_image(data).tobytes()
        elif item.modality is Modality.AUDIO:
            data = media.read_audio(data, 16_000).tobytes()
        elif item.modality is Modality.POINT_CLOUD:
            data = media.read_point_cloud(data, item.suffix).tobytes()
        elif b"unspeakable" in data:
            raise ItemError("a text that cannot be tokenised")
        return int.from_bytes(hashlib.sha256(data).digest()[:8], "big")

    def encode(self, modality, prepared):
        assert modality in self.modalities
        vectors = np.stack([np.random.default_rng(seed).normal(size=self.dim) for seed in prepared])
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="session")
def fake_encoder():
    """The class: ``fake_encoder("fake-clap", dim=8)``."""
    return FakeEncoder


@pytest.fixture
def fake_encoders(monkeypatch):
    """Let ``--encoder fake-clip | fake-clap | fake-ulip`` work; other names load as always."""
    real = encoders.load_encoder
    monkeypatch.setattr(
        encoders,
        "load_encoder",
        lambda name, *rest, **more: FakeEncoder(name) if name in SPACES else real(name, *rest, **more),
    )


@pytest.fixture
def write_files(tmp_path):
    """``write_files("photos", "image", 3)`` writes photos/000.png ... and returns the folder; content is by number."""

    def write(folder, modality, count, start=0):
        folder = Path(tmp_path, folder)
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(start, start + count):
            rng = np.random.default_rng(number)
            path = folder / f"{number:03d}"
            if modality == "image":
                Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(path.with_suffix(".png"))
            elif modality == "audio":
                soundfile.write(path.with_suffix(".wav"), rng.uniform(-0.5, 0.5, 800), 16_000)
            elif modality == "point_cloud":
                np.save(path.with_suffix(".npy"), rng.normal(size=(20, 3)).astype(np.float32))
            else:
                path.with_suffix(".txt").write_text(f"text number {number}\n")
        return folder

    return write


@pytest.fixture
def folder_bytes():
    """``folder_bytes(path)``: every file of a folder by relative name, without the lock."""

    def read(folder):
        files = sorted(path for path in Path(folder).rglob("*") if path.is_file() and path.name != ".lock")
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}

    return read
