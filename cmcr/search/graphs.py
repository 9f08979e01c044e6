"""Nearest rows of a large memory: HNSW graphs over pieces of it, kept in files and mapped into memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np

from cmcr.errors import ArtifactError, CmcrError
from cmcr.files import remove_left_behind
from cmcr.hooks import Progress, silent
from cmcr.memory import Memory
from cmcr.modality import Modality
from cmcr.numbers import Array
from cmcr.search.exact import Hits, Index
from cmcr.search.faiss import FaissIndex, build_index, load_index, save_index

PIECE = 1 << 18
"""Rows of a graph at most: about 350 MB while it is built for 512 components, and pieces are built side by side."""
BREADTH = 128
"""Candidates a search keeps in each piece."""
BUILDING = 40_000
"""What a row costs in a graph, in meetings of a query and a row of an exact search (measured, as is ``ASKING``)."""
ASKING = 60_000
"""What a query costs in each graph, likewise."""


def pays(queries: int, rows: int) -> bool:
    """Tell whether graphs of ``rows`` rows, built for so many queries and searched, cost less than an exact search.

    Both take longer for vectors of more components, about as much; so do processors that are slower. At a million rows
    graphs pay from 53,000 queries on; below 60,000 rows never.

    >>> from cmcr.search.graphs import pays
    >>> pays(12_000, 1_000_000), pays(100_000, 1_000_000), pays(1_000_000, 50_000)
    (False, True, False)
    """
    return queries * rows > BUILDING * rows + ASKING * -(-rows // PIECE) * queries


@dataclass(frozen=True)
class Graphs:
    """The graphs of consecutive pieces of ``PIECE`` rows, searched as one index."""

    pieces: list[Index]

    def search(self, queries: Array, k: int) -> Hits:
        """Return the ``k`` best rows that the graphs find for (Q, D) unit vectors; fewer, if there are fewer."""
        found = [piece.search(queries, k) for piece in self.pieces]
        scores = np.concatenate([hits.scores for hits in found], axis=1)
        rows = np.concatenate(
            [np.where(hits.rows < 0, -1, hits.rows + number * PIECE) for number, hits in enumerate(found)], axis=1
        )
        best = np.lexsort((rows, -scores), axis=1)[:, :k]
        return Hits(np.take_along_axis(scores, best, axis=1), np.take_along_axis(rows, best, axis=1))


def graphs(memory: Memory, modality: Modality, folder: Path, progress: Progress = silent) -> Graphs:
    """Open the graphs of a memory's raw vectors in ``folder``; build those that are missing, damaged or of another.

    Each is built by one thread, so that its bytes depend on nothing else; several are built at a time.
    """
    rows, fingerprint = memory.rows(modality), memory.fingerprint(modality)
    numbers, stop = range(-(-rows // PIECE)), Event()

    def graph(number: int) -> FaissIndex:
        path = folder / f"{modality.folder}_{number:04d}.faiss"
        known: dict[str, Any] = {"memory": fingerprint, "space": f"raw, piece {number} of {PIECE} rows"}
        try:
            return load_index(path, **known)
        except ArtifactError:
            built = build_index("hnsw", lambda: _blocks(memory, modality, number, stop), breadth=BREADTH)
            save_index(built, path, modality=modality, **known)
            return load_index(path, **known)

    folder.mkdir(parents=True, exist_ok=True)
    remove_left_behind(folder)
    pieces: list[Index] = []
    with ThreadPoolExecutor(os.cpu_count() or 1) as threads:
        try:
            for piece in threads.map(graph, numbers):
                pieces.append(piece)
                progress(min(rows, len(pieces) * PIECE), rows, "building graphs for pairing")
        finally:
            stop.set()  # on Ctrl-C; else all are done
    return Graphs(pieces)


def _blocks(memory: Memory, modality: Modality, piece: int, stop: Event, size: int = 8192) -> Iterator[Array]:
    end = min((piece + 1) * PIECE, memory.rows(modality))
    for start in range(piece * PIECE, end, size):
        if stop.is_set():
            raise CmcrError("building of graphs was interrupted; the same command goes on")
        yield memory.vectors(modality, np.arange(start, min(start + size, end)))
