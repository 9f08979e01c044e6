"""Items -> encoder -> memory, shard by shard: alone, or as one of several processes that share a memory."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cmcr.embed.conditions import one_thread_a_product
from cmcr.embed.part import Part
from cmcr.embed.shard import EmbeddedShard, Embedder, Pending
from cmcr.embed.staging import Stage, agree, unfinished
from cmcr.encoders.base import Encoder
from cmcr.errors import InputError
from cmcr.hooks import Progress, silent
from cmcr.items import SAME_ID, Inputs, Item
from cmcr.memory import CHANGED, MANIFEST, Manifest, Memory, MemoryWriter, Row, Skip, ViewSpec, check_views
from cmcr.modality import OWN, Modality

SHARD_SIZE = 10_000
"""Items a shard: the unit of work and of resume."""
VIEWED = tuple(OWN)
"""The modalities of which views are made."""


@dataclass(slots=True)
class EmbedReport:
    """What a run did.

    >>> from cmcr import Modality, embed_items, load_encoder
    >>> from cmcr.items import text_item, unique_items
    >>> inputs = unique_items(Modality.TEXT, [text_item("a red drum", "1"), text_item(" ", "2")])
    >>> report = embed_items(load_encoder("tiny-clip"), inputs, "mem/texts")
    >>> report.embedded, report.already, report.reasons()
    (1, 0, [('empty text', 1)])

    Attributes:
        modality: Of the items.
        items: Items the input lists.
        embedded: Rows added.
        updated: Of these, how many took the place of a row of the same file whose content was another.
        already: Items that were in the memory.
        duplicates: Repeated texts that were dropped.
        skipped: What could not be embedded, in this run or before.
        noted: Rows added of which their decoder told something.
        ignored: Files left aside for their suffix, counted by suffix.
        remarks: What else was seen while listing, e.g. which linked folders were followed.
        rows: Rows of this modality that the memory holds now.
        batch_size: Items a batch at the end; below what was asked for when the device ran out of memory.
        shards: Shards that several processes share; 0 for a run alone.
        missing: Of these, how many are not in the memory yet, for others have still to make them.
        views: How many views each row has.
    """

    modality: Modality
    items: int
    embedded: int = 0
    updated: int = 0
    already: int = 0
    duplicates: int = 0
    skipped: list[Skip] = field(default_factory=list)
    noted: list[Row] = field(default_factory=list)
    ignored: dict[str, int] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    rows: int = 0
    batch_size: int = 0
    shards: int = 0
    missing: int = 0
    views: int = 0

    @classmethod
    def begin(cls, inputs: Inputs) -> EmbedReport:
        """Return the report of a run over ``inputs`` that has done nothing yet."""
        return cls(
            inputs.modality,
            len(inputs.items),
            duplicates=inputs.duplicates,
            ignored=inputs.ignored,
            remarks=inputs.remarks,
        )

    def count(self, pending: Pending) -> None:
        """Count what needs no work."""
        self.already += pending.already
        self.skipped += pending.skipped

    def add(self, embedded: EmbeddedShard) -> None:
        """Count a shard."""
        self.embedded += len(embedded.rows)
        self.skipped += embedded.skips
        self.noted += embedded.noted

    @property
    def viewed(self) -> str:
        """What is said of the views; empty: there are none."""
        return f", {self.views} views each" if self.views else ""

    @property
    def kept(self) -> int:
        """Items of the input that have a row in the memory."""
        return self.embedded + self.already

    @property
    def changed(self) -> int:
        """Items whose row is of older content; ``update`` embeds them anew."""
        return sum(skip.reason.startswith(CHANGED) for skip in self.skipped)

    def reasons(self) -> list[tuple[str, int]]:
        """Return the reasons of the skips, the most frequent first; those that name another file count as one."""
        return Counter(kind_of(skip.reason) for skip in self.skipped).most_common()

    def notes(self) -> list[tuple[Row, int]]:
        """Return a row for each kind of note, and how many have one that differs in its numbers alone; most first."""
        kinds = [re.sub(r"[\d.,]+", "0", row.note or "") for row in self.noted]
        return [(self.noted[kinds.index(kind)], count) for kind, count in Counter(kinds).most_common()]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        notes = {row.note: count for row, count in self.notes()}
        counts = {
            "modality": str(self.modality),
            "items": self.items,
            "embedded": self.embedded,
            **({"updated": self.updated} if self.updated else {}),
            "already": self.already,
            "duplicates": self.duplicates,
            "ignored": self.ignored,
            "skipped": len(self.skipped),
            "reasons": dict(self.reasons()),
            "rows": self.rows,
            **({"remarks": list(self.remarks)} if self.remarks else {}),
        }
        counts |= {"views": self.views} if self.views else {}
        counts |= {"noted": len(self.noted), "notes": notes} if notes else {}
        return counts | ({"shards": self.shards, "missing": self.missing} if self.shards else {})


def kind_of(reason: str) -> str:
    """Return a reason without what differs from item to item."""
    return f"{SAME_ID} another" if reason.startswith(SAME_ID) else reason


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
    update: bool = False,
    part: Part | None = None,
    views: ViewSpec | None = None,
    progress: Progress = silent,
) -> EmbedReport:
    """Embed the items that the memory does not hold yet, and commit them shard by shard.

    A run that dies and is started again ends with the bytes of a run that did not, provided neither the input nor the
    encoder changed meanwhile (``retry_skipped`` starts the list of skips anew, so leave it out when going on). So do
    several processes with a ``part`` each, at once or one after another, on one folder. Without a ``part``, a run on a
    memory that others left unfinished makes all that is missing.

    Args:
        encoder: Turns items into vectors.
        inputs: What ``read_items`` listed.
        memory_path: The memory's folder; created when missing.
        batch_size: Items given to the encoder at once; halved whenever the device runs out of memory.
        shard_size: Items a shard.
        dtype: ``float16``, ``float32`` or ``int8`` on disk; None: as the memory is, float16 for a new one.
        workers: Threads that read and decode; None: one a processor, at most 16.
        retry_skipped: Try again what was skipped before, even where its content is the same.
        update: Embed anew what changed since it was embedded: the new row is added and the old one removed, in one
            instant. Without it such an item is skipped, and its row stays.
        part: Which shards to take, where several processes share the work; None: all.
        views: How many views of each item to store beside its vector, drawn by its content's hash and a seed; None: as
            many as the memory has, none in a new one.
        progress: Told after every batch.

    Raises:
        InputError: a size that is not positive, an unknown dtype, or several processes with ``retry_skipped`` or
            ``update``.
        ArtifactError: the memory is another encoder's, in use, or damaged; or other processes have left work of other
            inputs or settings there.
        CmcrError: the device has not the memory for a batch of one.
        OSError: the disk is full or the folder read-only; the shards committed so far stay.
    """
    for name, value in (("batch_size", batch_size), ("shard_size", shard_size), ("workers", workers or 1)):
        if value < 1:
            raise InputError(f"{name} {value}; expected 1 or more")
    report, modality = EmbedReport.begin(inputs), inputs.modality
    views = views_for(memory_path, modality, views)
    embedder = Embedder(encoder, modality, memory_path, batch_size=batch_size, workers=workers, views=views)
    with one_thread_a_product(), embedder:
        run = _Run(embedder, inputs, report, shard_size, dtype, progress)
        if part is not None or not run.alone(retry_skipped, update):
            if retry_skipped or update:
                flag = "--update" if update else "--retry-skipped"
                raise InputError(
                    f"{memory_path}: {flag} is for a run alone; let the others finish, then run it by itself"
                )
            run.shared(part or Part())
        report.rows, report.batch_size = Memory.open(memory_path).rows(modality), embedder.batch_size
        report.views = views.count if views else 0
    return report


def views_for(path: str | Path, modality: Modality, asked: ViewSpec | None) -> ViewSpec | None:
    """Return how views are made: as asked, or as those that the memory holds.

    Raises:
        InputError: no views can be made of the modality.
        ArtifactError: the memory holds rows with another number of views.
    """
    if asked is not None and modality not in VIEWED:
        raise InputError(f"no views are made of {modality}; leave --views out (they are made of {', '.join(VIEWED)})")
    manifest = Manifest.read(Path(path)) if (Path(path) / MANIFEST).exists() else None
    if manifest is None or modality not in manifest.shards:
        return asked
    held = manifest.views.get(modality)
    found = asked or (held.spec if held else None)
    check_views(manifest, modality, found, Path(path))
    return found


def join(
    embedder: Embedder, items: Sequence[Item], report: EmbedReport, *, shard_size: int, dtype: str | None
) -> tuple[Stage | None, Pending]:
    """Begin or join the work that several processes share, and count what is done; None: nothing is left to do.

    Raises:
        ArtifactError: as ``agree``.
    """
    plan, pending = agree(embedder, items, shard_size=shard_size, dtype=dtype)
    report.count(pending)
    if plan is None:
        return None, pending
    memory = Memory.open(embedder.path)
    report.shards = plan.count
    report.already += memory.manifest.stored(embedder.modality) - plan.rows
    report.skipped += itertools.islice(memory.skip_records(), plan.skipped, None)
    return Stage(embedder.path, plan), pending


def shards_to_do(stage: Stage, part: Part, report: EmbedReport) -> list[int]:
    """Return which shards of a part have still to be made; count those that are staged already."""
    numbers = []
    for number in range(part.rank, stage.plan.count, part.size):
        packed = stage.staged(number)
        if packed is not None:
            report.already += packed.count
            report.skipped += packed.skip_records()
        elif number >= stage.committed():
            numbers.append(number)
    return numbers


class _Run:
    def __init__(
        self,
        embedder: Embedder,
        inputs: Inputs,
        report: EmbedReport,
        shard_size: int,
        dtype: str | None,
        progress: Progress,
    ) -> None:
        self.embedder, self.items, self.report = embedder, inputs.items, report
        self.shard_size, self.dtype, self.progress = shard_size, dtype, progress

    def alone(self, retry_skipped: bool, update: bool) -> bool:
        """Embed everything under one lock; False: the memory is one that several processes share."""
        embedder = self.embedder
        with MemoryWriter(embedder.path, embedder.info, self.dtype) as writer:
            if unfinished(writer) is not None:
                return False
            if retry_skipped:
                writer.forget_skipped()
            pending = embedder.pending(self.items, writer.memory, update)
            self.report.count(pending)
            committed = None
            with ThreadPoolExecutor(1) as behind:  # a shard is committed while the next one is embedded
                for start in range(0, len(pending.items), self.shard_size):
                    embedded = self.shard(pending, slice(start, start + self.shard_size), self.report.items)
                    self.report.add(embedded)
                    if committed is not None:
                        committed.result()
                    committed = behind.submit(self._commit, writer, embedded, pending.replaced)
                if committed is not None:
                    committed.result()
        return True

    def _commit(self, writer: MemoryWriter, embedded: EmbeddedShard, places: Mapping[str, int]) -> None:
        replaced = [places[row.id] for row in embedded.rows if row.id in places]
        packed = embedded.packed(writer.memory.dtype)
        writer.append_packed(self.embedder.modality, packed, replaced, self.embedder.views)
        self.report.updated += len(replaced)

    def shared(self, part: Part) -> None:
        """Embed the shards of a part, stage them, and commit what is next in order."""
        report = self.report
        stage, pending = join(self.embedder, self.items, report, shard_size=self.shard_size, dtype=self.dtype)
        if stage is None:
            return
        plan, todo = stage.plan, shards_to_do(stage, part, report)
        total = report.already + len(report.skipped) + sum(len(pending.items[plan.part(number)]) for number in todo)
        for number in todo:
            embedded = self.shard(pending, plan.part(number), total)
            stage.put(number, embedded)
            report.add(embedded)
            stage.commit()
        report.missing = stage.commit()

    def shard(self, pending: Pending, part: slice, total: int) -> EmbeddedShard:
        before = self.report.already + self.report.embedded + len(self.report.skipped)
        skipped = len(self.report.skipped)

        def told(rows: int, skips: int) -> None:
            self.progress(before + rows + skips, total, f"{skipped + skips} skipped")

        return self.embedder.shard(pending.items[part], pending.changed, told)
