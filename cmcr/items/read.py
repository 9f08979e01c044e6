"""Turn what a user has (folder, glob, text file, manifest, webdataset tar) into items in a stable order."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from cmcr.errors import InputError
from cmcr.files import is_file
from cmcr.items import folders
from cmcr.items.cells import Nothing, cell_text
from cmcr.items.ids import readable
from cmcr.items.item import Inputs, Item, Up, state_up, text_item, unique_items
from cmcr.items.tables import PATHS, TABLES, Record, decode, lines_of, read_table, read_text
from cmcr.items.tars import Member, by_suffix_within_keys, index_tar, item_fields
from cmcr.modality import Modality, of_suffix


@dataclass(frozen=True, slots=True)
class _File:
    """A file or tar member; the suffix of its name inside the input decides its modality."""

    name: str
    key: str
    source: str
    path: Path
    offset: int = 0
    size: int | None = None
    problem: str | None = None
    field: str | None = None  # of a tar's member that is no item itself: what it goes by

    @property
    def suffix(self) -> str:
        return self.field or PurePosixPath(self.name).suffix.lower()

    def item(self, modality: Modality) -> Item:
        return Item(self.key, modality, self.source, None, self.path, self.offset, self.size, self.problem)


def read_items(source: str, modality: Modality | None, allowed: Sequence[Modality], *, up: Up | None = None) -> Inputs:
    """List the items of an input, without reading their content.

    Args:
        source: A folder, a glob, a text file (one item a line), a JSONL, CSV or TSV manifest, one or a glob of
            webdataset tars, a single file, or ``-`` for lines of text on stdin.
        modality: Which modality to take; None takes the only one of ``allowed`` that is there.
        allowed: What the encoder embeds.
        up: The axis that points up in point clouds; None: as the encoder expects.

    Raises:
        InputError: nothing there, nothing usable, several modalities, or a list that is not UTF-8; or ``up`` with
            items that are no point clouds.
    """
    inputs = _list_items(source, modality, allowed)
    return inputs if up is None else state_up(inputs, up)


def _list_items(source: str, modality: Modality | None, allowed: Sequence[Modality]) -> Inputs:
    if modality is not None and modality not in allowed:
        raise InputError(f"modality {modality}; this encoder embeds {' and '.join(allowed)}: choose another encoder")
    path, textual = Path(source), modality in (None, Modality.TEXT) and Modality.TEXT in allowed
    if source == "-":
        if not textual:
            raise InputError(f"'-' reads lines of text; this needs text, not {modality or ' or '.join(allowed)}")
        return _text_lines(decode(sys.stdin.buffer.read(), "stdin"), "stdin")
    if path.is_dir():
        below = folders.walk(path)
        return _choose(source, _plain_files(below, path), modality, allowed, below.remarks())
    if not path.exists():
        matched = folders.match(source)
        return _choose(source, _glob_files(source, matched), modality, allowed, matched.remarks())
    if not path.is_file():
        raise InputError(f"{source}: not a regular file; expected a file or a folder (- reads lines from stdin)")
    suffix = path.suffix.lower()
    if suffix in TABLES:
        return _manifest_items(path, modality, allowed)
    if suffix == ".txt" and textual:
        return _text_lines(read_text(path), source)
    packed = suffix == ".tar" or PurePosixPath(path.stem).suffix == ".tar" or suffix == ".tgz"
    files = _tar_files([path]) if packed else _plain_files(folders.FolderListing([path]), path.parent)
    return _choose(source, files, modality, allowed)


def item_from_query(text_or_path: str, allowed: Sequence[Modality]) -> Item:
    """Return an existing file as an item of the modality of its suffix, and anything else as a text.

    Raises:
        InputError: empty, a modality that is not ``allowed``, or the name of a file that does not exist.
    """
    path, seen = Path(text_or_path), of_suffix(PurePosixPath(text_or_path).suffix)
    exists = is_file(path)  # a long text is no file name
    if not exists and seen is not None and not any(map(str.isspace, text_or_path)):
        raise InputError(f"{text_or_path}: no such file; expected an existing {seen} file, or a text")
    modality = _of_file(path.suffix, allowed) if exists else Modality.TEXT
    if modality is None or modality not in allowed:
        raise InputError(
            f"query {text_or_path[:80]!r} is {modality or 'of unknown kind'}; expected {' or '.join(allowed)}"
        )
    if exists:
        return Item(readable(path.stem), modality, readable(path.as_posix()), path=path)
    item = text_item(text_or_path, "query")
    if item.problem:
        raise InputError(f"query: {item.problem}; expected a text or a file of {' or '.join(allowed)}")
    return item


def _of_file(suffix: str, allowed: Sequence[Modality]) -> Modality | None:
    """Return what a file is: of several modalities that share its suffix, one of ``allowed``."""
    first = of_suffix(suffix)
    others = [kind for kind in allowed if suffix.lower() in kind.suffixes]
    return first if first in allowed or not others else others[0]


def _glob_files(pattern: str, found: folders.FolderListing) -> list[_File]:
    paths = sorted(found.files)
    if not paths:
        raise InputError(f"{pattern}: no such file or folder, nor a pattern that a file matches; check the path")
    if all(path.suffix.lower() == ".tar" for path in paths):
        return _tar_files(paths)
    return _plain_files(found, folders.fixed_part(pattern))


def _plain_files(found: folders.FolderListing, folder: Path) -> list[_File]:
    files = []
    for path in found.files:
        name = path.relative_to(folder).as_posix()
        key, source = PurePosixPath(name).with_suffix("").as_posix(), path.as_posix()
        files.append(_File(readable(name), readable(key), readable(source), path))
    unread = [
        _File("", f"{path.relative_to(folder).as_posix()}/", f"{path.as_posix()}/", path, problem=f"not read: {reason}")
        for path, reason in sorted(found.unread)
    ]
    return sorted(files, key=lambda file: file.name) + unread


def _tar_files(paths: Iterable[Path]) -> list[_File]:
    indexed = [(path, member) for path in paths for member in by_suffix_within_keys(index_tar(path))]
    items = item_fields(member for _, member in indexed)
    return [_tar_file(path, member, member.field in items) for path, member in indexed]


def _tar_file(path: Path, member: Member, is_item: bool) -> _File:
    source, aside = readable(f"{path.as_posix()}!{member.name}"), None if is_item else readable(member.field)
    name, key = readable(member.name), readable(member.key)
    return _File(name, key, source, path, member.offset, member.size, member.problem, aside)


def _choose(
    source: str,
    files: list[_File],
    modality: Modality | None,
    allowed: Sequence[Modality],
    remarks: tuple[str, ...] = (),
) -> Inputs:
    """Take the files of one modality: the one given, or the only one of ``allowed`` that is there."""
    seen = Counter(file.suffix for file in files if file.suffix or not file.problem)
    counts = {kind: sum(seen[suffix] for suffix in kind.suffixes) for kind in ([modality] if modality else allowed)}
    present = [kind for kind, count in counts.items() if count]
    wanted: frozenset[str] = frozenset().union(*(kind.suffixes for kind in present))
    if modality is Modality.POINT_CLOUD and not present and seen[".txt"]:
        present, wanted = [modality], frozenset({".txt"})  # ModelNet40's own files; only when said, for .txt is text
    if not present:
        looked = " ".join(sorted(suffix for kind in counts for suffix in kind.suffixes)) or _unregistered(counts)
        more = "".join(f"; {each}" for each in (*remarks, *_first_problem(files), *_dotted(seen, looked.split())))
        raise InputError(
            f"{source}: no usable files; looked for {looked}; saw {_counted(seen) or 'no file at all'}{more}"
        )
    if len(present) > 1:
        found = " and ".join(f"{counts[kind]} {kind}" for kind in present)
        raise InputError(f"{source}: holds {found} files; choose one with --modality {present[0]}")
    # A problem without a suffix stands for files whose names are unknown.
    chosen = [file for file in files if file.suffix in wanted or (file.problem and not file.suffix)]
    ignored = {suffix or "none": count for suffix, count in sorted(seen.items()) if suffix not in wanted}
    return replace(unique_items(present[0], (file.item(present[0]) for file in chosen), ignored), remarks=remarks)


def _unregistered(kinds: Iterable[Modality]) -> str:
    return f"none, for no suffix is registered of {' or '.join(kinds)} (a manifest with a column path needs none)"


def _dotted(seen: Counter[str], looked: Sequence[str]) -> list[str]:
    """Return why a tar's members of right suffixes are none of the items, where that is all that is wrong."""
    found = next((name for name in seen if name.count(".") > 1 and PurePosixPath(name).suffix in looked), None)
    if found is None:
        return []
    return [
        f"a tar's member goes by its name up to the first dot, so {found} is one of several things about it; rename "
        f"those to embed to KEY{PurePosixPath(found).suffix}, without another dot"
    ]


