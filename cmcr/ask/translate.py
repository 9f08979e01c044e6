"""Move a memory to another encoder: its vectors mapped into that encoder's own space, as a space connects the two."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from cmcr.errors import ArtifactError, InputError
from cmcr.files import is_file
from cmcr.hooks import Progress, silent
from cmcr.memory import EncoderInfo, Memory, MemoryWriter, Row, Translated, relative_to_memory
from cmcr.modality import Modality
from cmcr.space import ConnectedSpace, Link

SHARD_SIZE = 10_000


@dataclass
class TranslateReport:
    """What a translation did.

    Attributes:
        modality: Of the rows.
        record: How their vectors came about, as the manifest keeps it.
        translated: Rows written by this run.
        already: Rows that were there.
        changed: Of these, rows whose item has other content in the old memory now; they stay as they were.
    """

    modality: Modality
    record: Translated
    translated: int = 0
    already: int = 0
    changed: int = 0


def translate(
    memory: Memory,
    space: ConnectedSpace,
    out: str | Path,
    modality: Modality | str | None = None,
    *,
    shard_size: int = SHARD_SIZE,
    progress: Progress = silent,
) -> TranslateReport:
    """Write the rows of an old encoder's memory as vectors in the own space of the encoder that the space keeps.

    The new memory bears the name and fingerprint of that encoder, so that its queries find the rows; its manifest says
    that they were translated. It holds translated rows only. Rows that are there stay: a run that was stopped goes on,
    and one on a memory that grew adds what is new.

    Args:
        memory: Of the old encoder.
        space: Keeps the new encoder as its base, and was fitted on rows that both encoders embedded.
        out: The new memory's folder; made when missing.
        modality: Of the rows that both embedded, which is what the map was fitted on; None: that one.
        shard_size: Rows a shard.
        progress: Told after every block.

    Raises:
        InputError: the space moves every encoder, is not known to connect the two by one modality, or was fitted on
            another modality; or the memory is the base's own.
        ArtifactError: the memory is damaged or of an encoder that the space does not connect; or ``out`` holds
            embedded vectors, or some that were translated otherwise.

    >>> import numpy as np
    >>> from cmcr import ConnectConfig, Memory, connect_memories, translate_memory
    >>> from cmcr.memory import ArrayMemory
    >>> images = np.random.default_rng(0).normal(size=(600, 8))
    >>> old = ArrayMemory("old", {"image": images})
    >>> new = ArrayMemory("new", {"image": images[:300, ::-1]})  # the same items, of which the new encoder saw half
    >>> made = connect_memories(new, old, out="s", config=ConnectConfig("linear"), freeze_base=True)
    >>> translate_memory(old, made.space, "moved").translated
    600
    >>> moved = Memory.open("moved")
    >>> moved.encoder.name, bool(np.sum(moved.vectors("image")[-1] * images[-1, ::-1]) > 0)
    ('new', True)
    """
    base, entry = _new_encoder(space), memory.encoder
    if entry.name == base.name:
        raise InputError(f"{memory.path} holds vectors of {base.name}, in whose own space they are; give an older one")
    via = _link(space, base.name, entry.name).via
    modality = Modality(modality or via)
    if modality != via:
        raise InputError(
            f"the space was fitted on {via} rows of {base.name} and {entry.name}, and {modality} lies elsewhere; "
            f"embed some {modality} with both and connect with --via {modality}"
        )
    space.check_memory(memory, modality)
    memory.check_content(modality)
    report = TranslateReport(modality, _record(space, memory))
    with MemoryWriter(out, base, memory.dtype, translates=True) as writer:
        held = _held(writer, modality, report.record)
        parts = _parts(memory, space, writer.path, report, held, shard_size)
        for done, (vectors, rows) in parts:
            writer.append(modality, vectors, rows)
            report.translated += len(rows)
            progress(done, memory.rows(modality), f"{report.already} were there")
    return report


def _new_encoder(space: ConnectedSpace) -> EncoderInfo:
    if space.base is None:
        raise InputError(
            "this space moves the vectors of every encoder; connect the new encoder's memory first, with --freeze-base"
        )
    own = space.encoders[space.base]
    if not own.fingerprint:
        raise InputError(f"this space does not know which {own.name} it keeps; connect memories instead")
    return EncoderInfo(own.name, own.fingerprint, own.dim)


def _link(space: ConnectedSpace, base: str, old: str) -> Link:
    found = next((link for link in space.links if (link.a, link.b) == (base, old)), None)
    if found is None:
        known = ", ".join(each for each in space.encoders if each != base)
        raise InputError(
            f"this space maps {known} into {base}, not {old}; connect a memory of {base} with one of {old}"
        )
    if found.via_b:
        raise InputError(
            f"this space pairs {found.via} of {base} with {found.via_b} of {old}; expected rows that both embedded"
        )
    return found


def _record(space: ConnectedSpace, memory: Memory) -> Translated:
    """Return what the manifest says of the rows; of the measures that the space has, those of its own link."""
    several = len(space.links) > 1
    measured = {} if several else space.metrics
    rows, recall, held = (measured.get(name) for name in ("overlap_rows", "overlap_r1", "held_out"))
    return Translated(
        memory.encoder.name,
        memory.encoder.fingerprint,
        space.fingerprint,
        space.method,
        rows if isinstance(rows, int) else 0,
        float(recall) if isinstance(recall, int | float) else None,
        held if isinstance(held, int) else 0,
    )


def _held(writer: MemoryWriter, modality: Modality, record: Translated) -> dict[str, str | None]:
    """Record the translation, and return the content of each row that an earlier run of it has written, by id."""
    manifest = writer.memory.manifest
    known = manifest.translated.get(modality)
    if manifest.shards.keys() - manifest.translated.keys():
        raise ArtifactError(
            f"{writer.path}: holds vectors that {manifest.encoder.name} embedded, which translated ones must not join; "
            "choose another folder"
        )
    if known not in (None, record):
        raise ArtifactError(
            f"{writer.path}: its {modality} was translated {known}, by another space; choose another folder"
        )
    writer.record(modality, record)
    return {row.id: row.hash for row in writer.memory.metadata(modality)} if modality in manifest.shards else {}


def _parts(
    memory: Memory,
    space: ConnectedSpace,
    folder: Path,
    report: TranslateReport,
    held: dict[str, str | None],
    shard_size: int,
) -> Iterator[tuple[int, tuple[np.ndarray, list[Row]]]]:
    """Yield how many rows were looked at, and the vectors and lines of a new shard; one shard is in RAM at a time."""
    vectors: list[np.ndarray] = []
    rows: list[Row] = []
    done, known = 0, memory.metadata(report.modality)
    for block in memory.blocks(report.modality, min(8192, shard_size)):
        lines = list(islice(known, len(block)))
        done += len(lines)
        new = [number for number, row in enumerate(lines) if row.id not in held]
        report.already += len(lines) - len(new)
        report.changed += sum(held.get(row.id) not in (None, row.hash) for row in lines)
        if new:
            vectors.append(space.project(block[new], encoder=memory.encoder.name, modality=report.modality))
            rows += [_moved(lines[number], memory.path, folder) for number in new]
        while len(rows) >= shard_size:
            whole = np.concatenate(vectors)
            yield done, (whole[:shard_size], rows[:shard_size])
            vectors, rows = [whole[shard_size:]], rows[shard_size:]
    if rows:
        yield done, (np.concatenate(vectors), rows)


def _moved(row: Row, old: Path, new: Path) -> Row:
    """Return a row whose file is named as seen from another memory; what is no file's name stays."""
    file, bar, member = row.source.partition("!")
    if not file or os.path.isabs(file) or not is_file(old / file):  # noqa: PTH117
        return row
    return replace(row, source=relative_to_memory(old / file, new) + bar + member)
