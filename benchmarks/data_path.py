"""Does training from pairs larger than memory stay small, and does it wait for the disk?

    python benchmarks/data_path.py                   # 2,000,000 x 4 x 512 float16: 8 GB in a temporary folder
    python benchmarks/data_path.py --rows 200000 --steps 3

The pairs are random unit vectors (blocks of 100,000 rows, repeated). Each loader trains in a process of its own, with
the training loop of ``cmcr connect``; the file is dropped from the system's cache first, as far as the system lets us.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

PARTS = ("overlap_a", "overlap_b", "pseudo_a", "pseudo_b")
BLOCK = 100_000
LOADERS = ("ours", "naive")


class EnoughError(Exception):
    """The steps asked for are done."""


def write_pairs(folder: Path, rows: int, dim: int) -> None:
    """Write the four arrays as ``cmcr connect`` does."""
    for seed, part in enumerate(PARTS):
        block = np.random.default_rng(seed).standard_normal((min(rows, BLOCK), dim), dtype=np.float32)
        block = (block / np.linalg.norm(block, axis=1, keepdims=True)).astype("<f2")
        with (folder / f"{part}.npy").open("wb") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "<f2", "fortran_order": False, "shape": (rows, dim)})
            for start in range(0, rows, len(block)):
                file.write(block[: rows - start].tobytes())
            file.flush()
            os.fsync(file.fileno())


def forget(path: Path) -> None:
    """Ask the system to drop a file from its cache."""
    if hasattr(os, "posix_fadvise"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def resident() -> dict[str, float]:
    """Return this process's peak and present memory in MB (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    found = dict(line.split(":", 1) for line in lines)
    return {name: int(found[name].split()[0]) / 1e3 for name in ("VmHWM", "RssAnon", "RssFile")}


def train(folder: Path, loader: str, batch: int, steps: int) -> dict[str, Any]:
    """Train some steps on the pairs; the first one, which nothing precedes, is left out of the times."""
    from cmcr import ConnectConfig
    from cmcr.connect import train as training
    from cmcr.connect.methods.c_mcr import fit
    from cmcr.connect.pairs import PairBatch, Pairs

    peaks, waits, ends = [resident()], [], []

    def timed(make: Callable[[Any], PairBatch], wanted: Iterable[Any]) -> Iterator[PairBatch]:
        made = read(make, wanted)
        for _ in range(steps):
            start = time.perf_counter()
            rows = next(made)
            waits.append(time.perf_counter() - start)
            yield rows
        made.close()

    def in_the_step(make: Callable[[Any], PairBatch], wanted: Iterable[Any]) -> Iterator[PairBatch]:
        yield from map(make, wanted)

    def stepped(done: int, total: int, note: str) -> None:
        ends.append(time.perf_counter())
        peaks.append(resident())
        if done == steps:
            raise EnoughError

    read = training.ahead if loader == "ours" else in_the_step
    training.ahead = timed
    if loader == "naive":
        Pairs.take = naive_take
    pairs = Pairs(
        *(np.load(folder / f"{part}.npy", mmap_mode="r") for part in (PARTS[0], PARTS[1], PARTS[2], PARTS[3]))
    )
    config = ConnectConfig(batch_size=batch)
    with contextlib.suppress(EnoughError):
        fit(pairs, np.arange(len(pairs)), config, lambda *projectors: {"selection": 0.0}, progress=stepped)
    step = np.diff(ends)
    return {
        "loader": loader,
        "peak MB": max(peak["VmHWM"] for peak in peaks),
        "own MB": max(peak["RssAnon"] for peak in peaks),
        "mapped MB": max(peak["RssFile"] for peak in peaks),
        "imports MB": peaks[0]["VmHWM"],
        "step s": float(np.median(step)),
        "wait s": float(np.median(waits[1:])),
        "wait %": 100 * sum(waits[1:]) / step.sum(),
        "first wait s": waits[0],
    }


def naive_take(self: Any, rows: np.ndarray, device: str = "cpu") -> Any:
    """Index the mapped arrays, as one does."""
    import torch

    from cmcr.connect.pairs import PairBatch

    arrays = (self.overlap_a, self.overlap_b, self.pseudo_a, self.pseudo_b)
    return PairBatch(*(torch.from_numpy(array[rows].astype(np.float32)).to(device) for array in arrays))


def rows(count: int = 2_000_000, dim: int = 512, batch: int = 10_240, steps: int = 5) -> list[dict[str, Any]]:
    """Measure each loader in a fresh process; memory in MB, times in seconds, the wait as a share of the step."""
    measured = []
    with tempfile.TemporaryDirectory() as folder:
        write_pairs(Path(folder), count, dim)
        for loader in LOADERS:
            for part in PARTS:
                forget(Path(folder) / f"{part}.npy")
            command = [sys.executable, __file__, "--child", folder, loader, str(batch), str(steps)]
            done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
            measured.append(json.loads(done.stdout))
    return measured


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--batch", type=int, default=10_240)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.child:
        folder, loader, batch, steps = flags.child
        print(json.dumps(train(Path(folder), loader, int(batch), int(steps))))
        return
    found = rows(flags.rows, flags.dim, flags.batch, flags.steps)
    table = ["| " + " | ".join(found[0]) + " |", "|---" + "|--:" * (len(found[0]) - 1) + "|"]
    for row in found:
        cells = (value if isinstance(value, str) else f"{value:.3g}" for value in row.values())
        table.append("| " + " | ".join(cells) + " |")
    about = (
        f"`python benchmarks/data_path.py`: {flags.rows:,} x 4 x {flags.dim} float16 on disk "
        f"({8e-9 * flags.rows * flags.dim:.1f} GB), {flags.steps} training steps at batch {flags.batch:,}, each loader "
        "in its own process, page cache dropped before. The first wait, once a run, is no part of the share."
    )
    from quality import README, replace

    replace(README, "data", f"## Data path\n\n{about}\n\n" + "\n".join(table))


if __name__ == "__main__":
    main()
