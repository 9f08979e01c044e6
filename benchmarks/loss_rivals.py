"""The contrastive loss alone against others' on the same work, value and gradient. Into benchmarks/README.md.

    python benchmarks/loss_rivals.py [--rounds 5] [--threads 2] [--batch 10240]

All sides in turn in one run, on one pair of float32 matrices; memory above the inputs in a process of its own each.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import naive
import torch
from quality import replace
from speed import README, seconds
from step_memory import DIM, resident
from torch import Tensor

from cmcr.numbers import info_nce, losses

TAU, CHUNK, TILE = 0.05, 1024, 1024
Loss = Callable[[Tensor, Tensor], Tensor]


def nothing_kept(x: Tensor, y: Tensor) -> Tensor:
    """Return ours where each tile is computed twice, in the least memory."""
    kept, losses.KEPT = losses.KEPT, 0
    try:
        return info_nce(x, y, TAU)
    finally:
        losses.KEPT = kept


def clip_loss(x: Tensor, y: Tensor) -> Tensor:
    """Return open_clip's loss, which makes the similarities of both directions and holds them."""
    from open_clip.loss import ClipLoss

    value: Tensor = ClipLoss()(x, y, torch.tensor(1 / TAU))
    return value


def chunked(x: Tensor, y: Tensor) -> Tensor:
    """Return the loss as gradient caching (arXiv 2101.06983) has it: by chunks of rows, each with its gradient at once.

    Our own few lines of the published idea; both directions, so that each similarity is made twice. Gradients are
    cached in leaves, and given to ``x`` and ``y`` by a product that stands for the value.
    """
    leaves = [tensor.detach().requires_grad_() for tensor in (x, y)]
    total = x.new_zeros(())
    for rows, columns in (leaves, leaves[::-1]):
        for start in range(0, len(x), CHUNK):
            part = rows[start : start + CHUNK]
            target = torch.arange(start, start + len(part))
            loss = torch.nn.functional.cross_entropy(part @ columns.T / TAU, target, reduction="sum") / (2 * len(x))
            loss.backward()
            total += loss.detach()
    gradients = [leaf.grad for leaf in leaves if leaf.grad is not None]
    cached = (x * gradients[0]).sum() + (y * gradients[1]).sum()
    return total + cached - cached.detach()


def linear_cross_entropy(x: Tensor, y: Tensor) -> Tensor:
    """Return torch's own fused loss of a linear layer, by chunks; one call a direction."""
    function, options = torch.nn.functional.linear_cross_entropy, torch.nn.LinearCrossEntropyOptions()
    target = torch.arange(len(x))
    both = [function(a / TAU, b, target, options=options) for a, b in ((x, y), (y, x))]
    value: Tensor = (both[0] + both[1]) / 2
    return value


def sides() -> dict[str, Loss]:
    """Return the losses that run here, ours first."""
    found: dict[str, Loss] = {
        "ours": lambda x, y: info_nce(x, y, TAU),
        "ours, no tile kept": nothing_kept,
        "held whole": lambda x, y: naive.info_nce(x, y, TAU),
    }
    found |= {"open_clip ClipLoss": clip_loss, "chunks with cached gradients": chunked}
    if hasattr(torch.nn, "LinearCrossEntropyOptions"):
        found["torch linear_cross_entropy"] = linear_cross_entropy
    return found


def rows(batch: int) -> list[Tensor]:
    """Return two matrices of unit rows that are alike in pairs."""
    generator = torch.Generator().manual_seed(0)
    shared = torch.randn(batch, DIM, generator=generator)
    made = (shared + torch.randn(batch, DIM, generator=generator) for _ in range(2))
    return [torch.nn.functional.normalize(each, dim=1).requires_grad_() for each in made]


def value_and_gradients(loss: Loss, given: list[Tensor]) -> list[Tensor]:
    """Return them."""
    value = loss(*given)
    return [value.detach(), *torch.autograd.grad(value, given)]


def products(given: list[Tensor]) -> None:
    """Do the three products of a similarity block that no gradient can do without, tile by tile."""
    x, y = (each[:TILE].detach() for each in given)
    out, gradient = torch.empty(TILE, TILE), torch.zeros(TILE, DIM)
    for _ in range((len(given[0]) // TILE) ** 2):
        torch.mm(x, y.T, out=out)
        gradient.addmm_(out, y, alpha=1e-6)
        gradient.addmm_(out.T, x, alpha=1e-6)


def assert_equal(found: dict[str, list[Tensor]]) -> None:
    """Hold that all values and gradients are those of the similarities held whole, to 1e-5 of the largest."""
    for name, each in found.items():
        for ours, exact in zip(each, found["held whole"], strict=True):
            apart = float((ours - exact).abs().max() / exact.abs().max())
            if apart > 1e-5:
                raise SystemExit(f"{name} is {apart:.1e} from the others")


def peak(name: str, batch: int) -> float:
    """Print what a side takes above its inputs, in GB; called in a process of its own."""
    value_and_gradients(sides()[name], rows(64))
    given = rows(batch)
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    value_and_gradients(sides()[name], given)
    return resident("VmHWM") - before


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=10_240)
    parser.add_argument("--peak", help="only the memory of this side")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    if asked.peak:
        sys.stdout.write(f"{peak(asked.peak, asked.batch):.3f}\n")
        return
    rivals, given = sides(), rows(asked.batch)
    assert_equal({name: value_and_gradients(loss, given) for name, loss in rivals.items()})
    times: dict[str, list[float]] = {name: [] for name in (*rivals, "products")}
    for _ in range(asked.rounds):
        for name, loss in rivals.items():
            times[name].append(seconds(partial(value_and_gradients, loss, given)))
        times["products"].append(seconds(lambda: products(given)))
    table = ["| loss | seconds | times ours | memory above the inputs | share of the products' rate |"]
    table.append("|---|--:|--:|--:|--:|")
    for name in rivals:
        ratio = sorted(t / o for t, o in zip(times[name], times["ours"], strict=True))
        share = sorted(p / t for t, p in zip(times[name], times["products"], strict=True))
        command = [
            sys.executable,
            __file__,
            "--peak",
            name,
            "--batch",
            str(asked.batch),
            "--threads",
            str(asked.threads),
        ]
        above = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        cells = [
            name, f"{statistics.median(times[name]):.2f}",
            f"{statistics.median(ratio):.2f} ({ratio[0]:.2f} to {ratio[-1]:.2f})", f"{above:.2f} GB",
            f"{statistics.median(share):.0%} ({share[0]:.0%} to {share[-1]:.0%})",
        ]  # fmt: skip
        table.append("| " + " | ".join(cells) + " |")
        sys.stderr.write(table[-1] + "\n")
    about = (
        f"`python benchmarks/loss_rivals.py`: {asked.batch:,} x {DIM}, value and gradients of one pair of matrices, "
        f"tau {TAU}, float32, {asked.rounds} rounds in turn, median (range), {asked.threads} threads, torch "
        f"{torch.__version__}. All values and gradients are equal to 1e-5 of the largest. Inf-CL (arXiv 2410.17243), "
        "the newest loss by tiles, has kernels for CUDA alone; DisCo-CLIP (arXiv 2304.08480) saves between several "
        "processes and is on one the loss held whole; gradient caching is our own few lines of arXiv 2101.06983, what "
        "sentence-transformers calls a cached loss."
    )
    replace(README, "loss", f"## The loss against others\n\n{about}\n\n" + "\n".join(table))


if __name__ == "__main__":
    main()
