"""Exact search: filtered in float32, scored in float64, ties to the lower row."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from cmcr.errors import InputError
from cmcr.numbers import Array, Rows

_ROW_BITS = 0xFFFFFFFF


_TILE = 8192
"""Rows scored at once; a search begins with fewer, for until it has k hits it knows no floor to stay under."""


_FIRST = 128


_FEW = 64
"""So many queries and fewer are met by tiles eight times as large: their scores are few."""


_SPARSE = 32
"""One in so many of a tile's scores are worth picking out one by one; of more, the whole tile is scored again."""


_EIGHT = np.uint64(0x0101010101010101)
"""Eight truths as one word."""


_PAIRS = 256
"""Pairs of a query and a row scored at once in float64: 2 MB for 512 components."""


_UNIT = 1.001
"""No unit vector is longer, however it was rounded."""


Blocks = Callable[[], Iterable[Array]]
"""Starts an iteration over the gallery: (n, D) float32 unit vectors in row order."""


class Hits(NamedTuple):
    """The best rows of a gallery for each query, best first; k is at most the gallery's size.

    An approximate index may find fewer than k: the row is then -1 and the score minus infinity.

    >>> import numpy as np
    >>> from cmcr.search import exact_search
    >>> hits = exact_search([np.eye(3, dtype=np.float32)], np.eye(3, dtype=np.float32)[1:2], k=2)
    >>> hits.scores.tolist(), hits.rows.tolist()
    ([[1.0, 0.0]], [[1, 0]])
    """

    scores: Array
    rows: Rows


class Index(Protocol):
    """A gallery that can be asked for the rows nearest to queries.

    >>> import numpy as np
    >>> from cmcr.search import Index, build_index
    >>> index: Index = build_index("flat", lambda: [np.eye(3, dtype=np.float32)])
    >>> index.search(np.array([[0.0, 0.6, 0.8]]), k=2).rows.tolist()
    [[2, 1]]
    """

    def search(self, queries: Array, k: int) -> Hits:
        """Return the ``k`` best rows for each of the (Q, D) unit vectors ``queries``, by cosine."""
        ...


@dataclass(frozen=True)
class ExactIndex:
    """Every query against every row, streamed: no memory beyond a block, nothing to build.

    >>> import numpy as np
    >>> from cmcr.search import ExactIndex
    >>> ExactIndex(lambda: [np.eye(3, dtype=np.float32)]).search(np.array([[0.0, 0.6, 0.8]]), k=2).rows.tolist()
    [[2, 1]]
    """

    blocks: Blocks
    unit: bool = False

    def search(self, queries: Array, k: int) -> Hits:
        """Return the exact ``k`` best rows."""
        return exact_search(self.blocks(), queries, k, unit=self.unit)


def exact_search(blocks: Iterable[Array], queries: Array, k: int, chunk: int = 1024, unit: bool = False) -> Hits:
    """Return the ``k`` best rows of all blocks for each query; of equal scores the lower row comes first.

    A float32 product finds the few rows that can still enter; those are scored in float64, as ``metrics.cosine`` does.
    So the hits are those of the float64 table at the price of the float32 one.

    Args:
        blocks: (n, D) unit vectors in row order; how rows are cut into blocks does not change the result. Rows of
            another norm, or not finite, are ranked as right and cost more; what is not a number comes last.
        queries: (Q, D) unit vectors.
        k: Hits wanted; with fewer rows there are as many hits as rows.
        chunk: Queries scored at once; the memory is of 8,192 rows x ``chunk`` and of Q x k.
        unit: The rows are known to be unit vectors, as those of a space are. Their norms are not looked at then, which
            would cost as much as one query's product.

    Raises:
        InputError: ``k`` is below 1, a query is not finite, or dimensions differ.
    """
    asked = _checked(queries, k)
    parts = [_Best(asked[start : start + chunk], k) for start in range(0, max(len(asked), 1), chunk)]
    first, size = 0, min(max(_FIRST, k), _TILE)
    most = _TILE * (8 if len(asked) <= _FEW else 1)
    room = np.empty(min(len(asked), chunk) * most, np.float32)  # new pages for each product would cost a fifth more
    for block in blocks:
        _same_dim(asked.shape[1], block.shape[1])
        start = 0
        while start < len(block):
            tile = block[start : start + size]
            rough = np.require(tile, np.float32, ["C", "W"])  # torch warns of what is read-only
            longest = _UNIT if unit else float(np.sqrt(np.einsum("nd,nd->n", rough, rough).max()))
            for part in parts:
                part.meet(tile, rough, first + start, longest, room)
            start, size = start + len(tile), min(8 * size, most)
        first += len(block)
    return _hits(-np.sort(-np.concatenate([part.keys for part in parts]), axis=1))


