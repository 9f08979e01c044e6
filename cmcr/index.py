"""Nearest rows of a gallery: exact over streamed blocks, or a FAISS index kept beside the memory.

The only file that knows faiss. It is imported inside functions: faiss and torch each bring an OpenMP runtime, and exact
search must work where the two do not get along.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from cmcr.errors import ArtifactError, InputError
from cmcr.files import atomic, sha256_file, write_json
from cmcr.metrics import Array, Rows, cosine
from cmcr.modality import Modality

KINDS = ("flat", "hnsw", "ivf")
FORMAT = 1
_ROW_BITS = 0xFFFFFFFF

Blocks = Callable[[], Iterable[Array]]
"""Starts an iteration over the gallery: (n, D) float32 unit vectors in row order."""


class Hits(NamedTuple):
    """The best rows of a gallery for each query, best first; k is at most the gallery's size.

    An approximate index may find fewer than k: the row is then -1 and the score minus infinity.
    """

    scores: Array
    rows: Rows


class Index(Protocol):
    """A gallery that can be asked for the rows nearest to queries."""

    def search(self, queries: Array, k: int) -> Hits:
        """Return the ``k`` best rows for each of the (Q, D) unit vectors ``queries``, by cosine."""
        ...


@dataclass(frozen=True)
class ExactIndex:
    """Every query against every row, streamed: no memory beyond a block, nothing to build."""

    blocks: Blocks

    def search(self, queries: Array, k: int) -> Hits:
        """Return the exact ``k`` best rows."""
        return exact_search(self.blocks(), queries, k)


def exact_search(blocks: Iterable[Array], queries: Array, k: int, chunk: int = 1024) -> Hits:
    """Return the ``k`` best rows of all blocks for each query; of equal scores the lower row comes first.

    Args:
        blocks: (n, D) unit vectors in row order; how rows are cut into blocks does not change the result.
        queries: (Q, D) unit vectors.
        k: Hits wanted; with fewer rows there are as many hits as rows.
        chunk: Queries scored at once.

    Raises:
        InputError: ``k`` is below 1, a query is not finite, or dimensions differ.
    """
    asked = _checked(queries, k).astype(np.float64)
    best = [np.zeros((len(part), 0), np.int64) for part in _parts(asked, chunk)]
    first = 0
    for block in blocks:
        _same_dim(asked.shape[1], block.shape[1])
        rows, gallery = np.arange(first, first + len(block)), block.astype(np.float64)
        for number, part in enumerate(_parts(asked, chunk)):
            keys = _candidates(cosine(part, gallery), rows, best[number], k)
            best[number] = _largest(np.concatenate([best[number], keys], axis=1), k)
        first += len(block)
    return _hits(-np.sort(-np.concatenate(best), axis=1))


def _parts(queries: npt.NDArray[np.float64], chunk: int) -> list[npt.NDArray[np.float64]]:
    return [queries[start : start + chunk] for start in range(0, max(len(queries), 1), chunk)]


def _candidates(scores: Array, rows: Rows, best: Rows, k: int) -> Rows:
    """Return the keys of what may enter the (Q, k) ``best``, padded with lower ones: on most blocks only a few can."""
    if best.shape[1] < k:
        return _keys(scores, rows)
    least = _hits(best.min(axis=1)).scores
    query, column = np.nonzero(~(scores < least[:, None]))
    count = np.bincount(query, minlength=len(scores))
    keys = np.full((len(scores), count.max(initial=0)), np.iinfo(np.int64).min)
    place = np.arange(len(query)) - np.repeat(np.cumsum(count) - count, count)
    keys[query, place] = _keys(scores[query, column], rows[column])
    return keys


def _keys(scores: Array, rows: Rows) -> Rows:
    """Pack score and row into one integer that sorts as (score, lower row first), so that no tie is left to chance."""
    bits = (np.nan_to_num(scores, nan=-np.inf, neginf=-np.inf) + np.float32(0)).view(np.int32).astype(np.int64)
    ordered = np.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    return np.asarray((ordered << 32) | (_ROW_BITS - rows), np.int64)


def _hits(keys: Rows) -> Hits:
    ordered = keys >> 32
    bits = np.where(ordered < 0, ordered ^ 0x7FFFFFFF, ordered).astype(np.int32)
    return Hits(bits.view(np.float32), _ROW_BITS - (keys & _ROW_BITS))


def _largest(keys: Rows, k: int) -> Rows:
    return keys if keys.shape[1] <= k else np.partition(keys, keys.shape[1] - k, axis=1)[:, -k:]


def _checked(queries: Array, k: int) -> Array:
    if k < 1:
        raise InputError(f"k = {k}: expected at least 1")
    if queries.ndim != 2:
        raise InputError(f"queries of shape {queries.shape}: expected (Q, D)")
    if not np.isfinite(queries).all():
        bad = int(np.flatnonzero(~np.isfinite(queries).all(axis=1))[0])
        raise InputError(f"query {bad} is not finite: expected unit vectors; look at what embedded it")
    return queries


def _same_dim(queries: int, gallery: int) -> None:
    if queries != gallery:
        raise InputError(f"queries have {queries} dimensions and the gallery {gallery}: they are of two spaces")


@dataclass(frozen=True)
class IndexInfo:
    """What stands beside an index file: what it was made of, and what it must be when it is read.

    Attributes:
        kind: ``flat``, ``hnsw`` or ``ivf``.
        memory: Fingerprint of the memory's modality.
        space: Fingerprint of the space.
        modality: The modality indexed.
        rows: Vectors in the index.
        dim: Components of a vector.
        parameters: How it was built and is searched.
        sha256: Of the index file.
    """

    kind: str
    memory: str
    space: str
    modality: str
    rows: int
    dim: int
    parameters: dict[str, int]
    sha256: str
    format: int = FORMAT


class FaissIndex:
    """A FAISS index over unit vectors by inner product, which is their cosine."""

    def __init__(self, kind: str, index: Any, parameters: dict[str, int]) -> None:
        self.kind, self.parameters, self._index = kind, parameters, index

    @property
    def rows(self) -> int:
        """The number of vectors indexed."""
        return int(self._index.ntotal)

    @property
    def dim(self) -> int:
        """Components of a vector."""
        return int(self._index.d)

    def search(self, queries: Array, k: int) -> Hits:
        """Return the ``k`` best rows the index finds; of equal scores the lower row comes first.

        Raises:
            InputError: ``k`` is below 1, a query is not finite, or dimensions differ.
        """
        asked = np.ascontiguousarray(_checked(queries, k), np.float32)
        _same_dim(asked.shape[1], self.dim)
        scores, rows = self._index.search(asked, min(k, self.rows))
        scores = np.where(rows < 0, np.float32(-np.inf), scores)
        order = np.lexsort((rows, -scores), axis=1)
        return Hits(np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1))

    def write(self, path: Path) -> None:
        """Write the index as a file that ``faiss.read_index`` reads, whole or not at all."""
        import faiss

        with atomic(path) as file:
            writer = faiss.PyCallbackIOWriter(file.write)  # type: ignore[attr-defined, unused-ignore]
            faiss.write_index(self._index, writer)


def build_index(kind: str, blocks: Blocks, seed: int = 0) -> FaissIndex:
    """Build an index of a gallery; the same blocks and seed give the same bytes, so it runs on one thread.

    Args:
        kind: ``flat`` (exact), ``hnsw`` (a graph: fast, larger) or ``ivf`` (clusters: small, can be memory-mapped).
        blocks: Iterated twice for ``ivf``, which first learns its clusters from a sample spread over the rows.
        seed: Of the clustering.

    Raises:
        InputError: unknown kind, or the gallery is empty.
    """
    if kind not in KINDS:
        raise InputError(f"index kind {kind!r}: expected one of {', '.join(KINDS)}")
    with _one_thread():
        index, parameters = _empty(kind, blocks, seed)
        for block in blocks():
            index.add(np.ascontiguousarray(block, np.float32))
    return FaissIndex(kind, index, parameters)


def _empty(kind: str, blocks: Blocks, seed: int) -> tuple[Any, dict[str, int]]:
    import faiss

    shapes = [block.shape for block in blocks()]
    rows, dim = sum(shape[0] for shape in shapes), shapes[0][1] if shapes else 0
    if not rows:
        raise InputError("the gallery is empty: there is nothing to index")
    if kind == "flat":
        return faiss.IndexFlatIP(dim), {}
    if kind == "hnsw":
        graph = faiss.IndexHNSWFlat(dim, 32, faiss.METRIC_INNER_PRODUCT)
        graph.hnsw.efConstruction, graph.hnsw.efSearch = 200, 128
        return graph, {"M": 32, "efConstruction": 200, "efSearch": 128}
    # 39 points a cluster is what faiss asks for; 64 suffice, and bound what is sampled into memory.
    clusters = max(1, min(int(2 * np.sqrt(rows)), rows // 39))
    lists = faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, clusters, faiss.METRIC_INNER_PRODUCT)
    lists.cp.seed, lists.cp.spherical, lists.cp.niter, lists.cp.max_points_per_centroid = seed + 1, True, 10, 64
    lists.nprobe = min(clusters, max(16, clusters // 8))
    step = max(1, rows // (64 * clusters))
    lists.train(np.concatenate(list(_every(blocks(), step))))
    return lists, {"clusters": clusters, "probes": lists.nprobe, "seed": seed}


def _every(blocks: Iterable[Array], step: int) -> Iterator[Array]:
    first = 0
    for block in blocks:
        yield np.ascontiguousarray(block[-first % step :: step], np.float32)
        first += len(block)


@contextmanager
def _one_thread() -> Iterator[None]:
    import faiss

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def index_path(memory: Path, space: str, modality: Modality, kind: str) -> Path:
    """Return where the index of a memory's modality in the space of fingerprint ``space`` is kept."""
    return memory / "index" / f"{space[:12]}-{modality.value}-{kind}.faiss"


