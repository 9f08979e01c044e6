"""Views of an item: its content changed a little, as its encoder may read it; drawn by the content's hash and a seed.

Pictures are cut (60 to 100 % of the area), mirrored, and changed in brightness, contrast and colour by up to a fifth;
sounds are shifted by up to a tenth of their length, made louder or softer by up to 6 dB, and get noise 10 to 30 dB
below them; texts lose each word with a chance of 15 %; clouds are turned about the axis that points up, lose up to
three tenths of their points, and the others move by about a hundredth of their extent.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from cmcr.decode import decoding, reserve
from cmcr.decode.images import read_image
from cmcr.decode.sounds import read_audio
from cmcr.encoders.base import Encoder, text_of
from cmcr.items import Item
from cmcr.memory import ViewSpec
from cmcr.modality import Modality
from cmcr.shapes.clouds import read_point_cloud

PIXELS = 1024
"""Of the longer side of a view; a larger picture is made smaller first."""
RATE, SECONDS = 48_000, 60.0
"""Of a sound's view."""
POINTS = 100_000
"""Of a cloud's view at most."""


class _Kind(NamedTuple):
    decode: Callable[[bytes, str], Any]
    change: Callable[[Any, np.random.Generator, str], bytes]
    suffix: str


def prepared_views(encoder: Encoder, item: Item, data: bytes, digest: str, spec: ViewSpec, whole: Any) -> list[Any]:
    """Return what the encoder prepares of each view of an item.

    Args:
        encoder: Prepares them.
        item: Of a modality that cmcr itself registers.
        data: Its content.
        digest: The content's hash, hex.
        spec: How many, and the seed.
        whole: What the encoder prepared of the item as it is: the view that stands for one that it refuses.
    """
    kind = _KINDS[item.modality]
    up = str(item.up or getattr(encoder, "up", "y"))
    with decoding():
        reserve(len(data))
        decoded = kind.decode(data, item.suffix)
    made = []
    for number in range(1, spec.count + 1):
        rng = np.random.default_rng([spec.seed, number, int(digest[:16], 16)])
        changed = kind.change(decoded, rng, up)
        view = replace(item, source=f"view{kind.suffix}")
        with decoding():
            try:
                made.append(encoder.prepare(view, changed))
            except Exception:  # a decoder may raise anything, as of the item itself
                made.append(whole)
    return made


def _picture(data: bytes, _: str) -> Any:
    image = read_image(data)
    image.thumbnail((PIXELS, PIXELS))
    return image


def _change_picture(image: Any, rng: np.random.Generator, _: str) -> bytes:
    from PIL import Image, ImageEnhance, ImageOps

    area, shape = rng.uniform(0.6, 1.0), np.exp(rng.uniform(-0.2, 0.2))
    size = [max(1, round(min(1.0, side) * whole)) for side, whole in zip(_sides(area, shape), image.size, strict=True)]
    left, top = (int(rng.integers(whole - own + 1)) for whole, own in zip(image.size, size, strict=True))
    view = image.crop((left, top, left + size[0], top + size[1])).resize(image.size, Image.Resampling.BILINEAR)
    if rng.random() < 0.5:
        view = ImageOps.mirror(view)
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        view = enhance(view).enhance(float(rng.uniform(0.8, 1.2)))
    file = io.BytesIO()
    view.save(file, format="PNG", compress_level=1)
    return file.getvalue()


def _sides(area: float, shape: float) -> tuple[float, float]:
    return (area * shape) ** 0.5, (area / shape) ** 0.5


def _sound(data: bytes, _: str) -> np.ndarray:
    return read_audio(data, RATE, SECONDS)


def _change_sound(samples: np.ndarray, rng: np.random.Generator, _: str) -> bytes:
    import soundfile

    shift = int(rng.uniform(-0.1, 0.1) * len(samples))
    moved = np.zeros_like(samples)
    moved[max(0, shift) : len(samples) + min(0, shift)] = samples[max(0, -shift) : len(samples) - max(0, shift)]
    loud = float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))
    moved += rng.standard_normal(len(samples)).astype(np.float32) * np.float32(loud * 10 ** (-rng.uniform(10, 30) / 20))
    file = io.BytesIO()
    gain = np.float32(10 ** (rng.uniform(-6, 6) / 20))
    soundfile.write(file, (moved * gain).clip(-1, 1), RATE, subtype="PCM_16", format="WAV")
    return file.getvalue()


def _cloud(data: bytes, suffix: str) -> np.ndarray:
    points = read_point_cloud(data, suffix)
    return points[:: -(-len(points) // POINTS)]


def _change_cloud(points: np.ndarray, rng: np.random.Generator, up: str) -> bytes:
    kept = np.array(points[rng.random(len(points)) >= rng.uniform(0, 0.3)], np.float32)
    turn = rng.uniform(0, 2 * np.pi)
    a, b = (0, 1) if up == "z" else (2, 0)
    first, second = kept[:, a].copy(), kept[:, b].copy()
    kept[:, a], kept[:, b] = np.cos(turn) * first - np.sin(turn) * second, np.sin(turn) * first + np.cos(turn) * second
    extent = float(np.abs(kept[:, :3] - kept[:, :3].mean(axis=0)).max()) if len(kept) else 0.0
    kept[:, :3] += rng.normal(0, 0.01 * extent, size=(len(kept), 3)).astype(np.float32)
    file = io.BytesIO()
    np.save(file, kept)
    return file.getvalue()


def _text(data: bytes, _: str) -> list[str]:
    return text_of(data).split()


def _change_text(words: list[str], rng: np.random.Generator, _: str) -> bytes:
    kept = rng.random(len(words)) >= 0.15
    if not kept.any():
        kept[rng.integers(len(words))] = True
    return " ".join(word for word, stays in zip(words, kept, strict=True) if stays).encode()


_KINDS = {
    Modality.IMAGE: _Kind(_picture, _change_picture, ".png"),
    Modality.AUDIO: _Kind(_sound, _change_sound, ".wav"),
    Modality.POINT_CLOUD: _Kind(_cloud, _change_cloud, ".npy"),
    Modality.TEXT: _Kind(_text, _change_text, ""),
}
