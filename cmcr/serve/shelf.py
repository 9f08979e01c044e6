"""A shelf: all rows of one modality that the memories hold, searched as one and numbered through."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from cmcr.ask.filters import Filtered
from cmcr.ask.gallery import Gallery
from cmcr.ask.retrieve import Hit, open_index, retrieve
from cmcr.decode.common import memory_bytes
from cmcr.errors import InputError
from cmcr.memory import Memory, Row
from cmcr.modality import Modality
from cmcr.search import ExactIndex, Hits, Index, index_path
from cmcr.search.faiss import FaissIndex
from cmcr.serve.kept import OWN, Kept
from cmcr.space import ConnectedSpace

_BLOCK = 8192
"""Rows picked out at a time."""


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

    @property
    def bytes(self) -> int:
        """What its vectors take."""
        return 0 if self.vectors is None else self.vectors.nbytes


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
        most: int | None = None,
    ) -> None:
        """Open what is searched; exact search keeps the projected vectors, as far as they may take memory.

        Args:
            space: Where the memories lie.
            memories: Those that hold the modality.
            modality: What of them.
            kind: ``exact``, or the kind of the indexes that ``cmcr index`` made: used where there is one.
            shares: By encoder, how much its view counts where several see an item.
            most: Bytes that projected vectors may take; None: a quarter of memory. Those of other weights, of which
                the last ones stay (one slider moved back and forth makes a few), may take another quarter of it.

        Raises:
            InputError: the weights of all who see an item are 0.
            ArtifactError: a memory that is not of the space, or a damaged or stale index.
        """
        self.modality, self.notes = modality, list[str]()
        self._space, self._kind = space, kind
        self._groups = self._grouped(memories)
        self._most = memory_bytes() // 4 if most is None else most
        self._weighing = threading.Lock()
        self._weighed = Kept[tuple[tuple[str, float], ...], tuple[Part, ...]](self._most // 4)
        self._own = dict(shares or {})
        self.parts = self._parts(self._own, self._most)

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

    def _parts(self, shares: Mapping[str, float], most: int, before: tuple[Part, ...] = ()) -> tuple[Part, ...]:
        made: list[Part] = []
        for number, group in enumerate(self._groups):
            if before and len(group) == 1:  # no weight changes it
                made.append(before[number])
                continue
            own = {name: share for name, share in shares.items() if name in [each.encoder.name for each in group]}
            old = before[number].gallery if before else None
            gallery = old.weighed(own) if isinstance(old, Gallery) else self._gallery(group, own)
            first = made[-1].first + made[-1].gallery.rows(self.modality) if made else 0
            made.append(self._part(tuple(group), gallery, first, most))
            most -= made[-1].bytes
        return tuple(made)

    def _gallery(self, group: list[Memory], shares: Mapping[str, float]) -> Memory:
        return group[0] if len(group) == 1 else Gallery(self._space, group, self.modality, shares)

    def _part(self, memories: tuple[Memory, ...], gallery: Memory, first: int, most: int) -> Part:
        if not isinstance(gallery, Gallery) and self._kind != "exact":
            path = index_path(gallery.path, self._space.fingerprint, self.modality, self._kind)
            if path.is_file():
                index = open_index(self._space, gallery, self.modality, self._kind)
                return Part(memories, gallery, index, self._kind, first)
            self.notes.append(f"{gallery.path} has no {self._kind} index of its {self.modality} rows: searched exactly")
        size = gallery.rows(self.modality) * self._space.dim * 4
        if size > most:
            self._note(f"{gallery.path}: {size >> 20} MiB of {self.modality} are projected anew at each query")
            return Part(memories, gallery, open_index(self._space, gallery, self.modality), "exact", first)
        vectors = np.concatenate(list(self._projected(gallery)))
        return Part(memories, gallery, ExactIndex(lambda: [vectors], unit=True), "exact", first, vectors)

    def _note(self, note: str) -> None:
        if note not in self.notes:  # other weights meet with what has been told
            self.notes.append(note)

    def _projected(self, gallery: Memory) -> Iterable[np.ndarray]:
        if isinstance(gallery, Gallery):
            return gallery.projected()
        return self._space.project_blocks(gallery, modality=self.modality)

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return sum(part.gallery.rows(self.modality) for part in self.parts)

    @property
    def bytes(self) -> int:
        """What its projected vectors take, those of other weights that are kept included."""
        return sum(part.bytes for part in self.parts) + self._weighed.bytes

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
            return np.asarray(self._raw(memory, [own])[0])
        for block in memory.projected():
            if own < len(block):
                return np.asarray(block[own])
            own -= len(block)
        raise IndexError(f"{self.modality}/{number}: the memories have become shorter")

    def among(self, part: Part, met: Sequence[Filtered]) -> np.ndarray:
        """Return the numbers of a part's rows of which a memory's row is among those ``met``, of each memory some."""
        rows = [each.numbers for each in met]
        return part.gallery.items_of(rows) if isinstance(part.gallery, Gallery) else rows[0]

    def search(
        self,
        vector: np.ndarray,
        k: int,
        shares: Mapping[str, float] | None = None,
        among: Sequence[np.ndarray] | None = None,
    ) -> list[Found]:
        """Return the ``k`` rows nearest to a (dim,) unit vector of the space, best first.

        Args:
            vector: The query.
            k: Hits wanted.
            shares: By encoder, how much its view counts where several see an item; None: as the shelf was opened.
            among: For each part the numbers of its rows that may be found, ascending; they are compared exactly. None:
                all.

        Raises:
            InputError: the weights of all who see an item are 0.
        """
        parts = self._parts_for(shares)
        chosen: Sequence[np.ndarray | None] = [None] * len(parts) if among is None else among
        pairs = zip(parts, chosen, strict=True)
        found = [each for part, own in pairs for each in self._search(part, vector, k, own)]
        best = sorted(found, key=lambda each: (-each.hit.score, each.number))[:k]
        return [Found(replace(each.hit, rank=rank), each.number) for rank, each in enumerate(best, 1)]

    def _search(self, part: Part, vector: np.ndarray, k: int, among: np.ndarray | None) -> list[Found]:
        if among is None:
            hits = part.index.search(vector[None], k)
        else:
            scores, places = ExactIndex(lambda: self._picked(part, among), unit=True).search(vector[None], k)
            hits = Hits(scores, among[places])
        rows = hits.rows[0][hits.rows[0] >= 0]
        told = retrieve(self._space, vector[None], part.gallery, self.modality, k, _Already(hits))[0]
        return [Found(hit, part.first + int(row)) for hit, row in zip(told, rows, strict=True)]

    def _picked(self, part: Part, among: np.ndarray) -> Iterator[np.ndarray]:
        """Yield (n, dim) unit vectors of the space of some rows, in their order."""
        if part.vectors is None and isinstance(part.gallery, Gallery):
            first = 0
            for block in part.gallery.projected():
                yield block[among[(among >= first) & (among < first + len(block))] - first]
                first += len(block)
            return
        for start in range(0, len(among), _BLOCK):
            own = among[start : start + _BLOCK]
            yield self._raw(part.gallery, own) if part.vectors is None else part.vectors[own]

    def _raw(self, memory: Memory, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        raw = memory.vectors(self.modality, rows)
        return self._space.project(raw, encoder=memory.encoder.name, modality=self.modality)

    def _parts_for(self, shares: Mapping[str, float] | None) -> tuple[Part, ...]:
        """Return the parts as other weights put their items; the last few are kept, and one at a time is made."""
        wanted = {name: share for name, share in (shares or {}).items() if name in self.mixed}
        if shares is None or wanted == self._own or not self.mixed:
            return self.parts
        key = tuple(sorted(wanted.items()))
        with self._weighing:
            found = self._weighed.find(key)
            if found is None:
                found = self._parts(wanted, self._most // 4 - OWN, self.parts)
                self._weighed.keep(key, found, sum(part.bytes for part in found if isinstance(part.gallery, Gallery)))
            return found
