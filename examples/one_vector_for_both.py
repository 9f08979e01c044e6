"""One vector for items that have a picture, a sound, or both: fuse two memories, and ask what the vectors know.

    python examples/one_vector_for_both.py [FOLDER]

Draws and sounds scenes of the tiny world, embeds them with views, fuses them without labels, and classifies by the
fused vectors. Twenty items have a picture only; they are fused from what they have.
"""

from __future__ import annotations

import sys
from pathlib import Path

from cmcr import embed_items, load_encoder
from cmcr.classify import ClassifySettings, join_table
from cmcr.classify.run import fit
from cmcr.fuse import FuseSettings, fuse
from cmcr.items import read_items
from cmcr.memory import Memory, ViewSpec
from cmcr.modality import Modality
from cmcr.tiny.world import train_scenes, write_images, write_sounds


def main(folder: Path) -> None:
    """Make files, embed, fuse, and classify."""
    scenes = train_scenes(200, seed=7)
    write_images(folder / "pictures", scenes, seed=7)
    write_sounds(folder / "sounds", scenes[:180], seed=7)
    sides = []
    for modality, files, encoder in (("image", "pictures", "tiny-clip"), ("audio", "sounds", "tiny-clap")):
        items = read_items(str(folder / files), Modality(modality), [Modality(modality)])
        embed_items(load_encoder(encoder), items, folder / "mem" / encoder, views=ViewSpec(2))
        sides.append((Memory.open(folder / "mem" / encoder), modality))

    done = fuse(sides, folder / "mem/fused", FuseSettings(epochs=10, width=64))
    for note in done.notes:
        print(note)
    print(f"{done.added} rows of {done.fuser.dim} components, learnt from {done.trained}")

    labels = {f"{number:05d}": scene.rhythm for number, scene in enumerate(scenes[:180])}
    table = join_table([(done.memory, "fused")], labels)
    found = fit(table, ClassifySettings(epochs=20, width=32))
    print(f"rhythm from fused vectors: accuracy {found.measured['MLA']['accuracy']:.2f}, chance 0.20")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "one-vector"))
