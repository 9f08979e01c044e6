"""Decode sounds: untrusted bytes in, mono samples or an ItemError out."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from cmcr.decode.common import one_line, refuse_empty
from cmcr.errors import ItemError

MAX_SECONDS = 3600.0
"""Sounds above an hour are refused, unless the caller only asks for a beginning."""

_BLOCK = 1 << 16
_SANE_RATES = range(1_000, 1_000_001)
_STREAMED = 0x7FFF_FFFF  # a writer that could not seek back leaves such a size in a RIFF header


def read_audio(data: bytes, rate: int, max_seconds: float | None = None) -> np.ndarray:
    """Decode a sound, mix its channels down and resample it.

    Args:
        data: A WAV, FLAC, MP3, Ogg or AIFF file.
        rate: Samples a second wanted.
        max_seconds: Decode only this long a beginning; None decodes all, up to ``MAX_SECONDS``.

    Returns:
        (n,) float32 mono samples in [-1, 1], n >= 1.

    Raises:
        ItemError: empty, not a sound, truncated, too long, without samples, or non-finite.
    """
    import soundfile
    import soxr

    refuse_empty(data)
    _refuse_cut_riff(data)
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            mono, source_rate = _decode_mono(file, max_seconds), file.samplerate
    except soundfile.LibsndfileError as error:
        raise ItemError(f"damaged or unknown sound: {one_line(error.error_string)}") from error
    if not np.isfinite(mono).all():
        raise ItemError("non-finite samples")
    if source_rate != rate:
        mono = soxr.resample(mono, source_rate, rate)
    if not mono.size:
        raise ItemError("no samples")
    clipped: np.ndarray = np.clip(mono, -1.0, 1.0, dtype=np.float32)
    return clipped


def _refuse_cut_riff(data: bytes) -> None:
    # libsndfile reads a cut WAV or AIFF as a shorter one, without a word.
    if data[:4] not in (b"RIFF", b"FORM"):
        return
    declared = int.from_bytes(data[4:8], "little" if data[:4] == b"RIFF" else "big")
    if len(data) < min(declared, _STREAMED) + 8 - 1 and declared < _STREAMED:  # the last pad byte is often left out
        raise ItemError(f"truncated sound: {len(data)} of {declared + 8} bytes")


def _decode_mono(file: Any, max_seconds: float | None) -> np.ndarray:
    frames, rate = int(file.frames), int(file.samplerate)
    if rate not in _SANE_RATES:
        raise ItemError(f"{rate} samples a second; expected {_SANE_RATES[0]} to {_SANE_RATES[-1]}")
    if max_seconds is None and frames > MAX_SECONDS * rate:
        raise ItemError(f"{frames / rate:.0f} seconds; at most {MAX_SECONDS:.0f} are decoded: cut it into parts")
    wanted = frames if max_seconds is None else min(frames, int(np.ceil(max_seconds * rate)))
    # Block by block, so that many channels never stand in memory at full length.
    blocks = file.blocks(_BLOCK, frames=wanted, dtype="float32", always_2d=True)
    mono = np.concatenate([block.mean(axis=1) for block in blocks] or [np.zeros(0, np.float32)])
    if len(mono) < 0.9 * wanted:  # the length an MP3 declares may be an estimate
        raise ItemError(f"truncated sound: {len(mono)} of {wanted} samples")
    return mono
