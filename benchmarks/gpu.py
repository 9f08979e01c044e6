"""What does a GPU do in a second? Steps, pairing at the paper's scale, and encoding while others decode.

    python benchmarks/gpu.py [--device cuda] [--small]     # into benchmarks/README.md

Rates stand beside those of the bare matrix products on the same card, in the same precision: the limit. ``--small``
tries the script, on any device.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import naive
import numpy as np
import torch
from quality import replace
from speed import README, save_clip, write_photos
from step_memory import DIM, HIDDEN, made_up

from cmcr import ArrayMemory, ConnectConfig, Modality, load_encoder
from cmcr.connect import connect, new_projectors
from cmcr.connect.methods.c_mcr import batch_loss
from cmcr.connect.pairs import PairBatch
from cmcr.devices import matrix_products
from cmcr.embed import embed
from cmcr.encoders.base import Encoder
from cmcr.items import read_items
from cmcr.numbers.recall import recall
from cmcr.numbers.routing import likelihoods

TAU = 0.01
PRECISIONS = ("fp32", "bf16")
Line = tuple[str, str, str, str]
"""What, setting, measured, its share of the limit or a remark."""


class Clock:
    """Seconds of calls on a device that works ahead of Python."""

    def __init__(self, device: str) -> None:
        self.wait: Callable[[], object] = torch.cuda.synchronize if device == "cuda" else lambda: None

    def once(self, function: Callable[[], object]) -> float:
        """Return how long a call takes, its work on the device included."""
        self.wait()
        start = time.perf_counter()
        function()
        self.wait()
        return time.perf_counter() - start

    def median(self, function: Callable[[], object], rounds: int = 5) -> float:
        """Return the median of several calls after a first that is not counted."""
        return statistics.median([self.once(function) for _ in range(rounds + 1)][1:])


def rate(clock: Clock, device: str, precision: str, rows: int) -> float:
    """Return the operations a second of products of (rows, 512) and (512, rows)."""
    x, y = torch.randn(rows, DIM, device=device), torch.randn(rows, DIM, device=device)
    out, total = torch.empty(rows, rows, device=device), torch.zeros(rows, DIM, device=device)

    def products() -> None:
        torch.mm(x, y.T, out=out)
        total.addmm_(out, y, alpha=1e-6)

    with matrix_products(device, precision):  # type: ignore[arg-type]
        return 2 * 2 * rows**2 * DIM / clock.median(products)


def steps(clock: Clock, device: str, batch: int, side: int) -> Iterator[Line]:
    """Measure training steps, ours and naive."""
    rows = PairBatch(*(part.to(device) for part in dataclasses.astuple(made_up(batch))))
    needed = 2 * 3 * 2 * batch**2 * DIM + 2 * 5 * 2 * (2 * batch) * DIM * HIDDEN
    for precision in PRECISIONS:
        limit = rate(clock, device, precision, side)
        found = [_steps(clock, device, precision, rows, loss) for loss in (batch_loss, naive.batch_loss)]
        (ours, room), (other, more) = found
        yield (
            f"training step, {precision}",
            f"batch {batch:,}",
            f"{1e3 * ours:.1f} ms in {room:.2f} GB above the inputs; naive {1e3 * other:.1f} ms in {more:.2f} GB",
            f"{needed / ours / limit:.0%} of {limit / 1e12:.1f} TFLOP/s; naive {needed / other / limit:.0%}",
        )


def _steps(clock: Clock, device: str, precision: str, rows: PairBatch, loss_of: Any) -> tuple[float, float]:
    """Return seconds a step, and gigabytes above the inputs (0 where the device does not count them)."""
    config = ConnectConfig(dim=DIM, hidden=HIDDEN)
    maps = torch.nn.ModuleList(new_projectors(config, DIM, DIM)).to(device)
    optimizer = torch.optim.AdamW(maps.parameters(), lr=1e-3)
    noise = torch.Generator(device).manual_seed(0)

    def step() -> None:
        loss = loss_of((maps[0], maps[1]), rows, config, noise)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated() if device == "cuda" else 0
    with matrix_products(device, precision):  # type: ignore[arg-type]
        took = clock.median(step, 10)
    return took, (torch.cuda.max_memory_allocated() - before) / 1e9 if device == "cuda" else 0.0


def unit(rows: int, device: str, seed: int) -> torch.Tensor:
    """Return random unit rows with a shared part."""
    generator = torch.Generator(device).manual_seed(seed)
    x = torch.randn(rows, DIM, generator=generator, device=device) + 0.5
    return torch.nn.functional.normalize(x, dim=1)


def pairing(clock: Clock, device: str, queries: int, rows: int, side: int) -> Iterator[Line]:
    """Measure exact pairing and the likelihoods that routing rests on."""
    asks, memory = unit(queries, device, 0), unit(rows, device, 1)
    kept = memory.cpu().numpy().astype(np.float16)

    def blocks(size: int = 65_536) -> Iterator[np.ndarray]:
        for start in range(0, rows, size):
            yield kept[start : start + size].astype(np.float32)

    for precision in PRECISIONS:
        limit = rate(clock, device, precision, side)
        with matrix_products(device, precision):  # type: ignore[arg-type]
            takes = clock.median(lambda: recall(asks, lambda: iter(memory.split(65_536)), TAU), 2)
            whole = clock.median(lambda: recall(asks, blocks, TAU), 2)
            tables = clock.median(lambda: [block.sum() for block in likelihoods(asks, memory[:50_000], TAU)], 2)
        needed, table = 4.0 * queries * rows * DIM, 2.0 * queries * min(rows, 50_000) * DIM
        setting = f"{queries:,} x {rows:,}"
        share = (
            f"{needed / takes / limit:.0%} of {limit / 1e12:.1f} TFLOP/s; {needed / whole / limit:.0%} from the host"
        )
        yield f"exact pairing, {precision}", setting, f"{takes:.2f} s; memory on the host: {whole:.2f} s", share
        share = f"{table / tables / limit:.0%} of {limit / 1e12:.1f} TFLOP/s"
        yield f"likelihoods of routing, {precision}", f"{queries:,} x {min(rows, 50_000):,}", f"{tables:.2f} s", share


def whole(device: str, sizes: tuple[int, int, int], method: str, folder: Path) -> Iterator[Line]:
    """Measure connect at the paper's scale: made-up texts, pictures and sounds."""
    texts, pictures, sounds = sizes
    both = unit(texts, device, 2)
    sides = []
    for name, kind, rows, seed in (("a", "image", pictures, 3), ("b", "audio", sounds, 4)):
        noisy = torch.nn.functional.normalize(both + 0.5 * unit(texts, device, seed), dim=1)
        arrays = {"text": noisy.cpu().numpy(), kind: unit(rows, device, 10 + seed).cpu().numpy()}
        sides.append(ArrayMemory(name, arrays))
    config = ConnectConfig(method, epochs=1, seed=0)
    told: dict[str, float] = {}

    def progress(done: int, total: int, note: str) -> None:
        told.setdefault(note.partition(",")[0], time.perf_counter())

    start = time.perf_counter()
    connect(*sides, out=folder / f"space-{method}", config=config, device=device, progress=progress)
    took = time.perf_counter() - start
    begun = "; ".join(f"{note} from {at - start:.0f} s" for note, at in itertools.islice(told.items(), 8))
    yield f"connect, {method}, one epoch", f"{texts:,} texts, {pictures:,} + {sounds:,} rows", f"{took:.0f} s", begun


