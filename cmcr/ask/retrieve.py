"""Ask a connected space: a text, a file or a row of a memory in, the nearest rows of a memory out."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cmcr.ask.debias import Debias
from cmcr.ask.filters import Filtered
from cmcr.ask.gallery import Merged, Several
from cmcr.ask.grow import grown_index
from cmcr.ask.row_names import find_row
from cmcr.ask.subject import Subject
from cmcr.errors import InputError
from cmcr.files import locked, refuse_linked_folders, remove_left_behind
from cmcr.items import Inputs, Item, Up, item_from_query, read_items, state_up
from cmcr.memory import Memory
from cmcr.memory.memory import Row
from cmcr.modality import Modality
from cmcr.search import Blocks, ExactIndex, Index, IndexInfo, build_index, index_path, load_index, save_index
from cmcr.search.faiss import FaissIndex
from cmcr.space import ConnectedSpace

CHECKED_BYTES = 64 << 20
"""A gallery up to this size is compared with its sha256 before it is searched: less than a tenth of a query's time."""


@dataclass(frozen=True, slots=True)
class Query:
    """A question, embedded and projected.

    >>> from cmcr.ask import Subject, ask
    >>> query = ask(Subject.open("tiny-clip"), "two red drums")
    >>> query.modality, query.encoder, query.vector.shape
    ('text', 'tiny-clip', (64,))

    Attributes:
        name: As the user knows it: the text, the path, or ``memory#id``.
        modality: What it is.
        encoder: Whose vector was projected.
        vector: (dim,) float32 unit vector of the space.
        source: The item, or the row of ``memory``, it was made from.
        memory: The memory of a row; None for an item.
        note: What its decoder told of an item, or the row has of its own; None: nothing.
    """

    name: str
    modality: Modality
    encoder: str
    vector: np.ndarray
    source: Item | Row
    memory: Memory | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """A row of the gallery that was found.

    >>> import numpy as np
    >>> import cmcr
    >>> texts = np.random.default_rng(0).normal(size=(200, 8))
    >>> a, b = {"text": texts, "image": texts[:60]}, {"text": texts[:, ::-1], "audio": texts[:60, ::-1]}
    >>> space = cmcr.connect_arrays(a=a, b=b, via="text", method="linear")
    >>> sound = space.project(b["audio"][4:5], encoder="b", modality="audio")
    >>> cmcr.retrieve_rows(space, sound, cmcr.ArrayMemory("a", a), cmcr.Modality.IMAGE, k=1)[0][0].id
    '4'

    Attributes:
        rank: From 1.
        id: The row's id.
        score: Cosine with the query in the connected space; of a debiased index less the row's bias.
        source: Where the row came from, as the memory tells it.
        text: The text itself, where the row is one or came with one.
        path: The file, as seen from the working directory; None when there is none any more.
        memory: The memory that holds the row, where several were searched row by row (``Merged``).
    """

    rank: int
    id: str
    score: float
    source: str
    text: str | None
    path: str | None = None
    memory: str | None = None


def ask(
    space: ConnectedSpace | Subject,
    query: str,
    *,
    modality: Modality | None = None,
    encoder: str | Sequence[str] | None = None,
    device: str = "cpu",
    weights: Sequence[Path] = (),
    up: Up | None = None,
) -> Query:
    """Embed one query.

    Args:
        space: The space to ask; a ``Subject`` of it keeps its encoders loaded from one query to the next.
        query: A text, a file of a modality of the space, or ``MEMORY#ID``: a row of a memory.
        modality: The query's modality, where it cannot be seen.
        encoder: Which encoder of the space embeds it, or which ones, whose views are mixed; the first one that has its
            modality when left out.
        device: Where the encoder runs; a ``Subject`` knows it.
        weights: Files and folders where the encoder's weights are looked for first; a ``Subject`` knows them.
        up: The axis that points up in a point cloud; None: as the encoder expects.

    Raises:
        InputError: the query is empty, unreadable, or of a modality the space lacks; or nothing here can embed it.
        ArtifactError: the encoder or the memory is not the one the space was made with.
    """
    subject = _subject(space, device, weights)
    row = find_row(query, modality)
    if row is not None:
        vector, by = subject.project_row(row), row.memory.encoder.name
        name = f"{row.memory.path}#{row.row.id}"
        return Query(name, row.modality, by, vector, row.row, row.memory, row.row.note)
    item = item_from_query(query, [modality] if modality else subject.modalities)
    inputs = Inputs(item.modality, [item])
    found, failed = _queries(subject, inputs if up is None else state_up(inputs, up), encoder)
    if failed:
        raise InputError(f"query {query[:80]!r}: {failed[0][1]}")
    return found[0]


