"""Take frames and sound out of videos with PyAV (extra ``video``). Whatever is wrong with one becomes an ItemError.

Videos are untrusted: only container formats that hold their own data are opened (a playlist would make FFmpeg read
other files, or the network), and pixels and seconds are bounded.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cmcr.errors import ItemError, MissingExtraError
from cmcr.files import write_atomic

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".flv", ".mpg", ".mpeg", ".ts", ".3gp"})
"""Lower-case suffixes of the files that are looked for as videos."""
MAX_PIXELS = 1 << 26
"""Frames above this (8192 x 8192) are refused undecoded."""
MAX_SECONDS = 3600.0
"""Videos above an hour are refused: no data set of clips here holds one."""

_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,mpeg,mpegts,mpegvideo,ogg,asf"
_OPTIONS = {"format_whitelist": _FORMATS, "protocol_whitelist": "file", "max_pixels": str(MAX_PIXELS)}
_SANE_RATES = range(1_000, 1_000_001)
_TIME_BASE = 1_000_000  # FFmpeg's AV_TIME_BASE, in which a container's duration is given
_SLACK = 1.0  # seconds by which a video may end before what it declares


def duration(path: Path) -> float:
    """Return how long the pictures of a video last, in seconds.

    Raises:
        ItemError: not a video, damaged, without pictures, or above ``MAX_SECONDS``.
        MissingExtraError: PyAV is not installed.
    """
    with _opened(path) as container:
        return _seconds(container, _pictures(container))


def evenly(seconds: float, count: int) -> list[float]:
    """Return the middles of ``count`` equal parts of so many seconds; of one part the middle."""
    return [seconds * (2 * part + 1) / (2 * count) for part in range(count)]


def frames_at(path: Path, times: Sequence[float]) -> list[Image]:
    """Return for each time (seconds from the beginning) the frame nearest to it, upright, as an RGB picture.

    Raises:
        ItemError: not a video, damaged, without pictures, cut off before one of the times, or above ``MAX_PIXELS``.
        MissingExtraError: PyAV is not installed.
    """
    with _opened(path) as container:
        stream = _pictures(container)
        if (container.duration or 0) / _TIME_BASE > MAX_SECONDS:
            raise ItemError(f"more than {MAX_SECONDS:.0f} seconds")
        found = {time: _upright(frame) for time, frame in _nearest(container, stream, times).items()}
        return [found[time] for time in times]


def samples(path: Path, rate: int | None = None) -> tuple[np.ndarray, int]:
    """Return the whole sound of a video, its channels averaged.

    Args:
        path: The video.
        rate: Samples a second wanted; None: as it is.

    Returns:
        (n,) float32 mono samples in [-1, 1], n >= 1, and their rate.

    Raises:
        ItemError: not a video, damaged, without sound, cut off, or above ``MAX_SECONDS``.
        MissingExtraError: PyAV is not installed.
    """
    with _opened(path) as container:
        mono, own = _decode_mono(container)
    if rate is None or rate == own:
        return mono, own
    import soxr

    return np.clip(soxr.resample(mono, own, rate), -1.0, 1.0, dtype=np.float32), rate


def unpack_frames(path: Path, times: Sequence[float], targets: Sequence[Path]) -> None:
    """Write the frames nearest to ``times`` as PNG, unless they are there from a run before.

    A target carries its video's time of change, so another video in the same place is unpacked anew.

    Raises:
        ItemError: as ``frames_at``, or the video cannot be read.
    """
    missing = [(time, target) for time, target in zip(times, targets, strict=True) if not _is_fresh(target, path)]
    if missing:
        for image, (_, target) in zip(frames_at(path, [time for time, _ in missing]), missing, strict=True):
            _write(target, path, partial(image.save, format="PNG"))


def unpack_sound(path: Path, target: Path) -> None:
    """Write the sound of a video as a mono 16-bit WAV of its own rate, unless it is there from a run before.

    Raises:
        ItemError: as ``samples``, or the video cannot be read.
    """
    if not _is_fresh(target, path):
        import soundfile

        mono, rate = samples(path)
        _write(target, path, lambda file: soundfile.write(file, mono, rate, subtype="PCM_16", format="WAV"))


def _write(target: Path, source: Path, save: Callable[[io.BytesIO], object]) -> None:
    changed = source.stat().st_mtime_ns
    buffer = io.BytesIO()
    save(buffer)
    write_atomic(target, buffer.getvalue())
    os.utime(target, ns=(changed, changed))


def _is_fresh(target: Path, source: Path) -> bool:
    try:
        return target.stat().st_mtime_ns == source.stat().st_mtime_ns
    except FileNotFoundError:
        return False


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        import av
    except ImportError:
        raise MissingExtraError("av", "video", "reading videos") from None
    try:
        file = path.open("rb")
    except OSError as error:
        raise ItemError(f"cannot be read: {error.strerror or error}") from error
    try:
        with file, av.open(file, options=_OPTIONS, metadata_errors="replace") as container:
            yield container
    except (ItemError, MissingExtraError):
        raise
    except (av.FFmpegError, OSError) as error:
        raise ItemError(f"not a video, or damaged: {error.strerror or type(error).__name__}") from error
    except Exception as error:  # a decoder may raise anything on damaged bytes
        raise ItemError(f"damaged video: {' '.join(str(error).split())[:200] or type(error).__name__}") from error


def _pictures(container: Any) -> Any:
    stream = next(iter(container.streams.video), None)
    if stream is None or stream.codec_context is None:
        raise ItemError("no pictures in it")
    size = stream.codec_context.width, stream.codec_context.height
    if size[0] * size[1] > MAX_PIXELS:
        raise ItemError(f"{size[0]} x {size[1]} pixels; at most {MAX_PIXELS} are decoded")
    stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}  # a stream may change its size on the way
    return stream


def _seconds(container: Any, stream: Any) -> float:
    if stream.duration:
        seconds = float(stream.duration * stream.time_base)
    elif container.duration:
        seconds = container.duration / _TIME_BASE
    else:  # written live, so that the header could not know
        packets = [packet for packet in container.demux(stream) if packet.pts is not None]
        ends = [packet.pts + (packet.duration or 0) for packet in packets]
        begin = min((packet.pts for packet in packets), default=0)
        seconds = float((max(ends, default=0) - begin) * stream.time_base)
    if not 0 < seconds <= MAX_SECONDS:
        raise ItemError(f"{seconds:.0f} seconds; expected more than none and at most {MAX_SECONDS:.0f}")
    return seconds


def _nearest(container: Any, stream: Any, times: Sequence[float]) -> dict[float, Any]:
    """Return the frame nearest to each time, in one pass: seeking is exact in few containers, and clips are short."""
    waiting = sorted(set(times), reverse=True)
    found: dict[float, Any] = {}
    before: tuple[float, Any] | None = None
    for time, frame in _timed(container, stream):
        while waiting and time >= waiting[-1]:
            wanted = waiting.pop()
            found[wanted] = before[1] if before and wanted - before[0] <= time - wanted else frame
        if not waiting:
            return found
        before = time, frame
    if before is None:
        raise ItemError("no picture in it can be decoded")
    end = before[0] + float((before[1].duration or 0) * stream.time_base)
    if end < waiting[0] - _SLACK:
        raise ItemError(f"cut off: no picture at {waiting[0]:.1f} s")
    return found | dict.fromkeys(waiting, before[1])


def _timed(container: Any, stream: Any) -> Iterator[tuple[float, Any]]:
    """Yield the frames that are whole and have a time, with their seconds since the first."""
    first = None
    for frame in container.decode(stream):
        if frame.time is not None:
            first = frame.time if first is None else first
            if not frame.is_corrupt:
                yield frame.time - first, frame


def _upright(frame: Any) -> Image:
    image: Image = frame.to_image()
    return image.rotate(frame.rotation, expand=True) if frame.rotation else image


def _decode_mono(container: Any) -> tuple[np.ndarray, int]:
    stream = next(iter(container.streams.audio), None)
    if stream is None or stream.codec_context is None:
        raise ItemError("no sound in it")
    rate = int(stream.codec_context.sample_rate)
    if rate not in _SANE_RATES:
        raise ItemError(f"{rate} samples a second; expected {_SANE_RATES[0]} to {_SANE_RATES[-1]}")
    blocks, count = [np.zeros(0, np.float32)], 0
    for block in _blocks(container, stream):
        blocks.append(block)
        count += len(block)
        if count > MAX_SECONDS * rate:
            raise ItemError(f"more than {MAX_SECONDS:.0f} seconds of sound")
    mono = np.concatenate(blocks)
    if not mono.size:
        raise ItemError("no samples in its sound")
    if not np.isfinite(mono).all():
        raise ItemError("non-finite samples")
    return np.clip(mono, -1.0, 1.0), rate


def _blocks(container: Any, stream: Any) -> Iterator[np.ndarray]:
    """Yield the sound block by block, (n,) float32, and see that the file does not end before it should.

    All its streams are looked at for that: a sound may well be shorter than its pictures.
    """
    import av

    planar, end = av.AudioResampler(format="fltp"), 0.0
    for packet in container.demux():
        if packet.pts is not None:
            end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
        if packet.stream.index == stream.index:
            for frame in packet.decode():
                yield from (part.to_ndarray().mean(axis=0, dtype=np.float32) for part in planar.resample(frame))
    declared = (container.duration or 0) / _TIME_BASE
    if end < declared - _SLACK:
        raise ItemError(f"cut off after {end:.1f} of {declared:.1f} s")