def encoding(device: str, photos: int, clock: Clock, folder: Path) -> Iterator[Line]:
    """Measure embedding: decoding by threads, a random CLIP ViT-B/32 on the device."""
    write_photos(folder / "photos", min(photos, 200))
    save_clip(folder / "ViT-B-32-quickgelu-openai.pt")
    for number in range(200, photos):
        (folder / "photos" / f"{number}.jpg").write_bytes((folder / "photos" / f"{number % 200}.jpg").read_bytes())
    for precision in ("fp32", "fp16") if device == "cuda" else ("fp32",):
        yield _embedding(clock, load_encoder("clip", device, weights=[folder], precision=precision), folder, precision)


def _embedding(clock: Clock, encoder: Encoder, folder: Path, precision: str) -> Line:
    inputs = read_items(str(folder / "photos"), Modality.IMAGE, encoder.modalities)
    photos, first = len(inputs.items), inputs.items[:256]
    prepared: list[Any] = []
    decoding = clock.once(lambda: prepared.extend(encoder.prepare(item, item.read()) for item in first)) / len(first)
    alone = clock.median(lambda: encoder.encode(Modality.IMAGE, prepared), 3) / len(first)
    takes = clock.once(lambda: embed(encoder, inputs, folder / f"mem-{precision}")) / photos
    setting = f"{photos:,} JPEGs of 600 x 480, random ViT-B/32"
    about = f"encoding alone {1 / alone:,.0f}, one thread decodes {1 / decoding:,.0f}; {os.cpu_count()} cores"
    return f"embed photos, {precision}", setting, f"{1 / takes:,.0f} a second", about


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="tries the script")
    parser.add_argument("--parts", default="steps,pairing,encoding,whole")
    asked = parser.parse_args()
    clock, small, device = Clock(asked.device), asked.small, asked.device
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tile = 512 if small else 8192
        sizes = (3000, 2000, 2500) if small else (1_700_000, 1_300_000, 1_800_000)
        batch, queries, rows = (512, 512, 4000) if small else (10_240, 65_536, sizes[2])
        parts: dict[str, Callable[[], Iterator[Line]]] = {
            "steps": lambda: steps(clock, device, batch, tile),
            "pairing": lambda: pairing(clock, device, queries, rows, tile),
            "encoding": lambda: encoding(device, 64 if small else 6000, clock, folder),
            "whole": lambda: whole(device, sizes, "c-mcr", folder),
        }
        lines = []
        for part in asked.parts.split(","):
            for line in parts[part]():
                lines.append("| " + " | ".join(line) + " |")
                sys.stderr.write(lines[-1] + "\n")
                sys.stderr.flush()
    card = torch.cuda.get_device_name() if device == "cuda" else device
    head = ["| what | setting | measured | share of the products' rate, or where it goes |", "|---|---|--:|---|"]
    about = f"`python benchmarks/gpu.py`: one {card}, torch {torch.__version__}; medians after a warm-up."
    replace(README, "gpu", f"## A GPU\n\n{about}\n\n" + "\n".join([*head, *lines]))


if __name__ == "__main__":
    main()
