"""Where the samples lie in files of chunks (WAV, RF64, BW64, W64, AIFF; AU, NIST), and whether they are all there.

libsndfile believes the sizes in such files, and takes one that is cut for a shorter sound. So the chunk of the samples
is looked for here: a file that ends before it does is refused; where a writer could not know its size (it wrote to a
pipe, or died), all that follows is taken.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from cmcr.decode.common import reserve
from cmcr.errors import ItemError

_MISCOUNT = 64
"""Bytes by which a size may be wrong in a file that is else as long as it says: some writers count headers, too."""
_MAX_CHUNKS = 10_000
_MPEG = (0x50, 0x55)
_AU: dict[bytes, Literal["little", "big"]] = {b".snd": "big", b"dns.": "little"}
_NIST = re.compile(rb"NIST_1A\n *([0-9]{1,6})\n")
_NIST_COUNTS = re.compile(rb"^(sample_count|channel_count|sample_n_bytes) -[is]1? ([0-9]{1,15})\s", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class _Kind:
    """How a family of files is laid out.

    Attributes:
        names: Bytes of a chunk's name, of which four matter.
        sizes: Bytes of its size.
        order: Their order.
        align: Chunks begin at multiples of it.
        own: Bytes of the header that a chunk's size counts, too.
        samples: The chunk that holds them.
        ahead: Bytes in it before the samples.
        unknown: Sizes from here on mean that the writer did not know: sox, ffmpeg and others have several such.
    """

    names: int = 4
    sizes: int = 4
    order: Literal["little", "big"] = "little"
    align: int = 2
    own: int = 0
    samples: bytes = b"data"
    ahead: int = 0
    unknown: int = 0x7EFF_F000

    def number(self, data: bytes | bytearray, at: int) -> int:
        """Return the size written at ``at``."""
        return int.from_bytes(data[at : at + self.sizes], self.order)


_WAV = _Kind()
_KINDS = {
    b"RIFF": _WAV,
    b"RF64": _WAV,
    b"BW64": _WAV,
    b"RIFX": _Kind(order="big"),
    b"FORM": _Kind(order="big", samples=b"SSND", ahead=8),
    b"riff": _Kind(names=16, sizes=8, align=8, own=24, unknown=1 << 62),
}


@dataclass(frozen=True, slots=True)
class _Chunk:
    name: bytes
    body: int
    size: int

    @property
    def end(self) -> int:
        return self.body + self.size


def is_chunked(data: bytes) -> bool:
    """Say whether ``data`` is of a kind that is known here."""
    return data[:4] in _KINDS


def holds_mpeg(data: bytes) -> bool:
    """Say whether the samples of a WAV are MPEG audio."""
    kind = _KINDS[data[:4]]
    form = next((chunk for chunk in _chunks(data, kind) if chunk.name == b"fmt "), None)
    return form is not None and int.from_bytes(data[form.body : form.body + 2], kind.order) in _MPEG


def for_libsndfile(data: bytes) -> bytes:
    """Return a file that libsndfile reads rightly: ``data`` itself, or a copy where it would not.

    Raises:
        ItemError: it ends before its samples do.
    """
    kind = _KINDS[data[:4]]
    if data[:4] == b"BW64":  # another name, and chunks of its own that say nothing of the samples
        data = b"RF64" + data[4:]
    chunks = list(_chunks(data, kind))
    samples = next((chunk for chunk in chunks if chunk.name == kind.samples), None)
    outer = kind.number(data, kind.names)
    end = outer if kind.own else outer + kind.names + kind.sizes
    if samples is None:
        if outer < kind.unknown and len(data) < end - 1:  # the last pad byte is often left out
            raise ItemError(f"truncated sound: {len(data)} of {end} bytes")
        return data
    ds64 = next((chunk for chunk in chunks if chunk.name == b"ds64"), None) if samples.size == 0xFFFF_FFFF else None
    size = samples.size if ds64 is None else int.from_bytes(data[ds64.body + 8 : ds64.body + 16], "little")
    rest = len(data) - samples.body
    if _is_unknown(size, kind, ds64) and not _is_empty(data, samples, chunks):
        return _mended(data, kind, samples, ds64)
    if size - rest > (_MISCOUNT if end <= len(data) else 0):
        raise ItemError(f"truncated sound: {len(data)} of {samples.body + size} bytes")
    return data[: samples.body + size] if kind.own else data  # libsndfile takes what follows in a W64 for samples


def with_true_length(data: bytes) -> bytes:
    """Return a file with a plain header, which tells how long its samples are, so that libsndfile reads it rightly.

    Those are AU and NIST SPHERE; others are returned as they are.

    Raises:
        ItemError: it ends before its samples do.
    """
    end = len(data)
    if data[:4] in _AU and len(data) >= 24:
        start, size = (int.from_bytes(data[at : at + 4], _AU[data[:4]]) for at in (4, 8))
        if size == 0 or size >= _WAV.unknown:
            return data[:8] + b"\xff" * 4 + data[12:]  # all that follows
        end = start + size if size != len(data) else size  # some writers count the header, too
    elif head := _NIST.match(data):
        counts = {name: int(count) for name, count in _NIST_COUNTS.findall(data[: int(head[1])])}
        if len(counts) == 3:
            end = int(head[1]) + math.prod(counts.values())
    if len(data) < end:
        raise ItemError(f"truncated sound: {len(data)} of {end} bytes")
    return data


def _chunks(data: bytes, kind: _Kind) -> Iterator[_Chunk]:
    header = kind.names + kind.sizes
    at = header + kind.names
    for _ in range(_MAX_CHUNKS):
        if at + header > len(data):
            return
        found = _Chunk(data[at : at + 4], at + header, max(0, kind.number(data, at + kind.names) - kind.own))
        yield found
        at = found.end + -found.end % kind.align


def _is_unknown(size: int, kind: _Kind, ds64: _Chunk | None) -> bool:
    if ds64 is not None:
        return size in (0, 0xFFFF_FFFF) or size >= 1 << 62
    return size <= kind.ahead or size >= kind.unknown


def _is_empty(data: bytes, samples: _Chunk, chunks: list[_Chunk]) -> bool:
    """Say whether nothing but other chunks follows: then none is what the size says."""
    later = [samples, *chunks[chunks.index(samples) + 1 :]]
    named = all(chunk.name.isascii() and chunk.name.decode().isprintable() for chunk in later)
    return named and -1 <= later[-1].end - len(data) <= 1


def _mended(data: bytes, kind: _Kind, samples: _Chunk, ds64: _Chunk | None) -> bytes:
    reserve(len(data))
    copy = bytearray(data)
    at, width = (samples.body - kind.sizes, kind.sizes) if ds64 is None else (ds64.body + 8, 8)
    size = len(data) - samples.body + kind.own
    if size >= 1 << 8 * width:
        raise ItemError(f"{size} bytes of samples, and no room for that size in its header; convert it to FLAC")
    copy[at : at + width] = size.to_bytes(width, kind.order)
    return bytes(copy)
