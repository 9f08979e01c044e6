"""Take frames and sound out of videos with PyAV. Whatever is wrong with one becomes an ItemError.

Videos are untrusted: only container formats that hold their own data are opened, and pixels and seconds are bounded.
"""

from __future__ import annotations

import io
import math
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cmcr.decode.common import decoding, note, reserve
from cmcr.decode.containers import joined, opened
from cmcr.decode.mixing import Mix
from cmcr.errors import ItemError
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
_TIME_BASE = 1_000_000  # FFmpeg's AV_TIME_BASE, in which a container's duration is given
_OPTIONS = {"max_pixels": str(MAX_PIXELS)}
_SLACK = 1.0  # seconds by which a video may end before what it declares
_SHEAR = 0.01  # the smaller part of a matrix that still counts as a turn by right angles
_DECODER, _FRAME = 12, 8  # bytes a pixel: of a decoder's pictures, and of a frame with its RGB copy


def duration(path: Path) -> float:
    """Return how long the pictures of a video last, in seconds.

    Raises:
        ItemError: not a video, damaged, without pictures, or above ``MAX_SECONDS``.
    """
    with _opened(path) as container:
        return _seconds(container, _pictures(container))


def evenly(seconds: float, count: int) -> list[float]:
    """Return the middles of ``count`` equal parts of so many seconds; of one part the middle."""
    return [seconds * (2 * part + 1) / (2 * count) for part in range(count)]


def frames_at(path: Path, times: Sequence[float]) -> list[Image]:
    """Return for each time (seconds from the beginning) the frame nearest to it as an RGB picture, as players show it.

    It is turned and mirrored as the video's display matrix says, and made wider or narrower where its pixels are not
    square. A turn by no right angle leaves black corners, and a note.

    Raises:
        ItemError: not a video, damaged, without pictures, cut off before one of the times, above ``MAX_PIXELS``, or
            above the budget of memory.
    """
    with _opened(path) as container:
        stream = _pictures(container)
        if (container.duration or 0) / _TIME_BASE > MAX_SECONDS:
            raise ItemError(f"more than {MAX_SECONDS:.0f} seconds")
        aspect = Fraction(stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio or 1)
        codec = stream.codec_context
        _check_size(_square(codec.width, aspect), codec.height)
        reserve((_DECODER + _FRAME * len(set(times))) * _square(codec.width, max(aspect, Fraction(1))) * codec.height)
        found = {time: _shown(frame, aspect) for time, frame in _nearest(container, stream, times).items()}
        return [found[time] for time in times]


def samples(path: Path, rate: int | None = None) -> tuple[np.ndarray, int]:
    """Return the whole sound of a video, its channels averaged.

    Args:
        path: The video.
        rate: Samples a second wanted; None: as it is.

    Returns:
        (n,) float32 mono samples in [-1, 1], n >= 1, and their rate.

    Raises:
        ItemError: not a video, damaged, without sound, cut off, above ``MAX_SECONDS``, or above the budget of memory.
    """
    mix = Mix(None, MAX_SECONDS)
    with _opened(path) as container:
        for block, own in joined(_sounds(container)):
            mix.add(block, own)
    mono, own = mix.mono(rate)
    if not mono.size:
        raise ItemError("no samples in its sound")
    return mono, own


def unpack_frames(path: Path, times: Sequence[float], targets: Sequence[Path]) -> None:
    """Write the frames nearest to ``times`` as PNG, unless they are there from a run before.

    A target carries its video's time of change, so another video in the same place is unpacked anew.

    Raises:
        ItemError: as ``frames_at``, or the video cannot be read.
    """
    missing = [(time, target) for time, target in zip(times, targets, strict=True) if not _is_fresh(target, path)]
    if missing:
        with decoding():
            for image, (_, target) in zip(frames_at(path, [time for time, _ in missing]), missing, strict=True):
                _write(target, path, partial(image.save, format="PNG"))


def unpack_sound(path: Path, target: Path) -> None:
    """Write the sound of a video as a mono 16-bit WAV of its own rate, unless it is there from a run before.

    Raises:
        ItemError: as ``samples``, or the video cannot be read.
    """
    if not _is_fresh(target, path):
        import soundfile

        with decoding():
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
        file = path.open("rb")
    except OSError as error:
        raise ItemError(f"cannot be read: {error.strerror or error}") from error
    with file, opened(file, _FORMATS, "video", _OPTIONS) as container:
        yield container


def _pictures(container: Any) -> Any:
    stream = next(iter(container.streams.video), None)
    if stream is None or stream.codec_context is None:
        raise ItemError("no pictures in it")
    _check_size(stream.codec_context.width, stream.codec_context.height)
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


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ItemError(f"{width} x {height} pixels; at most {MAX_PIXELS} are decoded")


def _square(width: int, aspect: Fraction) -> int:
    """Return how wide pictures are once their pixels are square: the height stays, as in players."""
    return max(1, round(width * aspect))


def _shown(frame: Any, aspect: Fraction) -> Image:
    """Return a frame as players show it: square pixels first, for the display matrix is of those."""
    image: Image = frame.to_image()
    width = _square(image.width, aspect)
    _check_size(width, image.height)
    if width != image.width:
        image = image.resize((width, image.height))
    matrix = frame.side_data.get("DISPLAYMATRIX")
    return image if matrix is None else _rotate(image, struct.unpack("=9i", bytes(matrix)[:36]))


def _rotate(image: Image, matrix: tuple[int, ...]) -> Image:
    """Return an image moved by a display matrix, in which (x, y) goes to (a x + c y, b x + d y)."""
    from PIL.Image import Transpose

    a, b, _, c, d, *_ = matrix
    straight, crossed = min(abs(a), abs(d)), min(abs(b), abs(c))
    if max(abs(b), abs(c)) <= _SHEAR * straight:
        right, down = a, d
    elif max(abs(a), abs(d)) <= _SHEAR * crossed:
        image, right, down = image.transpose(Transpose.TRANSPOSE), c, b
    elif a * d == b * c:  # all zeros, or everything on one line
        return image
    else:
        degrees = round(math.degrees(math.atan2(b, a)))
        note(f"turned by {degrees} degrees, with black corners")
        upright = image if a * d > b * c else image.transpose(Transpose.FLIP_TOP_BOTTOM)
        return upright.rotate(-degrees, expand=True)
    image = image.transpose(Transpose.FLIP_LEFT_RIGHT) if right < 0 else image
    return image.transpose(Transpose.FLIP_TOP_BOTTOM) if down < 0 else image


def _sounds(container: Any) -> Iterator[Any]:
    """Yield the sound frame by frame, and see that the file does not end before it should.

    All its streams are looked at for that: a sound may well be shorter than its pictures.
    """
    stream, end = next(iter(container.streams.audio), None), 0.0
    if stream is None or stream.codec_context is None:
        raise ItemError("no sound in it")
    for packet in container.demux():
        if packet.pts is not None:
            end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
        if packet.stream.index == stream.index:
            yield from packet.decode()
    declared = (container.duration or 0) / _TIME_BASE
    if end < declared - _SLACK:
        raise ItemError(f"cut off after {end:.1f} of {declared:.1f} s")
