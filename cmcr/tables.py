"""Read lists of items: text lines, JSONL and CSV. A list that is not UTF-8 is refused; one bad record is not."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cmcr.errors import InputError
from cmcr.reading import parse_json

TABLES = frozenset({".jsonl", ".ndjson", ".csv", ".tsv"})


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a manifest: its line, its non-empty columns as text, and what is wrong with it."""

    line: int
    values: dict[str, str]
    problem: str | None = None


def decode(data: bytes, name: str) -> str:
    """Return ``data`` as text; a byte order mark is dropped.

    Raises:
        InputError: not UTF-8, or not text; the message names the line, the byte and the cure.
    """
    nul = data.find(b"\0")
    if nul >= 0:
        raise InputError(f"{name}: byte {nul} is NUL; expected UTF-8 text, not a binary or UTF-16 file: convert it")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        where = f"{name}:{line}: byte {error.start} (0x{data[error.start]:02x}) is not UTF-8"
        raise InputError(f"{where}, perhaps Latin-1; convert it: iconv -f LATIN1 -t UTF-8") from None


def read_table(path: Path) -> Iterator[Record]:
    """Yield the records of a ``.jsonl``, ``.ndjson``, ``.csv`` or ``.tsv`` file; blank lines are passed over.

    Raises:
        InputError: not UTF-8, or a CSV file that cannot be split into columns.
    """
    text = decode(path.read_bytes(), str(path))
    return _csv(text, path) if path.suffix.lower() in (".csv", ".tsv") else _jsonl(text)


def _jsonl(text: str) -> Iterator[Record]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            value = parse_json(line)
        except ValueError as error:
            yield Record(number, {}, f"not JSON: {error}")
            continue
        if not isinstance(value, dict):
            yield Record(number, {}, f"a JSON {type(value).__name__}; expected an object")
            continue
        plain = {key: str(cell) for key, cell in value.items() if isinstance(cell, str | int | float) and cell != ""}
        yield Record(number, plain)


def _csv(text: str, path: Path) -> Iterator[Record]:
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        for row in reader:
            surplus = row.pop(None, None)
            values = {str(key).strip(): cell for key, cell in row.items() if cell}
            problem = f"{len(surplus)} cells more than the header has columns" if surplus else None
            yield Record(reader.line_num, values, problem)
    except csv.Error as error:
        raise InputError(
            f"{path}:{reader.line_num}: {error}; expected comma-separated columns under a header"
        ) from None
