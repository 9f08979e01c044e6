"""A memory in RAM: arrays that were never files, behind the reading interface of ``Memory``."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cmcr.errors import InputError
from cmcr.memory.manifest import EncoderInfo, Manifest, Row, Shard
from cmcr.memory.memory import Memory
from cmcr.modality import Modality

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

_BLOCK = 8192
"""Rows that are checked at a time: an array may be a mapped file, larger than RAM."""


class ArrayMemory(Memory):
    """The arrays of one encoder, read like a memory on disk; a row without an id is known by its number.

    Example:
        >>> import numpy as np
        >>> from cmcr.memory import ArrayMemory
        >>> memory = ArrayMemory("clip", {"text": np.eye(3), "image": 2 * np.eye(3)[:1]}, ids={"text": ["a", "b", "c"]})
        >>> memory.ids("text"), memory.ids("image"), memory.vectors("image").tolist()
        (['a', 'b', 'c'], ['0'], [[1.0, 0.0, 0.0]])
    """

    def __init__(
        self, name: str, arrays: Mapping[str, ArrayLike], ids: Mapping[str, Sequence[object]] | None = None
    ) -> None:
        """Check the arrays and keep them as they are; nothing is copied.

        Args:
            name: The encoder that made them.
            arrays: By modality, (N, D) numbers with one D; normalised when they are read.
            ids: By modality, N unique ids where rows have any.

        Raises:
            InputError: no arrays, an unknown modality, another shape, a row that is zero or not finite, or ids that
                are not one a row.
        """
        if not isinstance(arrays, Mapping) or not arrays:
            raise InputError(f'{name}: {type(arrays).__name__}; expected arrays by modality, as in {{"text": array}}')
        self._arrays = {modality_named(key, name): _checked(array, f"{name}: {key}") for key, array in arrays.items()}
        (first, dim), *others = ((modality, array.shape[1]) for modality, array in self._arrays.items())
        for modality, other in others:
            if other != dim:
                raise InputError(
                    f"{name}: {first} has {dim} components and {modality} {other}; expected one number, of one encoder"
                )
        given = {modality_named(key, name): each for key, each in (ids or {}).items()}
        self._ids = {m: _names(given.get(m), len(array), f"{name}: {m}") for m, array in self._arrays.items()}
        shards: dict[Modality, tuple[Shard, ...]] = {}
        for modality, array in self._arrays.items():
            shards[modality] = (_shard(modality, array, self._ids[modality]),)
        info = EncoderInfo(name, f"imported:{name}", dim)
        super().__init__(Path(f"arrays of {name}"), Manifest(info, "float32", False, shards, 0))

    def check_content(self, modality: Modality, most: int | None = None) -> bool:
        """Return True: no file can have changed."""
        return True

    def sources(self, modality: Modality, ids: set[str]) -> dict[str, str]:
        """Return an empty source for each known id: its row came from no file."""
        return dict.fromkeys(ids.intersection(self._ids[modality]), "")

    def _changed(self, shard: Shard) -> list[str]:
        return []

    def _shard_vectors(self, shard: Shard) -> np.ndarray:
        return self._arrays[modality_named(shard.vectors, "")]

    def _shard_metadata(self, shard: Shard) -> Iterator[Row]:
        return (self._shard_row(shard, number) for number in range(shard.rows))

    def _shard_row(self, shard: Shard, number: int) -> Row:
        return Row(self._ids[modality_named(shard.metadata, "")][number], "", None, None)


def check_same_rows(base: ArrayMemory, other: ArrayMemory, via: Modality) -> None:
    """Refuse rows that are paired by position where there are more of them on one side.

    Raises:
        InputError: there are.
    """
    rows = {memory.encoder.name: memory.rows(via) for memory in (base, other)}
    if len(set(rows.values())) > 1:
        counts = " and ".join(f"{name} {count}" for name, count in rows.items())
        names = ", ".join(f'"{name}": [...]' for name in rows)
        raise InputError(
            f"rows of {via}: {counts}; they are paired by position, so give equally many, or ids={{{names}}}"
        )


def modality_named(name: str, said: str) -> Modality:
    """Return the modality of a name that ``said`` gave.

    Raises:
        InputError: there is none.
    """
    try:
        return Modality(name)
    except ValueError as error:
        raise InputError(f"{said}: {error}") from None


def _checked(given: ArrayLike, said: str) -> np.ndarray:
    """Return an array of (N, D) numbers, each row with a direction."""
    expected = "expected numbers of shape (rows, components)"
    try:
        array = np.asarray(given)
    except (TypeError, ValueError, RuntimeError) as error:  # ragged lists; tensors of a GPU or with gradients
        raise InputError(f"{said}: no array ({str(error).splitlines()[0]}); {expected}") from error
    if array.ndim != 2 or array.dtype.kind not in "fiu" or not array.size:
        raise InputError(f"{said}: {array.dtype} of shape {array.shape}; {expected}")
    for start in range(0, len(array), _BLOCK):
        with np.errstate(over="ignore", under="ignore"):  # what float32 cannot hold is told below
            norms = np.linalg.norm(array[start : start + _BLOCK].astype(np.float32), axis=1)
        bad = ~np.isfinite(norms) | (norms == 0)
        if bad.any():
            row = start + int(bad.argmax())
            raise InputError(f"{said}: row {row} is zero or not finite (NaN); remove it, and what is paired with it")
    return array


def _names(given: Sequence[object] | None, rows: int, said: str) -> list[str]:
    try:
        names = [str(each) for each in (range(rows) if given is None else given)]
    except TypeError:
        raise InputError(f"{said}: ids {given!r}; expected one id a row") from None
    if len(names) != rows:
        raise InputError(f"{said}: {len(names)} ids for {rows} rows; expected one id a row")
    if len(set(names)) < rows:
        seen: set[str] = set()
        twice = next(name for name in names if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise InputError(f"{said}: the id {twice!r} stands there twice; ids join rows, so make them unique")
    return names


def _shard(modality: Modality, array: np.ndarray, ids: list[str]) -> Shard:
    """Describe one array as a shard of its own, whose two names are its modality."""
    content = hashlib.sha256()
    for start in range(0, len(array), _BLOCK):
        content.update(np.ascontiguousarray(array[start : start + _BLOCK], dtype=np.float32).tobytes())
    known = hashlib.sha256("\n".join(ids).encode("utf-8", "backslashreplace"))
    return Shard(str(modality), str(modality), len(array), content.hexdigest(), known.hexdigest())
