"""Vectors made elsewhere -> memory: a .npy file with ids, or a clip-retrieval folder.

An import is an embedding whose encoder looks the vector up, so resume, skips and shards are those of ``embed``.
"""

from __future__ import annotations

import itertools
import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from cmcr.embed.run import SHARD_SIZE, EmbedReport, embed
from cmcr.errors import InputError, MissingExtraError
from cmcr.files import is_file
from cmcr.hooks import Progress, silent
from cmcr.items import Inputs, Item, Nothing, cell_text, lines_of, read_text, text_item, unique_items
from cmcr.memory import Memory, relative_to_memory
from cmcr.memory.shards.packed import stored_as
from cmcr.modality import Modality
from cmcr.reading import open_npy, reading

_SAME = 1e-6
"""Components that differ by less are one vector: float32 rounds a norm."""

_WHAT = {"key": "id", "caption": "text", "image_path": "path"}


class ImportedVectors:
    """An encoder that knows the vector of each id and nothing else; honours ``Encoder``."""

    def __init__(
        self, name: str, fingerprint: str | None, modality: Modality, parts: Sequence[np.ndarray], ids: Sequence[str]
    ) -> None:
        """Serve the rows of ``parts``, one after another, under ``ids``; of two equal ids the first."""
        self.name, self.fingerprint = name, fingerprint or f"imported:{name}"
        self.modalities: tuple[Modality, ...] = (modality,)
        self.dim = int(parts[0].shape[1])
        self._parts, self._ends = parts, list(itertools.accumulate(len(part) for part in parts))
        self._rows: dict[str, int] = {}
        for row, key in enumerate(ids):
            self._rows.setdefault(key, row)

    def prepare(self, item: Item, data: bytes) -> Any:
        """Return the (dim,) vector of the item's id."""
        return self._vector(item.id)

    def _vector(self, name: str) -> Any:
        row = self._rows[name]
        part = bisect_right(self._ends, row)
        return self._parts[part][row - self._ends[part]]  # counted from the part's end

    def outdated(self, memory: Memory, modality: Modality) -> set[str]:
        """Return the ids of the rows whose vector, as it would lie on disk, is not the one that is there."""
        found, first = set[str](), 0
        ids = memory.ids(modality) if modality in memory.modalities else []
        for block in memory.blocks(modality) if ids else ():
            here = [(row, name) for row, name in enumerate(ids[first : first + len(block)]) if name in self._rows]
            first += len(block)
            if here:
                new = self.encode(modality, [self._vector(name) for _, name in here])
                with np.errstate(all="ignore"):  # what cannot be stored is skipped later, and its old row stays
                    norms = np.linalg.norm(new.astype(np.float64), axis=1, keepdims=True)
                    read = stored_as(new / norms, memory.dtype).astype(np.float32)
                    read /= np.linalg.norm(read, axis=1, keepdims=True)
                    far = np.abs(read - block[[row for row, _ in here]]).max(axis=1) > _SAME
                found |= {here[place][1] for place in np.flatnonzero(far)}
        return found

    def encode(self, modality: Modality, prepared: Sequence[Any]) -> np.ndarray:
        """Return the (N, dim) vectors as float32; ``embed`` normalises them and skips what cannot be."""
        with np.errstate(over="ignore"):
            return np.stack(prepared).astype(np.float32)


