"""Class-agnostic box proposals: where in a picture something may be, before anyone has listened or read."""

from __future__ import annotations

import hashlib
import itertools
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cmcr.decode.images import read_image
from cmcr.errors import InputError, ItemError, MissingExtraError, nearest
from cmcr.files import write_json
from cmcr.items import Item, decode
from cmcr.reading import DamagedError, parse_json, plainly, read_json, reading

if TYPE_CHECKING:
    from PIL.Image import Image

GRIDS = {"grid": (1.0, 0.55, 0.3), "fine-grid": (1.0, 0.6, 0.36, 0.216)}
"""Sides of the windows of each grid, as fractions of the picture; every width is combined with every height."""
SELECTIVE_SEARCH = "selective-search"
LIMIT = 200
"""Boxes that are kept of a selective search."""
CROP_SIDE = 8
"""Pixels of the least side of a crop; a smaller box is cut out with what surrounds it."""

_SEARCHED = 200  # pixels of the longer side in which a selective search looks; its time grows faster than the area
_LEAST_AREA = 0.01
_ALIKE = 0.85
_MAX_FILE = 1 << 30


@dataclass(frozen=True)
class Proposals:
    """A way to propose boxes.

    Attributes:
        name: How the user chose it.
        boxes: Gives the (P, 4) boxes of a picture, P >= 1, as fractions x0, y0, x1, y1 in 1/10,000; raises ItemError.
        settings: What was chosen.
    """

    name: str
    boxes: Callable[[Item], np.ndarray]
    settings: Mapping[str, Any] = field(default_factory=dict)


def open_proposals(choice: str, limit: int = LIMIT, keep: Path | None = None) -> Proposals:
    """Return the proposals called ``grid``, ``fine-grid`` or ``selective-search``, or those of a JSON file.

    Args:
        choice: A name, or a file ``{"picture's id": [[x0, y0, x1, y1], ...], ...}`` with fractions of the picture.
        limit: Boxes that are kept of a selective search.
        keep: Folder in which the boxes of a selective search are kept, for a second run.

    Raises:
        InputError: neither a known name nor a readable file of boxes, or a limit below 1.
        MissingExtraError: OpenCV or its contributed modules are not installed.
    """
    if choice in GRIDS:
        windows = grid(GRIDS[choice])
        return Proposals(choice, lambda item: windows, {"sides": list(GRIDS[choice]), "step": "half a window"})
    if choice == SELECTIVE_SEARCH:
        return _searching(limit, keep)
    if not Path(choice).is_file():
        known = [*GRIDS, SELECTIVE_SEARCH]
        raise InputError(
            f"proposals {choice!r}; expected {', '.join(known)}, or a JSON file of boxes{nearest(choice, known)}"
        )
    read = read_boxes(Path(choice))

    def of_file(item: Item) -> np.ndarray:
        if item.id not in read:
            raise ItemError(f"no proposals in {choice}")
        return read[item.id]

    return Proposals(choice, of_file)


def _searching(limit: int, keep: Path | None) -> Proposals:
    if limit < 1:
        raise InputError(f"--limit {limit}; expected 1 or more")
    settings = {"strategy": "fast", "longer side": _SEARCHED, "at most": limit, "alike above IoU": _ALIKE}
    settings["opencv"] = _opencv().__version__
    folder = keep and keep / "-".join(
        re.sub(r"[^\w.]", "", str(value)) for value in (SELECTIVE_SEARCH, *settings.values())
    )

    def boxes(item: Item) -> np.ndarray:
        data = item.read()
        known = folder and folder / f"{hashlib.sha256(data).hexdigest()}.json"
        if known and known.is_file():
            with reading(known, "delete it, and run the same command again"):
                return _boxes(read_json(known))
        found = selective_search(read_image(data, longest=math.inf), limit)
        if known:
            write_json(known, found.tolist())
        return found

    return Proposals(SELECTIVE_SEARCH, boxes, settings)


def grid(sides: tuple[float, ...]) -> np.ndarray:
    """Return the (P, 4) windows of all widths and heights in ``sides``, half a window apart at most, edge to edge.

    With k places along one side of the picture there are k^2 windows: 100 for ``grid``, 324 for ``fine-grid``.
    """
    spans = [(start, start + side) for side in sides for start in np.linspace(0, 1 - side, math.ceil(2 / side - 1))]
    return _rounded(np.array([(x0, y0, x1, y1) for (y0, y1), (x0, x1) in itertools.product(spans, spans)]))


