"""Rows of a memory that are nearly the same: groups of them, by every cosine there is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cmcr.errors import InputError
from cmcr.hooks import Progress, silent
from cmcr.memory import Memory
from cmcr.modality import Modality
from cmcr.numbers import Array, Rows
from cmcr.search.exact import _products

_TILE = 4096
"""Rows on each side of a product: 64 MB of cosines at a time."""


@dataclass(frozen=True)
class Duplicates:
    """A group of rows of which each is near another: a connected component, so the ends of a chain may be far apart.

    >>> import numpy as np
    >>> from cmcr.search import Duplicates
    >>> Duplicates(np.array([3, 8]), np.array([1.0, 0.99], np.float32)).rows.tolist()
    [3, 8]

    Attributes:
        rows: (n,) row numbers of the memory, ascending; n is 2 or more.
        cosines: (n,) float32: each row's with the first.
    """

    rows: Rows
    cosines: Array


def duplicates_of(
    memory: Memory, modality: Modality | str, above: float, progress: Progress = silent, tile: int = _TILE
) -> list[Duplicates]:
    """Return the groups of rows that a cosine of at least ``above`` joins, in the order of their first rows.

    Every row meets every other: (N / tile)^2 / 2 products of tile x tile, of which one is held at a time. Beside it
    the memory of this process holds two tiles of rows and 8 bytes a row.

    >>> import numpy as np
    >>> from cmcr import ArrayMemory
    >>> from cmcr.search import duplicates_of
    >>> rows = np.array([[1, 0], [0, 1], [1, 0.01], [-1, 0]])
    >>> [group.rows.tolist() for group in duplicates_of(ArrayMemory("a", {"image": rows}), "image", above=0.99)]
    [[0, 2]]

    Args:
        memory: Whose rows; its encoder's own vectors are compared.
        modality: Of the rows.
        above: From -1 to 1; the least cosine of what counts as the same.
        progress: Told after every product.
        tile: Rows on each side of a product.

    Raises:
        InputError: ``above`` is no cosine.
        ArtifactError: the memory lacks the modality, or is damaged.
    """
    if not -1 <= above <= 1:
        raise InputError(f"above {above}; expected a cosine, as in 0.98")
    modality = Modality(modality)
    memory.shards(modality)
    rows = memory.rows(modality)
    root, starts = np.arange(rows), range(0, rows, tile)
    done, total = 0, len(starts) * (len(starts) + 1) // 2
    for start in starts:
        first = memory.vectors(modality, np.arange(start, min(start + tile, rows)))
        for other in range(start, rows, tile):
            second = first if other == start else memory.vectors(modality, np.arange(other, min(other + tile, rows)))
            _join(root, *_near(root, first, second, start, other, above))
            done += 1
            progress(done, total, "comparing rows")
    return _groups(memory, modality, root)


def _near(root: Rows, first: Array, second: Array, start: int, other: int, above: float) -> tuple[Rows, Rows]:
    """Return the pairs of rows that belong together and are not known to: float32 finds them, float64 decides."""
    margin = 1.01 * (first.shape[1] + 4) * 2.0**-23  # more than a float32 sum of products of unit rows is off
    one, two = np.nonzero(_products(first, second) >= np.float32(above - margin))
    fresh = (one + start < two + other) & (root[one + start] != root[two + other])
    one, two = one[fresh], two[fresh]
    kept = []
    for part in range(0, len(one), _TILE):
        here = slice(part, part + _TILE)
        cosines = np.einsum("nd,nd->n", first[one[here]].astype(np.float64), second[two[here]].astype(np.float64))
        kept.append(cosines >= above)
    keep = np.concatenate([np.zeros(0, bool), *kept])
    return one[keep] + start, two[keep] + other


def _join(root: Rows, one: Rows, two: Rows) -> None:
    """Let each pair have the root of the lower one; a root is the lowest row of its group."""
    while True:
        low, high = np.minimum(root[one], root[two]), np.maximum(root[one], root[two])
        apart = low != high
        if not apart.any():
            return
        np.minimum.at(root, high[apart], low[apart])
        while (root[root] != root).any():
            root[:] = root[root]


def _groups(memory: Memory, modality: Modality, root: Rows) -> list[Duplicates]:
    order = np.argsort(root, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(root[order])) + 1) if len(order) else []
    groups = []
    for rows in parts:
        if len(rows) > 1:
            vectors = memory.vectors(modality, rows)
            groups.append(Duplicates(rows, np.clip(vectors @ vectors[0], -1, 1)))
    return groups
