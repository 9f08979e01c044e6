"""How alike are these? Cosines, and their softmax, between items of any modality of a space or an encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from cmcr.ask.row_names import find_row
from cmcr.ask.subject import Subject
from cmcr.errors import InputError, nearest
from cmcr.items import Inputs, Item, Up, item_from_query, state_up
from cmcr.modality import Modality
from cmcr.numbers import cosine


@dataclass(frozen=True)
class Scores:
    """Every row against every column.

    Attributes:
        rows: The items on the left, as they were named.
        columns: The items on the right.
        cosines: (R, C) float32.
        softmax: (R, C) float64, along each row: softmax(cosine / temperature).
        temperature: Of the softmax.
        notes: What decoders told of some items, by their names.
    """

    rows: Sequence[str]
    columns: Sequence[str]
    cosines: np.ndarray
    softmax: np.ndarray
    temperature: float
    notes: dict[str, str] = field(default_factory=dict)


def score(
    subject: Subject,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    temperature: float = 0.1,
    encoder: str | None = None,
    up: Up | None = None,
) -> Scores:
    """Score every row against every column.

    Args:
        subject: A space or an encoder.
        rows: Texts, files, or rows of memories (``MEMORY#ID``, ``MEMORY:MODALITY#ID``).
        columns: The same.
        temperature: Of the softmax; 0.1 is the 10 times cosine of C-MCR's README.
        encoder: Which encoder of a space embeds an item, where it can; the first that has the modality otherwise.
        up: The axis that points up in point clouds; None: as the encoder expects.

    Raises:
        InputError: nothing to score, a temperature that is not positive, or an item that cannot be embedded.
        ArtifactError: a memory or encoder that is not the subject's.
    """
    if not rows or not columns:
        raise InputError(f"{len(rows)} items and {len(columns)} to score them with; expected at least one of each")
    if not (np.isfinite(temperature) and temperature > 0):
        raise InputError(f"temperature {temperature}; expected a number above 0, e.g. 0.1")
    notes: dict[str, str] = {}
    vectors = _vectors(subject, list(dict.fromkeys([*rows, *columns])), encoder, up, notes)
    cosines = cosine(np.stack([vectors[name] for name in rows]), np.stack([vectors[name] for name in columns]))
    logits = cosines.astype(np.float64) / temperature
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return Scores(rows, columns, cosines, weights / weights.sum(axis=1, keepdims=True), temperature, notes)


def _vectors(
    subject: Subject, names: Sequence[str], encoder: str | None, up: Up | None, notes: dict[str, str]
) -> dict[str, np.ndarray]:
    """Return the vector of each item, and add to ``notes`` what is told of some."""
    if encoder is not None and subject.space is not None and encoder not in subject.space.encoders:
        known = subject.space.encoders
        raise InputError(f"encoder {encoder!r} is not in this space ({', '.join(known)}){nearest(encoder, known)}")
    found: dict[str, np.ndarray] = {}
    items: dict[Modality, list[tuple[str, Item]]] = {}
    for number, name in enumerate(names):
        row = find_row(name)
        if row is not None:
            found[name] = subject.project_row(row)
            continue
        item = item_from_query(name, subject.modalities)
        items.setdefault(item.modality, []).append((name, replace(item, id=str(number))))
    for modality, named in items.items():
        inputs = Inputs(modality, [item for _, item in named])
        turn = up is not None and modality is Modality.POINT_CLOUD
        vectors, told = _embedded(subject, state_up(inputs, up) if turn and up else inputs, encoder)
        found |= {name: vectors[item.id] for name, item in named}
        notes |= {name: told[item.id] for name, item in named if item.id in told}
    return found


def _embedded(subject: Subject, inputs: Inputs, encoder: str | None) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    embedded = subject.embed(inputs, encoder=subject.preferred(inputs.modality, [encoder] if encoder else []))
    if embedded.skips:
        skip = embedded.skips[0]
        source = next(item.text or item.source for item in inputs.items if item.id == skip.id)
        raise InputError(f"{source[:80]!r}: {skip.reason}")
    return {item.id: vector for item, vector in zip(embedded.items, embedded.vectors, strict=True)}, embedded.notes
