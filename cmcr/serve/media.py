"""What a row looks and sounds like: pictures, sounds and clouds made anew from its file, never the file itself."""

from __future__ import annotations

import base64
from typing import NamedTuple

import numpy as np

from cmcr.decode import decoding
from cmcr.errors import ItemError
from cmcr.memory import MediaRoots
from cmcr.modality import Modality
from cmcr.report import Media, Previews, data_uri
from cmcr.serve.kept import Kept
from cmcr.serve.shelf import Shelf
from cmcr.shapes.clouds import read_point_cloud

POINTS = 4096
"""Of a cloud that is turned; more look no better at its size."""

KEPT_BYTES = 64 << 20
"""What is kept of pictures, sounds and clouds that were shown."""

CLOUD_TYPE = "application/octet-stream"


class Shown(NamedTuple):
    """A picture, a sound or the points of a cloud, as bytes of a media type."""

    type: str
    data: bytes


class _Turned(Previews):
    """Previews whose clouds are points and no drawings."""

    def of(self, modality: Modality, data: bytes | None, suffix: str = "", text: str | None = None) -> Media:
        if modality is not Modality.POINT_CLOUD or data is None:
            return super().of(modality, data, suffix, text)
        try:
            return Media("cloud", data_uri(CLOUD_TYPE, packed_points(read_point_cloud(data, suffix))))
        except ItemError as error:
            return Media("none", note=str(error))


class Viewer:
    """Shows rows, and keeps what it has shown within ``KEPT_BYTES``."""

    def __init__(self, roots: MediaRoots | None = None, most: int = KEPT_BYTES) -> None:
        """Open files in ``roots`` (None: the working directory) and in the memories' own folders."""
        self._roots, self._kept = roots or MediaRoots(), Kept[tuple[str, int], Shown](most)

    @property
    def kept_bytes(self) -> int:
        """What is kept of them."""
        return self._kept.bytes

    def show(self, shelf: Shelf, number: int) -> Shown:
        """Return what is shown of a row.

        Raises:
            ItemError: there is nothing to be shown; the message says why.
            IndexError: there is no such row.
        """
        key = str(shelf.modality), number
        found = self._kept.find(key)
        if found is None:
            found = self._made(shelf, number)
            self._kept.keep(key, found, len(found.data))
        return found

    def _made(self, shelf: Shelf, number: int) -> Shown:
        part, own = shelf.home(number)
        with decoding():  # within the budget that all threads share
            media = _Turned(roots=self._roots).of_row(
                part.gallery, shelf.modality, part.gallery.row(shelf.modality, own)
            )
        if not media.uri:
            raise ItemError(media.note or "nothing to be shown")
        head, _, body = media.uri.partition(",")
        return Shown(head.removeprefix("data:").removesuffix(";base64"), base64.b64decode(body))


def packed_points(points: np.ndarray) -> bytes:
    """Return (N, 3) or (N, 6) points as at most ``POINTS`` little-endian float32 rows of six: place and colour.

    Places are in the unit ball, colours between 0 and 1; -1 where there are none.
    """
    few = points[:: max(1, -(-len(points) // POINTS))].astype(np.float64)
    places = few[:, :3] - (few[:, :3].min(axis=0) + few[:, :3].max(axis=0)) / 2
    places /= max(float(np.linalg.norm(places, axis=1).max()), 1e-9)
    colours = np.full_like(places, -1.0)
    if few.shape[1] >= 6:
        colours = np.clip(few[:, 3:6] / (255 if few[:, 3:6].max() > 1 else 1), 0, 1)
    return np.concatenate([places, colours], axis=1).astype("<f4").tobytes()
