"""How good is a connection of your own vectors? Every method on a folder of them, into benchmarks/README.md.

    make bench-quality BED=folder         # or: python benchmarks/bed.py folder --seeds 5

The folder holds .npy files, one vector a row: ``text_left`` and ``text_right`` (the same texts in both spaces),
``memory_left`` and ``memory_right`` (unpaired), ``eval_left`` and ``eval_right`` (pairs nobody trains on) and, to see
what each space keeps of its own, ``eval_text_left`` and ``eval_text_right`` (their true texts).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from quality import README, replace

from cmcr import ConnectConfig, ConnectedSpace, Memory, Modality
from cmcr.connect import connect
from cmcr.memory import EncoderInfo, MemoryWriter, Row
from cmcr.numbers import ranks, recall_at
from cmcr.numbers.rows import spread

OUTER = {"left": Modality.IMAGE, "right": Modality.POINT_CLOUD}
METHODS: dict[str, dict[str, object]] = {
    "linear": {"method": "linear"},
    "route": {"method": "route"},
    "route, tau 0.05, all rows": {"method": "route", "route_tau": 0.05, "route_top_k": 0},
    "C-MCR": {},
    "C-MCR, tau 0.1": {"tau": 0.1},
    "**distill**": {"method": "distill"},
    "distill without own similarities": {"method": "distill", "own_weight": 0.0},
    "distill without density": {"method": "distill", "route_density": 0.0},
    "distill without shrinking": {"method": "distill", "shrink": 0.0},
    "distill, C-MCR's hidden width": {"method": "distill", "hidden": -2},
}
"""Rows of the table; a ``hidden`` of -2 is twice the larger input."""


def read(folder: Path, name: str) -> np.ndarray:
    """Return the rows of a file as float32."""
    return np.load(folder / f"{name}.npy", allow_pickle=False).astype(np.float32)


def memory(folder: Path, side: str, path: Path, most: int = 0) -> Memory:
    """Write one side's texts and unpaired rows as a memory; of each at most ``most`` rows (0: all), evenly spread."""
    parts = {Modality.TEXT: read(folder, f"text_{side}"), OUTER[side]: read(folder, f"memory_{side}")}
    if most:
        parts = {name: x[spread(len(x), most)] for name, x in parts.items()}
    with MemoryWriter(path, EncoderInfo(side, side, parts[Modality.TEXT].shape[1])) as writer:
        for modality, vectors in parts.items():
            rows = [Row(f"{modality}{number}", "", None, None) for number in range(len(vectors))]
            writer.append(modality, vectors, rows)
    return Memory.open(path)


def both_ways(x: np.ndarray, y: np.ndarray) -> list[float]:
    """Return R@1, R@5, R@10 and AUC (normalised mean rank, 50 by chance), the mean of both directions, in percent."""
    found = [ranks(x, y), ranks(y, x)]
    recalls = [float(np.mean([recall_at(each, k) for each in found])) for k in (1, 5, 10)]
    auc = float(np.mean([1 - (np.asarray(each) - 1).mean() / (len(x) - 1) for each in found]))
    return [100 * value for value in (*recalls, auc)]


def measure(space: ConnectedSpace, folder: Path) -> list[float]:
    """Return the outer pair's four figures, R@10 of four more pairs (each side's own, text across), and agreement."""
    seen = {}
    for side in ("left", "right"):
        seen[side] = space.project(read(folder, f"eval_{side}"), modality=OUTER[side], encoder=side)
        texts = read(folder, f"eval_text_{side}")
        seen[f"text {side}"] = space.project(texts, modality=Modality.TEXT, encoder=side)
    own = [both_ways(seen[side], seen[f"text {side}"])[2] for side in ("left", "right")]
    across = [both_ways(seen["text left"], seen["right"])[2], both_ways(seen["text right"], seen["left"])[2]]
    return [*both_ways(seen["left"], seen["right"]), *own, *across, 100 * space.metrics.get("agreement", np.nan)]


def rank_correlation(x: list[float], y: list[float]) -> float:
    """Return Spearman's, of values without ties."""
    order = [np.argsort(np.argsort(each)).astype(float) for each in (x, y)]
    return float(np.corrcoef(*order)[0, 1])


def raw(folder: Path, side: str) -> float:
    """Return R@10 of a side's eval rows and their true texts in the raw space."""
    x, y = (read(folder, name) for name in (f"eval_{side}", f"eval_text_{side}"))
    return both_ways(*(each / np.linalg.norm(each, axis=1, keepdims=True) for each in (x, y)))[2]


def main() -> None:
    """Measure every method and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=0, help="use so many texts and rows of each memory; only prints")
    asked = parser.parse_args()
    lines, means = [], []
    with tempfile.TemporaryDirectory() as scratch:
        sides = [memory(asked.folder, side, Path(scratch) / side, asked.rows) for side in ("left", "right")]
        sizes = [", ".join(f"{each.rows(kind):,} {kind}" for kind in each.modalities) for each in sides]
        for name, settings in METHODS.items():
            found = []
            if settings.get("hidden") == -2:
                settings = settings | {"hidden": 2 * max(each.encoder.dim for each in sides)}
            for seed in range(asked.seeds):
                out = Path(scratch) / f"{len(lines)}-{seed}"
                config = ConnectConfig(**settings, seed=seed)  # type: ignore[arg-type]
                found.append(measure(connect(*sides, out, config).space, asked.folder))
            mean, deviation = np.mean(found, axis=0), np.std(found, axis=0, ddof=min(1, len(found) - 1))
            means.append(mean)
            cells = [f"{m:.1f} ± {d:.1f}" for m, d in zip(mean, deviation, strict=True)]
            lines.append(f"| {name} | {' | '.join(cells)} |")
            sys.stderr.write(lines[-1] + "\n")
    pairs, (left, right) = len(read(asked.folder, "eval_left")), (raw(asked.folder, side) for side in ("left", "right"))
    about = (
        f"`make bench-quality BED={asked.folder.name}`: {asked.seeds} seeds, mean ± standard deviation, percent, both "
        f"directions averaged, ties counted against us; {pairs} evaluation pairs (chance R@10 {1000 / pairs:.1f}, "
        f"AUC 50); rows of the memories: {'; '.join(sizes)}. *own*: R@10 of a side's rows and their true texts "
        f"(raw {left:.1f} and {right:.1f}). *agreement*: what `connect` prints, in percent, and `auto` chooses by; it "
        f"sees no pair, and ranks these rows as R@10 and AUC do with a rank correlation of "
        f"{' and '.join(f'{rank_correlation([m[-1] for m in means], [m[k] for m in means]):.2f}' for k in (2, 3))}."
    )
    head = ["method", "R@1", "R@5", "R@10", "AUC", "own left", "own right", "text left -> right", "text right -> left"]
    head.append("agreement")
    table = ["| " + " | ".join(head) + " |", "|---|" + "--:|" * (len(head) - 1), *lines]
    text = f"## Quality on real vectors: {asked.folder.name}\n\n{about}\n\n" + "\n".join(table)
    sys.stdout.write(text + "\n")
    if not asked.rows:
        replace(README, "bed", text)


if __name__ == "__main__":
    main()
