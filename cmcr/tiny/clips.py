"""The tiny world as data sets of clips: videos in AVE's layout, composite pictures with boxes in VGG-SS's and Flickr's.

Everything is made from a seed: two runs write the same bytes where the libraries that encode are the same.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from cmcr.files import write_atomic
from cmcr.tiny import world
from cmcr.tiny.scene import Scene
from cmcr.tiny.sounds import SAMPLE_RATE, SECONDS

CLIP_SECONDS, FPS = 10, 2
SHOT = 2
"""Seconds until the same things are drawn anew, elsewhere and before another background."""
EVENT = 4
"""Seconds that the event of every fourth clip lasts; then neither picture nor sound has to do with it any more."""
FRAME = (320, 240)
"""Width and height of a composite picture: four cells, of which three hold a picture of the tiny world."""
GRID = 256

AVE_HEADER = "Category&VideoID&Quality&StartTime&EndTime"

_ANNOTATION = """<annotation>
 <id>{name}</id>
 <observers>
{boxes} </observers>
</annotation>
"""
_BBOX = """  <bbox>
   <observer>{number}</observer>
   <xmin>{0}</xmin><ymin>{1}</ymin><xmax>{2}</xmax><ymax>{3}</ymax>
  </bbox>
"""

Corners = tuple[int, int, int, int]


@dataclass(frozen=True)
class Composite:
    """A picture with several things in it, one of which sounds.

    Attributes:
        image: RGB, ``FRAME`` in size.
        boxes: Pixels (x0, y0, x1, y1) of what sounds.
        scene: What sounds.
    """

    image: Image.Image
    boxes: tuple[Corners, ...]
    scene: Scene


def write_ave(folder: Path, seed: int, test: Sequence[Scene] | None = None, train: int = 4) -> list[str]:
    """Write ``folder/AVE_Dataset``: a 10-s mp4 for each scene, ``Annotations.txt`` and the three split files.

    Args:
        folder: Where to.
        seed: Of everything.
        test: What the test videos show; the held-out scenes of the tiny world when left out.
        train: Videos in the training and the validation split.

    Returns:
        The ids of the test split, in its order. Its file lists the first video again under another category.
    """
    root = folder / "AVE_Dataset"
    shown = list(world.test_scenes(seed) if test is None else test)
    scenes = [*shown, *world.train_scenes(2 * train, seed)]
    names = [f"tiny{number:07d}" for number in range(len(scenes))]
    lines = []
    for number, (name, scene) in enumerate(zip(names, scenes, strict=True)):
        rng = np.random.default_rng([seed, number, 20])
        seconds = EVENT if number % 4 == 3 else CLIP_SECONDS
        write_atomic(root / "AVE" / f"{name}.mp4", _mp4(*_film(scene, seconds, rng)))
        lines.append(f"{scene.kind}&{name}&good&0&{seconds}")
    again = f"something else&{names[0]}&good&0&{CLIP_SECONDS}"
    parts = {"testSet": [*lines[: len(shown)], again], "trainSet": lines[len(shown) : -train], "valSet": lines[-train:]}
    for part, listed in parts.items():
        _write_lines(root / f"{part}.txt", listed)
    _write_lines(root / "Annotations.txt", [AVE_HEADER, *lines, again])
    return names[: len(shown)]


def write_vggss(folder: Path, seed: int, count: int = 48) -> list[str]:
    """Write ``vggss.json``, ``data/frames``, ``data/audio`` and ``metadata/vggss_test_plus_silent.csv``.

    Every eighth picture has two boxes, for the same thing sounds in two places.

    Returns:
        The ids, in the order of the list.
    """
    made = [composite(scene, [seed, n, 30], 2 if n % 8 == 7 else 1) for n, scene in enumerate(_scenes(seed, count))]
    names = [f"tiny{number:07d}_{30 * number:06d}" for number in range(count)]
    width, height = FRAME
    records = [
        {
            "file": name,
            "class": each.scene.kind,
            "bbox": [[x0 / width, y0 / height, x1 / width, y1 / height] for x0, y0, x1, y1 in each.boxes],
        }
        for name, each in zip(names, made, strict=True)
    ]
    write_atomic(folder / "vggss.json", (json.dumps(records) + "\n").encode())
    _write_media(folder / "data", names, made, seed)
    _write_silent(folder, "vggss", names, made)
    return names


def write_flickr(folder: Path, seed: int, count: int = 32) -> list[str]:
    """Write ``Annotations``, ``Data/0`` to ``Data/9``, ``flickr_test.csv`` and ``flickr_test_plus_silent.csv``.

    Three annotators disagree by a few cells of the grid of 256; all but the last eighth are in the test list.

    Returns:
        The ids of the test list.
    """
    made = [composite(scene, [seed, n, 40], 1) for n, scene in enumerate(_scenes(seed + 1, count))]
    names = [str(4_000_000_000 + 7 * number) for number in range(count)]
    for number, (name, each) in enumerate(zip(names, made, strict=True)):
        rng = np.random.default_rng([seed, number, 41])
        scale = np.array([GRID / FRAME[0], GRID / FRAME[1]] * 2)
        drawn = [np.clip(np.array(each.boxes[0]) * scale + rng.integers(-5, 6, 4), 0, GRID) for _ in range(3)]
        boxes = "".join(_BBOX.format(*(int(v) for v in box), number=n) for n, box in enumerate(drawn))
        write_atomic(folder / "Annotations" / f"{name}.xml", _ANNOTATION.format(name=name, boxes=boxes).encode())
    _write_media(folder, names, made, seed, spread=True)
    listed = count - count // 8
    _write_lines(folder / "metadata" / "flickr_test.csv", names[:listed])
    _write_silent(folder, "flickr", names[:listed], made[:listed], spread=True)
    return names[:listed]


def composite(scene: Scene, seed: Sequence[int], copies: int = 1) -> Composite:
    """Paste the picture of ``scene`` ``copies`` times at random places, and two of other kinds beside it."""
    rng = np.random.default_rng(seed)
    others = [each for each in world.test_scenes(int(rng.integers(1 << 30))) if each.kind != scene.kind]
    shade = np.linspace(rng.uniform(90, 230, 3), rng.uniform(90, 230, 3), FRAME[1])
    image = Image.fromarray(np.broadcast_to(shade[:, None], (FRAME[1], FRAME[0], 3)).astype(np.uint8))
    cell = FRAME[0] // 2, FRAME[1] // 2
    boxes = []
    for place, shown in zip(rng.permutation(4), [scene] * copies + others[: 3 - copies], strict=False):
        side = int(rng.integers(80, cell[1] - 2))
        x = int(place % 2 * cell[0] + rng.integers(cell[0] - side))
        y = int(place // 2 * cell[1] + rng.integers(cell[1] - side))
        image.paste(world.draw(shown, rng).resize((side, side)), (x, y))
        boxes += [(x, y, x + side, y + side)] if shown is scene else []
    return Composite(image, tuple(boxes), scene)


def _scenes(seed: int, count: int) -> list[Scene]:
    held_out = world.test_scenes(seed)
    return [held_out[number % len(held_out)] for number in range(count)]


def _write_media(
    folder: Path, names: Sequence[str], made: Sequence[Composite], seed: int, spread: bool = False
) -> None:
    for number, (name, each) in enumerate(zip(names, made, strict=True)):
        frames, audio = _places(folder, number, spread)
        file = io.BytesIO()
        each.image.save(file, "JPEG", quality=92)
        write_atomic(frames / f"{name}.jpg", file.getvalue())
        write_atomic(audio / f"{name}.wav", _wav(world.sound(each.scene, np.random.default_rng([seed, number, 50]))))


def _places(folder: Path, number: int, spread: bool) -> tuple[Path, Path]:
    digit = folder / "Data" / str(number % 10)
    return (digit, digit) if spread else (folder / "frames", folder / "audio")


def _write_silent(folder: Path, name: str, ids: Sequence[str], made: Sequence[Composite], spread: bool = False) -> None:
    """Write SLAVC's list: the pairs as they are, and as many that do not sound: by turns mismatched, and silent."""
    rng = np.random.default_rng(len(ids))
    _, audio = _places(folder if spread else folder / "data", 0, spread)
    hush = rng.normal(0, 10**-3.5, int(SECONDS * SAMPLE_RATE))
    write_atomic(audio / "silence.wav", _wav(hush))
    rows = ["video,audio,label", *(f"{each},{each},sounding" for each in ids)]
    for number, each in enumerate(ids):
        kind = made[number].scene.kind
        others = [other for other, there in zip(ids, made, strict=True) if there.scene.kind != kind]
        rows.append(f"{each},{'silence' if number % 2 else rng.choice(others)},non-sounding")
    _write_lines(folder / "metadata" / f"{name}_test_plus_silent.csv", rows)


