"""LAION's audio features for CLAP, without their randomness.

Source: LAION-AI/CLAP, ``hook.py`` and ``training/data.py`` (CC0). There a sound above ten seconds is cut with numpy's
global random state, so that one file has many vectors. Here the window is fixed by the sound's length:

* without fusion, the middle ten seconds;
* with fusion, the log-mel map of the whole sound, shrunk to ten seconds, and three ten-second chunks of it: where the
  original draws a chunk's start from the first, middle and last third of all starts, ours is the middle of each third.

The map is shrunk without antialiasing, as torchvision did when the models were trained; newer versions smooth it.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

RATE = 48_000
WINDOW = 10 * RATE
"""Samples that the models hear at a time."""
N_FFT = 1024
HOP = 480
MELS = 64
FRAMES = WINDOW // HOP + 1
LOW, HIGH = 50.0, 14_000.0
"""Hertz that the mel bands span."""
RULES = "audio 1: 48 kHz mono int16; middle window, or whole and three middle chunks; repeatpad"
"""Named in fingerprints: change it with anything below that changes a vector."""

Scale = Literal["htk", "slaney"]

_BLOCK = 1024  # frames transformed at a time: the spectrum of an hour would take gigabytes


def quantise(samples: np.ndarray) -> np.ndarray:
    """Return float32 samples as they come back from 16-bit integers, which is what the models were trained on."""
    whole = (np.clip(samples, -1.0, 1.0) * np.float32(32767)).astype(np.int16)
    quantised: np.ndarray = (whole / 32767.0).astype(np.float32)
    return quantised


def fit_window(samples: np.ndarray) -> np.ndarray:
    """Return ``WINDOW`` samples: the middle of a longer sound; a shorter one whole as often as it fits, then silence.

    Args:
        samples: (n,), n >= 1.
    """
    if len(samples) >= WINDOW:
        start = (len(samples) - WINDOW) // 2
        return samples[start : start + WINDOW]
    repeated = np.tile(samples, WINDOW // len(samples))
    return np.pad(repeated, (0, WINDOW - len(repeated)))


def mel_filters(scale: Scale, low: float = LOW, high: float = HIGH) -> Tensor:
    """Return the (``N_FFT`` / 2 + 1, ``MELS``) triangles of a mel filter bank.

    Args:
        scale: ``htk`` (torchaudio's default; the fusion models) has peaks of 1 at 2595 log10(1 + f / 700); ``slaney``
            (librosa's default; the models without fusion) is linear below 1 kHz, and each triangle has an area of 1 Hz.
        low: Hertz where the first triangle begins.
        high: Hertz where the last one ends.
    """
    hertz = np.array([low, high])
    step = np.log(6.4) / 27  # Slaney's mel above 1 kHz, which is the 15th; below it a mel is 200 / 3 Hz
    if scale == "htk":
        ends = 2595 * np.log10(1 + hertz / 700)
    else:
        ends = np.where(hertz < 1000, hertz * 3 / 200, 15 + np.log(np.maximum(hertz, 1000) / 1000) / step)
    mels = np.linspace(float(ends[0]), float(ends[1]), MELS + 2)
    if scale == "htk":
        edges = 700 * (10 ** (mels / 2595) - 1)
    else:
        edges = np.where(mels < 15, mels * 200 / 3, 1000 * np.exp((mels - 15) * step))
    bins = np.linspace(0, RATE / 2, N_FFT // 2 + 1)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    filters = np.maximum(0, np.minimum(rising, falling))
    if scale == "slaney":
        filters *= 2 / (edges[2:] - edges[:-2])
    return torch.from_numpy(filters.astype(np.float32))


def log_mel(samples: np.ndarray, filters: Tensor) -> Tensor:
    """Return the (1 + n // ``HOP``, ``MELS``) map in decibels of n float32 samples; silence is -100 dB."""
    padded = torch.from_numpy(np.pad(samples, N_FFT // 2, mode="reflect"))
    window = torch.hann_window(N_FFT)
    blocks = padded.unfold(0, N_FFT, HOP).split(_BLOCK)
    power = [torch.fft.rfft(block * window).abs().square() @ filters for block in blocks]
    return 10 * torch.cat(power).clamp(min=1e-10).log10()


def fusion_channels(samples: np.ndarray, filters: Tensor) -> Tensor:
    """Return the log-mel channels of a fusion model.

    Returns:
        (4, ``FRAMES``, ``MELS``) whole, first, middle and last of a longer sound; (1, ``FRAMES``, ``MELS``) of one that
        has no frame more than the window, whose four channels are the same.
    """
    if len(samples) <= WINDOW:
        return log_mel(fit_window(samples), filters)[None]
    mel = log_mel(samples, filters)
    spare = len(mel) - FRAMES
    if not spare:
        return mel[None]
    whole = torch.nn.functional.interpolate(mel[None, None], (FRAMES, MELS), mode="bilinear", align_corners=False)[0]
    thirds = np.array_split(np.arange(spare + 1), 3)
    starts = [int(third[len(third) // 2]) if len(third) else 0 for third in thirds]
    return torch.cat([whole, *(mel[None, start : start + FRAMES] for start in starts)])
