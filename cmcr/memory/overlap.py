"""Rows of the modality that two memories share, joined by id."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from cmcr.errors import InputError
from cmcr.items import join_ids, what_differs
from cmcr.memory.memory import Memory
from cmcr.modality import Modality


@dataclass(frozen=True)
class Overlap:
    """Rows of the modality that two memories share.

    Attributes:
        modality: The shared modality.
        rows_a: (N,) row numbers in the first memory, ascending.
        rows_b: (N,) row numbers of the same items in the second.
        only_a: Rows of the first memory that the second lacks.
        only_b: Rows of the second memory that the first lacks.
        unchecked: Joined rows whose content hash at least one memory does not know (imported vectors).
        other: The second memory's modality, where rows of two modalities are known to belong together.
    """

    modality: Modality
    rows_a: np.ndarray = field(repr=False)
    rows_b: np.ndarray = field(repr=False)
    only_a: int
    only_b: int
    unchecked: int
    other: Modality | None = None

    @property
    def of_second(self) -> Modality:
        """The modality of the second memory's rows."""
        return self.other or self.modality


def join(a: Memory, b: Memory, via: Modality | None = None) -> Overlap:
    """Join the overlap of two memories by id.

    Args:
        a: The first memory.
        b: The second.
        via: The shared modality, needed when they share several.

    Raises:
        InputError: nothing or several modalities shared, fewer than 2 common ids, or one id with two contents.
    """
    modality = shared_modality(a, b, via)
    ids_a, hashes_a = _ids_and_hashes(a, modality)
    ids_b, hashes_b = _ids_and_hashes(b, modality)
    rows_a, rows_b = join_ids(ids_a, ids_b, (str(a.path), str(b.path)))
    unchecked = 0
    for row, other in zip(rows_a, rows_b, strict=True):
        if hashes_a[row] is None or hashes_b[other] is None:
            unchecked += 1
        elif hashes_a[row] != hashes_b[other]:
            raise InputError(
                f"{modality} {ids_a[row]!r} has different content in {a.path} and {b.path}; "
                "embed the same files into both memories, or give different items different ids"
            )
    if len(rows_a) < 2:
        raise InputError(
            f"{a.path} and {b.path} share {len(rows_a)} {modality} id(s) of {len(ids_a)} and {len(ids_b)}; at least 2 "
            f"are needed (many more to learn from): embed the same {modality} items into both"
            f"{what_differs(ids_a, ids_b) if not len(rows_a) else ''}"
        )
    only_a, only_b = len(ids_a) - len(rows_a), len(ids_b) - len(rows_b)
    return Overlap(modality, np.array(rows_a), np.array(rows_b), only_a, only_b, unchecked)


def _ids_and_hashes(memory: Memory, modality: Modality) -> tuple[list[str], list[str | None]]:
    rows = [(row.id, row.hash) for row in memory.metadata(modality)]
    return [name for name, _ in rows], [content for _, content in rows]


def shared_modality(a: Memory, b: Memory, via: Modality | None) -> Modality:
    """Return the modality through which two memories connect: ``via``, or the only one that both hold.

    Raises:
        InputError: ``via`` is not in both, or they share none or several.
    """
    shared = [modality for modality in a.modalities if modality in b.modalities]
    held = f"{a.path} holds {_names(a.modalities)}, {b.path} holds {_names(b.modalities)}"
    if via is not None:
        if via not in shared:
            raise InputError(f"--via {via}: not in both memories ({held}); embed the same {via} items into both")
        return via
    if not shared:
        raise InputError(f"no common modality: {held}; embed the same items of one modality into both")
    if len(shared) > 1:
        raise InputError(f"several common modalities ({_names(tuple(shared))}); choose the overlap with --via")
    return shared[0]


def only_modality(memory: Memory, wanted: Modality | None) -> Modality:
    """Return the modality of the rows that pairs name: ``wanted``, or the only one that a memory holds.

    Raises:
        InputError: it holds several, or not ``wanted``.
    """
    held = memory.modalities
    if wanted is None and len(held) != 1:
        raise InputError(f"{memory.path} holds {_names(held)}; say with --outer-a / --outer-b what the pairs are of")
    if wanted is not None and wanted not in held:
        raise InputError(f"{memory.path} holds no {wanted}; it holds {_names(held)}")
    return wanted or held[0]


def outer_modality(memory: Memory, overlap: Modality, wanted: Modality | None) -> Modality:
    """Return the modality of ``memory`` that is connected through the overlap: the other one it holds.

    Raises:
        InputError: there is none, several, or ``wanted`` is not among them.
    """
    others = tuple(modality for modality in memory.modalities if modality != overlap)
    if wanted is not None and wanted not in others:
        raise InputError(f"{memory.path} holds no {wanted} beside the overlap ({_names(others) or 'nothing'})")
    if not others:
        raise InputError(
            f"{memory.path} holds only {overlap}; embed the items it should recall (its other modality) into it"
        )
    if wanted is None and len(others) > 1:
        raise InputError(
            f"{memory.path} holds {_names(others)} beside {overlap}; choose one with --outer-a / --outer-b"
        )
    return wanted or others[0]


def _names(modalities: tuple[Modality, ...]) -> str:
    return ", ".join(modalities) or "nothing"


@dataclass(frozen=True)
class Side:
    """One memory's part in the pairs: its overlap rows, and the modality it recalls (None: recall nothing).

    The vectors of a frozen side stay as they are: not even their mean is subtracted.
    """

    memory: Memory
    overlap: Modality
    rows: np.ndarray
    outer: Modality | None
    frozen: bool = False

    @property
    def recalled(self) -> Modality:
        """The modality it recalls, of a side that recalls one."""
        assert self.outer is not None  # noqa: S101  (callers ask only for sides that recall)
        return self.outer
