"""The map of all memories: rows as points of a plane, each with its encoder, modality and row."""

from __future__ import annotations

import json
import threading
from typing import NamedTuple

import numpy as np

from cmcr.memory import Memory, Row
from cmcr.numbers.plane import pca
from cmcr.report import shortened
from cmcr.serve.service import Service
from cmcr.serve.shelf import Part, Shelf

LIMIT = 2000
"""Points at most, drawn at random (seed 0)."""

_TITLE = 80


class _Side(NamedTuple):
    """The rows of one memory on a shelf."""

    shelf: Shelf
    part: Part
    memory: Memory

    @property
    def rows(self) -> int:
        return self.memory.rows(self.shelf.modality)


class Plane:
    """Where rows lie in the plane of the two directions of greatest variance; found once, when first asked for."""

    def __init__(self, service: Service) -> None:
        self._service, self._lock, self._made = service, threading.Lock(), ""

    def text(self) -> str:
        """Return the map as a JSON document.

        ``groups``: encoder, modality and number of rows; ``points``: [x, y, group, ``MODALITY/NUMBER``, title], with
        x and y within [-1, 1] and of one scale; ``explained``: the share of the variance of each axis.
        """
        with self._lock:
            self._made = self._made or self._make()
            return self._made

    def _make(self) -> str:
        shelves = self._service.shelves.values()
        sides = [_Side(shelf, part, memory) for shelf in shelves for part in shelf.parts for memory in part.memories]
        total = sum(side.rows for side in sides)
        rng = np.random.default_rng(0)
        drawn = np.sort(rng.permutation(total)[:LIMIT])
        vectors, marks, first = [], list[tuple[int, str, str]](), 0
        for group, side in enumerate(sides):
            here = drawn[(drawn >= first) & (drawn < first + side.rows)] - first
            first += side.rows
            if len(here):
                vectors.append(self._vectors(side, here))
                marks += [(group, *told) for told in _told(side, here)]
        xy, explained = pca(np.concatenate(vectors))
        xy /= max(float(np.abs(xy).max()), 1e-12)
        order = rng.permutation(len(marks))  # no group covers the others for coming last
        points = [[round(float(xy[i, 0]), 4), round(float(xy[i, 1]), 4), *marks[i]] for i in order.tolist()]
        groups = [{"encoder": s.memory.encoder.name, "modality": str(s.shelf.modality), "rows": s.rows} for s in sides]
        return json.dumps({"total": total, "explained": explained, "groups": groups, "points": points})

    def _vectors(self, side: _Side, rows: np.ndarray) -> np.ndarray:
        raw = side.memory.vectors(side.shelf.modality, rows)
        space = self._service.subject.space
        return space.project(raw, encoder=side.memory.encoder.name, modality=side.shelf.modality)


def _told(side: _Side, rows: np.ndarray) -> list[tuple[str, str]]:
    """Return for each row of a memory its name on the shelf, empty where it cannot be found, and its title."""
    modality = side.shelf.modality
    known: list[Row] = [side.memory.row(modality, number) for number in rows.tolist()]
    if side.memory is side.part.gallery:
        places = dict(zip((row.id for row in known), rows.tolist(), strict=True))
    else:
        wanted = {row.id for row in known}
        metadata = enumerate(side.part.gallery.metadata(modality))
        places = {row.id: number for number, row in metadata if row.id in wanted}
    names = [f"{modality}/{side.part.first + places[row.id]}" if row.id in places else "" for row in known]
    return [(name, shortened(row.text or row.id)[:_TITLE]) for name, row in zip(names, known, strict=True)]
