"""Pseudo items: for each unpaired item, what the best specialists retrieve of every other modality (OmniBind).

An item begins as a row of one modality. Whoever sees that modality and another one retrieves, in its own space, the
nearest row of the other (a whole item, which every encoder of that modality has seen), and so on from what was found:
from a sound its text by the sounds' encoder, from the text its picture by the pictures' encoder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch

import numpy as np

from cmcr.errors import InputError
from cmcr.modality import Modality
from cmcr.routers.config import RouterConfig
from cmcr.routers.pools import Pool, Views
from cmcr.search import exact_search

NEAREST = 64
"""Rows that a pseudo embedding is the mean of, at most."""


@dataclass(frozen=True)
class PseudoItems:
    """N items, each with a view of every encoder of every modality.

    >>> import numpy as np
    >>> from cmcr import Modality
    >>> from cmcr.routers import RouterConfig
    >>> from cmcr.routers.pools import Pool
    >>> from cmcr.routers.pseudo import pseudo_items
    >>> rows = np.eye(2, dtype=np.float32)
    >>> pools = {m: Pool(m, {"one": rows}, ["a", "b"]) for m in (Modality.TEXT, Modality.AUDIO)}
    >>> pseudo_items(pools, RouterConfig()).views[Modality.AUDIO]["one"].shape
    (4, 2)

    Attributes:
        views: By modality, what each encoder sees.
        family: (N,) the encoder that the text of an item was written for, by its number among the encoders of texts;
            -1 where nobody said.
    """

    views: Mapping[Modality, Views]
    family: np.ndarray


@dataclass(frozen=True)
class _Shares:
    """Which rows of a pool stand for each of N items: (N, K) rows and their weights, 1 in sum."""

    rows: np.ndarray
    weights: np.ndarray

    def of(self, view: np.ndarray) -> np.ndarray:
        """Return the (N, D) unit vectors that an encoder sees."""
        if self.rows.shape[1] == 1:
            return np.asarray(view[self.rows[:, 0]])
        mean = np.einsum("nk,nkd->nd", self.weights, view[self.rows]).astype(np.float32)
        return np.asarray(mean / np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-12))


def pseudo_items(pools: Mapping[Modality, Pool], config: RouterConfig) -> PseudoItems:
    """Return pseudo items that begin in each modality in turn.

    Raises:
        InputError: a modality that no encoder relates to the others, or a pattern of nobody's texts.
    """
    parts = [_begun_in(modality, pools, config) for modality in pools]
    views = {
        modality: {name: np.concatenate([part.views[modality][name] for part in parts]) for name in pool.views}
        for modality, pool in pools.items()
    }
    return PseudoItems(views, np.concatenate([part.family for part in parts]))


def _begun_in(first: Modality, pools: Mapping[Modality, Pool], config: RouterConfig) -> PseudoItems:
    own = np.arange(len(pools[first]))[:, None]
    found = {first: _Shares(own, np.ones(own.shape, np.float32))}
    while len(found) < len(pools):
        step = next(
            ((a, b, name) for a in found for b in pools if b not in found and (name := _both(pools, a, b))), None
        )
        if step is None:
            rest = ", ".join(modality for modality in pools if modality not in found)
            raise InputError(f"no encoder sees {rest} and one of {', '.join(found)}; give a memory that relates them")
        a, b, name = step
        queries = found[a].of(pools[a].views[name])
        found[b] = _retrieved(queries, pools[b].views[name], config)
    views = {m: {name: shares.of(view) for name, view in pools[m].views.items()} for m, shares in found.items()}
    if Modality.TEXT not in pools:
        return PseudoItems(views, np.full(len(own), -1))
    return PseudoItems(views, families(pools[Modality.TEXT], config.written_for or ())[found[Modality.TEXT].rows[:, 0]])


def _both(pools: Mapping[Modality, Pool], a: Modality, b: Modality) -> str | None:
    """Return the first encoder that sees two modalities; None: nobody does."""
    return next((name for name in pools[a].views if name in pools[b].views), None)


def _retrieved(queries: np.ndarray, view: np.ndarray, config: RouterConfig) -> _Shares:
    k = 1 if config.pseudo == "items" else min(NEAREST, len(view))
    hits = exact_search([view], queries, k)
    weights = np.exp((hits.scores - hits.scores[:, :1]) / config.tau_memory)
    return _Shares(hits.rows, (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32))


def families(pool: Pool, written_for: Sequence[str]) -> np.ndarray:
    """Return (N,) by number the encoder that each text was written for, as patterns of their sources say; -1: nobody.

    Raises:
        InputError: a pattern that fits no text, or of no encoder of texts.
    """
    names, found = list(pool.views), np.full(len(pool), -1)
    for given in written_for:
        name, _, pattern = given.partition("=")
        matches = [row for row, source in enumerate(pool.sources) if fnmatch(source, pattern)]
        if name not in names or not matches:
            what = f"sources like {pool.sources[0]!r}" if name in names else f"one of {', '.join(names)}"
            raise InputError(f"--written-for {given!r} is of no text; expected ENCODER=PATTERN, and {what}")
        found[matches] = names.index(name)
    return found
