"""Write a memory shard by shard, so that a run which dies at any instant leaves a whole, smaller memory."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from cmcr.errors import ArtifactError, InputError
from cmcr.files import LOCK, is_partial, locked, read_lines, write_atomic, write_json
from cmcr.memory.manifest import (
    DTYPES,
    MANIFEST,
    SKIPPED,
    EncoderInfo,
    Manifest,
    Removed,
    Row,
    Shard,
    Skip,
    Views,
    ViewSpec,
)
from cmcr.memory.memory import Memory
from cmcr.memory.shards.packed import Packed, pack
from cmcr.memory.tombstones import packed_numbers
from cmcr.memory.translated import Translated, refuse_embedded
from cmcr.modality import Modality, in_order


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

    def append_packed(
        self, modality: Modality, packed: Packed, replaced: Iterable[int] = (), views: ViewSpec | None = None
    ) -> None:
        """Commit what ``pack`` made for this memory's dtype, all or nothing.

        Args:
            modality: Of the rows.
            packed: The shard.
            replaced: Stored numbers of rows whose place they take: removed in the same instant.
            views: How its views were made; None: it has none.

        Raises:
            ArtifactError: the modality's other rows have another number of views, or views of another seed.
            OSError: as ``append``.
        """
        manifest = self.memory.manifest
        if packed.rows and not self._translates:
            refuse_embedded(self.path, manifest)
        with self._named_errors():
            if packed.rows:
                check_views(manifest, modality, views, self.path)
                manifest = self._with_views(self._with_shard(manifest, modality, packed), modality, packed, views)
            manifest = self._without_rows(manifest, modality, replaced)
            if packed.skips:
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
            InputError: rows were removed from a modality that holds views.
            ArtifactError: the memory is damaged.
            OSError: as ``append``.
        """
        manifest = self.memory.manifest
        if not manifest.removed:
            return
        if viewed := [str(modality) for modality in manifest.removed if modality in manifest.views]:
            raise InputError(
                f"{self.path}: its {viewed[0]} rows hold views, which are not rewritten; leave the removed rows on "
                "disk, where nobody sees them, or embed into a new folder"
            )
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

    def _with_views(self, manifest: Manifest, modality: Modality, packed: Packed, views: ViewSpec | None) -> Manifest:
        """Write the views of the last shard, and return the manifest that names them."""
        if views is None:
            return manifest
        before = manifest.views[modality].sha256 if modality in manifest.views else ()
        write_atomic(self.path / Views.name(modality, len(before)), packed.views)
        made = Views(views.count, views.seed, (*before, hashlib.sha256(packed.views).hexdigest()))
        held = manifest.views | {modality: made}
        return dataclasses.replace(manifest, views={m: held[m] for m in in_order(held)})

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


def check_views(manifest: Manifest, modality: Modality, asked: ViewSpec | None, path: Path) -> None:
    """Refuse rows with another number of views than those of their modality have, or with views of another seed.

    Raises:
        ArtifactError: they differ.
    """
    held = manifest.views.get(modality)
    if modality in manifest.shards and asked != (held.spec if held else None):
        there, wanted = (f"{each.count} (seed {each.seed})" if each else "none" for each in (held, asked))
        raise ArtifactError(
            f"{path}: views of each {modality}: {there} in this memory, {wanted} asked for; every row has as many, so "
            "leave --views out, or embed into a new folder"
        )


def relative_to_memory(path: Path, memory: Path) -> str:
    """Return ``path`` as seen from the memory's folder, so that a project can be moved as a whole.

    What shares nothing but the root with the memory stays absolute.
    """
    # Resolved, for the way up from a linked folder leads elsewhere than its name says.
    target, origin = os.path.realpath(path), os.path.realpath(memory)
    apart = os.path.commonpath([target, origin]) == os.path.sep
    return Path(target if apart else os.path.relpath(target, origin)).as_posix()