class _Best:
    """The keys of the best rows so far of a chunk of queries: (Q, at most k), unsorted."""

    def __init__(self, queries: Array, k: int) -> None:
        self.keys = np.zeros((len(queries), 0), np.int64)
        self._k, self._queries, self._rough = k, queries.astype(np.float64), np.require(queries, np.float32, ["C", "W"])
        # A float32 sum of D products, in any order, is off by less than D u |q| |g| (Higham, 2002, section 3.1), and
        # rounding float64 input adds 2 u; so does the norm of the rows, a float32 sum itself. 1.01 covers what is left.
        unsafe = 1.01 * (queries.shape[1] + 4) * 2.0**-24
        self._margin = unsafe * np.linalg.norm(self._queries, axis=1)

    def meet(self, tile: Array, rough: Array, first: int, longest: float, room: Array) -> None:
        """Take in the rows of a tile, the first of number ``first``; none is longer than ``longest``.

        The tile's scores are written to ``room``.
        """
        with np.errstate(all="ignore"):
            query, column, scores = self._entering(tile, rough, longest, room)
        if len(query):
            count = np.bincount(query, minlength=len(self.keys))
            keys = np.full((len(self.keys), count.max()), np.iinfo(np.int64).min)
            place = np.arange(len(query)) - np.repeat(np.cumsum(count) - count, count)
            keys[query, place] = _keys(scores, first + column)
            self.keys = _largest(np.concatenate([self.keys, keys], axis=1), self._k)

    def _entering(self, tile: Array, rough: Array, longest: float, room: Array) -> tuple[Rows, Rows, Array]:
        """Return query, column and score of what is better than a query's worst; a later row must be strictly so."""
        if self.keys.shape[1] < self._k:
            scores = _products(self._queries, tile.astype(np.float64)).astype(np.float32)
            query, column = np.divmod(np.arange(scores.size), max(len(tile), 1))
            return query, column, scores.ravel()
        least = _hits(self.keys.min(axis=1)).scores
        floor = (least - self._margin * longest - 1e-34).astype(np.float32)  # the last: what underflows
        floor = np.nextafter(floor, np.float32(-np.inf))
        near = _products(self._rough, rough, room)
        query, column = _standing(near, floor)
        if len(query) * _SPARSE < near.size:
            scores = _pair_scores(self._queries, tile, query, column)
        else:  # thousands of equal rows: cheaper all at once
            alive, place = np.unique(query, return_inverse=True)
            table = _products(self._queries[alive], tile.astype(np.float64))
            scores = table[place, column].astype(np.float32)
        better = scores > least[query]
        return query[better], column[better], scores[better]


def _standing(near: Array, floor: Array) -> tuple[Rows, Rows]:
    """Return row and column of what is not below its row's floor, in order; what is not a number is not below.

    Nearly all is below, so eight answers are looked at in one word.
    """
    if near.size <= _TILE * 8:  # of one query: torch's start takes longer
        below = (near < floor[:, None]).ravel()
    else:
        import torch

        with torch.inference_mode():
            below = (torch.from_numpy(near) < torch.from_numpy(floor)[:, None]).numpy().ravel()
    if below.size % 8:
        places = np.flatnonzero(~below)
    else:
        words = np.flatnonzero(below.view(np.uint64) != _EIGHT)
        word, byte = np.nonzero(~below.reshape(-1, 8)[words])
        places = words[word] * 8 + byte
    return np.divmod(places, near.shape[1])


def _pair_scores(queries: np.ndarray, tile: Array, query: Rows, column: Rows) -> Array:
    """Return the float64 products of some queries and rows, rounded to float32; so many at once as a cache holds."""
    scores = np.empty(len(query), np.float32)
    for start in range(0, len(query), _PAIRS):
        here = slice(start, start + _PAIRS)
        scores[here] = (queries[query[here]] * tile[column[here]]).sum(axis=1)
    return scores


def _products(first: np.ndarray, second: np.ndarray, room: np.ndarray | None = None) -> np.ndarray:
    """Return first @ second.T by torch: numpy's own threads spin, which on a busy machine costs ten times the product.

    It lies in ``room``, a flat array that is large enough, where that is given.

    Where a user lets torch round float32 to bfloat16, by numpy: no margin would hold.
    """
    import torch

    matmul = getattr(torch.backends.mkldnn, "matmul", None)  # since torch 2.9; before, one setting for all devices
    exact = matmul.fp32_precision in ("none", "ieee") if matmul else torch.get_float32_matmul_precision() == "highest"
    if not exact:
        return np.asarray(first @ second.T)
    shape = len(first), len(second)
    out = np.empty(shape, first.dtype) if room is None else room[: shape[0] * shape[1]].reshape(shape)
    with torch.inference_mode():
        torch.mm(torch.from_numpy(first), torch.from_numpy(second).T, out=torch.from_numpy(out))
    return out


def _keys(scores: Array, rows: Rows) -> Rows:
    """Pack score and row into one integer that sorts as (score, lower row first), so that no tie is left to chance."""
    bits = (np.nan_to_num(scores, nan=-np.inf, neginf=-np.inf) + np.float32(0)).view(np.int32).astype(np.int64)
    ordered = np.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    return np.asarray((ordered << 32) | (_ROW_BITS - rows), np.int64)


def _hits(keys: Rows) -> Hits:
    ordered = keys >> 32
    bits = np.where(ordered < 0, ordered ^ 0x7FFFFFFF, ordered).astype(np.int32)
    return Hits(bits.view(np.float32), _ROW_BITS - (keys & _ROW_BITS))


def _largest(keys: Rows, k: int) -> Rows:
    return keys if keys.shape[1] <= k else np.partition(keys, keys.shape[1] - k, axis=1)[:, -k:]


def _checked(queries: Array, k: int) -> Array:
    if k < 1:
        raise InputError(f"k = {k}: expected at least 1")
    if queries.ndim != 2:
        raise InputError(f"queries of shape {queries.shape}: expected (Q, D)")
    if not np.isfinite(queries).all():
        bad = int(np.flatnonzero(~np.isfinite(queries).all(axis=1))[0])
        raise InputError(f"query {bad} is not finite: expected unit vectors; look at what embedded it")
    return queries


def _same_dim(queries: int, gallery: int) -> None:
    if queries != gallery:
        raise InputError(f"queries have {queries} dimensions and the gallery {gallery}: they are of two spaces")