def save_index(index: FaissIndex, path: Path, *, memory: str, space: str, modality: Modality) -> IndexInfo:
    """Write the index and, beside it, what it was made of (the two fingerprints); each is whole or absent."""
    index.write(path)
    info = IndexInfo(
        kind=index.kind,
        memory=memory,
        space=space,
        modality=modality.value,
        rows=index.rows,
        dim=index.dim,
        parameters=index.parameters,
        sha256=sha256_file(path),
    )
    write_json(path.with_suffix(".json"), asdict(info))
    return info


def load_index(path: Path, *, memory: str, space: str, cure: str = "cmcr index") -> FaissIndex:
    """Open an index, memory-mapped, after checking that it is whole and belongs to this memory and this space.

    Raises:
        ArtifactError: missing, damaged, or stale; the message ends with ``cure``, the command that makes it anew.
    """
    import faiss

    info = _read_info(path, cure)
    for what, had, now in (("memory", info.memory, memory), ("space", info.space, space)):
        if had != now:
            was = f"made of {what} {had[:12]}, which is now {now[:12]}"
            raise ArtifactError(f"{path} is stale: {was}; make it anew: {cure}")
    if sha256_file(path) != info.sha256:
        raise ArtifactError(f"{path} is damaged: its sha256 is not the one in its .json; make it anew: {cure}")
    try:
        loaded = faiss.read_index(str(path), faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY)
    except RuntimeError as error:
        raise ArtifactError(f"{path} cannot be read by faiss {faiss.__version__}; make it anew: {cure}") from error
    if (loaded.ntotal, loaded.d) != (info.rows, info.dim):
        raise ArtifactError(f"{path} has {loaded.ntotal} rows, its .json says {info.rows}; make it anew: {cure}")
    return FaissIndex(info.kind, loaded, info.parameters)


def _read_info(path: Path, cure: str) -> IndexInfo:
    beside = path.with_suffix(".json")
    if not (path.is_file() and beside.is_file()):
        raise ArtifactError(f"there is no index {path}; make it: {cure}")
    try:
        info = IndexInfo(**json.loads(beside.read_text("utf-8")))
    except (ValueError, TypeError) as error:
        raise ArtifactError(f"{beside} is damaged: {error}; make the index anew: {cure}") from error
    if info.format != FORMAT:
        raise ArtifactError(f"{beside} has format {info.format}, expected {FORMAT}; make the index anew: {cure}")
    return info
