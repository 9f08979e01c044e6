"""Sounds as Opus in Ogg: what browsers play, at a twentieth of the size of their samples."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

CODEC, BITS = "libopus", 24_000
"""FFmpeg's name of it, and bits a second: enough to tell by ear what sounds, which is what a page is for."""


def encode_opus(samples: np.ndarray, rate: int) -> bytes | None:
    """Encode a sound; the same samples give the same bytes wherever the same FFmpeg encodes them.

    Args:
        samples: (N,) mono in [-1, 1].
        rate: Of Opus's own: 8, 12, 16, 24 or 48 kHz.

    Returns:
        The Ogg file, or None where this FFmpeg has no Opus encoder.

    >>> import numpy as np
    >>> from cmcr.report.opus import encode_opus
    >>> tone = np.sin(np.arange(24_000) / 9)
    >>> encode_opus(tone, 24_000)[:4]
    b'OggS'
    """
    import av
    from av.codec.context import Flags

    buffer = io.BytesIO()
    try:
        # Bit-exact: the serial number of the stream is not drawn, and no version of a library is written into it.
        with av.open(buffer, "w", format="ogg", options={"fflags": "+bitexact"}) as container:
            stream: Any = container.add_stream(CODEC, rate=rate, layout="mono")
            stream.bit_rate, stream.codec_context.thread_count = BITS, 1
            stream.codec_context.flags |= Flags.bitexact
            clipped = np.clip(samples, -1, 1).astype(np.float32)
            frame = av.AudioFrame.from_ndarray(clipped[None], format="flt", layout="mono")
            frame.sample_rate, frame.pts = rate, 0
            for packet in [*stream.encode(frame), *stream.encode(None)]:
                container.mux(packet)
    except (av.FFmpegError, ValueError):  # PyAV's UnknownCodecError is a ValueError
        return None
    return buffer.getvalue()