def ask_many(
    space: ConnectedSpace | Subject,
    source: str,
    *,
    modality: Modality | None = None,
    encoder: str | Sequence[str] | None = None,
    device: str = "cpu",
    weights: Sequence[Path] = (),
    up: Up | None = None,
) -> tuple[list[Query], list[tuple[Item, str]]]:
    """Embed a folder, text file (one query a line), manifest or tar of queries.

    Returns:
        The queries, and the items that cannot be embedded with the reason of each.

    Raises:
        InputError: as ``ask``; or no query can be used.
    """
    subject = _subject(space, device, weights)
    found, failed = _queries(subject, read_items(source, modality, subject.modalities, up=up), encoder)
    if not found:
        first = f": {failed[0][0].source}: {failed[0][1]}" if failed else ""
        raise InputError(f"{source}: none of {len(failed)} queries can be used{first}")
    return found, failed


def _subject(space: ConnectedSpace | Subject, device: str, weights: Sequence[Path]) -> Subject:
    return space if isinstance(space, Subject) else Subject("the space", space, device=device, weights=weights)


def _queries(
    subject: Subject, inputs: Inputs, encoder: str | Sequence[str] | None
) -> tuple[list[Query], list[tuple[Item, str]]]:
    if not inputs.items:
        return [], []
    made = subject.embed(inputs, encoder=encoder)
    reasons = {skip.id: skip.reason for skip in made.skips}
    found = [
        Query(item.text or item.source, inputs.modality, made.encoder, vector, item, note=made.notes.get(item.id))
        for item, vector in zip(made.items, made.vectors, strict=True)
    ]
    return found, [(item, reasons[item.id]) for item in inputs.items if item.id in reasons]


def _gallery(space: ConnectedSpace, memory: Memory, modality: Modality) -> Blocks:
    return memory.projected if isinstance(memory, Several) else lambda: space.project_blocks(memory, modality=modality)


def make_index(
    space: ConnectedSpace,
    memory: Memory,
    modality: Modality,
    kind: str,
    seed: int = 0,
    debias: Debias | None = None,
    *,
    anew: bool = False,
) -> tuple[Path, IndexInfo]:
    """Build an index of a memory's modality, as it lies in the space, and keep it beside the memory.

    There is one of each kind: with ``debias`` it takes the place of the one without, and the other way round. One that
    the memory has outgrown is extended by the new rows, unless ``anew``. Removed rows are in it too, and not found.

    Raises:
        ArtifactError: a memory does not belong to the space, another run makes an index of it, or a link is in the
            way.
        InputError: an unknown kind, or a memory lacks the modality.
    """
    space.check_memory(memory, modality)
    refuse_linked_folders(memory.path)
    path, every = index_path(memory.path, space.fingerprint, modality, kind), memory.with_removed()
    with locked(path.parent):  # a second maker must not come between the file and what stands beside it
        remove_left_behind(path.parent)
        grown = None if anew else grown_index(space, every, modality, path, seed, debias)
        if grown is not None and grown[0].rows == grown[1].rows:
            return path, grown[1]
        built = grown[0] if grown else _built(space, every, modality, kind, seed, debias)
        fingerprints = {"memory": every.fingerprint(modality), "space": space.fingerprint}
        return path, save_index(built, path, modality=modality, **fingerprints)


def _built(
    space: ConnectedSpace, memory: Memory, modality: Modality, kind: str, seed: int, debias: Debias | None
) -> FaissIndex:
    gallery, bias = _gallery(space, memory, modality), None
    if debias is not None:
        gallery, bias = debias.extend(space, gallery)
    return build_index(kind, gallery, seed, bias=bias)


