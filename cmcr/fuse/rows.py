"""What is fused: rows of several memories joined by id, with the views that the memories hold of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from cmcr.classify.table import Table, join_table
from cmcr.errors import InputError
from cmcr.files import is_file
from cmcr.fuse.settings import FuseSettings
from cmcr.items import join_ids
from cmcr.memory import Memory, Row, read_views, relative_to_memory, view_count
from cmcr.modality import Modality

Side = tuple[Memory, Modality]


@dataclass(frozen=True)
class Rows:
    """Rows joined by id, and where each lies in the memories.

    >>> import numpy as np
    >>> from cmcr.fuse import join_rows
    >>> from cmcr.memory import ArrayMemory
    >>> see = ArrayMemory("see", {"image": np.eye(3)}, {"image": ["a", "b", "c"]})
    >>> hear = ArrayMemory("hear", {"audio": np.eye(2)}, {"audio": ["b", "d"]})
    >>> rows = join_rows([(see, "image"), (hear, "audio")])
    >>> rows.table.ids, rows.trained.tolist()
    (('a', 'b', 'c', 'd'), [False, True, False, False])

    Attributes:
        table: Ids, vectors of each modality, and which row has which.
        sides: The memories, each with its modality; M of them.
        places: Of each side, (N,) row numbers in it; -1 where it has none.
    """

    table: Table
    sides: tuple[Side, ...]
    places: tuple[np.ndarray, ...]

    @property
    def trained(self) -> np.ndarray:
        """(N,) bool, the rows that have two or more modalities: those that are trained on."""
        return np.asarray(self.table.present.sum(axis=1) > 1)

    def take(self, chosen: np.ndarray) -> Rows:
        """Return the rows of these numbers, or where a bool array is True."""
        return replace(self, table=self.table.rows(chosen), places=tuple(each[chosen] for each in self.places))

    def views(self, m: int) -> np.ndarray | None:
        """Return (N, K + 1, D) of side ``m``, each row's own vector first; None: the memory holds no views of it."""
        memory, modality = self.sides[m]
        if not view_count(memory, modality):
            return None
        there, own = self.places[m] >= 0, self.table.vectors[m][:, None]
        found = np.repeat(own, view_count(memory, modality) + 1, axis=1)
        found[there, 1:] = read_views(memory, modality, self.places[m][there])
        return found

    def metadata(self, folder: Path) -> list[Row]:
        """Return what is known of each row: that of the first side that has it, and in its note what it lacks.

        A row's hash is that of the contents it was made of, where all are known; its text that of a side that has one.

        Args:
            folder: The memory that is written; sources become relative to it.
        """
        held = [list(memory.metadata(modality)) for memory, modality in self.sides]
        names = [channel.name for channel in self.table.channels]
        made = []
        for number, name in enumerate(self.table.ids):
            place = [int(each[number]) for each in self.places]
            parts = {m: held[m][at] for m, at in enumerate(place) if at >= 0}
            first, own = next(iter(parts.items()))
            text = next((row.text for row in parts.values() if row.text), None)
            note = f"without {', '.join(names[m] for m in range(len(place)) if m not in parts)}"
            kept = own.note if len(parts) == len(place) else f"{own.note}; {note}" if own.note else note
            known = _digest({names[m]: row.hash for m, row in parts.items()})
            made.append(Row(name, _source(own.source, self.sides[first][0].path, folder), known, text, kept))
        return made


def join_rows(sides: Sequence[tuple[Memory, Modality | str]]) -> Rows:
    """Join memories by id: a row for every id that one of them holds.

    Raises:
        InputError: fewer than two sides, or one modality of an encoder twice.
        ArtifactError: a memory lacks the modality, or is damaged.
    """
    table, named = join_table(sides), tuple((memory, Modality(modality)) for memory, modality in sides)
    places = []
    for memory, modality in named:
        mine, theirs = join_ids(table.ids, memory.ids(modality), ("the memories", memory.encoder.name))
        place = np.full(len(table), -1)
        place[mine] = theirs
        places.append(place)
    return Rows(table, named, tuple(places))


def _digest(hashes: Mapping[str, str | None]) -> str | None:
    if None in hashes.values():
        return None
    return hashlib.sha256("\n".join(f"{name} {each}" for name, each in hashes.items()).encode()).hexdigest()


def _source(source: str, memory: Path, folder: Path) -> str:
    file, mark, member = source.partition("!")
    return relative_to_memory(memory / file, folder) + mark + member if file and is_file(memory / file) else source


class ViewMaker:
    """Draws two views of a batch: of those that memories hold where they do, else the vector with noise."""

    def __init__(self, rows: Rows, settings: FuseSettings, device: str = "cpu") -> None:
        """Read the vectors of ``rows``, and their views as ``settings.views`` says."""
        stored = settings.views == "auto"
        found = [rows.views(m) if stored else None for m in range(len(rows.sides))]
        self._vectors = [torch.from_numpy(np.ascontiguousarray(each)).to(device) for each in rows.table.vectors]
        self._stored = [None if each is None else torch.from_numpy(each).to(device) for each in found]
        self._noise, self._drop, self._device = settings.noise, settings.drop, device

    @property
    def noised(self) -> list[int]:
        """The sides whose views are made by noise."""
        return [m for m, each in enumerate(self._stored) if each is None]

    def draw(self, numbers: Tensor, generator: torch.Generator) -> list[list[Tensor]]:
        """Return two views of each modality of some rows, (N, D) each; of stored ones, two that differ."""
        views: list[list[Tensor]] = [[], []]
        for vectors, stored in zip(self._vectors, self._stored, strict=True):
            pair = self._noisy(vectors[numbers], generator) if stored is None else _two(stored[numbers], generator)
            for view, made in zip(views, pair, strict=True):
                view.append(made)
        return views

    def _noisy(self, x: Tensor, generator: torch.Generator) -> Iterator[Tensor]:
        for _ in range(2):
            noise = torch.randn(x.shape, generator=generator) * self._noise / x.shape[1] ** 0.5
            kept = torch.rand(x.shape, generator=generator) >= self._drop
            yield normalize((x + noise.to(self._device)) * kept.to(self._device), dim=1)


def _two(stored: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    n, count, _ = stored.shape
    first = torch.randint(count, (n,), generator=generator)
    second = (first + torch.randint(1, count, (n,), generator=generator)) % count
    rows = torch.arange(n, device=stored.device)
    return stored[rows, first.to(stored.device)], stored[rows, second.to(stored.device)]


def check_rows(rows: Rows) -> None:
    """Check that there is something to learn from.

    Raises:
        InputError: fewer than two memories, or fewer than two rows that have two modalities.
    """
    if len(rows.sides) < 2:
        raise InputError("one memory; expected MEMORY:MODALITY of two or more")
    if (joined := int(rows.trained.sum())) < 2:
        first, second = (memory.ids(modality)[0] for memory, modality in rows.sides[:2])
        raise InputError(
            f"{joined} ids are in two of the memories ({first!r}, ... and {second!r}, ...); rows are joined by id: "
            "embed what belongs together under one id"
        )
