"""Pairs within a source space: rows of two modalities of one encoder that show one thing, joined by id."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cmcr.ask import Subject
from cmcr.errors import InputError
from cmcr.hooks import Progress, silent
from cmcr.items import TABLES, Inputs, join_ids, read_items, read_table, what_differs
from cmcr.memory import Memory
from cmcr.modality import Modality
from cmcr.space import ConnectedSpace

Both = tuple[np.ndarray, np.ndarray]
"""(N, D) vectors of the two modalities of a pair; row i of the one belongs to row i of the other."""


@dataclass(frozen=True)
class SourcePair:
    """The rows of two modalities of one encoder that belong together.

    Attributes:
        encoder: Its name in the space.
        modalities: The two.
        ids: (N,) ids that both hold.
        raw: (N, D) unit vectors of each modality.
        fingerprints: Of what holds the vectors.
        notes: Rows without a partner.
        expected: Pairs that were asked for; None where memories say what there is.
        skipped: Reasons why some are missing, with counts.
    """

    encoder: str
    modalities: tuple[Modality, Modality]
    ids: list[str]
    raw: Both
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    expected: int | None = None
    skipped: Mapping[str, int] = field(default_factory=dict)


def space_of(subject: Subject) -> ConnectedSpace:
    """Return the space of a subject.

    Raises:
        InputError: it is a bare encoder.
    """
    if subject.space is None:
        raise InputError(f"{subject.name} is an encoder; retention is measured of a connected space: name its folder")
    return subject.space


def pair_of_memories(subject: Subject, first: tuple[Memory, Modality], second: tuple[Memory, Modality]) -> SourcePair:
    """Join the rows of two modalities of one of the space's encoders by id.

    Raises:
        InputError: two encoders, one modality, no common id, or a memory that lacks its modality.
        ArtifactError: a memory belongs to another encoder than the space.
    """
    (memory_a, a), (memory_b, b) = first, second
    names = [space_of(subject).check_memory(memory, modality).name for memory, modality in (first, second)]
    sides = f"{memory_a.path}:{a} of {names[0]} and {memory_b.path}:{b} of {names[1]}"
    if names[0] != names[1] or a is b:
        raise InputError(
            f"{sides}: expected two modalities of one encoder; retrieval across encoders is cmcr eval retrieval"
        )
    ids_a, ids_b = memory_a.ids(a), memory_b.ids(b)
    rows_a, rows_b = join_ids(ids_a, ids_b, (str(memory_a.path), str(memory_b.path)))
    ids = [ids_a[row] for row in rows_a]
    if not ids:
        raise InputError(
            f"{sides}: no id is in both ({ids_a[0]!r}, ... and {ids_b[0]!r}, ...); pairs are joined by id"
            f"{what_differs(ids_a, ids_b)}"
        )
    notes = tuple(
        f"{held - len(ids)} of {held} {modality} rows of {memory.path} have no partner and were left out"
        for held, (memory, modality) in ((len(ids_a), first), (len(ids_b), second))
        if held > len(ids)
    )
    raw = memory_a.vectors(a, rows_a), memory_b.vectors(b, rows_b)
    fingerprints = {f"{names[0]} {m}": memory.fingerprint(m) for memory, m in (first, second)}
    return SourcePair(names[0], (a, b), ids, raw, fingerprints, notes)


def pairs_of_manifest(subject: Subject, manifest: Path, folder: Path, progress: Progress = silent) -> list[SourcePair]:
    """Embed a paired manifest: every two modalities of an encoder of the space that its records hold, joined by id.

    Args:
        subject: The space; its encoders must run here.
        manifest: JSONL, CSV or TSV with ``id`` and a column a modality, see ``cmcr.items.read.read_items``.
        folder: Keeps the raw vectors.
        progress: Told after every batch.

    Raises:
        InputError: no encoder has two of its modalities in the manifest, or nothing of a pair can be embedded.
    """
    if manifest.suffix.lower() not in TABLES or not manifest.is_file():
        raise InputError(f"{manifest}: expected a manifest that exists: {', '.join(sorted(TABLES))}")
    list(read_table(manifest))  # says what makes it unreadable
    found = []
    for entry in space_of(subject).encoders.values():
        listed = _listed(manifest, entry.modalities)
        for number, a in enumerate(listed):
            found += [
                _embedded_pair(subject, entry.name, (listed[a], listed[b]), folder, progress)
                for b in list(listed)[number + 1 :]
            ]
    if not found:
        wanted = "; ".join(f"{e.name}: {', '.join(e.modalities)}" for e in space_of(subject).encoders.values())
        raise InputError(f"{manifest}: no encoder finds two of its modalities in it; looked for columns of {wanted}")
    return found


def _listed(manifest: Path, modalities: Sequence[Modality]) -> dict[Modality, Inputs]:
    """Return what a manifest lists of each modality that it has a column of."""
    found = {}
    for modality in modalities:
        try:
            inputs = read_items(str(manifest), modality, modalities)
        except InputError:  # no such column; that no pair is left is said by the caller
            continue
        usable = (not item.problem and (item.text or item.suffix in modality.suffixes) for item in inputs.items)
        if any(usable):
            found[modality] = inputs
    return found


def _embedded_pair(
    subject: Subject, encoder: str, listed: tuple[Inputs, Inputs], folder: Path, progress: Progress
) -> SourcePair:
    first, second = (subject.embed(inputs, folder, encoder=encoder, progress=progress) for inputs in listed)
    a, b = (inputs.modality for inputs in listed)
    row_of = {item.id: row for row, item in enumerate(second.items)}
    rows = [row for row, item in enumerate(first.items) if item.id in row_of]
    ids = [first.items[row].id for row in rows]
    skipped = Counter(f"{skip.modality}: {skip.reason}" for side in (first, second) for skip in side.skips)
    if not ids:
        reasons = "; ".join(f"{count} x {reason}" for reason, count in skipped.most_common(3))
        raise InputError(
            f"{encoder}: no record gives both {a} and {b} ({reasons or 'no id is in both'}); "
            "expected an id, and both modalities, in each record"
        )
    raw = first.raw[rows], second.raw[[row_of[name] for name in ids]]
    fingerprints = {f"{encoder} {m}": side.fingerprint for m, side in ((a, first), (b, second))}
    expected = max(len(inputs.items) for inputs in listed)
    return SourcePair(encoder, (a, b), ids, raw, fingerprints, (), expected, skipped)
