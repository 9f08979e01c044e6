"""Ask a connected space: a text, a file or a row of a memory in, the nearest rows of a memory out."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cmcr.encoders import load_encoder
from cmcr.encoders.base import Encoder
from cmcr.errors import ArtifactError, InputError, ItemError, nearest
from cmcr.index import Blocks, ExactIndex, Index, IndexInfo, build_index, index_path, load_index, save_index
from cmcr.inputs import Item, item_from_query, read_items
from cmcr.manifest import MANIFEST
from cmcr.memory import Memory, Row
from cmcr.modality import Modality
from cmcr.space import ConnectedSpace, SpaceEncoder

BATCH = 64
_FEW = 32


@dataclass(frozen=True, slots=True)
class Query:
    """A question, embedded and projected.

    Attributes:
        name: As the user knows it: the text, the path, or ``memory#id``.
        modality: What it is.
        encoder: Whose vector was projected.
        vector: (dim,) float32 unit vector of the space.
        source: The item, or the row of ``memory``, it was made from.
        memory: The memory of a row; None for an item.
    """

    name: str
    modality: Modality
    encoder: str
    vector: np.ndarray
    source: Item | Row
    memory: Memory | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """A row of the gallery that was found.

    Attributes:
        rank: From 1.
        id: The row's id.
        score: Cosine with the query in the connected space.
        source: Where the row came from, as the memory tells it.
        text: The text itself, where the row is one or came with one.
        path: The file, as seen from the working directory; None when there is none any more.
    """

    rank: int
    id: str
    score: float
    source: str
    text: str | None
    path: str | None = None


def ask(
    space: ConnectedSpace,
    query: str,
    *,
    modality: Modality | None = None,
    encoder: str | None = None,
    device: str = "cpu",
) -> Query:
    """Embed one query.

    Args:
        space: The space to ask.
        query: A text, a file of a modality of the space, or ``MEMORY#ID``: a row of a memory.
        modality: The query's modality, where it cannot be seen.
        encoder: Which encoder of the space embeds it; the first one that has its modality when left out.
        device: Where the encoder runs.

    Raises:
        InputError: the query is empty, unreadable, or of a modality the space lacks; or nothing here can embed it.
        ArtifactError: the encoder or the memory is not the one the space was made with.
    """
    row = _split_row(query)
    if row is not None:
        return _row_query(space, *row, modality)
    item = item_from_query(query, [modality] if modality else space.modalities)
    found, failed = _embed(space, [item], encoder, device)
    if failed:
        raise InputError(f"query {query[:80]!r}: {failed[0][1]}")
    return found[0]


def ask_many(
    space: ConnectedSpace,
    source: str,
    *,
    modality: Modality | None = None,
    encoder: str | None = None,
    device: str = "cpu",
) -> tuple[list[Query], list[tuple[Item, str]]]:
    """Embed a folder, text file (one query a line), manifest or tar of queries.

    Returns:
        The queries, and the items that cannot be embedded with the reason of each.

    Raises:
        InputError: as ``ask``; or no query can be used.
    """
    found, failed = _embed(space, read_items(source, modality, space.modalities).items, encoder, device)
    if not found:
        first = f": {failed[0][0].source}: {failed[0][1]}" if failed else ""
        raise InputError(f"{source}: none of {len(failed)} queries can be used{first}")
    return found, failed


def _embed(
    space: ConnectedSpace, items: Sequence[Item], name: str | None, device: str
) -> tuple[list[Query], list[tuple[Item, str]]]:
    if not items:
        return [], []
    modality = items[0].modality
    encoder = _load(space, space.encoder_for(modality, name), modality, device)
    found: list[Query] = []
    failed: list[tuple[Item, str]] = []
    for batch in itertools.batched(items, BATCH) if hasattr(itertools, "batched") else _batched(items):
        good: list[Item] = []
        prepared: list[Any] = []
        for item in batch:
            try:
                prepared.append(encoder.prepare(item, item.read()))
                good.append(item)
            except ItemError as error:
                failed.append((item, str(error)))
        if good:
            vectors = space.project(encoder.encode(modality, prepared), encoder=encoder.name, modality=modality)
            named = zip(good, vectors, strict=True)
            found += [Query(item.text or item.source, modality, encoder.name, vector, item) for item, vector in named]
    return found, failed


def _load(space: ConnectedSpace, entry: SpaceEncoder, modality: Modality, device: str) -> Encoder:
    try:
        encoder = load_encoder(entry.name, device)
    except InputError as error:
        others = [e.name for e in space.encoders.values() if modality in e.modalities and e.name != entry.name]
        cure = f"--encoder {others[0]}, or a row of a memory, MEMORY#ID" if others else "a row of a memory, MEMORY#ID"
        raise InputError(
            f"{entry.name} embeds {modality} in this space but is not an encoder that runs here "
            f"(its vectors were imported); ask with {cure}"
        ) from error
    if encoder.fingerprint != entry.fingerprint:
        raise ArtifactError(
            f"encoder {entry.name} is {encoder.fingerprint[:12]} here, and the space was made with "
            f"{entry.fingerprint[:12]}; install that version, or embed and connect anew"
        )
    return encoder
