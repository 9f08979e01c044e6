"""Recall against the number of known pairs: a fifth of a bed's pairs is asked, of the others so many are known.

    python benchmarks/known_pairs.py FOLDER FOLDER --methods linear,ridge,csa --known 0,10,30,100,0.8 --seeds 5 -o page

Every fifth is asked in turn, so that all pairs are asked once a seed. The memories hold the rows of all pairs that are
not asked, however many of them are known. ``page.html`` and ``page.json`` are written; with ``--cache FOLDER`` the
views of an ensemble, which rest on no pair and take nearly all of its time, are kept for other numbers of pairs.
``lab_bed.py`` tells what lies in a folder; ``lab_tiny.py`` writes those of the tiny world. ``linear`` learns from the
overlap alone, whatever is known: it is the floor.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from lab_bed import Bed, read_bed

from cmcr import ArrayMemory, ConnectConfig
from cmcr.connect import connect
from cmcr.connect.methods.paired import tilted, weigh_pairs
from cmcr.numbers import canonical
from cmcr.report import Section, line_chart, results_table
from cmcr.report.page import page
from cmcr.space import ConnectedSpace

FOLDS = 5
KINDS = ("image", "audio")
METHODS = "linear,ridge,csa,sotalign,tcl,ensemble"
Views = dict[str, np.ndarray]
"""Of all rows of the pairs: what an ensemble makes of them (x, y), its segments and weights, and the means (cx, cy)."""


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER")
    parser.add_argument(
        "--join", nargs="+", type=Path, default=[], help="JSONs of earlier runs: their page, and tables"
    )
    parser.add_argument("--methods", default=METHODS)
    parser.add_argument("--known", default="0,10,30,100,300,0.8", help="numbers; 0.8: all but those asked")
    parser.add_argument("--seeds", default="0", help="a list")
    parser.add_argument("--device", default="cpu", help="where views of an ensemble are trained")
    parser.add_argument("--cache", type=Path, help="folder for the views of ensembles")
    parser.add_argument("-o", "--out", type=Path, help="path of the page and the JSON, without a suffix")
    return parser.parse_args()


def memories(bed: Bed, others: np.ndarray) -> tuple[ArrayMemory, ArrayMemory]:
    """Return both sides' memories: texts, unpaired rows, and the rows of all pairs that are not asked."""
    made = []
    for name, kind, side in zip("ab", KINDS, (bed.left, bed.right), strict=True):
        ids = [*(f"row{row}" for row in range(len(side.memory))), *(f"pair{row}" for row in others)]
        rows = np.concatenate([side.memory, side.eval[others]])
        made.append(ArrayMemory(name, {"text": side.text, kind: rows}, ids={kind: ids}))
    return made[0], made[1]


def connected(
    bed: Bed, method: str, others: np.ndarray, known: np.ndarray, seed: int, device: str = "cpu"
) -> ConnectedSpace:
    """Return the space by a method; one but ``ensemble`` recalls nothing, which saves time and changes no map."""
    a, b = memories(bed, others)
    pairs = [(f"pair{row}", f"pair{row}") for row in known] if len(known) and method != "linear" else None
    config = ConnectConfig(method, seed=seed) if method == "ensemble" else ConnectConfig(
        method, seed=seed, pairing="none" if pairs is None else "full"
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        return connect(a, b, out=Path(folder) / "space", config=config, pairs=pairs, device=device).space


def projected(space: ConnectedSpace, bed: Bed) -> list[np.ndarray]:
    return [
        space.project(side.eval.astype(np.float32), encoder=name, modality=kind)
        for name, kind, side in zip("ab", KINDS, (bed.left, bed.right), strict=True)
    ]


def views_of(bed: Bed, others: np.ndarray, seed: int, device: str, path: Path | None) -> Views:
    """Return what an ensemble without pairs makes of all rows, or what was kept of it."""
    if path and path.exists():
        with np.load(path) as kept:
            return dict(kept)
    space = connected(bed, "ensemble", others, others[:0], seed, device)
    config = space.projectors["a"].config
    centers = [space.projectors[name].centers[kind].detach().numpy() for name, kind in zip("ab", KINDS, strict=True)]
    x, y = projected(space, bed)
    made = {"x": x, "y": y, "segments": np.array(config.segments), "weights": np.array(config.weights)}
    made |= {"cx": centers[0], "cy": centers[1]}
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, **made)  # type: ignore[arg-type]
    return made