def import_vectors(
    vectors: str | Path,
    ids: str | Path,
    memory_path: str | Path,
    *,
    encoder_name: str,
    modality: Modality,
    fingerprint: str | None = None,
    sources: str | Path | None = None,
    shard_size: int = SHARD_SIZE,
    dtype: str | None = None,
    retry_skipped: bool = False,
    update: bool = False,
    progress: Progress = silent,
) -> EmbedReport:
    """Read precomputed vectors into a memory; what is there already stays.

    Args:
        vectors: A .npy file, (N, D) float.
        ids: A UTF-8 file, one id a line, unique.
        memory_path: The memory's folder; created when missing.
        encoder_name: The encoder that made the vectors.
        modality: Of every row.
        fingerprint: Tells encoders of one name apart; None: ``imported:NAME``.
        sources: A UTF-8 file, one line a row: for text the texts themselves, else paths relative to that file.
        shard_size: Rows a shard.
        dtype: As in ``embed``.
        retry_skipped: As in ``embed``.
        update: As in ``embed``; here a row has changed where its vector has.
        progress: As in ``embed``.

    Raises:
        InputError: a file is missing or damaged, lengths differ, or ids repeat.
        ArtifactError: as ``embed``.
    """
    array, names = _load(Path(vectors)), _lines(Path(ids))
    if len(names) != len(array):
        raise InputError(f"{ids}: {len(names)} ids for the {len(array)} rows of {vectors}; expected one id a row")
    if (twice := _first_repeated(names)) is not None:
        raise InputError(f"{ids}: {twice!r} stands there twice; ids join rows, so make them unique")
    items = [Item(name, modality, f"{Path(vectors).name}:{row}") for row, name in enumerate(names)]
    if sources is not None:
        lines = _lines(Path(sources))
        if len(lines) != len(names):
            raise InputError(f"{sources}: {len(lines)} lines for {len(names)} ids; expected one source a row")
        base = Path(sources).parent
        items = [_known_line(item, line, base, Path(memory_path)) for item, line in zip(items, lines, strict=True)]
    encoder = ImportedVectors(encoder_name, fingerprint, modality, [array], names)
    work: dict[str, Any] = {
        "shard_size": shard_size,
        "dtype": dtype,
        "retry_skipped": retry_skipped,
        "update": update,
        "progress": progress,
    }
    return embed(encoder, Inputs(modality, items), memory_path, workers=1, **work)


def import_clip_retrieval(
    folder: str | Path,
    memory_path: str | Path,
    *,
    encoder_name: str,
    modality: Modality | None = None,
    fingerprint: str | None = None,
    shard_size: int = SHARD_SIZE,
    dtype: str | None = None,
    retry_skipped: bool = False,
    update: bool = False,
    progress: Progress = silent,
) -> list[EmbedReport]:
    """Read a clip-retrieval folder (``img_emb/ text_emb/ metadata/*.parquet``) into a memory.

    Ids are the ``key`` column, or ``image_path`` without its suffix, or row numbers; texts are the ``caption`` column.

    Args:
        folder: The folder; a row's number means the same in its vectors and its metadata.
        memory_path: As in ``import_vectors``, like the arguments not named here.
        encoder_name: The model that clip-retrieval was run with; the folder does not say.
        modality: Image or text; None: what is there.
        fingerprint: As in ``import_vectors``.
        shard_size: As in ``import_vectors``.
        dtype: As in ``embed``.
        retry_skipped: As in ``embed``.
        update: As in ``embed``; here a row has changed where its vector has.
        progress: As in ``embed``.

    Raises:
        InputError: no vectors, or rows of vectors and metadata differ in number.
        MissingExtraError: there is metadata and pyarrow is not installed.
    """
    root = Path(folder)
    found = {kind: _numbered(root / f"{kind.folder}_emb", "npy") for kind in (Modality.IMAGE, Modality.TEXT)}
    chosen = [kind for kind, paths in found.items() if paths and modality in (None, kind)]
    if (root / "manifest.json").exists() or not chosen:
        looked = " ".join(f"{kind.folder}_emb/*.npy" for kind in found if modality in (None, kind)) or f"{modality}"
        raise InputError(f"{folder}: not a clip-retrieval folder; looked for {looked} and no manifest.json")
    work: dict[str, Any] = {"shard_size": shard_size, "dtype": dtype, "update": update, "progress": progress}
    reports = []
    for number, kind in enumerate(chosen):
        parts = [_load(path) for path in found[kind]]
        records = _records(root, found[kind], parts)
        ids = [_record_id(record, row) for row, record in enumerate(records)]
        items = [
            _record_item(key, kind, record, root, Path(memory_path)) for key, record in zip(ids, records, strict=True)
        ]
        encoder = ImportedVectors(encoder_name, fingerprint, kind, parts, ids)
        reports.append(
            embed(
                encoder,
                unique_items(kind, items),
                memory_path,
                workers=1,
                retry_skipped=retry_skipped and not number,
                **work,
            )
        )
    return reports


