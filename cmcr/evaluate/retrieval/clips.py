"""Retrieval over a data set of clips: embed both sides, drop what is double or broken, ask each side for the other.

Several frames of a clip stand for it by their mean: each is projected, the unit vectors are averaged and normalised.
Averaging before the projection would give something else, for projectors are not linear.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cmcr.ask import Embedded, Subject
from cmcr.datasets.clips import Clip, Clips
from cmcr.errors import InputError, ItemError
from cmcr.evaluate.retrieval.pairs import Paired, PairedSide, measured
from cmcr.hooks import Progress, silent
from cmcr.items import Inputs, Item, Up, state_up
from cmcr.modality import Modality, in_order
from cmcr.numbers import retrieval as metrics

Pair = tuple[Modality, Modality]


@dataclass(frozen=True)
class _Part:
    """One modality of the clips: what was embedded, and the row of every item that has a vector."""

    modality: Modality
    embedded: Embedded
    row_of: dict[str, int]
    reasons: dict[str, str]

    def rows(self, clip: Clip) -> list[int]:
        """Return the rows of the clip's items; of several captions those that have one, of frames all."""
        found = [self.row_of[item.id] for item in clip.parts[self.modality] if item.id in self.row_of]
        complete = len(found) == len(clip.parts[self.modality])
        return found if complete or self.modality is Modality.TEXT else []

    def reason(self, clip: Clip) -> str:
        """Return why the clip has no rows."""
        known = (self.reasons[item.id] for item in clip.parts[self.modality] if item.id in self.reasons)
        return f"{self.modality}: {next(known, 'not embedded')}"


def evaluate(
    subject: Subject,
    clips: Clips,
    *,
    folder: Path,
    pair: Pair | None = None,
    encoders: Sequence[str] = (),
    up: Up | None = None,
    progress: Progress = silent,
) -> Paired:
    """Ask each of two modalities of a data set for the other.

    Args:
        subject: The space or encoder.
        clips: The data set.
        folder: Keeps the raw vectors.
        pair: Which two modalities; None: the only two that both sides have.
        encoders: Of a space: who embeds what several of its encoders can.
        up: The axis that points up in point clouds; None: as the encoder expects.
        progress: Told while embedding.

    Raises:
        InputError: the subject does not embed what the data set holds, or no pair is left.
    """
    start = time.perf_counter()
    chosen = pair or _only_pair(subject, clips)
    subject.check_shares((), chosen)
    complete = [clip for clip in clips.usable if all(clip.parts.get(modality) for modality in chosen)]
    kept, doubles = _distinct(complete, chosen)
    parts = [_embed(subject, kept, modality, folder, encoders, up, progress) for modality in chosen]
    used = [clip for clip in kept if all(part.rows(clip) for part in parts)]
    missing = _missing(clips, chosen, kept, parts)
    if not used:
        reasons = "; ".join(f"{n} x {why}" for why, n in Counter(why for _, why in missing).most_common(3))
        raise InputError(f"{clips.name}: no usable pair of {' and '.join(chosen)} among {len(clips.clips)}: {reasons}")
    settings: dict[str, Any] = {"subject": subject.name, "method": subject.method, **clips.settings}
    settings["encoders"] = {part.modality.value: part.embedded.encoder for part in parts}
    settings |= subject.told_shares()
    settings["duplicates"] = "removed"
    if any(len(clip.parts[m]) > 1 for clip in used for m in chosen if m is not Modality.TEXT):
        settings["frames averaged"] = "each projected, averaged, normalised"
    notes = [*clips.notes, *_notes(doubles, used, parts)]
    return measured(
        (_side(parts[0], used), _side(parts[1], used)),
        [clip.id for clip in used],
        settings=settings,
        fingerprints={"subject": subject.fingerprint}
        | {part.modality.value: part.embedded.fingerprint for part in parts},
        notes=notes,
        start=start,
        expected=clips.expected - doubles,
        missing=missing,
        skipped=dict(Counter(why for _, why in missing).most_common()),
    )


def _only_pair(subject: Subject, clips: Clips) -> Pair:
    held = {modality for clip in clips.usable for modality in clip.parts}
    if not held and clips.clips:
        reasons = "; ".join(f"{count} x {reason}" for reason, count in list(clips.reasons().items())[:3])
        raise InputError(f"{clips.name}: none of {len(clips.clips)} clips is usable: {reasons}")
    both = [modality for modality in in_order(held) if modality in subject.modalities]
    if len(both) != 2:
        raise InputError(
            f"{subject.name} embeds {', '.join(subject.modalities)}, and the data holds "
            f"{', '.join(in_order(held))}; "
            + ("expected two in common" if len(both) < 2 else "choose two with --modalities, e.g. image,audio")
        )
    return both[0], both[1]


