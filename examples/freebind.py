"""FreeBind (arXiv 2405.04883) on vectors of yours: an expert mapped into a base, and a weight that is a knob.

    python examples/freebind.py [FOLDER]

The expert is connected by two mixes of data, its maps are averaged, and its weight is kept under a name.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from cmcr import ArrayMemory, ConnectConfig, Modality
from cmcr.connect import connect
from cmcr.numbers import ranks, recall_at
from cmcr.space import join_spaces

# What stands in for vectors of yours: a base of texts and pictures, and an expert of texts and sounds.
rng = np.random.default_rng(0)
see, hear = rng.normal(size=(8, 32)), rng.normal(size=(8, 24))


def seen(latent: np.ndarray, noise: float) -> np.ndarray:
    """Return what the base sees of things; of texts about sounds it sees little."""
    return latent @ see + noise * rng.normal(size=(len(latent), 32))


folder = Path(sys.argv[1] if len(sys.argv) > 1 else "freebind")
mixes = []
for _ in range(2):  # two mixes of data
    texts, pictures, sounds = (rng.normal(size=(300, 8)) for _ in range(3))
    base = ArrayMemory("base", {"text": seen(texts, 1.0), "image": seen(pictures, 0.1)})
    expert = ArrayMemory("expert", {"text": texts @ hear, "audio": sounds @ hear})
    out = folder / f"mix-{len(mixes)}"
    mixes.append(connect(base, expert, out=out, config=ConnectConfig(method="linear"), freeze_base=True).space)
space = join_spaces(*mixes, average=True)

test = rng.normal(size=(60, 8))
texts_by = {"base": seen(test, 3.0), "expert": test @ hear}
audio = space.project(test @ hear, encoder="expert", modality="audio")
for factor in (0.0, 0.5, 0.8):
    weights = {"base": 1 - factor, "expert": factor}
    text = space.mix(texts_by, modality="text", weights=weights)
    print(f"factor {factor}: text -> sound recall@1 {recall_at(ranks(text, audio), 1):.2f} of {len(test)}")
space.keep_preset("at-expertise", {Modality.TEXT: {"base": 0.2, "expert": 0.8}})
space.save(folder / "space")
print(f"kept as a preset: {', '.join(space.presets)}; maps of the expert: {len(space.ways[1].maps)}")
