"""How much memory does a training step take above its inputs? Prints gigabytes; one process a figure.

python benchmarks/step_memory.py ours 10240 fp32
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import naive
import torch

from cmcr import ConnectConfig
from cmcr.connect import new_projectors
from cmcr.connect.methods.c_mcr import batch_loss
from cmcr.connect.pairs import PairBatch
from cmcr.devices import matrix_products

DIM, HIDDEN = 512, 1024


def made_up(batch: int) -> PairBatch:
    """Return a batch of four rows each that resemble each other: a shared part, and as much of their own."""
    generator = torch.Generator().manual_seed(0)
    shared = torch.randn(batch, DIM, generator=generator)

    def unit() -> torch.Tensor:
        return torch.nn.functional.normalize(shared + torch.randn(batch, DIM, generator=generator), dim=1)

    return PairBatch(unit(), unit(), 0.9 * unit(), 0.8 * unit())


class Step:
    """A training step at the paper's sizes, ours or the naive one."""

    def __init__(self, side: str, rows: PairBatch, precision: str) -> None:
        self.loss = {"ours": batch_loss, "naive": naive.batch_loss}[side]
        self.rows, self.precision = rows, precision
        self.config = ConnectConfig(dim=DIM, hidden=HIDDEN)
        pair = new_projectors(self.config, DIM, DIM)
        self.projectors, self.noise = torch.nn.ModuleList(pair), torch.Generator().manual_seed(0)
        self.optimizer = torch.optim.AdamW(self.projectors.parameters(), lr=1e-3)

    def __call__(self) -> float:
        """Take the step; return the loss before it."""
        with matrix_products("cpu", self.precision):  # type: ignore[arg-type]
            loss = self.loss((self.projectors[0], self.projectors[1]), self.rows, self.config, self.noise)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        return float(loss.detach())


def resident(field: str) -> float:
    """Return VmRSS or VmHWM (its peak) in GB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1e6


def main() -> None:
    """Measure one side."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("side", choices=["ours", "naive"])
    parser.add_argument("batch", type=int)
    parser.add_argument("precision", choices=["bf16", "fp32"])
    asked = parser.parse_args()
    # A small step first: what torch itself needs is no part of the figure.
    Step(asked.side, made_up(64), asked.precision)()
    step = Step(asked.side, made_up(asked.batch), asked.precision)
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
    start = time.perf_counter()
    step()
    took = time.perf_counter() - start
    sys.stdout.write(f"{resident('VmHWM') - before:.3f} {resident('VmHWM'):.3f} {took:.2f}\n")


if __name__ == "__main__":
    main()
