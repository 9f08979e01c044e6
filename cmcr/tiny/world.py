"""The tiny world in one place: make scenes, and write them as the files that the rest of cmcr reads."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from cmcr.files import write_atomic
from cmcr.tiny.captions import picture_caption, sound_caption
from cmcr.tiny.kinds import KINDS
from cmcr.tiny.pictures import draw
from cmcr.tiny.scene import COLOURS, COUNTS, HELD_OUT, RHYTHMS, SIZES, TRAINED, Scene, test_scenes, train_scenes
from cmcr.tiny.shapes import shape
from cmcr.tiny.sounds import SAMPLE_RATE, sound

__all__ = [
    "COLOURS", "COUNTS", "HELD_OUT", "KINDS", "RHYTHMS", "SAMPLE_RATE", "SIZES", "TRAINED", "Scene",
    "draw", "picture_caption", "shape", "sound", "sound_caption", "test_scenes", "train_scenes",
    "write_captions", "write_clouds", "write_images", "write_sounds",
]  # fmt: skip


def _png(scene: Scene, rng: np.random.Generator) -> bytes:
    file = io.BytesIO()
    draw(scene, rng).save(file, format="PNG")
    return file.getvalue()


def _wav(scene: Scene, rng: np.random.Generator) -> bytes:
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, sound(scene, rng), SAMPLE_RATE, subtype="PCM_16", format="WAV")
    return file.getvalue()


def _npy(scene: Scene, rng: np.random.Generator) -> bytes:
    file = io.BytesIO()
    np.save(file, shape(scene, rng))
    return file.getvalue()


def _write(
    folder: Path, scenes: Sequence[Scene], seed: int, suffix: str, make: Callable[[Scene, np.random.Generator], bytes]
) -> list[Path]:
    paths = [folder / f"{number:05d}{suffix}" for number in range(len(scenes))]
    for number, (path, scene) in enumerate(zip(paths, scenes, strict=True)):
        write_atomic(path, make(scene, np.random.default_rng([seed, number])))
    return paths


def write_images(folder: Path, scenes: Sequence[Scene], seed: int) -> list[Path]:
    """Write each scene as ``folder/00000.png`` and so on; return the paths in the order of ``scenes``."""
    return _write(folder, scenes, seed, ".png", _png)


def write_sounds(folder: Path, scenes: Sequence[Scene], seed: int) -> list[Path]:
    """Write each scene as a 16-bit mono WAV, ``folder/00000.wav`` and so on; return the paths in order."""
    return _write(folder, scenes, seed, ".wav", _wav)


def write_clouds(folder: Path, scenes: Sequence[Scene], seed: int) -> list[Path]:
    """Write each scene as a (1024, 3) float32 array, ``folder/00000.npy`` and so on; return the paths in order."""
    return _write(folder, scenes, seed, ".npy", _npy)


def write_captions(
    file: Path,
    scenes: Sequence[Scene],
    seed: int,
    caption: Callable[[Scene, np.random.Generator], str] = picture_caption,
) -> list[str]:
    """Write one caption a line (``picture_caption`` or ``sound_caption``) and return them in order."""
    lines = [caption(scene, np.random.default_rng([seed, number])) for number, scene in enumerate(scenes)]
    write_atomic(file, ("\n".join(lines) + "\n").encode())
    return lines
