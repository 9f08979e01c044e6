"""Rows of memories as a user names them: ``MEMORY#ID``, or ``MEMORY:MODALITY#ID``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cmcr.errors import CmcrError, InputError, nearest
from cmcr.items import same_id
from cmcr.memory import MANIFEST, Memory
from cmcr.memory.memory import Row
from cmcr.modality import OWN, Modality, in_order

_LONGEST = 4096
"""Characters of a name in which a memory's path is looked for."""


@dataclass(frozen=True, slots=True)
class NamedRow:
    """A row that was found: its memory, modality, number there, and what is known about it."""

    memory: Memory
    modality: Modality
    number: int
    row: Row


def find_row(name: str, modality: Modality | None = None) -> NamedRow | None:
    """Return the row that ``name`` names; None: it names no row, but is a text or a file.

    Both a path and an id may hold ``#`` and ``:``; of several ways to read a name, the one that leads to a row counts.
    An id is also found in another Unicode form, or with other blanks around it.

    Args:
        name: What the user gave.
        modality: Which rows are meant; None: any, or the one that ``name`` says.

    Raises:
        InputError: no such row, or several; or what looks like a row's name has no memory before the ``#``.
        ArtifactError: the memory is damaged, or lacks the modality.
    """
    readings = list(_readings(name))
    if not readings:
        _refuse_lookalike(name)
        return None
    found = [row for memory, said, wanted in readings for row in _rows(memory, said, modality, wanted)]
    if not found:
        memory, said, wanted = readings[0]
        close = nearest(
            wanted, [each for held in _searched(memory, said or modality) for each in memory.ids(held)[:10_000]]
        )
        raise InputError(f"{memory.path} has no {said or modality or 'row'} {wanted!r}{close}")
    if len(found) > 1:
        raise InputError(_several(name, found))
    return found[0]


def open_side(value: str) -> tuple[Memory, Modality]:
    """Open what ``MEMORY:MODALITY`` names.

    Raises:
        InputError: as ``split_side``.
        ArtifactError: the memory is not there, or damaged, or lacks the modality.
    """
    path, modality = split_side(value)
    memory = Memory.open(path)
    memory.shards(modality)
    return memory, modality


def split_side(value: str) -> tuple[Path, Modality]:
    """Return the two parts of ``MEMORY:MODALITY``.

    Raises:
        InputError: there are no two, or the modality is neither registered nor held by the memory.
    """
    path, _, name = value.rpartition(":")
    known = in_order({*Modality, *_modalities(path)})
    if not path or name not in known:
        raise InputError(f"{value!r}: expected MEMORY:MODALITY with one of {', '.join(known)}{nearest(name, known)}")
    return Path(path), Modality(name)


def _modalities(path: str) -> tuple[Modality, ...]:
    try:
        return Memory.open(path).modalities if path else ()
    except (CmcrError, OSError, ValueError):  # whoever opens it tells what is wrong with it
        return ()


def _readings(name: str) -> Iterator[tuple[Memory, Modality | None, str]]:
    """Yield every way to read a name as a memory that is there, a modality that may be left out, and an id."""
    for place in _hashes(name):
        for folder, modality in dict.fromkeys(((name[:place], None), _cut(name[:place]))):
            if folder and _is_memory(folder):
                yield Memory.open(folder), modality, name[place + 1 :]


def _is_memory(folder: str) -> bool:
    return os.path.isfile(os.path.join(folder, MANIFEST))  # noqa: PTH113, PTH118 - methods of Path raise for long texts


def _hashes(name: str) -> list[int]:
    return [place for place, letter in enumerate(name[:_LONGEST]) if letter == "#"]


def _cut(path: str) -> tuple[str, Modality | None]:
    """Cut a modality off that is registered, or that the memory before it holds."""
    before, _, last = path.rpartition(":")
    said = before and (last in OWN or last in _held(before) or last in Modality)
    return (before, Modality(last)) if said else (path, None)


def _held(folder: str) -> tuple[Modality, ...]:
    return Memory.open(folder).modalities if _is_memory(folder) else ()


def _searched(memory: Memory, modality: Modality | None) -> tuple[Modality, ...]:
    return memory.modalities if modality is None else (modality,)


def _rows(memory: Memory, said: Modality | None, asked: Modality | None, wanted: str) -> Iterator[NamedRow]:
    if said and asked and said is not asked:
        raise InputError(f"{memory.path}:{said}#{wanted} is {said}, and {asked} is asked for; say one of the two")
    for each in _searched(memory, said or asked):
        for number in same_id(wanted, memory.ids(each)):
            yield NamedRow(memory, each, number, memory.row(each, number))


def _several(name: str, found: list[NamedRow]) -> str:
    paths = dict.fromkeys(str(each.memory.path) for each in found)
    if len(paths) > 1:
        return f"{name}: a row of {' and of '.join(paths)}; write ./ before a path, or give another id"
    kinds = dict.fromkeys(each.modality for each in found)
    if len(kinds) > 1:
        first = found[0]
        return (
            f"{first.memory.path}#{first.row.id} is {' and '.join(kinds)}; say which: "
            f"{first.memory.path}:{first.modality}#{first.row.id}"
        )
    ids = " and ".join(ascii(each.row.id) for each in found)
    return f"{name}: {ids} differ only in how their letters are composed or in blanks around them; give one as it is"


def _refuse_lookalike(name: str) -> None:
    """Refuse a name that is no text, though no memory is where it says."""
    if os.path.isfile(name) or not _hashes(name):  # noqa: PTH113 - whatever the text
        return
    path = name[: _hashes(name)[0]]
    before, said = _cut(path)
    folder, _, other = path.rpartition(":")
    spaced = any(map(str.isspace, name))
    if folder and said is None and not spaced and _is_memory(folder):
        raise InputError(
            f"{name}: {other!r} is no modality{nearest(other, {*Modality, *_held(folder)})}; "
            f"expected {folder}:MODALITY#ID"
        )
    if said is not None or (path and os.path.isdir(path)) or ("/" in path and not spaced):  # noqa: PTH112
        raise InputError(f"{name}: {before} is no memory; expected MEMORY#ID or MEMORY:MODALITY#ID, a file, or a text")
