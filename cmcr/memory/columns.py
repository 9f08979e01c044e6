"""Columns of facts about a memory's rows (years, licences): imported from tables, joined by id, kept beside it.

The only file that knows DuckDB, which reads the tables and evaluates conditions; pyarrow keeps the columns as parquet.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any

from cmcr.decode import memory_bytes
from cmcr.errors import ArtifactError, InputError, MissingExtraError, nearest
from cmcr.files import atomic, check_regular, locked, open_file, remove_left_behind
from cmcr.items import join_ids
from cmcr.memory.memory import Memory
from cmcr.reading import plainly, reading, why

COLUMNS = "columns.parquet"
SECONDS = 60.0
"""What a statement over columns may take; a condition of a stranger's must not keep a server busy."""
MOST_COLUMNS, MOST_BYTES = 1000, 8 << 30
_READERS = {
    ".csv": "read_csv({}, header=true, sample_size=-1, ignore_errors=true, hive_partitioning=false, types={})",
    ".jsonl": "read_json({}, format='newline_delimited', sample_size=-1, ignore_errors=true, hive_partitioning=false)",
    ".parquet": "read_parquet({}, hive_partitioning=false)",
}
_READERS |= {".tsv": _READERS[".csv"], ".ndjson": _READERS[".jsonl"]}
_CURE = "delete it, and import its tables again with cmcr columns"


@dataclass(frozen=True)
class Imported:
    """What an import found.

    Attributes:
        columns: The names of the columns it brought.
        lines: Records of the table that were kept.
        matched: Those whose id is a row's, of any modality; the others wait for rows that are embedded later.
        left_out: By reason, how many records were not kept.
    """

    columns: tuple[str, ...]
    lines: int
    matched: int
    left_out: dict[str, int]


def import_columns(memory: Memory, table: Path, id_column: str = "id") -> Imported:
    r"""Keep the columns of a CSV, JSONL or parquet table beside a memory, joined to its rows by id.

    What is there already stays: a row named again takes the new values, and other rows and columns keep theirs.

    Args:
        memory: Whose rows the table tells of.
        table: One record a row; types are found by looking at all of it.
        id_column: The column that holds the rows' ids.

    Raises:
        InputError: another kind of table, one that cannot be read, one without that column, or no id of a row in it.
        ArtifactError: the columns that are there are damaged, or another process writes to the memory.
        MissingExtraError: DuckDB or pyarrow is not installed.

    >>> from pathlib import Path
    >>> from cmcr import Memory, Modality, embed_items, load_encoder
    >>> from cmcr.items import text_item, unique_items
    >>> from cmcr.memory import columns
    >>> inputs = unique_items(Modality.TEXT, [text_item("a red drum", "texts.txt:1")])
    >>> made = embed_items(load_encoder("tiny-clip"), inputs, "mem/drums")
    >>> memory = Memory.open("mem/drums")
    >>> written = Path("years.csv").write_text(f"id,year\n{memory.ids(Modality.TEXT)[0]},2021\n")
    >>> columns.import_columns(memory, Path("years.csv")).matched, columns.column_types(memory)
    (1, {'year': 'BIGINT'})
    """
    with locked(memory.path):
        remove_left_behind(memory.path)
        with _told(table), database([table], SECONDS * 10) as db:
            columns, left_out = _read(db, table, id_column)
            lines, matched = _name_as_rows(db, memory, table)
            old = stored(memory)
            if old is not None:
                db.register("old", old)
            merged = db.sql(_merged(columns, () if old is None else old.column_names)).to_arrow_table()
        if merged.num_columns > MOST_COLUMNS:
            raise InputError(f"{table}: {merged.num_columns} columns, expected at most {MOST_COLUMNS}; keep fewer")
        _store(memory, merged)
    return Imported(tuple(columns), lines, matched, left_out)


def drop_columns(memory: Memory, names: Sequence[str]) -> None:
    """Take columns away.

    Raises:
        InputError: the memory has no such column.
        ArtifactError: as ``import_columns``.
    """
    with locked(memory.path):
        old, known = stored(memory), [*column_types(memory)]
        for name in names:
            if name not in known:
                raise InputError(f"{memory.path} has no column {name!r}{nearest(name, known)}")
        _store(memory, old.drop_columns(list(names)))


