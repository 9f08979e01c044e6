"""The embedding memory: a folder of one encoder's vectors, read memory-mapped.

``manifest.json`` is the truth: a file it does not name does not belong to the memory. A shard is written to its end
before the manifest names it, so a run that dies leaves a smaller memory and never a damaged one. Nothing in the folder
depends on when, or in how many runs, it was written.
"""

from __future__ import annotations

import bisect
import dataclasses
import hashlib
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from cmcr.errors import ArtifactError
from cmcr.files import check_regular, is_file, open_file, read_lines, sha256_file
from cmcr.memory.lines import _json_lines, _row
from cmcr.memory.manifest import CURE, SKIPPED, EncoderInfo, Manifest, Row, Shard, Skip
from cmcr.memory.roots import MediaRoots, read_source
from cmcr.memory.tombstones import NONE, read_removed, to_stored
from cmcr.modality import Modality
from cmcr.numbers.rows import widened
from cmcr.reading import open_npy, parse_json, reading
from cmcr.schema import checked

__all__ = ["CHANGED", "EncoderInfo", "Memory", "Row", "Skip"]

CHANGED = "changed since it was embedded"
"""Begins the reason of the skip that keeps an old row: its file has other content now."""

_NPY_HEADER = 1 << 12


class Memory:
    """A memory opened for reading: what stood in the manifest when it was opened.

    >>> from cmcr import Memory, Modality, embed_items, load_encoder
    >>> from cmcr.items import text_item, unique_items
    >>> inputs = unique_items(Modality.TEXT, [text_item("a red drum", "texts.txt:1")])
    >>> report = embed_items(load_encoder("tiny-clip"), inputs, "mem/clip")
    >>> memory = Memory.open("mem/clip")
    >>> memory.encoder.name, memory.modalities, memory.vectors(Modality.TEXT).shape
    ('tiny-clip', ('text',), (1, 64))

    Attributes:
        path: The folder.
        encoder: Which encoder made it.
        dtype: How vectors lie on disk; they are always read as float32 unit vectors.
        normalized: Whether they were normalised before they were stored.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest
        self.encoder = manifest.encoder
        self.dtype = manifest.dtype
        self.normalized = manifest.normalized
        self._line_ends: dict[str, np.ndarray] = {}
        self._checked: set[Modality] = set()
        self._gone: dict[Modality, np.ndarray] = {}

    @classmethod
    def open(cls, path: str | Path) -> Memory:
        """Open the memory in the folder ``path``.

        Raises:
            ArtifactError: missing, not a memory, of another version; a damaged manifest or list of removed rows.
        """
        folder = Path(path)
        memory = cls(folder, Manifest.read(folder))
        try:  # now, for the next removal takes the file away
            memory._read_removed()
        except ArtifactError:
            manifest = Manifest.read(folder)
            if manifest == memory.manifest:
                raise
            memory = cls(folder, manifest)
            memory._read_removed()
        return memory

    def _read_removed(self) -> None:
        for modality in self.manifest.removed:
            self.removed_rows(modality)

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """The modalities it holds rows of, cmcr's own first and others by name."""
        shards, removed = self.manifest.shards, self.manifest.removed
        return tuple(each for each in shards if each not in removed or self.rows(each))

    def rows(self, modality: Modality) -> int:
        """Return the number of rows of a modality; 0 when it holds none."""
        removed = self.manifest.removed.get(modality)
        return self.manifest.stored(modality) - (removed.rows if removed else 0)

    def removed_rows(self, modality: Modality) -> np.ndarray:
        """Return the (R,) stored numbers of the rows that were removed, ascending: among all rows of the shards.

        Raises:
            ArtifactError: the file that names them is missing or damaged.
        """
        removed = self.manifest.removed.get(modality)
        if removed is None:
            return NONE
        if modality not in self._gone:
            self._gone[modality] = read_removed(self.path, removed, self.manifest.stored(modality))
        return self._gone[modality]

    def with_removed(self) -> Memory:
        """Return the memory as if nothing had been removed from it: what an index of it holds."""
        return Memory(self.path, dataclasses.replace(self.manifest, removed={})) if self.manifest.removed else self

    def part(self, modality: Modality, shards: slice) -> Memory:
        """Return some of the shards of a modality as a memory of their own, removed rows too."""
        kept = {modality: self.shards(modality)[shards]}
        held = {each: some for each, some in kept.items() if some}
        return Memory(self.path, dataclasses.replace(self.manifest, shards=held, removed={}))

    def shards(self, modality: Modality) -> tuple[Shard, ...]:
        """Return the shards of a modality, in row order.

        Raises:
            ArtifactError: it holds no rows of this modality.
        """
        if modality not in self.modalities:
            held = ", ".join(self.modalities) or "nothing"
            raise ArtifactError(
                f"{self.path}: holds no {modality}; it holds {held}: embed some, or choose another memory"
            )
        return self.manifest.shards[modality]

    def fingerprint(self, modality: Modality) -> str:
        """Return a hex sha256 that changes whenever the encoder, a row or their order does."""
        parts = [self.encoder.fingerprint]
        parts += [text for shard in self.shards(modality) for text in (shard.sha256, shard.metadata_sha256)]
        if modality in self.manifest.removed:
            parts += ["removed", self.manifest.removed[modality].sha256]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def metadata(self, modality: Modality) -> Iterator[Row]:
        """Yield what is known about each row, in row order.

        Raises:
            ArtifactError: a metadata file is missing, damaged, or of another length than the manifest says.
        """
        return (row for _, row in self.numbered(modality))

    def numbered(self, modality: Modality) -> Iterator[tuple[int, Row]]:
        """Yield each row after its stored number, in row order; otherwise as ``metadata``."""
        for first, shard in self._placed(modality):
            gone = set(self._gone_of(modality, first, shard).tolist())
            for number, row in enumerate(self._shard_metadata(shard)):
                if number not in gone:
                    yield first + number, row

    def _placed(self, modality: Modality) -> Iterator[tuple[int, Shard]]:
        """Yield each shard after the stored number of its first row."""
        first = 0
        for shard in self.shards(modality):
            yield first, shard
            first += shard.rows

    def _gone_of(self, modality: Modality, first: int, shard: Shard) -> np.ndarray:
        """Return the removed rows of a shard, counted from its own first."""
        gone = self.removed_rows(modality)
        return gone[slice(*np.searchsorted(gone, (first, first + shard.rows)))] - first

    def ids(self, modality: Modality) -> list[str]:
        """Return the ids in row order."""
        return [row.id for row in self.metadata(modality)]

    def blocks(self, modality: Modality, size: int = 8192) -> Iterator[np.ndarray]:
        """Yield (n, D) float32 unit vectors, 1 <= n <= ``size``, in row order; only one block is held in RAM.

        Raises:
            ArtifactError: a shard is missing, damaged, not of the shape the manifest says, or holds no unit vectors.
        """
        for first, shard in self._placed(modality):
            stored, gone = self._shard_vectors(shard), self._gone_of(modality, first, shard)
            for start in range(0, shard.rows, size):
                here = gone[slice(*np.searchsorted(gone, (start, start + size)))] - start
                block = stored[start : start + size]
                if len(here) < len(block):
                    yield self._unit(np.delete(block, here, axis=0) if len(here) else block, shard)

    def vectors(self, modality: Modality, indices: Sequence[int] | np.ndarray | None = None) -> np.ndarray:
        """Return all vectors of a modality, or the rows ``indices`` in that order.

        Returns:
            (N, D) float32 unit vectors.

        Raises:
            ArtifactError: as ``blocks``.
            IndexError: an index is not in [0, rows).
        """
        shards, total = self.shards(modality), self.rows(modality)
        if indices is None:
            return np.concatenate(list(self.blocks(modality)))
        wanted = np.asarray(indices, dtype=np.int64)
        if wanted.size and (wanted.min() < 0 or wanted.max() >= total):
            raise IndexError(f"row {wanted.min()} to {wanted.max()}; {self.path} holds {total} {modality} rows")
        wanted = to_stored(self.removed_rows(modality), wanted)
        ends = list(itertools.accumulate(shard.rows for shard in shards))
        owner = np.searchsorted(ends, wanted, side="right")
        found = np.empty((len(wanted), self.encoder.dim), dtype=np.float32)
        for number in np.unique(owner):
            here = owner == number
            first = ends[number] - shards[number].rows
            found[here] = self._unit(self._shard_vectors(shards[number])[wanted[here] - first], shards[number])
        return found

    def row(self, modality: Modality, index: int) -> Row:
        """Return what is known about one row, reading only its line; where lines end is learnt once a shard.

        Raises:
            ArtifactError: as ``metadata``.
            IndexError: ``index`` is not in [0, rows).
        """
        shards = self.shards(modality)
        if not 0 <= index < self.rows(modality):
            raise IndexError(f"row {index}; {self.path} holds {self.rows(modality)} {modality} rows")
        stored = int(to_stored(self.removed_rows(modality), np.array([index]))[0])
        ends = list(itertools.accumulate(shard.rows for shard in shards))
        number = bisect.bisect_right(ends, stored)
        return self._shard_row(shards[number], stored - ends[number] + shards[number].rows)

    def skip_records(self) -> Iterator[Skip]:
        """Yield every skip ever committed, in order.

        Raises:
            ArtifactError: ``skipped.jsonl`` is missing, damaged, or shorter than the manifest says.
        """
        path, count = self.path / SKIPPED, 0
        if not self.manifest.skipped:
            return
        for count, value in itertools.islice(_json_lines(path), self.manifest.skipped):
            try:
                yield checked(Skip, value)
            except ValueError as error:
                raise ArtifactError(f"{path}:{count}: not a skip record ({error}); restore the file") from None
        if count != self.manifest.skipped:
            raise ArtifactError(f"{path}: {count} lines; the manifest says {self.manifest.skipped}")

    def skipped(self) -> list[Skip]:
        """Return what could not be embedded and still is not: the last word on each item, in the order written."""
        last = {(skip.modality, skip.id, skip.source): skip for skip in self.skip_records()}
        asked = {m: {s.id for s in last.values() if s.modality is m} for m in self.manifest.shards} if last else {}
        every, done = self.with_removed(), set[tuple[Modality, str, str | None]]()
        for modality, ids in asked.items():  # a row that was removed later was embedded all the same
            for _, row in every.find(modality, ids):
                done |= {(modality, row.id, row.source), (modality, row.id, row.hash)}
        return [
            s
            for s in last.values()
            if (s.modality, s.id, s.hash if s.reason.startswith(CHANGED) else s.source) not in done
        ]

    def sources(self, modality: Modality, ids: set[str]) -> dict[str, str]:
        """Return where the rows of ``ids`` came from."""
        return {row.id: row.source for _, row in self.find(modality, ids)}

    def find(self, modality: Modality, ids: set[str]) -> Iterator[tuple[int, Row]]:
        """Yield the rows of ``ids`` after their stored numbers; other lines are not parsed, there may be millions."""
        wanted = {b'{"id": ' + json.dumps(each, ensure_ascii=False).encode("utf-8", "backslashreplace") for each in ids}
        for first, shard in self._placed(modality):
            path, gone = self.path / shard.metadata, set(self._gone_of(modality, first, shard).tolist())
            with reading(path, CURE):
                for number, line in enumerate(read_lines(path)):
                    if line[: line.find(b', "source": ')] in wanted and number not in gone:
                        yield first + number, _row(json.loads(line), path)

    def source_path(self, row: Row) -> Path | None:
        """Return the file a row was made from, or None: a text line, a tar member, or a file that is gone."""
        path = self.path / row.source
        return path if row.source and is_file(path) else None

    def source_bytes(self, row: Row, roots: MediaRoots | None = None, most: int | None = None) -> bytes | None:
        """Return the content a row was made from (also a tar member's), or None when it is gone.

        Args:
            row: Of this memory; where its file lies is not believed.
            roots: Where files may be opened besides the memory's own folder; None: the working directory.
            most: Bytes read at most.

        Raises:
            OutsideError: the file lies elsewhere, be it through a link.
            ItemError: it is no regular file, or larger than ``most``.
            OSError: it cannot be read.
        """
        found = read_source(self.path, row.source, roots or MediaRoots(), most)
        return row.text.encode() if found is None and row.text is not None else found

    def check_content(self, modality: Modality, most: int | None = None) -> bool:
        """Compare the files of a modality with the sha256 that the manifest names, once.

        Args:
            modality: Whose files.
            most: Bytes read at most for it.

        Returns:
            False when they are larger than ``most``, and nothing was compared.

        Raises:
            ArtifactError: a file is missing, or not the one that was written.
        """
        if modality in self._checked:
            return True
        shards = self.shards(modality)
        with reading(self.path, CURE):
            sizes = [check_regular(self.path / name).st_size for s in shards for name in (s.vectors, s.metadata)]
            if most is not None and sum(sizes) > most:
                return False
        for shard in shards:
            self.check_shard(shard)
        self._checked.add(modality)
        return True

    def check_shard(self, shard: Shard) -> None:
        """Compare the files of one shard with the manifest.

        Raises:
            ArtifactError: one is missing, or not the one that was written.
        """
        with reading(self.path, CURE):
            wrong = self._changed(shard)
        if wrong:
            path = self.path / wrong[0]
            raise ArtifactError(f"{path}: its sha256 is not the manifest's; see cmcr info --verify {self.path}")

    def _changed(self, shard: Shard) -> list[str]:
        """Return the files of a shard whose sha256 is not the manifest's; no size is believed on the way."""
        digest, whole = hashlib.sha256(), self.path / shard.vectors
        for line in read_lines(self.path / shard.metadata):
            digest.update(line)
        most = shard.rows * self.encoder.dim * np.dtype(self.dtype).itemsize + _NPY_HEADER
        changed = [] if digest.hexdigest() == shard.metadata_sha256 else [shard.metadata]
        if check_regular(whole).st_size > most or sha256_file(whole) != shard.sha256:
            changed.insert(0, shard.vectors)
        return changed

    def verify(self) -> list[str]:
        """Read everything and return one line per problem; empty when the memory is sound."""
        from cmcr.memory.verify import problems_of

        return problems_of(self)

    def leftovers(self) -> list[str]:
        """Return files of an interrupted run, relative to the memory; the next ``cmcr embed`` removes them."""
        from cmcr.memory.verify import leftovers_of

        return leftovers_of(self)

    def _shard_vectors(self, shard: Shard) -> np.ndarray:
        path = self.path / shard.vectors
        with reading(path, CURE):
            stored = open_npy(path)
        expected = (shard.rows, self.encoder.dim)
        if stored.shape != expected or stored.dtype != self.dtype:
            raise ArtifactError(
                f"{path}: {stored.dtype} of shape {stored.shape}; the manifest says {self.dtype} of {expected}"
            )
        return stored

    def _unit(self, stored: np.ndarray, shard: Shard) -> np.ndarray:
        block = widened(stored)
        norms = np.sqrt(np.einsum("nd,nd->n", block, block))[:, None]  # six times faster than numpy's norm
        if not (np.isfinite(norms).all() and norms.all()):
            path = self.path / shard.vectors
            raise ArtifactError(f"{path}: holds non-finite or zero vectors; see cmcr info --verify {self.path}")
        block /= norms
        return block

    def _shard_metadata(self, shard: Shard) -> Iterator[Row]:
        path, count = self.path / shard.metadata, 0
        for count, value in _json_lines(path):  # noqa: B007 - the last count is compared after the loop
            yield _row(value, path)
        if count != shard.rows:
            raise ArtifactError(f"{path}: {count} lines; the manifest says {shard.rows} rows")

    def _shard_row(self, shard: Shard, number: int) -> Row:
        path = self.path / shard.metadata
        with reading(path, CURE):
            if shard.metadata not in self._line_ends:
                self._line_ends[shard.metadata] = np.fromiter(map(len, read_lines(path)), np.int64).cumsum()
            ends = self._line_ends[shard.metadata]
            if len(ends) != shard.rows:
                raise ArtifactError(f"{path}: {len(ends)} lines; the manifest says {shard.rows} rows")
            with open_file(path) as file:
                file.seek(int(ends[number - 1]) if number else 0)
                return _row(parse_json(file.readline()), path)
