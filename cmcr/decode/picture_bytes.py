"""How much memory a picture takes until it is 8-bit RGB, told by its header before anything is decoded.

Pillow's own picture is the smaller part: decoders of many formats hold the whole picture once or several times more.
The figures are measured (``tests/test_picture_bytes.py`` measures them again).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFile import ImageFile

_FIXED = 4 << 20  # what decoders take for any picture
_STORED = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "I;16N": 2}  # bytes a pixel; 4 for others
# Bytes a pixel that is taken beside the picture that is made, by format or by the name of Pillow's codec.
_FORMAT = {"WEBP": 4, "AVIF": 14}
_CODEC = {"raw": 0, "zip": 0, "libtiff": 0, "ppm": 9, "ppm_plain": 17}
_EACH_BAND = {"jpeg": 2, "jpeg2k": 6}  # the same for each band; of JPEG the coefficients, where it has several scans
_OTHER = 8
_STRIPS = 3  # times that libtiff and what unpacks for it hold a strip or a tile
_OFFSETS, _OFFSET = (273, 324), 500  # tags of where strips and tiles begin; what Pillow makes of each
_NUMBER, _BYTES = 60, (1, 2, 6, 7)  # what it makes of each number in another tag; types that it keeps as bytes
_TEXT_CHUNK, _TEXT_CHUNKS = 1 << 20, 64  # Pillow unpacks so much text of one chunk, and so many times as much in all


def bytes_to_open(data: bytes) -> int:
    """Return the bytes taken when Pillow opens a file, by formats that make a canvas, decode or read lists then."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _webp_pixels(data) * 8
    if data[:4] == b"\0\0\1\0":
        return _icon_pixels(data) * 8
    if data[:4] == b"\x89PNG":
        return min(data.count(b"zTXt") + data.count(b"iTXt"), _TEXT_CHUNKS) * _TEXT_CHUNK * 4
    return sum(
        count * (_OFFSET if tag in _OFFSETS else _NUMBER)
        for _, tag, code, count in tiff_entries(data)
        if code not in _BYTES
    )


def bytes_to_read_tags(image: Image) -> int:
    """Return the bytes taken by the tags of a loaded picture's EXIF, each of which may be as long as all of it."""
    return _NUMBER // 2 * len(image.info.get("exif", b""))


def tiff_entries(data: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Give position, tag, type and count of values of each entry in a TIFF's first directory; none for other files."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2], "")
    if not order or len(data) < 16 or (42 not in data[2:4] and 43 not in data[2:4]):
        return
    head, number, entry = ("8xQ", "Q", "HHQQ") if 43 in data[2:4] else ("4xI", "H", "HHII")
    (at,) = struct.unpack_from(order + head, data)
    if at + 8 > len(data):
        return
    (count,) = struct.unpack_from(order + number, data, at)
    first, step = at + struct.calcsize(order + number), struct.calcsize(order + entry)
    for position in range(first, min(first + step * count, len(data) - step + 1), step):
        tag, code, values, _ = struct.unpack_from(order + entry, data, position)
        yield position, tag, code, values


def bytes_to_decode(image: ImageFile, data: bytes) -> int:
    """Return the most bytes that it takes beyond that to load an opened picture, turn it upright and make it RGB.

    Turning takes a second picture of the same mode, never more than the RGB one does later.
    """
    pixels, stored = image.width * image.height, _STORED.get(image.mode, 4)
    made = {"P": 8, "La": 8, "RGBa": 8, "PA": 8}.get(image.mode, 5 if image.mode[0] in "IF" else 4)  # ends as RGB
    return pixels * stored + max(_decoder(image, data), pixels * made) + _FIXED


def _decoder(image: ImageFile, data: bytes) -> int:
    """Return what decoding takes beside the picture that it makes."""
    pixels, codec = image.width * image.height, image.tile[0].codec_name if image.tile else ""
    if image.format in _FORMAT:
        return pixels * _FORMAT[image.format] + len(data)  # Pillow copies their content
    if codec in _EACH_BAND:
        return pixels * _EACH_BAND[codec] * len(image.getbands())
    return pixels * _CODEC.get(codec, _OTHER) + (_block(image) if codec == "libtiff" else 0)


def _block(image: ImageFile) -> int:
    """Return the bytes for a strip or tile of a compressed TIFF, which may be much larger than the picture itself."""
    tags: Any = image.tag_v2  # type: ignore[attr-defined]  # libtiff decodes for this plugin alone
    rows = min(int(tags.get(278, image.height)), image.height)
    pixels = max(image.width * rows, int(tags.get(322, 0)) * int(tags.get(323, 0)))
    return int(pixels * _STRIPS * max(1, tags.get(277, 1) * max(tags.get(258, (1,))) // 8))


def _webp_pixels(data: bytes) -> int:
    """Return the size of the canvas that a WebP's first chunk states."""
    kind, at = data[12:16], data[20:30].ljust(10, b"\0")
    if kind == b"VP8X":
        return (1 + int.from_bytes(at[4:7], "little")) * (1 + int.from_bytes(at[7:10], "little"))
    if kind == b"VP8L":
        both = int.from_bytes(at[1:5], "little")
        return (1 + (both & 0x3FFF)) * (1 + (both >> 14 & 0x3FFF))
    return (int.from_bytes(at[6:8], "little") & 0x3FFF) * (int.from_bytes(at[8:10], "little") & 0x3FFF)


def _icon_pixels(data: bytes) -> int:
    """Return the size of the largest picture in an icon by the pictures' own headers, which its directory belies."""
    largest = 0
    for entry in range(int.from_bytes(data[4:6], "little")):
        at = int.from_bytes(data[18 + 16 * entry : 22 + 16 * entry], "little")
        head = data[at : at + 24].ljust(24, b"\0")
        width, height = struct.unpack(">II", head[16:]) if head[:4] == b"\x89PNG" else struct.unpack("<ii", head[4:12])
        largest = max(largest, abs(width * height))
    return largest