def column_types(memory: Memory) -> dict[str, str]:
    """Return the type of each imported column, as DuckDB names it; without the id."""
    found = stored(memory, [])
    if found is None:
        return {}
    with _told(memory.path / COLUMNS), database() as db:
        db.register("old", found)
        relation = db.sql("SELECT * FROM old LIMIT 0")
        return {n: str(t) for n, t in zip(relation.columns, relation.types, strict=True) if n != "id"}


def filled(memory: Memory) -> dict[str, int]:
    """Return of each imported column how many ids have a value."""
    found = stored(memory)
    names = [] if found is None else [name for name in found.column_names if name != "id"]
    return {name: found.num_rows - found[name].null_count for name in names}


def stored(memory: Memory, columns: Sequence[str] | None = None) -> Any:
    """Return the imported columns as a pyarrow table: the column ``id`` and those asked for, all unless said.

    None where nothing was imported; of ``[]`` no row is read.

    Raises:
        ArtifactError: they are damaged, or take more than a quarter of memory.
    """
    path = memory.path / COLUMNS
    if not path.exists():
        return None
    _libraries()
    from pyarrow import parquet

    with reading(path, _CURE), open_file(path) as file:
        opened = parquet.ParquetFile(file)
        about = opened.metadata
        size = sum(about.row_group(number).total_byte_size for number in range(about.num_row_groups))
        if max(size, about.num_rows) > memory_bytes() // 4:
            raise ArtifactError(f"{path}: {about.num_rows} rows of {size} bytes, more than a quarter of memory")
        if "id" not in opened.schema_arrow.names:
            raise ValueError("no column 'id'")
        if columns is None:
            return opened.read()
        return opened.read(columns=["id", *columns]) if columns else opened.schema_arrow.empty_table()


def _store(memory: Memory, table: Any) -> None:
    from pyarrow import parquet

    if table.num_columns < 2:  # the id alone tells nothing
        (memory.path / COLUMNS).unlink(missing_ok=True)
        return
    with atomic(memory.path / COLUMNS) as file:
        parquet.write_table(table, file)


@contextmanager
def database(tables: Sequence[Path] = (), seconds: float = SECONDS) -> Iterator[Any]:
    """Open a DuckDB in memory, which can open these files and nothing else, and is interrupted after some time.

    Raises:
        MissingExtraError: DuckDB is not installed.
    """
    duckdb, paths = _libraries(), [form for path in tables for form in (str(path), _pattern(path))]
    alone = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
    bounds = {"memory_limit": f"{memory_bytes() // 4}B", "threads": str(min(4, os.cpu_count() or 1))}
    with duckdb.connect(":memory:", config=alone | bounds) as db:
        db.execute("SET temp_directory = ''")
        db.execute(f"SET allowed_paths = [{', '.join(map(literal, paths))}]")
        db.execute("SET enable_external_access = false")
        db.execute("SET lock_configuration = true")
        done = Event()
        watch = Thread(target=_interrupt, args=(db, done, seconds), daemon=True)
        watch.start()
        try:
            yield db
        finally:
            done.set()
            watch.join()


def _interrupt(db: Any, done: Event, seconds: float) -> None:
    """End what a database does after some time; again and again, for it forgets what comes between statements."""
    while not done.wait(seconds):
        db.interrupt()
        seconds = 0.1


def _libraries() -> Any:
    try:
        import duckdb
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(error.name or "duckdb", "filters", "looking into columns") from None
    return duckdb


def literal(text: str) -> str:
    """Return a text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"


def quoted(name: str) -> str:
    """Return the name of a column as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'


def _pattern(path: Path) -> str:
    """Return the pattern that is met by one path alone: DuckDB takes every path for a pattern."""
    return glob.escape(str(path))


@contextmanager
def _told(where: Path) -> Iterator[None]:
    """Turn what DuckDB and pyarrow raise into one line of ours."""
    try:
        with plainly():
            yield
    except (ValueError, OSError) as error:
        raise InputError(f"{where}: cannot be read ({why(error)}); expected CSV, JSONL or parquet") from error


