"""Connect pictures and sounds that were never paired, from Python, on files made here.

python examples/sound_to_picture.py [FOLDER] [--small]
"""

from __future__ import annotations

import sys
from pathlib import Path

import cmcr
from cmcr import ConnectConfig, Memory, Modality
from cmcr.tiny import world
from cmcr.tiny.folders import write_paired, write_unpaired


def main(folder: Path, small: bool = False) -> None:
    """Write files, embed them, connect, and ask with a sound."""
    sizes = {"texts": 5000, "images": 2000, "sounds": 1500, "clouds": 0}
    write_unpaired(folder, 0, {name: count // 20 for name, count in sizes.items()} if small else sizes)
    write_paired(folder / "test", world.test_scenes(0)[: 12 if small else None], 0)

    # A memory holds one encoder's vectors; both hold the same texts, which is all that the two have in common.
    for name, inputs in {"tiny-clip": ["texts", "images"], "tiny-clap": ["texts", "sounds"]}.items():
        encoder = cmcr.load_encoder(name)
        for part in inputs:
            for source in sorted((folder / part).glob("*.txt")) or [folder / part]:
                cmcr.embed_items(encoder, cmcr.read_items(str(source), None, encoder.modalities), folder / "mem" / name)

    made = cmcr.connect_memories(
        folder / "mem/tiny-clip", folder / "mem/tiny-clap", folder / "space", ConnectConfig(epochs=12)
    )
    print(f"connected through {made.overlap.modality}: {made.space.metrics}")

    query = cmcr.embed_query(made.space, str(folder / "test/sounds/00000.wav"))
    gallery = Memory.open(folder / "mem/tiny-clip")
    for hit in cmcr.retrieve_rows(made.space, [query], gallery, Modality.IMAGE, k=3)[0]:
        print(f"{hit.rank}. {hit.score:.3f} {hit.path}")


if __name__ == "__main__":
    main(Path(next((a for a in sys.argv[1:] if not a.startswith("-")), "sound-to-picture")), "--small" in sys.argv)