def _load(path: Path) -> np.ndarray:
    try:
        array = open_npy(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; expected a .npy of shape (rows, components)") from None
    except (ValueError, OSError) as error:
        raise InputError(f"{path}: not a readable .npy ({error}); save it with numpy.save") from None
    if array.ndim != 2 or array.dtype.kind != "f" or not array.size:
        raise InputError(f"{path}: {array.dtype} of shape {array.shape}; expected floats of shape (rows, components)")
    return array


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected one line a row")
    lines = [line.strip() for line in lines_of(read_text(path).rstrip("\r\n"))]
    if "" in lines:
        raise InputError(f"{path}:{lines.index('') + 1}: a blank line; expected one line a row")
    return lines


def _first_repeated(names: Sequence[str]) -> str | None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def _known(item: Item, content: str, base: Path, memory: Path) -> Item:
    """Give an item its content: a text as it is; of another modality the path, which is noted and not read."""
    if item.modality is Modality.TEXT:
        return text_item(content, item.source, item.id)
    path = base / content
    return replace(item, source=relative_to_memory(path, memory) if is_file(path) else content)


def _known_line(item: Item, line: str, base: Path, memory: Path) -> Item:
    found = cell_text(line, typed=False) if item.modality is Modality.TEXT else line
    if isinstance(found, Nothing):
        return replace(item, problem=f"no text{found.of('its line')}")
    return _known(item, found, base, memory)


def _numbered(folder: Path, suffix: str) -> list[Path]:
    return sorted(folder.glob(f"*.{suffix}"), key=lambda path: [int(n) for n in re.findall(r"\d+", path.stem)] or [0])


def _records(root: Path, files: list[Path], parts: list[np.ndarray]) -> list[dict[str, Any]]:
    tables = _numbered(root / "metadata", "parquet")
    if not tables:
        return [{} for part in parts for _ in range(len(part))]
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        raise MissingExtraError("pyarrow", "parquet", f"reading {tables[0]}") from None
    if len(tables) != len(files):
        raise InputError(f"{root}: {len(files)} vector files and {len(tables)} metadata files; expected one each")
    records: list[dict[str, Any]] = []
    for file, part, table in zip(files, parts, tables, strict=True):
        rows = _table_rows(parquet, table)
        if len(rows) != len(part):
            raise InputError(
                f"{table}: {len(rows)} rows for the {len(part)} vectors of {file}; expected row i for row i"
            )
        records += rows
    return records


def _table_rows(parquet: Any, table: Path) -> list[dict[str, Any]]:
    with reading(table, "write it anew, or import without metadata", InputError, "cannot be read as parquet"):
        columns = [name for name in ("key", "image_path", "caption") if name in parquet.read_schema(table).names]
        rows: list[dict[str, Any]] = parquet.read_table(table, columns=columns).to_pylist()
        return rows


def _record_id(record: dict[str, Any], row: int) -> str:
    key, path = cell_text(record.get("key")), cell_text(record.get("image_path"))
    if isinstance(key, str):
        return key
    name = PurePosixPath(path if isinstance(path, str) else "")
    return name.with_suffix("").as_posix() if name.name else str(row)


def _record_item(key: str, modality: Modality, record: dict[str, Any], root: Path, memory: Path) -> Item:
    """Return a row with what is known of it; one whose caption is no text is of no use, one without a path still is."""
    column = "caption" if modality is Modality.TEXT else "image_path"
    cells = {name: cell_text(record[name]) for name in ("key", column) if name in record}
    for name, cell in cells.items():
        if isinstance(cell, Nothing) and (cell.wrong or name == "caption"):
            return Item(key, modality, f"{root.name}:{key}", problem=f"no {_WHAT[name]} in this record{cell.of(name)}")
    item, content = Item(key, modality, f"{root.name}:{key}"), cells.get(column)
    return _known(item, content, root, memory) if isinstance(content, str) else item
