"""The training pairs of a connection: overlap rows joined by id, each with what both memories recall for it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from cmcr.consistency import recall, recall_nearest
from cmcr.devices import Products, choose_products, matrix_products
from cmcr.errors import ArtifactError, InputError
from cmcr.files import atomic, write_json
from cmcr.graphs import graphs
from cmcr.hooks import Progress, silent
from cmcr.ids import join_ids, what_differs
from cmcr.index import ExactIndex, Index
from cmcr.loader import read_rows
from cmcr.memory import Memory
from cmcr.modality import Modality
from cmcr.reading import open_npy, plainly, read_json, reading

QUERIES = 16_384
"""Overlap rows that share one pass over a memory."""
LARGE = 1 << 16
"""Memories of more rows are searched by graphs: the exact top-k takes longer than the whole softmax."""
GATHERED = 1 << 15
"""Recalled rows held at a time by the top-k."""


@dataclass(frozen=True)
class Overlap:
    """Rows of the modality that two memories share.

    Attributes:
        modality: The shared modality.
        rows_a: (N,) row numbers in the first memory, ascending.
        rows_b: (N,) row numbers of the same items in the second.
        only_a: Rows of the first memory that the second lacks.
        only_b: Rows of the second memory that the first lacks.
        unchecked: Joined rows whose content hash at least one memory does not know (imported vectors).
    """

    modality: Modality
    rows_a: np.ndarray
    rows_b: np.ndarray
    only_a: int
    only_b: int
    unchecked: int


def join(a: Memory, b: Memory, via: Modality | None = None) -> Overlap:
    """Join the overlap of two memories by id.

    Args:
        a: The first memory.
        b: The second.
        via: The shared modality, needed when they share several.

    Raises:
        InputError: nothing or several modalities shared, fewer than 2 common ids, or one id with two contents.
    """
    modality = _shared_modality(a, b, via)
    ids_a, hashes_a = _ids_and_hashes(a, modality)
    ids_b, hashes_b = _ids_and_hashes(b, modality)
    rows_a, rows_b = join_ids(ids_a, ids_b, (str(a.path), str(b.path)))
    unchecked = 0
    for row, other in zip(rows_a, rows_b, strict=True):
        if hashes_a[row] is None or hashes_b[other] is None:
            unchecked += 1
        elif hashes_a[row] != hashes_b[other]:
            raise InputError(
                f"{modality} {ids_a[row]!r} has different content in {a.path} and {b.path}; "
                "embed the same files into both memories, or give different items different ids"
            )
    if len(rows_a) < 2:
        raise InputError(
            f"{a.path} and {b.path} share {len(rows_a)} {modality} id(s) of {len(ids_a)} and {len(ids_b)}; at least 2 "
            f"are needed (many more to learn from): embed the same {modality} items into both"
            f"{what_differs(ids_a, ids_b) if not len(rows_a) else ''}"
        )
    only_a, only_b = len(ids_a) - len(rows_a), len(ids_b) - len(rows_b)
    return Overlap(modality, np.array(rows_a), np.array(rows_b), only_a, only_b, unchecked)


def _ids_and_hashes(memory: Memory, modality: Modality) -> tuple[list[str], list[str | None]]:
    rows = [(row.id, row.hash) for row in memory.metadata(modality)]
    return [name for name, _ in rows], [content for _, content in rows]


def _shared_modality(a: Memory, b: Memory, via: Modality | None) -> Modality:
    shared = [modality for modality in a.modalities if modality in b.modalities]
    held = f"{a.path} holds {_names(a.modalities)}, {b.path} holds {_names(b.modalities)}"
    if via is not None:
        if via not in shared:
            raise InputError(f"--via {via}: not in both memories ({held}); embed the same {via} items into both")
        return via
    if not shared:
        raise InputError(f"no common modality: {held}; embed the same items of one modality into both")
    if len(shared) > 1:
        raise InputError(f"several common modalities ({_names(tuple(shared))}); choose the overlap with --via")
    return shared[0]


def outer_modality(memory: Memory, overlap: Modality, wanted: Modality | None) -> Modality:
    """Return the modality of ``memory`` that is connected through the overlap: the other one it holds.

    Raises:
        InputError: there is none, several, or ``wanted`` is not among them.
    """
    others = tuple(modality for modality in memory.modalities if modality != overlap)
    if wanted is not None and wanted not in others:
        raise InputError(f"{memory.path} holds no {wanted} beside the overlap ({_names(others) or 'nothing'})")
    if not others:
        raise InputError(
            f"{memory.path} holds only {overlap}; embed the items it should recall (its other modality) into it"
        )
    if wanted is None and len(others) > 1:
        raise InputError(
            f"{memory.path} holds {_names(others)} beside {overlap}; choose one with --outer-a / --outer-b"
        )
    return wanted or others[0]


def _names(modalities: tuple[Modality, ...]) -> str:
    return ", ".join(modalities) or "nothing"


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

    def take(self, rows: np.ndarray, device: str = "cpu") -> Rows:
        """Return some rows as float32 tensors."""

        def tensor(array: np.ndarray | None) -> torch.Tensor | None:
            return None if array is None else torch.from_numpy(read_rows(array, rows)).to(device)

        overlap = tensor(self.overlap_a), tensor(self.overlap_b)
        return Rows(overlap[0], overlap[1], tensor(self.pseudo_a), tensor(self.pseudo_b))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Rows:
    """A batch of ``Pairs`` as float32 tensors."""

    overlap_a: torch.Tensor
    overlap_b: torch.Tensor
    pseudo_a: torch.Tensor | None
    pseudo_b: torch.Tensor | None


@dataclass(frozen=True)
class Side:
    """One memory's part in the pairs: its overlap rows, and the modality it recalls (None: recall nothing)."""

    memory: Memory
    overlap: Modality
    rows: np.ndarray
    outer: Modality | None


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

    The full softmax over each memory, streamed (``top_k`` 0), or only its ``top_k`` nearest rows: found exactly, or in
    memories above ``LARGE`` rows by HNSW graphs, which are kept beside the pairs.

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
                if top_k:
                    return _nearest_blocks(side, tau, top_k, folder, progress)
                return _recalled_blocks(side, tau, device, precision)

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