def _distinct(clips: Sequence[Clip], pair: Pair) -> tuple[list[Clip], int]:
    """Drop clips both of whose sides repeat an earlier clip's content: no answer could tell them apart.

    Files are only read where another clip has files of the same sizes.
    """
    sizes = [tuple(_size(item) for modality in pair for item in clip.parts[modality]) for clip in clips]
    crowded = Counter(sizes)
    seen: set[str] = set()
    kept = []
    for clip, size in zip(clips, sizes, strict=True):
        content = _digest(clip, pair) if crowded[size] > 1 else None
        if content is None or content not in seen:
            kept.append(clip)
        if content is not None:
            seen.add(content)
    return kept, len(clips) - len(kept)


def _size(item: Item) -> int:
    try:
        return len(item.text or "") if item.path is None else item.path.stat().st_size
    except (OSError, ValueError):  # a name that no file can have
        return -1


def _digest(clip: Clip, pair: Pair) -> str | None:
    try:
        parts = [hashlib.sha256(item.read()).hexdigest() for modality in pair for item in clip.parts[modality]]
    except ItemError:  # it is listed with its reason when it is embedded
        return None
    return " ".join(parts)


def _embed(
    subject: Subject,
    clips: Sequence[Clip],
    modality: Modality,
    folder: Path,
    encoders: Sequence[str],
    up: Up | None,
    progress: Progress,
) -> _Part:
    items = {item.id: item for clip in clips for item in clip.parts[modality]}
    inputs = Inputs(modality, list(items.values()))
    if up is not None and modality is Modality.POINT_CLOUD:
        inputs = state_up(inputs, up)
    embedded = subject.embed(inputs, folder, encoder=_encoder(subject, modality, encoders), progress=progress)
    row_of = {item.id: row for row, item in enumerate(embedded.items)}
    return _Part(modality, embedded, row_of, {skip.id: skip.reason for skip in embedded.skips})


def _encoder(subject: Subject, modality: Modality, wanted: Sequence[str]) -> str | None:
    """Return the first of the wanted encoders that embeds the modality; None: the space's first."""
    if subject.space is None:
        return None
    known = subject.space.encoders
    for name in wanted:
        if name not in known:
            raise InputError(f"--encoder {name}: not in {subject.name}; it has {', '.join(known)}")
    return subject.preferred(modality, wanted)


def _missing(clips: Clips, pair: Pair, kept: Sequence[Clip], parts: Sequence[_Part]) -> list[tuple[str, str]]:
    lost = {clip.id: part.reason(clip) for part in reversed(parts) for clip in kept if not part.rows(clip)}
    missing = []
    for clip in clips.clips:
        lacking = next((modality for modality in pair if not clip.parts.get(modality)), None)
        reason = clip.problem or (f"no {lacking} in its record" if lacking else lost.get(clip.id))
        if reason:
            missing.append((clip.id, reason))
    return missing


def _notes(doubles: int, used: Sequence[Clip], parts: Sequence[_Part]) -> list[str]:
    notes = [f"pairs that repeat the content of another on both sides were left out: {doubles}"] if doubles else []
    for part in parts:
        lost = sum(len(clip.parts[part.modality]) - len(part.rows(clip)) for clip in used)
        notes += (
            [f"captions that could not be embedded, of items that have others, were left out: {lost}"] if lost else []
        )
    return notes


def _side(part: _Part, clips: Sequence[Clip]) -> PairedSide:
    rows = [part.rows(clip) for clip in clips]
    vectors, items = part.embedded.vectors, part.embedded.items
    if part.modality is Modality.TEXT:
        owners = np.repeat(np.arange(len(clips)), [len(each) for each in rows])
        taken = [row for each in rows for row in each]
        return PairedSide(part.modality.value, part.modality, owners, vectors[taken], [items[row] for row in taken])
    means = _normalised(np.stack([vectors[each].mean(axis=0, dtype=np.float64) for each in rows]))
    middles = [items[each[len(each) // 2]] for each in rows]
    return PairedSide(part.modality.value, part.modality, np.arange(len(clips)), means, middles)


def _normalised(vectors: np.ndarray) -> metrics.Array:
    norms = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return np.asarray(vectors / norms, np.float32)
