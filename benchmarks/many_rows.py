"""Does distill hold with millions of rows? Time, memory and recall of one run on made-up memories.

    python benchmarks/many_rows.py [--rows 1000000] [--epochs 1]

Both memories hold as many texts as outer rows, of 512 components: noisy views of a common latent of 64, so that there
is something to connect. The run is `cmcr connect` in a process of its own.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from few_rows import both_ways
from quality import README, replace

from cmcr import ConnectedSpace, Modality
from cmcr.memory import EncoderInfo, MemoryWriter, Row

DIM, LATENT, PAIRS, BLOCK = 512, 64, 1000, 100_000
NOISE = {Modality.TEXT: 1.0, Modality.IMAGE: 1.5, Modality.AUDIO: 1.5}
OUTER = {"left": Modality.IMAGE, "right": Modality.AUDIO}


class View:
    """What one modality of one encoder shows of a latent."""

    def __init__(self, side: str, modality: Modality) -> None:
        self.rng = np.random.default_rng([sorted(OUTER).index(side), sorted(NOISE).index(modality)])
        self.map = np.random.default_rng(sorted(OUTER).index(side)).standard_normal((LATENT, DIM), dtype=np.float32)
        self.offset = self.rng.standard_normal(DIM, dtype=np.float32) * 4
        self.noise = NOISE[modality] * LATENT**0.5

    def __call__(self, latent: np.ndarray) -> np.ndarray:
        """Return (N, DIM) rows of (N, LATENT) latents."""
        noise = self.rng.standard_normal((len(latent), DIM), dtype=np.float32) * np.float32(self.noise)
        x = latent @ self.map + noise + self.offset
        return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True), np.float32)


def make(folder: Path, side: str, rows: int) -> dict[Modality, View]:
    """Write a memory of ``rows`` texts, the same for both sides, and as many outer rows of its own."""
    views = {modality: View(side, modality) for modality in (Modality.TEXT, OUTER[side])}
    with MemoryWriter(folder / side, EncoderInfo(side, side, DIM), "float16") as writer:
        for modality, view in views.items():
            latents = np.random.default_rng([7, 0 if modality == Modality.TEXT else 1 + sorted(OUTER).index(side)])
            for start in range(0, rows, BLOCK):
                count = min(BLOCK, rows - start)
                about = [Row(str(number), "", None, None) for number in range(start, start + count)]
                writer.append(modality, view(latents.standard_normal((count, LATENT), dtype=np.float32)), about)
    return views


def main() -> None:
    """Make, connect, measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--epochs", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        views = {side: make(folder, side, given.rows) for side in OUTER}
        settings = f"--method distill --epochs {given.epochs} --batch-size 2048"
        command = ["-m", "cmcr", "connect", "left", "right", "-o", "space", "--device", "cpu", *settings.split()]
        start = time.perf_counter()
        subprocess.run([sys.executable, *command], cwd=folder, check=True, env={**os.environ, "COLUMNS": "200"})
        took = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        space = ConnectedSpace.from_pretrained(folder / "space")
        latent = np.random.default_rng(99).standard_normal((PAIRS, LATENT), dtype=np.float32)
        seen = [
            space.project(views[side][modality](latent), modality=modality, encoder=side)
            for side, modality in OUTER.items()
        ]
        recall = both_ways(seen[0], seen[1], 1, 10)
        run = folder / "space.run"
        stages = {
            "overlap rows": "pairs/overlap_b.npy",
            "recalling what is measured": "held-out/pseudo_b.npy",
            "routing left": "pairs/routed_a.npy",
            "routing right": "pairs/routed_b.npy",
            "training": "checkpoint.safetensors",
        }
        times = [(run / file).stat().st_mtime for file in ("config.json", *stages.values())]
        parts = [f"{label} {times[k + 1] - times[k]:,.0f} s" for k, label in enumerate(stages)]
        disk = sum(path.stat().st_size for path in run.rglob("*") if path.is_file()) / 1e9
        trust = space.metrics["trust"]
        text = (
            f"`python benchmarks/many_rows.py --rows {given.rows} --epochs {given.epochs}`: two memories of "
            f"{given.rows:,} texts and {given.rows:,} outer rows each, {DIM} components, `cmcr connect {settings}`: "
            f"{took / 60:.1f} min in all ({', '.join(parts)}), at most {peak:.2f} GB resident, {disk:.1f} GB on disk "
            f"for the run, {torch.get_num_threads()} CPU threads. Trust {trust:.2f}. Recall of {PAIRS:,} unseen pairs: "
            f"R@1 {recall[0]:.1f}, R@10 {recall[1]:.1f} (chance {100 / PAIRS:.1f} and {1000 / PAIRS:.1f})."
        )
    replace(README, "rows", f"## Many rows\n\n{text}")
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    main()