def ensemble_cosines(bed: Bed, views: Views, known: np.ndarray, seed: int) -> np.ndarray:
    """Return the similarities of all rows in the space that ``ensemble`` makes of known pairs, up to a factor."""
    x, y = (torch.from_numpy(views[name]) for name in "xy")
    if not len(known):
        return (x @ y.T).numpy()
    segments, weights = views["segments"].tolist(), views["weights"].tolist()
    rows = [
        F.normalize(torch.from_numpy(side.eval.astype(np.float32)) - torch.from_numpy(views[name]), dim=1)
        for side, name in ((bed.left, "cx"), (bed.right, "cy"))
    ]
    given = rows[0][known], rows[1][known]
    found = weigh_pairs((x[known], y[known]), segments, weights, given, seed)
    factors = zip(tilted(weights, found.tilt), weights, strict=True)
    parts = zip(x.split(segments, dim=1), y.split(segments, dim=1), factors, strict=True)
    total = sum((new / old * a @ b.T for a, b, (new, old) in parts), torch.zeros(len(x), len(y)))
    if found.share:
        total += found.share / found.unit * canonical.fit_canonical(*given, found.recipe).cosines(*rows)
    return total.numpy()


def ranks(bed: Bed, cosines: np.ndarray, asked: np.ndarray, alone: bool) -> Iterator[tuple[int, int]]:
    """Yield the rank of each asked row's partner and how many it is among, both directions, ties counted against us.

    Among all rows of its gallery; or ``alone``, among those asked, so that no row was ever part of a known pair.
    """
    for turned in (cosines, cosines.T):
        for row in asked:
            among = bed.galleries == bed.galleries[row]
            if alone:
                among &= np.isin(np.arange(len(among)), asked)
            yield int((turned[row, among] >= turned[row, row]).sum()), int(among.sum())


def figures(found: list[tuple[int, int]]) -> list[float]:
    """Return R@1, R@10 and AUC in percent."""
    rank, size = np.array(found).T
    auc = 1 - (rank - 1) / np.maximum(size - 1, 1)
    return [100 * float(each.mean()) for each in (rank <= 1, rank <= 10, auc)]


def measured(bed: Bed, method: str, wanted: float, seed: int, device: str, cache: Path | None) -> dict[str, Any]:
    """Return the figures of one method, number of pairs and seed."""
    order = np.random.default_rng(seed).permutation(len(bed.left.eval))
    everyone: list[tuple[int, int]] = []
    alone: list[tuple[int, int]] = []
    count = 0
    for fold in range(FOLDS):
        asked = order[fold::FOLDS]
        others = np.sort(np.setdiff1d(order, asked))
        count = len(others) if 0 < wanted < 1 else min(len(others), int(wanted))
        known = np.sort(np.random.default_rng([seed, fold]).permutation(others)[:count])
        if method == "ensemble":
            path = cache and cache / f"{bed.name.replace('/', '-')}-{seed}-{fold}.npz"
            cosines = ensemble_cosines(bed, views_of(bed, others, seed, device, path), known, seed)
        else:
            x, y = projected(connected(bed, method, others, known, seed), bed)
            cosines = x @ y.T
        everyone += ranks(bed, cosines, asked, alone=False)
        alone += ranks(bed, cosines, asked, alone=True)
    told = {"bed": bed.name, "method": method, "known": count, "seed": seed}
    return told | {"all": figures(everyone), "asked": figures(alone)}


def told(rows: list[dict[str, Any]], among: str) -> str:
    values = np.array([row[among] for row in rows])
    return " / ".join(
        f"{mean:.1f}" + (f" ± {deviation:.1f}" if len(rows) > 1 else "")
        for mean, deviation in zip(values.mean(axis=0), values.std(axis=0), strict=True)
    )


