"""Pairs that are known: which row of one memory belongs to which row of another, as a list of ids says."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cmcr.errors import InputError
from cmcr.items import ById, read_table
from cmcr.memory.memory import Memory
from cmcr.modality import Modality

LEAST = 10
"""Fewer pairs tell nothing that could be judged."""


@dataclass(frozen=True)
class KnownPairs:
    """Rows of two memories that belong together.

    >>> import numpy as np
    >>> from cmcr import ArrayMemory
    >>> from cmcr.memory.known import join_pairs
    >>> a, b = (ArrayMemory(name, {kind: np.eye(12)}) for name, kind in (("a", "image"), ("b", "audio")))
    >>> pairs = join_pairs(a, b, "image", "audio", [(str(n), str(11 - n)) for n in range(11)] + [("0", "x")])
    >>> pairs.rows_b[:3].tolist(), pairs.unknown
    ([11, 10, 9], 1)

    Attributes:
        modality_a: Of the first memory's rows.
        rows_a: (P,) row numbers, ascending.
        modality_b: Of the second memory's.
        rows_b: (P,) their partners.
        unknown: Listed pairs of which a memory lacks an id.
    """

    modality_a: Modality
    rows_a: np.ndarray
    modality_b: Modality
    rows_b: np.ndarray
    unknown: int = 0

    def digest(self) -> str:
        """Return what tells these pairs from others."""
        rows = np.stack([self.rows_a, self.rows_b]).astype("<i8")
        return hashlib.sha256(f"{self.modality_a} {self.modality_b} ".encode() + rows.tobytes()).hexdigest()


def read_pairs(path: Path) -> list[tuple[str, str]]:
    """Return the pairs of ids in a CSV, TSV or JSONL file: its columns ``a`` and ``b``, or its only two.

    Raises:
        InputError: no such file, not a table of two columns, a row that lacks an id, or no row.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected a table of two columns, an id of each memory")
    pairs, names = [], ("a", "b")
    for number, record in enumerate(read_table(path)):
        if not number and not {"a", "b"} <= set(record.columns):
            if len(record.columns) != 2:
                found = ", ".join(record.columns)
                raise InputError(f"{path}: columns {found}; expected a and b: an id of each memory")
            names = record.columns[0], record.columns[1]
        cells = [record.values.get(name) for name in names]
        if record.problem or None in cells:
            raise InputError(
                f"{path}:{record.line}: {record.problem or 'a pair lacks an id'}; mend the line, or drop it"
            )
        pairs.append((str(cells[0]), str(cells[1])))
    if not pairs:
        raise InputError(f"{path}: no pairs; expected a header and a line for each pair")
    return pairs


def join_pairs(
    a: Memory, b: Memory, modality_a: Modality | str, modality_b: Modality | str, pairs: Iterable[tuple[str, str]]
) -> KnownPairs:
    """Find the rows of listed ids; a pair that is listed twice counts once.

    Raises:
        InputError: fewer than ``LEAST`` pairs are in both memories, or an id may be either of two rows.
    """
    modality_a, modality_b = Modality(modality_a), Modality(modality_b)
    rows_a, rows_b = _rows_by_id(a, modality_a), _rows_by_id(b, modality_b)
    listed = [(str(one), str(other)) for one, other in pairs]
    found = sorted(
        {(int(rows_a[one]), int(rows_b[other])) for one, other in listed if one in rows_a and other in rows_b}
    )
    unknown = sum(one not in rows_a or other not in rows_b for one, other in listed)
    if len(found) < LEAST:
        first = next(
            (f"; {pair[0]!r}, {pair[1]!r}" for pair in listed if pair[0] not in rows_a or pair[1] not in rows_b), ""
        )
        raise InputError(
            f"{len(found)} of {len(listed)} pairs are {modality_a} of {a.path} and {modality_b} of {b.path}; expected "
            f"{LEAST} or more, the ids as cmcr embed names them{first and f' (not there: {first[2:]})'}"
        )
    ours, theirs = np.array(found, np.int64).T
    return KnownPairs(modality_a, ours, modality_b, theirs, unknown)


def contradicting(a: Memory, b: Memory, shared: Modality, pairs: KnownPairs) -> str:
    """Tell of pairs whose two ids are both in the overlap, as two different items; an empty text where there are none.

    A picture and its text often have one id. Where memory a calls a row ``dog`` and b its partner ``cat``, and both
    memories hold a text ``dog`` and a text ``cat``, the pair and the overlap do not say the same.

    Args:
        a: The first memory.
        b: The second.
        shared: The modality of the overlap.
        pairs: Of the two.
    """
    both = set(a.ids(shared)) & set(b.ids(shared))
    names_a, names_b = a.ids(pairs.modality_a), b.ids(pairs.modality_b)
    named = [(names_a[row], names_b[other]) for row, other in zip(pairs.rows_a, pairs.rows_b, strict=True)]
    found = [pair for pair in named if pair[0] != pair[1] and pair[0] in both and pair[1] in both]
    if not found:
        return ""
    return (
        f"{len(found)} of {len(named)} known pairs contradict the overlap, which holds both ids as {shared} of "
        f"different items (first: {found[0][0]!r}, {found[0][1]!r}); check the list if one id stands for one item"
    )


def _rows_by_id(memory: Memory, modality: Modality) -> ById:
    return ById({name: str(row) for row, name in enumerate(memory.ids(modality))}, str(memory.path))
