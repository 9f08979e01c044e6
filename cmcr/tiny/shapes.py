"""Shape a scene: points on the surfaces of its kind's solid, copies side by side, size as scale."""

from __future__ import annotations

from functools import cache

import numpy as np

from cmcr.tiny.kinds import KINDS
from cmcr.tiny.scene import Scene, places

POINTS = 1024
SPREAD = 2.2
"""Half the side of the square floor on which the copies stand."""
RADIUS = {"small": 0.22, "medium": 0.32, "large": 0.46}
"""Half the extent of one copy over ``SPREAD``: the same proportions as in pictures."""

Surface = tuple[str, np.ndarray]


@cache
def _surfaces(kind: str) -> tuple[tuple[Surface, ...], np.ndarray]:
    """Parse a solid; return its surfaces and the share of its area that each has."""
    surfaces = tuple((name, np.array(numbers, dtype=float)) for name, *numbers in KINDS[kind].solid)
    areas = np.array([_area(name, v) for name, v in surfaces])
    return surfaces, areas / areas.sum()


def _area(name: str, v: np.ndarray) -> float:
    """About the area: enough to spread points evenly."""
    match name[:4]:
        case "ball":
            p = 1.6  # Thomsen's formula for ellipsoids
            a, b, c = v[3:] ** p
            return float(4 * np.pi * ((a * b + a * c + b * c) / 3) ** (1 / p))
        case "box":
            return float(8 * (v[3] * v[4] + v[3] * v[5] + v[4] * v[5]))
        case "cone":
            return float(np.pi * (v[3] + v[4]) * np.hypot(v[5], v[3] - v[4]))
        case _:
            return float(4 * np.pi**2 * v[3] * v[4])


def _sample(name: str, v: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Draw (n, 3) points of one surface."""
    u, w = rng.random(n), rng.uniform(0, 2 * np.pi, n)
    points: np.ndarray
    if name == "ball":
        points = rng.standard_normal((n, 3))
        points *= v[3:] / np.linalg.norm(points, axis=1, keepdims=True)
    elif name == "box":
        faces = np.array([v[4] * v[5], v[3] * v[5], v[3] * v[4]])
        axis, inside = rng.choice(3, n, p=faces / faces.sum()), rng.uniform(-1, 1, (n, 3))
        inside[np.arange(n), axis] = np.sign(inside[np.arange(n), axis])
        points = inside * v[3:]
    elif name.startswith("cone"):
        r = np.sqrt(v[3] ** 2 + u * (v[4] ** 2 - v[3] ** 2))  # even on the surface, not along the axis
        along = rng.random(n) if v[3] == v[4] else (r - v[3]) / (v[4] - v[3])
        points = np.stack([r * np.cos(w), r * np.sin(w), along * v[5]], 1)
    else:
        r = v[3] + v[4] * np.cos(2 * np.pi * u)
        points = np.stack([r * np.cos(w), r * np.sin(w), v[4] * np.sin(2 * np.pi * u)], 1)
    turns = {"x": [2, 0, 1], "y": [0, 2, 1]}  # lay the z axis along x or y
    points = points[:, turns.get(name[4:], [0, 1, 2])] + v[:3]
    return points


def shape(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """Shape ``scene``; places, turns about z, point choice and roughness come from ``rng``.

    Returns:
        (``POINTS``, 3) float32, z up, in no order.
    """
    surfaces, shares = _surfaces(scene.kind)
    radius = RADIUS[scene.size] * rng.uniform(0.95, 1.05)
    copy_of, part_of = np.arange(POINTS) % scene.count, rng.choice(len(surfaces), POINTS, p=shares)
    cloud = []
    for copy, centre in enumerate(places(scene.count, radius, rng)):
        body = [
            _sample(*surfaces[s], n, rng)
            for s, n in enumerate(np.bincount(part_of[copy_of == copy], minlength=len(surfaces)))
        ]
        angle = rng.uniform(-0.4, 0.4)
        turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
        cloud.append((np.concatenate(body) @ turn.T * radius + [*centre, 0]) * SPREAD)
    points = np.concatenate(cloud) + rng.normal(0, 0.01, (POINTS, 3))
    return rng.permutation(points).astype(np.float32)
