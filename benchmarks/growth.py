"""How do time and memory grow with the rows of a memory, for every stage of connecting and searching?

    python benchmarks/growth.py [--most 1000000] [--limit 60]     # writes growth.svg and its table into README.md

Both memories hold as many texts as outer rows, of 512 components, on disk as float16. Every figure is of a process of
its own: seconds of one run, of all processors together, so that a busy machine tells nearly the same, and how far its
memory rose above what it had before (pages of mapped files included). A stage is not run where the size before tells
that it would take longer than the limit.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace as changed
from pathlib import Path
from typing import Any

import numpy as np
import torch
from plots import draw
from quality import replace
from search import DIM, K, embeddings
from speed import README
from step_memory import resident

from cmcr import ConnectConfig
from cmcr.connect.methods.c_mcr import CMcrObjective
from cmcr.connect.nearness import ANCHORS
from cmcr.connect.pairs import Pairs, build_pairs
from cmcr.connect.train import fit
from cmcr.devices import matrix_products
from cmcr.memory import EncoderInfo, Memory, MemoryWriter, Row
from cmcr.memory.overlap import Side, join
from cmcr.modality import Modality
from cmcr.numbers.recall import as_values, recall_through
from cmcr.search import build_index, exact_search

TEXT, IMAGE = Modality.TEXT, Modality.IMAGE
SIZES, BATCH, BLOCK = (10_000, 30_000, 100_000, 300_000, 1_000_000), 1024, 1024
Work = Callable[[], object]


def write(folder: Path, name: str, rows: int) -> None:
    """Write a memory of ``rows`` texts, the same for all, and as many images."""
    with MemoryWriter(folder / name, EncoderInfo(name, name, DIM)) as writer:
        for modality, seed in ((TEXT, 1), (IMAGE, 2)):
            for start in range(0, rows, 100_000):
                about = [Row(str(number), "", None, None) for number in range(start, min(start + 100_000, rows))]
                writer.append(modality, embeddings(len(about), 10 * start + seed), about)


def memory(folder: Path, name: str = "a") -> Memory:
    """Open one of the two."""
    return Memory.open(folder / name)


def joining(folder: Path) -> Work:
    """Join the texts of two memories by id."""
    return lambda: join(memory(folder), memory(folder, "b"), TEXT)


def pairing(folder: Path) -> Work:
    """Let one memory recall its images for all texts."""
    sides = [Side(memory(folder, name), TEXT, np.arange(memory(folder).rows(TEXT)), IMAGE) for name in "ab"]
    out = Path(tempfile.mkdtemp(dir=folder))
    return lambda: build_pairs(sides[0], changed(sides[1], outer=None), out, 0.01, precision="auto")


def routing(folder: Path) -> Work:
    """Route one memory's images through the texts that it is routed through: at most ``ANCHORS``."""
    held = memory(folder)
    texts = held.vectors(TEXT, np.arange(0, held.rows(TEXT), max(1, -(-held.rows(TEXT) // ANCHORS))))
    anchors = torch.from_numpy(texts)
    with matrix_products("cpu", "auto"):
        both = as_values(torch.cat([anchors, anchors], dim=1))

    def work() -> None:
        for start in range(0, held.rows(IMAGE), BLOCK):
            rows = held.vectors(IMAGE, np.arange(start, min(start + BLOCK, held.rows(IMAGE))))
            with matrix_products("cpu", "auto"):
                recall_through(torch.from_numpy(rows), anchors, both, 0.05)

    return work


def epoch(folder: Path) -> Work:
    """Take an epoch of C-MCR over all texts, from files."""
    held = memory(folder)
    config, arrays = ConnectConfig(epochs=1, batch_size=BATCH), []
    for modality in (TEXT, IMAGE):
        path = folder / f"{modality}.npy"
        np.save(path, np.concatenate([block.astype(np.float16) for block in held.blocks(modality)]))
        arrays.append(np.load(path, mmap_mode="r"))
    pairs = Pairs(arrays[0], arrays[0], arrays[1], arrays[1])
    return lambda: fit(CMcrObjective(pairs, config), np.arange(len(pairs)), config, [{}])


def building(kind: str) -> Callable[[Path], Work]:
    """Build an index of the images."""
    return lambda folder: lambda: build_index(kind, lambda: memory(folder).blocks(IMAGE))


def asking(kind: str) -> Callable[[Path], Work]:
    """Ask an index, or every row, one query after the other: 20 of them."""

    def prepared(folder: Path) -> Work:
        queries, held = embeddings(20, 3), memory(folder)
        if kind == "exact":
            return lambda: [exact_search(held.blocks(IMAGE), query[None], K, unit=True) for query in queries]
        index = build_index(kind, lambda: held.blocks(IMAGE))
        index.search(queries, K)
        return lambda: [index.search(query[None], K) for query in queries for _ in range(10)]

    return prepared


STAGES: dict[str, tuple[Callable[[Path], Work], str, float]] = {
    "joining texts by id": (joining, "a line of metadata a row", 1),
    "pairing": (pairing, "every text meets every row, by nature: 2", 2),
    "routing": (routing, f"every row meets every anchor: 2 up to {ANCHORS:,} texts, 1 beyond", 2),
    "a training epoch": (epoch, f"batches of {BATCH:,}: rows x batch", 1),
    "building ivf": (building("ivf"), "2 root(rows) clusters, each met by every row: 1.5 at last", 1.5),
    "building hnsw": (building("hnsw"), "a search a row, among ever more: rows x log(rows), and caches that miss", 1.2),
    "20 exact queries": (asking("exact"), "every row is read", 1),
    "200 queries of ivf": (asking("ivf"), "a share of the lists that is fixed, after building it: 1 at last", 1.5),
    "200 queries of hnsw": (asking("hnsw"), "log(rows), after building it", 1.2),
}
"""How to prepare each, why it grows as it does, and at which exponent at worst."""


def one(stage: str, folder: Path) -> None:
    """Run a stage in this process, and print what it took."""
    work = STAGES[stage][0](folder)
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
    before, start = resident("VmRSS"), time.process_time()
    work()
    took = time.process_time() - start
    print(json.dumps([took, resident("VmHWM") - before]))


def exponent(points: list[tuple[float, float]]) -> str:
    """Return the slope of the logarithms over the last three sizes: the exponent; blank where too little is known."""
    if len(points) < 2:
        return ""
    x, y = np.log(np.array(points[-3:])).T
    return f"{np.polyfit(x, y, 1)[0]:.2f}"


def measured(folder: Path, most: int, limit: float, only: list[str]) -> Iterator[tuple[str, int, float, float]]:
    """Yield stage, rows, seconds and gigabytes, size by size."""
    last: dict[str, list[tuple[int, float]]] = {stage: [] for stage in only}
    for rows in (size for size in SIZES if size <= most):
        wanted = [stage for stage in only if _reckoned(last[stage], rows, STAGES[stage][2]) <= limit]
        built = {stage.split()[-1] for stage in wanted if stage.startswith("building")}
        wanted = [stage for stage in wanted if " queries of " not in stage or stage.split()[-1] in built]
        for name in "ab":
            write(folder / str(rows), name, rows)
        for stage in wanted:
            command = [sys.executable, __file__, "--stage", stage, "--folder", str(folder / str(rows))]
            found: list[Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
            last[stage].append((rows, found[0]))
            sys.stderr.write(f"{stage}, {rows:,}: {found[0]:.2f} s, {found[1]:.2f} GB\n")
            yield stage, rows, found[0], found[1]


def _reckoned(known: list[tuple[int, float]], rows: int, worst: float) -> float:
    """Return what a stage would take with so many rows: by how it grew last, with some to spare, or as at worst."""
    if len(known) > 1:
        (fewer, before), (more, after) = known[-2:]
        worst = min(worst, float(np.log(after / before) / np.log(more / fewer)) + 0.3)
    return known[-1][1] * (rows / known[-1][0]) ** worst if known else 0.0


def main() -> None:
    """Measure, draw and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--most", type=int, default=SIZES[-1])
    parser.add_argument(
        "--limit", type=float, default=60, help="seconds that a run may take, as far as is known before"
    )
    parser.add_argument("--only", nargs="+", default=list(STAGES), choices=list(STAGES), help="stages; nothing is kept")
    parser.add_argument("--stage", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.stage:
        one(asked.stage, asked.folder)
        return
    times: dict[str, list[tuple[float, float]]] = {stage: [] for stage in asked.only}
    memories: dict[str, list[tuple[float, float]]] = {stage: [] for stage in asked.only}
    with tempfile.TemporaryDirectory() as scratch:
        for stage, rows, took, peak in measured(Path(scratch), asked.most, asked.limit, asked.only):
            times[stage].append((rows, max(took, 1e-3)))
            memories[stage].append((rows, max(peak, 1e-3)))
    if asked.only != list(STAGES):
        return
    draw(README.with_name("growth.svg"), times, "rows of a memory", "seconds")
    sizes = [size for size in SIZES if size <= asked.most]
    table = [f"| stage | {' | '.join(f'{size:,}' for size in sizes)} | exponent | of memory | why |"]
    table.append("|---|" + "--:|" * (len(sizes) + 2) + "---|")
    for stage in asked.only:
        known = {rows: (took, peak) for (rows, took), (_, peak) in zip(times[stage], memories[stage], strict=True)}
        cells = [f"{known[size][0]:.2f} s, {known[size][1]:.2f} GB" if size in known else "" for size in sizes]
        own = f"{exponent(times[stage])} | {exponent(memories[stage])} | {STAGES[stage][1]}"
        table.append(f"| {stage} | {' | '.join(cells)} | {own} |")
    about = (
        f"`python benchmarks/growth.py --most {asked.most} --limit {asked.limit:g}`: processor seconds, and memory "
        f"above what the process had before, {torch.get_num_threads()} threads, one run each; exponents are of the "
        "last three sizes. Empty: the size before told that it would take longer than the limit."
    )
    replace(README, "growth", f"## Growth\n\n{about}\n\n" + "\n".join(table) + "\n\n![time against rows](growth.svg)")


if __name__ == "__main__":
    main()