def open_index(
    space: ConnectedSpace, memory: Memory, modality: Modality, kind: str = "exact", space_name: str = "SPACE"
) -> Index:
    """Return the index ``kind`` of a gallery: ``exact``, or one that ``make_index`` has made.

    Raises:
        ArtifactError: the memory does not belong to the space, or its index is missing, damaged or stale.
        InputError: the memory lacks the modality; or an index of several memories, which are searched exactly.
    """
    if isinstance(memory, Several):
        if kind != "exact":
            raise InputError(f"--index {kind} is of one memory, and the gallery is {memory.path}; leave it out")
    else:
        space.check_memory(memory, modality)
    if kind == "exact" or isinstance(memory, Filtered):  # an index knows all rows; the few that are left are compared
        return ExactIndex(_gallery(space, memory, modality), unit=True)
    path = index_path(memory.path, space.fingerprint, modality, kind)
    made = ["cmcr", "index", str(memory.path), "--space", space_name, "--modality", modality.value, "--kind", kind]
    of = {"memory": memory.with_removed().fingerprint(modality), "space": space.fingerprint}
    return load_index(path, **of, cure=shlex.join(made), gone=memory.removed_rows(modality))


def retrieve(
    space: ConnectedSpace,
    queries: Sequence[Query] | np.ndarray,
    memory: Memory,
    modality: Modality,
    k: int = 10,
    index: Index | None = None,
) -> list[list[Hit]]:
    """Return the ``k`` rows of a memory's modality nearest to each query, best first.

    Args:
        space: The space the queries were asked in.
        queries: From ``ask`` and ``ask_many``, or (Q, dim) unit vectors of the space.
        memory: The gallery; its encoder is one of the space's. Several memories are one as a ``Gallery``.
        modality: What to look for in it.
        k: Hits wanted; a smaller gallery gives all it has.
        index: From ``open_index``; an exact search when left out.

    Raises:
        InputError: ``k`` below 1, a query that is not finite, or a modality the memory lacks.
        ArtifactError: the memory belongs to another encoder than the space.
    """
    vectors = queries if isinstance(queries, np.ndarray) else np.stack([query.vector for query in queries])
    scores, rows = (index or open_index(space, memory, modality)).search(vectors, k)
    known = {number: memory.row(modality, number) for number in np.unique(rows[rows >= 0]).tolist()}
    return [
        [
            _hit(memory, int(row), rank, known[int(row)], float(score))
            for rank, (row, score) in enumerate(zip(*pair, strict=True), 1)
            if row >= 0
        ]
        for pair in zip(rows, scores, strict=True)
    ]


def _hit(memory: Memory, number: int, rank: int, row: Row, score: float) -> Hit:
    home = memory.home(number)[0] if isinstance(memory, Merged) else memory
    path, named = home.source_path(row), str(home.path) if home is not memory else None
    return Hit(rank, row.id, score, row.source, row.text, os.path.relpath(path) if path else None, named)


def facts_of(
    space: ConnectedSpace, memory: Memory, modality: Modality, index: str, searched: Index | None = None
) -> dict[str, Any]:
    """Return what an answer rests on, as JSON-ready values; ``scores`` where they are more than cosines."""
    bias = searched.bias if isinstance(searched, FaissIndex) else None
    return {
        "method": space.method,
        "memory": str(memory.path),
        "modality": modality.value,
        "gallery": memory.rows(modality),
        "search": index,
    } | ({"scores": f"cosine less the row's bias, {bias}"} if bias else {})


def as_answers(queries: Sequence[Query], hits: Sequence[Sequence[Hit]], *, many: bool) -> dict[str, Any]:
    """Return queries with their hits as JSON-ready values; of not ``many``, the one query's alone."""
    answers = [
        {"query": q.name, "query_modality": q.modality.value, "encoder": q.encoder, "hits": [_told(h) for h in found]}
        for q, found in zip(queries, hits, strict=True)
    ]
    return {"queries": answers} if many else answers[0]


def _told(hit: Hit) -> dict[str, Any]:
    return {name: value for name, value in asdict(hit).items() if name != "memory" or value is not None}
