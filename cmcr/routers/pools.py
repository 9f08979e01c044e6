"""What several memories hold of a modality, joined by id: items, and what each encoder sees of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cmcr.errors import InputError
from cmcr.items import join_ids
from cmcr.memory import Memory
from cmcr.modality import Modality
from cmcr.space import ConnectedSpace

Views = dict[str, np.ndarray]
"""By encoder, (N, D) float32 unit rows of the same N items."""


@dataclass(frozen=True)
class Pool:
    """Items of a modality that all who embed it have seen.

    >>> import numpy as np
    >>> from cmcr import Modality
    >>> from cmcr.routers.pools import Pool
    >>> len(Pool(Modality.TEXT, {"one": np.eye(3), "two": np.eye(3)}, ["a", "b", "c"]).draw(2, seed=0))
    2

    Attributes:
        modality: What they are.
        views: What each encoder sees of them.
        sources: (N,) where each was read from; its id, if from nowhere.
        left_out: Rows of the memories that not all of them have.
    """

    modality: Modality
    views: Views
    sources: list[str]
    left_out: int = 0

    def __len__(self) -> int:
        return len(self.sources)

    def draw(self, rows: int, seed: int) -> Pool:
        """Return at most so many of the items, drawn by a seed."""
        if len(self) <= rows:
            return self
        chosen = np.sort(np.random.default_rng([seed, 3]).choice(len(self), rows, replace=False))
        views = {name: view[chosen] for name, view in self.views.items()}
        return Pool(self.modality, views, [self.sources[row] for row in chosen], self.left_out)


def pools_of(space: ConnectedSpace, memories: Sequence[Memory]) -> dict[Modality, Pool]:
    """Join the memories' rows by id, a modality at a time, in the order of the space.

    Raises:
        InputError: two memories of one encoder, or of several that hold a modality no row is in all.
        ArtifactError: a memory of another encoder than the space's.
    """
    holders: dict[Modality, dict[str, Memory]] = {}
    for memory in memories:
        for modality in memory.modalities:
            name = space.check_memory(memory, modality).name
            if name in holders.setdefault(modality, {}):
                raise InputError(f"two of the memories hold {modality} of {name}; give one of each encoder")
            holders[modality][name] = memory
    order = [modality for modality in space.modalities if modality in holders]
    return {modality: _joined(modality, holders[modality]) for modality in order}


def _joined(modality: Modality, holders: dict[str, Memory]) -> Pool:
    first, *rest = holders.values()
    ids = first.ids(modality)
    rows = np.arange(len(ids))[:, None]
    for memory in rest:
        here, there = join_ids(
            [ids[row] for row in rows[:, 0]], memory.ids(modality), (str(first.path), str(memory.path))
        )
        rows = np.column_stack([rows[here], np.array(there, np.int64)])
    if not len(rows):
        raise InputError(f"no {modality} is in all of {', '.join(str(memory.path) for memory in holders.values())}")
    views = {
        name: np.asarray(memory.vectors(modality, rows[:, number]), np.float32)
        for number, (name, memory) in enumerate(holders.items())
    }
    known = list(first.metadata(modality))
    left_out = max(memory.rows(modality) for memory in holders.values()) - len(rows)
    return Pool(modality, views, [known[row].source or known[row].id for row in rows[:, 0]], left_out)
