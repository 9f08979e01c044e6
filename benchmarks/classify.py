"""Classification with missing modalities on the tiny world: the tables of docs/classify.md.

python benchmarks/classify.py FOLDER [--rows 900] [--seeds 5] [--only kind] [--missing 0 30]

Writes FOLDER/count, FOLDER/size and FOLDER/kind, each a result and its page, and prints the tables.

Scenes of combinations that the towers know, drawn by a seed of their own, are embedded once into FOLDER. What is asked
is the count and the size (pictures and sounds) and the kind (clouds, pictures and sounds); vectors get noise, as much
as NOISE says, so that none is perfect and one is ahead. Nothing is chosen by these numbers: settings are the defaults.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from cmcr import embed_items
from cmcr.classify import ClassifySettings, Table, join_table
from cmcr.encoders import load_encoder
from cmcr.evaluate.classify.choices import MissingChoices
from cmcr.evaluate.classify.missing import MissingResult, evaluate
from cmcr.evaluate.classify.page import classify_page
from cmcr.files import write_text
from cmcr.items import read_items
from cmcr.memory import Memory
from cmcr.modality import Modality
from cmcr.tiny.folders import read_scenes, write_paired
from cmcr.tiny.world import train_scenes

SCENES = 9_000_000
"""Seed of the scenes, far from those that towers were trained on."""
SIDES = {"image": ("images", "tiny-clip"), "audio": ("sounds", "tiny-clap"), "point_cloud": ("clouds", "tiny-ulip")}
NOISE = {
    "count": {"image": 0.5, "audio": 1.0},
    "size": {"audio": 1.0, "image": 1.5},
    "kind": {"point_cloud": 0.75, "image": 1.5, "audio": 1.5},
}
"""Length of the noise over that of the vector, for each modality, the dominant one first."""
SHARES = {"count": [0, 10, 20, 30, 40, 50], "size": [0, 10, 20, 30, 40, 50], "kind": [0, 10, 20, 30, 40, 50, 60]}
"""Every row keeps one modality: of two, half is the most that can be missing, of three two thirds."""


def prepare(folder: Path, rows: int) -> None:
    """Write scenes and their memories, where they are not there."""
    if not (folder / "scenes.jsonl").exists():
        write_paired(folder, train_scenes(rows, SCENES), SCENES)
    for modality, (files, encoder) in SIDES.items():
        items = read_items(str(folder / files), Modality(modality), [Modality(modality)])
        embed_items(load_encoder(encoder), items, folder / "mem" / encoder)


def table_of(folder: Path, asked: str) -> Table:
    """Return what is asked of the scenes, from vectors with noise."""
    labels = {name: str(getattr(scene, asked)) for name, scene in read_scenes(folder).items()}
    sides = [(Memory.open(folder / "mem" / SIDES[name][1]), name) for name in NOISE[asked]]
    table, rng, vectors = join_table(sides, labels), np.random.default_rng(0), []
    for x, size in zip(table.vectors, NOISE[asked].values(), strict=True):
        noisy = x + size * rng.normal(size=x.shape) / x.shape[1] ** 0.5
        vectors.append((noisy / np.linalg.norm(noisy, axis=1, keepdims=True)).astype(np.float32))
    return replace(table, vectors=tuple(vectors))


def show(result: MissingResult) -> None:
    """Print the tables in Markdown."""
    shares = result.settings["missing"]
    print(f"\n| method | {' | '.join(f'{share} %' for share in shares)} | ECE |\n|---|{'--:|' * (len(shares) + 1)}")
    for name, curve in result.curves.items():
        cells = [f"{100 * at['accuracy']:.1f} ± {100 * at['deviation']:.1f}" for at in curve]
        print(f"| {name} | {' | '.join(cells)} | {curve[0]['ECE']:.3f} |")
    for title, values in (("forgetting", result.forgotten), ("gap", result.gaps)):
        names = list(next(iter(values.values())))
        print(f"\n| {title} | {' | '.join(names)} |\n|---|{'--:|' * len(names)}")
        for name, row in values.items():
            print(f"| {name} | {' | '.join(f'{value:.3f}' for value in row.values())} |")
    print(f"\n{result.n} rows of {result.gallery} classes, {result.seconds:.0f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=900)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", choices=[*SHARES], help="one of the three")
    parser.add_argument("--missing", type=int, nargs="+", help="percentages; default: those of SHARES")
    given = parser.parse_args()
    prepare(given.folder / "world", given.rows)
    for asked in [given.only] if given.only else SHARES:
        choices = MissingChoices(seeds=given.seeds, missing=given.missing or SHARES[asked])
        result = evaluate(table_of(given.folder / "world", asked), ClassifySettings(), choices)
        result.save(given.folder / asked / "result.json")
        write_text(given.folder / asked / "index.html", classify_page(result))
        print(f"\n## {asked}", flush=True)
        show(result)


if __name__ == "__main__":
    main()
