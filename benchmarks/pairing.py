"""What does pairing cost against the size of the memory, and how far from the exact result is its top-k?

    python benchmarks/pairing.py [--most 1000000]     # writes benchmarks/pairing.svg and its table into README.md

The memory is made up: texts and images of the same 30 latent dimensions (2,000 clusters), each with its own offset and
noise, so that a text's best images have a cosine of about 0.3, as CLIP's do. It lies on disk as float16.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from quality import replace
from speed import README, seconds
from step_memory import resident

from cmcr.devices import Products, has_bf16, matrix_products, narrow_products
from cmcr.memory import EncoderInfo, Memory, MemoryWriter, Row
from cmcr.modality import Modality
from cmcr.numbers.recall import as_values, recall, recall_nearest, recall_through
from cmcr.search import ExactIndex, Index
from cmcr.search.graphs import graphs, pays

DIM, LATENT, TAU, K, QUERIES = 512, 30, 0.01, 64, 1024
SHARING, ANCHORS = 16_384, 65_536
Line = tuple[str, ...]


def made_up(rows: int, modality: Modality, seed: int) -> np.ndarray:
    """Return (rows, 512) unit vectors of the law above; the seed draws the rows, never the law."""
    law, rng = np.random.default_rng(7), np.random.default_rng(seed)
    mixing, centres = law.standard_normal((LATENT, DIM)) / LATENT**0.5, law.standard_normal((2000, LATENT))
    offset = law.standard_normal((len(Modality), DIM))[list(Modality).index(modality)]
    latent = centres[rng.integers(2000, size=rows)] + 0.6 * rng.standard_normal((rows, LATENT))
    x = np.tanh(latent) @ mixing + 0.8 * offset + 0.6 * rng.standard_normal((rows, DIM))
    return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True), np.float32)


def write_memory(folder: Path, rows: int, shard: int = 100_000) -> Memory:
    """Write a memory of ``rows`` images."""
    with MemoryWriter(folder, EncoderInfo("made-up", "made-up", DIM)) as writer:
        for start in range(0, rows, shard):
            count = min(shard, rows - start)
            metadata = [Row(str(start + number), "", None, None) for number in range(count)]
            writer.append(Modality.IMAGE, made_up(count, Modality.IMAGE, 1 + start), metadata)
    return Memory.open(folder)


def products(queries: torch.Tensor, tile: torch.Tensor, rows: int, values: int = 1) -> None:
    """Multiply the products of a softmax over keys, and of its weights with the values, on one tile: the limit.

    In bf16 the second is of matrices that are bf16 already, which is the faster way.
    """
    narrow = narrow_products("cpu")
    kind = torch.bfloat16 if narrow else torch.float32
    tile = tile[: 4096 if narrow else 1024]
    wide = torch.cat([tile] * values, dim=1).to(kind)
    for part in queries.split(1024):
        room, total = torch.empty(len(part), len(tile)), torch.zeros(len(part), wide.shape[1], dtype=kind)
        weights = torch.zeros(len(part), len(tile), dtype=kind)
        for _ in range(math.ceil(rows / len(tile))):
            torch.mm(part, tile.T, out=room)
            torch.mm(weights, wide, out=total)


def shares(ours: Callable[[], object], limit: Callable[[], object], rounds: int = 3) -> Line:
    """Return the best time of a function and its share of the rate of its products, timed in turn."""
    pairs = [(seconds(ours), seconds(limit)) for _ in range(1 + rounds)][1:]
    found = sorted(least / took for took, least in pairs)
    share = f"{statistics.median(found):.0%} ({found[0]:.0%} to {found[-1]:.0%})"
    return f"{min(took for took, _ in pairs):.2f} s", share


def precisions() -> tuple[Products, ...]:
    """Return the products that this processor has."""
    return ("fp32", "bf16") if has_bf16("cpu") else ("fp32",)


def exact(memory: Memory, queries: torch.Tensor) -> tuple[Line, torch.Tensor]:
    """Measure the whole softmax; return the cells and what is recalled in float32."""
    shown: Line = ()
    found: list[torch.Tensor] = []
    tile, rows = torch.from_numpy(next(memory.blocks(Modality.IMAGE))), memory.rows(Modality.IMAGE)
    for precision in precisions():
        with matrix_products("cpu", precision):
            shown += shares(
                lambda: found.append(recall(queries, lambda: memory.blocks(Modality.IMAGE), TAU)),
                lambda: products(queries, tile, rows),
            )
    return shown, found[0]


def shared(memory: Memory) -> str:
    """Tell what is reached where as many queries share a pass as in connect, and by routing."""
    many = torch.from_numpy(made_up(SHARING, Modality.TEXT, 0))
    own, other, rows = (torch.from_numpy(made_up(n, Modality.TEXT, n)) for n in (ANCHORS, ANCHORS + 1, QUERIES))
    images, both = memory.rows(Modality.IMAGE), torch.cat([own, other[:ANCHORS]], dim=1)
    told = []
    for precision in precisions():
        with matrix_products("cpu", precision):
            passed = shares(
                lambda: recall(many, lambda: memory.blocks(Modality.IMAGE), TAU), lambda: products(many, own, images)
            )
            routing = partial(recall_through, rows, own, as_values(both), 0.05)
            routed = shares(routing, lambda: products(rows, own, ANCHORS, 2), 9)
        told.append(
            f"{precision}: {SHARING:,} queries that share a pass over {images:,} rows, as in "
            f"connect, reach {passed[1]} ({passed[0]}); routing {QUERIES:,} rows through {ANCHORS:,} anchors to both "
            f"spaces {routed[1]} ({routed[0]})"
        )
    return "; ".join(told)


def nearest(memory: Memory, queries: torch.Tensor, truth: torch.Tensor, folder: Path) -> Line:
    """Measure the top-k, exact and by graphs where ever so many queries let them pay; return the cells."""
    took, cosines = recalled(memory, queries, truth, ExactIndex(lambda: memory.blocks(Modality.IMAGE)))
    rows = memory.rows(Modality.IMAGE)
    if not pays(1 << 40, rows):
        return f"{took:.2f} s", "", "", "never", cosines
    opened: list[Index] = []
    building = seconds(lambda: opened.append(graphs(memory, Modality.IMAGE, folder)))
    faster, near = recalled(memory, queries, truth, opened[0])
    least = next(count for count in range(1000, 1 << 40, 1000) if pays(count, rows))
    return f"{took:.2f} s", f"{faster:.2f} s", f"{building:.0f} s", f"{least:,}", f"{cosines}; {near}"


def recalled(memory: Memory, queries: torch.Tensor, truth: torch.Tensor, index: Index) -> tuple[float, str]:
    """Return how long the top-k of an index takes, best of 3, and its cosine to the whole softmax."""
    found: list[torch.Tensor] = []

    def search() -> None:
        del found[:]
        hits = index.search(queries.numpy(), K)
        for scores, near in zip(*(torch.from_numpy(each).split(256) for each in hits), strict=True):
            vectors = memory.vectors(Modality.IMAGE, near.clamp_min(0).flatten().numpy())
            found.append(recall_nearest(scores, torch.from_numpy(vectors).view(*near.shape, -1), TAU))

    took = min([seconds(search) for _ in range(4)][1:])
    cosines = torch.nn.functional.cosine_similarity(torch.cat(found), truth)
    return took, f"{cosines.mean():.5f} / {cosines.quantile(0.01):.4f}"


def plot(lines: list[Line], path: Path) -> None:
    """Draw cost against size, both axes logarithmic."""
    columns = {"exact, float32": (1, "#4269d0"), "exact, bf16": (3, "#3ca951"), f"top-{K}": (-5, "#ff725c")}
    columns = {name: each for name, each in columns.items() if len(lines[0]) == 11 or "bf16" not in name}
    sizes = [int(each[0].replace(",", "")) for each in lines]
    series = {n: ([float(each[i].removesuffix(" s")) for each in lines], c) for n, (i, c) in columns.items()}
    values = [max(value, 0.01) for ys, _ in series.values() for value in ys]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))

    def place(size: float, value: float) -> tuple[float, float]:
        x = 70 + 480 * (math.log10(size) - 4) / 2
        return x, 280 - 240 * (math.log10(max(value, 0.01)) - low) / max(1, high - low)

    out = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 680 330" font-family="sans-serif" font-size="12">']
    out.append('<rect width="680" height="330" fill="white"/>')
    for power in range(low, high + 1):
        y = place(10_000, 10.0**power)[1]
        out.append(f'<path d="M70 {y:.0f}H550" stroke="#ddd"/><text x="62" y="{y + 4:.0f}" text-anchor="end">')
        out.append(f"{10.0**power:g} s</text>")
    for power in (4, 5, 6):
        out.append(f'<text x="{place(10**power, 1)[0]:.0f}" y="300" text-anchor="middle">{10**power:,}</text>')
    out.append(f'<text x="310" y="320" text-anchor="middle">rows of the memory; {QUERIES:,} queries</text>')
    for number, (name, (ys, colour)) in enumerate(series.items()):
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*pair) for pair in zip(sizes, ys, strict=True)))
        out.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out.append(f'<text x="560" y="{60 + 20 * number}" fill="{colour}">{name}</text>')
    path.write_text("\n".join([*out, "</svg>"]) + "\n", "utf-8")


def main() -> None:
    """Measure, draw and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--most", type=int, default=1_000_000)
    sizes = [size for size in (10_000, 30_000, 100_000, 300_000, 1_000_000) if size <= parser.parse_args().most]
    queries = torch.from_numpy(made_up(QUERIES, Modality.TEXT, 0))
    with tempfile.TemporaryDirectory() as scratch:
        memories = [write_memory(Path(scratch) / str(size), size) for size in sizes]
        before = resident("VmRSS")
        measured = []
        for memory in memories:
            Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
            cells, truth = exact(memory, queries)
            measured.append(((*cells, f"{resident('VmHWM') - before:.2f} GB"), truth))
            sys.stderr.write(f"{cells}\n")
        found = [
            nearest(memory, queries, truth, memory.path / "graphs")
            for memory, (_, truth) in zip(memories, measured, strict=True)
        ]
        together = shared(memories[min(1, len(memories) - 1)])
    lines = [(f"{n:,}", *cells, *more) for n, (cells, _), more in zip(sizes, measured, found, strict=True)]
    plot(lines, README.with_name("pairing.svg"))
    precise = ["exact, float32", "share of its products' rate"]
    lower = ["exact, bf16", "share of its products' rate"] if len(lines[0]) == 11 else []
    top = [f"top-{K}", "by graphs", "their building", "they pay from queries", "cosine to exact: mean / 1st percentile"]
    head = ["rows", *precise, *lower, "memory taken", *top]
    table = ["| " + " | ".join(head) + " |", "|" + "--:|" * len(head), *("| " + " | ".join(x) + " |" for x in lines)]
    about = (
        f"`python benchmarks/pairing.py`: {QUERIES:,} queries x {DIM}, tau {TAU}, {torch.get_num_threads()} threads; "
        "best of 3, shares median (range) of 3 in turn with their products. The memory lies on disk, as float16. "
        f"{together}."
    )
    replace(README, "pairing", f"## Pairing\n\n{about}\n\n" + "\n".join(table) + "\n\n![cost](pairing.svg)")


if __name__ == "__main__":
    main()
