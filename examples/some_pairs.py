"""Some pairs are known: a vision model and a sentence encoder that share nothing become one space.

    python examples/some_pairs.py [FOLDER]

Stands in for vectors of yours: 400 pictures, 400 sentences, and 60 pairs of ids; most rows have none.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from cmcr import ArrayMemory, ConnectConfig
from cmcr.connect import connect
from cmcr.numbers import ranks, recall_at

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "space")
rng = np.random.default_rng(0)
things = rng.normal(size=(400, 8))
pictures, sentences = things @ rng.normal(size=(8, 32)), things @ rng.normal(size=(8, 24))

vision = ArrayMemory("vision", {"image": pictures}, ids={"image": [f"photo{n}" for n in range(400)]})
language = ArrayMemory("language", {"text": sentences}, ids={"text": [f"caption{n}" for n in range(400)]})
pairs = [(f"photo{n}", f"caption{n}") for n in range(60)]

made = connect(vision, language, out=folder, config=ConnectConfig("auto"), pairs=pairs)
image = made.space.project(pictures[300:], encoder="vision", modality="image")
text = made.space.project(sentences[300:], encoder="language", modality="text")
print(f"{made.space.method}: of 100 pictures nobody paired, recall@1 {recall_at(ranks(image, text), 1):.2f}")