def read_boxes(path: Path) -> dict[str, np.ndarray]:
    """Return the boxes of a proposals file by the id of their picture, repeated ones dropped, in the file's order.

    Raises:
        InputError: not a JSON object of lists of boxes, or a box that is not finite, swapped, or without area inside
            its picture; the message names the picture and the box.
    """
    if path.stat().st_size > _MAX_FILE:
        raise InputError(f"{path}: above {_MAX_FILE >> 30} GiB; split it")
    try:
        value = parse_json(decode(path.read_bytes(), str(path)), strict=True)
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error}); expected {{picture: [[x0, y0, x1, y1], ...]}}") from None
    if not isinstance(value, dict) or not value:
        raise InputError(f"{path}: no object with entries; expected {{picture: [[x0, y0, x1, y1], ...]}}")
    return {name: _checked(boxes, f"{path}: {name!r}") for name, boxes in value.items()}


def _boxes(value: Any) -> np.ndarray:
    with plainly():
        array = np.array(value, np.float64)
    if array.ndim != 2 or array.shape[1] != 4 or not len(array):
        raise DamagedError("not a list of boxes")
    return array


def _checked(boxes: Any, where: str) -> np.ndarray:
    try:
        array = _boxes(boxes)
    except ValueError:
        raise InputError(f"{where}: expected a list of boxes [x0, y0, x1, y1]") from None
    kept = _rounded(array)
    bad = ~(np.isfinite(array).all(axis=1) & (kept[:, 0] < kept[:, 2]) & (kept[:, 1] < kept[:, 3]))
    if bad.any():
        shown = [float(f"{value:g}") for value in array[bad][0]]
        raise InputError(f"{where}: box {shown}; expected fractions of the picture with x0 < x1 and y0 < y1")
    return _first_of_each(kept)


def selective_search(picture: Image, limit: int = LIMIT) -> np.ndarray:
    """Return the whole picture and the largest boxes of a selective search (Uijlings et al., 2013), largest first.

    OpenCV's fast strategy, on the picture shrunk to 200 pixels. Boxes below a hundredth of the picture, and those that
    overlap a larger one almost fully, are left out. OpenCV orders what it finds at random; here it is sorted.

    Raises:
        MissingExtraError: OpenCV or its contributed modules are not installed.
    """
    small = picture.copy()
    small.thumbnail((_SEARCHED, _SEARCHED))
    search = _opencv().ximgproc.segmentation.createSelectiveSearchSegmentation()
    search.setBaseImage(np.ascontiguousarray(np.asarray(small)[:, :, ::-1]))
    search.switchToSelectiveSearchFast()
    x, y, width, height = np.asarray(search.process(), np.float64).reshape(-1, 4).T
    found = np.stack([x / small.width, y / small.height, (x + width) / small.width, (y + height) / small.height], 1)
    found = np.unique(_rounded(np.concatenate([found, [[0, 0, 1, 1]]])), axis=0)
    area = np.prod(found[:, 2:] - found[:, :2], axis=1)
    ordered = found[np.argsort(-area, kind="stable")][: np.count_nonzero(area >= _LEAST_AREA)]
    alike, kept = iou(ordered, ordered) > _ALIKE, np.zeros(len(ordered), bool)
    for number in range(len(ordered)):
        kept[number] = not (alike[number] & kept).any()
    return ordered[kept][:limit]


def _opencv() -> Any:
    try:
        import cv2  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        cv2 = None
    if not hasattr(cv2, "ximgproc"):  # the plain package lacks the contributed modules
        raise MissingExtraError("opencv-contrib-python-headless", "opencv", "selective search")
    return cv2


def iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the (N, M) intersections over unions of (N, 4) with (M, 4) boxes."""
    low, high = (
        end(first[:, None, part], second[None, :, part])
        for end, part in ((np.maximum, slice(0, 2)), (np.minimum, slice(2, 4)))
    )
    shared = np.prod(np.maximum(high - low, 0), axis=-1)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=-1) for boxes in (first, second)]
    return np.asarray(shared / (areas[0][:, None] + areas[1][None] - shared), np.float64)


def crop(picture: Image, box: np.ndarray) -> Image:
    """Cut a box out of a picture, whole pixels and at least ``CROP_SIDE`` a side where the picture has them."""
    left, right = _span(box[0], box[2], picture.width)
    top, bottom = _span(box[1], box[3], picture.height)
    return picture.crop((left, top, right, bottom))


def _span(low: float, high: float, length: int) -> tuple[int, int]:
    first, last = math.floor(low * length), math.ceil(high * length)
    missing = min(CROP_SIDE, length) - (last - first)
    if missing > 0:
        first = min(max(first - missing // 2, 0), length - min(CROP_SIDE, length))
        last = first + min(CROP_SIDE, length)
    return first, last


def _rounded(boxes: np.ndarray) -> np.ndarray:
    return np.asarray(np.round(np.clip(boxes, 0, 1), 4), np.float64)


def _first_of_each(boxes: np.ndarray) -> np.ndarray:
    return boxes[np.sort(np.unique(boxes, axis=0, return_index=True)[1])]
