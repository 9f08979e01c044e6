"""What known pairs add: a fifth of a bed's pairs is asked, of the others so many are known; every fifth in turn.

    python benchmarks/known_pairs.py FOLDER FOLDER --methods csa,ensemble --known 0,30,100,0.8

``csa`` sees the pairs alone, ``ensemble`` the overlap and the memories too. ``lab_bed.py`` tells what lies in a folder.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from lab_bed import Bed, Side, read_bed

from cmcr import ArrayMemory, ConnectConfig
from cmcr.connect import connect
from cmcr.space import ConnectedSpace

FOLDS = 5
KINDS = ("image", "audio")


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--methods", default="csa,ensemble")
    parser.add_argument("--known", default="0.8", help="pairs that are known: numbers, or 0.8 for all but those asked")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def memory(name: str, kind: str, side: Side, known: np.ndarray, alone: bool) -> ArrayMemory:
    """Return a side's memory: its outer rows, those of the known pairs among them, and unless ``alone`` its texts."""
    paired = [f"pair{row}" for row in known]
    if alone:
        return ArrayMemory(name, {kind: side.eval[known]}, ids={kind: paired})
    rows = np.concatenate([side.memory, side.eval[known]])
    ids = {kind: [*(f"row{row}" for row in range(len(side.memory))), *paired]}
    return ArrayMemory(name, {"text": side.text, kind: rows}, ids=ids)


def connected(bed: Bed, method: str, known: np.ndarray, seed: int) -> ConnectedSpace:
    sides = (bed.left, bed.right)
    a, b = (
        memory(name, kind, side, known, method == "csa") for name, kind, side in zip("ab", KINDS, sides, strict=True)
    )
    pairs = [(f"pair{row}", f"pair{row}") for row in known] or None
    with tempfile.TemporaryDirectory() as folder:
        return connect(a, b, out=Path(folder) / "space", config=ConnectConfig(method, seed=seed), pairs=pairs).space


def ranks(space: ConnectedSpace, bed: Bed, asked: np.ndarray) -> np.ndarray:
    """Return the (2, n) ranks of the asked pairs among all pairs' rows, both directions, ties counted against us."""
    x, y = (
        space.project(side.eval.astype(np.float32), encoder=name, modality=kind)
        for name, kind, side in zip("ab", KINDS, (bed.left, bed.right), strict=True)
    )
    cosines = x @ y.T
    own = np.diag(cosines)[asked]
    return np.stack([(cosines[asked] >= own[:, None]).sum(axis=1), (cosines[:, asked] >= own).sum(axis=0)])


def measured(bed: Bed, method: str, wanted: float, seed: int) -> tuple[int, np.ndarray]:
    """Return how many pairs were known, and the ranks of all pairs, each asked once."""
    order = np.random.default_rng(seed).permutation(len(bed.left.eval))
    found, count = [], 0
    for fold in range(FOLDS):
        asked = order[fold::FOLDS]
        others = np.setdiff1d(order, asked)
        count = len(others) if 0 < wanted < 1 else int(wanted)
        known = np.sort(np.random.default_rng([seed, fold]).permutation(others)[:count])
        found.append(ranks(connected(bed, method, known, seed), bed, asked))
    return count, np.concatenate(found, axis=1)


def main() -> None:
    asked = parsed()
    torch.set_num_threads(1)
    print("| bed | method | known pairs | R@1 | R@10 | AUC |\n|---|---|--:|--:|--:|--:|")
    for folder in asked.folders:
        bed = read_bed(folder)
        for method in asked.methods.split(","):
            for wanted in map(float, asked.known.split(",")):
                if method == "csa" and not wanted:
                    continue
                count, found = measured(bed, method, wanted, asked.seed)
                auc = 1 - (found - 1).mean() / (len(bed.left.eval) - 1)
                figures = [100 * each for each in ((found <= 1).mean(), (found <= 10).mean(), auc)]
                print(
                    f"| {bed.name} | {method} | {count} |",
                    " | ".join(f"{each:.1f}" for each in figures),
                    "|",
                    flush=True,
                )


if __name__ == "__main__":
    main()
