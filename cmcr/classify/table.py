"""Rows of several memories joined by id: a vector of each modality where a row has one, and its class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from cmcr.errors import InputError
from cmcr.items import join_ids
from cmcr.memory import Memory
from cmcr.modality import Modality

UNKNOWN = -1
"""The class number of a row without a label."""


@dataclass(frozen=True)
class Channel:
    """One encoder's vectors of one modality; the fingerprint is that of the encoder.

    >>> from cmcr import Modality
    >>> from cmcr.classify import Channel
    >>> Channel("image", "tiny-clip", "9f2c", Modality.IMAGE, 64).dim
    64
    """

    name: str
    encoder: str
    fingerprint: str
    modality: Modality
    dim: int

    def fits(self, other: Channel) -> bool:
        """Tell whether vectors of another channel are of the same encoder and modality."""
        mine, theirs = ((c.encoder, c.fingerprint, c.modality, c.dim) for c in (self, other))
        return mine == theirs


@dataclass(frozen=True)
class Table:
    """Rows joined by id.

    >>> import numpy as np
    >>> from cmcr.classify import join_table
    >>> from cmcr.memory import ArrayMemory
    >>> see = ArrayMemory("see", {"image": np.eye(3)}, {"image": ["a", "b", "c"]})
    >>> hear = ArrayMemory("hear", {"audio": np.eye(2)}, {"audio": ["b", "d"]})
    >>> table = join_table([(see, "image"), (hear, "audio")], {"a": "dog", "b": "cat", "d": "dog", "x": "cow"})
    >>> table.ids, table.present.sum(axis=0), table.classes, table.labels
    (('a', 'b', 'c', 'd'), array([3, 2]), ('cat', 'dog'), array([ 1,  0, -1,  1]))

    Attributes:
        ids: (N,).
        channels: (M,).
        vectors: For each channel (N, D) float32 unit vectors; a row that lacks it is zero there.
        present: (N, M) bool, one or more True a row.
        labels: (N,) class numbers; -1 where none is known.
        classes: Their names, sorted.
        unknown: Labels whose id no memory holds.
    """

    ids: tuple[str, ...]
    channels: tuple[Channel, ...]
    vectors: tuple[np.ndarray, ...]
    present: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...] = ()
    unknown: int = 0

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, chosen: np.ndarray) -> Table:
        """Return the rows of these numbers, or where a bool array is True."""
        numbers = np.arange(len(self))[chosen]
        ids = tuple(self.ids[number] for number in numbers)
        vectors = tuple(each[numbers] for each in self.vectors)
        return replace(self, ids=ids, vectors=vectors, present=self.present[numbers], labels=self.labels[numbers])

    def masked(self, kept: np.ndarray) -> Table:
        """Return the table with only those entries that are True in ``kept`` (N, M).

        Raises:
            InputError: a row then has nothing left.
        """
        present = self.present & kept
        vectors = tuple(np.where(present[:, m, None], each, 0) for m, each in enumerate(self.vectors))
        return replace(self, vectors=vectors, present=_checked(self.ids, present))

    def of_channels(self, channels: Sequence[Channel]) -> Table:
        """Return the table with the channels of a model, in its order; what it lacks of them is missing in every row.

        Raises:
            InputError: it has a channel that is none of these, or a row has nothing left.
        """
        for own in self.channels:
            if not any(own.fits(each) for each in channels):
                known = ", ".join(f"{c.modality} of {c.encoder} ({c.fingerprint[:12]})" for c in channels)
                given = f"{own.modality} of {own.encoder} ({own.fingerprint[:12]})"
                raise InputError(f"{given}: not what this model was fitted on; expected {known}")
        place = [next((n for n, own in enumerate(self.channels) if own.fits(each)), None) for each in channels]
        lacking = np.zeros(len(self), dtype=bool)
        present = np.stack([lacking if n is None else self.present[:, n] for n in place], axis=1)
        vectors = tuple(
            np.zeros((len(self), each.dim), np.float32) if n is None else self.vectors[n]
            for n, each in zip(place, channels, strict=True)
        )
        return replace(self, channels=tuple(channels), vectors=vectors, present=_checked(self.ids, present))


class _Read(NamedTuple):
    channel: Channel
    ids: list[str]
    vectors: np.ndarray


def join_table(sides: Sequence[tuple[Memory, Modality | str]], labels: Mapping[str, str] | None = None) -> Table:
    """Join memories by id: a row for every id that one of them holds.

    Args:
        sides: Memories, each with the modality that is taken of it; their order is the modalities' order.
        labels: The class of each id, where known.

    Raises:
        InputError: no memory, one modality of an encoder twice, or no id that has a label.
        ArtifactError: a memory lacks the modality, or is damaged.
    """
    if not sides:
        raise InputError("no memory; expected MEMORY:MODALITY, once for each modality")
    read = [_read(memory, Modality(modality)) for memory, modality in sides]
    channels = _named([each.channel for each in read])
    ids: list[str] = []
    place: list[np.ndarray] = []
    for each in read:
        mine, theirs = join_ids(ids, each.ids, ("the memories before", str(each.channel.encoder)))
        where = np.full(len(each.ids), -1)
        where[theirs] = mine
        new = np.flatnonzero(where < 0)
        where[new] = len(ids) + np.arange(len(new))
        ids += [each.ids[number] for number in new]
        place.append(where)
    present = np.zeros((len(ids), len(read)), dtype=bool)
    vectors = []
    for m, (where, each) in enumerate(zip(place, read, strict=True)):
        present[where, m] = True
        filled = np.zeros((len(ids), each.channel.dim), np.float32)
        filled[where] = each.vectors
        vectors.append(filled)
    none = np.full(len(ids), UNKNOWN, np.int64)
    table = Table(tuple(ids), channels, tuple(vectors), present, none)
    return table if labels is None else _labelled(table, labels)


def _read(memory: Memory, modality: Modality) -> _Read:
    encoder = memory.encoder
    vectors = memory.vectors(modality)
    return _Read(
        Channel(str(modality), encoder.name, encoder.fingerprint, modality, encoder.dim), memory.ids(modality), vectors
    )


def _named(channels: Sequence[Channel]) -> tuple[Channel, ...]:
    """Return channels with names of their own: the modality, and the encoder too where a modality has several."""
    for number, each in enumerate(channels):
        if any(each.fits(other) for other in channels[:number]):
            raise InputError(
                f"{each.modality} of {each.encoder} stands there twice; give it once, with all rows in one memory"
            )
    often = Counter(each.modality for each in channels)
    alike = Counter((each.encoder, each.modality) for each in channels)
    return tuple(
        replace(each, name=_name(each, alike[each.encoder, each.modality] > 1)) if often[each.modality] > 1 else each
        for each in channels
    )


def _name(channel: Channel, ambiguous: bool) -> str:
    version = f" ({channel.fingerprint[:12]})" if ambiguous else ""
    return f"{channel.encoder}:{channel.modality}{version}"


def _labelled(table: Table, labels: Mapping[str, str]) -> Table:
    found = [labels.get(name) for name in table.ids]
    classes = tuple(sorted({label for label in found if label is not None}))
    if not classes:
        asked, held = next(iter(labels), ""), table.ids[0] if table.ids else ""
        raise InputError(
            f"none of {len(labels)} labels is of an id that the memories hold ({asked!r}, ... and {held!r}, ...); "
            "expected the ids of cmcr embed"
        )
    of = {name: number for number, name in enumerate(classes)}
    numbers = np.array([UNKNOWN if label is None else of[label] for label in found], np.int64)
    unknown = len(labels) - int((numbers >= 0).sum())
    return replace(table, labels=numbers, classes=classes, unknown=max(0, unknown))


def _checked(ids: Sequence[str], present: np.ndarray) -> np.ndarray:
    if (bare := ~present.any(axis=1)).any():
        first, count = ids[int(bare.argmax())], int(bare.sum())
        raise InputError(
            f"{count} of {len(ids)} rows ({first!r}, ...) have none of the modalities; expected one or more for each"
        )
    return present
