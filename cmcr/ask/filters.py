"""Conditions on the rows that are looked into: ``year >= 2020 and license = "cc0"``, as DuckDB evaluates them."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cmcr.errors import ArtifactError, InputError, nearest
from cmcr.memory import MediaRoots, Memory, Row
from cmcr.memory.columns import SECONDS, column_types, database, literal, quoted, stored
from cmcr.modality import Modality
from cmcr.reading import plainly

OWN_COLUMNS = ("id", "source", "text", "note")
"""What every row has of its own; an imported column of such a name takes its place, but for the id."""
LONGEST = 10_000
_BLOCK = 8192
_CLASSES = {
    "COLUMN_REF", "CONSTANT", "COMPARISON", "CONJUNCTION", "FUNCTION", "OPERATOR", "CAST", "TYPE", "BETWEEN", "CASE",
    "COLLATE",
}  # fmt: skip
# What cannot grow much beyond its arguments, nor looks at anything but them: settings, files, the time, chance.
_FUNCTION_NAMES = """
~~ ~~* ~~~ !~~ !~~* like_escape ilike_escape not_like_escape not_ilike_escape regexp_full_match regexp_matches
regexp_extract + - * / // % ** ^ & | << >> ~ @ || ->> -> abs ceil ceiling floor round trunc sign sqrt ln log log10 log2
exp mod pow power greatest least lower lcase upper ucase length len strlen trim ltrim rtrim substring substr left right
contains starts_with ends_with prefix suffix position strpos instr concat strip_accents levenshtein jaccard
jaro_winkler_similarity list_contains list_has array_contains array_has list_has_any array_has_any list_has_all
array_has_all list_value list_extract list_element array_extract list_min list_max list_position array_length
struct_extract struct_pack map_extract element_at map_keys cardinality year month day hour minute second quarter week
dayofweek isodow dayofyear date_part datepart date_trunc datetrunc date_diff datediff strptime try_strptime strftime
make_date to_days to_weeks to_months to_years to_hours to_minutes to_seconds isnan isfinite isinf if ifnull nullif
json_extract json_extract_string json_contains string_split str_split
"""
_FUNCTIONS = frozenset(_FUNCTION_NAMES.split())
_QUERY = "SELECT 1 FROM facts WHERE "
_NAME = re.compile(rb'"(?:[^"]|"")*"')


class Filtered(Memory):
    """The rows of one modality of a memory that meet a condition, read like a memory.

    >>> from pathlib import Path
    >>> from cmcr import Memory, Modality, embed_items, load_encoder
    >>> from cmcr.ask import filter_rows
    >>> from cmcr.items import text_item, unique_items
    >>> texts = [text_item(text, f"texts.txt:{line}") for line, text in enumerate(("a red drum", "a blue bell"), 1)]
    >>> made = embed_items(load_encoder("tiny-clip"), unique_items(Modality.TEXT, texts), "mem/two")
    >>> found = filter_rows(Memory.open("mem/two"), Modality.TEXT, "text LIKE '%bell'")
    >>> found.rows(Modality.TEXT), found.row(Modality.TEXT, 0).text, found.of
    (1, 'a blue bell', 2)

    Attributes:
        numbers: (N,) the numbers of the rows in the memory, ascending.
        of: How many rows the memory has.
        unknown: How many of them lack a value, so that nobody can say whether they meet the condition.
        where: The condition.
    """

    def __init__(self, memory: Memory, modality: Modality, where: str, numbers: np.ndarray, unknown: int) -> None:
        """Take these rows of a memory."""
        super().__init__(memory.path, memory.manifest)
        self.where, self.numbers, self.unknown, self.of = where, numbers, unknown, memory.rows(modality)
        self._whole, self._modality = memory, modality

    def rows(self, modality: Modality) -> int:
        """Return how many rows meet the condition."""
        return len(self.numbers) if modality == self._modality else 0

    def row(self, modality: Modality, index: int) -> Row:
        """Return what is known about one of them."""
        return self._whole.row(modality, int(self.numbers[index]))

    def metadata(self, modality: Modality) -> Iterator[Row]:
        """Yield what is known about each, in row order."""
        chosen = set(self.numbers.tolist())
        return (row for number, row in enumerate(self._whole.metadata(modality)) if number in chosen)

    def blocks(self, modality: Modality, size: int = _BLOCK) -> Iterator[np.ndarray]:
        """Yield (n, D) float32 unit vectors of them, 1 <= n <= ``size``, in row order."""
        for start in range(0, len(self.numbers), size):
            yield self._whole.vectors(modality, self.numbers[start : start + size])

    def vectors(self, modality: Modality, indices: Sequence[int] | np.ndarray | None = None) -> np.ndarray:
        """Return the (N, D) float32 unit vectors of all, or of the ``indices`` among them."""
        wanted = self.numbers if indices is None else self.numbers[np.asarray(indices, np.int64)]
        return self._whole.vectors(modality, wanted)

    def fingerprint(self, modality: Modality) -> str:
        """Return a hex sha256 that changes with the memory and the rows chosen."""
        parts = self._whole.fingerprint(modality).encode(), self.numbers.astype("<i8").tobytes()
        return hashlib.sha256(b"".join(parts)).hexdigest()

    def check_content(self, modality: Modality, most: int | None = None) -> bool:
        """Compare the memory's files with its manifest; see ``Memory.check_content``."""
        return self._whole.check_content(modality, most)

    def source_path(self, row: Row) -> Path | None:
        """Return the file a row was made from."""
        return self._whole.source_path(row)

    def source_bytes(self, row: Row, roots: MediaRoots | None = None, most: int | None = None) -> bytes | None:
        """Return the content a row was made from; see ``Memory.source_bytes``."""
        return self._whole.source_bytes(row, roots, most)

    def told(self) -> str:
        """Return in a sentence how many rows are left, and how many nobody can tell of."""
        lacking = f"; {self.unknown} lack a value that it asks for" if self.unknown else ""
        return f"{self.path}: {len(self.numbers)} of {self.of} rows meet --where{lacking}"


