"""The training pairs of a connection: overlap rows joined by id, each with what both memories recall for it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cmcr.devices import Products, choose_products, matrix_products
from cmcr.errors import ArtifactError
from cmcr.hooks import Progress, silent
from cmcr.memory import Memory
from cmcr.memory.cached import reuse_or_write
from cmcr.memory.overlap import Side
from cmcr.modality import Modality
from cmcr.numbers.recall import recall, recall_nearest
from cmcr.numbers.rows import read_rows
from cmcr.search import ExactIndex, Index
from cmcr.search.graphs import graphs, pays

QUERIES = 16_384
"""Overlap rows that share one pass over a memory."""
GATHERED = 1 << 15
"""Recalled rows held at a time by the top-k."""


@dataclass(frozen=True)
class Pairs:
    """Rows in four aligned arrays; the two pseudo arrays are None without memories.

    Attributes:
        overlap_a: (N, D_a) unit overlap rows in the first space.
        overlap_b: (N, D_b) the same rows in the second.
        pseudo_a: (N, D_a) what the first memory's outer modality recalls for each row.
        pseudo_b: (N, D_b) the second's.
    """

    overlap_a: np.ndarray
    overlap_b: np.ndarray
    pseudo_a: np.ndarray | None = None
    pseudo_b: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.overlap_a)

    def take(self, rows: np.ndarray, device: str = "cpu") -> PairBatch:
        """Return the (B,) row numbers ``rows`` of each array, (N, D) float16 on disk, as (B, D) float32 tensors."""

        def tensor(array: np.ndarray | None) -> torch.Tensor | None:
            return None if array is None else torch.from_numpy(read_rows(array, rows)).to(device)

        overlap = tensor(self.overlap_a), tensor(self.overlap_b)
        return PairBatch(overlap[0], overlap[1], tensor(self.pseudo_a), tensor(self.pseudo_b))  # type: ignore[arg-type]


@dataclass(frozen=True)
class PairBatch:
    """Some of the rows of ``Pairs`` as float32 tensors."""

    overlap_a: torch.Tensor
    overlap_b: torch.Tensor
    pseudo_a: torch.Tensor | None
    pseudo_b: torch.Tensor | None


def build_pairs(
    a: Side,
    b: Side,
    folder: Path,
    tau: float,
    top_k: int = 0,
    device: str = "cpu",
    precision: Products = "fp32",
    progress: Progress = silent,
) -> Pairs:
    """Compute the pairs of two memories into ``folder`` as float16 .npy files, or reuse those that are there.

    The full softmax over each memory, streamed (``top_k`` 0), or only its ``top_k`` nearest rows: found exactly, or by
    HNSW graphs, which are kept beside the pairs, where so many overlap rows ask that building them ``pays``.

    Returns:
        The pairs, memory-mapped.
    """
    # Files are made one after the other and named by what made them: after a kill, the finished ones are found again.
    total = sum((1 + (side.outer is not None)) * len(side.rows) for side in (a, b))
    arrays: list[np.ndarray | None] = []
    done = 0
    for name, side in (("a", a), ("b", b)):
        for part in ("overlap", "pseudo"):
            if part == "pseudo" and side.outer is None:
                arrays.append(None)
                continue
            key = _key(side, part, tau, top_k or choose_products(device, precision))
            path = folder / f"{part}_{name}.npy"

            def blocks(side: Side = side, part: str = part) -> Iterator[np.ndarray]:
                if part == "overlap":
                    return _overlap_blocks(side)
                return recalled_blocks(
                    side, _overlap_blocks(side), len(side.rows), folder, tau, top_k, device, precision, progress
                )

            shape = len(side.rows), side.memory.encoder.dim
            arrays.append(reuse_or_write(path, key, shape, blocks, progress, done, total))
            done += len(side.rows)
    if arrays[0] is None or arrays[2] is None:
        raise ArtifactError(f"{folder}: no overlap rows")
    return Pairs(arrays[0], arrays[2], arrays[1], arrays[3])


def _key(side: Side, part: str, tau: float, how: int | str) -> str:
    made_from = [side.memory.fingerprint(side.overlap), hashlib.sha256(side.rows.astype("<i8").tobytes()).hexdigest()]
    if part == "pseudo" and side.outer is not None:
        made_from += [side.memory.fingerprint(side.outer), repr(tau), str(how)]
    return hashlib.sha256(" ".join([part, *made_from]).encode()).hexdigest()


def _overlap_blocks(side: Side) -> Iterator[np.ndarray]:
    for start in range(0, len(side.rows), QUERIES):
        yield side.memory.vectors(side.overlap, side.rows[start : start + QUERIES])


def recalled_blocks(
    side: Side,
    queries: Iterator[np.ndarray],
    count: int,
    folder: Path,
    tau: float,
    top_k: int,
    device: str,
    precision: Products,
    progress: Progress = silent,
) -> Iterator[np.ndarray]:
    """Yield what a side's memory recalls for blocks of (n, D) unit queries, ``count`` in all; as ``build_pairs``."""
    if top_k:
        return _nearest_blocks(side, queries, count, tau, top_k, folder, progress)
    return _recalled_blocks(side, queries, tau, device, precision)


def _recalled_blocks(
    side: Side, queries: Iterator[np.ndarray], tau: float, device: str, precision: Products
) -> Iterator[np.ndarray]:
    blocks = _held_blocks(side.memory, side.recalled, device)
    for block in queries:
        # Entered anew for each block: what runs between two of them is not ours.
        with matrix_products(device, precision):
            recalled = recall(torch.from_numpy(block).to(device), blocks, tau)
        yield recalled.cpu().numpy()


def _held_blocks(memory: Memory, modality: Modality, device: str) -> Callable[[], Iterator[Any]]:
    """Return a memory's blocks; a GPU with room for them is sent them once, not again for each block of queries."""
    size = 4 * memory.rows(modality) * memory.encoder.dim
    if not device.startswith("cuda") or size > torch.cuda.mem_get_info()[0] // 2:
        return lambda: memory.blocks(modality)
    held = [torch.from_numpy(block).to(device) for block in memory.blocks(modality)]
    return lambda: iter(held)


def _nearest_blocks(
    side: Side, queries: Iterator[np.ndarray], count: int, tau: float, top_k: int, folder: Path, progress: Progress
) -> Iterator[np.ndarray]:
    memory, outer = side.memory, side.recalled
    index: Index = ExactIndex(lambda: memory.blocks(outer))
    if pays(count, memory.rows(outer)):
        index = graphs(memory, outer, folder / "graphs", progress)
    size = max(1, GATHERED // top_k)
    for block in queries:
        hits = index.search(block, top_k)
        for start in range(0, len(block), size):
            scores, rows = (torch.from_numpy(each[start : start + size]) for each in hits)
            found = memory.vectors(outer, rows.clamp_min(0).flatten().numpy())
            yield recall_nearest(scores, torch.from_numpy(found).view(*rows.shape, -1), tau).numpy()