def _write_lines(path: Path, lines: Sequence[str]) -> None:
    write_atomic(path, ("\n".join(lines) + "\n").encode())


def _film(scene: Scene, seconds: int, rng: np.random.Generator) -> tuple[list[Image.Image], np.ndarray]:
    """Return ten seconds of frames and samples: the scene for so many seconds, then an empty place in silence."""
    shots = [world.draw(scene, rng) for _ in range(0, seconds, SHOT)]
    sounds = [world.sound(scene, rng) for _ in range(0, seconds, round(SECONDS))]
    empty = Image.new("RGB", shots[0].size, tuple(int(v) for v in rng.uniform(90, 230, 3)))
    frames = [shots[at // (SHOT * FPS)] if at < seconds * FPS else empty for at in range(CLIP_SECONDS * FPS)]
    samples = np.zeros(CLIP_SECONDS * SAMPLE_RATE, np.float32)
    heard = np.concatenate(sounds)[: len(samples)]
    samples[: len(heard)] = heard
    return frames, samples


def _wav(samples: np.ndarray) -> bytes:
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, samples, SAMPLE_RATE, subtype="PCM_16", format="WAV")
    return file.getvalue()


def _mp4(frames: Sequence[Image.Image], samples: np.ndarray) -> bytes:
    """Encode frames (``FPS`` a second) and mono samples (``SAMPLE_RATE`` a second) as MPEG-4 and AAC."""
    import av

    buffer = io.BytesIO()
    # Bit-exact: no time of writing and no version in the file.
    with av.open(buffer, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        pictures = container.add_stream(
            "mpeg4", rate=FPS, options={"qscale": "3", "flags": "+bitexact+qscale", "threads": "1"}
        )
        pictures.width, pictures.height = frames[0].size
        pictures.pix_fmt = "yuv420p"
        sound = container.add_stream(
            "aac", rate=SAMPLE_RATE, layout="mono", options={"flags": "+bitexact", "aac_coder": "fast"}
        )
        sound.bit_rate = 64_000
        for frame in frames:
            container.mux(pictures.encode(av.VideoFrame.from_ndarray(np.asarray(frame), format="rgb24")))
        container.mux(pictures.encode())
        for start in range(0, len(samples), 1024):  # AAC's frame
            block = av.AudioFrame.from_ndarray(samples[None, start : start + 1024], format="fltp", layout="mono")
            block.sample_rate, block.pts = SAMPLE_RATE, start
            container.mux(sound.encode(block))
        container.mux(sound.encode())
    return buffer.getvalue()
