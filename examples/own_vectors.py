"""Connect encoders that cmcr knows nothing about: vectors and ids in, a connected space out.

    python examples/own_vectors.py [FOLDER]

Stands in for vectors you computed elsewhere: two spaces of 32 and 24 components that share 600 texts.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from cmcr import ConnectConfig, Modality
from cmcr.connect import connect
from cmcr.embed import import_vectors
from cmcr.numbers import ranks, recall_at


def vectors(latent: np.ndarray, space: int, dim: int, modality: int) -> np.ndarray:
    """Return what an encoder of ``space`` would say of the things behind ``latent``."""
    mixing = np.random.default_rng(space).normal(size=(latent.shape[1], dim))
    offset = np.random.default_rng([space, modality]).normal(size=dim)
    return latent @ mixing + offset


def main(folder: Path) -> None:
    """Write vectors and ids, import, connect, and measure on pairs that nothing was trained on."""
    rng = np.random.default_rng(0)
    texts, images, sounds, test = (rng.normal(size=(count, 8)) for count in (600, 400, 400, 50))
    folder.mkdir(parents=True, exist_ok=True)
    parts = [
        ("see", 32, Modality.TEXT, texts),
        ("see", 32, Modality.IMAGE, images),
        ("hear", 24, Modality.TEXT, texts),
        ("hear", 24, Modality.AUDIO, sounds),
    ]
    for name, dim, modality, latent in parts:
        file = folder / f"{name}-{modality}.npy"
        np.save(file, vectors(latent, dim, dim, list(Modality).index(modality)))
        ids = folder / f"{modality}.txt"
        ids.write_text("".join(f"{modality}-{number}\n" for number in range(len(latent))))
        import_vectors(file, ids, folder / "mem" / name, encoder_name=name, modality=modality)

    made = connect(folder / "mem/see", folder / "mem/hear", folder / "space", ConnectConfig(method="route"))
    image = made.space.project(vectors(test, 32, 32, 0), encoder="see", modality=Modality.IMAGE)
    sound = made.space.project(vectors(test, 24, 24, 2), encoder="hear", modality=Modality.AUDIO)
    print(f"sound -> image recall@1 {recall_at(ranks(sound, image), 1):.2f} of {len(test)}, chance {1 / len(test):.2f}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "own-vectors"))
