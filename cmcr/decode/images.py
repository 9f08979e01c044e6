"""Decode pictures: untrusted bytes in, an upright 8-bit RGB picture or an ItemError out."""

from __future__ import annotations

import io
import math
from functools import cache
from typing import TYPE_CHECKING

from cmcr.decode.common import note, one_line, refuse_empty, reserve
from cmcr.decode.picture_bytes import bytes_to_decode, bytes_to_open, bytes_to_read_tags
from cmcr.decode.samples import black_is_zero, prepare_loading, to_rgb, unreadable_tiff
from cmcr.errors import ItemError

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFile import ImageFile

MAX_PIXELS = 178_956_970
"""Pictures above this are refused undecoded; it is where Pillow itself speaks of a decompression bomb."""
LONGEST = 100
"""Short edges that are left of a thinner picture's long edge."""

# Those of Pillow's formats that run another program (EPS), hold a second file of any size (ICNS, BLP, IPTC, FITS), or
# only tell what the file is.
_UNREAD = frozenset({"EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG", "ICNS", "BLP", "FTEX", "IPTC", "FITS"})
_SAMPLE = 128  # edge of the sample in which transparency is judged
_ALIKE = 16  # of 255: colours that are not told apart


def read_image(data: bytes, *, longest: float = LONGEST) -> Image:
    """Decode a picture (the first frame of an animation).

    Samples of other depths than 8 bits are scaled by what the header says of them: see ``cmcr.decode.samples``. Alpha
    is dropped, and transparent pixels take the colour that is stored under them.

    Args:
        data: The file's content.
        longest: Of a picture whose long edge is more than this many short edges, only the middle is returned.

    Returns:
        An RGB image, turned upright as its EXIF orientation says.

    Raises:
        ItemError: empty, not a picture, truncated, of samples without a known scale, above ``MAX_PIXELS``, or more
            than the memory given to decoding.
    """
    import warnings

    from PIL import Image, ImageOps, UnidentifiedImageError

    # Pillow warns at half the limit at which it refuses; between the two we decode without a word. It warns of damaged
    # tags too, which say nothing of the pixels.
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
    refuse_empty(data)
    try:
        _reserve(bytes_to_open(data))
        with Image.open(io.BytesIO(data), formats=_formats()) as image:
            return _decoded(image, data, longest)
    except ItemError:
        raise
    except UnidentifiedImageError:
        if (turned := black_is_zero(data)) is not None:
            return ImageOps.invert(read_image(turned, longest=longest))
        raise ItemError(unreadable_tiff(data) or "not a picture that Pillow can read") from None
    except Image.DecompressionBombError:
        raise ItemError(f"decompression bomb: more than {MAX_PIXELS} pixels") from None
    except Exception as error:  # decoders of a dozen formats raise whatever they like on damaged bytes
        unknown = unreadable_tiff(data) if isinstance(error, KeyError) else None  # of a compression, for instance
        raise ItemError(unknown or f"damaged picture: {one_line(error)}") from error


def _reserve(size: int) -> None:
    if size:  # nothing is not a reservation
        reserve(size)


@cache
def _formats() -> list[str]:
    from PIL import Image

    Image.init()
    return [name for name in Image.OPEN if name not in _UNREAD]


def _decoded(image: ImageFile, data: bytes, longest: float) -> Image:
    from PIL import ImageOps

    if image.width * image.height > MAX_PIXELS:
        raise ItemError(f"{image.width} x {image.height} pixels; at most {MAX_PIXELS} are decoded")
    prepare_loading(image)
    _reserve(bytes_to_decode(image, data))
    image.load()
    _reserve(bytes_to_read_tags(image))
    ImageOps.exif_transpose(image, in_place=True)
    if image.has_transparency_data and not image.mode.startswith("I"):
        _note_hidden_colours(image)
    if max(image.size) > longest * min(image.size):
        note(f"more than {longest:g} times as long as wide: only the middle is seen")
    return cut_ends(to_rgb(image), longest)


def cut_ends(image: Image, longest: float = LONGEST) -> Image:
    """Return the middle of a picture whose long edge is more than ``longest`` short edges; others as they are.

    An encoder that scales the short edge to a few hundred pixels and then takes the middle square would build a
    picture of gigabytes from a line of a hundred bytes, and look at none of it but this middle. As much is cut from
    one end as from the other, so that the middle stays where it was.
    """
    short = min(image.size)
    if max(image.size) <= longest * short:
        return image
    keep = math.floor(longest * short)
    left, top = ((edge - keep) // 2 if edge > keep else 0 for edge in image.size)
    return image.crop((left, top, image.width - left, image.height - top))


def _note_hidden_colours(image: Image) -> None:
    """Tell where what lies under transparent pixels is not a plain ground for what can be seen."""
    import numpy as np
    from PIL.Image import Resampling

    small = image.resize(tuple(min(edge, _SAMPLE) for edge in image.size), Resampling.NEAREST)  # type: ignore[arg-type]
    if small.mode in ("La", "RGBa"):
        small = small.convert(small.mode.upper())
    pixels = np.asarray(small.convert("RGBA"), np.int16).reshape(-1, 4)
    hidden, seen = pixels[pixels[:, 3] == 0, :3], pixels[pixels[:, 3] >= 128, :3]
    if len(hidden) < len(pixels) / 100:
        return
    ground = np.median(hidden, axis=0)
    apart = [np.abs(part - ground).max(axis=1, initial=0) > _ALIKE for part in (hidden, seen)]
    if apart[0].mean() > 0.1:
        note("transparent pixels are seen in the colours stored under them: what was cut out is there again")
    elif not len(seen) or apart[1].mean() < 0.1:
        note("its shape is in its transparency alone, which is not seen: put it on a ground of another colour")
