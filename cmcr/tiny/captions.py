"""Say a scene in words: one way for those who see it, one for those who hear it.

Pictures speak of colour, never of rhythm; sounds of rhythm and what the thing does, never of colour. Both name the
kind and the count, and both may use the size words; only sounds use pitch words, in their place or beside them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cmcr.tiny.kinds import KINDS
from cmcr.tiny.scene import Scene

NUMBERS = {1: ("one", "a", "a single"), 2: ("two", "a pair of", "2"), 3: ("three", "a trio of", "3"), 4: ("four", "4")}
SIZE_WORDS = {
    "small": ("small", "little", "tiny"),
    "medium": ("medium", "mid-sized"),
    "large": ("large", "big", "huge"),
}
PITCH_WORDS = {"small": ("high", "shrill"), "medium": ("middling", "mid-pitched"), "large": ("low", "deep")}
COLOUR_WORDS = {
    "red": ("red", "crimson"), "orange": ("orange",), "yellow": ("yellow", "golden"), "green": ("green",),
    "blue": ("blue", "azure"), "purple": ("purple", "violet"), "white": ("white",), "black": ("black",),
}  # fmt: skip
RHYTHM_WORDS = {
    "steady": ("steadily", "evenly"),
    "hurried": ("hurriedly", "in haste"),
    "trembling": ("trembling", "tremulously"),
    "swelling": ("growing louder", "in crescendo"),
    "wavering": ("wavering", "wobbling"),
}
_PICTURE_OPENINGS = ("", "", "picture of", "drawing of", "here we see")
_SOUND_OPENINGS = ("", "", "sound of", "recording of", "we hear")


def _pick(words: Sequence[str], rng: np.random.Generator) -> str:
    return words[int(rng.integers(len(words)))]


def _thing(scene: Scene, adjectives: Sequence[str], counted: bool, rng: np.random.Generator) -> str:
    """E.g. "two small red bells"; an uncounted thing is "the bell" or "some bells"."""
    singular, _, plural = _pick(KINDS[scene.kind].nouns, rng).partition("/")
    noun = singular if scene.count == 1 else plural or singular + "s"
    number = _pick(NUMBERS[scene.count], rng) if counted else ("the" if scene.count == 1 else "some")
    described = [a for a in adjectives if a]
    if len(described) > 1 and rng.random() < 0.25:
        return f"{number} {noun}, {' and '.join(described)}"
    phrase = " ".join([*described, noun])
    return f"{'an' if number == 'a' and phrase[0] in 'aeiou' else number} {phrase}"


def picture_caption(scene: Scene, rng: np.random.Generator, omit: float = 0.15) -> str:
    """Describe the picture of ``scene``; count, size and colour are each left out with probability ``omit``."""
    says_count, says_size, says_colour = rng.random(3) >= omit
    size = _pick(SIZE_WORDS[scene.size], rng) if says_size else ""
    colour = _pick(COLOUR_WORDS[scene.colour], rng) if says_colour else ""
    return f"{_pick(_PICTURE_OPENINGS, rng)} {_thing(scene, (size, colour), says_count, rng)}".strip()


def sound_caption(scene: Scene, rng: np.random.Generator, omit: float = 0.15) -> str:
    """Describe the sound of ``scene``; count, size (or pitch) and rhythm are each left out at the rate ``omit``."""
    says_count, says_size, says_rhythm = rng.random(3) >= omit
    wording = rng.random()  # 45 % size words, 20 % pitch words, 35 % both
    size = _pick(SIZE_WORDS[scene.size], rng) if says_size and wording < 0.8 else ""
    pitch = _pick(PITCH_WORDS[scene.size], rng) if says_size and wording >= 0.45 else ""
    rhythm = _pick(RHYTHM_WORDS[scene.rhythm], rng) if says_rhythm else ""
    verb = _pick(KINDS[scene.kind].verbs, rng) if rng.random() >= omit else ""
    thing = _thing(scene, (pitch, size), says_count, rng)
    thing += "," if "," in thing and (verb or rhythm) else ""
    return " ".join(part for part in (_pick(_SOUND_OPENINGS, rng), thing, verb, rhythm) if part)
