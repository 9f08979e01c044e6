"""Items -> encoder -> memory: decode ahead in threads, skip what is bad with a reason, commit shard by shard."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from cmcr.devices import out_of_memory
from cmcr.encoders.base import Encoder
from cmcr.errors import CmcrError, InputError, ItemError
from cmcr.hooks import Progress, silent
from cmcr.inputs import Inputs, Item
from cmcr.manifest import EncoderInfo, Row, Skip
from cmcr.memory import CHANGED
from cmcr.memory_writer import MemoryWriter, relative_to_memory
from cmcr.modality import Modality

SHARD_SIZE = 10_000
"""Items a shard: the unit of work and of resume."""

_In = TypeVar("_In")
_Out = TypeVar("_Out")


@dataclass(slots=True)
class EmbedReport:
    """What a run did.

    Attributes:
        modality: Of the items.
        items: Items the input lists.
        embedded: Rows added.
        already: Items that were in the memory.
        duplicates: Repeated texts that were dropped.
        skipped: What could not be embedded, in this run or before.
        ignored: Files left aside for their suffix, counted by suffix.
        rows: Rows of this modality that the memory holds now.
        batch_size: Items a batch at the end; below what was asked for when the device ran out of memory.
    """

    modality: Modality
    items: int
    embedded: int = 0
    already: int = 0
    duplicates: int = 0
    skipped: list[Skip] = field(default_factory=list)
    ignored: dict[str, int] = field(default_factory=dict)
    rows: int = 0
    batch_size: int = 0

    def reasons(self) -> list[tuple[str, int]]:
        """Return the reasons of the skips, the most frequent first."""
        return Counter(skip.reason for skip in self.skipped).most_common()


@dataclass(slots=True)
class _Decoded:
    """An item after the threads: ready for the encoder, or with the reason why not."""

    item: Item
    hash: str | None
    text: str | None = None
    prepared: Any = None
    reason: str | None = None


def embed(
    encoder: Encoder,
    inputs: Inputs,
    memory_path: str | Path,
    *,
    batch_size: int = 64,
    shard_size: int = SHARD_SIZE,
    dtype: str | None = None,
    workers: int | None = None,
    retry_skipped: bool = False,
    progress: Progress = silent,
) -> EmbedReport:
    """Embed the items that the memory does not hold yet, and commit them shard by shard.

    A run that dies and is started again ends with the bytes of a run that did not, provided neither the input nor the
    encoder changed meanwhile (``retry_skipped`` starts the list of skips anew, so leave it out when going on).

    Args:
        encoder: Turns items into vectors.
        inputs: What ``read_items`` listed.
        memory_path: The memory's folder; created when missing.
        batch_size: Items given to the encoder at once; halved whenever the device runs out of memory.
        shard_size: Items a shard.
        dtype: ``float16`` or ``float32`` on disk; None: as the memory is, float16 for a new one.
        workers: Threads that read and decode; None: one a processor, at most 16.
        retry_skipped: Try again what was skipped before, even where its content is the same.
        progress: Told after every batch.

    Raises:
        InputError: a size that is not positive, or an unknown dtype.
        ArtifactError: the memory is another encoder's, in use, or damaged.
        CmcrError: the device has not the memory for a batch of one.
        OSError: the disk is full or the folder read-only; the shards committed so far stay.
    """
    for name, value in (("batch_size", batch_size), ("shard_size", shard_size), ("workers", workers or 1)):
        if value < 1:
            raise InputError(f"{name} {value}; expected 1 or more")
    workers = workers or min(16, os.cpu_count() or 1)
    info = EncoderInfo(encoder.name, encoder.fingerprint, encoder.dim)
    report = EmbedReport(inputs.modality, len(inputs.items), duplicates=inputs.duplicates, ignored=inputs.ignored)
    with MemoryWriter(memory_path, info, dtype) as writer, ThreadPoolExecutor(workers) as pool, _quick_switches():
        if retry_skipped:
            writer.forget_skipped()
        run = _Run(encoder, writer, pool, report, batch_size, progress)
        pending = run.pending(inputs.items)
        for start in range(0, len(pending), shard_size):
            run.embed_shard(pending[start : start + shard_size])
        report.rows, report.batch_size = writer.memory.rows(inputs.modality), run.batch_size
    return report


@contextlib.contextmanager
def _quick_switches() -> Iterator[None]:
    """Let threads change places after a tenth of a millisecond, not five.

    The encoder calls many short operations and needs the interpreter again after each; beside decoding threads that
    keep it for five milliseconds it would mostly wait.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.0001)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