def _first_problem(files: list[_File]) -> list[str]:
    return [f"{file.source}: {file.problem}" for file in files if file.problem and not file.suffix][:1]


def _text_lines(text: str, name: str) -> Inputs:
    lines = enumerate(lines_of(text), 1)
    items = [_line_item(line, f"{PurePosixPath(name).name}:{number}") for number, line in lines if line.strip()]
    if not items:
        raise InputError(f"{name}: no text in it; expected one item a line")
    return unique_items(Modality.TEXT, items)


def _line_item(line: str, source: str) -> Item:
    item, found = text_item(line, source), cell_text(line, typed=False)
    return replace(item, text=None, problem=f"no text{found.of('the line')}") if isinstance(found, Nothing) else item


def _manifest_items(path: Path, modality: Modality | None, allowed: Sequence[Modality]) -> Inputs:
    records = list(read_table(path))
    kind = modality or _only_modality(path, records, allowed)
    columns = {name for record in records for name in record.columns}
    if kind is None or not columns & {*kind.columns, *PATHS}:
        bad = next((record for record in records if record.problem), None)
        if bad and not columns:
            raise InputError(f"{path}:{bad.line}: {bad.problem}; no record in it can be used")
        names = [name for each in ([kind] if kind else allowed) for name in each.columns]
        seen = " ".join(sorted(columns)) or "no record at all"
        raise InputError(f"{path}: no usable column; looked for {' '.join([*names, *PATHS])}; saw {seen}")
    return unique_items(kind, (_record_item(record, kind, path) for record in records))


