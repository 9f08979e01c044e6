"""What a picture's samples mean: from Pillow's modes to 8-bit RGB, by what the header says and never by the data.

| samples | black to white |
|---|---|
| unsigned, up to 16 bits | 0 to the largest number of as many bits, or to 2^k - 1 where the header states that |
| signed | 0 to the largest number; negative ones are refused |
| 32-bit integers | the same, but where no header states the white, pictures without an upper half are refused |
| float | 0 to 1, or to 2^k - 1 where the header states that; others are refused |
"""

from __future__ import annotations

import io
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cmcr.decode.common import note
from cmcr.decode.picture_bytes import tiff_entries
from cmcr.errors import ItemError

if TYPE_CHECKING:
    from PIL.Image import Image as Picture
    from PIL.ImageFile import ImageFile

Kind = Literal["unsigned", "signed", "float"]

_KINDS: dict[int, Kind] = {1: "unsigned", 2: "signed", 3: "float"}
_INVERTED, _PLANES = 0, 2  # of PhotometricInterpretation and PlanarConfiguration
_PHOTOMETRIC = {0: "white-is-zero", 1: "black-is-zero", 2: "RGB", 3: "palette", 4: "mask", 5: "CMYK", 6: "YCbCr"}
_BITS, _COMPRESSION, _PHOTO, _MAX, _PLANAR, _COLORMAP, _EXTRA, _FORMAT, _SMAX = (
    258,
    259,
    262,
    281,
    284,
    320,
    338,
    339,
    341,
)
_TURNED = {"F;32BF": "F;32F", "I;16BS": "I;16S", "I;32BS": "I;32S"}  # Pillow's names of how bytes are laid out
_BLOCK = 1 << 18  # pixels scaled at one time
_CURE = "convert it to 8 bits"


@dataclass(frozen=True)
class Samples:
    """How a grey picture's header says that its numbers are to be read.

    Attributes:
        kind: Of numbers.
        bits: Of each of them.
        inverted: Whether 0 is white.
        stated: The number that the header gives for white (or for black, if inverted), if it gives one.
    """

    kind: Kind
    bits: int
    inverted: bool = False
    stated: int | None = None

    @property
    def full(self) -> int:
        """The largest number of so many bits; 1 for floats."""
        if self.kind == "float":
            return 1
        return int(2 ** (self.bits - (self.kind == "signed")) - 1)

    @property
    def top(self) -> int:
        """The number at the other end than 0."""
        return self.stated or self.full


def prepare_loading(image: ImageFile) -> None:
    """Correct or refuse what Pillow is about to load wrongly.

    Of compressed big-endian numbers libtiff has turned the bytes already, and Pillow turns them once more.

    Raises:
        ItemError: colours in separate planes that Pillow takes for others.
    """
    _refuse_misread(image, getattr(image, "tag_v2", {}))
    if sys.byteorder == "little" and image.tile and image.tile[0].codec_name == "libtiff":
        args = image.tile[0].args
        if isinstance(args, tuple) and args[0] in _TURNED:
            image.tile = [image.tile[0]._replace(args=(_TURNED[args[0]], *args[1:]))]


def to_rgb(image: ImageFile) -> Picture:
    """Turn a loaded picture into 8-bit RGB.

    Raises:
        ItemError: samples whose scale is not known, or which are out of theirs.
    """
    tags = getattr(image, "tag_v2", {})
    match image.mode:
        case mode if mode in ("I", "F") or mode.startswith("I;16") or _kind(tags) == "signed":
            return _grey(image, _samples(image, tags)).convert("RGB")
        case "P":
            if 0 < max(tags.get(_COLORMAP, (0,))) < 256:  # 8-bit colours where the standard wants 16: many do it
                image.putpalette(bytes(tags[_COLORMAP]), "RGB;L")
            return image.convert("RGBA").convert("RGB")
        case "La" | "RGBa" as mode:  # colours multiplied by their alpha
            return image.convert(mode.upper()).convert("RGB")
        case _:
            return image.convert("RGB")


def black_is_zero(data: bytes) -> bytes | None:
    """Return a white-is-zero TIFF as a black-is-zero one, of which Pillow opens more kinds; None for other files.

    What is read from it is the negative of the picture.
    """
    order = "<" if data.startswith(b"II") else ">"
    for position, tag, code, count in tiff_entries(data):
        value = position + (12 if data[2] == 43 or data[3] == 43 else 8)
        if (tag, code, count) == (_PHOTO, 3, 1) and data[value : value + 2] == bytes(2):
            return data[:value] + struct.pack(order + "H", 1) + data[value + 2 :]
    return None


def unreadable_tiff(data: bytes) -> str | None:
    """Return what samples a TIFF holds that Pillow does not open; None if it is not a TIFF."""
    from PIL.TiffImagePlugin import PREFIXES, ImageFileDirectory_v2

    if not data.startswith(tuple(PREFIXES)):
        return None
    try:
        tags = ImageFileDirectory_v2(data[:16] if data[2] == 43 or data[3] == 43 else data[:8])
        file = io.BytesIO(data)
        file.seek(tags.next)
        tags.load(file)
        bits, photo = tags.get(_BITS, (1,)), tags.get(_PHOTO, _INVERTED)
        kind, order = _kind(tags) or "other", "big" if data.startswith(b"MM") else "little"
    except Exception:  # whatever the reader of tags raises on damaged bytes
        return "damaged picture: a TIFF without readable tags"
    if not bits or len(tags) < 3:
        return "damaged picture: a TIFF without readable tags"
    told = f"{len(bits)} x {bits[0]}-bit {kind} samples, {_PHOTOMETRIC.get(photo, f'photometric {photo}')}"
    told += f", compression {tags.get(_COMPRESSION, 1)}"
    return f"a TIFF of {told}, {order}-endian: Pillow cannot read that; {_CURE}"


