"""What a fused vector keeps of frozen memories of the tiny world: the second table of docs/fuse.md.

python benchmarks/fuse.py FOLDER [--rows 900] [--seeds 5] [--epochs 50] [--views 3] [--only comm cross]

Each result is a line of FOLDER/results.jsonl; what is there is not made again.

Scenes of combinations that the towers know, drawn by a seed of their own, are drawn and sounded, and embedded once into
FOLDER, with views. ``cmcr fuse`` learns from two thirds of the rows without labels; linear probes learn from the same
rows and are measured on the others. Asked are the kind (both tell it), the colour (pictures alone), the rhythm (sounds
alone), and agreement: whether the colour is one of the first four just where the rhythm is one of the first two, of
four; neither alone tells anything of it, nor does any sum over the two. Settings are the defaults, none of them chosen
by these numbers.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from cmcr import embed_items
from cmcr.encoders import load_encoder
from cmcr.fuse import Fuser, FuseSettings, Rows, join_rows
from cmcr.fuse.train import train
from cmcr.items import read_items
from cmcr.memory import Memory, ViewSpec
from cmcr.modality import Modality
from cmcr.tiny.folders import read_scenes, write_paired
from cmcr.tiny.world import COLOURS, RHYTHMS, train_scenes

SCENES = 9_100_000
"""Seed of the scenes, far from those that towers were trained on."""
SIDES = {"image": ("images", "tiny-clip"), "audio": ("sounds", "tiny-clap")}
METHODS = {
    "comm": {},
    "comm, noise for views": {"views": "noise"},
    "comm without unimodal terms": {"unimodal": False},
    "comm, unimodal terms alone": {"fused": False},
    "cross": {"objective": "cross"},
    "cross-self": {"objective": "cross-self"},
    "concatenation": {"objective": "concatenation"},
    "comm, untrained": {},
}
ASKED = ("kind", "colour", "rhythm", "agreement")
CHANCE = {"kind": 1 / 32, "colour": 1 / 8, "rhythm": 1 / 5, "agreement": 1 / 2}
OPEN = -1
"""The agreement of a row that is not asked for it: there are five rhythms, and the last is left out."""
COSTS = (0.001, 0.01, 0.1, 1.0)


def prepare(folder: Path, rows: int, views: int) -> Rows:
    """Write scenes and their memories, where they are not there, and join them."""
    if not (folder / "scenes.jsonl").exists():
        write_paired(folder, train_scenes(rows, SCENES), SCENES)
    sides = []
    for modality, (files, encoder) in SIDES.items():
        items = read_items(str(folder / files), Modality(modality), [Modality(modality)])
        embed_items(load_encoder(encoder), items, folder / "mem" / encoder, views=ViewSpec(views))
        sides.append((Memory.open(folder / "mem" / encoder), modality))
    return join_rows(sides)


def labels_of(folder: Path, ids: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Return what is asked of each row."""
    scenes = read_scenes(folder)
    found = {asked: np.array([getattr(scenes[name], asked) for name in ids]) for asked in ASKED[:3]}
    halves = [(COLOURS.index(scenes[name].colour) < 4, RHYTHMS.index(scenes[name].rhythm) // 2) for name in ids]
    found["agreement"] = np.array([OPEN if rhythm > 1 else int(colour == (rhythm == 0)) for colour, rhythm in halves])
    return found


def probe(x: np.ndarray, y: np.ndarray, tested: np.ndarray, truth: np.ndarray) -> float:
    """Return the accuracy of a linear probe, its cost chosen on 40 % of the rows it learns from."""
    scaler, cut = StandardScaler().fit(x), int(0.6 * len(x))
    x, tested = scaler.transform(x), scaler.transform(tested)
    scores = [LogisticRegression(C=c, max_iter=300).fit(x[:cut], y[:cut]).score(x[cut:], y[cut:]) for c in COSTS]
    best = LogisticRegression(C=COSTS[int(np.argmax(scores))], max_iter=300).fit(x, y)
    return float(best.score(tested, truth))


def asked_of(x: np.ndarray, labels: np.ndarray, seen: np.ndarray, held: np.ndarray) -> float:
    """Return what a probe of these labels reaches on the rows held out."""
    if labels.dtype.kind == "i":
        seen, held = seen[labels[seen] != OPEN], held[labels[held] != OPEN]
    return probe(x[seen], labels[seen], x[held], labels[held])


def vectors_of(name: str, learnt: Rows, rows: Rows, settings: FuseSettings) -> np.ndarray:
    """Return what a method makes of all rows: of ``image`` and ``audio``, their own vectors."""
    table = rows.table
    if name in SIDES:
        return table.vectors[list(SIDES).index(name)]
    network = None
    if name.endswith("untrained"):
        network, _ = train(learnt, replace(settings, lr=1e-12, epochs=1))
    elif settings.objective != "concatenation":
        network, _ = train(learnt, settings)
    return Fuser(table.channels, settings, network).fuse(table)


def show(path: Path) -> None:
    """Print the table of what is there, in Markdown."""
    print(f"| method | seeds | {' | '.join(ASKED)} |\n|---|--:|{'--:|' * len(ASKED)}")
    print(f"| chance | | {' | '.join(f'{100 * CHANCE[asked]:.1f}' for asked in ASKED)} |")
    records = [json.loads(line) for line in path.read_text().splitlines()]
    for name in [*SIDES, *METHODS]:
        found = [[100 * each[asked] for asked in ASKED] for each in records if each["method"] == name]
        if found:
            pairs = zip(np.mean(found, axis=0), np.std(found, axis=0), strict=True)
            print(f"| {name} | {len(found)} | {' | '.join(f'{mean:.1f} ± {off:.1f}' for mean, off in pairs)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=900)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=FuseSettings().epochs)
    parser.add_argument("--views", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=[*SIDES, *METHODS], default=[*SIDES, *METHODS])
    given = parser.parse_args()
    rows = prepare(given.folder / "world", given.rows, given.views)
    labels = labels_of(given.folder / "world", rows.table.ids)
    path = given.folder / "results.jsonl"
    done = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    for seed in range(given.seeds):
        order = np.random.default_rng([seed, 8]).permutation(len(rows.table))
        seen, held = order[: 2 * len(order) // 3], order[2 * len(order) // 3 :]
        for name in given.only:
            if any((each["method"], each["seed"]) == (name, seed) for each in done):
                continue
            settings = FuseSettings(epochs=given.epochs, seed=seed, **METHODS.get(name, {}))
            x = vectors_of(name, rows.take(seen), rows, settings)
            found = {asked: asked_of(x, labels[asked], seen, held) for asked in ASKED}
            with path.open("a") as file:
                file.write(json.dumps({"method": name, "seed": seed, **found}) + "\n")
    show(path)


if __name__ == "__main__":
    main()