class _Run:
    def __init__(
        self,
        encoder: Encoder,
        writer: MemoryWriter,
        pool: ThreadPoolExecutor,
        report: EmbedReport,
        batch_size: int,
        progress: Progress,
    ) -> None:
        self.encoder, self.writer, self.pool, self.report = encoder, writer, pool, report
        self.batch_size, self.progress, self.modality = batch_size, progress, report.modality
        self.folders: dict[Path, str] = {}
        memory = writer.memory
        held = memory.metadata(self.modality) if self.modality in memory.modalities else ()
        self.hashes = {row.id: row.hash for row in held}
        self.skips = {_skip_key(skip): skip for skip in memory.skip_records() if skip.modality is self.modality}

    def pending(self, items: Sequence[Item]) -> list[Item]:
        """Return the items that still have work; count the others. Only what was seen before is read for it."""
        seen = self.hashes.keys() | {skip.id for skip in self.skips.values()}
        verdicts = self._ahead(self._verdict, (item for item in items if item.id in seen))
        left = []
        for item in items:
            verdict = next(verdicts) if item.id in seen else None
            if verdict is None:
                left.append(item)
            elif isinstance(verdict, Skip):
                self.report.skipped.append(verdict)
            else:
                self.report.already += 1
        return left

    def embed_shard(self, items: Sequence[Item]) -> None:
        """Embed ``items`` and commit what came of them as one shard."""
        rows, vectors, skips = [], [np.empty((0, self.encoder.dim), np.float32)], []
        decoded = self._ahead(self._decode, items)
        while batch := list(itertools.islice(decoded, self.batch_size)):
            good = [each for each in batch if each.reason is None]
            vectors.append(self._encode(good) if good else vectors[0])
            for each in batch:
                source = self._source(each.item)
                if each.reason is None:
                    rows.append(Row(each.item.id, source, each.hash, each.text))
                else:
                    skips.append(Skip(each.item.id, self.modality, source, each.hash, each.reason))
            done = self.report.already + self.report.embedded + len(self.report.skipped) + len(rows) + len(skips)
            self.progress(done, self.report.items, f"{len(self.report.skipped) + len(skips)} skipped")
        self.writer.append(self.modality, np.concatenate(vectors), rows, skips)
        self.report.embedded += len(rows)
        self.report.skipped += skips
        self.hashes |= {row.id: row.hash for row in rows}

    def _verdict(self, item: Item) -> Skip | bool | None:
        """Return True for a row that is there, the skip of an item known to be bad, None for one with work left."""
        try:
            digest = _digest(item, item.read())
        except ItemError:
            digest = None
        known = self.skips.get((item.id, digest or self._source(item)))
        if known is not None:
            return known
        if item.id not in self.hashes or item.problem:
            return None
        return True if digest is None or self.hashes[item.id] in (None, digest) else None

    def _decode(self, item: Item) -> _Decoded:
        decoded = _Decoded(item, None)
        try:
            data = item.read()
            decoded.hash = _digest(item, data)
            if item.id in self.hashes:
                raise ItemError(CHANGED)
            decoded.text = data.decode() or None if self.modality is Modality.TEXT else None
            decoded.prepared = self.encoder.prepare(item, data)
        except Exception as error:  # a decoder may raise anything on bad bytes; one item must not stop the others
            decoded.reason = _reason(error)
        return decoded

    def _encode(self, good: list[_Decoded]) -> np.ndarray:
        """Return the vectors of the items that got a usable one; note the reason on the others."""
        try:
            vectors = self._checked(self.encoder.encode(self.modality, [each.prepared for each in good]), len(good))
        except Exception as error:
            if out_of_memory(error):
                return self._encode_halves(good, error)
            if len(good) == 1:
                good[0].reason = _reason(error)
                return np.empty((0, self.encoder.dim), np.float32)
            return np.concatenate([self._encode([each]) for each in good])
        norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
        for each, norm in zip(good, norms, strict=True):
            each.prepared = None
            if not (np.isfinite(norm) and norm):
                each.reason = "its vector is zero" if norm == 0 else "its vector is not finite"
        usable: np.ndarray = vectors[np.isfinite(norms) & (norms > 0)]
        return usable

    def _encode_halves(self, good: list[_Decoded], error: Exception) -> np.ndarray:
        if len(good) == 1:
            raise CmcrError(f"{self.encoder.name}: out of memory with a batch of one; use --device cpu") from error
        self.batch_size = half = len(good) // 2
        return np.concatenate([self._encode(good[:half]), self._encode(good[half:])])

    def _checked(self, vectors: np.ndarray, count: int) -> np.ndarray:
        if vectors.shape != (count, self.encoder.dim):
            raise CmcrError(
                f"{self.encoder.name}: gave {vectors.shape} for {count} items of {self.encoder.dim} components"
            )
        return vectors

    def _ahead(self, function: Callable[[_In], _Out], values: Iterable[_In]) -> Iterator[_Out]:
        """Map in threads, in order, at most a batch ahead of whoever takes the results."""
        waiting: deque[Future[_Out]] = deque()
        for value in values:
            waiting.append(self.pool.submit(function, value))
            if len(waiting) > self.batch_size:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _source(self, item: Item) -> str:
        """Return where an item came from, relative to the memory: so a project folder can be moved as a whole."""
        if item.path is None:
            return item.source
        folder = item.path.parent
        if folder not in self.folders:
            self.folders[folder] = relative_to_memory(folder, self.writer.path)
        return f"{self.folders[folder]}/{item.path.name}{item.source.removeprefix(item.path.as_posix())}"


def _skip_key(skip: Skip) -> tuple[str, str]:
    return skip.id, skip.hash or skip.source


def _digest(item: Item, data: bytes) -> str | None:
    # An imported vector may come without its content; the hash of nothing would make all of them look alike.
    if item.path is None and item.text is None:
        return None
    # A cloud read with another axis up is another content.
    return hashlib.sha256(data + f"up {item.up}".encode() if item.up else data).hexdigest()


def _reason(error: Exception) -> str:
    """Return why an item fails, on one line; what is no item's fault is raised again."""
    text = " ".join(str(error).split())[:300]
    if isinstance(error, ItemError):
        return text
    if isinstance(error, CmcrError):
        raise error
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
