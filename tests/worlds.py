"""A small latent world whose two spaces are known: memories for tests of connecting, without any encoder."""

import hashlib
from pathlib import Path

import numpy as np

from cmcr.memory import EncoderInfo, MemoryWriter, Row
from cmcr.modality import Modality

LATENT, DIM_A, DIM_B = 6, 24, 16


def unit(x):
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def space(seed, dim, latents, modality_seed, gap=0.6, noise=0.03):
    """Vectors of `latents` in the space `seed`: one linear map for the space, an offset for the modality (the gap)."""
    mixing = np.random.default_rng(seed).normal(size=(LATENT, dim))
    rng = np.random.default_rng([seed, modality_seed])
    offset = gap * LATENT**0.5 * unit(rng.normal(size=(1, dim))) * dim**0.5 / 2
    return unit(latents @ mixing + offset + noise * rng.normal(size=(len(latents), dim)))


def rows(prefix, count):
    ids = [f"{prefix}{number}" for number in range(count)]
    return [
        Row(name, f"{prefix}.txt:{n}", hashlib.sha256(name.encode()).hexdigest(), name) for n, name in enumerate(ids)
    ]


def write(path, name, parts, fingerprint=None, dtype="float32"):
    """Write a memory of `parts`: {modality: (vectors, rows)}."""
    dim = next(iter(parts.values()))[0].shape[1]
    with MemoryWriter(path, EncoderInfo(name, fingerprint or f"fp-{name}", dim), dtype) as writer:
        for modality, (vectors, metadata) in parts.items():
            writer.append(modality, vectors, metadata)
    return Path(path)


def two_memories(folder, texts=400, outer=300, seed=0):
    """mem/a (text, image) and mem/b (text, audio) sharing texts; plus 60 true (image, audio) pairs nobody trains on."""
    rng = np.random.default_rng(seed)
    latent = {
        name: rng.normal(size=(count, LATENT)) for name, count in (("t", texts), ("i", outer), ("s", outer), ("e", 60))
    }
    a = write(
        folder / "a",
        "enc-a",
        {
            Modality.TEXT: (space(1, DIM_A, latent["t"], 0), rows("t", texts)),
            Modality.IMAGE: (space(1, DIM_A, latent["i"], 1), rows("i", outer)),
        },
    )
    b = write(
        folder / "b",
        "enc-b",
        {
            Modality.TEXT: (space(2, DIM_B, latent["t"], 0), rows("t", texts)),
            Modality.AUDIO: (space(2, DIM_B, latent["s"], 1), rows("s", outer)),
        },
    )
    pairs = space(1, DIM_A, latent["e"], 1), space(2, DIM_B, latent["e"], 1)
    return a, b, pairs
