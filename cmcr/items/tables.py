"""Read lists of items: text lines, JSONL and CSV. A list that is not UTF-8 is refused; one bad record is not."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

from cmcr.errors import InputError
from cmcr.items.cells import Nothing, Repeated, cell_text

TABLES = frozenset({".jsonl", ".ndjson", ".csv", ".tsv"})
PATHS = ("path", "file", "filename", "file_name")
"""Columns of paths to files of any modality, which is seen from the suffix; each modality has columns of its own."""

_MAX_DIGITS = 4000
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_LIMIT = Lock()


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a manifest.

    >>> from pathlib import Path
    >>> from cmcr.items import read_table
    >>> Path("list.jsonl").write_text('{"id": 7, "caption": null}')
    26
    >>> [(record.line, record.values, record.why("caption")) for record in read_table(Path("list.jsonl"))]
    [(1, {'id': '7'}, ': caption is null')]

    Attributes:
        line: Its line, the last of several.
        values: The columns that hold a text or a number, as text.
        problem: What is wrong with the whole record.
        nothing: The columns without a text, and what stands there.
        lists: The columns of JSON that hold a list, which are among ``nothing`` too.
    """

    line: int
    values: dict[str, str]
    problem: str | None = None
    nothing: dict[str, Nothing] = field(default_factory=dict)
    lists: dict[str, list[object]] = field(default_factory=dict)

    @property
    def columns(self) -> list[str]:
        """Every column, whatever stands in it."""
        return [*self.values, *self.nothing]

    @property
    def no_id(self) -> str | None:
        """Why its id cannot be used; None where it can be, or there is none: it then goes by its content."""
        cell = self.nothing.get("id")
        return f"no id{cell.of('id')}" if cell and cell.wrong else None

    def why(self, *columns: str) -> str:
        """Return why none of some columns has a text, to end a reason with; empty where they are absent or empty."""
        return next(filter(None, (self.nothing[name].of(name) for name in columns if name in self.nothing)), "")


