"""The tiny world as folders of a user's: unpaired files to connect by, and a paired test set."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from cmcr.files import write_text
from cmcr.tiny import world

UNPAIRED = 1_000_000
"""Where the seeds of unpaired scenes begin, far from those of the towers' training."""


def write_unpaired(folder: Path, seed: int, sizes: Mapping[str, int]) -> None:
    """Write so many texts, images, sounds and clouds, each of scenes of its own: nothing here is a pair."""
    drawn = {name: world.train_scenes(count, UNPAIRED + 10 * seed + n) for n, (name, count) in enumerate(sizes.items())}
    texts, seen = drawn["texts"], sizes["texts"] // 2
    world.write_captions(folder / "texts" / "of-pictures.txt", texts[:seen], seed, world.picture_caption)
    world.write_captions(folder / "texts" / "of-sounds.txt", texts[seen:], seed, world.sound_caption)
    world.write_images(folder / "images", drawn["images"], seed)
    world.write_sounds(folder / "sounds", drawn["sounds"], seed)
    world.write_clouds(folder / "clouds", drawn["clouds"], seed)


def write_paired(folder: Path, scenes: Sequence[world.Scene], seed: int) -> None:
    """Write the same scenes in every modality, joined by id, with captions that leave nothing out: a test set."""
    world.write_images(folder / "images", scenes, seed + 1)
    world.write_sounds(folder / "sounds", scenes, seed + 2)
    world.write_clouds(folder / "clouds", scenes, seed + 3)
    for name, caption in (("texts", world.picture_caption), ("heard", world.sound_caption)):
        rng = np.random.default_rng([seed, 4])
        _write_records(folder / f"{name}.jsonl", [{"text": caption(scene, rng, omit=0.0)} for scene in scenes])
    _write_records(folder / "scenes.jsonl", [asdict(scene) for scene in scenes])


def _write_records(path: Path, records: Sequence[dict[str, Any]]) -> None:
    """Write records as JSONL; the ids are those of the files, 00000 and on."""
    lines = [json.dumps({"id": f"{number:05d}"} | record) + "\n" for number, record in enumerate(records)]
    write_text(path, "".join(lines))


def read_scenes(folder: Path) -> dict[str, world.Scene]:
    """Return what each id of a test set of ``write_paired`` shows."""
    records = [json.loads(line) for line in (folder / "scenes.jsonl").read_text("utf-8").splitlines()]
    return {record.pop("id"): world.Scene(**record) for record in records}
