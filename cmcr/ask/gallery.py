"""Several memories as one gallery of a space: rows of one id are one item, which each of their encoders sees."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from cmcr.errors import InputError
from cmcr.items import join_ids
from cmcr.memory import EncoderInfo, Manifest, MediaRoots, Memory, Row
from cmcr.modality import Modality
from cmcr.space import ConnectedSpace

_BLOCK = 8192
"""Items projected at a time."""


class Several(Memory):
    """Memories of a space that are searched as one: what ``Gallery`` and ``Merged`` have in common."""

    def __init__(self, space: ConnectedSpace, memories: Sequence[Memory], modality: Modality) -> None:
        """Take memories of encoders of the space.

        Raises:
            ArtifactError: a memory of another encoder than the space's.
        """
        names = [space.check_memory(memory, modality).name for memory in memories]
        path = Path(" + ".join(str(memory.path) for memory in memories))
        info = EncoderInfo("+".join(dict.fromkeys(names)), "", space.dim)
        told = next((m.manifest.translated for m in memories if modality in m.manifest.translated), {})
        super().__init__(path, Manifest(info, "float32", False, {modality: ()}, 0, translated=told))
        self.encoders: tuple[str, ...] = tuple(names)
        self._space, self._memories, self._modality = space, list(memories), modality

    def projected(self) -> Iterator[np.ndarray]:
        """Yield (n, dim) float32 unit vectors of the space, in the order of the items."""
        raise NotImplementedError

    def check_content(self, modality: Modality, most: int | None = None) -> bool:
        """Compare every memory's files with its manifest; see ``Memory.check_content``."""
        compared = [memory.check_content(modality, most) for memory in self._memories]
        return all(compared)

    def fingerprint(self, modality: Modality) -> str:
        """Return a hex sha256 that changes with the memories and their order."""
        parts = [memory.fingerprint(modality) for memory in self._memories]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


class Merged(Several):
    """One modality of several memories, one after the other: each row stands for itself, and names its memory.

    >>> import numpy as np
    >>> import cmcr
    >>> from cmcr.ask.gallery import Merged
    >>> texts = np.random.default_rng(0).normal(size=(200, 8))
    >>> a, b = {"text": texts, "image": texts[:60]}, {"text": texts[:, ::-1], "audio": texts[:60, ::-1]}
    >>> space = cmcr.connect_arrays(a=a, b=b, via="text", method="linear")
    >>> both = Merged(space, [cmcr.ArrayMemory("a", {"text": texts[:3]}), cmcr.ArrayMemory("a", a)], cmcr.Modality.TEXT)
    >>> both.rows(cmcr.Modality.TEXT), both.home(3)[1]
    (203, 0)
    """

    def projected(self) -> Iterator[np.ndarray]:
        """Yield (n, dim) float32 unit vectors of the space, memory by memory."""
        for memory in self._memories:
            yield from self._space.project_blocks(memory, modality=self._modality)

    def home(self, index: int) -> tuple[Memory, int]:
        """Return the memory that holds a row, and the row's number in it."""
        for memory in self._memories:
            if index < memory.rows(self._modality):
                return memory, index
            index -= memory.rows(self._modality)
        raise IndexError(f"row {index} beyond the end of {self.path}")

    def member(self, path: str) -> Memory:
        """Return the memory of a path."""
        return next(memory for memory in self._memories if str(memory.path) == path)

    def rows(self, modality: Modality) -> int:
        """Return how many rows there are in all."""
        return sum(memory.rows(modality) for memory in self._memories) if modality == self._modality else 0

    def row(self, modality: Modality, index: int) -> Row:
        """Return what its memory knows of a row."""
        memory, number = self.home(index)
        return memory.row(modality, number)

    def metadata(self, modality: Modality) -> Iterator[Row]:
        """Yield what is known about each row, memory by memory."""
        for memory in self._memories:
            yield from memory.metadata(modality)


