"""A connected space of two known encoders over small memories, with encoders that run: no model is needed."""

import hashlib

import numpy as np
import torch

from cmcr.errors import ItemError, UnknownEncoderError
from cmcr.memory import EncoderInfo, MemoryWriter, Row
from cmcr.modality import Modality
from cmcr.space import ConnectedSpace, Projector, ProjectorConfig, initialise
from cmcr.space.space import SpaceEncoder

DIMS = {"seer": 12, "hearer": 9}
MODALITIES = {
    "seer": (Modality.TEXT, Modality.IMAGE, Modality.POINT_CLOUD),
    "hearer": (Modality.TEXT, Modality.AUDIO),
}
FINGERPRINTS = {name: hashlib.sha256(name.encode()).hexdigest() for name in DIMS}


class FakeEncoder:
    """Honours the real protocol: content in, a unit vector that only depends on the content out."""

    def __init__(self, name, fingerprint=None):
        self.name, self.modalities, self.dim = name, MODALITIES[name], DIMS[name]
        self.fingerprint = fingerprint or FINGERPRINTS[name]

    def prepare(self, item, data):
        if not data or data.startswith(b"broken"):
            raise ItemError("cannot be decoded")
        return data

    def encode(self, modality, prepared):
        assert modality in self.modalities
        return np.stack([vector_of(data, self.dim) for data in prepared])


def vector_of(data, dim):
    if data == b"nothing":
        return np.zeros(dim, np.float32)
    seed = int.from_bytes(hashlib.sha256(data).digest()[:4], "little")
    x = np.random.default_rng(seed).standard_normal(dim)
    return (x / np.linalg.norm(x)).astype(np.float32)


def load_fake_encoder(name, device="cpu", weights=(), precision="fp32"):
    if name not in DIMS:
        raise UnknownEncoderError(f"unknown encoder {name!r}")
    return FakeEncoder(name)


def make_space(kind="mlp", dim=10, names=("seer", "hearer"), seed=0, overlap=Modality.TEXT, centered=()):
    projectors = {}
    for number, name in enumerate(names):
        out = DIMS[name] if kind == "identity" else dim
        config = ProjectorConfig(kind, DIMS[name], out, hidden=16, anchors=5, centered=tuple(centered))
        projector = Projector(config)
        generator = torch.Generator().manual_seed(seed + number)
        initialise(projector, "default", generator)
        with torch.no_grad():
            for key, buffer in projector.named_buffers():
                if buffer.dtype == torch.float32:
                    buffer.copy_(torch.rand(buffer.shape, generator=generator) + (0.5 if "var" in key else -0.5))
            for center in projector.centers.values():
                center.copy_(torch.rand(center.shape, generator=generator) / 5)
        projectors[name] = projector
    encoders = {name: SpaceEncoder(name, FINGERPRINTS[name], DIMS[name], MODALITIES[name]) for name in names}
    return ConnectedSpace(encoders, projectors, overlap, "c-mcr")


def make_memory(path, encoder, rows, shard=7, fingerprint=None):
    """Write rows: {modality: {id: (source, text, content)}} as a memory of `encoder`."""
    info = EncoderInfo(encoder, fingerprint or FINGERPRINTS[encoder], DIMS[encoder])
    with MemoryWriter(path, info, "float32") as writer:
        for modality, entries in rows.items():
            items = list(entries.items())
            for start in range(0, len(items), shard):
                part = items[start : start + shard]
                vectors = np.stack([vector_of(content, info.dim) for _, (_, _, content) in part])
                metadata = [
                    Row(name, source, hashlib.sha256(content).hexdigest(), text)
                    for name, (source, text, content) in part
                ]
                writer.append(modality, vectors, metadata)
    return writer.memory


def texts(count, prefix="text"):
    return {f"t{n}": (f"texts.txt:{n}", f"{prefix} {n}", f"{prefix} {n}".encode()) for n in range(count)}
