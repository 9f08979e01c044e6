"""A surface of polygons, and points spread evenly over it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cmcr.decode import note, reserve
from cmcr.errors import ItemError, MissingExtraError

SURFACE_POINTS = 10_000
"""Points sampled from a mesh, whose bare vertices say little about its shape."""

_BYTES_A_TRIANGLE = 400  # what trimesh holds of one while it samples
_FOLD = 1e-4  # of a polygon's area; less is a straight edge that was rounded
_MOST_EFFORT = 10_000_000  # points looked at while concave polygons are cut: some seconds
_EFFORT_EACH = 50


@dataclass(frozen=True, slots=True)
class Polygons:
    """What a mesh file holds.

    Attributes:
        vertices: (V, 3) float64.
        corners: (C,) int64, the vertices of all polygons one behind the other.
        sizes: (F,) int64, how many of them each polygon has.
        parts: (F,) int64, which material each polygon has, in the order of their first use; None where a format has
            no such thing.
    """

    vertices: np.ndarray
    corners: np.ndarray
    sizes: np.ndarray
    parts: np.ndarray | None = None

    @classmethod
    def of(
        cls, vertices: np.ndarray, corners: Sequence[int] | np.ndarray, sizes: Sequence[int] | np.ndarray
    ) -> Polygons:
        """Make them from sequences."""
        return cls(vertices, np.asarray(corners, np.int64), np.asarray(sizes, np.int64))


def sample(polygons: Polygons, kind: str) -> np.ndarray:
    """Return ``SURFACE_POINTS`` points spread evenly over the polygons (seed 0), or the vertices where there are none.

    Args:
        polygons: Of a file.
        kind: Its suffix, for the error.

    Returns:
        (N, 3) float64.

    Raises:
        ItemError: polygons of vertices that are not there or not finite, without area, or trimesh is missing.
    """
    if not len(polygons.sizes):
        return polygons.vertices
    try:
        import trimesh  # type: ignore[import-untyped, import-not-found, unused-ignore]
    except ImportError:
        raise ItemError(str(MissingExtraError("trimesh", "ulip", f"reading {kind}"))) from None
    _refuse_corners(polygons)
    reserve(_BYTES_A_TRIANGLE * int(np.maximum(polygons.sizes - 2, 0).sum()))
    mesh = trimesh.Trimesh(polygons.vertices, triangles(polygons), process=False)
    if not len(mesh.faces) or not mesh.area > 0:
        raise ItemError("a mesh without area")
    points, _ = trimesh.sample.sample_surface(mesh, SURFACE_POINTS, seed=0)
    return np.asarray(points)


def _refuse_corners(polygons: Polygons) -> None:
    corners, count = polygons.corners, len(polygons.vertices)
    if len(corners) and not (corners.min() >= 0 and corners.max() < count):
        raise ItemError(f"damaged point cloud: faces refer to vertices that are not there; it has {count}")
    if not np.isfinite(polygons.vertices[corners]).all():
        raise ItemError("non-finite vertices of faces")


def triangles(polygons: Polygons) -> np.ndarray:
    """Split polygons into triangles: as a fan from the first corner, or by cutting ears off where a fan folds over.

    The order is trimesh's, whose samples depend on it: triangles, the first and then the second halves of quads, larger
    polygons; of a file with materials, material by material from the last to the first.

    Returns:
        (T, 3) int64 vertices.
    """
    sizes = polygons.sizes
    if (few := int((sizes < 3).sum())) > 0:
        note(f"{few} faces of fewer than three corners were left out")
    starts, counts = np.cumsum(sizes) - sizes, np.maximum(sizes - 2, 0)
    face = np.repeat(np.arange(len(sizes)), counts)
    step = np.arange(len(face)) - np.repeat(np.cumsum(counts) - counts, counts)
    places = starts[face, None] + np.stack([np.zeros_like(step), step + 1, step + 2], axis=1)
    second_half = (sizes[face] == 4) & (step == 1)
    places[second_half] = np.roll(places[second_half], -1, axis=1)
    _unfold(polygons, face, places)
    made: np.ndarray = polygons.corners[places[_order(polygons, face, step)]]
    return made


def _order(polygons: Polygons, face: np.ndarray, step: np.ndarray) -> np.ndarray:
    sizes = polygons.sizes[face]
    if polygons.parts is None:
        return np.argsort(np.select([sizes == 3, sizes == 4], [0, 1 + step], 3), kind="stable")
    mixed = np.bincount(polygons.parts, polygons.sizes != 4) > 0
    part = polygons.parts[face]
    return np.lexsort((np.where(mixed[part], 0, step), -part))


def _unfold(polygons: Polygons, face: np.ndarray, places: np.ndarray) -> None:
    """Replace the fans that fold over, as those of some concave polygons do, in ``places``."""
    if not (polygons.sizes[face] > 3).any():
        return
    a, b, c = (polygons.vertices[polygons.corners[places[:, corner]]] for corner in range(3))
    crosses = np.cross(b - a, c - a)
    normals = np.stack([np.bincount(face, crosses[:, axis], len(polygons.sizes)) for axis in range(3)], axis=1)
    along, whole = (crosses * normals[face]).sum(axis=1), (normals**2).sum(axis=1)
    folded = np.unique(face[along < -_FOLD * whole[face]])
    starts, effort, kept = np.cumsum(polygons.sizes) - polygons.sizes, [_MOST_EFFORT], 0
    for index in folded:
        rows = np.arange(*np.searchsorted(face, [index, index + 1]))
        corners = np.arange(starts[index], starts[index] + polygons.sizes[index])
        ears = _ears(polygons.vertices[polygons.corners[corners]], normals[index], effort)
        if ears is None:
            kept += 1
        else:
            places[rows] = corners[ears]
    if kept:
        note(f"{kept} concave faces were split as fans, which reach beyond their edges")


def _ears(points: np.ndarray, normal: np.ndarray, effort: list[int]) -> np.ndarray | None:
    """Cut a polygon into triangles at its ears: corners whose triangle holds no other corner.

    Args:
        points: (N, 3) corners.
        normal: (3,) of the side from which they go round anticlockwise.
        effort: How many points may still be looked at, counted down here.

    Returns:
        (N - 2, 3) places among the corners; None where the polygon crosses itself, or the effort is spent.
    """
    drop = int(np.abs(normal).argmax())
    flat = np.roll(points, -drop - 1, axis=1)[:, :2] * [1, np.sign(normal[drop])]
    at: list[_Point] = [(x, y) for x, y in flat.tolist()]
    left, found = list(range(len(at))), []
    effort[0] -= _EFFORT_EACH
    while len(left) > 3 and effort[0] > 0:
        effort[0] -= len(left)
        corners = list(zip(left[-1:] + left, left, left[1:] + left[:1], strict=False))
        ear = next((each for each in corners if _is_ear(at, left, each, effort)), None)
        ear = ear or next((each for each in corners if _side(*(at[place] for place in each)) == 0), None)
        if ear is None:
            return None
        found.append(ear)
        left.remove(ear[1])
    return np.array([*found, tuple(left)]) if len(left) == 3 else None


_Point = tuple[float, float]


def _side(a: _Point, b: _Point, c: _Point) -> float:
    """Return twice the area of a triangle, negative where it goes round clockwise."""
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def _is_ear(at: Sequence[_Point], left: Sequence[int], ear: tuple[int, int, int], effort: list[int]) -> bool:
    a, b, c = (at[place] for place in ear)
    if _side(a, b, c) <= 0 or effort[0] <= 0:
        return False
    effort[0] -= len(left)
    # A point in the very place of a corner is no obstacle: holes are joined to their outlines that way.
    others = (at[place] for place in left if at[place] not in (a, b, c))
    return not any(_side(a, b, p) >= 0 and _side(b, c, p) >= 0 and _side(c, a, p) >= 0 for p in others)
