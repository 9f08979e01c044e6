"""What moving an archive to another encoder costs, against embedding it anew: the tables of docs/translate.md.

python benchmarks/translate.py WORK [--bed FOLDER ...] [--tiny] [--method linear] [--seeds 5] [--sizes 100 1000 5000]

A bed is a folder of vectors as benchmarks/lab_bed.py tells. Its texts were embedded by two encoders: the right one is
the old, whose vectors are the archive; the left one is the new. ``--tiny`` makes another of the tiny world: the archive
are pictures as tiny-ulip sees them, the new encoder is tiny-clip.

A seed draws an archive of GALLERY items (2,000 of the tiny world), the sample that both encoders embed, and ASKING
others, whose new vectors ask. Measured:

- *own item*: an archived item's own new vector asks the translated archive; recall of that item.
- *neighbours*: new vectors of other items ask; the share of the ten nearest of the archive embedded anew that are among
  the ten nearest of the translated one. Beside it, what the old encoder finds when it asks its own archive.
- *outer*: the bed's true pairs of the other modality of the new encoder (for the tiny world captions of its 96 held-out
  scenes) ask for their item and the other way round, mean of both; with items embedded anew, and translated.

Expected before the first run: neighbours follow own items but lower; at 5,000 rows nine of ten own items come first on
the beds and the outer recall loses under five points; at 100 rows both are useless.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, pstdev

import numpy as np

from cmcr import ArrayMemory, ConnectConfig, Memory, Modality, connect_memories, embed_items, translate_memory
from cmcr.encoders import load_encoder
from cmcr.items import read_items
from cmcr.numbers.retrieval import ranks, recall_at
from cmcr.tiny.folders import write_paired
from cmcr.tiny.world import test_scenes, train_scenes

GALLERY, ASKING, LARGEST, NEAREST = 4000, 500, 5000, 10
TINY = 7500
SCENES = 8_000_000
"""Seed of the scenes, far from those that towers were trained on."""


@dataclass(frozen=True)
class Archive:
    """Unit vectors of the same items by the old and the new encoder, and true pairs of the new one's other modality.

    ``asks`` (P, D) are of the other modality, by the new encoder; ``answers`` the items of the pairs by old and new.
    """

    name: str
    old: np.ndarray
    new: np.ndarray
    asks: np.ndarray
    answers: tuple[np.ndarray, np.ndarray]


def unit(x: np.ndarray) -> np.ndarray:
    x = np.asarray(x, np.float32)
    lengths: np.ndarray = np.linalg.norm(x, axis=1, keepdims=True)
    return np.asarray(x / lengths)


def of_bed(folder: Path) -> Archive:
    read = {name: unit(np.load(folder / f"{name}.npy")) for name in (
        "text_left", "text_right", "eval_left", "eval_text_left", "eval_text_right")}  # fmt: skip
    answers = read["eval_text_right"], read["eval_text_left"]
    return Archive(folder.name, read["text_right"], read["text_left"], read["eval_left"], answers)


def of_tiny(work: Path) -> Archive:
    """Return pictures of the tiny world by two of its towers; captions of held-out scenes ask."""
    seen: dict[str, np.ndarray] = {}
    for part, scenes in (("many", train_scenes(TINY, SCENES)), ("pairs", test_scenes(SCENES))):
        folder = work / "tiny" / part
        if not (folder / "scenes.jsonl").exists():
            write_paired(folder, scenes, SCENES)
        for encoder in ("tiny-ulip", "tiny-clip"):
            items = read_items(str(folder / "images"), Modality.IMAGE, [Modality.IMAGE])
            embed_items(load_encoder(encoder), items, folder / encoder)
            memory = Memory.open(folder / encoder)
            order = np.argsort(memory.ids(Modality.IMAGE))
            seen[f"{part} {encoder}"] = memory.vectors(Modality.IMAGE)[order]
    texts = read_items(str(work / "tiny/pairs/texts.jsonl"), Modality.TEXT, [Modality.TEXT])
    embed_items(load_encoder("tiny-clip"), texts, work / "tiny/pairs/asks")
    asks = Memory.open(work / "tiny/pairs/asks")
    told = asks.vectors(Modality.TEXT)[np.argsort(asks.ids(Modality.TEXT))]
    answers = seen["pairs tiny-ulip"], seen["pairs tiny-clip"]
    return Archive("tiny world, pictures", seen["many tiny-ulip"], seen["many tiny-clip"], told, answers)


def nearest(queries: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    return np.argsort(-(queries @ gallery.T), axis=1, kind="stable")[:, :NEAREST]


def shared(found: np.ndarray, truth: np.ndarray) -> float:
    return fmean(len(set(a) & set(b)) / NEAREST for a, b in zip(found.tolist(), truth.tolist(), strict=True))


def both_ways(asks: np.ndarray, answers: np.ndarray, k: int) -> float:
    return fmean(recall_at(rank, k) for rank in (ranks(asks, answers), ranks(answers, asks)))


def translated(archive: Archive, sample: np.ndarray, parts: list[np.ndarray], method: str, work: Path) -> np.ndarray:
    """Return what ``cmcr connect`` and ``cmcr translate`` make of old vectors, by a sample of rows."""
    old = ArrayMemory("old", {"image": np.concatenate([archive.old[sample], *parts])})
    new = ArrayMemory("new", {"image": archive.new[sample]})
    shutil.rmtree(work, ignore_errors=True)
    made = connect_memories(new, old, out=work / "space", config=ConnectConfig(method), freeze_base=True)
    translate_memory(old, made.space, work / "moved")
    return Memory.open(work / "moved").vectors(Modality.IMAGE)[len(sample) :]


def measured(archive: Archive, size: int, seed: int, method: str, work: Path) -> dict[str, float]:
    order = np.random.default_rng([seed, 17]).permutation(len(archive.old))
    rows = min(GALLERY, len(order) - ASKING - LARGEST)  # the same archive whatever the sample
    kept, asking, sample = np.split(order[: rows + ASKING + size], [rows, rows + ASKING])
    moved = translated(archive, sample, [archive.old[kept], archive.answers[0]], method, work)
    gallery, answers = moved[:rows], moved[rows:]
    own = ranks(archive.new[kept], gallery)
    truth = nearest(archive.new[asking], archive.new[kept])
    return {
        "own R@1": recall_at(own, 1),
        "own R@10": recall_at(own, 10),
        "cosine": float((archive.new[kept] * gallery).sum(axis=1).mean()),
        "neighbours": shared(nearest(archive.new[asking], gallery), truth),
        "old neighbours": shared(nearest(archive.old[asking], archive.old[kept]), truth),
        **{f"outer R@{k}": both_ways(archive.asks, answers, k) for k in (1, 10)},
        **{f"outer anew R@{k}": both_ways(archive.asks, archive.answers[1], k) for k in (1, 10)},
    }


def archives(given: argparse.Namespace) -> Iterator[Archive]:
    yield from map(of_bed, given.bed)
    if given.tiny:
        yield of_tiny(given.work)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--bed", type=Path, nargs="*", default=[])
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--method", default="linear")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 1000, 5000])
    given = parser.parse_args()
    for archive in archives(given):
        for size in given.sizes:
            runs = [measured(archive, size, seed, given.method, given.work / "run") for seed in range(given.seeds)]
            told = {key: [fmean(run[key] for run in runs), pstdev([run[key] for run in runs])] for key in runs[0]}
            with (given.work / "translate.jsonl").open("a") as file:
                file.write(json.dumps({"archive": archive.name, "method": given.method, "rows": size, **told}) + "\n")
            cells = [f"{key} {100 * mean:.1f} ± {100 * spread:.1f}" for key, (mean, spread) in told.items()]
            print(f"{archive.name}, {given.method}, {size} rows: {', '.join(cells)}", flush=True)


if __name__ == "__main__":
    main()
