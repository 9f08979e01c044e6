"""How fast and how large is a training step at the paper's size? Into benchmarks/README.md.

    python benchmarks/training_step.py [--rounds 3]

Each row's sides are measured in turn in one run: our step, the naive float32 step, and the matrix products that a step
cannot do without (three for a similarity block, five for a projector), tile by tile at the same precision.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from pathlib import Path

import torch
from quality import replace
from speed import README, seconds
from step_memory import DIM, HIDDEN, Step, made_up

from cmcr import ConnectConfig
from cmcr.devices import has_bf16, matrix_products

BATCH, TILE = 10_240, 1024


def products(precision: str) -> None:
    """Do the necessary products of a step: two similarity blocks, two projectors over overlap and pseudo rows."""
    x, y, out = torch.ones(TILE, DIM), torch.ones(TILE, DIM), torch.empty(TILE, TILE)
    gradient, weight, wide = torch.zeros(TILE, DIM), torch.ones(HIDDEN, DIM), torch.empty(TILE, HIDDEN)
    with matrix_products("cpu", precision):  # type: ignore[arg-type]
        for _ in range(2 * (BATCH // TILE) ** 2):
            torch.mm(x, y.T, out=out)
            gradient.addmm_(out, y, alpha=1e-6)
            gradient.addmm_(out.T, x, alpha=1e-6)
        for _ in range(2 * 2 * BATCH // TILE):
            for _ in range(2):
                torch.mm(x, weight.T, out=wide)
            gradient.addmm_(wide, weight, alpha=1e-9)
            for _ in range(2):
                weight.addmm_(wide.T, x, alpha=1e-9)


def memory(*arguments: str) -> list[str]:
    """Return gigabytes above the inputs, in all, and seconds of a first step, measured in its own process."""
    script = str(Path(__file__).with_name("step_memory.py"))
    return subprocess.run(
        [sys.executable, script, *arguments], capture_output=True, text=True, check=True
    ).stdout.split()


def distill_ratio(rounds: int, hidden: int, trust: float) -> str:
    """Return the cost of a step of distill against one of C-MCR, at the batch of a mid-sized run."""
    from distill_step import steps

    ours, other = steps(ConnectConfig(), ConnectConfig(method="distill", hidden=hidden), 1024, trust)
    pairs = [(seconds(ours), seconds(other)) for _ in range(5 * rounds)][1:]
    ratios = sorted(distill / plain for plain, distill in pairs)
    return f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    batch = made_up(BATCH)
    naive = Step("naive", batch, "fp32")
    lines = []
    base = float(memory("naive", str(BATCH), "fp32")[0])
    for precision in ("fp32", "bf16") if has_bf16("cpu") else ("fp32",):
        ours = Step("ours", batch, precision)
        sides = ours, naive, lambda precision=precision: products(precision)
        times = [[seconds(side) for side in sides] for _ in range(rounds + 1)][1:]
        faster, share = sorted(n / o for o, n, _ in times), sorted(p / o for o, _, p in times)
        middle = [statistics.median(side) for side in zip(*times, strict=True)]
        above = float(memory("ours", str(BATCH), precision)[0])
        cells = [
            precision, *(f"{value:.2f} s" for value in middle),
            f"{statistics.median(faster):.2f} ({faster[0]:.2f} to {faster[-1]:.2f})",
            f"{statistics.median(share):.0%} ({share[0]:.0%} to {share[-1]:.0%})",
            f"{above:.2f} of {base:.2f} GB ({above / base:.0%})",
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
        sys.stderr.write(lines[-1] + "\n")
    large = memory("ours", "65536", "bf16" if has_bf16("cpu") else "fp32")
    head = ["products", "our step", "naive float32 step", "its necessary products", "times faster than naive"]
    head += ["share of the products' rate", "memory above the inputs, of naive's"]
    table = ["| " + " | ".join(head) + " |", "|---|" + "--:|" * (len(head) - 1), *lines]
    about = (
        f"`python benchmarks/training_step.py`: batch {BATCH:,}, {DIM}-{HIDDEN}-{DIM}, both losses, {rounds} rounds "
        f"in turn, median (range), {torch.get_num_threads()} CPU threads, torch {torch.__version__}. At batch 65,536 "
        f"a step took {large[2]} s and {large[1]} GB in all, Python and inputs included. A step of `distill` takes "
        f"{distill_ratio(rounds, HIDDEN, 0.0)} times one of C-MCR with projectors of its shapes, "
        f"{distill_ratio(rounds, 0, 0.0)} with its own (512, hidden 1,024), where pairs do not count; "
        f"{distill_ratio(rounds, HIDDEN, 0.9)} and {distill_ratio(rounds, 0, 0.9)} at trust 0.9 (batch 1,024)."
    )
    replace(README, "step", f"## Training step\n\n{about}\n\n" + "\n".join(table))


if __name__ == "__main__":
    main()
