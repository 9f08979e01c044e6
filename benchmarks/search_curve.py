"""What do indexes find, and how fast? Recall@10 against queries a second, beside raw FAISS and usearch.

    python benchmarks/search_curve.py [--rows 1000000]     # writes benchmarks/search.svg and its table into README.md

Vectors and queries are those of search.py. Every index holds all rows. cmcr's graph is built by one thread, so that it
is the same each time; the others are built by all.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from plots import draw
from quality import replace
from search import DIM, K, embeddings, overlap
from speed import README, seconds

from cmcr.search import Hits, build_index, exact_search

QUERIES, ROUNDS = 1000, 3
BREADTHS, PROBES = (10, 16, 32, 64, 128, 256), (1, 2, 4, 8, 16, 32, 64)
M, CONSTRUCTION = 32, 80
"""Links and candidates of every graph: cmcr's own."""

Search = Callable[[np.ndarray], Hits]


class Built(NamedTuple):
    """An index: its settings by name, each a search."""

    settings: dict[str, Search]


def turned(index: Any, search: Search, turn: Callable[[int], None], name: str, values: tuple[int, ...]) -> Built:
    """Return an index whose one setting is turned before each search."""

    def at(value: int) -> Search:
        def asked(queries: np.ndarray) -> Hits:
            turn(value)
            return search(queries)

        return asked

    return Built({f"{name} {value}": at(value) for value in values})


def raw(index: Any) -> Search:
    """Return the search of a FAISS index."""

    def search(queries: np.ndarray) -> Hits:
        return Hits(*index.search(queries, K))

    return search


def ours(kind: str, gallery: np.ndarray) -> Built:
    """Build an index as ``cmcr index`` does."""
    blocks = np.array_split(gallery, max(1, len(gallery) // 8192))
    made: Any = build_index(kind, lambda: blocks)
    inner = made._index
    if kind == "ivf":
        return turned(made, lambda q: made.search(q, K), lambda v: setattr(inner, "nprobe", v), "probes", PROBES)
    return turned(made, lambda q: made.search(q, K), lambda v: setattr(inner.hnsw, "efSearch", v), "breadth", BREADTHS)


def faiss_graph(gallery: np.ndarray) -> Built:
    """Build a graph over float32 vectors."""
    import faiss

    index = faiss.IndexHNSWFlat(DIM, M, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = CONSTRUCTION
    index.add(gallery)
    return turned(index, raw(index), lambda value: setattr(index.hnsw, "efSearch", value), "breadth", BREADTHS)


def faiss_lists(gallery: np.ndarray) -> Built:
    """Build lists of float32 vectors, with as many clusters as cmcr's."""
    import faiss

    clusters = max(1, min(int(2 * np.sqrt(len(gallery))), len(gallery) // 39))
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(DIM), DIM, clusters, faiss.METRIC_INNER_PRODUCT)
    index.cp.niter, index.cp.max_points_per_centroid = 6, 40
    index.train(gallery)
    index.add(gallery)
    return turned(index, raw(index), lambda value: setattr(index, "nprobe", value), "probes", PROBES)


def faiss_quantised(gallery: np.ndarray) -> Built:
    """Build a scalar quantiser of 8 bits a component, which meets every row."""
    import faiss

    index = faiss.IndexScalarQuantizer(DIM, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT)
    index.train(gallery[:: max(1, len(gallery) // 50_000)])
    index.add(gallery)
    return Built({"every row": raw(index)})


def usearch_graph(gallery: np.ndarray) -> Built:
    """Build usearch's graph over float16 vectors."""
    from usearch.index import Index  # type: ignore[import-not-found, unused-ignore]

    index = Index(ndim=DIM, metric="ip", dtype="f16", connectivity=M, expansion_add=CONSTRUCTION)
    index.add(np.arange(len(gallery)), gallery)

    def search(queries: np.ndarray) -> Hits:
        found = index.search(queries, K)
        return Hits(1 - np.asarray(found.distances), np.asarray(found.keys, np.int64))

    return turned(index, search, lambda value: setattr(index, "expansion_search", value), "breadth", BREADTHS)


def exact(gallery: np.ndarray) -> Built:
    """Return exact search."""
    return Built({"every row": lambda queries: exact_search([gallery], queries, K, unit=True)})


INDEXES: dict[str, Callable[[np.ndarray], Built]] = {
    "cmcr, exact": exact,
    "cmcr, hnsw": lambda gallery: ours("hnsw", gallery),
    "cmcr, ivf": lambda gallery: ours("ivf", gallery),
    "FAISS, HNSWFlat": faiss_graph,
    "FAISS, IVFFlat": faiss_lists,
    "FAISS, SQ8": faiss_quantised,
    "usearch, f16": usearch_graph,
}


def measured(name: str, gallery: np.ndarray, queries: np.ndarray, truth: Hits) -> tuple[str, list[tuple[float, float]]]:
    """Build one index; return its line of the table, and (recall, queries a second) at each setting."""
    built: list[Built] = []
    try:
        building = seconds(lambda: built.append(INDEXES[name](gallery)))
    except ImportError:
        return f"| {name} | not installed |  |", []
    points, told = [], []
    for setting, search in built[0].settings.items():
        took = min(seconds(partial(search, queries)) for _ in range(ROUNDS))
        points.append((overlap(search(queries), truth), len(queries) / took))
        told.append(f"{setting}: {points[-1][0]:.3f} at {points[-1][1]:,.0f}/s")
    return f"| {name} | {building:.1f} s | {', '.join(told)} |", points


def lines(rows: int, only: list[str]) -> Iterator[tuple[str, str, list[tuple[float, float]]]]:
    """Measure one index after the other; each is dropped before the next is built."""
    gallery, queries = embeddings(rows, 1), embeddings(QUERIES, 2)
    truth = exact_search([gallery], queries, K, unit=True)
    for name in only:
        yield (name, *measured(name, gallery, queries, truth))


def main() -> None:
    """Measure, draw and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--only", nargs="+", default=list(INDEXES), choices=list(INDEXES), help="indexes; nothing kept")
    asked = parser.parse_args()
    table, series = ["| index | built in | recall@10 and queries a second |", "|---|--:|---|"], {}
    for name, line, points in lines(asked.rows, asked.only):
        table.append(line)
        sys.stderr.write(line + "\n")
        if points:
            series[name] = points
    about = (
        f"`python benchmarks/search_curve.py --rows {asked.rows}`: {asked.rows:,} x {DIM}, {QUERIES:,} queries at "
        f"once, best of {ROUNDS}, {torch.get_num_threads()} threads. cmcr's graph is built by one thread, so that "
        f"it is the same each time, the others by all: graphs of {M} links, built with {CONSTRUCTION} candidates."
    )
    if asked.only == list(INDEXES):
        draw(README.with_name("search.svg"), series, "recall@10", "queries a second", (False, True))
        text = f"## What indexes find\n\n{about}\n\n" + "\n".join(table) + "\n\n![recall against speed](search.svg)"
        replace(README, "search-curve", text)


if __name__ == "__main__":
    main()
