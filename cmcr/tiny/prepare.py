"""From a decoded thing to the fixed-size array its tower reads. Numpy and PIL only; no randomness.

Whatever changes a number here changes every vector: raise ``VERSION`` with it and train anew.
"""

from __future__ import annotations

import re
from functools import cache

import numpy as np
from PIL import Image, ImageOps

from cmcr.tiny.sounds import SAMPLE_RATE, SECONDS

VERSION = "1"

PIXELS = 64
MELS, FRAMES = 48, 100
_FFT, _HOP = 640, 320
PATCHES, NEIGHBOURS = 64, 16
_POINTS = 1024
_REACH = 10.0  # no scene reaches 3 units from its middle
_RANKS = np.geomspace(2, 120, NEIGHBOURS).round().astype(int)


def pixels(image: Image.Image) -> np.ndarray:
    """Fit an RGB image, uncut and unsquashed, into (3, 64, 64) float32 in [-1, 1]."""
    fitted = ImageOps.pad(image, (PIXELS, PIXELS), Image.Resampling.BOX, color=(128, 128, 128))
    return np.asarray(fitted, np.float32).transpose(2, 0, 1) / 127.5 - 1


@cache
def _mel_filters() -> np.ndarray:
    """(MELS, bins) triangles, evenly spaced on the mel scale between 60 Hz and 7.8 kHz."""
    low, high = 2595 * np.log10(1 + np.array([60, 7800]) / 700)
    mel = np.linspace(low, high, MELS + 2)
    edges = 700 * (10 ** (mel / 2595) - 1)
    hertz = np.fft.rfftfreq(_FFT, 1 / SAMPLE_RATE)
    up = (hertz - edges[:-2, None]) / np.diff(edges)[:-1, None]
    down = (edges[2:, None] - hertz) / np.diff(edges)[1:, None]
    filters: np.ndarray = np.maximum(0, np.minimum(up, down)).astype(np.float32)
    return filters


def log_mel(samples: np.ndarray) -> np.ndarray:
    """Turn mono samples at 16 kHz into (1, MELS, FRAMES) float32 in [0, 1], relative to the loudest cell.

    The window is the first two seconds; a shorter sound is followed by silence. Loudness is divided out: 60 dB below
    the loudest cell is 0, and so is a silent sound.
    """
    wanted = int(SAMPLE_RATE * SECONDS)
    padded = np.zeros(wanted + _FFT, np.float32)
    padded[_FFT // 2 :][: min(len(samples), wanted)] = samples[:wanted]
    frames = np.lib.stride_tricks.sliding_window_view(padded, _FFT)[::_HOP][:FRAMES] * np.hanning(_FFT)
    power = _mel_filters() @ (np.abs(np.fft.rfft(frames)) ** 2).T
    decibels = 10 * np.log10(power / max(power.max(), 1e-8) + 1e-6)
    scaled: np.ndarray = ((decibels + 60) / 60)[None].astype(np.float32)
    return scaled


def patches(points: np.ndarray) -> np.ndarray:
    """Group a cloud's positions into (PATCHES, 1 + NEIGHBOURS, 3) float32: a centre, then points around it.

    The centres are farthest points, from the one farthest from the middle on, so neither the order nor the place of
    the cloud matters. Its scale does: size is an attribute here. Around each centre the 2nd to the 120th nearest point
    are taken in geometric steps: fine detail and wide context at once. Clouds of another number of points are thinned
    or repeated to 1024 first; clouds far larger than the world (in millimetres, say) are shrunk to one large thing.
    """
    xyz = points[:, :3].astype(np.float64)
    if len(xyz) != _POINTS:
        rng = np.random.default_rng(len(xyz))
        whole, rest = divmod(_POINTS, len(xyz))
        xyz = xyz[np.concatenate([np.tile(np.arange(len(xyz)), whole), rng.permutation(len(xyz))[:rest]])]
    xyz = xyz - (xyz.min(0) + xyz.max(0)) / 2
    if (reach := np.abs(xyz).max()) > _REACH:
        xyz *= 1 / reach
    chosen = [int((xyz**2).sum(1).argmax())]
    distance = np.full(_POINTS, np.inf)
    for _ in range(PATCHES - 1):
        distance = np.minimum(distance, ((xyz - xyz[chosen[-1]]) ** 2).sum(1))
        chosen.append(int(distance.argmax()))
    centres = xyz[chosen]
    between = sum((centres[:, None, axis] - xyz[None, :, axis]) ** 2 for axis in range(3))
    nearest = np.argsort(between, axis=1)[:, _RANKS]
    return np.concatenate([centres[:, None], xyz[nearest]], axis=1).astype(np.float32)


def words(text: str) -> list[str]:
    """Split a text into lower-case words and numbers: tiny-clip's tokens."""
    return re.findall(r"[a-z0-9]+", text.lower())


def grams(text: str) -> list[str]:
    """Split a text's words into groups of four characters, ``<`` and ``>`` marking their ends: tiny-clap's tokens."""
    marked = [f"<{word}>" for word in words(text)]
    return [word[i : i + 4] for word in marked for i in range(max(1, len(word) - 3))]


def bag(tokens: list[str], row_of: dict[str, int]) -> np.ndarray:
    """Count known tokens into (len(row_of),) float32; unknown ones count nowhere, so they cannot disturb a vector."""
    counts = np.zeros(len(row_of), np.float32)
    for token in tokens:
        if token in row_of:
            counts[row_of[token]] += 1
    return counts


def bags(texts: list[list[str]], row_of: dict[str, int]) -> np.ndarray:
    """Count the known tokens of each of N texts into (N, len(row_of)) float32, as ``bag`` does of one."""
    size = len(row_of)
    starts = range(0, len(texts) * size, size)
    cells = [
        start + row_of[token] for start, text in zip(starts, texts, strict=True) for token in text if token in row_of
    ]
    counts = np.bincount(np.array(cells, np.intp), minlength=len(texts) * size)
    return counts.reshape(len(texts), size).astype(np.float32)