def _stored_key(path: Path) -> str | None:
    if not path.exists():
        return None
    try:
        with plainly():
            return str(read_json(path.with_suffix(".json"))["made_from"])
    except (OSError, ValueError):
        return None


def _overlap_blocks(side: Side) -> Iterator[np.ndarray]:
    for start in range(0, len(side.rows), QUERIES):
        yield side.memory.vectors(side.overlap, side.rows[start : start + QUERIES])


def _recalled_blocks(side: Side, tau: float, device: str, precision: Products) -> Iterator[np.ndarray]:
    memory, outer = side.memory, _outer(side)
    for block in _overlap_blocks(side):
        # Entered anew for each block: what runs between two of them is not ours.
        with matrix_products(device, precision):
            recalled = recall(torch.from_numpy(block).to(device), lambda: memory.blocks(outer), tau)
        yield recalled.cpu().numpy()


def _nearest_blocks(side: Side, tau: float, top_k: int, folder: Path, progress: Progress) -> Iterator[np.ndarray]:
    memory, outer = side.memory, _outer(side)
    large = memory.rows(outer) > LARGE
    index: Index = (
        graphs(memory, outer, folder / "graphs", progress) if large else ExactIndex(lambda: memory.blocks(outer))
    )
    size = max(1, GATHERED // top_k)
    for block in _overlap_blocks(side):
        hits = index.search(block, top_k)
        for start in range(0, len(block), size):
            scores, rows = (torch.from_numpy(each[start : start + size]) for each in hits)
            found = memory.vectors(outer, rows.clamp_min(0).flatten().numpy())
            yield recall_nearest(scores, torch.from_numpy(found).view(*rows.shape, -1), tau).numpy()


def _outer(side: Side) -> Modality:
    assert side.outer is not None  # noqa: S101  (callers ask only for sides that recall)
    return side.outer


def reuse_or_write(
    path: Path,
    key: str,
    shape: tuple[int, int],
    blocks: Callable[[], Iterator[np.ndarray]],
    progress: Progress = silent,
    done: int = 0,
    total: int = 0,
) -> np.ndarray:
    """Return the float16 array in ``path``, memory-mapped; written from ``blocks`` unless ``key`` stands beside it."""
    if _stored_key(path) != key:
        _write(path, shape, blocks(), progress, done, total or shape[0])
        write_json(path.with_suffix(".json"), {"made_from": key})
    with reading(path, "delete it, and run the same command again"):
        return open_npy(path)


def _write(
    path: Path, shape: tuple[int, int], blocks: Iterator[np.ndarray], progress: Progress, done: int, total: int
) -> None:
    header = {"descr": "<f2", "fortran_order": False, "shape": shape}
    path.with_suffix(".json").unlink(missing_ok=True)
    with atomic(path) as file:
        np.lib.format.write_array_header_1_0(file, header)
        for block in blocks:
            file.write(np.ascontiguousarray(block, dtype="<f2").tobytes())
            done += len(block)
            progress(done, total, f"pairing: {path.stem}")
