"""Numbers written as text, by whatever program on whatever system: one form of lines and numerals for all readers."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Sequence

import numpy as np

from cmcr.decode import note
from cmcr.errors import ItemError

_FORTRAN = re.compile(r"(?<=[\d.,])[dD](?=[+-]?\d)")
_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


def plain_lines(data: bytes) -> str:
    """Return a file's text with one line feed behind each line, blanks for tabs, and no byte order mark.

    Without a mark it is read as Latin-1: every byte has a letter there, numbers are ASCII, and names and comments, in
    whatever encoding, do not matter.
    """
    mark, encoding = next((each for each in _MARKS if data.startswith(each[0])), (b"", "latin-1"))
    text = data[len(mark) :].decode(encoding)
    for other in ("\r\n", "\r"):
        text = text.replace(other, "\n")
    return text.rstrip("\0\x1a").translate({ord(blank): " " for blank in "\t\v\f\xa0"})


def plain_exponents(text: str) -> str:
    """Return ``text`` with Fortran's exponents (1.5D+03) as everybody else's."""
    return _FORTRAN.sub("e", text) if "d" in text or "D" in text else text


def positions(lines: Sequence[str], columns: tuple[int, ...] = (0, 1, 2)) -> np.ndarray:
    """Parse some columns of lines of numbers that stand between blanks.

    A comma can only be a decimal one here.

    Returns:
        (lines, columns) float64.

    Raises:
        ItemError: a line has too few columns, or no numbers.
    """
    if not lines:
        return np.zeros((0, len(columns)))
    if not all(map(str.strip, lines)):  # numpy would leave such a line out, and number those behind it anew
        raise ItemError("damaged point cloud: a line without numbers where positions stand")
    try:
        return np.loadtxt(_plain_numerals(lines), usecols=columns, ndmin=2, comments=None)
    except (ValueError, OverflowError) as error:
        raise ItemError(f"damaged point cloud: {parse_error(error)}") from error


def _plain_numerals(lines: Sequence[str]) -> Iterable[str]:
    if any("d" in line or "D" in line for line in lines):
        lines = [plain_exponents(line) for line in lines]
    if any("," in line for line in lines):
        note("commas were read as decimal commas")
        lines = [line.replace(",", ".") for line in lines]
    return lines


def parse_error(error: Exception) -> str:
    """Return what numpy says of lines that it cannot parse, without its advice to programmers."""
    return " ".join(str(error).partition(";")[0].split())[:200]


def count_of(word: str) -> int:
    """Return how many things a file declares.

    Raises:
        ItemError: no number, or one beyond any file.
    """
    if not re.fullmatch(r"\+?[0-9]{1,15}", word):
        raise ItemError(f"damaged point cloud: {word[:20]!a} where it should declare how many there are")
    return int(word)