def filter_rows(memory: Memory, modality: Modality, where: str, *, seconds: float = SECONDS) -> Filtered:
    """Return the rows of a memory that meet a condition over its columns.

    A column is what ``cmcr columns`` has imported, or ``id``, ``source``, ``text`` and ``note``, which each row has. A
    name in double quotes that is no column is taken as a text, as most people mean it. Only one expression of values
    is accepted: no statement, no query within it, and of DuckDB's functions those that look at their arguments alone.

    Args:
        memory: Where to look.
        modality: Which of its rows.
        where: The condition, in SQL as DuckDB has it.
        seconds: What evaluating it may take.

    Raises:
        InputError: it is no condition, names a column that is not there, cannot be evaluated on a row's value, or is
            not done in time.
        ArtifactError: the columns are damaged.
        MissingExtraError: DuckDB or pyarrow is not installed.
    """
    imported, ends = column_types(memory), time.monotonic() + seconds
    known = {name.lower(): name for name in (*OWN_COLUMNS, *imported)}
    try:
        with database(seconds=seconds) as db:
            condition, used = _checked(db, where, known, memory)
            _load(db, memory, _in_time(memory.metadata(modality), ends), used, imported)
            found = db.sql(f"SELECT number, (\n{condition}\n) AS met FROM facts ORDER BY number")  # noqa: S608 - checked
            if str(found.types[1]) not in ("BOOLEAN", '"NULL"'):
                raise InputError(f"--where {where!r} is a {found.types[1]}, expected a condition, such as year >= 2020")
            with plainly():
                met = found.fetchnumpy()["met"]
    except (InputError, ArtifactError):
        raise
    except Exception as error:
        if time.monotonic() >= ends:
            raise InputError(f"--where {where[:200]!r}: not done after {seconds:g} seconds; ask for less") from error
        if not type(error).__module__.endswith("duckdb") and not isinstance(error, ValueError):
            raise
        raise InputError(f"--where {where[:200]!r}: {_plain(error)}; write it as an SQL condition") from error
    mask = np.ma.getmaskarray(met)
    kept = np.flatnonzero(np.ma.filled(met, False).astype(bool) & ~mask)
    return Filtered(memory, modality, where, kept, int(mask.sum()))


def _plain(error: BaseException) -> str:
    return " ".join(re.split(r"\s*(LINE \d+:|Candidate)", str(error))[0].split())[:300]


