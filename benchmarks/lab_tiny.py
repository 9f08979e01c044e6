"""The tiny world's two connections as beds: its encoders' vectors, and scenes of combinations nothing was trained on.

python benchmarks/lab_tiny.py FOLDER       # writes FOLDER/audio-image and FOLDER/cloud-text
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
from lab_bed import Bed, Side, read_bed, unit, write_bed
from quality import Task, World, by_id

FAMILY = "tiny"
NAMES = ("audio-image", "cloud-text")


def bed_of(task: Task, name: str, gallery: int) -> Bed:
    """Return a connection's rows as a bed; its pairs come in galleries of one scene a combination."""
    common = sorted(set(task.a.memory.ids(task.via)) & set(task.b.memory.ids(task.via)))
    sides = []
    for side in (task.a, task.b):
        row = {each: number for number, each in enumerate(side.memory.ids(task.via))}
        parts = {
            "text": side.memory.vectors(task.via)[[row[each] for each in common]],
            "memory": side.memory.vectors(side.outer),
            "eval": by_id(side.test, side.outer),
            "eval_text": by_id(side.test, task.via),
        }
        sides.append(Side(**{part: unit(x) for part, x in parts.items()}))
    return Bed(f"{FAMILY}/{name}", FAMILY, *sides, np.arange(len(task.kinds)) // gallery)


def tiny_beds(folder: Path) -> list[Bed]:
    """Read both beds from a folder, into which they are written where they are not yet there."""
    if not all((folder / name / "eval_gallery.npy").exists() for name in NAMES):
        with tempfile.TemporaryDirectory() as scratch:
            world = World(Path(scratch), 0)
            for task, name in zip(world.tasks(), NAMES, strict=True):
                write_bed(bed_of(task, name, world.per_gallery), folder / name)
    read = [read_bed(folder / name) for name in NAMES]
    return [Bed(f"{FAMILY}/{each.name}", FAMILY, each.left, each.right, each.galleries) for each in read]


if __name__ == "__main__":
    for bed in tiny_beds(Path(sys.argv[1])):
        print(bed.name, *(x.shape for side in (bed.left, bed.right) for x in side.parts().values()))
