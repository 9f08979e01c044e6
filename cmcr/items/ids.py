"""Ids: what makes two of them one, and how names that are no UTF-8 are written."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath

from cmcr.errors import InputError


def readable(name: str) -> str:
    r"""Return a name with every byte that is no UTF-8 as ``\xNN``: ids and sources are stored as UTF-8."""
    try:
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # a surrogate that stands for no byte, as JSON can hold it
        return name.encode("utf-8", "backslashreplace").decode()


def joining_form(name: str) -> str:
    """Return the form in which ids are compared: composed (NFC) letters, no blanks around it."""
    return name.strip() if name.isascii() else unicodedata.normalize("NFC", name).strip()


def join_ids(first: Sequence[str], second: Sequence[str], whose: tuple[str, str]) -> tuple[list[int], list[int]]:
    """Return which rows have one id: equal ids first, then those of the rest that are equal in their joining form.

    Args:
        first: (N,) unique ids.
        second: (M,) unique ids.
        whose: What holds them, for the message.

    Returns:
        P row numbers in ``first``, ascending, and the P row numbers of their partners in ``second``.

    Raises:
        InputError: two ids of one side have the joining form of one of the other.
    """
    there = {name: row for row, name in enumerate(second)}
    partner = {row: there[name] for row, name in enumerate(first) if name in there}
    taken = set(partner.values())
    rest = [_by_form(names, rows) for names, rows in ((first, partner.keys()), (second, taken))]
    for form in rest[0].keys() & rest[1].keys():
        for names, alike, who in zip((first, second), (rest[0][form], rest[1][form]), whose, strict=True):
            if len(alike) > 1:
                raise InputError(
                    f"{who}: the ids {names[alike[0]]!a} and {names[alike[1]]!a} differ only in how their letters are "
                    "composed or in blanks around them, and the other side has one such id; give them other ids"
                )
        partner[rest[0][form][0]] = rest[1][form][0]
    rows = sorted(partner)
    return rows, [partner[row] for row in rows]


def _by_form(names: Sequence[str], without: Iterable[int]) -> dict[str, list[int]]:
    left_out, found = set(without), dict[str, list[int]]()
    for row, name in enumerate(names):
        if row not in left_out:
            found.setdefault(joining_form(name), []).append(row)
    return found


class ById(Mapping[str, str]):
    """Values by id; an id that is not there as it stands is looked up in its joining form.

    >>> from cmcr.items import ById
    >>> ById({"dog ": "bark"}, "labels.csv")["dog"]
    'bark'

    Raises:
        InputError: that form is the form of several ids, of other values.
    """

    def __init__(self, values: Mapping[str, str], whose: str) -> None:
        self._values, self._whose = dict(values), whose
        self._forms: dict[str, list[str]] = {}
        for name in self._values:
            self._forms.setdefault(joining_form(name), []).append(name)

    def __getitem__(self, name: str) -> str:
        if name in self._values:
            return self._values[name]
        near = self._forms.get(joining_form(name), [])
        if len({self._values[each] for each in near}) > 1:
            raise InputError(f"{self._whose}: {near[0]!a} and {near[1]!a} both may be {name!a}; keep one")
        if not near:
            raise KeyError(name)
        return self._values[near[0]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def same_id(wanted: str, names: Sequence[str]) -> list[int]:
    """Return the places of an id among others: where it stands as it is, else where its joining form does."""
    found = [place for place, name in enumerate(names) if name == wanted]
    form = joining_form(wanted)
    return found or [place for place, name in enumerate(names) if joining_form(name) == form]


def what_differs(first: Sequence[str], second: Sequence[str]) -> str:
    """Return in what ids differ that have nothing in common, ``"; 'a/B' and 'b' ..."``, or an empty string."""
    for change, what in _LOOSER:
        there = {change(joining_form(name)): name for name in reversed(second)}
        near = next((name for name in first if change(joining_form(name)) in there), None)
        if near is not None:
            return f"; {near!r} and {there[change(joining_form(near))]!r} differ in {what}"
    return ""


def _last_part(name: str) -> str:
    return name.rstrip("/").rpartition("/")[2]


def _bare(name: str) -> str:
    return PurePosixPath(_last_part(name)).stem.casefold()


_LOOSER: tuple[tuple[Callable[[str], str], str], ...] = (
    (str.lower, "upper and lower case"),
    (_last_part, "the folder before the name"),
    (lambda name: PurePosixPath(name).with_suffix("").as_posix() if _last_part(name) else name, "a suffix"),
    (lambda name: unicodedata.normalize("NFKC", name), "the form of their letters"),
    (_bare, "folder, suffix or case"),
)
