"""How good is a connection? Every method on the tiny world, five seeds, into benchmarks/README.md.

    make bench-quality            # or: python benchmarks/quality.py --seeds 5

Each seed draws its own unpaired memories and its own test renderings, and seeds the training. The test scenes have
attribute combinations that no tower and no memory has seen, one scene a combination: each query has one right answer.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cmcr import ConnectConfig, ConnectedSpace, Memory, Modality, load_encoder
from cmcr.connect import connect
from cmcr.connect.methods.c_mcr import fit
from cmcr.connect.pairs import Pairs
from cmcr.embed import embed
from cmcr.items import read_items
from cmcr.numbers import chance_recall, cosine, ranks, recall_at
from cmcr.space import Projector
from cmcr.space.space import SpaceEncoder
from cmcr.tiny import world
from cmcr.tiny.folders import write_paired, write_unpaired

TEXT, IMAGE, AUDIO, CLOUD = Modality.TEXT, Modality.IMAGE, Modality.AUDIO, Modality.POINT_CLOUD
SIZES = {"texts": 6000, "images": 4000, "sounds": 2500, "clouds": 2500}
TRUE_PAIRS = 6000
"""What the oracle is given: as many pairs as there are overlap texts."""
README = Path(__file__).with_name("README.md")
DATA = Path(__file__).with_name("quality.json")
KS = (1, 5, 10)

METHODS: dict[str, dict[str, object]] = {
    "linear, not centred": {"method": "linear", "center": False},
    "linear": {"method": "linear"},
    "linear on pseudo pairs, not centred": {"method": "linear", "on": "pseudo", "center": False},
    "linear on pseudo pairs": {"method": "linear", "on": "pseudo"},
    "route, not centred": {"method": "route", "center": False},
    "route": {"method": "route"},
    "route, tau 0.05, all rows": {"method": "route", "route_tau": 0.05, "route_top_k": 0},
    "route, tau 0.03, all rows": {"method": "route", "route_tau": 0.03, "route_top_k": 0},
    "**ensemble**": {"method": "ensemble"},
    "distill": {"method": "distill"},
    "distill without own similarities": {"method": "distill", "own_weight": 0.0},
    "**C-MCR**": {},
    "C-MCR without semantic consistency (overlap pair only)": {"pairing": "none"},
    "C-MCR without completion": {"noise": 0.0},
    "C-MCR without L_avc": {"pseudo_weight": 0.0},
    "C-MCR without L_intra": {"intra_weight": 0.0},
    "switch: squared L_intra": {"intra": "squared"},
    "switch: tau 0.03": {"tau": 0.03},
    "switch: tau 0.1": {"tau": 0.1},
    "switch: tau of the memory 0.03": {"tau_memory": 0.03},
    "switch: pseudo rows normalised before the noise": {"renormalize": True},
    "switch: two BatchNorm passes": {"batch_norm": "separate"},
    "switch: top-10 instead of the full softmax": {"pairing": "topk:10"},
    "switch: top-1": {"pairing": "topk:1"},
    "switch: batch 1024": {"batch_size": 1024},
    "switch: batch 1024, lr 3e-3": {"batch_size": 1024, "lr": 3e-3},
    "switch: Xavier initialisation": {"init": "xavier"},
    "switch: identity initialisation": {"init": "identity"},
    "switch: noise variance 0.001": {"noise": 0.001},
    "switch: noise variance 0.016": {"noise": 0.016},
    "switch: half MLP": {"projector": "half-mlp"},
    "switch: linear projectors": {"projector": "linear"},
}


@dataclass(frozen=True)
class Side:
    """One encoder's part in a connection: memory, test memory, outer modality."""

    memory: Memory
    test: Memory
    outer: Modality


@dataclass(frozen=True)
class Task:
    """A connection to make and the outer pair to test it on."""

    name: str
    a: Side
    b: Side
    via: Modality
    kinds: np.ndarray
    true_pairs: Callable[[int], tuple[np.ndarray, np.ndarray]]


