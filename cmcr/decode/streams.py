"""What the headers of FLAC, Ogg and MP3 say about their length: by it one sees whether what was decoded is all."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

from cmcr.errors import ItemError

_XING = re.compile(
    rb"\xff[\xe2-\xff]..(?:.{9}|.{17}|.{32})(?:Xing|Info)...[\x01\x03\x05\x07\x09\x0b\x0d\x0f](.{4})", re.S
)
_VBRI = re.compile(rb"\xff[\xe2-\xff]..(?:.{32})VBRI.{10}(.{4})", re.S)
_KILOBITS = {  # by version (1 for MPEG-1) and layer; the others have no names
    (1, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (1, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (2, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_MPEG_RATES = (44_100, 48_000, 32_000)
_MAX_LINKS = 1000
_NEAR = 1 << 16  # how far into a file the first frame is looked for


@dataclass(frozen=True, slots=True)
class _Page:
    start: int
    end: int
    begins: bool
    ends: bool
    position: int


def without_tags(data: bytes) -> bytes:
    """Return a file without the ID3v2 tags at its beginning: they may hold megabytes of pictures.

    Raises:
        ItemError: it ends within one.
    """
    at = 0
    while data[at : at + 3] == b"ID3" and len(data) >= at + 10:
        size = sum((byte & 0x7F) << shift for byte, shift in zip(data[at + 6 : at + 10], (21, 14, 7, 0), strict=True))
        at += 10 + size + (10 if data[at + 5] & 0x10 else 0)
        if at >= len(data):
            raise ItemError(f"truncated sound: {len(data)} bytes, and its ID3 tag alone has {at}")
    return data[at:] if at else data


def is_stream(data: bytes) -> bool:
    """Say whether ``data`` begins as FLAC, Ogg or MPEG audio does.

    Raises:
        ItemError: it is AAC, or MPEG audio of a free bit rate, which FFmpeg does not decode.
    """
    if len(data) > 2 and data[0] == 0xFF and data[1] & 0xE0 == 0xE0:
        if data[1] & 0xF6 == 0xF0:
            raise ItemError("an AAC sound, which is not read; convert it to FLAC")
        if data[2] >> 4 == 0:
            raise ItemError("MPEG audio of a free bit rate, which is not read; convert it to FLAC")
        return True
    return data[:4] in (b"fLaC", b"OggS")


def flac_samples(data: bytes) -> int:
    """Return how many samples a FLAC file has; 0 when it does not say, or is another file."""
    return int.from_bytes(data[21:26], "big") & 0xF_FFFF_FFFF if data[:4] == b"fLaC" else 0


def mpeg_frames(data: bytes) -> int:
    """Return how many frames an MP3 file has by its Xing or VBRI header; 0 without one."""
    found = _XING.search(data[:_NEAR]) or _VBRI.search(data[:_NEAR])
    return int.from_bytes(found[1], "big") if found else 0


def mpeg_frame_bytes(header: bytes) -> int:
    """Return how long the MPEG audio frame is that begins so, in bytes; 0 when that cannot be known."""
    if len(header) < 4 or header[0] != 0xFF:
        return 0
    version, layer = (header[1] >> 3) & 3, 4 - ((header[1] >> 1) & 3)  # version 3 is MPEG-1, 2 is MPEG-2, 0 is 2.5
    table = _KILOBITS.get((1 if version == 3 else 2, layer), ())
    bits, rate = header[2] >> 4, (header[2] >> 2) & 3
    if version == 1 or rate == 3 or not 0 < bits < len(table):
        return 0
    hertz = _MPEG_RATES[rate] >> {3: 0, 2: 1, 0: 2}[version]
    each = 72_000 if layer == 3 and version != 3 else 144_000
    return each * table[bits] // hertz + ((header[2] >> 1) & 1)


@dataclass(frozen=True, slots=True)
class Link:
    """One of the streams that follow one another in an Ogg file, and the position that its last page tells."""

    data: bytes
    position: int

    @property
    def is_short_vorbis(self) -> bool:
        """Whether all its sound is on one page: FFmpeg needs two to see at which sample a Vorbis stream ends."""
        positions = (page.position for page in _pages(self.data) if page.position > 0)
        return self.data[28:35] == b"\x01vorbis" and len(list(itertools.islice(positions, 2))) == 1


def ogg_links(data: bytes) -> tuple[list[Link], str | None]:
    """Return the streams that follow one another in an Ogg file, and in which way the last is cut (None: it is not).

    Raises:
        ItemError: there are too many.
    """
    starts: list[int] = []
    positions: list[int] = []
    last: _Page | None = None
    for page in _pages(data):
        if last is None or (page.begins and not last.begins):
            starts.append(page.start)
            positions.append(page.position)
        last, positions[-1] = page, page.position
        if len(starts) > _MAX_LINKS:
            raise ItemError(f"more than {_MAX_LINKS} streams follow one another in it; take it apart")
    edges = itertools.pairwise([*starts, len(data)])
    links = [Link(data[start:end], position) for (start, end), position in zip(edges, positions, strict=True)]
    if last is not None and last.end > len(data):
        return links, f"{len(data)} of at least {last.end} bytes"
    return links, None if last is None or last.ends else f"no end of its stream in {len(data)} bytes"


def _pages(data: bytes) -> Iterator[_Page]:
    at = data.find(b"OggS")
    while at >= 0:
        head = data[at : at + 27]
        if len(head) == 27 and head[4] == 0:
            sizes = data[at + 27 : at + 27 + head[26]]
            end = at + 27 + head[26] + sum(sizes)
            yield _Page(
                at, end, bool(head[5] & 2), bool(head[5] & 4), int.from_bytes(head[6:14], "little", signed=True)
            )
            at = data.find(b"OggS", end)
        else:
            at = data.find(b"OggS", at + 4)