def _read(db: Any, table: Path, id_column: str) -> tuple[list[str], dict[str, int]]:
    """Make the table ``fresh`` of what a file holds: ``id`` as text, once each, and its other columns."""
    suffix = table.suffix.lower()
    if suffix not in _READERS:
        raise InputError(f"{table}: expected a table ({', '.join(_READERS)}){nearest(suffix, _READERS)}")
    if check_regular(table).st_size > MOST_BYTES:
        raise InputError(f"{table}: more than {MOST_BYTES >> 30} GB; import it in parts")
    where, reader = literal(_pattern(table)), _READERS[suffix]
    names = db.sql(f"SELECT * FROM {reader.format(where, '{}')} LIMIT 0").columns  # noqa: S608 - quoted
    if id_column not in names:
        held = ", ".join(names[:20])
        raise InputError(
            f"{table}: no column {id_column!r}{nearest(id_column, names)}; name the one of ids with --id ({held})"
        )
    columns = [name for name in names if name != id_column and name.lower() != "id"]
    if not columns:
        raise InputError(f"{table}: nothing beside {id_column!r}; expected columns to import")
    source = reader.format(where, "{" + f"{literal(id_column)}: 'VARCHAR'" + "}")  # 007 is no 7
    kept = ", ".join(map(quoted, columns))
    db.execute(
        f"CREATE TABLE given AS SELECT CAST({quoted(id_column)} AS VARCHAR) AS id, {kept}, "  # noqa: S608
        f"row_number() OVER () AS line FROM {source}"
    )
    db.execute(
        f"CREATE TABLE fresh AS SELECT id, {kept} FROM given WHERE id IS NOT NULL "  # noqa: S608
        "QUALIFY row_number() OVER (PARTITION BY id ORDER BY line) = 1"
    )
    ((count, named, single),) = db.sql("SELECT count(*), count(id), count(DISTINCT id) FROM given").fetchall()
    left_out = {"no id, or not readable": count - named, "an id that came before": named - single}
    return columns, {reason: number for reason, number in left_out.items() if number}


def _name_as_rows(db: Any, memory: Memory, table: Path) -> tuple[int, int]:
    """Give the records in ``fresh`` the ids of the rows that they tell of; return how many there are, and matched."""
    import pyarrow

    rows = list(dict.fromkeys(name for modality in memory.modalities for name in memory.ids(modality)))
    given = [name for (name,) in db.sql("SELECT id FROM fresh ORDER BY id").fetchall()]
    whose = str(memory.path), str(table)
    mine, theirs = join_ids(rows, given, whose)
    if not mine:  # as file names have them
        bare = [name.rpartition(".")[0] for name in given]
        if len(set(bare)) == len(bare):
            mine, theirs = join_ids(rows, bare, whose)
    if not mine:
        raise InputError(
            f"{table}: none of its {len(given)} ids is a row of {memory.path}: {_example(given)} beside "
            f"{_example(rows)}; name the column of ids with --id"
        )
    db.register("names", pyarrow.table({"was": [given[n] for n in theirs], "becomes": [rows[n] for n in mine]}))
    db.execute(
        "UPDATE fresh SET id = names.becomes FROM names WHERE fresh.id = names.was AND names.was <> names.becomes"
    )
    return len(given), len(mine)


def _example(names: list[str]) -> str:
    return repr(names[0][:60]) if names else "nothing"


def _merged(fresh: Sequence[str], old: Sequence[str]) -> str:
    """Return the query that puts new columns beside, or in the place of, those that are there."""
    if not old:
        return f"SELECT id, {', '.join(map(quoted, fresh))} FROM fresh ORDER BY id"  # noqa: S608 - quoted
    before, new = {name.lower(): name for name in old if name != "id"}, {name.lower(): name for name in fresh}
    cells = []
    for low, name in (before | new).items():
        was, now = f"old.{quoted(before.get(low, name))}", f"fresh.{quoted(new.get(low, name))}"
        both = f"CASE WHEN fresh.id IS NULL THEN {was} ELSE {now} END"
        cells.append(f"{both if low in before and low in new else now if low in new else was} AS {quoted(name)}")
    chosen = ", ".join(cells)
    return f"SELECT coalesce(fresh.id, old.id) AS id, {chosen} FROM old FULL JOIN fresh ON old.id = fresh.id ORDER BY 1"  # noqa: S608