class World:
    """The memories of one seed: unpaired ones to connect, and the held-out scenes seen by every encoder."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.seed = folder, seed
        self.tests = [scene for copy in range(4) for scene in world.test_scenes(1000 * seed + copy)]
        self.per_gallery = len(self.tests) // 4
        memories = folder / "mem"
        write_unpaired(folder, seed, SIZES)
        write_paired(folder / "test", self.tests, 50_000 + 10 * seed)
        texts = ("texts/of-pictures.txt", "texts/of-sounds.txt")
        self.clip = self.embed("tiny-clip", memories / "clip", *texts, "images")
        self.clap = self.embed("tiny-clap", memories / "clap", *texts, "sounds")
        self.ulip = self.embed("tiny-ulip", memories / "ulip", "images", "clouds")
        self.test_clip = self.embed("tiny-clip", memories / "test-clip", "test/texts.jsonl", "test/images")
        self.test_clap = self.embed("tiny-clap", memories / "test-clap", "test/heard.jsonl", "test/sounds")
        self.test_ulip = self.embed("tiny-ulip", memories / "test-ulip", "test/images", "test/clouds")

    def embed(self, encoder: str, memory: Path, *inputs: str) -> Memory:
        """Embed some inputs into one memory."""
        loaded = load_encoder(encoder)
        for source in inputs:
            embed(loaded, read_items(str(self.folder / source), None, loaded.modalities), memory)
        return Memory.open(memory)

    def tasks(self) -> list[Task]:
        """Return the two connections: through text and through images."""
        kinds = np.array([scene.kind for scene in self.tests])
        clip_image, clip_text = (Side(self.clip, self.test_clip, outer) for outer in (IMAGE, TEXT))
        return [
            Task(
                "audio <-> image", clip_image, Side(self.clap, self.test_clap, AUDIO), TEXT, kinds, self.true("sounds")
            ),
            Task(
                "cloud <-> text", clip_text, Side(self.ulip, self.test_ulip, CLOUD), IMAGE, kinds, self.true("clouds")
            ),
        ]

    def true(self, other: str) -> Callable[[int], tuple[np.ndarray, np.ndarray]]:
        """Return what draws true outer pairs of training combinations: for the oracle alone."""

        def pairs(count: int) -> tuple[np.ndarray, np.ndarray]:
            folder = self.folder / "oracle"
            scenes = world.train_scenes(count, 77_000_000 + self.seed)
            if not folder.exists():
                write_paired(folder, scenes, 78_000_000 + self.seed)
            if other == "sounds":
                clip = self.embed("tiny-clip", folder / "clip", "oracle/images")
                clap = self.embed("tiny-clap", folder / "clap", "oracle/sounds")
                return clip.vectors(IMAGE), clap.vectors(AUDIO)
            clip = self.embed("tiny-clip", folder / "clip", "oracle/texts.jsonl")
            ulip = self.embed("tiny-ulip", folder / "ulip", "oracle/clouds")
            return clip.vectors(TEXT), ulip.vectors(CLOUD)

        return pairs


def by_id(memory: Memory, modality: Modality) -> np.ndarray:
    """Return a test memory's rows in the order of their ids."""
    return memory.vectors(modality)[np.argsort(memory.ids(modality))]


def measure(space: ConnectedSpace, task: Task, gallery: int) -> dict[str, float]:
    """Return recalls and kind accuracy of the outer pair (mean of directions and galleries), and the retention."""
    outer = [
        space.project(by_id(side.test, side.outer), encoder=side.test.encoder.name, modality=side.outer)
        for side in (task.a, task.b)
    ]
    found = {f"R@{k}": [] for k in KS} | {"kind": []}
    for start in range(0, len(task.kinds), gallery):
        part = slice(start, start + gallery)
        for x, y in ((outer[0][part], outer[1][part]), (outer[1][part], outer[0][part])):
            rank = ranks(x, y)
            for k in KS:
                found[f"R@{k}"].append(recall_at(rank, k))
            best = cosine(x, y).argmax(axis=1)
            found["kind"].append(float((task.kinds[part][best] == task.kinds[part]).mean()))
    result = {name: float(np.mean(values)) for name, values in found.items()}
    for label, side in (("kept a", task.a), ("kept b", task.b)):
        result[label] = retention(space, side, task.via, gallery)
    return result


def retention(space: ConnectedSpace, side: Side, via: Modality, gallery: int) -> float:
    """Return a source space's own recall@1 (outer <-> overlap) after connecting, as a share of that before."""
    raw = [by_id(side.test, modality) for modality in (side.outer, via)]
    name = side.test.encoder.name
    after = [space.project(x, encoder=name, modality=m) for x, m in zip(raw, (side.outer, via), strict=True)]

    def own(x: np.ndarray, y: np.ndarray) -> float:
        parts = [slice(s, s + gallery) for s in range(0, len(x), gallery)]
        return float(np.mean([recall_at(ranks(q[p], g[p]), 1) for p in parts for q, g in ((x, y), (y, x))]))

    return own(*after) / own(*raw)