def grouped(found: list[dict[str, Any]]) -> dict[str, dict[str, dict[int, list[dict[str, Any]]]]]:
    """Return the results by bed, method and number of pairs."""
    made: dict[str, dict[str, dict[int, list[dict[str, Any]]]]] = {}
    for row in found:
        made.setdefault(row["bed"], {}).setdefault(row["method"], {}).setdefault(row["known"], []).append(row)
    return made


def joined(files: list[Path]) -> list[dict[str, Any]]:
    """Return the results of earlier runs, each once: the last of those of one bed, method, number and seed."""
    rows = [row for file in files for row in json.loads(file.read_text("utf-8"))]
    kept = {(row["bed"], row["method"], row["known"], row["seed"]): row for row in rows}
    return [kept[key] for key in sorted(kept)]


def tables(found: list[dict[str, Any]]) -> Iterator[str]:
    """Yield a Markdown table a bed: R@10 with its deviation / AUC, among those asked, seeds in brackets if not all."""
    seeds = len({row["seed"] for row in found})
    for bed, methods in grouped(found).items():
        names = [name for name in METHODS.split(",") if name in methods]
        yield f"\n| {bed}: known pairs | {' | '.join(names)} |\n|--:|{'--:|' * len(names)}"
        for known in sorted({each for some in methods.values() for each in some}):
            cells = []
            for name in names:
                rows = methods[name].get(known, [])
                values = np.array([row["asked"] for row in rows] or [[np.nan] * 3])
                few = f" ({len(rows)})" if 0 < len(rows) < seeds else ""
                told = f"{values[:, 1].mean():.1f} ± {values[:, 1].std():.1f} / {values[:, 2].mean():.1f}{few}"
                cells.append(told if rows else "")
            yield f"| {known} | {' | '.join(cells)} |"


def written(found: list[dict[str, Any]], out: Path) -> None:
    """Write the page and the JSON."""
    sections = []
    columns = ["method", "known pairs", "seeds", "among all: R@1 / R@10 / AUC", "among those asked"]
    for bed, methods in grouped(found).items():
        curves = {
            method: [(known, float(np.mean([row["asked"][1] for row in rows]))) for known, rows in sorted(some.items())]
            for method, some in methods.items()
        }
        table = [
            [method, str(known), str(len(rows)), told(rows, "all"), told(rows, "asked")]
            for method, some in methods.items()
            for known, rows in sorted(some.items())
        ]
        chart = line_chart("R@10 among the pairs asked, in percent", curves, "known pairs", "R@10")
        sections.append(Section(bed, body=chart + results_table(columns, table)))
    lead = (
        "A fifth of the pairs is asked, each in turn, and of the others some are known. Among all rows, those of "
        "known pairs lie beside their partners and out of the way; among those asked, no row was part of a known pair."
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".html").write_text(page("Recall against the number of known pairs", sections, lead), "utf-8")
    out.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")


def main() -> int:
    """Measure, a line of a Markdown table each, and write the page after every line."""
    asked = parsed()
    torch.set_num_threads(1)
    found = joined(asked.join)
    if found:
        written(found, asked.out or Path("page"))
        print("\n".join(tables(found)))
        return 0
    print("| bed | method | known pairs | seed | all: R@1 | R@10 | AUC | asked: R@1 | R@10 | AUC |")
    print("|---|---|--:|--:|--:|--:|--:|--:|--:|--:|")
    for seed, folder, method, known in itertools.product(
        map(int, asked.seeds.split(",")), asked.folders, asked.methods.split(","), map(float, asked.known.split(","))
    ):
        if method not in ("ensemble", *(("linear",) if not known else METHODS.split(",")[1:])):
            continue  # it learns from no pair, or from nothing else
        row = measured(read_bed(folder), method, known, seed, asked.device, asked.cache)
        found.append(row)
        cells = [f"{each:.1f}" for each in (*row["all"], *row["asked"])]
        print(f"| {row['bed']} | {method} | {row['known']} | {seed} |", " | ".join(cells), "|", flush=True)
        if asked.out:
            written(found, asked.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
