"""Decode pictures: untrusted bytes in, an upright RGB picture or an ItemError out."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

from cmcr.decode.common import one_line, refuse_empty
from cmcr.errors import ItemError

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS = 178_956_970
"""Pictures above this are refused undecoded; it is where Pillow itself speaks of a decompression bomb."""


def read_image(data: bytes) -> Image:
    """Decode a picture (the first frame of an animation).

    Returns:
        An RGB image, turned upright as its EXIF orientation says; 16-bit grey is scaled to 8 bits.

    Raises:
        ItemError: empty, not a picture, truncated, or above ``MAX_PIXELS``.
    """
    import warnings

    from PIL import Image, ImageOps, UnidentifiedImageError

    # Pillow warns at half the limit at which it refuses; between the two we decode without a word.
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
    refuse_empty(data)
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ItemError(f"{image.width} x {image.height} pixels; at most {MAX_PIXELS} are decoded")
            image.load()
            upright = ImageOps.exif_transpose(image)
            if upright.mode.startswith("I;16"):
                return Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8)).convert("RGB")
            return upright.convert("RGBA").convert("RGB") if upright.mode == "P" else upright.convert("RGB")
    except ItemError:
        raise
    except UnidentifiedImageError:
        raise ItemError("not a picture that Pillow can read") from None
    except Image.DecompressionBombError:
        raise ItemError(f"decompression bomb: more than {MAX_PIXELS} pixels") from None
    except Exception as error:  # decoders of a dozen formats raise whatever they like on damaged bytes
        raise ItemError(f"damaged picture: {one_line(error)}") from error
