"""Memories larger than any test would make, of random content, and what a user meets on one of a million rows.

python benchmarks/big.py --rows 1000000 --dim 512
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from cmcr.memory import EncoderInfo, MemoryWriter, Row, Skip
from cmcr.modality import Modality


def make_big_memory(
    folder: Path,
    rows: int,
    dim: int,
    *,
    modality: Modality = Modality.IMAGE,
    dtype: str = "float16",
    shard_size: int = 250_000,
    skips: int = 0,
    seed: int = 0,
) -> Path:
    """Write random unit vectors as a memory, ``shard_size`` rows a shard, and return its folder."""
    rng = np.random.default_rng(seed)
    info = EncoderInfo("random", f"random-{dim}-{seed}", dim)
    with MemoryWriter(folder, info, dtype) as writer:
        for start in range(0, rows, shard_size):
            numbers = range(start, min(start + shard_size, rows))
            about = [Row(f"{n:08d}", f"../pictures/{n:08d}.jpg", f"{n:064x}", None) for n in numbers]
            bad = range(skips if start == 0 else 0)
            skipped = [Skip(f"bad-{n}", modality, f"../pictures/bad-{n}.jpg", None, "empty file") for n in bad]
            writer.append(modality, rng.standard_normal((len(numbers), dim), dtype=np.float32), about, skipped)
    return folder


def main() -> None:
    """Time ``cmcr info`` beside ``cmcr --version``, which only starts and ends."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--skips", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        memory = make_big_memory(Path(folder, "mem"), given.rows, given.dim, skips=given.skips)
        print(f"made in {time.perf_counter() - start:.1f} s")
        for arguments in (["--version"], ["info", str(memory)]) * 3:
            start = time.perf_counter()
            subprocess.run([sys.executable, "-m", "cmcr", *arguments], check=True, capture_output=True)
            print(f"cmcr {arguments[0]}: {time.perf_counter() - start:.2f} s")


if __name__ == "__main__":
    main()