def oracle(task: Task, config: ConnectConfig) -> ConnectedSpace:
    """Train the same projectors on true outer pairs of training combinations; selection on held-out ones."""
    x, y = task.true_pairs(TRUE_PAIRS)
    pairs = Pairs(x, y)
    rows = np.random.default_rng(config.seed).permutation(len(pairs))
    held, train = rows[: len(rows) // 20], np.sort(rows[len(rows) // 20 :])
    shown = pairs.take(held)

    def validate(f_a: Projector, f_b: Projector) -> dict[str, float]:
        with torch.inference_mode():
            a, b = f_a.eval()(shown.overlap_a).numpy(), f_b.eval()(shown.overlap_b).numpy()
        return {"selection": (recall_at(ranks(a, b), 1) + recall_at(ranks(b, a), 1)) / 2}

    f_a, f_b, _ = fit(pairs, train, config, validate)
    sides = {side.memory.encoder.name: side.memory for side in (task.a, task.b)}
    encoders = {n: SpaceEncoder(n, m.encoder.fingerprint, m.encoder.dim, m.modalities) for n, m in sides.items()}
    return ConnectedSpace(encoders, dict(zip(encoders, (f_a, f_b), strict=True)), task.via, "oracle")


ORACLES = {
    "oracle (true pairs, the paper's tau)": ConnectConfig(),
    "oracle (true pairs, tau 0.1)": ConnectConfig(tau=0.1),
}


Measured = dict[str, dict[str, dict[str, float]]]
"""By task and method, the named numbers of one seed."""


def run_seed(seed: int, only: str | None) -> Measured:
    """Measure every method on the world of one seed."""
    torch.set_num_threads(1)
    results: Measured = {}
    with tempfile.TemporaryDirectory() as name:
        built = World(Path(name), seed)
        for task in built.tasks():
            found = results.setdefault(task.name, {})
            for method, settings in METHODS.items():
                if only and not re.search(only, method):
                    continue
                out = Path(name) / "spaces" / re.sub(r"\W+", "-", f"{task.name} {method}")
                config = ConnectConfig(seed=seed).replace(**settings)
                space = connect(task.a.memory, task.b.memory, out, config).space
                found[method] = measure(space, task, built.per_gallery) | {"held out": space.metrics["selection"]}
                say(seed, task.name, method, found[method])
            for method, config in ORACLES.items():
                if only and not re.search(only, method):
                    continue
                found[method] = measure(oracle(task, config.replace(seed=seed)), task, built.per_gallery)
                say(seed, task.name, method, found[method])
    return results


def run(seeds: int, only: str | None, jobs: int) -> dict[str, dict[str, list[dict[str, float]]]]:
    """Return, by task and method, one measurement a seed; seeds run side by side, one thread each."""
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        each = list(pool.map(run_seed, range(seeds), [only] * seeds))
    return {task: {method: [one[task][method] for one in each] for method in each[0][task]} for task in each[0]}


def say(seed: int, task: str, method: str, found: dict[str, float]) -> None:
    """Tell a measurement."""
    shown = "  ".join(f"{name} {100 * value:.1f}" for name, value in found.items())
    sys.stderr.write(f"seed {seed}  {task}  {method}: {shown}\n")
    sys.stderr.flush()


def table(results: dict[str, dict[str, list[dict[str, float]]]], task: str, gallery: int) -> str:
    """Return a task's results as a Markdown table, mean and deviation over the seeds in percent."""
    names = [*(f"R@{k}" for k in KS), "kind", "kept a", "kept b", "held out"]
    kinds = len({combo[0] for combo in world.HELD_OUT})
    chance = [f"{100 * chance_recall(gallery, k):.1f}" for k in KS] + [f"{100 / kinds:.1f}", "", "", ""]
    lines = [
        "| method | R@1 | R@5 | R@10 | kind | own recall kept, first space | second space | held-out overlap |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
        f"| chance | {' | '.join(chance)} |",
    ]
    for method, rows in results[task].items():
        shown = [spread([row[name] for row in rows]) if name in rows[0] else "" for name in names]
        lines.append(f"| {method} | {' | '.join(shown)} |")
    return "\n".join(lines)


def spread(values: list[float]) -> str:
    """Return mean and standard deviation in percent."""
    percent = 100 * np.array(values)
    return f"{percent.mean():.1f} ± {percent.std(ddof=1 if len(percent) > 1 else 0):.1f}"


def write(record: dict[str, Any]) -> None:
    """Replace the measured parts of benchmarks/README.md and README.md, and keep the raw numbers beside them."""
    results, seeds, seconds = record["results"], record["seeds"], record["seconds"]
    order = [*METHODS, *ORACLES]
    for task, found in results.items():
        # Rows of a method that is measured no more stay, last.
        results[task] = {method: found[method] for method in sorted(found, key=[*order, *found].index)}
    DATA.write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    gallery, tasks = len(world.HELD_OUT), list(results)
    machine = f"one CPU thread a seed, torch {torch.__version__}, Python {platform.python_version()}"
    memories = ", ".join(f"{count:,} {name}" for name, count in SIZES.items())
    about = (
        f"`make bench-quality`: {seeds} seeds, mean ± standard deviation over the seeds, in percent; "
        f"{seconds / 60:.0f} minutes ({machine}). Gallery of {gallery}: one scene a held-out combination of kind, "
        "count and size; 4 galleries a seed, both directions averaged, ties counted against us. "
        f"Memories: {memories}, all unpaired; the oracle has {TRUE_PAIRS:,} true pairs. *kind*: the best hit is of the "
        "query's kind. *own recall kept*: a source space's own recall@1 (the first's image-text; the second's "
        "audio-text or cloud-image) after connecting, as a share of that before. *held-out overlap*: what `connect` "
        "itself measures and picks checkpoints by, without any outer pair. Raw numbers: [quality.json](quality.json)."
    )
    body = "\n\n".join(f"### {task}\n\n{table(results, task, gallery)}" for task in tasks)
    replace(README, "quality", f"## Quality on the tiny world\n\n{about}\n\n{body}")
    replace(README.parent.parent / "README.md", "results", summary(results, tasks, gallery, seeds))


SUMMARY = {
    "linear on pseudo pairs": "linear (training-free)",
    "route": "route (training-free)",
    "**C-MCR**": "**C-MCR, the paper's values**",
    "switch: tau 0.1": "C-MCR, tau 0.1",
    "**ensemble**": "**ensemble**",
    "distill": "distill",
    "oracle (true pairs, the paper's tau)": "oracle: C-MCR's projectors on 6,000 true pairs",
    "oracle (true pairs, tau 0.1)": "oracle, tau 0.1",
}


def summary(results: dict[str, dict[str, list[dict[str, float]]]], tasks: list[str], gallery: int, seeds: int) -> str:
    """Return the table that opens the README."""
    lines = [
        f"| recall@1, % (gallery {gallery}) | {' | '.join(tasks)} | own recall kept, worst space |",
        "|---|" + "--:|" * (len(tasks) + 1),
        f"| chance | {' | '.join(f'{100 / gallery:.1f}' for _ in tasks)} | |",
    ]
    for method, name in SUMMARY.items():
        if not all(method in results[task] for task in tasks):  # not measured yet
            continue
        runs = [results[task][method] for task in tasks]
        kept = min(100 * float(np.mean([row[side] for row in rows])) for rows in runs for side in ("kept a", "kept b"))
        shown = [spread([row["R@1"] for row in rows]) for rows in runs]
        lines.append(f"| {name} | {' | '.join(shown)} | {kept:.0f} % |")
    about = (
        f"The tiny world, {seeds} seeds, mean ± deviation, both directions; scenes of combinations that nothing was "
        "trained on. `make bench-quality` measures it anew, with ablations: [benchmarks](benchmarks/README.md)."
    )
    return "\n".join(lines) + f"\n\n{about}"


def replace(page: Path, name: str, text: str) -> None:
    """Replace what stands between the two marks ``name`` of a page."""
    old = page.read_text("utf-8")
    marks = f"<!-- {name} -->", f"<!-- /{name} -->"
    page.write_text(
        re.sub(f"{marks[0]}.*{marks[1]}", lambda _: f"{marks[0]}\n{text}\n{marks[1]}", old, flags=re.S), "utf-8"
    )


def main() -> None:
    """Run and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2, help="seeds at once")
    parser.add_argument("--only", help="regular expression of the methods to measure anew; other rows stay as they are")
    options = parser.parse_args()
    old = json.loads(DATA.read_text("utf-8")) if options.only else {"seeds": options.seeds}
    if old["seeds"] != options.seeds:
        parser.error(f"the other rows have {old['seeds']} seeds: add --seeds {old['seeds']}")
    start = time.perf_counter()
    results = run(options.seeds, options.only, options.jobs)
    record = {"seeds": options.seeds, "seconds": time.perf_counter() - start, "results": results}
    if options.only:
        record["seconds"] += old["seconds"]
        record["results"] = {task: old["results"][task] | found for task, found in results.items()}
    write(record)


if __name__ == "__main__":
    main()
