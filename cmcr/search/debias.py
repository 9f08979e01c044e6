"""Hubs: a bias for each row of a gallery, kept as one more component, so that a search stays an inner product.

Some rows lie near nearly every query and are found for all of them. Nearest Neighbor Normalization (arXiv 2410.24114)
takes from a row's score what it has for reference rows that are like the queries: ``<q, g> - b_g``, where ``b_g`` is
``alpha`` times the mean of the ``k`` largest ``<r, g>``. Stored as ``[g, -b_g]`` and asked with ``[q, 1]`` that is an
inner product again.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from cmcr.errors import InputError
from cmcr.numbers import Array
from cmcr.search.exact import Blocks, exact_search


@dataclass(frozen=True)
class Bias:
    """What the biases of a gallery were made of, as it stands beside an index.

    >>> from cmcr.search import Bias
    >>> print(Bias("mem/clap", "9f2c", "audio", rows=40, k=128, alpha=0.75))
    0.75 x the mean of its 40 largest cosines with the 40 audio rows of mem/clap

    Attributes:
        path: The memory of the reference rows, as it was named. It is told, never opened.
        memory: Fingerprint of that memory's modality.
        modality: Of the reference rows.
        rows: Reference rows.
        k: How many of them count for a row, those nearest to it.
        alpha: What their mean is multiplied with.
    """

    path: str
    memory: str
    modality: str
    rows: int
    k: int
    alpha: float

    def __str__(self) -> str:
        """Tell what is taken from a row's cosine."""
        of = f"{self.rows} {self.modality} rows of {self.path}"
        return f"{self.alpha:g} x the mean of its {min(self.k, self.rows)} largest cosines with the {of}"

    @property
    def flags(self) -> str:
        """The flags of ``cmcr index`` that make it again."""
        side = shlex.quote(f"{self.path}:{self.modality}")
        return f"--debias {side} --debias-k {self.k} --debias-alpha {self.alpha!r}"


def hub_biases(blocks: Iterable[Array], references: Array, k: int, alpha: float) -> Array:
    """Return the (N,) float32 biases of a gallery's rows: ``alpha`` x the mean of their ``k`` largest reference scores.

    Args:
        blocks: (n, D) unit vectors of the gallery, in row order.
        references: (R, D) unit vectors like those of the queries; with fewer than ``k`` all of them count.
        k: Reference rows that count for a row.
        alpha: The weight of their mean.

    Raises:
        InputError: there are no reference rows, or ``k`` is below 1.
    """
    if not len(references):
        raise InputError("no reference rows: expected a memory that holds rows like the queries")
    means = [exact_search([references], block, k).scores.mean(axis=1, dtype=np.float64) for block in blocks]
    return np.asarray(alpha * np.concatenate([np.zeros(0), *means]), np.float32)


def with_biases(blocks: Blocks, biases: Array) -> Blocks:
    """Return the same gallery with each row's bias, negative, as its last component: (n, D + 1) blocks."""

    def extended() -> Iterator[Array]:
        first = 0
        for block in blocks():
            own = biases[first : first + len(block), None]
            yield np.concatenate([block, -own], axis=1, dtype=np.float32)
            first += len(block)

    return extended


def with_ones(queries: Array) -> Array:
    """Return (Q, D + 1) queries for a gallery that has biases: a 1 as the last component of each.

    >>> import numpy as np
    >>> from cmcr.search import exact_search, hub_biases, with_biases, with_ones
    >>> gallery, queries = np.eye(2, dtype=np.float32), np.array([[0.8, 0.6]], np.float32)
    >>> blocks = with_biases(lambda: [gallery], hub_biases([gallery], gallery[:1], k=1, alpha=0.5))
    >>> exact_search(blocks(), with_ones(queries), k=2).rows.tolist()
    [[1, 0]]
    """
    return np.concatenate([queries, np.ones((len(queries), 1), queries.dtype)], axis=1)