def _checked(db: Any, where: str, known: dict[str, str], memory: Memory) -> tuple[str, list[str]]:
    """Return the condition with its texts in single quotes, and the columns it names."""
    if not where.strip() or len(where) > LONGEST or "\0" in where:
        raise InputError(f"--where {where[:60]!r}: expected a condition of 1 to {LONGEST} characters")
    condition, unknown = where, None
    for _ in range(2):
        columns = _columns(_parsed(db, condition, where), where)
        strange = [(name, place) for name, place in columns if name.split(".")[0].lower() not in known]
        condition, unknown = _texts_quoted(condition, [place for _, place in strange]), strange
    if unknown:
        name = unknown[0][0]
        held = ", ".join(known.values())
        raise InputError(
            f"--where: {memory.path} has no column {name!r}{nearest(name, known.values())} (it has {held})"
        )
    return condition, list(dict.fromkeys(known[name.split(".")[0].lower()] for name, _ in columns))


def _parsed(db: Any, condition: str, where: str) -> Any:
    """Return the tree of an expression, as DuckDB parses it; refuse whatever is more than that."""
    tree, bare = (_tree(db, _QUERY + each) for each in (condition, "true"))
    if tree["error"]:
        told = str(tree.get("error_message", "not an expression"))
        if "SELECT statements" in told:  # something follows that is no condition
            told = "expected one condition and nothing after it"
        raise InputError(f"--where {where[:200]!r}: {told}")
    nodes = [each["node"] for each in tree["statements"]]
    found = nodes[0].pop("where_clause", None)
    alone = bare["statements"][0]["node"]
    alone.pop("where_clause")
    if nodes != [alone]:
        raise InputError(f"--where {where[:200]!r}: expected one condition and nothing after it")
    return found


def _tree(db: Any, sql: str) -> Any:
    ((found,),) = db.execute("SELECT json_serialize_sql(?::VARCHAR)", [sql]).fetchall()
    return json.loads(found)


def _columns(tree: Any, where: str) -> list[tuple[str, int]]:
    """Return the columns that an expression names, each with its place in bytes; refuse what is not about values."""
    found: list[tuple[str, int]] = []
    stack = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, list):
            stack += node
        elif isinstance(node, dict):
            kind = node.get("class")
            if kind is not None and kind not in _CLASSES:
                raise InputError(f"--where {where[:200]!r}: {kind.lower()} is not accepted, only values of a row")
            if kind == "FUNCTION" and node["function_name"].lower() not in _FUNCTIONS:
                raise InputError(f"--where {where[:200]!r}: the function {node['function_name']}() is not accepted")
            if kind == "COLUMN_REF":
                found.append((".".join(node["column_names"]), node["query_location"] - len(_QUERY)))
            stack += node.values()
    return sorted(found, key=lambda pair: pair[1])


def _texts_quoted(condition: str, places: list[int]) -> str:
    """Put what stands in double quotes at some places (in bytes) into single ones: it is a text, and no column."""
    data = condition.encode()
    for place in reversed(places):
        found = _NAME.match(data, place)
        if found:
            text = found[0][1:-1].replace(b'""', b'"').decode()
            data = data[:place] + literal(text).encode() + data[found.end() :]
    return data.decode()


def _in_time(rows: Iterator[Row], ends: float) -> Iterator[Row]:
    """Pass rows on until the time is up: what Python does is not interrupted with the database."""
    for number, row in enumerate(rows):
        if number % 1024 == 0 and time.monotonic() >= ends:
            raise TimeoutError
        yield row


def _load(db: Any, memory: Memory, rows: Iterator[Row], used: list[str], imported: dict[str, str]) -> None:
    """Make the table ``facts``: a row each of the memory's, with the columns that a condition names."""
    import pyarrow

    own = [name for name in OWN_COLUMNS if name == "id" or (name in used and name not in imported)]
    cells: dict[str, list[str | None]] = {name: [] for name in own}
    for row in rows:
        for name in own:
            cells[name].append(getattr(row, name))
    held = {name: pyarrow.array(each, pyarrow.large_string()) for name, each in cells.items()}
    db.register("own", pyarrow.table({"number": np.arange(len(cells["id"]))} | held))
    chosen = [name for name in used if name in imported]
    parts = ["own.number", *(f"own.{quoted(name)}" for name in own)]
    if chosen:
        db.register("kept", stored(memory, chosen))
        parts += [f"kept.{quoted(name)}" for name in chosen]
    join = "LEFT JOIN kept ON own.id = kept.id" if chosen else ""
    db.execute(f"CREATE TABLE facts AS SELECT {', '.join(parts)} FROM own {join}")  # noqa: S608 - names are quoted
