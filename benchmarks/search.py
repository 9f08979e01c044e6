"""How fast is search over a million vectors, and what does an index lose?

    python benchmarks/search.py [--rows 1000000] [--rounds 3]

The gallery is made up: a mixture of 2,000 Gaussians of 30 latent dimensions, through a random map and tanh into 512,
plus 15 % noise, normalised. Queries are new draws of the same law.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from quality import replace
from speed import README, seconds

from cmcr.modality import Modality
from cmcr.search import Hits, Index, build_index, exact_search, load_index, save_index

DIM, LATENT, K = 512, 30, 10
Line = tuple[str, str, str, str, str]
"""What, setting, ours, other, ratio or remark."""


def embeddings(rows: int, seed: int) -> np.ndarray:
    """Return (rows, 512) float32 unit vectors of the law above; the seed draws the rows, never the law."""
    law, rng = np.random.default_rng(99), np.random.default_rng(seed)
    centres = law.standard_normal((2000, LATENT), dtype=np.float32)
    mixing = law.standard_normal((LATENT, DIM), dtype=np.float32) / np.float32(LATENT**0.5)
    out = np.empty((rows, DIM), np.float32)
    for start in range(0, rows, 50_000):
        part = out[start : start + 50_000]
        latent = centres[rng.integers(2000, size=len(part))]
        latent += 0.5 * rng.standard_normal(latent.shape, dtype=np.float32)
        np.tanh(latent @ mixing, out=part)
        part += 0.15 * rng.standard_normal(part.shape, dtype=np.float32)
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return out


def shown(times: list[float]) -> str:
    """Return median and range, in seconds or milliseconds."""
    factor, name, places = (1, "s", 2) if max(times) > 1 else (1000, "ms", 1)
    low, middle, high = (f"{factor * x:.{places}f}" for x in (min(times), statistics.median(times), max(times)))
    return f"{middle} {name} ({low} to {high})"


def alternate(rounds: int, *sides: Callable[[], object]) -> list[list[float]]:
    """Time the sides in turn, round by round, after a round that is not counted."""
    for side in sides:
        side()
    return [list(each) for each in zip(*([seconds(side) for side in sides] for _ in range(rounds)), strict=True)]


def torch_search(queries: np.ndarray, gallery: np.ndarray) -> torch.Tensor:
    """Return the best rows by torch: products of 65,536 rows, the best of each, the best of those."""
    asked, scores, rows = torch.from_numpy(queries), [], []
    for number, part in enumerate(torch.from_numpy(gallery).split(65_536)):
        best = (asked @ part.T).topk(K)
        scores.append(best.values)
        rows.append(best.indices + number * 65_536)
    order = torch.cat(scores, 1).topk(K).indices
    return torch.cat(rows, 1).gather(1, order)


def exact(gallery: np.ndarray, rounds: int) -> Iterator[Line]:
    """Compare exact search with FAISS flat and with torch, in turn."""
    import faiss

    flat = faiss.IndexFlatIP(DIM)
    flat.add(gallery)
    cut = np.array_split(gallery, max(1, len(gallery) // 8192))
    for count, blocks, said in (
        (1, [gallery], ", as a server holds them"),
        (1, cut, ", by 8,192"),
        *((n, cut, "") for n in (256, 1024)),
    ):
        queries = embeddings(count, 2)
        ours, raw, products = alternate(
            rounds,
            lambda queries=queries, blocks=blocks: exact_search(blocks, queries, K, unit=True),
            lambda queries=queries: flat.search(queries, K),
            lambda queries=queries: torch_search(queries, gallery),
        )
        fastest, name = min((raw, "FAISS flat"), (products, "torch"), key=lambda side: statistics.median(side[0]))
        ratios = sorted(mine / theirs for mine, theirs in zip(ours, fastest, strict=True))
        ratio = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        setting = f"{count:,} queries, {len(gallery):,} x {DIM}{said}, k {K}"
        yield "exact search", setting, shown(ours), f"{name} {shown(fastest)}", ratio


def approximate(kind: str, gallery: np.ndarray, folder: Path) -> Iterator[Line]:
    """Show what an index costs to build and to open, what it finds, and how long one warm query takes."""
    queries, path = embeddings(200, 2), folder / f"{kind}.faiss"
    truth = exact_search([gallery], queries, K)
    cut = np.array_split(gallery, max(1, len(gallery) // 8192))
    built: list[object] = []
    building = seconds(lambda: built.append(build_index(kind, lambda: cut)))
    save_index(built.pop(), path, memory="m", space="s", modality=Modality.IMAGE)  # type: ignore[arg-type]
    opened: list[Index] = []
    opening = [seconds(lambda: opened.append(load_index(path, memory="m", space="s"))) for _ in range(5)]
    index = opened[-1]
    del opened[:]
    setting = f"{len(gallery):,} x {DIM}, {path.stat().st_size / 1e9:.2f} GB"
    yield f"{kind}: build", setting, f"{building:.1f} s", "", "one thread" if kind == "hnsw" else "all threads"
    yield f"{kind}: open", setting, shown(opening), "", ""
    recall = overlap(index.search(queries, K), truth)
    single = [seconds(lambda query=query: index.search(query[None], K)) for query in queries]
    yield f"{kind}: a warm query", setting, shown(single), "", f"recall@{K} {recall:.3f}"
    path.unlink()


def overlap(found: Hits, truth: Hits) -> float:
    """Return the share of the true rows that were found."""
    return float(np.mean([len(np.intersect1d(a, b)) / len(b) for a, b in zip(found.rows, truth.rows, strict=True)]))


def lines(rows: int, rounds: int) -> Iterator[Line]:
    """Measure everything; the graph on a tenth of the rows, for it is built by one thread."""
    gallery = embeddings(rows, 1)
    yield from exact(gallery, rounds)
    with tempfile.TemporaryDirectory() as folder:
        yield from approximate("ivf", gallery, Path(folder))
        yield from approximate("hnsw", gallery[: rows // 10], Path(folder))


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    table = ["| what | setting | ours: median (range) | other | ratio |", "|---|---|--:|--:|--:|"]
    for line in lines(asked.rows, asked.rounds):
        table.append(f"| {' | '.join(line)} |")
        sys.stderr.write(table[-1] + "\n")
    about = (
        f"`python benchmarks/search.py`: {asked.rounds} rounds, sides in turn, {torch.get_num_threads()} threads. "
        "Exact search against raw FAISS flat and torch (products and top-k), whichever is faster. The graph holds a "
        "tenth of the rows, for one thread builds it."
    )
    replace(README, "search", f"## Search\n\n{about}\n\n" + "\n".join(table))


if __name__ == "__main__":
    main()
