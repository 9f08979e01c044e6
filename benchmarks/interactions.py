"""Interactions on the tiny world, where it is known who shows what: the table of docs/interactions.md.

python benchmarks/interactions.py FOLDER [--rows 700] [--seeds 5]

Each seed draws scenes of its own, in combinations that the towers know, and writes FOLDER/SEED: files, memories of
tiny-clip's pictures and tiny-clap's sounds, the result and its page. Settings are the defaults but for the number of
shuffles and draws; nothing is chosen by these numbers.

Kind, count and size are seen and heard; colour is only seen, rhythm only heard. A scene "agrees" where a warm colour
meets a lively rhythm, or a cold one a calm rhythm: an exclusive or of what is seen and what is heard. "warm and lively"
holds where both do. "nothing" is drawn at random. What is expected is computed from the attributes themselves.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, pstdev

import numpy as np

from cmcr import embed_items
from cmcr.datasets import ClassList
from cmcr.encoders import load_encoder
from cmcr.evaluate.interactions.choices import InteractionChoices
from cmcr.evaluate.interactions.interactions import InteractionsResult, evaluate
from cmcr.evaluate.interactions.page import interactions_page
from cmcr.files import write_text
from cmcr.items import ById, read_items
from cmcr.memory import Memory
from cmcr.modality import Modality
from cmcr.numbers.decomposition import decompose, entropy
from cmcr.tiny.scene import Scene
from cmcr.tiny.world import train_scenes, write_images, write_sounds

SCENES = 11_000_000
"""Where the seeds of the scenes begin, far from those that towers were trained on."""
WARM, LIVELY = ("red", "orange", "yellow", "white"), ("hurried", "trembling")
Seen = Callable[[Scene], object]


def warm(scene: Scene) -> bool:
    return scene.colour in WARM


def lively(scene: Scene) -> bool:
    return scene.rhythm in LIVELY


LABELS: dict[str, tuple[Seen, Seen, Seen]] = {
    "kind": (lambda s: s.kind, lambda s: s.kind, lambda s: s.kind),
    "count": (lambda s: s.count, lambda s: s.count, lambda s: s.count),
    "colour": (lambda s: s.colour, lambda s: s.rhythm, lambda s: s.colour),
    "rhythm": (lambda s: s.colour, lambda s: s.rhythm, lambda s: s.rhythm),
    "agrees": (warm, lively, lambda s: warm(s) == lively(s)),
    "warm and lively": (warm, lively, lambda s: warm(s) and lively(s)),
}
"""By label: what of it a picture shows, what a sound shows, and the label."""


def prepare(folder: Path, rows: int, seed: int) -> list[Scene]:
    """Write files and memories where they are not there, and return the scenes."""
    scenes = train_scenes(rows, SCENES + seed)
    for files, write, encoder, modality in (
        ("images", write_images, "tiny-clip", Modality.IMAGE),
        ("sounds", write_sounds, "tiny-clap", Modality.AUDIO),
    ):
        if not (folder / "mem" / encoder).exists():
            write(folder / files, scenes, SCENES + seed)
            items = read_items(str(folder / files), modality, [modality])
            embed_items(load_encoder(encoder), items, folder / "mem" / encoder)
    return scenes


def expected(scenes: Sequence[Scene], label: str) -> dict[str, float]:
    """Return the shares that the attributes themselves have, in these scenes."""
    rows = [[str(of(scene)) for of in LABELS[label]] for scene in scenes]
    codes = [np.unique(column, return_inverse=True)[1] for column in zip(*rows, strict=True)]
    p = np.zeros([code.max() + 1 for code in codes])
    np.add.at(p, tuple(codes), 1 / len(rows))
    need = entropy(p.sum(axis=(0, 1)))
    return {part: bits / need for part, bits in decompose(p)._asdict().items()}


def measure(folder: Path, scenes: Sequence[Scene], seed: int) -> InteractionsResult:
    """Measure all labels in one world."""
    random = np.random.default_rng([seed, 7]).integers(2, size=len(scenes))
    values = {name: [str(of[2](scene)) for scene in scenes] for name, of in LABELS.items()}
    values["nothing"] = [str(value) for value in random]
    ids = [f"{number:05d}" for number in range(len(scenes))]
    known = {name: ById(dict(zip(ids, each, strict=True)), name) for name, each in values.items()}
    labels = {name: ClassList(each, None, "scenes") for name, each in known.items()}
    sides = [(Memory.open(folder / "mem/tiny-clip"), "image"), (Memory.open(folder / "mem/tiny-clap"), "audio")]
    result = evaluate(sides, labels, InteractionChoices(shuffles=2, samples=20, seed=seed))
    result.save(folder / "result.json")
    write_text(folder / "index.html", interactions_page(result))
    return result


def show(results: Sequence[InteractionsResult], known: Sequence[Mapping[str, Mapping[str, float]]]) -> None:
    """Print the tables in Markdown: percent, mean and deviation over the seeds."""
    parts = ["shared", "first", "second", "together", "not found"]
    print(f"\n| label | bits | {' | '.join(parts)} | with shuffled labels, found at most |\n|---|{'--:|' * 7}")
    for name in results[0].labels:
        found = [result.labels[name] for result in results]
        if name in known[0]:
            cells = [f"{100 * fmean(each[name][part] for each in known):.0f}" for part in parts[:-1]]
            print(f"| {name}: attributes | | {' | '.join(cells)} | | |")
        shares = [[100 * each.shares[part] for each in found] for part in parts]
        cells = [f"{fmean(v):.1f} ± {pstdev(v):.1f}" for v in shares]
        most = max(value for each in found for part, value in each.floor.items() if part != "not found")
        print(f"| {name} | {fmean(f.bits for f in found):.2f} | {' | '.join(cells)} | {100 * most:.1f} |")
    names = ["chance", "first", "second", "both", "all"]
    print(f"\n| accuracy | {' | '.join(names)} |\n|---|{'--:|' * 5}")
    for name in results[0].labels:
        hits = [[100 * result.labels[name].accuracy[each] for result in results] for each in names]
        print(f"| {name} | {' | '.join(f'{fmean(v):.1f} ± {pstdev(v):.1f}' for v in hits)} |")
    print(f"\n| Gaussian, bits | {' | '.join(parts[:-1])} |\n|---|{'--:|' * 4}")
    for name in results[0].labels:
        bits = [[result.labels[name].gaussian[part] for result in results] for part in parts[:-1]]
        print(f"| {name} | {' | '.join(f'{fmean(v):.2f} ± {pstdev(v):.2f}' for v in bits)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=700)
    parser.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args()
    results, known = [], []
    for seed in range(given.seeds):
        folder = given.folder / str(seed)
        scenes = prepare(folder, given.rows, seed)
        known.append({name: expected(scenes, name) for name in LABELS})
        results.append(measure(folder, scenes, seed))
        print(f"seed {seed}: {results[-1].seconds:.0f} s", flush=True)
    show(results, known)


if __name__ == "__main__":
    main()
