"""A shelf: all rows of one modality that the memories hold, searched as one and numbered through."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from cmcr.ask.gallery import Gallery
from cmcr.ask.retrieve import Hit, open_index, retrieve
from cmcr.decode.common import memory_bytes
from cmcr.errors import InputError
from cmcr.memory import Memory, Row
from cmcr.modality import Modality
from cmcr.search import ExactIndex, Hits, Index, index_path
from cmcr.search.faiss import FaissIndex
from cmcr.space import ConnectedSpace

KEPT = 4
"""Weightings of a gallery that stay projected: one slider moved back and forth makes a few."""


class Found(NamedTuple):
    """A hit, and the number of its row on the shelf."""

    hit: Hit
    number: int


@dataclass(frozen=True)
class Part:
    """A memory of the shelf, or several whose rows of one id are one item.

    Attributes:
        memories: Of different encoders.
        gallery: The one memory, or their ``Gallery``.
        index: How it is searched.
        kind: ``exact``, or the kind of its index.
        first: Number of its first row on the shelf.
        vectors: (N, dim) float32 unit vectors of the space; None: too large to be kept, or searched by an index.
    """

    memories: tuple[Memory, ...]
    gallery: Memory
    index: Index
    kind: str
    first: int
    vectors: np.ndarray | None = None


class _Already:
    """Hits that were found before, as the index that ``retrieve`` asks."""

    def __init__(self, hits: Hits) -> None:
        self._hits = hits

    def search(self, queries: np.ndarray, k: int) -> Hits:
        return self._hits


class Shelf:
    """The rows of one modality of all memories.

    >>> import numpy as np
    >>> import cmcr
    >>> from cmcr.serve.shelf import Shelf
    >>> texts = np.random.default_rng(0).normal(size=(200, 8))
    >>> a, b = {"text": texts, "image": texts[:60]}, {"text": texts[:, ::-1], "audio": texts[:60, ::-1]}
    >>> space = cmcr.connect_arrays(a=a, b=b, via="text", method="linear")
    >>> shelf = Shelf(space, [cmcr.ArrayMemory("a", a)], cmcr.Modality.IMAGE)
    >>> [(found.hit.id, found.number) for found in shelf.search(shelf.vector(4), k=1)]
    [('4', 4)]
    """

    def __init__(
        self,
        space: ConnectedSpace,
        memories: Sequence[Memory],
        modality: Modality,
        kind: str = "exact",
        shares: Mapping[str, float] | None = None,
    ) -> None:
        """Open what is searched; exact search keeps the projected vectors, within a quarter of memory for each part.

        Args:
            space: Where the memories lie.
            memories: Those that hold the modality.
            modality: What of them.
            kind: ``exact``, or the kind of the indexes that ``cmcr index`` made: used where there is one.
            shares: By encoder, how much its view counts where several see an item.

        Raises:
            InputError: the weights of all who see an item are 0.
            ArtifactError: a memory that is not of the space, or a damaged or stale index.
        """
        self.modality, self.notes = modality, list[str]()
        self._space, self._kind = space, kind
        self._groups = self._grouped(memories)
        self._lock = threading.Lock()
        self._weighed: OrderedDict[tuple[tuple[str, float], ...], tuple[Part, ...]] = OrderedDict()
        self._own = dict(shares or {})
        self.parts = self._parts(self._own)

    def _grouped(self, memories: Sequence[Memory]) -> list[list[Memory]]:
        """Put memories of different encoders together whose rows of one id are one thing; others stand alone."""
        groups: list[list[Memory]] = []
        for memory in memories:
            self._space.check_memory(memory, self.modality)
            for group in groups:
                if self._joins([*group, memory]):
                    group.append(memory)
                    break
            else:
                groups.append([memory])
        return groups

    def _joins(self, memories: list[Memory]) -> bool:
        names = [memory.encoder.name for memory in memories]
        if len(set(names)) < len(names):
            return False
        try:
            Gallery(self._space, memories, self.modality)
        except InputError as error:
            self.notes.append(f"{error}: here they are searched side by side")
            return False
        return True

    def _parts(self, shares: Mapping[str, float], before: tuple[Part, ...] = ()) -> tuple[Part, ...]:
        made: list[Part] = []
        for number, group in enumerate(self._groups):
            if before and len(group) == 1:  # no weight changes it
                made.append(before[number])
                continue
            own = {name: share for name, share in shares.items() if name in [each.encoder.name for each in group]}
            gallery = group[0] if len(group) == 1 else Gallery(self._space, group, self.modality, own)
            first = made[-1].first + made[-1].gallery.rows(self.modality) if made else 0
            made.append(self._part(tuple(group), gallery, first))
        return tuple(made)

    def _part(self, memories: tuple[Memory, ...], gallery: Memory, first: int) -> Part:
        if not isinstance(gallery, Gallery) and self._kind != "exact":
            path = index_path(gallery.path, self._space.fingerprint, self.modality, self._kind)
            if path.is_file():
                index = open_index(self._space, gallery, self.modality, self._kind)
                return Part(memories, gallery, index, self._kind, first)
            self.notes.append(f"{gallery.path} has no {self._kind} index of its {self.modality} rows: searched exactly")
        size = gallery.rows(self.modality) * self._space.dim * 4
        if size > memory_bytes() // 4:
            self.notes.append(f"{gallery.path}: {size >> 20} MiB of {self.modality} are projected anew at each query")
            return Part(memories, gallery, open_index(self._space, gallery, self.modality), "exact", first)
        vectors = np.concatenate(list(self._projected(gallery)))
        return Part(memories, gallery, ExactIndex(lambda: [vectors]), "exact", first, vectors)

    def _projected(self, gallery: Memory) -> Iterable[np.ndarray]:
        if isinstance(gallery, Gallery):
            return gallery.projected()
        return self._space.project_blocks(gallery, modality=self.modality)

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return sum(part.gallery.rows(self.modality) for part in self.parts)

    @property
    def mixed(self) -> tuple[str, ...]:
        """The encoders whose views are mixed somewhere."""
        groups = [group for group in self._groups if len(group) > 1]
        return tuple(dict.fromkeys(memory.encoder.name for group in groups for memory in group))

    @property
    def scores(self) -> str:
        """What scores are where they are more than cosines."""
        biases = [part.index.bias for part in self.parts if isinstance(part.index, FaissIndex) and part.index.bias]
        return f"cosine less the row's bias, {biases[0]}" if biases else ""

    def home(self, number: int) -> tuple[Part, int]:
        """Return the part that holds a row, and the row's number there.

        Raises:
            IndexError: there is no such row.
        """
        if not 0 <= number < self.rows:
            raise IndexError(f"{self.modality}/{number}: expected a row of 0 to {self.rows - 1}")
        part = next(each for each in reversed(self.parts) if each.first <= number)
        return part, number - part.first

    def row(self, number: int) -> Row:
        """Return what is known about a row."""
        part, own = self.home(number)
        return part.gallery.row(self.modality, own)

    def vector(self, number: int) -> np.ndarray:
        """Return the (dim,) unit vector in the space of a row, as the shelf's own weights put it."""
        part, own = self.home(number)
        if part.vectors is not None:
            return np.asarray(part.vectors[own])
        memory = part.gallery
        if not isinstance(memory, Gallery):
            raw = memory.vectors(self.modality, [own])
            vector: np.ndarray = self._space.project(raw, encoder=memory.encoder.name, modality=self.modality)[0]
            return vector
        for block in memory.projected():
            if own < len(block):
                return np.asarray(block[own])
            own -= len(block)
        raise IndexError(f"{self.modality}/{number}: the memories have become shorter")

    def search(self, vector: np.ndarray, k: int, shares: Mapping[str, float] | None = None) -> list[Found]:
        """Return the ``k`` rows nearest to a (dim,) unit vector of the space, best first.

        Args:
            vector: The query.
            k: Hits wanted.
            shares: By encoder, how much its view counts where several see an item; None: as the shelf was opened.

        Raises:
            InputError: the weights of all who see an item are 0.
        """
        # Here, and in each part, rows that a filter over metadata leaves out would be taken from what is searched.
        found = [each for part in self._parts_for(shares) for each in self._search(part, vector, k)]
        best = sorted(found, key=lambda each: (-each.hit.score, each.number))[:k]
        return [Found(replace(each.hit, rank=rank), each.number) for rank, each in enumerate(best, 1)]

    def _search(self, part: Part, vector: np.ndarray, k: int) -> list[Found]:
        hits = part.index.search(vector[None], k)
        rows = hits.rows[0][hits.rows[0] >= 0]
        told = retrieve(self._space, vector[None], part.gallery, self.modality, k, _Already(hits))[0]
        return [Found(hit, part.first + int(row)) for hit, row in zip(told, rows, strict=True)]

    def _parts_for(self, shares: Mapping[str, float] | None) -> tuple[Part, ...]:
        """Return the parts as other weights put their items; the last few are kept."""
        wanted = {name: share for name, share in (shares or {}).items() if name in self.mixed}
        if shares is None or wanted == self._own or not self.mixed:
            return self.parts
        key = tuple(sorted(wanted.items()))
        with self._lock:
            if key in self._weighed:
                self._weighed.move_to_end(key)
                return self._weighed[key]
        made = self._parts(wanted, self.parts)
        with self._lock:
            self._weighed[key] = made
            while len(self._weighed) > KEPT:
                self._weighed.popitem(last=False)
        return made
