"""What storing vectors in fewer bits costs: neighbours kept, and true pairs found, on beds of real vectors.

    python benchmarks/storage.py BED [BED ...]

``lab_bed.py`` tells what lies in the folder of a bed. Each side's rows are written to a memory in each type and read
again. Told are the bytes a row takes, which share of the ten nearest rows of float32 are still among the ten nearest
(every row of the outer modality asks all others), and recall@10 of true pairs: caption to item within either space,
and item to item across both after a connection by ``linear``, mean of both directions. int8 has one scale a row, and
is beside one scale a component, which is what it could have been.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from lab_bed import SIDES, Bed, read_bed

from cmcr import ConnectConfig, connect_arrays
from cmcr.memory import EncoderInfo, Memory, MemoryWriter, Row
from cmcr.modality import Modality
from cmcr.numbers import ranks
from cmcr.search import exact_search

TYPES = ("float32", "float16", "int8", "int8 a component")
K = 10


def stored(rows: np.ndarray, dtype: str, folder: Path) -> tuple[np.ndarray, float]:
    """Return rows as a memory of this type gives them back, and the bytes of a vector on disk."""
    if dtype == "int8 a component":
        scale = np.abs(rows).max(axis=0) / 127
        read = np.rint(rows / scale).astype(np.float32) * scale
        return read / np.linalg.norm(read, axis=1, keepdims=True), float(rows.shape[1])
    known = [Row(str(number), "", None, None) for number in range(len(rows))]
    with MemoryWriter(folder, EncoderInfo("bed", "bed", rows.shape[1]), dtype) as writer:
        writer.append(Modality.IMAGE, rows, known)
    memory = Memory.open(folder)
    size = sum((folder / shard.vectors).stat().st_size - 128 for shard in memory.shards(Modality.IMAGE))
    return memory.vectors(Modality.IMAGE), size / len(rows)


def neighbours(rows: np.ndarray) -> np.ndarray:
    """Return the (N, 10) nearest other rows of each."""
    found = exact_search([rows], rows, K + 1).rows
    others = [[each for each in row if each != number][:K] for number, row in enumerate(found.tolist())]
    return np.array(others)


def kept(truth: np.ndarray, found: np.ndarray) -> float:
    """Return which share of the true neighbours is found."""
    return float(np.mean([len(set(a) & set(b)) / K for a, b in zip(truth.tolist(), found.tolist(), strict=True)]))


def recall(one: np.ndarray, other: np.ndarray) -> float:
    """Return recall@10 of row i for row i, mean of both directions; ties count against it."""
    both = [ranks(one, other), ranks(other, one)]
    return float(np.mean([np.mean(each <= K) for each in both]))


def across(parts: dict[str, dict[str, np.ndarray]]) -> float:
    """Return recall@10 over the bed's pairs in a space that ``linear`` makes of stored rows."""
    a = {"text": parts["left"]["text"], "image": parts["left"]["memory"]}
    b = {"text": parts["right"]["text"], "audio": parts["right"]["memory"]}
    space = connect_arrays(a=a, b=b, via="text", config=ConnectConfig(method="linear"))
    left = space.project(parts["left"]["eval"], encoder="a", modality="image")
    right = space.project(parts["right"]["eval"], encoder="b", modality="audio")
    return recall(left, right)


def measured(bed: Bed, dtype: str, folder: Path, truth: dict[str, np.ndarray]) -> list[str]:
    """Return a line of the table: bed, type, bytes a row of each side, and the numbers in percent."""
    parts: dict[str, dict[str, np.ndarray]] = {side: {} for side in SIDES}
    sizes, same, own = [], [], []
    for side in SIDES:
        for name, rows in bed.side(side).parts().items():
            parts[side][name], size = stored(rows, dtype, folder / dtype / side / name)
        sizes.append(size)
        found = neighbours(parts[side]["memory"])
        same.append(kept(truth.setdefault(side, found), found))
        if "eval_text" in parts[side]:
            own.append(recall(parts[side]["eval_text"], parts[side]["eval"]))
    shares = [float(np.mean(same)), *own, across(parts)]
    return [bed.name, dtype, " / ".join(f"{size:.0f}" for size in sizes), *(f"{100 * each:.2f}" for each in shares)]


def main(arguments: list[str] | None = None) -> int:
    """Measure, and write the table to stdout."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("beds", nargs="+", type=Path, metavar="BED")
    print("| bed | type | bytes a row, left / right | neighbours kept | caption - item, left | right | pairs across |")
    print("|---|---|--:|--:|--:|--:|--:|")
    for folder in parser.parse_args(arguments).beds:
        bed, truth = read_bed(folder), dict[str, np.ndarray]()
        with tempfile.TemporaryDirectory() as work:
            for dtype in TYPES:
                print(f"| {' | '.join(measured(bed, dtype, Path(work), truth))} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
