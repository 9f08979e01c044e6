"""Move an archive of vectors to a newer encoder, of which only a sample of the items was embedded anew.

    python examples/move_archive.py [FOLDER]

Stands in for an archive whose files are gone, or are too many to embed again: 3,000 pictures as an old encoder saw
them, and 400 of them as a new one does. The archive is moved into the new encoder's own space, and the vectors that the
new encoder makes of the other pictures find themselves there.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from cmcr import ArrayMemory, ConnectConfig, Memory, connect_memories, translate_memory

ITEMS, SAMPLE, SEEN = 3000, 400, 24


def main(folder: Path) -> None:
    """Make vectors, connect by the sample, translate, and ask the new memory with new vectors."""
    rng = np.random.default_rng(0)
    latent = rng.normal(size=(ITEMS, SEEN))
    seen = {}
    for name, dim in (("old", 64), ("new", 96)):
        mixed = latent @ rng.normal(size=(SEEN, dim)) / SEEN**0.5
        seen[name] = mixed + 0.8 * rng.normal(size=(ITEMS, dim))
    ids = [f"picture-{number}" for number in range(ITEMS)]
    archive = ArrayMemory("old-encoder", {"image": seen["old"]}, {"image": ids})
    sample = ArrayMemory("new-encoder", {"image": seen["new"][:SAMPLE]}, {"image": ids[:SAMPLE]})

    made = connect_memories(
        sample, archive, out=folder / "space", config=ConnectConfig("linear"), freeze_base=True, overwrite=True
    )
    report = translate_memory(archive, made.space, folder / "moved")
    print(f"moved {report.translated + report.already} {report.modality} rows: {report.record}")

    moved = Memory.open(folder / "moved")
    queries = seen["new"][SAMPLE:] / np.linalg.norm(seen["new"][SAMPLE:], axis=1, keepdims=True)
    nearest = (queries @ moved.vectors(report.modality).T).argmax(axis=1)
    found = float((nearest == np.arange(SAMPLE, ITEMS)).mean())
    print(f"new vectors find their own picture: recall@1 {found:.2f} of {len(queries)}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "move-archive"))
