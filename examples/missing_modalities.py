"""Classify items that have a picture, a sound, or both: vectors, ids and labels in, predictions out.

    python examples/missing_modalities.py [FOLDER]

Stands in for vectors you computed elsewhere. Half of the items lack one of the two; pictures tell the classes apart
better than sounds do.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from cmcr.classify import Classifier, ClassifySettings, join_table
from cmcr.classify.run import fit
from cmcr.memory import ArrayMemory


def main(folder: Path) -> None:
    """Make vectors and labels, fit, compare, save, and predict from sounds alone."""
    rng = np.random.default_rng(0)
    truth = rng.integers(4, size=400)
    ids = [f"item-{number}" for number in range(400)]
    labels = {name: "abcd"[number] for name, number in zip(ids, truth, strict=True)}
    memories = {}
    for modality, dim, noise, kept in (("image", 32, 0.6, range(300)), ("audio", 24, 1.2, range(100, 400))):
        means = rng.normal(size=(4, dim))
        vectors = means[truth] + noise * rng.normal(size=(400, dim))
        memories[modality] = ArrayMemory(
            f"my-{modality}", {modality: vectors[kept]}, {modality: [ids[n] for n in kept]}
        )

    table = join_table([(memory, modality) for modality, memory in memories.items()], labels)
    trained = fit(table, ClassifySettings(epochs=10, width=32))
    for name, numbers in trained.measured.items():
        print(f"{name}: accuracy {numbers['accuracy']:.2f}")
    trained.classifier.save(folder / "classifier")

    model = Classifier.from_pretrained(folder / "classifier")
    said = model.predict(join_table([(memories["audio"], "audio")]))
    right = np.mean([labels[name] == label for name, label in zip(said.ids, said.labels, strict=True)])
    print(f"from sounds alone: accuracy {right:.2f} of {len(said.ids)}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "missing-modalities"))
