"""Which of two encoders knows what a label needs: vectors and labels in, shares and a page out.

    python examples/who_knows_what.py [FOLDER]

Stands in for vectors you computed elsewhere. Both see the kind of a thing, only pictures its colour; "match" is whether
its colour goes with its sound, which neither tells alone.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from cmcr.datasets import read_class_list
from cmcr.evaluate.interactions.choices import InteractionChoices
from cmcr.evaluate.interactions.interactions import evaluate
from cmcr.evaluate.interactions.page import interactions_page, words
from cmcr.files import write_text
from cmcr.memory import ArrayMemory


def main(folder: Path) -> None:
    """Make vectors and labels, measure, and write the page."""
    rng = np.random.default_rng(0)
    kind, colour, voice = rng.choice([-1, 1], (3, 200))
    ids = [f"item-{number}" for number in range(200)]
    sides = []
    for encoder, modality, shown, dim in (("see", "image", (kind, colour), 16), ("hear", "audio", (kind, voice), 12)):
        vectors = np.stack(shown, axis=1) @ rng.normal(size=(2, dim)) + 0.4 * rng.normal(size=(200, dim))
        sides.append((ArrayMemory(encoder, {modality: vectors}, {modality: ids}), modality))
    columns = zip(ids, kind, colour, colour * voice, strict=True)
    write_text(
        folder / "labels.csv", "id,kind,colour,match\n" + "".join(f"{a},{b},{c},{d}\n" for a, b, c, d in columns)
    )

    labels = {name: read_class_list(folder / "labels.csv", name) for name in ("kind", "colour", "match")}
    result = evaluate(sides, labels, InteractionChoices(folds=2, shuffles=1, samples=10))
    for name, label in result.labels.items():
        print(f"{name}: " + ", ".join(f"{result.title(part)} {share:.2f}" for part, share in label.shares.items()))
        print(f"  {words(result, name)[-1]}")
    write_text(folder / "index.html", interactions_page(result))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "who-knows-what"))
