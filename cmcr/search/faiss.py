"""Nearest rows of a gallery: exact over streamed blocks, or a FAISS index kept beside the memory.

The only file that knows faiss. It is imported inside functions: faiss and torch each bring an OpenMP runtime, and exact
search must work where the two do not get along.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cmcr.errors import ArtifactError, InputError
from cmcr.files import atomic, open_file, sha256_file, write_json
from cmcr.memory.tombstones import NONE, to_left
from cmcr.modality import Modality
from cmcr.numbers import Array, Rows
from cmcr.reading import plainly, read_json, reading
from cmcr.schema import checked
from cmcr.search.debias import Bias, with_ones
from cmcr.search.exact import Blocks, Hits, _checked, _same_dim

KINDS = ("flat", "hnsw", "ivf")
FORMAT = 2
_END = 1 << 16


@dataclass(frozen=True)
class IndexInfo:
    """What stands beside an index file: what it was made of, and what it must be when it is read.

    >>> from pathlib import Path
    >>> import numpy as np
    >>> from cmcr import Modality
    >>> from cmcr.search import build_index, save_index
    >>> index = build_index("flat", lambda: [np.eye(3, dtype=np.float32)])
    >>> info = save_index(index, Path("toy.faiss"), memory="9f2c", space="01ab", modality=Modality.TEXT)
    >>> info.kind, info.rows, info.dim
    ('flat', 3, 3)

    Attributes:
        kind: ``flat``, ``hnsw`` or ``ivf``.
        memory: Fingerprint of the memory's modality.
        space: Fingerprint of the space.
        modality: The modality indexed.
        rows: Vectors in the index.
        dim: Components of a stored vector: one more than the space has where ``bias`` is.
        parameters: How it was built and is searched.
        bytes: The size of the index file.
        structure: How many bytes from its start hold the structure: all but the vectors, and their ids in ``ivf``.
        opening: sha256 of the structure and of the last 64 kB: what is checked at every opening.
        sha256: Of the whole index file: what ``cmcr info --verify`` checks.
        bias: What the last component of its vectors was made of; None: they have no bias.
    """

    kind: str
    memory: str
    space: str
    modality: str
    rows: int
    dim: int
    parameters: dict[str, int]
    bytes: int
    structure: int
    opening: str
    sha256: str
    format: int = FORMAT
    bias: Bias | None = None


class FaissIndex:
    """A FAISS index over unit vectors by inner product, which is their cosine; less the row's bias where it has one.

    It holds every row that its memory's shards do. Rows removed since, ``gone``, are not found, and hits are numbered
    as the memory numbers the rows that are left.
    """

    def __init__(
        self,
        kind: str,
        index: Any,
        parameters: dict[str, int],
        damaged: str = "the index is damaged",
        bias: Bias | None = None,
        gone: Rows = NONE,
    ) -> None:
        self.kind, self.parameters, self.bias, self.gone = kind, parameters, bias, gone
        self._index, self._damaged = index, damaged
        self._left = _only(kind, index, gone) if len(gone) else None

    @property
    def rows(self) -> int:
        """The number of vectors indexed."""
        return int(self._index.ntotal)

    @property
    def dim(self) -> int:
        """Components of a stored vector: those of a query, and the bias where it has one."""
        return int(self._index.d)

    def search(self, queries: Array, k: int) -> Hits:
        """Return the ``k`` best rows the index finds; of equal scores the lower row comes first.

        Raises:
            InputError: ``k`` is below 1, a query is not finite, or dimensions differ.
            ArtifactError: what it finds cannot be: a row there is not, or a score that no row can have.
        """
        asked = np.ascontiguousarray(_checked(queries, k), np.float32)
        _same_dim(asked.shape[1], self.dim - (self.bias is not None))
        longest = 1.0
        if self.bias is not None:  # a bias is at most alpha, as a mean of cosines is at most 1
            asked, longest = with_ones(asked), math.hypot(1.0, self.bias.alpha)
        scores, rows = self._index.search(asked, min(k, self.rows - len(self.gone)), params=self._left)
        most = 1.01 * longest * np.linalg.norm(asked, axis=1, keepdims=True)
        least = 0 if self.kind == "flat" else -1
        if not ((rows >= least) & (rows < self.rows) & ((np.abs(scores) <= most) | (rows < 0))).all():
            raise ArtifactError(self._damaged)
        scores = np.where(rows < 0, np.float32(-np.inf), scores)
        if len(self.gone):
            rows = np.where(rows < 0, rows, to_left(self.gone, rows))
        order = np.lexsort((rows, -scores), axis=1)
        return Hits(np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1))

    def write(self, path: Path) -> None:
        """Write the index as a file that ``faiss.read_index`` reads, whole or not at all."""
        import faiss

        with atomic(path) as file:
            writer = faiss.PyCallbackIOWriter(file.write)  # type: ignore[attr-defined, unused-ignore]
            faiss.write_index(self._index, writer)


def _only(kind: str, index: Any, gone: Rows) -> Any:
    """Return what lets a search find no removed row, however many there are: a bit for each row."""
    import faiss

    library: Any = faiss  # its annotations lack what is made when it is loaded
    left = np.ones(index.ntotal, bool)
    left[gone] = False
    chosen = library.IDSelectorBitmap(np.packbits(left, bitorder="little"))
    if kind == "hnsw":
        return library.SearchParametersHNSW(sel=chosen, efSearch=index.hnsw.efSearch)
    if kind == "ivf":
        return library.SearchParametersIVF(sel=chosen, nprobe=index.nprobe)
    return library.SearchParameters(sel=chosen)


def build_index(kind: str, blocks: Blocks, seed: int = 0, breadth: int = 128, bias: Bias | None = None) -> FaissIndex:
    """Build an index of a gallery; the same blocks and seed give the same bytes on any number of threads.

    ``hnsw`` is built by one thread, for a graph depends on who comes first. It and ``ivf`` keep vectors as float16:
    half the size at the same recall, and scores that are off by up to about 2e-4.

    Args:
        kind: ``flat`` (exact), ``hnsw`` (a graph: fast, larger) or ``ivf`` (clusters: small, can be memory-mapped).
        blocks: Iterated twice for ``ivf``, which first learns its clusters from a sample spread over the rows.
        seed: Of the clustering.
        breadth: Candidates that a search of ``hnsw`` keeps: more find more and take longer.
        bias: What the last component of the rows was made of, where it is their bias (``with_biases``).

    Raises:
        InputError: unknown kind, or the gallery is empty.
    """
    if kind not in KINDS:
        raise InputError(f"index kind {kind!r}: expected one of {', '.join(KINDS)}")
    with _one_thread() if kind == "hnsw" else nullcontext():
        index, parameters = _empty(kind, blocks, seed, breadth, bias is not None)
        for block in blocks():
            index.add(np.ascontiguousarray(block, np.float32))
    return FaissIndex(kind, index, parameters, bias=bias)


def extend_index(path: Path, info: IndexInfo, blocks: Blocks) -> FaissIndex | None:
    """Return the index of a file with the rows of ``blocks`` behind those it has; None: it is best built anew.

    ``flat`` becomes what building it of all rows gives, to the byte. New rows of ``hnsw`` take their place in the
    graph as they would have, but for the draw of their levels; ``ivf`` keeps its clusters, and is built anew when it
    has more than twice the rows they were learnt from.

    Args:
        path: The file, which is read into RAM.
        info: What stands beside it.
        blocks: (n, D) of the new rows, as ``build_index`` was given the old.
    """
    import faiss

    try:
        with plainly():
            if sha256_file(path) != info.sha256:
                return None
            index = faiss.read_index(str(path))
    except (OSError, ValueError):
        return None
    built = info.rows - info.parameters.get("extended", 0)
    with _one_thread() if info.kind == "hnsw" else nullcontext():
        for block in blocks():
            index.add(np.ascontiguousarray(block, np.float32))
    if info.kind == "ivf" and index.ntotal > 2 * built:
        return None
    added = {"extended": index.ntotal - built} if index.ntotal > built else {}
    return FaissIndex(info.kind, index, info.parameters | added, bias=info.bias)


def _empty(kind: str, blocks: Blocks, seed: int, breadth: int, biased: bool) -> tuple[Any, dict[str, int]]:
    import faiss

    shapes = [block.shape for block in blocks()]
    rows, dim = sum(shape[0] for shape in shapes), shapes[0][1] if shapes else 0
    if not rows:
        raise InputError("the gallery is empty: there is nothing to index")
    if kind == "flat":
        return faiss.IndexFlatIP(dim), {}
    half: Any = faiss.ScalarQuantizer.QT_fp16
    if kind == "hnsw":
        graph = faiss.IndexHNSWSQ(dim, half, 32, faiss.METRIC_INNER_PRODUCT)
        graph.hnsw.efConstruction, graph.hnsw.efSearch = 80, breadth
        graph.train(np.zeros((1, dim), np.float32))  # float16 has nothing to learn, but faiss wants to be asked
        return graph, {"M": 32, "efConstruction": 80, "efSearch": breadth}
    # 39 points a cluster is what faiss asks for: more, or more than 6 rounds, cost minutes and find no more.
    clusters = max(1, min(int(2 * np.sqrt(rows)), rows // 39))
    lists = faiss.IndexIVFScalarQuantizer(
        faiss.IndexFlatIP(dim), dim, clusters, half, faiss.METRIC_INNER_PRODUCT, False
    )
    lists.cp.seed, lists.cp.spherical, lists.cp.niter, lists.cp.max_points_per_centroid = seed + 1, True, 6, 40
    lists.cp.min_points_per_centroid = 1  # or faiss talks on stderr about galleries that are small
    # What a bias lifts lies further away than what is nearest: twice the lists are looked into.
    lists.nprobe = min(clusters, max(16, clusters // 12) * (1 + biased))
    step = max(1, rows // (40 * clusters))
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
    info = _described(index, path, memory, space, modality)
    # What an index without biases says stays what readers of before know.
    write_json(path.with_suffix(".json"), {name: value for name, value in asdict(info).items() if value is not None})
    return info


def _described(index: FaissIndex, path: Path, memory: str, space: str, modality: Modality) -> IndexInfo:
    size = path.stat().st_size
    structure = min(size, _structure(index, size))
    return IndexInfo(
        kind=index.kind,
        memory=memory,
        space=space,
        modality=modality.value,
        rows=index.rows,
        dim=index.dim,
        parameters=index.parameters,
        bytes=size,
        structure=structure,
        opening=opening_digest(path, structure),
        sha256=sha256_file(path),
        bias=index.bias,
    )


def _structure(index: FaissIndex, size: int) -> int:
    """Return up to where a file holds what faiss follows blindly: links of a graph, lengths of the lists."""
    if index.kind == "hnsw":
        return size - index.rows * index.dim * 2
    return _END + index.parameters.get("clusters", 0) * (4 * index.dim + 16)


def opening_digest(path: Path, structure: int) -> str:
    """Return the sha256 of what is checked at every opening: the first ``structure`` bytes and the last 64 kB."""
    with open_file(path) as file:
        digest = hashlib.sha256(file.read(structure))
        file.seek(max(0, path.stat().st_size - _END))
        digest.update(file.read())
    return digest.hexdigest()


def load_index(path: Path, *, memory: str, space: str, cure: str = "cmcr index", gone: Rows = NONE) -> FaissIndex:
    """Open an index, memory-mapped, after checking that it belongs to this memory and this space.

    What is cheap is checked: the file's size, its structure and its end; damage amid the vectors is met by a search
    that finds what cannot be, and always by ``cmcr info --verify``.

    Args:
        path: The file.
        memory: Fingerprint of the memory's modality, with its removed rows.
        space: Fingerprint of the space.
        cure: The command that makes it anew.
        gone: (R,) numbers of the removed rows, ascending.

    Raises:
        ArtifactError: missing, damaged, or stale; the message ends with ``cure``, the command that makes it anew.
    """
    import faiss

    info = read_info(path, cure)
    cure += f" {info.bias.flags}" if info.bias else ""
    for what, had, now in (("memory", info.memory, memory), ("space", info.space, space)):
        if had != now:
            was = f"made of {what} {had[:12]}, which is now {now[:12]}"
            raise ArtifactError(f"{path} is stale: {was}; make it anew: {cure}")
    size = path.stat().st_size
    if size != info.bytes:
        raise ArtifactError(f"{path} is damaged: {size} bytes, expected {info.bytes}; make it anew: {cure}")
    if opening_digest(path, info.structure) != info.opening:
        raise ArtifactError(f"{path} is damaged: its content is not what was written; make it anew: {cure}")
    # Lists map into memory by the one flag, the vectors of the other kinds by the newer one.
    mapped = faiss.IO_FLAG_MMAP if info.kind == "ivf" else getattr(faiss, "IO_FLAG_MMAP_IFC", faiss.IO_FLAG_MMAP)
    with reading(path, f"make it anew: {cure}", what=f"cannot be read by faiss {faiss.__version__}"):
        loaded = faiss.read_index(str(path), mapped | faiss.IO_FLAG_READ_ONLY)
    if (loaded.ntotal, loaded.d) != (info.rows, info.dim):
        raise ArtifactError(f"{path} has {loaded.ntotal} rows, its .json says {info.rows}; make it anew: {cure}")
    damaged = f"{path} is damaged: it finds what cannot be; make it anew: {cure}"
    return FaissIndex(info.kind, loaded, info.parameters, damaged, info.bias, gone)


def read_info(path: Path, cure: str) -> IndexInfo:
    """Return what stands beside the index ``path``.

    Raises:
        ArtifactError: missing, damaged, or of another format; the message ends with ``cure``.
    """
    beside = path.with_suffix(".json")
    if not (path.is_file() and beside.is_file()):
        raise ArtifactError(f"there is no index {path}; make it: {cure}")
    with reading(beside, f"make the index anew: {cure}", what="is damaged"):
        value = read_json(beside)
        if isinstance(value, dict) and value.get("format", FORMAT) != FORMAT:
            raise ArtifactError(f"{beside} has format {value['format']}, expected {FORMAT}; make it anew: {cure}")
        info: IndexInfo = checked(IndexInfo, value)
        return info
