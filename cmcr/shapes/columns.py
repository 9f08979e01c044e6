"""Read point clouds that are columns of text, as programs of all countries write them."""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from cmcr.decode import note, reserve
from cmcr.errors import ItemError
from cmcr.shapes.plain_text import count_of, parse_error, plain_exponents, plain_lines

TEXT_CLOUDS = frozenset({".xyz", ".pts", ".txt", ".csv", ".asc"})

_SEPARATORS = re.compile(r"[;,\s]+")
_BESIDE_DECIMALS = re.compile(r" *; *|,? +")  # what separates numbers whose own commas have no blank behind them
_INNER_COMMA = re.compile(r",(?=[^\s;,])")
_WORD = re.compile(r"[\"']?(?!(?:nan|inf|infinity|e[+-]?\d+)$)[^\W\d].*", re.IGNORECASE)
_DECIMAL = re.compile(r"[+-]?(?:\d+(?:,\d*)?|,\d+)(?:e[+-]?\d+)?", re.IGNORECASE)
_GROUPED = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")
_HALVES = re.compile(r"[+-]?\d+,0\d+|-0,\d+")


def read_columns(data: bytes, suffix: str, most: int) -> np.ndarray:
    """Read columns between blanks, commas or semicolons, with decimal points or, where that is clear, decimal commas.

    ``#`` begins a comment, and ``//`` at the start of a line. A first line of one number is how many points there are;
    one of names says which columns are x, y and z.

    Args:
        data: The file's bytes.
        suffix: In ``.pts`` the fourth of four or seven columns is an intensity, which is left out.
        most: Lines that are read at most.

    Returns:
        (N, columns) float64.

    Raises:
        ItemError: not numbers, rows of several lengths, commas that may be decimal or not, fewer points than declared.
    """
    if data.count(b"\n") + data.count(b"\r") > 2 * most:
        raise ItemError(f"more than {most} lines")
    text = plain_exponents(plain_lines(data))
    declared, names = _heading(list(itertools.islice(_lines(text), 2)))
    skipped = (declared is not None) + bool(names)
    rows = list(itertools.islice(_lines(text), skipped, skipped + 1))
    if rows and any(map(_WORD.fullmatch, _SEPARATORS.split(rows[0]))):
        raise ItemError(f"damaged point cloud: {rows[0][:40]!a}; expected numbers, or names with x, y and z among them")
    width = len(_SEPARATORS.split(rows[0])) if rows else 0
    reserve(3 * len(text) + 20 * width * text.count("\n"))
    columns = _numbers(_rows(text, skipped), names)
    if declared is not None and declared != len(columns):
        raise ItemError(
            f"{'truncated' if len(columns) < declared else 'damaged'} point cloud: {len(columns)} points "
            f"where its first line declares {declared}"
        )
    return columns[:, :3] if suffix == ".pts" and columns.shape[1] in (4, 7) and not names else columns


def _lines(text: str) -> Iterator[str]:
    for line in io.StringIO(text):
        kept = line.partition("#")[0].strip()
        if kept and not kept.startswith("//"):
            yield kept


def _heading(lines: Sequence[str]) -> tuple[int | None, list[str]]:
    """Return how many points the first line declares, and the names of columns in it or in the next."""
    declared = count_of(lines[0]) if lines and lines[0].isdecimal() else None
    named = lines[declared is not None :][:1]
    names = [name.strip("\"'").lower() for name in _SEPARATORS.split(named[0])] if named else []
    return declared, names if {"x", "y", "z"} <= set(names) else []


def _numbers(rows: Iterable[str], names: Sequence[str]) -> np.ndarray:
    rows = (row for row in rows if row.strip())
    first = next(rows, None)
    if first is None:
        return np.zeros((0, 3))
    wanted = [names.index(axis) for axis in "xyz"] if names else None
    if wanted and len(names) == 6:
        wanted += [column for column in range(6) if column not in wanted]
    elif wanted and len(names) > 3:
        note(f"of {len(names)} columns, those called x, y and z were taken")
    try:
        return np.loadtxt(itertools.chain([first], rows), ndmin=2, comments=None, usecols=wanted)
    except (ValueError, OverflowError) as error:
        raise ItemError(f"damaged point cloud: {parse_error(error)}") from error


def _rows(text: str, skipped: int) -> Iterator[str]:
    """Yield the lines of numbers with blanks between them and decimal points in them."""
    decimal = _INNER_COMMA.search(text) is not None and _has_decimal_commas(text, skipped)
    if decimal:
        note("commas were read as decimal commas")
    for line in itertools.islice(_lines(text), skipped, None):
        yield (
            _BESIDE_DECIMALS.sub(" ", line).replace(",", ".") if decimal else line.replace(",", " ").replace(";", " ")
        )


def _has_decimal_commas(text: str, skipped: int) -> bool:
    """Tell whether commas stand within numbers rather than between them.

    They do where lines fall into three numbers or more at blanks and semicolons, and still have commas.

    Raises:
        ItemError: they may mean either, or something else.
    """
    with_points = any("." in line for line in itertools.islice(_lines(text), skipped, None))
    shown, decimal, grouped = "", True, True
    for line in itertools.islice(_lines(text), skipped, None):
        fields = [field for field in _BESIDE_DECIMALS.split(line) if field]
        within = [field for field in fields if "," in field and len(fields) >= 3]
        shown = shown or "".join(within[:1])
        decimal = decimal and len(fields) >= 3 and all(map(_DECIMAL.fullmatch, fields))
        grouped = grouped and all(map(_GROUPED.fullmatch, within))
        if not with_points and _is_pairs(fields):
            raise ItemError(f"{line[:40]!a}: its commas may be decimal ones or separate numbers")
    if shown and (with_points or not decimal):
        raise ItemError(f"{shown[:40]!a}: commas both within and between numbers, or beside decimal points")
    if shown and grouped:
        raise ItemError(f"{shown[:40]!a}: its comma may group thousands or be a decimal one")
    return bool(shown)


def _is_pairs(fields: Sequence[str]) -> bool:
    """Tell whether commas alone stand between six numbers that look like the wholes and fractions of three."""
    parts = fields[0].split(",") if len(fields) == 1 else []
    halves = map(",".join, zip(parts[::2], parts[1::2], strict=False))
    return len(parts) == 6 and any(map(_HALVES.fullmatch, halves))
