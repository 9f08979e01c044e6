"""Parts of pictures as something to embed: one vector for every proposed box, kept in a memory like any other."""

from __future__ import annotations

import functools
import hashlib
import io
import math
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cmcr.ask import Subject
from cmcr.decode.images import read_image
from cmcr.embed import embed
from cmcr.encoders.base import Encoder
from cmcr.errors import ItemError
from cmcr.evaluate.localization.proposals import CROP_SIDE, Proposals, crop
from cmcr.hooks import Progress
from cmcr.items import Inputs, Item
from cmcr.memory import Memory
from cmcr.modality import Modality


class Crops:
    """An encoder of pictures that sees of each only the box its item's id ends with, ``picture#x0,y0,x1,y1``.

    So the crops need no files of their own: an item's content is its picture, read and decoded once for all its boxes.
    """

    def __init__(self, encoder: Encoder) -> None:
        self.name, self.modalities, self.dim = encoder.name, (Modality.IMAGE,), encoder.dim
        self.fingerprint = hashlib.sha256(f"{encoder.fingerprint} crops, {CROP_SIDE} or more".encode()).hexdigest()
        self._encoder = encoder
        self._decoded = functools.lru_cache(maxsize=4)(functools.partial(read_image, longest=math.inf))

    def prepare(self, item: Item, data: bytes) -> Any:
        """Decode an item's picture and prepare its box as if that were the picture."""
        file = io.BytesIO()
        crop(self._decoded(data), box_of(item.id)).save(file, "BMP")  # quick, and nothing is lost
        return self._encoder.prepare(item, file.getvalue())

    def encode(self, modality: Modality, prepared: Sequence[Any]) -> np.ndarray:
        """Embed what ``prepare`` returned."""
        return self._encoder.encode(modality, prepared)


def crop_id(picture: str, box: np.ndarray) -> str:
    """Return the id of a crop: ``picture#x0,y0,x1,y1``."""
    return f"{picture}#{','.join(f'{value:.4f}' for value in box)}"


def box_of(name: str) -> np.ndarray:
    """Return the (4,) box in a crop's id."""
    return np.array([float(value) for value in name.rpartition("#")[2].split(",")])


class Pictures:
    """The proposals of each picture, and the vectors of their crops."""

    def __init__(self, subject: Subject, encoder: str | None, proposals: Proposals, folder: Path) -> None:
        self._subject, self._proposals, self._folder = subject, proposals, folder / "crops"
        self._encoder = subject.encoder_for(Modality.IMAGE, encoder)
        self._boxes: dict[str, np.ndarray] = {}
        self._problems: dict[str, str] = {}
        self._row_of: dict[str, int] = {}
        self._memory: Memory | None = None

    @property
    def encoder(self) -> str:
        """The name of who embeds them."""
        return self._encoder.name

    @property
    def fingerprint(self) -> str:
        """Of the memory of crops; empty before there is one."""
        return self._memory.fingerprint(Modality.IMAGE) if self._memory else ""

    def propose(self, pictures: Sequence[Item], progress: Progress) -> None:
        """Propose boxes for some pictures, in threads; ``reason`` tells where that failed."""
        once = {picture.id: picture for picture in pictures}

        def boxes(picture: Item) -> np.ndarray | str:
            try:
                return self._proposals.boxes(picture)
            except ItemError as error:
                return f"picture: {error}"

        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            for number, (name, found) in enumerate(zip(once, pool.map(boxes, once.values()), strict=True), 1):
                if isinstance(found, str):
                    self._problems[name] = found
                else:
                    self._boxes[name] = found
                progress(number, len(once), "proposals")

    def embed(self, pictures: Sequence[Item], progress: Progress) -> None:
        """Embed the crops of some pictures, or find them in the memory of a run before."""
        once = {picture.id: picture for picture in pictures}
        items = [
            replace(picture, id=crop_id(picture.id, box))
            for picture in once.values()
            for box in self._boxes.get(picture.id, ())
        ]
        path = self._folder / re.sub(r"[^A-Za-z0-9.-]+", "_", self._encoder.name)
        report = embed(Crops(self._encoder), Inputs(Modality.IMAGE, items), path, dtype="float32", progress=progress)
        for skip in report.skipped:
            self._problems.setdefault(skip.id.rpartition("#")[0], f"picture: {skip.reason}")
        memory, failed = Memory.open(path), {skip.id for skip in report.skipped}
        if Modality.IMAGE in memory.modalities:
            self._memory = memory
            known = enumerate(memory.ids(Modality.IMAGE))
            self._row_of = {name: row for row, name in known if name not in failed}

    def seen(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the (P, 4) proposals of a picture whose crops have a vector, and (P, dim) these in the space."""
        proposed = self._boxes.get(name, np.zeros((0, 4)))
        rows = [self._row_of.get(crop_id(name, box)) for box in proposed]
        kept = [row for row in rows if row is not None]
        if self._memory is None or not kept:
            return np.zeros((0, 4)), np.zeros((0, 0), np.float32)
        raw = self._memory.vectors(Modality.IMAGE, kept)
        boxes = proposed[[row is not None for row in rows]]
        return boxes, self._subject.project(raw, Modality.IMAGE, self._encoder.name)

    def reason(self, name: str) -> str:
        """Return why a picture has no crop with a vector."""
        return self._problems.get(name, "picture: not embedded")