def _kind(tags: Any) -> Kind | None:
    formats = tags.get(_FORMAT, (1,))
    return _KINDS.get(formats[0]) if isinstance(formats, tuple) and formats else None


def _samples(image: ImageFile, tags: Any) -> Samples:
    """Return how an image of mode I, I;16, F or of signed bytes is to be read."""
    if image.mode == "F":
        return Samples("float", 32, tags.get(_PHOTO) == _INVERTED, _stated(tags, [1, *range(8, 17)]))
    if image.format == "TIFF":
        kind, bits = _kind(tags) or "unsigned", int(tags[_BITS][0])
        return Samples(kind, bits, tags.get(_PHOTO, _INVERTED) == _INVERTED, _stated(tags, _depths(bits)))
    if image.mode == "I" and image.format not in ("PPM", "PNG"):
        raise ItemError(f"{image.format} of 32-bit samples without a known scale; {_CURE}")
    return Samples("unsigned", 16)  # Pillow scales other depths of PNM to 16 bits; those of PNG are so by its standard


def _depths(bits: int) -> range:
    return range(8, min(bits, 32))  # a damaged tag may give any number


def _stated(tags: Any, bits: Any) -> int | None:
    """Return the white that a TIFF states, if it is the largest number of some depth.

    Some programs write the largest number that occurs instead: scaling by that would stretch each picture its own way.
    """
    depths = {2**k - 1 for k in bits}
    for tag in (_SMAX, _MAX):
        value = tags.get(tag)
        value = value[0] if isinstance(value, tuple) and value else value
        if value in depths:
            return int(value)
    return None


def _refuse_misread(image: ImageFile, tags: Any) -> None:
    """Refuse the few kinds of TIFF that Pillow opens but reads wrongly."""
    if not tags or image.mode in ("1", "L", "P", "I", "F") or image.mode.startswith("I;16"):
        return
    bits = int(tags.get(_BITS, (1,))[0])
    plain = bits == 8 and tags.get(_PHOTO) in (2, 5) and 1 not in tags.get(_EXTRA, ())
    misread = image.mode == "LAB" or (image.info.get("compression") == "raw" and not plain)
    if tags.get(_PLANAR) == _PLANES and misread:
        raise ItemError(f"a TIFF of {bits}-bit {image.mode} in separate planes: Pillow misreads that; {_CURE}")
    if bits > 8 and (stated := _stated(tags, _depths(bits))):
        raise ItemError(f"a TIFF of {bits}-bit {image.mode} with white at {stated}: Pillow cannot scale that; {_CURE}")


def _grey(image: Picture, samples: Samples) -> Picture:
    from PIL import Image

    grey = Image.new("L", image.size)
    low, high = np.inf, -np.inf
    for row, block in _blocks(image, samples):
        if not np.isfinite(block).all():
            raise ItemError("samples that are not finite (NaN or infinity)")
        low, high = min(low, float(block.min())), max(high, float(block.max()))
        grey.paste(Image.fromarray(_scaled(block, samples)), (0, row))
    _check_range(low, high, samples)
    return grey


def _blocks(image: Picture, samples: Samples) -> Iterator[tuple[int, np.ndarray]]:
    """Give the numbers a few rows at a time, so that no copy of a large picture is made."""
    rows = max(1, _BLOCK // image.width)
    for row in range(0, image.height, rows):
        block = np.asarray(image.crop((0, row, image.width, min(row + rows, image.height))))
        if block.dtype == np.uint8 and samples.kind == "signed":
            block = block.view(np.int8)
        elif block.dtype == np.int32 and samples.kind == "unsigned":
            block = block.view(np.uint32)
        yield row, block


def _scaled(block: np.ndarray, samples: Samples) -> np.ndarray:
    if samples.top == 65_535:
        grey = np.clip(block, 0, samples.top).astype(np.uint16) >> 8
    else:
        grey = np.rint(np.clip(block, 0, samples.top) * (255 / samples.top))
    eight: np.ndarray = grey.astype(np.uint8)
    return 255 - eight if samples.inverted else eight


def _check_range(low: float, high: float, samples: Samples) -> None:
    """Refuse numbers beyond black and white, and 32-bit ones of which neither is known; tell of a very dark picture.

    Floats may be beyond by half a grey level: resampling does that.
    """
    spare = samples.top / 512 if samples.kind == "float" else 0
    told = f"{samples.bits}-bit {samples.kind} samples from {low:.9g} to {high:.9g}"
    if low < -spare or high > samples.top + spare:
        raise ItemError(f"{told}; expected 0 to {samples.top}: {_CURE}")
    if samples.kind == "float" or samples.stated:
        return
    if samples.bits == 32 and high <= samples.full // 2:
        raise ItemError(f"{told}, and its header does not say which number is white: {_CURE}")
    if samples.bits == 16 and 0 < high < samples.full / 15:
        shade = "white" if samples.inverted else "black"
        note(f"16-bit samples that use less than a sixteenth of their range: read as they are, nearly {shade}")