def _only_modality(path: Path, records: Sequence[Record], allowed: Sequence[Modality]) -> Modality | None:
    """Return the modality of ``allowed`` that a manifest has; a column in which nothing stands only if no other has."""
    paths = [value for record in records for column in PATHS if (value := record.values.get(column))]
    listed = {PurePosixPath(value).suffix.lower() for value in paths}
    filled = {name for record in records for name in record.values}
    empty = {name for record in records for name in record.nothing}
    present = [kind for kind in allowed if filled & set(kind.columns) or listed & kind.suffixes]
    present = present or [kind for kind in allowed if empty & set(kind.columns)]
    if len(present) > 1:
        raise InputError(f"{path}: holds {' and '.join(present)}; choose one with --modality {present[0]}")
    return present[0] if present else None


def _record_item(record: Record, modality: Modality, manifest: Path) -> Item:
    source = f"{manifest.name}:{record.line}"
    given = record.values.get("id")
    own = next((record.values[name] for name in modality.columns if name in record.values), None)
    name = own or next((record.values[name] for name in PATHS if _leads(record, name, modality)), None)
    problem = record.problem or record.no_id
    if name is None and not problem:
        problem = f"no {modality} in this record{record.why(*modality.columns, *PATHS)}"
    if modality is Modality.TEXT and own is not None:
        item = text_item(own, source, readable(given) if given else None)
        return replace(item, problem=problem) if problem else item
    if name is None or problem:
        return Item(readable(given or source), modality, source, problem=problem)
    key = PurePosixPath(name).with_suffix("").as_posix() if PurePosixPath(name).name else name
    where = manifest.parent / name
    return Item(readable(given or key), modality, readable(where.as_posix()), path=where)


def _leads(record: Record, column: str, modality: Modality) -> bool:
    """Return whether a column of paths may lead to the item: never to another modality's file, read as a text."""
    seen = of_suffix(PurePosixPath(record.values.get(column, "")).suffix)
    return column in record.values and (modality is not Modality.TEXT or seen in (None, modality))


def _counted(seen: Counter[str]) -> str:
    return ", ".join(f"{suffix or 'no suffix'} ({count})" for suffix, count in seen.most_common(8))
