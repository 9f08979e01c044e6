"""A shard as it lies on disk: vectors, what is known about each, its views, and what was skipped."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from json.encoder import encode_basestring
from operator import attrgetter
from pathlib import Path
from typing import IO

import numpy as np

from cmcr.files import open_file
from cmcr.memory.manifest import Row, Skip
from cmcr.modality import Modality
from cmcr.reading import plainly


@dataclass(frozen=True, slots=True)
class Packed:
    """A shard and its skips as they will lie on disk, not yet part of a memory.

    >>> import numpy as np
    >>> from cmcr.memory import Row, pack
    >>> packed = pack(np.array([[3.0, 4.0]]), "float16", [Row("dog", "texts.txt:1", None, "a dog")], [])
    >>> packed.count, packed.skipped
    (1, 0)

    Attributes:
        vectors: The .npy file, normalised.
        rows: What is known about each vector, as JSON lines.
        skips: What could not be embedded, as JSON lines.
        views: The .npy file of each row's views, normalised; empty: there are none.
    """

    vectors: bytes
    rows: bytes
    skips: bytes
    views: bytes = b""

    @property
    def count(self) -> int:
        """How many rows it holds."""
        return self.rows.count(b"\n")

    @property
    def skipped(self) -> int:
        """How many skips it holds."""
        return self.skips.count(b"\n")

    def skip_records(self) -> list[Skip]:
        """Return its skips."""
        values = map(json.loads, self.skips.splitlines())
        return [Skip(**(value | {"modality": Modality(value["modality"])})) for value in values]

    def write(self, file: IO[bytes]) -> None:
        """Write it as one file, a zip with a checksum of each part."""
        with zipfile.ZipFile(file, "w") as archive:
            for name in ("vectors", "rows", "skips", *(["views"] if self.views else [])):
                archive.writestr(zipfile.ZipInfo(name), getattr(self, name))

    @classmethod
    def read(cls, path: Path) -> Packed | None:
        """Read what ``write`` wrote; None: there is no such file, or it is damaged."""
        try:
            with plainly(), open_file(path) as file, zipfile.ZipFile(file) as archive:
                if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
                    return None  # none that ``write`` wrote: it may be larger than its file by any factor
                parts = {name: archive.read(name) for name in ("vectors", "rows", "skips")}
                return cls(**parts, views=archive.read("views") if "views" in archive.namelist() else b"")
        except (FileNotFoundError, ValueError):
            return None


def pack(
    vectors: np.ndarray,
    dtype: str,
    rows: Sequence[Row],
    skipped: Iterable[Skip] = (),
    views: np.ndarray | None = None,
) -> Packed:
    """Return vectors, what is known about each, and skips in the form that lies on disk.

    Args:
        vectors: (N, D) float, finite and not zero; stored normalised.
        dtype: How they are stored.
        rows: N of them.
        skipped: What could not be embedded.
        views: (N, K, D) likewise.

    Raises:
        ValueError: shapes, values or lengths are not as said (a mistake of the caller).
    """
    if views is not None and (views.shape[0], views.shape[2:]) != (len(rows), vectors.shape[1:]):
        raise ValueError(f"views of shape {views.shape} for vectors of shape {vectors.shape}")
    if vectors.ndim != 2 or len(vectors) != len(rows):
        raise ValueError(f"vectors of shape {vectors.shape} for {len(rows)} rows")
    seen = b"" if views is None else _npy(views, dtype)
    return Packed(_npy(vectors, dtype), json_lines(rows), json_lines(skipped), seen)


def _npy(vectors: np.ndarray, dtype: str) -> bytes:
    norms = np.linalg.norm(vectors.astype(np.float64), axis=-1, keepdims=True)
    if not (np.isfinite(norms).all() and norms.all()):
        raise ValueError("non-finite or zero vectors cannot be stored")
    file = io.BytesIO()
    np.save(file, stored_as(vectors / norms, dtype), allow_pickle=False)
    return file.getvalue()


def stored_as(units: np.ndarray, dtype: str) -> np.ndarray:
    """Return unit vectors as they lie on disk.

    int8 has a scale for each row, by which its largest component becomes 127. The scale itself is not kept: whoever
    reads a row makes it a unit vector, and that brings it back.
    """
    if dtype != "int8":
        return units.astype(dtype)
    scaled: np.ndarray = np.rint(units * (127 / np.abs(units).max(axis=-1, keepdims=True)))
    return scaled.astype(np.int8)


def json_lines(values: Iterable[Row | Skip]) -> bytes:
    """Return rows or skips as lines of JSON."""
    # A surrogate, of a name that is no UTF-8, is escaped as JSON does it.
    return "".join(map(_json_line, values)).encode("utf-8", "backslashreplace")


def _json_line(value: Row | Skip) -> str:
    # Texts and nulls alone, so put together here: json.dumps of a dict takes longer than to embed a short text.
    form, cells = _LINES[type(value)]
    line = form % tuple(["null" if cell is None else encode_basestring(cell) for cell in cells(value)])
    note = getattr(value, "note", None)  # few rows have one, and those of older memories have no such key
    return f"{line}}}\n" if note is None else f'{line}, "note": {encode_basestring(note)}}}\n'


def _line(names: Sequence[str]) -> tuple[str, Callable[[Row | Skip], tuple[str | None, ...]]]:
    """Return how a line of these cells is written, but for its end, and what takes them out of a row or a skip."""
    return "{" + ", ".join(f'"{name}": %s' for name in names), attrgetter(*names)


_LINES = {Row: _line(Row.__slots__[:-1]), Skip: _line(Skip.__slots__)}
