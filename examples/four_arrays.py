"""Four arrays in, a saved space out: no file, no id, no encoder that cmcr knows.

    python examples/four_arrays.py [FOLDER]

``texts_1[i]`` and ``texts_2[i]`` are the same text, embedded by two encoders; pictures and sounds were never paired.
"""

from __future__ import annotations

import sys

import numpy as np

import cmcr
from cmcr.numbers import ranks, recall_at

# What stands in for vectors of yours: two encoders of 32 and 24 components, which see the same things behind.
rng = np.random.default_rng(0)
see, hear = rng.normal(size=(8, 32)), rng.normal(size=(8, 24))
texts, pictures, sounds, test = (rng.normal(size=(rows, 8)) for rows in (600, 400, 400, 50))
texts_1, images, texts_2, audio = texts @ see, pictures @ see, texts @ hear, sounds @ hear
folder = sys.argv[1] if len(sys.argv) > 1 else "space"

a = {"text": texts_1, "image": images}
b = {"text": texts_2, "audio": audio}
space = cmcr.connect_arrays(a=a, b=b, via="text", method="linear")
space.save(folder)
print(space)

image = space.project(test @ see, encoder="a", modality="image")
sound = space.project(test @ hear, encoder="b", modality="audio")
print(f"sound -> image recall@1 {recall_at(ranks(sound, image), 1):.2f} of {len(test)}, chance {1 / len(test):.2f}")
