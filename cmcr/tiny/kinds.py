"""The kinds of the tiny world, read from the table ``kinds.toml``: one row makes a picture, a sound, a shape and words."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PARTIALS: dict[str, tuple[tuple[float, float], ...]] = {
    "none": (),
    "pure": ((1, 1),),
    "soft": ((1, 1), (2, 0.3), (3, 0.1)),
    "string": tuple((k, 1 / k) for k in range(1, 11)),
    "brass": tuple((k, 1.0) for k in range(1, 9)),
    "reed": tuple((k, 1 / k**0.5) for k in range(1, 14, 2)),
    "nasal": ((1, 0.2), (2, 0.4), (3, 1), (4, 1), (5, 0.5), (6, 0.2)),
    "bell": ((0.5, 0.4), (1, 1), (1.19, 0.8), (1.5, 0.4), (2, 0.9), (2.74, 0.5), (3.76, 0.4), (5.1, 0.3)),
    "metal": ((1, 1), (2.76, 0.9), (5.4, 0.7), (8.9, 0.4)),
    "dial": ((1, 1), (1.25, 1)),
    "glass": ((1, 1), (1.5, 0.6), (2.2, 0.4)),
}
"""Timbres: (ratio to the pitch, amplitude) of each tone."""


@dataclass(frozen=True, slots=True)
class Voice:
    """How one event of a kind sounds at medium size.

    Attributes:
        pitch: Hz of the first partial, or the centre of the noise band when there are no partials.
        partials: A key of ``PARTIALS``.
        noise: Share of band noise in the mix, 0-1.
        band: Centre of the noise over the pitch.
        width: Width of the noise band in octaves.
        attack: Seconds until full loudness.
        decay: Seconds in which it falls to 1/e afterwards.
        glide: Octaves the pitch moves over an event.
        wobble: (Hz, octaves) of a regular pitch movement.
        pulse: (Hz, depth 0-1) of a regular loudness movement.
        grains: Random clicks a second instead of even noise; 0 for even.
    """

    pitch: float
    partials: str = "none"
    noise: float = 0.0
    band: float = 1.0
    width: float = 1.0
    attack: float = 0.01
    decay: float = 0.3
    glide: float = 0.0
    wobble: tuple[float, float] = (0.0, 0.0)
    pulse: tuple[float, float] = (0.0, 0.0)
    grains: float = 0.0


@dataclass(frozen=True, slots=True)
class Kind:
    """One row of the table; ``;`` or a line break separates the parts of a glyph or a solid.

    Attributes:
        nouns: Synonyms; ``glass/glasses`` gives an irregular plural.
        verbs: What is heard of it.
        glyph: Strokes, each ``tone op numbers``, later ones on top, x right and y down in [-10, 10].
            Tones: b body (the scene's colour), d darker, l lighter, k ink, w white, g grey, a amber. Ops:
            ``o cx cy rx ry`` an ellipse, ``p x y x y ...`` a polygon, ``l width x y x y ...`` a line.
        solid: Surfaces, z up, about in [-1, 1]: ``ball x y z rx ry rz``, ``box x y z hx hy hz`` (half
            sides), ``cone x y z r0 r1 h`` (from radius r0 at z to r1 at z + h; equal radii make a tube),
            ``ring x y z R r`` (a torus). ``conex``, ``coney``, ``ringx``, ``ringy`` lie along that axis.
        voice: How it sounds.
    """

    nouns: tuple[str, ...]
    verbs: tuple[str, ...]
    glyph: tuple[tuple[str, ...], ...]
    solid: tuple[tuple[str, ...], ...]
    voice: Voice


def _words(text: str) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(part.split()) for part in text.strip().replace("\n", ";").split(";"))


def _voice(fields: dict[str, Any]) -> Voice:
    pairs = {name: tuple(value) for name, value in fields.items() if isinstance(value, list)}
    return Voice(**(fields | pairs))


def _load(path: Path) -> dict[str, Kind]:
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    return {
        name: Kind(
            nouns=tuple(row["nouns"]),
            verbs=tuple(row["verbs"]),
            glyph=_words(row["glyph"]),
            solid=_words(row["solid"]),
            voice=_voice(row["voice"]),
        )
        for name, row in table.items()
    }


KINDS: dict[str, Kind] = _load(Path(__file__).with_suffix(".toml"))
