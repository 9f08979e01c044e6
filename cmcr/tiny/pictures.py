"""Draw a scene: copies of its kind's glyph, in its colour and size, somewhere before a plain background."""

from __future__ import annotations

from functools import cache

import numpy as np
from PIL import Image, ImageDraw

from cmcr.tiny.kinds import KINDS
from cmcr.tiny.scene import Scene, places

CANVAS = 128
"""Width and height of a picture in pixels."""
_FINE = 2 * CANVAS  # drawn at twice the size and averaged down: PIL does not smooth edges itself

RADIUS = {"small": 0.22, "medium": 0.32, "large": 0.46}
"""Half the extent of one copy; the picture spans [-1, 1]."""

_RGB = {
    "red": (214, 44, 44), "orange": (245, 140, 30), "yellow": (246, 214, 50), "green": (60, 165, 70),
    "blue": (50, 105, 215), "purple": (145, 70, 185), "white": (244, 244, 244), "black": (58, 58, 64),
}  # fmt: skip
_FIXED = {"k": (28, 26, 34), "w": (252, 252, 252), "g": (150, 152, 158), "a": (236, 180, 80)}
_GROUNDS = (  # (sky, ground) pairs: meadow, room, beach, street, evening, snow
    ((186, 218, 240), (168, 200, 150)), ((228, 216, 200), (186, 160, 136)), ((198, 226, 236), (232, 218, 180)),
    ((206, 210, 216), (160, 162, 168)), ((222, 196, 210), (150, 140, 160)), ((214, 226, 238), (236, 240, 244)),
)  # fmt: skip

Stroke = tuple[str, float, np.ndarray]
"""Tone, line width (0: filled), (n, 2) points."""


@cache
def _strokes(kind: str) -> tuple[Stroke, ...]:
    """Parse a glyph; ellipses become polygons so that everything can be turned."""
    return tuple(_stroke(*words) for words in KINDS[kind].glyph)


def _stroke(tone: str, op: str, *numbers: str) -> Stroke:
    values = np.array(numbers, dtype=float)
    if op == "o":
        angle = np.linspace(0, 2 * np.pi, 25)[:-1]
        return tone, 0.0, values[:2] + values[2:] * np.stack([np.cos(angle), np.sin(angle)], 1)
    width, points = (values[0], values[1:]) if op == "l" else (0.0, values)
    return tone, width, points.reshape(-1, 2)


def _background(rng: np.random.Generator) -> Image.Image:
    sky, ground = _GROUNDS[rng.integers(len(_GROUNDS))]
    rows = np.linspace(0, 1, _FINE)[:, None]
    horizon = rng.uniform(0.45, 0.8)
    shade = 1 + rng.uniform(-0.12, 0.12) * (rows - 0.5)
    column = np.where(rows < horizon, np.array(sky) * shade, np.array(ground) * shade) + rng.uniform(-12, 12, 3)
    pixels = np.broadcast_to(column[:, None].clip(0, 255), (_FINE, _FINE, 3)).astype(np.uint8)
    image = Image.fromarray(pixels)
    tint = tuple(int(c) for c in column[0].clip(0, 243) + 12)
    for _ in range(rng.integers(0, 4)):  # a few pale blots: hills, clouds, furniture, whatever
        x, y, w = rng.uniform(0, _FINE), horizon * _FINE + rng.uniform(-30, 10), rng.uniform(20, 60)
        ImageDraw.Draw(image).ellipse((x - w, y - w / 3, x + w, y + w / 3), fill=tint)
    return image


def _tones(colour: str, rng: np.random.Generator) -> dict[str, tuple[int, ...]]:
    body = np.array(_RGB[colour]) * rng.uniform(0.88, 1.08) + rng.uniform(-8, 8, 3)
    tones = {"b": body, "d": body * 0.68, "l": body * 0.6 + 255 * 0.4}
    return {name: tuple(int(c) for c in rgb.clip(0, 255)) for name, rgb in tones.items()} | _FIXED


def _stamp(
    draw: ImageDraw.ImageDraw, scene: Scene, centre: np.ndarray, radius: float, rng: np.random.Generator
) -> None:
    """Draw one copy: its silhouette in ink a little larger, then its strokes."""
    angle, mirror, scale = rng.normal(0, 0.12), rng.choice([-1.0, 1.0]), radius * _FINE / 2
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * scale / 11 * [mirror, 1]
    tones, edge = _tones(scene.colour, rng), max(2.0, 0.045 * scale)
    laid = [
        (t, w * scale / 11, [tuple(p) for p in x @ turn.T + (centre + 1) * _FINE / 2])
        for t, w, x in _strokes(scene.kind)
    ]
    for _, width, points in laid:
        outline = points if width else [*points, *points[:2]]
        draw.line(outline, fill=_FIXED["k"], width=round(width + 2 * edge), joint="curve")
    for tone, width, points in laid:
        if width:
            draw.line(points, fill=tones[tone], width=max(1, round(width)), joint="curve")
        else:
            draw.polygon(points, fill=tones[tone])


def draw(scene: Scene, rng: np.random.Generator) -> Image.Image:
    """Draw ``scene``; place, tilt, mirroring, shade and background come from ``rng``.

    Returns:
        An RGB picture of ``CANVAS`` x ``CANVAS`` pixels.
    """
    image = _background(rng)
    radius = RADIUS[scene.size] * rng.uniform(0.95, 1.05)
    for centre in places(scene.count, radius, rng):
        _stamp(ImageDraw.Draw(image), scene, centre, radius, rng)
    return image.reduce(2)
