"""What the tiny world is made of: a scene, its attributes, and the combinations that no tower ever trains on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cmcr.tiny.kinds import KINDS

COUNTS = (1, 2, 3, 4)
SIZES = ("small", "medium", "large")
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "white", "black")
RHYTHMS = ("steady", "hurried", "trembling", "swelling", "wavering")

Combo = tuple[str, int, str]
"""(kind, count, size): what pictures, sounds and shapes have in common, hence what cross-modal retrieval can find."""


@dataclass(frozen=True, slots=True)
class Scene:
    """Some equal things.

    Attributes:
        kind: A key of ``KINDS``; drawn, heard and shaped.
        count: 1-4 copies; drawn and shaped side by side, heard as that many events.
        size: ``small``, ``medium`` or ``large``; heard as pitch.
        colour: Seen only.
        rhythm: Heard only.
    """

    kind: str
    count: int
    size: str
    colour: str
    rhythm: str

    @property
    def combo(self) -> Combo:
        """The attributes every modality but text always shows."""
        return self.kind, self.count, self.size


def is_held_out(kind: str, count: int, size: str) -> bool:
    """Whether a combination belongs to the test set: for every kind and size one of the four counts, a Latin square.

    So a quarter of all combinations is held out, and each kind, count and size is equally often in it.
    """
    return (list(KINDS).index(kind) + SIZES.index(size) + count) % len(COUNTS) == 0


HELD_OUT: tuple[Combo, ...] = tuple((k, c, s) for k in KINDS for c in COUNTS for s in SIZES if is_held_out(k, c, s))
TRAINED: tuple[Combo, ...] = tuple((k, c, s) for k in KINDS for c in COUNTS for s in SIZES if not is_held_out(k, c, s))


def _complete(combo: Combo, rng: np.random.Generator) -> Scene:
    return Scene(*combo, colour=COLOURS[rng.integers(len(COLOURS))], rhythm=RHYTHMS[rng.integers(len(RHYTHMS))])


def train_scenes(n: int, seed: int) -> list[Scene]:
    """Draw ``n`` scenes from the combinations that towers and memories may see."""
    rng = np.random.default_rng([seed, 1])
    return [_complete(TRAINED[i], rng) for i in rng.integers(len(TRAINED), size=n)]


def test_scenes(seed: int) -> list[Scene]:
    """Return one scene for each held-out combination, in random order: a gallery where each query has one answer."""
    rng = np.random.default_rng([seed, 2])
    return [_complete(HELD_OUT[i], rng) for i in rng.permutation(len(HELD_OUT))]


test_scenes.__test__ = False  # type: ignore[attr-defined]  # pytest would collect it by its name


def places(count: int, radius: float, rng: np.random.Generator) -> np.ndarray:
    """Return (count, 2) centres in [-1, 1]^2 that keep copies of ``radius`` apart: cells of a 2 x 2 grid, jittered."""
    cells = np.array([(-0.5, -0.5), (0.5, -0.5), (-0.5, 0.5), (0.5, 0.5)])[rng.permutation(4)[:count]]
    room = 0.5 - radius if count > 1 else 0.5
    centres: np.ndarray = cells * (count > 1) + rng.uniform(-room, room, size=(count, 2))
    return centres
