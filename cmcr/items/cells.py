"""From a cell of a table (JSON, parquet, CSV) or a line of a list to a text, or to what stands there instead."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from decimal import Decimal

WORDS_FOR_NOTHING = frozenset({"nan", "NaN", "NAN", "None", "null", "NULL", "N/A", "n/a", "#N/A", "<NA>"})
"""What programs write for a missing value where a file has no types. A caption that is truly one of these is rarer."""
_WRITTEN_OUT = (
    (re.compile(r"""\[\s*(['"].*)?\]""", re.DOTALL), "a list"),
    (re.compile(r"""\{\s*(['"].*)?\}""", re.DOTALL), "an object"),
)
"""How a list or an object of texts stands in a file without types: as JSON has it, or as a data frame prints it."""
_EXACT = 2.0**53  # whole floats below this are whole numbers without loss


@dataclass(frozen=True, slots=True)
class Nothing:
    """A cell without a text.

    >>> from cmcr.items import Nothing, cell_text
    >>> cell_text(1.0), cell_text(None), "no text" + cell_text([1, 2]).of("caption")
    ('1', Nothing(what='null', wrong=False), 'no text: caption is a list of 2; expected one text')

    Attributes:
        what: What stands there: ``null``, ``NaN``, ``'nan'``, ``a list of 2``; empty for an empty or blank cell.
        wrong: Whether the cell holds something, which is no text.
    """

    what: str = ""
    wrong: bool = False

    def of(self, name: str) -> str:
        """Return the end of a reason: ``": caption is null"``; of an empty cell the empty string."""
        return f": {name} is {self.what}{'; expected one text' if self.wrong else ''}" if self.what else ""


@dataclass(frozen=True, slots=True)
class Repeated:
    """Stands for a cell that one record gives twice, and differently."""


def cell_text(cell: object, *, typed: bool = True) -> str | Nothing:
    """Return the text of a cell; every reader of tables and lists asks here.

    A number is its digits, a whole one without a point (1.0 is ``1``: what a data frame makes of whole numbers beside
    a missing one). Null, NaN, infinities, truth values, lists and objects are no text, nor is what is empty or blank.

    Args:
        cell: As the file's reader gives it.
        typed: Whether the file has types, as JSON and parquet do; in CSV and in lines a word of
            ``WORDS_FOR_NOTHING`` that is all of a cell is no text either, nor is a list or an object written out.
    """
    if isinstance(cell, bytes):
        try:
            cell = cell.decode()
        except UnicodeDecodeError:
            return Nothing("bytes that are not UTF-8", wrong=True)
    if isinstance(cell, str):
        word = cell.strip()
        return (None if typed else _untyped(word)) or (cell if word else Nothing())
    return _no_text(cell) if isinstance(cell, bool) else _number(cell) or _no_text(cell)


def _untyped(word: str) -> Nothing | None:
    if word in WORDS_FOR_NOTHING:
        return Nothing(repr(word))
    return next((Nothing(what, wrong=True) for shape, what in _WRITTEN_OUT if shape.fullmatch(word)), None)


def _number(cell: object) -> str | None:
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < _EXACT:
        return str(int(cell))
    finite = isinstance(cell, int) or (isinstance(cell, float | Decimal) and math.isfinite(cell))
    return str(cell) if finite else None


def _no_text(cell: object) -> Nothing:
    if cell is None:
        return Nothing("null")
    if isinstance(cell, float | Decimal):
        return Nothing("NaN") if math.isnan(cell) else Nothing("infinite", wrong=True)
    if isinstance(cell, bool):
        return Nothing(str(cell).lower(), wrong=True)
    if isinstance(cell, Repeated):
        return Nothing("given twice, and differently", wrong=True)
    if isinstance(cell, list | tuple):
        return Nothing(f"a list of {len(cell)}", wrong=True)
    return Nothing("an object" if isinstance(cell, dict) else f"a {type(cell).__name__}", wrong=True)
