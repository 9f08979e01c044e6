"""An index of a memory that grew: what it has stays, and the new rows are put behind it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from cmcr.ask.debias import Debias
from cmcr.errors import ArtifactError
from cmcr.memory import Memory
from cmcr.modality import Modality
from cmcr.numbers import Array
from cmcr.search import Bias, Blocks, IndexInfo, extend_index, read_info
from cmcr.search.faiss import FaissIndex
from cmcr.space import ConnectedSpace


def grown_index(
    space: ConnectedSpace, memory: Memory, modality: Modality, path: Path, seed: int, debias: Debias | None
) -> tuple[FaissIndex, IndexInfo] | None:
    """Return the index in ``path`` with the rows it lacks, and what stands beside it; None: it must be built anew.

    It can be extended where it is whole, of the same space, seed and biases, and where the shards that it knows are
    the first ones of the memory, unchanged.

    Args:
        space: The space.
        memory: With its removed rows: an index holds those too.
        modality: Of the memory.
        path: The index, which may be missing.
        seed: Of the clusters of ``ivf``.
        debias: Against which rows it is to be debiased.
    """
    try:
        info = read_info(path, "cmcr index")
    except ArtifactError:
        return None
    shards = _known_shards(memory, modality, info)
    if not shards or info.space != space.fingerprint or info.parameters.get("seed", seed) != seed:
        return None
    new = memory.part(modality, slice(shards, None))
    bias: Bias | None = None

    def blocks() -> Iterator[Array]:
        return space.project_blocks(new, modality=modality) if new.modalities else iter(())

    gallery: Blocks = blocks
    if debias is not None:
        gallery, bias = debias.extend(space, gallery)
    if not _same(bias, info.bias):
        return None
    index = extend_index(path, info, gallery)
    return None if index is None else (index, info)


def _known_shards(memory: Memory, modality: Modality, info: IndexInfo) -> int:
    """Return how many of a memory's first shards an index was made of; 0: of others."""
    rows = 0
    for count, shard in enumerate(memory.shards(modality), 1):
        rows += shard.rows
        if rows >= info.rows:
            same = memory.part(modality, slice(count)).fingerprint(modality) == info.memory
            return count if rows == info.rows and same else 0
    return 0


def _same(one: Bias | None, other: Bias | None) -> bool:
    """Tell whether two biases are made of the same rows, wherever their memory lies."""
    return one == other if one is None or other is None else replace(one, path=other.path) == other
