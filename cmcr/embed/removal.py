"""Take rows out of a memory by their ids, and give back the room they took."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cmcr.embed.staging import STAGED, unfinished
from cmcr.errors import ArtifactError
from cmcr.items import ById
from cmcr.memory import Memory, MemoryWriter
from cmcr.modality import Modality


@dataclass(frozen=True)
class Removal:
    """What was taken out of a memory.

    >>> from cmcr.embed import Removal
    >>> Removal({"text": 1}, {"text": 41}, unknown=("dgo",)).left["text"]
    41

    Attributes:
        removed: How many rows, by modality.
        left: How many rows there are now, by modality.
        unknown: The ids that no row has, in the order given.
    """

    removed: Mapping[Modality, int]
    left: Mapping[Modality, int]
    unknown: tuple[str, ...]


@dataclass(frozen=True)
class Compaction:
    """What compacting a memory came to.

    >>> from cmcr.embed import Compaction
    >>> done = Compaction({"text": 1}, before=2000, after=1800)
    >>> done.before - done.after
    200

    Attributes:
        dropped: How many removed rows are on disk no more, by modality.
        before: Bytes of vectors and metadata before it.
        after: And after it.
    """

    dropped: Mapping[Modality, int]
    before: int
    after: int


def remove_rows(path: str | Path, ids: Iterable[str], modality: Modality | str | None = None) -> Removal:
    """Remove the rows of ids; every reader of the memory that opens it from now on does not see them.

    Nothing is rewritten but a small list (``removed/``) and the manifest that names it, so a process that dies on the
    way leaves the memory as it was. The vectors stay on disk until ``compact``. To embed a removed id again brings
    it back.

    >>> from cmcr import Memory, Modality, embed_items, load_encoder
    >>> from cmcr.embed import remove_rows
    >>> from cmcr.items import text_item, unique_items
    >>> inputs = unique_items(Modality.TEXT, [text_item(f"{n} drums", "1", str(n)) for n in range(3)])
    >>> report = embed_items(load_encoder("tiny-clip"), inputs, "mem/drums")
    >>> removal = remove_rows("mem/drums", ["1", "7"])
    >>> dict(removal.removed), removal.unknown, Memory.open("mem/drums").ids(Modality.TEXT)
    ({'text': 1}, ('7',), ['0', '2'])

    Args:
        path: The memory's folder.
        ids: Of the rows; one that is not there as it stands is found in another Unicode form, or without blanks.
        modality: Which rows; None: of every modality that has the id.

    Raises:
        InputError: an id may be either of two rows.
        ArtifactError: no memory, one that lacks the modality, is in use, or waits for other processes.
    """
    wanted = list(dict.fromkeys(ids))
    with _alone(Path(path)) as writer:
        memory = writer.memory
        kinds = memory.modalities if modality is None else (Modality(modality),)
        rows = {kind: _by_id(memory, kind) for kind in kinds}
        found = {kind: {int(names[each]) for each in wanted if each in names} for kind, names in rows.items()}
        unknown = tuple(each for each in wanted if not any(each in names for names in rows.values()))
        removed = {kind: numbers for kind, numbers in found.items() if numbers}
        writer.remove(removed)
        left = {kind: writer.memory.rows(kind) for kind in memory.modalities}
    return Removal({kind: len(numbers) for kind, numbers in removed.items()}, left, unknown)


def compact(path: str | Path) -> Compaction:
    """Rewrite the shards that hold removed rows without them; see ``MemoryWriter.compact``.

    A process that dies on the way leaves the memory as it was, or compacted; what lies around is removed by the next
    that writes to it.

    Raises:
        ArtifactError: no memory, damaged, in use, or waiting for other processes.
        OSError: the disk is full; the memory is as it was before.
    """
    with _alone(Path(path)) as writer:
        dropped = {kind: removed.rows for kind, removed in writer.memory.manifest.removed.items()}
        before = _bytes(writer.memory)
        writer.compact()
        return Compaction(dropped, before, _bytes(writer.memory))


@contextmanager
def _alone(path: Path) -> Iterator[MemoryWriter]:
    """Open a memory for writing that no plan of several processes waits for: its shards are counted."""
    with MemoryWriter(path, Memory.open(path).encoder) as writer:
        if unfinished(writer) is not None:
            raise ArtifactError(
                f"{path}: a run of several processes is unfinished there; finish it with its own command, or delete "
                f"{path / STAGED} to drop what is not committed"
            )
        yield writer


def _by_id(memory: Memory, modality: Modality) -> Mapping[str, str]:
    numbers = {row.id: str(number) for number, row in memory.numbered(modality)}
    return ById(numbers, f"{memory.path}: {modality}")


def _bytes(memory: Memory) -> int:
    shards = [shard for some in memory.manifest.shards.values() for shard in some]
    return sum((memory.path / name).stat().st_size for shard in shards for name in (shard.vectors, shard.metadata))
