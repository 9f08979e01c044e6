"""Write a memory shard by shard, so that a run which dies at any instant leaves a whole, smaller memory."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import numpy as np

from cmcr.errors import ArtifactError, InputError
from cmcr.files import LOCK, is_partial, locked, open_file, read_lines, write_atomic, write_json
from cmcr.memory.manifest import DTYPES, MANIFEST, SKIPPED, EncoderInfo, Manifest, Removed, Row, Shard, Skip
from cmcr.memory.memory import Memory
from cmcr.memory.tombstones import packed_numbers
from cmcr.memory.translated import Translated, refuse_embedded
from cmcr.modality import Modality, in_order
from cmcr.reading import plainly


@dataclass(frozen=True, slots=True)
class Packed:
    """A shard and its skips as they will lie on disk, not yet part of a memory.

    >>> import numpy as np
    >>> from cmcr.memory import Row, pack
    >>> packed = pack(np.array([[3.0, 4.0]]), "float16", [Row("dog", "texts.txt:1", None, "a dog")], [])
    >>> packed.count, packed.skipped
    (1, 0)

    Attributes:
        vectors: The .npy file, normalised.
        rows: What is known about each vector, as JSON lines.
        skips: What could not be embedded, as JSON lines.
    """

    vectors: bytes
    rows: bytes
    skips: bytes

    @property
    def count(self) -> int:
        """How many rows it holds."""
        return self.rows.count(b"\n")

    @property
    def skipped(self) -> int:
        """How many skips it holds."""
        return self.skips.count(b"\n")

    def skip_records(self) -> list[Skip]:
        """Return its skips."""
        values = map(json.loads, self.skips.splitlines())
        return [Skip(**(value | {"modality": Modality(value["modality"])})) for value in values]

    def write(self, file: IO[bytes]) -> None:
        """Write it as one file, a zip with a checksum of each part."""
        with zipfile.ZipFile(file, "w") as archive:
            for name in ("vectors", "rows", "skips"):
                archive.writestr(zipfile.ZipInfo(name), getattr(self, name))

    @classmethod
    def read(cls, path: Path) -> Packed | None:
        """Read what ``write`` wrote; None: there is no such file, or it is damaged."""
        try:
            with plainly(), open_file(path) as file, zipfile.ZipFile(file) as archive:
                if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
                    return None  # none that ``write`` wrote: it may be larger than its file by any factor
                return cls(*(archive.read(name) for name in ("vectors", "rows", "skips")))
        except (FileNotFoundError, ValueError):
            return None


def pack(vectors: np.ndarray, dtype: str, rows: Sequence[Row], skipped: Iterable[Skip] = ()) -> Packed:
    """Return vectors, what is known about each, and skips in the form that lies on disk.

    Args:
        vectors: (N, D) float, finite and not zero; stored normalised.
        dtype: How they are stored.
        rows: N of them.
        skipped: What could not be embedded.

    Raises:
        ValueError: shapes, values or lengths are not as said (a mistake of the caller).
    """
    if vectors.ndim != 2 or len(vectors) != len(rows):
        raise ValueError(f"vectors of shape {vectors.shape} for {len(rows)} rows")
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    if not (np.isfinite(norms).all() and norms.all()):
        raise ValueError("non-finite or zero vectors cannot be stored")
    file = io.BytesIO()
    np.save(file, stored_as(vectors / norms, dtype), allow_pickle=False)
    return Packed(file.getvalue(), b"".join(map(_json_line, rows)), b"".join(map(_json_line, skipped)))


def stored_as(units: np.ndarray, dtype: str) -> np.ndarray:
    """Return unit vectors as they lie on disk.

    int8 has a scale for each row, by which its largest component becomes 127. The scale itself is not kept: whoever
    reads a row makes it a unit vector, and that brings it back.
    """
    if dtype != "int8":
        return units.astype(dtype)
    scaled: np.ndarray = np.rint(units * (127 / np.abs(units).max(axis=1, keepdims=True)))
    return scaled.astype(np.int8)


class MemoryWriter:
    """The one writer of a memory: creates it or goes on with it, under a lock.

    Use it as a context manager. Entering removes what an interrupted run left behind.

    >>> import numpy as np
    >>> from cmcr import Modality
    >>> from cmcr.memory import EncoderInfo, MemoryWriter, Row
    >>> with MemoryWriter("mem/toy", EncoderInfo("toy", "9f2c", 2)) as writer:
    ...     writer.append(Modality.TEXT, np.array([[3.0, 4.0]]), [Row("dog", "texts.txt:1", None, "a dog")])
    ...     writer.memory.rows(Modality.TEXT)
    1

    Attributes:
        memory: The memory as committed so far.
    """

    memory: Memory

    def __init__(
        self,
        path: str | Path,
        encoder: EncoderInfo,
        dtype: str | None = None,
        *,
        wait: float = 0,
        translates: bool = False,
    ) -> None:
        """Choose the folder, the encoder and how vectors lie on disk (None: as they do, or float16 in a new memory).

        ``wait`` says for how many seconds to wait for another writer to end; ``translates``, that what is appended was
        another encoder's, as ``record`` says.

        Raises:
            InputError: an unknown ``dtype``.
        """
        if dtype not in (None, *DTYPES):
            raise InputError(f"dtype {dtype!r}; expected {' or '.join(DTYPES)}")
        self.path = Path(path)
        self._encoder = encoder
        self._dtype = dtype
        self._wait = wait
        self._translates = translates
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Take the lock, then open or create the memory.

        Raises:
            ArtifactError: another run writes to it; it belongs to another encoder or has another dtype; it is damaged;
                or the folder holds something else.
        """
        with ExitStack() as stack, self._named_errors():
            self._make_folder()
            stack.enter_context(locked(self.path, self._wait))
            self.memory = Memory(self.path, self._open_manifest())
            self._clean()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def append(
        self, modality: Modality, vectors: np.ndarray, rows: Sequence[Row], skipped: Iterable[Skip] = ()
    ) -> None:
        """Commit one shard and the skips that belong to it, all or nothing.

        Args:
            modality: Of the rows; a skip names its own.
            vectors: (N, D) float, finite and not zero; stored normalised. N = 0 commits the skips alone.
            rows: What is known about each vector; ids are new to the memory.
            skipped: What could not be embedded.

        Raises:
            ValueError: shapes, values or lengths are not as said (a mistake of the caller).
            OSError: the disk is full or the folder read-only; the memory is as it was before.
        """
        if vectors.shape != (len(rows), self._encoder.dim):
            raise ValueError(f"vectors of shape {vectors.shape} for {len(rows)} rows of {self._encoder.dim} components")
        self.append_packed(modality, pack(vectors, self.memory.dtype, rows, skipped))

    def append_packed(self, modality: Modality, packed: Packed, replaced: Iterable[int] = ()) -> None:
        """Commit what ``pack`` made for this memory's dtype, all or nothing.

        Args:
            modality: Of the rows.
            packed: The shard.
            replaced: Stored numbers of rows whose place they take: removed in the same instant.

        Raises:
            OSError: as ``append``.
        """
        manifest = self.memory.manifest
        if packed.count and not self._translates:
            refuse_embedded(self.path, manifest)
        with self._named_errors():
            if packed.count:
                manifest = self._with_shard(manifest, modality, packed)
            manifest = self._without_rows(manifest, modality, replaced)
            if packed.skipped:
                self._write_skips(packed.skips)
                manifest = dataclasses.replace(manifest, skipped=manifest.skipped + packed.skipped)
            self._commit(manifest)

    def record(self, modality: Modality, translated: Translated) -> None:
        """Commit that the rows of a modality were another encoder's; before the first of them."""
        manifest = self.memory.manifest
        with self._named_errors():
            self._commit(dataclasses.replace(manifest, translated=manifest.translated | {modality: translated}))

    def remove(self, numbers: Mapping[Modality, Iterable[int]]) -> None:
        """Remove rows by their stored numbers, of all modalities at once; nothing is rewritten but their list.

        Raises:
            ValueError: a number that no row has (a mistake of the caller).
            OSError: as ``append``.
        """
        manifest = self.memory.manifest
        with self._named_errors():
            for modality, some in numbers.items():
                manifest = self._without_rows(manifest, modality, some)
            self._commit(manifest)

    def compact(self) -> None:
        """Rewrite the shards that hold removed rows without them, and forget the list; other shards stay.

        New files get new names, and the manifest names them all at once. So whoever has the memory open reads what it
        opened, or is told that a file is gone, and never another row.

        Raises:
            ArtifactError: the memory is damaged.
            OSError: as ``append``.
        """
        manifest = self.memory.manifest
        if not manifest.removed:
            return
        shards, written = dict(manifest.shards), dict(manifest.written)
        with self._named_errors():
            for modality in manifest.removed:
                written[modality] = manifest.next_number(modality)
                shards[modality] = ()
                for first, shard in self.memory.with_removed()._placed(modality):
                    gone = self.memory._gone_of(modality, first, shard)
                    kept = [shard] if not len(gone) else []
                    if 0 < len(gone) < shard.rows:
                        kept = [self._write_shard(modality, self._left(shard, gone), written[modality])]
                        written[modality] += 1
                    shards[modality] += tuple(kept)
            left = {modality: some for modality, some in shards.items() if some}
            self._commit(dataclasses.replace(manifest, shards=left, removed={}, written=written))
            self._clean()

    def _left(self, shard: Shard, gone: np.ndarray) -> Packed:
        """Return what is left of a shard, to the byte."""
        self.memory.check_shard(shard)
        file, drop = io.BytesIO(), set(gone.tolist())
        np.save(file, np.delete(self.memory._shard_vectors(shard), gone, axis=0), allow_pickle=False)
        lines = read_lines(self.path / shard.metadata)
        return Packed(file.getvalue(), b"".join(line for row, line in enumerate(lines) if row not in drop), b"")

    def forget_skipped(self) -> None:
        """Commit an empty list of skips, so that every skipped item counts as new."""
        with self._named_errors():
            self._commit(dataclasses.replace(self.memory.manifest, skipped=0))
            self._clean()

    def _commit(self, manifest: Manifest) -> None:
        if manifest != self.memory.manifest:
            before = {removed.numbers for removed in self.memory.manifest.removed.values()}
            write_json(self.path / MANIFEST, manifest.to_json())
            self.memory = Memory(self.path, manifest)
            for name in before - {removed.numbers for removed in manifest.removed.values()}:
                (self.path / name).unlink(missing_ok=True)

    def _with_shard(self, manifest: Manifest, modality: Modality, packed: Packed) -> Manifest:
        number = manifest.next_number(modality)
        shard = self._write_shard(modality, packed, number)
        shards = manifest.shards | {modality: (*manifest.shards.get(modality, ()), shard)}
        written = manifest.written | ({modality: number + 1} if modality in manifest.written else {})
        return dataclasses.replace(manifest, shards={m: shards[m] for m in in_order(shards)}, written=written)

    def _without_rows(self, manifest: Manifest, modality: Modality, numbers: Iterable[int]) -> Manifest:
        old, before = self.memory.removed_rows(modality), manifest.removed.get(modality)
        gone = np.union1d(old, np.fromiter(numbers, np.int64))
        if len(gone) == len(old):
            return manifest
        if gone[0] < 0 or gone[-1] >= manifest.stored(modality):
            raise ValueError(f"rows {gone[0]} to {gone[-1]} of {manifest.stored(modality)} {modality}")
        name, data = Removed.name(modality, before.number + 1 if before else 0), packed_numbers(gone)
        write_atomic(self.path / name, data)
        removed = manifest.removed | {modality: Removed(name, len(gone), hashlib.sha256(data).hexdigest())}
        return dataclasses.replace(manifest, removed=removed)

    def _write_shard(self, modality: Modality, packed: Packed, number: int) -> Shard:
        names, contents = Shard.names(modality, number), (packed.vectors, packed.rows)
        for name, data in zip(names, contents, strict=True):
            write_atomic(self.path / name, data)
        return Shard(*names, packed.count, *(hashlib.sha256(data).hexdigest() for data in contents))

    def _write_skips(self, lines: bytes) -> None:
        path = self.path / SKIPPED
        old = self._skip_lines() if self.memory.manifest.skipped else []
        write_atomic(path, b"".join([*old, lines]))

    def _skip_lines(self) -> list[bytes]:
        path = self.path / SKIPPED
        if path.is_symlink():  # what it points to would be copied into the memory
            raise ArtifactError(f"{path}: a link; put a file in its place")
        return list(read_lines(path)) if path.exists() else []

    def _make_folder(self) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise ArtifactError(f"{self.path}: is a file; choose a folder for the memory")
        self.path.mkdir(parents=True, exist_ok=True)
        if not (self.path / MANIFEST).exists():
            others = {name for name in os.listdir(self.path) if name != LOCK and not is_partial(name)}  # noqa: PTH208
            if others and not (self.path / MANIFEST).exists():  # another process may just have made it
                raise ArtifactError(
                    f"{self.path}: not empty and not a memory (holds {sorted(others)[0]!r}); choose a new folder"
                )

    def _open_manifest(self) -> Manifest:
        if not (self.path / MANIFEST).exists():
            manifest = Manifest(self._encoder, self._dtype or DTYPES[0], normalized=True, shards={}, skipped=0)
            write_json(self.path / MANIFEST, manifest.to_json())
            return manifest
        manifest = Manifest.read(self.path)
        if manifest.encoder != self._encoder:
            raise ArtifactError(
                f"{self.path}: belongs to encoder {manifest.encoder}, not to {self._encoder}; choose another folder"
            )
        if self._dtype not in (None, manifest.dtype):
            raise ArtifactError(f"{self.path}: stores {manifest.dtype}, not {self._dtype}; choose another folder")
        return manifest

    def _clean(self) -> None:
        for name in self.memory.leftovers():
            (self.path / name).unlink(missing_ok=True)
        path, count = self.path / SKIPPED, self.memory.manifest.skipped
        lines = self._skip_lines()
        if len(lines) < count:
            raise ArtifactError(f"{path}: {len(lines)} lines; the manifest says {count}: restore the file")
        if path.exists() and not count:
            path.unlink()
        elif len(lines) > count:
            write_atomic(path, b"".join(lines[:count]))

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            error.filename = error.filename or str(self.path)
            raise


def relative_to_memory(path: Path, memory: Path) -> str:
    """Return ``path`` as seen from the memory's folder, so that a project can be moved as a whole.

    What shares nothing but the root with the memory stays absolute.
    """
    # Resolved, for the way up from a linked folder leads elsewhere than its name says.
    target, origin = os.path.realpath(path), os.path.realpath(memory)
    apart = os.path.commonpath([target, origin]) == os.path.sep
    return Path(target if apart else os.path.relpath(target, origin)).as_posix()


def _json_line(value: Row | Skip) -> bytes:
    # Texts and nulls alone, so put together here: json.dumps of a dict takes longer than to embed a short text.
    cells = [(name, getattr(value, name)) for name in value.__slots__]
    if cells[-1] == ("note", None):  # few rows have one, and those of older memories have no such key
        cells.pop()
    return (
        "{" + ", ".join([f'"{name}": {_encode(cell) if cell is not None else "null"}' for name, cell in cells]) + "}\n"
    ).encode("utf-8", "backslashreplace")  # a surrogate, of a name that is no UTF-8, as JSON escapes it


_encode = json.JSONEncoder(ensure_ascii=False).encode
