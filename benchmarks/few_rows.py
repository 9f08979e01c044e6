"""How few rows connect two memories? Every method on small parts of the tiny world: the table in docs/methods.md.

    python benchmarks/few_rows.py             # or: --seeds 5 --counts 18 40

Each seed draws its own captions and unpaired memories. *test* asks sounds and pictures of combinations that nothing
was trained on for each other; *own texts* asks the captions the space was made from for themselves, from one
encoder's vectors to the other's: what a space must at least know.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from cmcr import ConnectConfig, ConnectedSpace, Memory, Modality, load_encoder
from cmcr.connect import connect
from cmcr.embed import embed
from cmcr.items import read_items
from cmcr.memory import EncoderInfo, MemoryWriter
from cmcr.numbers import chance_recall, ranks, recall_at
from cmcr.tiny import world
from cmcr.tiny.folders import write_paired, write_unpaired

TEXT, IMAGE, AUDIO = Modality.TEXT, Modality.IMAGE, Modality.AUDIO
OUTER = {"tiny-clip": IMAGE, "tiny-clap": AUDIO}
COUNTS, MEMORIES = (18, 40, 64, 100, 200, 500), (100, 1000)
METHODS = ("c-mcr", "distill", "linear", "route", "auto")
POOL = 1200
"""Captions, pictures and sounds embedded once, from which each seed draws."""


def built(folder: Path) -> dict[str, Memory]:
    """Embed the pool and the test set once; by name, the memories."""
    write_unpaired(folder, 0, {"texts": POOL, "images": POOL, "sounds": POOL, "clouds": 0})
    write_paired(folder / "test", [s for copy in range(2) for s in world.test_scenes(copy)], 50_000)
    inputs = {
        "tiny-clip": ["texts/of-pictures.txt", "texts/of-sounds.txt", "images"],
        "tiny-clap": ["texts/of-pictures.txt", "texts/of-sounds.txt", "sounds"],
        "test tiny-clip": ["test/images"],
        "test tiny-clap": ["test/sounds"],
    }
    memories = {}
    for name, sources in inputs.items():
        encoder = load_encoder(name.removeprefix("test "))
        for source in sources:
            embed(encoder, read_items(str(folder / source), None, encoder.modalities), folder / "mem" / name)
        memories[name] = Memory.open(folder / "mem" / name)
    return memories


def part(memory: Memory, captions: list[str], rows: int, rng: np.random.Generator, path: Path) -> Memory:
    """Write a memory of some captions and of so many outer rows, drawn at random."""
    info = memory.encoder
    with MemoryWriter(path, EncoderInfo(info.name, info.fingerprint, info.dim)) as writer:
        number = {row: n for n, row in enumerate(memory.ids(TEXT))}
        outer = OUTER[info.name]
        for modality, chosen in (
            (TEXT, np.array([number[caption] for caption in captions])),
            (outer, rng.choice(memory.rows(outer), rows, replace=False)),
        ):
            known = list(memory.metadata(modality))
            writer.append(modality, memory.vectors(modality, chosen), [known[int(n)] for n in chosen])
    return Memory.open(path)


def both_ways(x: np.ndarray, y: np.ndarray, *ks: int) -> list[float]:
    """Return recalls at ``ks``, the mean of both directions, in percent."""
    found = ranks(x, y), ranks(y, x)
    return [100 * float(np.mean([recall_at(each, k) for each in found])) for k in ks]


def measured(space: ConnectedSpace, tests: dict[str, Memory], sides: list[Memory]) -> list[float]:
    """Return R@1 and R@10 of the test set and R@1 of the space's own texts."""
    outer, texts = [], []
    for memory in sides:
        name = memory.encoder.name
        test = tests[f"test {name}"]
        order = np.argsort(test.ids(OUTER[name]))
        rows = test.vectors(OUTER[name])[order]
        outer.append(space.project(rows, encoder=name, modality=OUTER[name]))
        texts.append(space.project(memory.vectors(TEXT), encoder=name, modality=TEXT))
    half = len(outer[0]) // 2  # two galleries, each of one scene a combination
    parts = [both_ways(outer[0][s], outer[1][s], 1, 10) for s in (slice(0, half), slice(half, None))]
    return [*np.mean(parts, axis=0), *both_ways(texts[0], texts[1], 1)]


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS, help="overlap captions")
    parser.add_argument("--memories", type=int, nargs="+", default=MEMORIES, help="rows of each memory")
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--epochs", type=int, help="instead of the methods' own")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    out = sys.stdout
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        memories = built(folder)
        gallery = memories["test tiny-clip"].rows(IMAGE) // 2
        chance = ", ".join(f"{100 * chance_recall(gallery, k):.1f}" for k in (1, 10))
        out.write(f"test gallery {gallery}: chance {chance}; {asked.seeds} seeds, mean ± deviation, percent\n\n")
        out.write("| overlap | memories | method | test R@1 | test R@10 | own texts R@1 (chance) | auto took |\n")
        out.write("|--:|--:|---|--:|--:|--:|---|\n")
        for rows in asked.memories:
            for count in asked.counts:
                for method in asked.methods:
                    found, took = [], []
                    for seed in range(asked.seeds):
                        rng = np.random.default_rng([seed, count, rows])
                        captions = [str(c) for c in rng.choice(memories["tiny-clip"].ids(TEXT), count, replace=False)]
                        at = folder / f"{rows}-{count}-{seed}"
                        sides = [
                            Memory.open(at / encoder)
                            if (at / encoder).exists()
                            else part(memories[encoder], captions, rows, rng, at / encoder)
                            for encoder in OUTER
                        ]
                        config = ConnectConfig(seed=seed).replace(method=method)
                        config = config.replace(epochs=asked.epochs) if asked.epochs else config
                        space = connect(*sides, at / method, config).space
                        found.append(measured(space, memories, sides))
                        took.append(space.method)
                    mean, deviation = np.mean(found, axis=0), np.std(found, axis=0, ddof=min(1, asked.seeds - 1))
                    cells = [f"{m:.1f} ± {d:.1f}" for m, d in zip(mean, deviation, strict=True)]
                    chosen = ", ".join(took) if method == "auto" else ""
                    cells = [f"{count}", f"{rows:,}", method, *cells[:2], f"{cells[2]} ({100 / count:.1f})", chosen]
                    out.write(f"| {' | '.join(cells)} |\n")
                    out.flush()


if __name__ == "__main__":
    main()
