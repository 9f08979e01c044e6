"""What extending an index costs beside building it anew: recall against the exact search, on rows of a bed.

    python benchmarks/grown_index.py BED [BED ...]

An index is built of the first half of a bed's texts, extended by a tenth of all until it has them, and set beside one
that is built of all: every tenth text asks for its ten nearest rows. ``removed``: a third of the rows is removed, drawn
with seed 0, and the extended index is asked for ten of the rows that are left.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from lab_bed import SIDES, read_bed

from cmcr.modality import Modality
from cmcr.search import build_index, exact_search, extend_index, load_index, save_index

K = 10


def recall(found: np.ndarray, truth: np.ndarray) -> str:
    """Return which share of the true rows is found, in percent."""
    return (
        f"{100 * np.mean([len(set(a) & set(b)) / K for a, b in zip(truth.tolist(), found.tolist(), strict=True)]):.2f}"
    )


def grown(kind: str, rows: np.ndarray, path: Path) -> int:
    """Write an index that grew from half of the rows to all; return how often it was built anew on the way."""
    half, step, anew = -(-len(rows) // 2), len(rows) // 10, 0  # ivf is built anew above twice its first rows
    names: dict[str, Any] = {"memory": "m", "space": "s", "modality": Modality.TEXT}
    info = save_index(build_index(kind, lambda: [rows[:half]]), path, **names)
    while info.rows < len(rows):
        new, all_ = rows[info.rows : info.rows + step], rows[: info.rows + step]
        index = extend_index(path, info, partial(list, [new]))
        anew += index is None
        info = save_index(index or build_index(kind, partial(list, [all_])), path, **names)
    return anew


def main(arguments: list[str] | None = None) -> int:
    """Measure, and write the table to stdout."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("beds", nargs="+", type=Path, metavar="BED")
    print("| bed, side | rows | kind | built of all | extended | extended, a third removed | built anew on the way |")
    print("|---|--:|---|--:|--:|--:|--:|")
    for folder in parser.parse_args(arguments).beds:
        for side in SIDES:
            rows = read_bed(folder).side(side).text.astype(np.float32)
            asked, gone = rows[::10], np.sort(np.random.default_rng(0).permutation(len(rows))[: len(rows) // 3])
            truth, left = (
                exact_search([rows], asked, K).rows,
                exact_search([np.delete(rows, gone, axis=0)], asked, K).rows,
            )
            for kind in ("flat", "hnsw", "ivf"):
                with tempfile.TemporaryDirectory() as work:
                    path = Path(work) / "grown.faiss"
                    anew = grown(kind, rows, path)
                    built = build_index(kind, partial(list, [rows])).search(asked, K).rows
                    extended = load_index(path, memory="m", space="s").search(asked, K).rows
                    without = load_index(path, memory="m", space="s", gone=gone).search(asked, K).rows
                shares = [recall(built, truth), recall(extended, truth), recall(without, left)]
                name = f"{folder.resolve().name}, {side}"
                print(f"| {name} | {len(rows)} | {kind} | {' | '.join(shares)} | {anew} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