class Gallery(Several):
    """One modality of several memories: an item lies where the weighted mean of what their encoders see of it lies.

    An item that one memory alone holds lies where that one's encoder puts it. ``projected`` gives the vectors of the
    space; the rest reads like one memory.

    >>> import numpy as np
    >>> from cmcr import ArrayMemory, ConnectedSpace, Modality
    >>> from cmcr.ask.gallery import Gallery
    >>> from cmcr.space import Projector, ProjectorConfig, SpaceEncoder
    >>> same = Projector(ProjectorConfig("identity", 2, 2))
    >>> one, two = (SpaceEncoder(name, "", 2, (Modality.TEXT,)) for name in ("one", "two"))
    >>> space = ConnectedSpace({"one": one, "two": two}, {"one": same, "two": same}, Modality.TEXT, "linear")
    >>> seen = [ArrayMemory(name, {"text": rows}) for name, rows in (("one", [[1, 0]]), ("two", [[0, 1], [0, 1]]))]
    >>> gallery = Gallery(space, seen, Modality.TEXT, {"two": 0})
    >>> gallery.ids(Modality.TEXT), np.concatenate(list(gallery.projected())).tolist()
    (['0', '1'], [[1.0, 0.0], [0.0, 1.0]])
    """

    def __init__(
        self,
        space: ConnectedSpace,
        memories: Sequence[Memory],
        modality: Modality,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        """Join the memories by id.

        Args:
            space: Where they all lie.
            memories: Of different encoders of the space; an item's file is looked for in the first that holds it.
            modality: What of them.
            weights: By encoder; who is left out counts as its way in the space says.

        Raises:
            InputError: two memories of one encoder, or one id with two contents.
            ArtifactError: a memory of another encoder than the space's.
        """
        super().__init__(space, memories, modality)
        names = self.encoders
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise InputError(f"two of the memories are of {twice}; of each encoder one holds the gallery")
        self._weights = dict(weights or {})
        self._items: list[Row] = []
        self._seen = np.zeros((0, len(names)), np.int64)
        for number in range(len(names)):
            self._add(number)
        first = (self._seen >= 0).argmax(axis=1)
        self._home: dict[str, Memory] = {
            row.id: self._memories[number] for row, number in zip(self._items, first, strict=True)
        }

    def _add(self, number: int) -> None:
        """Join a memory's rows to the items that others hold; the rest are items of their own."""
        memory, here = self._memories[number], list(self._memories[number].metadata(self._modality))
        whose = " + ".join(str(each.path) for each in self._memories[:number]), str(memory.path)
        rows, own = join_ids([item.id for item in self._items], [row.id for row in here], whose)
        for row, other in zip(rows, own, strict=True):
            contents = {self._items[row].hash, here[other].hash} - {None}
            if len(contents) > 1:
                raise InputError(
                    f"{self._modality} {here[other].id!r} has different content in {whose[0]} and {whose[1]}; items of "
                    "one id are one thing: give different ones different ids"
                )
        self._seen[rows, number] = own
        fresh = np.setdiff1d(np.arange(len(here)), own)
        added = np.full((len(fresh), len(self._memories)), -1, np.int64)
        added[:, number] = fresh
        # A memory that comes later has not been looked at: its column says so until it is.
        self._seen = np.concatenate([self._seen, added])
        self._items += [here[row] for row in fresh]

    def projected(self) -> Iterator[np.ndarray]:
        """Yield (n, dim) float32 unit vectors of the space, in the order of the items.

        Raises:
            InputError: the weights of all who see an item are 0, or what they see cancels out.
        """
        for start in range(0, len(self._seen), _BLOCK):
            numbers = self._seen[start : start + _BLOCK]
            vectors = np.empty((len(numbers), self._space.dim), np.float32)
            present = numbers >= 0
            for who in np.unique(present, axis=0):
                here = (present == who).all(axis=1)
                vectors[here] = self._mixed(numbers[here], np.flatnonzero(who).tolist())
            yield vectors

    def _mixed(self, numbers: np.ndarray, who: list[int]) -> np.ndarray:
        """Return where the items lie that these memories hold."""
        memories = [self._memories[each] for each in who]
        seen = {
            memory.encoder.name: memory.vectors(self._modality, numbers[:, each])
            for each, memory in zip(who, memories, strict=True)
        }
        if len(seen) == 1:  # whatever its weight
            ((name, rows),) = seen.items()
            return self._space.project(rows, encoder=name, modality=self._modality)
        weights = {name: weight for name, weight in self._weights.items() if name in seen}
        router = self._space.routers.get(self._modality)
        if router is not None and not weights and not set(router.reads) <= set(seen) <= set(router.weighs):
            # Of an item that not all see whom the router reads, the ways say how much each view counts.
            weights = {name: w for name, w in self._space.way_weights(self._modality).items() if name in seen}
        return self._space.mix(seen, modality=self._modality, weights=weights)

    def weighed(self, weights: Mapping[str, float]) -> Gallery:
        """Return the same items as other weights put them; what is known about them is shared."""
        other = copy.copy(self)
        other._weights = dict(weights)
        return other

    def items_of(self, rows: Sequence[np.ndarray]) -> np.ndarray:
        """Return the numbers of the items of which a memory's row is among ``rows``, one array of each; ascending."""
        held = [np.isin(self._seen[:, number], own) for number, own in enumerate(rows)]
        return np.flatnonzero(np.any(held, axis=0))

    def partly_seen(self) -> tuple[str, ...]:
        """Return a sentence that counts the items which some of the encoders have not seen; nothing where all have."""
        present = self._seen >= 0
        partly = int((~present.all(axis=1)).sum())
        held = ", ".join(f"{name} {count}" for name, count in zip(self.encoders, present.sum(axis=0), strict=True))
        told = f"{partly} of {len(present)} {self._modality} items are not in all of the memories ({held})"
        return (f"{told}; each lies where those put it that have it",) if partly else ()

    def rows(self, modality: Modality) -> int:
        """Return how many items there are."""
        return len(self._items) if modality == self._modality else 0

    def row(self, modality: Modality, index: int) -> Row:
        """Return what the first memory that holds an item knows of it."""
        return self._items[index]

    def metadata(self, modality: Modality) -> Iterator[Row]:
        """Yield what is known about each item."""
        return iter(self._items)

    def fingerprint(self, modality: Modality) -> str:
        """Return a hex sha256 that changes with the memories, their order and the weights."""
        parts = [*(memory.fingerprint(modality) for memory in self._memories), repr(sorted(self._weights.items()))]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def source_path(self, row: Row) -> Path | None:
        """Return the file an item was made from, as the first memory that holds it says."""
        return self._home[row.id].source_path(row)

    def source_bytes(self, row: Row, roots: MediaRoots | None = None, most: int | None = None) -> bytes | None:
        """Return the content an item was made from; see ``Memory.source_bytes``."""
        return self._home[row.id].source_bytes(row, roots, most)


def partly_seen(memory: Memory) -> tuple[str, ...]:
    """Return, of a gallery whose items are not in all of its memories, a sentence that counts them."""
    return memory.partly_seen() if isinstance(memory, Gallery) else ()


def mixed_in(memory: Memory) -> tuple[str, ...]:
    """Return the encoders whose views a gallery mixes; none of one memory."""
    return memory.encoders if isinstance(memory, Gallery) else ()