def decode(data: bytes, name: str) -> str:
    """Return ``data`` as text; a byte order mark is dropped.

    Raises:
        InputError: not UTF-8, or not text; the message names the line, the byte and the cure.
    """
    nul, wide = data.find(b"\0"), data.startswith(_UTF_16)
    if nul >= 0 and not wide:
        raise InputError(f"{name}: byte {nul} is NUL; expected UTF-8 text, not a binary or UTF-16 file: convert it")
    if wide:
        seen = f"byte {nul} is NUL" if nul >= 0 else "its byte order mark is UTF-16's"
        raise InputError(f"{name}: {seen}; expected UTF-8 text, not UTF-16; convert it: iconv -f UTF-16 -t UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = _line_at(data, error.start)
        where = f"{name}:{line}: byte {error.start} (0x{data[error.start]:02x}) is not UTF-8"
        raise InputError(f"{where}, perhaps Latin-1; convert it: iconv -f LATIN1 -t UTF-8") from None


def _line_at(data: bytes, offset: int) -> int:
    return len(re.findall(rb"\r\n|\n|\r", data[:offset])) + 1


def read_text(path: Path) -> str:
    """Return what a list or a table holds, as text.

    Raises:
        InputError: not a regular file, not UTF-8, or not text.
    """
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise InputError(f"{path}: not a regular file; expected UTF-8 text")
    return decode(path.read_bytes(), str(path))


def lines_of(text: str) -> list[str]:
    r"""Return the lines of a text: they end in ``\n``, ``\r\n`` or ``\r``, and in nothing else that Unicode has."""
    return io.StringIO(text, newline=None).read().split("\n")


def read_table(path: Path) -> Iterator[Record]:
    """Yield the records of a ``.jsonl``, ``.ndjson``, ``.csv`` or ``.tsv`` file; blank lines are passed over.

    Raises:
        InputError: not UTF-8; a CSV file with a quote that does not end; one JSON value over several lines.
    """
    text = read_text(path)
    return _csv(text, path) if path.suffix.lower() in (".csv", ".tsv") else _jsonl(text, path)


def _jsonl(text: str, path: Path) -> Iterator[Record]:
    first = True
    for number, line in enumerate(lines_of(text), 1):
        if not line.strip():
            continue
        record = _of_json(line, number)
        if first and record.problem:
            _refuse_one_value(text, path, number)
        first = False
        yield record


def _of_json(line: str, number: int) -> Record:
    try:
        value = _parsed(line)
    except ValueError as error:
        return Record(number, {}, f"not JSON: {error}")
    except RecursionError:
        return Record(number, {}, "not JSON: nested too deeply")
    if not isinstance(value, dict):
        kind = "null" if value is None else type(value).__name__
        return Record(number, {}, f"a JSON {kind}; expected an object")
    return _record(number, value, typed=True)


def _parsed(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_once_each, parse_int=_whole)


def _whole(digits: str) -> int | str:
    return int(digits) if len(digits) <= _MAX_DIGITS else digits  # Python converts no longer ones


def _once_each(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    """Return the cells by their names; of a name that comes with two different cells, none can be believed."""
    cells = dict(pairs)
    if len(cells) == len(pairs):
        return cells
    cells.clear()
    for name, cell in pairs:
        cells[name] = cell if name not in cells or cells[name] == cell else Repeated()
    return cells


def _refuse_one_value(text: str, path: Path, line: int) -> None:
    """Raise InputError where the file is one JSON value, whose lines could pass for records by chance."""
    try:
        value = _parsed(text)
    except (ValueError, RecursionError):
        return
    over = len(lines_of(text.strip())) > 1
    if isinstance(value, list) and (over or any(isinstance(each, dict) for each in value)):
        raise InputError(
            f"{path}:{line}: a JSON list; expected an object on each line; convert it: jq -c '.[]' {path.name}"
        )
    if isinstance(value, dict) and over:
        raise InputError(
            f"{path}:{line}: not JSON in this line, for one object stands over several; expected an object on each "
            f"line; convert it: jq -c . {path.name}"
        )


def _record(line: int, cells: dict[str, object], *, typed: bool, problem: str | None = None) -> Record:
    record = Record(line, {}, problem)
    for name, cell in cells.items():
        found = cell_text(cell, typed=typed)
        if isinstance(found, str):
            record.values[name] = found
            continue
        record.nothing[name] = found
        if isinstance(cell, list):
            record.lists[name] = cell
    return record


def _csv(text: str, path: Path) -> Iterator[Record]:
    rows = iter(read_rows(text, str(path), "\t" if path.suffix.lower() == ".tsv" else ","))
    first = next(rows, None)
    if first is None:
        return
    if first.problem:
        raise InputError(f"{path}:{first.line}: {first.problem}; expected a header of column names")
    header = [name.strip() for name in first.cells]
    _refuse_other_delimiter(header, path, first.line)
    for row in rows:
        surplus = len(row.cells) - len(header)
        problem = f"{surplus} cells more than the header has columns" if surplus > 0 else row.problem
        cells = _once_each([(name, cell) for name, cell in zip(header, row.cells, strict=False) if name])
        yield _record(row.line, cells, typed=False, problem=problem)


def _refuse_other_delimiter(header: list[str], path: Path, line: int) -> None:
    """Raise InputError where all columns are one, for something else stands between them."""
    expected, others = ("tabs", ";,") if path.suffix.lower() == ".tsv" else ("commas", ";\t")
    found = next((mark for mark in others if len(header) == 1 and mark in header[0]), None)
    if found:
        raise InputError(
            f"{path}:{line}: {found!r} stands between the columns; expected {expected}: write it anew with such"
        )


@dataclass(frozen=True, slots=True)
class TableRow:
    """A row of a CSV file: its line (the last of several), its cells, and why they cannot be told apart."""

    line: int
    cells: list[str]
    problem: str | None = None


def read_rows(text: str, name: str, delimiter: str = ",") -> list[TableRow]:
    """Return the rows of a CSV file, a header too; blank lines are passed over.

    A row of one line whose quotes are wrong is a problem. A quoted cell that goes on to another line and does not end
    rightly is refused with the whole file: which of the lines after it are rows and which its text is a guess.

    Args:
        text: What the file holds.
        name: Of the file, for errors.
        delimiter: What stands between cells.

    Raises:
        InputError: a quoted cell that goes on to another line and does not end rightly.
    """
    # The bound on a cell belongs to the whole process: it is lifted to the size of this text, and put back.
    with _LIMIT:
        before = csv.field_size_limit()
        csv.field_size_limit(max(before, len(text)))
        try:
            return list(_rows(text, name, delimiter))
        finally:
            csv.field_size_limit(before)


def _rows(text: str, name: str, delimiter: str) -> Iterator[TableRow]:
    lines = io.StringIO(text, newline="").readlines()
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        start = reader.line_num + 1
        try:
            cells, problem = next(reader), None
        except StopIteration:
            return
        except csv.Error:
            if reader.line_num > start:
                raise InputError(
                    f"{name}:{start}: a quote opens in this row and is not rightly closed up to line "
                    f"{reader.line_num}; close it, or write a quote mark inside a quoted cell twice"
                ) from None
            cells, problem = _mended(lines[start - 1], delimiter)
        if cells or problem:
            yield TableRow(reader.line_num, cells, problem)


def _mended(line: str, delimiter: str) -> tuple[list[str], str | None]:
    """Return the cells of a line without the blanks after closing quotes, or the problem if that is not what it has."""
    tidy = re.sub(rf'" +(?={re.escape(delimiter)}|[\r\n]*$)', '"', line)
    try:
        return next(csv.reader([tidy], delimiter=delimiter, strict=True)), None
    except csv.Error:
        return [], "a quote that is not rightly closed; write a quote mark inside a quoted cell twice"
