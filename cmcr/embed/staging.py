"""Embedding shared by several processes: a plan on disk, staged shards, and their commit in order.

Everything lies in the memory's folder ``staged/``. ``plan.json`` fixes which items make which shard; it is written by
whoever comes first and followed by the others, though the memory grows meanwhile. A finished shard is staged there as
one file, and whoever finds the next shards in order staged takes the memory's lock and commits them. So no process
needs another to be alive, and the memory ends with the bytes that a single process would have written. When the last
shard is committed the folder goes away.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from cmcr.embed.shard import EmbeddedShard, Embedder, Pending
from cmcr.errors import ArtifactError
from cmcr.files import atomic, write_json
from cmcr.items import Item
from cmcr.memory import EncoderInfo, Manifest, Memory, MemoryWriter, Packed, ViewSpec
from cmcr.modality import Modality
from cmcr.reading import read_json
from cmcr.schema import checked

STAGED = "staged"
"""The folder of a memory that holds a plan and the shards it still waits for."""

_WAIT = 60.0
"""Seconds to wait for the lock: others hold it while they commit, not while they embed."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What several processes agree on: the items that a memory lacked when the first of them came, cut into shards.

    Attributes:
        encoder: Who embeds.
        dtype: How vectors are stored.
        modality: Of the items.
        shard_size: Items a shard.
        items: How many there are.
        digest: sha256 over the items, in order.
        shards: Shards of the modality that the memory held before.
        rows: Rows in them.
        skipped: Skips that the memory held before.
        views: How views are made; None: there are none.
    """

    encoder: EncoderInfo
    dtype: str
    modality: Modality
    shard_size: int
    items: int
    digest: str
    shards: int
    rows: int
    skipped: int
    views: ViewSpec | None = None

    @classmethod
    def of(cls, memory: Memory, embedder: Embedder, items: Sequence[Item], shard_size: int) -> Plan:
        """Return the plan to embed ``items`` into ``memory``."""
        digest = hashlib.sha256()
        for item in items:
            line = [item.id, embedder.source(item), item.text, item.up, item.problem]
            digest.update(json.dumps(line).encode() + b"\n")
        held, modality = memory.manifest, embedder.modality
        base = (len(held.shards.get(modality, ())), held.stored(modality), held.skipped)
        return cls(
            embedder.info, memory.dtype, modality, shard_size, len(items), digest.hexdigest(), *base, embedder.views
        )

    @classmethod
    def read(cls, memory: Path) -> Plan | None:
        """Return the unfinished plan of the memory in the folder ``memory``, or None.

        Raises:
            ArtifactError: it is damaged.
        """
        path = memory / STAGED / "plan.json"
        try:
            plan: Plan = checked(cls, read_json(path))
            return plan
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise ArtifactError(f"{path}: damaged ({error}); delete {memory / STAGED} and start again") from None
        except OSError as error:
            raise ArtifactError(f"{path}: {error.strerror}; delete {memory / STAGED} and start again") from None

    def write(self, memory: Path) -> None:
        """Make it the plan of the memory in the folder ``memory``."""
        write_json(memory / STAGED / "plan.json", asdict(self))

    @property
    def count(self) -> int:
        """How many shards it has."""
        return -(-self.items // self.shard_size)

    def part(self, number: int) -> slice:
        """Return which items make a shard."""
        return slice(number * self.shard_size, (number + 1) * self.shard_size)

    def before(self, memory: Memory) -> Memory:
        """Return the memory as it was when the plan was made."""
        manifest = memory.manifest
        shards = manifest.shards | {self.modality: manifest.shards.get(self.modality, ())[: self.shards]}
        held = {modality: kept for modality, kept in shards.items() if kept}
        return Memory(memory.path, dataclasses.replace(manifest, shards=held, skipped=self.skipped))

    def committed(self, manifest: Manifest) -> int:
        """Return how many of its shards are in the memory: each item left a row or a skip there.

        Raises:
            ArtifactError: something else was written to the memory meanwhile.
        """
        done = manifest.stored(self.modality) - self.rows + manifest.skipped - self.skipped
        number, rest = divmod(done, self.shard_size)
        if done == self.items:
            return self.count
        if rest or not 0 <= done < self.items:
            raise ArtifactError(
                f"the plan in {STAGED}/ has {self.items} items, and {done} are there: something else wrote too; "
                f"delete {STAGED}/ and start again"
            )
        return number


def unfinished(writer: MemoryWriter) -> Plan | None:
    """Return the plan that a memory still waits for; remove what a finished one has left.

    Raises:
        ArtifactError: the plan is damaged, or the memory was changed by something else.
    """
    plan = Plan.read(writer.path)
    if plan is not None and plan.committed(writer.memory.manifest) < plan.count:
        return plan
    shutil.rmtree(writer.path / STAGED, ignore_errors=True)
    return None


def agree(
    embedder: Embedder, items: Sequence[Item], *, shard_size: int, dtype: str | None
) -> tuple[Plan | None, Pending]:
    """Return the plan for ``items``, made or followed, and what was pending when it was made; None: nothing to do.

    Raises:
        ArtifactError: the memory has an unfinished plan of other items or settings; or as ``MemoryWriter``.
    """
    while True:
        with MemoryWriter(embedder.path, embedder.info, dtype, wait=_WAIT) as writer:
            there = unfinished(writer)
            seen = writer.memory if there is None else there.before(writer.memory)
        pending = embedder.pending(items, seen)  # may read much, so not under the lock
        plan = Plan.of(seen, embedder, pending.items, shard_size)
        if there is not None:
            if plan != there:
                raise ArtifactError(_differs(embedder.path, there, plan))
            return plan, pending
        if not pending.items:
            return None, pending
        with MemoryWriter(embedder.path, embedder.info, dtype, wait=_WAIT) as writer:
            if unfinished(writer) is None and writer.memory.manifest == seen.manifest:
                plan.write(embedder.path)
                return plan, pending


class Stage:
    """The staged shards of a plan."""

    def __init__(self, path: Path, plan: Plan) -> None:
        """Stage shards of ``plan`` in the memory in the folder ``path``."""
        self.path, self.plan = path, plan
        # The name holds the plan, so that a late shard of an older one is never taken for this one's.
        self._key = hashlib.sha256(json.dumps(asdict(plan), sort_keys=True).encode()).hexdigest()[:16]

    def _file(self, number: int) -> Path:
        return self.path / STAGED / f"{self._key}-{number:06d}.zip"

    def staged(self, number: int) -> Packed | None:
        """Return a shard that is staged; None: it is not, or not whole."""
        return Packed.read(self._file(number))

    def committed(self) -> int:
        """Return how many shards are in the memory; all of them once another plan, or none, is there."""
        manifest = Manifest.read(self.path)  # before the plan: what grows after the plan's end must not be counted
        return self.plan.committed(manifest) if Plan.read(self.path) == self.plan else self.plan.count

    def put(self, number: int, embedded: EmbeddedShard) -> None:
        """Stage a shard, whole or not at all."""
        final = self._file(number)
        private = final.with_name(uuid.uuid4().hex)  # two processes may have been given the same part
        with atomic(private) as file:
            embedded.packed(self.plan.dtype).write(file)
        private.replace(final)

    def commit(self) -> int:
        """Commit the shards that are next in order and staged; return how many of the plan are still to come.

        Raises:
            ArtifactError: another run keeps the memory locked, or wrote something else to it.
            OSError: the disk is full; what is staged stays.
        """
        plan, done = self.plan, self.committed()  # without the lock: most have nothing to commit
        if done < plan.count and not self._file(done).exists():
            return plan.count - done
        with MemoryWriter(self.path, plan.encoder, plan.dtype, wait=_WAIT) as writer:
            while unfinished(writer) == plan:
                done = plan.committed(writer.memory.manifest)
                packed = self.staged(done)
                if packed is None:
                    return plan.count - done
                writer.append_packed(plan.modality, packed, views=plan.views)
                self._file(done).unlink(missing_ok=True)  # the folder is gone when the plan was dropped meanwhile
        return 0


def _differs(path: Path, there: Plan, ours: Plan) -> str:
    names = {"shards": "rows", "digest": "items"}
    values = [
        (names.get(f.name, f.name), getattr(there, f.name), getattr(ours, f.name)) for f in dataclasses.fields(Plan)
    ]
    what = next(
        f"{name} {old} there, {new} here" if name != "items" else "other items"
        for name, old, new in values
        if old != new
    )
    return (
        f"{path}: a run of several processes is unfinished there, of other inputs or settings ({what}); "
        f"finish it with its own command, or delete {path / STAGED} to drop what is not committed"
    )
