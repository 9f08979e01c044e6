"""Sound a scene: one event for each copy, its kind's voice, pitch by size, spacing and shading by rhythm."""

from __future__ import annotations

import numpy as np

from cmcr.tiny.kinds import KINDS, PARTIALS, Voice
from cmcr.tiny.scene import Scene

SAMPLE_RATE = 16_000
SECONDS = 2.0
PITCH = {"small": 1.6, "medium": 1.0, "large": 0.62}
"""Factor on the pitch of the voice: small things sound high."""


def _band_noise(n: int, centre: float, width: float, grains: float, rng: np.random.Generator) -> np.ndarray:
    """Noise within ``width`` octaves around ``centre`` Hz, of unit deviation; sparse clicks instead when ``grains``."""
    source = rng.standard_normal(1 << (n - 1).bit_length())  # a power of two is quick to transform
    if grains:
        source *= rng.random(len(source)) < grains / SAMPLE_RATE
    spectrum, hertz = np.fft.rfft(source), np.fft.rfftfreq(len(source), 1 / SAMPLE_RATE)
    octaves = np.log2(np.maximum(hertz, 1) / min(centre, 7000))
    noise: np.ndarray = np.fft.irfft(spectrum * np.exp(-((2 * octaves / width) ** 2)))[:n]
    noise /= noise.std() + 1e-9
    return noise


def _event(voice: Voice, pitch: float, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """One event of a voice at ``pitch`` Hz."""
    n = int(seconds * SAMPLE_RATE)
    t: np.ndarray = np.arange(n) / SAMPLE_RATE
    rate, depth = voice.wobble
    octaves = voice.glide * t / seconds + depth * np.sin(2 * np.pi * rate * t)
    phase = 2 * np.pi * np.cumsum(pitch * 2**octaves) / SAMPLE_RATE
    audible = [(ratio, loud) for ratio, loud in PARTIALS[voice.partials] if pitch * ratio < 0.45 * SAMPLE_RATE]
    tone = sum((loud * np.sin(ratio * phase + rng.uniform(0, 6.28)) for ratio, loud in audible), np.zeros(n))
    sound = (1 - voice.noise) * tone / (tone.std() + 1e-9)
    if voice.noise:
        noise = _band_noise(n, pitch * voice.band, voice.width, voice.grains, rng)
        # A gliding band: play one noise faster and faster.
        sound += voice.noise * np.interp(np.cumsum(2**octaves) % n, np.arange(n), noise)
    rate, depth = voice.pulse
    envelope = np.minimum(t / voice.attack, 1) * np.exp(-np.maximum(t - voice.attack, 0) / voice.decay)
    envelope *= np.minimum((seconds - t) / 0.02, 1)
    envelope *= 1 - depth * (0.5 + 0.5 * np.cos(2 * np.pi * rate * t)) ** 2
    event: np.ndarray = sound * envelope
    return event


def _shade(event: np.ndarray, rhythm: str) -> np.ndarray:
    """What a rhythm does within an event, so that it is heard in a single one too."""
    n, shaded = len(event), event
    t = np.arange(n) / SAMPLE_RATE
    if rhythm == "trembling":
        shaded = event * (0.55 - 0.45 * np.cos(2 * np.pi * 11 * t))
    if rhythm == "swelling":
        shaded = event * np.linspace(0.1, 1, n) ** 1.5
    if rhythm == "wavering":
        shaded = np.interp(np.arange(n) + 0.004 * SAMPLE_RATE * np.sin(2 * np.pi * 5.5 * t), np.arange(n), event)
    return shaded


def sound(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """Sound ``scene``; detune, start, spacing jitter, loudness and room noise come from ``rng``.

    Returns:
        (n,) float32 mono samples in [-1, 1]: ``SECONDS`` at ``SAMPLE_RATE``.
    """
    voice = KINDS[scene.kind].voice
    pitch = voice.pitch * PITCH[scene.size] * 2 ** rng.normal(0, 0.05)
    spacing = 1.85 / scene.count * (0.55 if scene.rhythm == "hurried" else 1.0)
    seconds = min(0.82 * spacing, 0.75)
    mix = np.zeros(int(SECONDS * SAMPLE_RATE))
    start = rng.uniform(0.0, 0.08)
    for i in range(scene.count):
        event = _shade(
            _event(voice, pitch * 2 ** rng.normal(0, 0.01), seconds * rng.uniform(0.95, 1.05), rng), scene.rhythm
        )
        at = int((start + spacing * (i + rng.uniform(0, 0.06))) * SAMPLE_RATE)
        growth = (i + 1) / scene.count if scene.rhythm == "swelling" else 1.0  # the whole row of events grows, too
        mix[at : at + len(event)] += event[: len(mix) - at] * growth * rng.uniform(0.9, 1.1)
    mix *= rng.uniform(0.3, 0.9) / (np.abs(mix).max() + 1e-9)
    mix += rng.standard_normal(len(mix)) * 10 ** rng.uniform(-3.5, -2.5)
    return mix.clip(-1, 1).astype(np.float32)
