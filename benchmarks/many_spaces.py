"""Three encoders in the space of one that stays, every one-sided method, on the tiny world; two-sided ones apart.

    python benchmarks/many_spaces.py --seeds 5
    python benchmarks/many_spaces.py --seeds 1 --methods one-sided,ex-mcr,decoupled=false --scale 0.25

tiny-clip is the base, tiny-clap comes by text, tiny-ulip by image; sounds and shapes share nothing. Beds of two spaces
are measured by ``beds.py``, which takes the same methods. A row a method: R@1 of pairs that nobody trained on, what
each encoder keeps of its own, and the seconds of each link. A method that moves both spaces (c-mcr,
ensemble) makes a space of each link: sounds and shapes meet nowhere, and of tiny-clip the mean of both is told.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import quality
import torch
from lab_measure import Recipe, names_of, recipe

from cmcr import ConnectedSpace, Memory, Modality
from cmcr.connect import connect
from cmcr.connect.methods import load_method
from cmcr.numbers import ranks, recall_at

TEXT, IMAGE, AUDIO, CLOUD = Modality.TEXT, Modality.IMAGE, Modality.AUDIO, Modality.POINT_CLOUD
METHODS = "linear,route,one-sided,ex-mcr,text-anchor,c-mcr,ensemble"
Seen = tuple[Memory, Modality]


def galleries(x: np.ndarray, y: np.ndarray, size: int) -> float:
    """Return R@1 in percent of rows and their partners, each gallery of one scene a combination, both ways."""
    parts = [slice(start, start + size) for start in range(0, len(x), size)]
    return 100 * float(np.mean([recall_at(ranks(a[p], b[p]), 1) for p in parts for a, b in ((x, y), (y, x))]))


def row(spaces: list[ConnectedSpace], world: quality.World) -> dict[str, float]:
    """Return R@1 of the pairs that meet in a space, and the share of its own that each encoder keeps."""
    clip, clap, ulip = world.test_clip, world.test_clap, world.test_ulip

    def raw(seen: Seen) -> np.ndarray:
        return quality.by_id(*seen)

    def placed(seen: Seen, space: ConnectedSpace) -> np.ndarray:
        return space.project(raw(seen), encoder=seen[0].encoder.name, modality=seen[1])

    def met(a: Seen, b: Seen) -> float:
        """Return R@1 of two modalities, a mean over the spaces that hold both; nan where none does."""
        names = {a[0].encoder.name, b[0].encoder.name}
        both = [space for space in spaces if names <= set(space.encoders)]
        found = [galleries(placed(a, space), placed(b, space), world.per_gallery) for space in both]
        return float(np.mean(found)) if found else float("nan")

    pairs = {
        "sound-picture": ((clap, AUDIO), (clip, IMAGE)),
        "shape-text": ((ulip, CLOUD), (clip, TEXT)),
        "sound-shape": ((clap, AUDIO), (ulip, CLOUD)),
    }
    own = {
        "clip keeps": ((clip, TEXT), (clip, IMAGE)),
        "clap keeps": ((clap, TEXT), (clap, AUDIO)),
        "ulip keeps": ((ulip, IMAGE), (ulip, CLOUD)),
    }
    found = {name: met(a, b) for name, (a, b) in pairs.items()}
    kept = {name: 100 * met(a, b) / galleries(raw(a), raw(b), world.per_gallery) for name, (a, b) in own.items()}
    return found | kept


def measure(world: quality.World, asked: Recipe, seed: int, folder: Path) -> dict[str, float]:
    """Connect all three by one recipe, or the base with each where both move; return its row, with a link's seconds."""
    config = asked.config.replace(seed=seed)
    start = time.perf_counter()
    if load_method(config.method).one_sided:
        spaces = [connect(world.clip, world.clap, world.ulip, out=folder, config=config).space]
    else:
        leaves = (world.clap, world.ulip)
        spaces = [connect(world.clip, leaf, out=folder / leaf.encoder.name, config=config).space for leaf in leaves]
    seconds = (time.perf_counter() - start) / 2
    return row(spaces, world) | {"s a link": seconds}


def table(found: dict[str, list[dict[str, float]]]) -> str:
    """Return a markdown table: mean and deviation over the seeds."""
    names = list(next(iter(found.values()))[0])
    lines = ["| method | " + " | ".join(names) + " |", "|---|" + "--:|" * len(names)]
    for method, rows in found.items():
        cells = [[each[name] for each in rows] for name in names]
        told = ["" if np.isnan(c).any() else f"{np.mean(c):.1f} ± {np.std(c):.1f}" for c in cells]
        lines.append(f"| {method} | " + " | ".join(told) + " |")
    return "\n".join(lines)


def main() -> int:
    """Measure, a line of JSON a run on stderr, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--methods", default=METHODS, help="recipes as beds.py takes them; default: %(default)s")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the memories' rows")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    quality.SIZES.update({name: max(300, int(count * asked.scale)) for name, count in quality.SIZES.items()})
    recipes = [recipe(name) for name in names_of(asked.methods)]
    found: dict[str, list[dict[str, float]]] = {each.name: [] for each in recipes}
    for seed in range(asked.first, asked.first + asked.seeds):
        with tempfile.TemporaryDirectory() as scratch:
            world = quality.World(Path(scratch), seed)
            for number, each in enumerate(recipes):
                found[each.name].append(measure(world, each, seed, Path(scratch) / f"space{number}"))
                told = {"seed": seed, "method": each.name} | found[each.name][-1]
                sys.stderr.write(json.dumps(told) + "\n")
                sys.stderr.flush()
    print(table({name: rows for name, rows in found.items() if rows}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
