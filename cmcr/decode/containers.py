"""Open media files with PyAV: data alone is read, and whatever is wrong with it becomes an ItemError.

FFmpeg takes a playlist for a file and would open what it names, here or in the network. So a caller lists the formats
it means, all of which hold their own data, and no protocol is allowed at all: bytes come from the given file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any

import numpy as np

from cmcr.decode.common import one_line
from cmcr.errors import ItemError

_JOINED = 1 << 16  # samples of all channels
_MANY = 8  # from so many planes on PyAV reads memory that is not the frame's, and may crash


@contextmanager
def opened(file: IO[bytes], formats: str, what: str, options: Mapping[str, str] | None = None) -> Iterator[Any]:
    """Yield an open ``av`` container; what fails in the body is an ItemError too.

    Args:
        file: The bytes.
        formats: FFmpeg's names of the formats that are read, with commas.
        what: What the file should be, for messages: ``video``, ``sound``.
        options: Further options of FFmpeg.

    Raises:
        ItemError: another format, or damaged.
    """
    import av

    safe = {"format_whitelist": formats, "protocol_whitelist": ""}
    try:
        with av.open(file, options={**safe, **(options or {})}, metadata_errors="replace") as container:
            yield container
    except ItemError:
        raise
    except (av.FFmpegError, OSError) as error:
        raise ItemError(f"not a {what}, or damaged: {error.strerror or type(error).__name__}") from error
    except Exception as error:  # a decoder may raise anything on damaged bytes
        raise ItemError(f"damaged {what}: {one_line(error)}") from error


def joined(frames: Iterable[Any]) -> Iterator[tuple[np.ndarray, int]]:
    """Yield the samples of ``av`` frames in blocks of a second or so, (n, channels) float32, with their rate.

    A frame of MP3 has 26 ms: working on each alone would take longer than to decode it.
    """
    held: list[np.ndarray] = []
    size, kind = 0, (0, 0)
    for frame in frames:
        now = frame.layout.nb_channels, frame.sample_rate
        if held and (now != kind or size >= _JOINED):
            yield np.concatenate(held), kind[1]
            held, size = [], 0
        held.append(_samples(frame))
        size, kind = size + held[-1].size, now
    if held:
        yield np.concatenate(held), kind[1]


def _samples(frame: Any) -> np.ndarray:
    """Return a frame of any sample format as (n, channels) float32, full scale being 1."""
    if frame.format.is_planar and frame.layout.nb_channels >= _MANY:
        import av

        (frame,) = av.AudioResampler(format=frame.format.packed).resample(frame)
    found: np.ndarray = frame.to_ndarray()
    found = found.T if frame.format.is_planar else found.reshape(-1, frame.layout.nb_channels)
    if found.dtype == np.uint8:
        return (found.astype(np.float32) - 128) / 128
    if np.issubdtype(found.dtype, np.integer):
        return found.astype(np.float32) * np.float32(2.0 ** (1 - 8 * found.itemsize))
    with np.errstate(over="ignore"):  # a double may be no float32; what is not finite is refused later
        return found.astype(np.float32, copy=False)
