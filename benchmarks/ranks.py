"""How well do two processes train together? Against one on the same joint batch, into benchmarks/README.md.

    python benchmarks/ranks.py [--rounds 3] [--batch 10240]

Two gloo ranks of one thread each against one process of one thread (ideal: half the time) and of two (ideal: the same).
Two cores must be free: a rank that shares its core keeps the other waiting.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from quality import replace
from speed import README
from step_memory import DIM, HIDDEN, made_up, resident

from cmcr import ConnectConfig, ranks
from cmcr.connect import new_projectors
from cmcr.connect.methods.c_mcr import batch_loss
from cmcr.connect.pairs import PairBatch
from cmcr.connect.train import _step
from cmcr.devices import matrix_products
from cmcr.space.batch_norm import join_batch_norms


class Meter:
    """Counts what a rank sends and the seconds it spends in collectives, waiting included."""

    def __init__(self) -> None:
        self.bytes, self.calls, self.waited = 0, 0, 0.0

    def around(self, collective: Callable[..., Any]) -> Callable[..., Any]:
        """Return the collective, counted; its tensor is the last of its tensors."""

        def counted(*given: Any, **more: Any) -> Any:
            tensor = next(each for each in reversed(given) if isinstance(each, torch.Tensor))
            self.bytes, self.calls = self.bytes + tensor.nbytes, self.calls + 1
            start = time.perf_counter()
            result = collective(*given, **more)
            self.waited += time.perf_counter() - start
            return result

        return counted


class Objective:
    """C-MCR's loss of rows that are there."""

    def __init__(self, config: ConnectConfig) -> None:
        self.config = config

    def loss(self, maps: Any, batch: PairBatch, noise: torch.Generator, joined: ranks.Ranks) -> torch.Tensor:
        """Return it."""
        return batch_loss(maps, batch, self.config, noise, joined)


def steps(batch: int, rounds: int) -> dict[str, float]:
    """Take steps as this rank, and return seconds a step, GB above the inputs, and what was exchanged."""
    with ranks.joined("cpu") as joined:
        meter = Meter()
        if joined.size > 1:
            for name in ("all_gather", "all_reduce"):
                setattr(torch.distributed, name, meter.around(getattr(torch.distributed, name)))
        config = ConnectConfig(dim=DIM, hidden=HIDDEN)
        maps = new_projectors(config, DIM, DIM)
        model = torch.nn.ModuleList(maps)
        join_batch_norms(model, joined)
        optimizer, noise = torch.optim.AdamW(model.parameters(), lr=1e-3), torch.Generator().manual_seed(0)
        own = [part.chunk(joined.size)[joined.rank].clone() for part in vars(made_up(batch)).values()]
        took, before = [], resident("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")
        with matrix_products("cpu", "fp32"):
            for _ in range(rounds + 1):
                meter.bytes, meter.calls, meter.waited = 0, 0, 0.0
                start = time.perf_counter()
                _step(Objective(config), maps, optimizer, PairBatch(*own), noise, joined)  # type: ignore[arg-type]
                took.append(time.perf_counter() - start)
        above = resident("VmHWM") - before
    return {"seconds": took[-1], "memory": above, **vars(meter)}


def launched(size: int, threads: int, batch: int, rounds: int) -> list[dict[str, float]]:
    """Start the processes of a run and return what each measured."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = [sys.executable, __file__, "--worker", "--batch", str(batch), "--rounds", str(rounds)]
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(size)}
    started = [
        subprocess.Popen(
            command,
            env=os.environ | place | {"RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": str(threads)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]
    return [json.loads(process.communicate()[0]) for process in started]


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=10_240)
    parser.add_argument("--worker", action="store_true", help="measure as the rank that the environment names")
    asked = parser.parse_args()
    if asked.worker:
        sys.stdout.write(json.dumps(steps(asked.batch, asked.rounds)))
        return
    kinds = {"1 process, 1 thread": (1, 1), "1 process, 2 threads": (1, 2), "2 ranks, 1 thread each": (2, 1)}
    found = [{name: launched(*kind, asked.batch, 2) for name, kind in kinds.items()} for _ in range(asked.rounds)]
    table = ["| processes | seconds a step | memory a rank, above the inputs |", "|---|--:|--:|"]
    for name in kinds:
        times = sorted(max(rank["seconds"] for rank in each[name]) for each in found)
        above = max(rank["memory"] for each in found for rank in each[name])
        cells = f"{statistics.median(times):.2f} ({times[0]:.2f} to {times[-1]:.2f}) | {above:.2f} GB"
        table.append(f"| {name} | {cells} |")

    def share(name: str, ideal: float) -> str:
        both = [(each[name][0]["seconds"], max(r["seconds"] for r in each[list(kinds)[2]])) for each in found]
        shares = sorted(one / two / ideal for one, two in both)
        return f"{statistics.median(shares):.0%} ({shares[0]:.0%} to {shares[-1]:.0%})"

    together = [rank for each in found for rank in each[list(kinds)[2]]]
    waits = statistics.median(rank["waited"] / rank["seconds"] for rank in together)
    about = (
        f"`python benchmarks/ranks.py`: a float32 step of C-MCR, joint batch {asked.batch:,}, {DIM}-{HIDDEN}-{DIM}, "
        f"gloo on one machine, {asked.rounds} rounds in turn, median (range). Two ranks of a thread reach "
        f"**{share('1 process, 1 thread', 2)}** of twice one thread's rate, and **{share('1 process, 2 threads', 1)}** "
        f"of a process of two threads. A rank gives {together[0]['bytes'] / 1e6:.0f} MB in "
        f"{together[0]['calls']:.0f} collectives a step, and spends {waits:.0%} of the step in them, waiting included."
    )
    replace(README, "ranks", f"## Two ranks\n\n{about}\n\n" + "\n".join(table))
    sys.stderr.write(about + "\n")


if __name__ == "__main__":
    main()
