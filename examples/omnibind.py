"""OmniBind (arXiv 2407.11895) on vectors of yours: a router that weighs who sees a text, learned without pairs.

    python examples/omnibind.py [FOLDER]

Half of the texts were written for pictures, half for sounds; the router learns whom to ask from the texts' vectors.
"""

from __future__ import annotations

import sys

import numpy as np

import cmcr
from cmcr import ArrayMemory
from cmcr.routers import RouterConfig, train_routers

rng = np.random.default_rng(0)
see, hear = rng.normal(size=(8, 32)), rng.normal(size=(8, 24))
tone = rng.normal(size=(2, 32)), rng.normal(size=(2, 24))  # how each encoder hears for whom a text was written


def texts(latent: np.ndarray, family: np.ndarray) -> dict[str, np.ndarray]:
    """Return what both encoders see of texts."""
    return {"base": latent @ see + tone[0][family], "expert": latent @ hear + tone[1][family]}


latent, family = rng.normal(size=(400, 8)), np.arange(400) % 2
views, pictures, sounds = texts(latent, family), rng.normal(size=(300, 8)) @ see, rng.normal(size=(300, 8)) @ hear
base, expert = {"text": views["base"], "image": pictures}, {"text": views["expert"], "audio": sounds}
space = cmcr.connect_arrays(base=base, expert=expert, via="text", method="linear")

ids = {"text": [f"{('of-pictures', 'of-sounds')[each]}-{number}" for number, each in enumerate(family)]}
memories = [ArrayMemory("base", base, ids), ArrayMemory("expert", expert, ids)]
recipe = RouterConfig(
    hidden=[32, 16], epochs=10, batch_size=128, written_for=["base=of-pictures*", "expert=of-sounds*"]
)
made = train_routers(space, memories, recipe)
made.space.save(sys.argv[1] if len(sys.argv) > 1 else "omnibind")
print(f"texts that ask whom they were written for: {made.metrics['text.prefers_family']:.2f}")
