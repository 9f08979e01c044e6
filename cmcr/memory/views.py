"""Views of rows: further vectors of each, made of its item changed a little, in a folder beside the rows' own.

A memory holds as many for every row of a modality, or none. View 0 is the row's own vector, of the item as it is; it
lies where it always lay, and nothing else sees views. Views 1 to K lie in ``img_views/`` and its like, a file a shard.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cmcr.errors import ArtifactError
from cmcr.files import sha256_file
from cmcr.memory.manifest import CURE, Views
from cmcr.memory.tombstones import to_stored
from cmcr.modality import Modality
from cmcr.reading import open_npy, reading

if TYPE_CHECKING:
    from cmcr.memory.memory import Memory


def view_count(memory: Memory, modality: Modality) -> int:
    """Return how many views each row of a modality has beside its own vector; 0: none."""
    held = memory.manifest.views.get(modality)
    return held.count if held else 0


def read_views(memory: Memory, modality: Modality, indices: np.ndarray | None = None) -> np.ndarray:
    """Return the views of the rows ``indices``, in that order; None: of all rows.

    Returns:
        (N, K, D) float32 unit vectors: views 1 to K.

    Raises:
        ArtifactError: the memory holds none, or a file is missing, damaged, or not of the shape the manifest says.
    """
    if modality not in memory.manifest.views:
        raise ArtifactError(f"{memory.path}: holds no views of {modality}; make some with cmcr embed --views K")
    wanted = np.arange(memory.rows(modality)) if indices is None else np.asarray(indices, dtype=np.int64)
    found = np.empty((len(wanted), view_count(memory, modality), memory.encoder.dim), np.float32)
    first, wanted = 0, to_stored(memory.removed_rows(modality), wanted)
    for number, shard in enumerate(memory.manifest.shards[modality]):
        here = (wanted >= first) & (wanted < first + shard.rows)
        found[here] = _unit(_stored(memory, modality, number)[wanted[here] - first], memory.path)
        first += shard.rows
    return found


def views_fingerprint(memory: Memory, modality: Modality) -> str:
    """Return a hex sha256 that changes whenever a view does; empty: the memory holds none of the modality."""
    held = memory.manifest.views.get(modality)
    return hashlib.sha256("\n".join(held.sha256).encode()).hexdigest() if held else ""


def view_files(memory: Memory) -> list[str]:
    """Return the files of all views, relative to the memory."""
    held = memory.manifest.views.items()
    return [Views.name(modality, number) for modality, views in held for number in range(len(views.sha256))]


def view_problems(memory: Memory) -> Iterator[str]:
    """Yield one line for each file of views that is missing, damaged or another than the manifest names."""
    for modality, views in memory.manifest.views.items():
        for number, expected in enumerate(views.sha256):
            try:
                _unit(np.asarray(_stored(memory, modality, number)), memory.path)
            except ArtifactError as error:
                yield str(error)
                continue
            if sha256_file(memory.path / Views.name(modality, number)) != expected:
                yield f"{Views.name(modality, number)}: its sha256 is not the manifest's"


def _stored(memory: Memory, modality: Modality, number: int) -> np.ndarray:
    path = memory.path / Views.name(modality, number)
    with reading(path, CURE):
        stored = open_npy(path)
    expected = (memory.manifest.shards[modality][number].rows, view_count(memory, modality), memory.encoder.dim)
    if stored.shape != expected or stored.dtype != memory.dtype:
        raise ArtifactError(
            f"{path}: views are {stored.dtype} of shape {stored.shape}, the manifest says {memory.dtype} of {expected} "
            f"(every row has as many); {CURE}"
        )
    return stored


def _unit(stored: np.ndarray, where: Path) -> np.ndarray:
    block: np.ndarray = stored.astype(np.float32)
    norms = np.linalg.norm(block, axis=2, keepdims=True)
    if not (np.isfinite(norms).all() and norms.all()):
        raise ArtifactError(f"{where}: holds views that are not finite or zero; see cmcr info --verify {where}")
    block /= norms
    return block
