"""Items -> vectors, one shard at a time: decode ahead in threads, skip what is bad with a reason.

Nothing here writes: the same code runs alone, as one of several ranks, and in a worker of Ray.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Protocol, Self, TypeVar, runtime_checkable

import numpy as np

from cmcr.decode import decoding, reserve
from cmcr.devices import out_of_memory
from cmcr.embed.conditions import items_at_rest, quick_switches
from cmcr.embed.decoded import Decoded, PreparesTexts, decode_texts, digest_of, reason_of
from cmcr.encoders.base import Encoder
from cmcr.errors import CmcrError, ItemError
from cmcr.items import SAME_ID, Item, readable
from cmcr.memory import CHANGED, EncoderInfo, Memory, Packed, Row, Skip, ViewSpec, pack, relative_to_memory
from cmcr.memory.translated import refuse_embedded
from cmcr.modality import Modality

_In = TypeVar("_In")
_Out = TypeVar("_Out")


@runtime_checkable
class Knows(Protocol):
    """An encoder of vectors made elsewhere: it can tell of stored rows that they are not what it would make."""

    def outdated(self, memory: Memory, modality: Modality) -> set[str]:
        """Return the ids of the rows whose vector is another now."""
        ...


@dataclass(frozen=True, slots=True)
class Pending:
    """What a memory lacks of an input.

    Attributes:
        items: Those with work left, in their order.
        changed: Of the ids among them that have a row whose content was another: that row's source.
        already: How many have their row.
        skipped: What was skipped before and is as it was.
        replaced: Of the ids with work left, the stored number of the row that the new one takes the place of.
    """

    items: list[Item]
    changed: Mapping[str, str]
    already: int
    skipped: list[Skip]
    replaced: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EmbeddedShard:
    """What came of a shard's items: (N, D) vectors with their rows, and the skips; each item is in one of the two.

    ``views`` are (N, K, D), where views are made.
    """

    vectors: np.ndarray
    rows: list[Row]
    skips: list[Skip]
    views: np.ndarray | None = None

    def packed(self, dtype: str) -> Packed:
        """Return it as it will lie on disk."""
        return pack(self.vectors, dtype, self.rows, self.skips, self.views)

    @property
    def noted(self) -> list[Row]:
        """The rows that have a note."""
        return [row for row in self.rows if row.note]


class Embedder:
    """Embeds shards of one modality; a context manager, for it holds threads.

    Attributes:
        info: Which encoder it is.
        modality: Of the items.
        path: The memory's folder; sources are told relative to it.
        batch_size: Items given to the encoder at once; halved whenever the device runs out of memory.
        views: How views of each item are made; None: there are none.
    """

    def __init__(
        self,
        encoder: Encoder,
        modality: Modality,
        path: str | Path,
        *,
        batch_size: int,
        workers: int | None = None,
        views: ViewSpec | None = None,
    ) -> None:
        """Embed for the memory in ``path``; ``workers`` threads decode.

        None: one a processor, at most 16; 0: who calls decodes, too.
        """
        self.info = EncoderInfo(encoder.name, encoder.fingerprint, encoder.dim)
        self.modality, self.path, self.batch_size, self.views = modality, Path(path), batch_size, views
        self._encoder = encoder
        self._workers = min(16, os.cpu_count() or 1) if workers is None else workers
        self._folders: dict[Path, str] = {}
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        if self._workers:
            self._pool = self._stack.enter_context(ThreadPoolExecutor(self._workers))
            self._stack.enter_context(quick_switches())
            self._stack.enter_context(items_at_rest())
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def pending(self, items: Sequence[Item], memory: Memory, update: bool = False) -> Pending:
        """Return what ``memory`` lacks of ``items``; content is read only of what was seen before.

        Args:
            items: The input's.
            memory: What is there.
            update: An item whose content changed since is to take the place of its row.

        Raises:
            ArtifactError: the memory is damaged, or holds translated vectors.
        """
        refuse_embedded(memory.path, memory.manifest)
        held = memory.metadata(self.modality) if self.modality in memory.modalities else ()
        hashes = {row.id: row.hash for row in held}
        other: set[str] = set()
        if update and isinstance(self._encoder, Knows):
            other = self._encoder.outdated(memory, self.modality)
        skips = {_skip_key(skip): skip for skip in memory.skip_records() if skip.modality is self.modality}
        seen = hashes.keys() | {skip.id for skip in skips.values()}

        def verdict(item: Item) -> Skip | bool | None:
            """Return True for a row that is there, the skip of an item known to be bad, None for one with work left."""
            try:
                with decoding():
                    reserve(item.content_size())
                    digest = digest_of(item, item.read())
            except ItemError:
                digest = None
            there = item.id in hashes and not item.problem
            if there and item.id in other:
                return None
            if there and digest is not None and hashes[item.id] == digest:
                return True
            known = skips.get((item.id, digest or self.source(item)))
            if known is not None and not (update and known.reason.startswith(CHANGED)):
                return known if there or not _of_a_row(known) or item.problem else None
            return True if there and (digest is None or hashes[item.id] is None) else None

        verdicts = self._ahead(verdict, (item for item in items if item.id in seen))
        found = [(item, next(verdicts) if item.id in seen else None) for item in items]
        left = [item for item, known in found if known is None]
        of_rows = [item for item in left if item.id in hashes]
        changed = {item.id: item for item in sorted(of_rows, key=lambda item: not item.problem)}  # one without counts
        rows = list(memory.find(self.modality, set(changed))) if changed else []
        replaced = {row.id for _, row in rows if update and self._same_place(changed[row.id], row)} | other
        places = {row.id: number for number, row in rows if row.id in replaced}
        return Pending(
            left,
            {row.id: row.source for _, row in rows if row.id not in places},
            sum(known is True for _, known in found),
            [known for _, known in found if isinstance(known, Skip)],
            places,
        )

    def _same_place(self, item: Item, row: Row) -> bool:
        """Tell whether an item lies where its row came from; a line of a list may have moved within it."""
        here, before = self.source(item), row.source
        return here == before or (item.path is None and here.rpartition(":")[0] == before.rpartition(":")[0] != "")

    def shard(
        self,
        items: Sequence[Item],
        changed: Mapping[str, str] = MappingProxyType({}),
        told: Callable[[int, int], None] | None = None,
    ) -> EmbeddedShard:
        """Embed ``items``.

        Args:
            items: The shard's.
            changed: The ids that keep an older row, with that row's source.
            told: Called after every batch with the rows and skips so far.

        Raises:
            CmcrError: the device has not the memory for a batch of one, or the encoder does not keep its promises.
        """
        vectors, rows, skips = [np.empty((0, self.info.dim), np.float32)], [], []
        views = [np.empty((0, self.views.count if self.views else 0, self.info.dim), np.float32)]
        decoded = self._decoded(items, changed)
        while batch := list(itertools.islice(decoded, self.batch_size)):
            good = [each for each in batch if each.reason is None]
            if good:
                vectors.append(self._encode(good))
                views.append(self._encode_views([each for each in good if each.reason is None], vectors[-1]))
            for each in batch:
                source = self.source(each.item)
                if each.reason is None:
                    rows.append(Row(each.item.id, source, each.hash, each.text, each.note))
                else:
                    skips.append(Skip(each.item.id, self.modality, source, each.hash, each.reason))
            if told is not None:
                told(len(rows), len(skips))
        return EmbeddedShard(np.concatenate(vectors), rows, skips, np.concatenate(views) if self.views else None)

    def source(self, item: Item) -> str:
        """Return where an item came from, relative to the memory: so a project folder can be moved as a whole."""
        if item.path is None:
            return readable(item.source)
        folder = item.path.parent
        if folder not in self._folders:
            self._folders[folder] = _relative(folder, self.path)
        member = item.source.removeprefix(readable(item.path.as_posix()))
        return f"{self._folders[folder]}/{readable(item.path.name)}{member}"

    def _decoded(self, items: Sequence[Item], changed: Mapping[str, str]) -> Iterator[Decoded]:
        """Yield the items in order, decoded; in threads, unless handing them over costs more than the work itself."""
        encoder, left = self._encoder, iter(items)
        at_hand = self.modality is Modality.TEXT and not self.views and all(item.path is None for item in items)
        if not (at_hand and isinstance(encoder, PreparesTexts)):
            yield from self._ahead(lambda item: self._decode(item, changed), items)
            return
        while part := list(itertools.islice(left, self.batch_size)):
            at_once = all(item.text and item.problem is None and item.id not in changed for item in part)
            made = decode_texts(encoder, part) if at_once else [None] * len(part)
            yield from (each or self._decode(item, changed) for item, each in zip(part, made, strict=True))

    def _decode(self, item: Item, changed: Mapping[str, str]) -> Decoded:
        decoded = Decoded(item)
        try:
            with decoding() as decoder:
                reserve(item.content_size())
                data = item.read()
                decoded.hash = digest_of(item, data)
                if item.id in changed:
                    raise ItemError(self._changed(item, changed[item.id]))
                decoded.text = data.decode() or None if self.modality is Modality.TEXT else None
                decoded.prepared = self._encoder.prepare(item, data)
            decoded.note = "; ".join(decoder.notes) or None
            if self.views and decoded.hash:
                from cmcr.embed.views import prepared_views

                whole = decoded.prepared
                decoded.views = prepared_views(self._encoder, item, data, decoded.hash, self.views, whole)
        except Exception as error:  # a decoder may raise anything on bad bytes; one item must not stop the others
            decoded.reason = reason_of(error)
        return decoded

    def _changed(self, item: Item, before: str) -> str:
        """Return why an item whose id has a row of other content is left out."""
        if self.source(item) != before:
            return f"{SAME_ID} {before}, which is in the memory: give --id-prefix"
        # The source of a line names its list without the folder, so another list cannot be told from a changed one.
        return CHANGED if item.path is not None else f"{CHANGED}, or of another list: then give --id-prefix"

    def _encode(self, good: list[Decoded]) -> np.ndarray:
        """Return the vectors of the items that got a usable one; note the reason on the others."""
        try:
            vectors = self._checked(self._encoder.encode(self.modality, [each.prepared for each in good]), len(good))
        except Exception as error:
            if out_of_memory(error):
                return self._encode_halves(good, error)
            if len(good) == 1:
                good[0].reason = reason_of(error)
                return np.empty((0, self.info.dim), np.float32)
            return np.concatenate([self._encode([each]) for each in good])
        squares = np.einsum("nd,nd->n", vectors, vectors)
        if np.isfinite(squares).all() and squares.all():  # of most batches: their norms need no doubles
            return vectors
        norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
        usable = np.isfinite(norms) & (norms > 0)
        if usable.all():
            return vectors
        for row in np.flatnonzero(~usable):
            good[row].reason = "its vector is zero" if norms[row] == 0 else "its vector is not finite"
        kept: np.ndarray = vectors[usable]
        return kept

    def _encode_views(self, good: list[Decoded], vectors: np.ndarray) -> np.ndarray:
        """Return the (N, K, D) views of items with their vectors; the vector stands for a view without a usable one."""
        count = self.views.count if self.views else 0
        made = np.repeat(vectors[:, None], count, axis=1)
        flat = [Decoded(each.item, prepared=view) for each in good for view in each.views]
        for start in range(0, len(flat), self.batch_size):
            part = flat[start : start + self.batch_size]
            found = self._encode(part)
            usable = start + np.flatnonzero([each.reason is None for each in part])
            made.reshape(-1, self.info.dim)[usable] = found
        return made

    def _encode_halves(self, good: list[Decoded], error: Exception) -> np.ndarray:
        if len(good) == 1:
            raise CmcrError(f"{self.info.name}: out of memory with a batch of one; use --device cpu") from error
        self.batch_size = half = len(good) // 2
        return np.concatenate([self._encode(good[:half]), self._encode(good[half:])])

    def _checked(self, vectors: np.ndarray, count: int) -> np.ndarray:
        if vectors.shape != (count, self.info.dim):
            raise CmcrError(f"{self.info.name}: gave {vectors.shape} for {count} items of {self.info.dim} components")
        return vectors

    def _ahead(self, function: Callable[[_In], _Out], values: Iterable[_In]) -> Iterator[_Out]:
        """Map in threads, in order, at most a batch ahead of whoever takes the results.

        A task is several values: handing each to a thread would cost more than a short text does.
        """
        if not self._workers:
            yield from map(function, values)
            return
        waiting: deque[Future[list[_Out]]] = deque()
        values, size = iter(values), max(1, self.batch_size // self._workers)
        while part := list(itertools.islice(values, size)):
            waiting.append(self._pool.submit(lambda part: [function(value) for value in part], part))
            if len(waiting) * size > self.batch_size:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()


def _relative(folder: Path, memory: Path) -> str:
    try:
        return readable(relative_to_memory(folder, memory))
    except ValueError:  # a manifest may name what cannot be a path; reading the item says so
        return readable(folder.as_posix())


def _skip_key(skip: Skip) -> tuple[str, str]:
    return skip.id, skip.hash or skip.source


def _of_a_row(skip: Skip) -> bool:
    """Tell whether an item was skipped for the row that had its id, which may be removed by now."""
    return skip.reason.startswith((CHANGED, SAME_ID))
