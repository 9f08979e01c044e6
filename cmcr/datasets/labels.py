"""Labels of items: a file of ids and classes."""

from __future__ import annotations

from pathlib import Path

from cmcr.errors import InputError, nearest
from cmcr.items import TABLES, ById, Nothing, Record, cell_text, lines_of, read_table, read_text

FIELDS = ("class", "label", "category")


def read_labels(path: Path, field: str | None = None) -> ById:
    r"""Return the class of each id; ids are found in whatever Unicode form and with whatever blanks around them.

    Args:
        path: JSONL, CSV or TSV with a header, whose records have ``id`` and the field; or lines ``id<TAB>class``
            in a file of any other name.
        field: The column that holds the class; the first of ``FIELDS`` when left out.

    Raises:
        InputError: missing, not UTF-8, a line without a class (or with null, NaN or a list for one), an id with two
            classes, or no such column.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected labels: lines id<TAB>class, or a JSONL, CSV or TSV table")
    labels: dict[str, str] = {}
    pairs = _of_table(path, field) if path.suffix.lower() in TABLES else _of_lines(path)
    for line, name, label in pairs:
        if labels.setdefault(name, label) != label:
            raise InputError(f"{path}:{line}: {name!r} is {label!r} here and {labels[name]!r} before; keep one")
    if not labels:
        raise InputError(f"{path}: no label in it; expected lines id<TAB>class")
    return ById(labels, str(path))


def _of_lines(path: Path) -> list[tuple[int, str, str]]:
    found = []
    for number, line in enumerate(lines_of(read_text(path)), 1):
        if not line.strip():
            continue
        name, _, cell = line.partition("\t")
        label = cell_text(cell, typed=False)
        if isinstance(label, Nothing) or not name:
            reason = label.of("the class") if isinstance(label, Nothing) else ""
            raise InputError(f"{path}:{number}: {line[:60]!r}{reason}; expected id<TAB>class")
        found.append((number, name, label.strip()))
    return found


def _of_table(path: Path, field: str | None) -> list[tuple[int, str, str]]:
    records = list(read_table(path))
    columns = list(dict.fromkeys(name for record in records for name in record.columns))
    wanted = next((name for name in ([field] if field else FIELDS) if name in columns), None)
    if records and not columns:
        raise InputError(f"{path}:{records[0].line}: {records[0].problem or 'no column in it'}; expected labels")
    if wanted is None or "id" not in columns:
        looked = f"id and {field or ' or '.join(FIELDS)}"
        close = nearest(field, columns) if field else ""
        raise InputError(f"{path}: no labels; looked for {looked}; saw {' '.join(columns) or 'no record'}{close}")
    bad = next((record for record in records if record.problem or not {"id", wanted} <= record.values.keys()), None)
    if bad is not None:
        raise InputError(f"{path}:{bad.line}: {_why(bad, wanted)}; correct or remove the line")
    return [(record.line, record.values["id"], record.values[wanted]) for record in records]


def _why(record: Record, wanted: str) -> str:
    return record.problem or f"no id or no {wanted}{record.why('id', wanted)}"
