"""The kinds of the tiny world: one row each, from which its picture, its sound, its shape and its words are made.

``glyph``: strokes joined by ``;``, each ``tone op numbers``, x right and y down in [-10, 10], later over earlier.
    Tones: b body (the scene's colour), d darker, l lighter, k ink, w white, g grey, a amber. Ops: ``o cx cy rx ry``
    an ellipse, ``p x y x y ...`` a polygon, ``l width x y x y ...`` a line.
``solid``: surfaces joined by ``;``, z up, about in [-1, 1]: ``ball x y z rx ry rz``, ``box x y z hx hy hz`` (half
    sides), ``cone x y z r0 r1 h`` (a frustum around z from r0 at the bottom to r1, h high; equal radii are a tube),
    ``ring x y z R r``. A suffix x or y lays cone and ring along that axis.
``nouns``: synonyms; ``a/b`` gives an irregular plural.
"""

from __future__ import annotations

from dataclasses import dataclass

Partials = tuple[tuple[float, float], ...]

PURE: Partials = ((1, 1),)
SOFT: Partials = ((1, 1), (2, 0.3), (3, 0.1))
STRING: Partials = tuple((k, 1 / k) for k in range(1, 11))
BRASS: Partials = tuple((k, 1.0) for k in range(1, 9))
REED: Partials = tuple((k, 1 / k**0.5) for k in range(1, 14, 2))
NASAL: Partials = ((1, 0.2), (2, 0.4), (3, 1), (4, 1), (5, 0.5), (6, 0.2))
BELL: Partials = ((0.5, 0.4), (1, 1), (1.19, 0.8), (1.5, 0.4), (2, 0.9), (2.74, 0.5), (3.76, 0.4), (5.1, 0.3))
METAL: Partials = ((1, 1), (2.76, 0.9), (5.4, 0.7), (8.9, 0.4))
CHORD: Partials = ((1, 1), (1.26, 1), (1.5, 1), (2, 0.4), (2.52, 0.4), (3, 0.4))


@dataclass(frozen=True, slots=True)
class Voice:
    """How one event of a kind sounds at medium size.

    Attributes:
        pitch: Hz of the first partial, or the centre of the noise band when there are no partials.
        partials: (ratio to the pitch, amplitude) of each tone.
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
    partials: Partials = ()
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
    """One row of the table: words, glyph, solid, voice."""

    nouns: tuple[str, ...]
    verbs: tuple[str, ...]
    glyph: str
    solid: str
    voice: Voice


KINDS: dict[str, Kind] = {
    "bell": Kind(
        ("bell", "handbell"),
        ("ringing", "tolling"),
        "k o 0 7 2 2.4; k o 0 -8 1.7 1.7; b p -2 -7.5 2 -7.5 4 -5 5 1 8.5 5 8.5 6.5 -8.5 6.5 -8.5 5 -5 1 -4 -5;"
        "l l 1.2 -2.5 -4.5 -3.4 2; d l 1 -7.5 5 7.5 5",
        "cone 0 0 -.8 .9 .45 .9; ball 0 0 .2 .45 .45 .4; ball 0 0 -.85 .2 .2 .2; ring 0 0 .75 .15 .05",
        Voice(620, BELL, decay=0.5, attack=0.004),
    ),
    "drum": Kind(
        ("drum", "snare drum"),
        ("beating", "drumming"),
        "b p -8 -3 8 -3 8 6 -8 6; b o 0 6 8 3; w o 0 -3 8 3; w l .9 -7.5 0 -4 8 0 1 4 8 7.5 0;"
        "a l 1.2 -9 -10 -1 -3; a l 1.2 9 -10 1 -3",
        "cone 0 0 -.5 .9 .9 .9; ball 0 0 .4 .9 .9 .02; ball 0 0 -.5 .9 .9 .02",
        Voice(110, SOFT, noise=0.35, band=4, width=2, attack=0.003, decay=0.09, glide=-0.8),
    ),
    "siren": Kind(
        ("siren", "alarm light"),
        ("wailing", "howling"),
        "k p -8 5 8 5 8 9 -8 9; b p -5.5 5 -5.5 -1 -3 -5 3 -5 5.5 -1 5.5 5; l l 1.5 -2.5 -2 -2.5 3; a l 1.2 0 -7 0 -10;"
        "a l 1.2 -5 -6 -7.5 -8.5; a l 1.2 5 -6 7.5 -8.5; a l 1.2 -8 -1 -10 -1.5; a l 1.2 8 -1 10 -1.5",
        "box 0 0 -.7 .9 .9 .2; ball 0 0 .1 .55 .55 .6; cone 0 0 -.5 .55 .55 .6",
        Voice(700, REED, attack=0.05, decay=2, wobble=(3.2, 0.45)),
    ),
    "car": Kind(
        ("car", "automobile"),
        ("revving", "rumbling"),
        "b p -10 5 -10 0 -6 -1 -4 -5.5 4 -5.5 7 -1 10 0 10 5; w p -4.5 -1 -3 -4.3 -.5 -4.3 -.5 -1;"
        "w p .7 -1 .7 -4.3 3.4 -4.3 5 -1; k o -5.3 5 2.8 2.8; k o 5.3 5 2.8 2.8; g o -5.3 5 1.2 1.2; g o 5.3 5 1.2 1.2;"
        "a o 9.3 1.8 .8 .9",
        "box 0 0 -.2 1 .42 .22; box 0 0 .2 .5 .38 .2; coney -.55 .35 -.45 .25 .25 .15; coney .55 .35 -.45 .25 .25 .15;"
        "coney -.55 -.45 -.45 .25 .25 .15; coney .55 -.45 -.45 .25 .25 .15",
        Voice(75, BRASS, noise=0.2, band=6, width=2, attack=0.06, decay=2, pulse=(22, 0.7), glide=0.35),
    ),
    "bird": Kind(
        ("bird", "songbird"),
        ("chirping", "tweeting"),
        "k l .9 -1 4 -1.5 9.5; k l .9 2 4 1.5 9.5; b p -4 0 -10.5 -3 -10 3 -4 4; b o 0 1 6 4.3; b o 4.8 -4 3.3 3.3;"
        "a p 7.5 -5 11 -3.3 7.5 -2.5; d p -5 1 2.5 -1 2 2 -3 4.5; w o 5.6 -4.6 1.1 1.1; k o 5.8 -4.6 .6 .6",
        "ball -.1 0 -.1 .6 .35 .35; ball .55 0 .35 .28 .28 .28; conex .8 0 .35 .12 .01 .25; box -.8 0 .05 .25 .2 .04;"
        "cone -.05 .12 -.9 .04 .04 .5; cone -.05 -.12 -.9 .04 .04 .5",
        Voice(2600, PURE, attack=0.01, decay=0.5, wobble=(15, 0.3), pulse=(15, 0.7)),
    ),
    "clock": Kind(
        ("clock", "timepiece"),
        ("ticking", "tocking"),
        "k l 1.6 -5 6 -7 9.8; k l 1.6 5 6 7 9.8; d o -5.5 -7.5 3.2 2.6; d o 5.5 -7.5 3.2 2.6; b o 0 0 8.8 8.8;"
        "w o 0 0 6.6 6.6; k l 1.2 0 0 0 -5; k l 1.2 0 0 3.5 2; k o 0 0 1 1",
        "coney 0 -.15 0 .85 .85 .3; ringy 0 -.15 0 .8 .08; ball -.5 0 .8 .25 .2 .2; ball .5 0 .8 .25 .2 .2;"
        "box 0 -.2 .25 .05 .03 .25; box .2 -.2 0 .2 .03 .05",
        Voice(1900, METAL, noise=0.5, band=1.5, width=1, attack=0.001, decay=0.018),
    ),
    "cloud": Kind(
        ("rain cloud", "shower"),
        ("raining", "pattering"),
        "b o -5 -2 4.8 4; b o 5 -2 4.8 4; b o -1 -5.5 5 4.4; b p -5 -2 5 -2 5 2 -5 2; l o -2 -6 2.5 2;"
        "k l 1 -5 4 -6.5 9; k l 1 -.7 4 -2.2 9; k l 1 3.6 4 2.1 9; k l 1 7 4 5.5 9",
        "ball -.5 0 .3 .45 .4 .35; ball .45 0 .3 .5 .4 .35; ball 0 0 .6 .5 .45 .4; cone -.5 0 -.8 .04 .04 .5;"
        "cone 0 .1 -.8 .04 .04 .5; cone .5 0 -.8 .04 .04 .5; cone .2 -.2 -.8 .04 .04 .5",
        Voice(2400, noise=1, width=1.6, attack=0.05, decay=2, grains=150),
    ),
    "dog": Kind(
        ("dog", "hound"),
        ("barking", "woofing"),
        "b o 0 0 7 7.5; b o 0 5 4.6 4.3; d p -5 -7 -10 -3 -9.5 5 -7 5.5 -5.5 0; d p 5 -7 10 -3 9.5 5 7 5.5 5.5 0;"
        "l o 0 5 3.6 3.2; k o 0 3.4 1.9 1.4; k o -3 -1.5 1.1 1.2; k o 3 -1.5 1.1 1.2; k l .8 -2 6.8 0 6 2 6.8",
        "box -.15 0 0 .6 .25 .25; ball .6 0 .45 .3 .25 .3; box .9 0 .38 .18 .12 .1; cone -.6 .15 -.85 .09 .09 .65;"
        "cone -.6 -.15 -.85 .09 .09 .65; cone .3 .15 -.85 .09 .09 .65; cone .3 -.15 -.85 .09 .09 .65;"
        "cone -.8 0 .15 .06 .03 .5",
        Voice(300, BRASS, noise=0.4, band=3, width=1.5, attack=0.015, decay=0.08, glide=-0.7),
    ),
    "cat": Kind(
        ("cat", "feline"),
        ("meowing", "mewing"),
        "b p -7.3 0 -7.5 -10 -1 -5; b p 7.3 0 7.5 -10 1 -5; l p -5.8 -3.5 -6.2 -7.5 -3.2 -5.3; l p 5.8 -3.5 6.2 -7.5 3.2 -5.3;"
        "b o 0 1.5 8 6.8; w o -3.2 0 1.9 1.9; w o 3.2 0 1.9 1.9; k o -3.2 0 .8 1.7; k o 3.2 0 .8 1.7;"
        "k p -1.2 3 1.2 3 0 4.4; k l .6 -3 4.5 -10 3.5; k l .6 -3 5.5 -9.5 7; k l .6 3 4.5 10 3.5; k l .6 3 5.5 9.5 7",
        "ball 0 0 -.35 .45 .4 .55; ball .1 0 .4 .38 .38 .35; cone .1 .22 .65 .14 .01 .35; cone .1 -.22 .65 .14 .01 .35;"
        "ring -.55 0 -.6 .3 .07",
        Voice(560, NASAL, attack=0.12, decay=0.8, glide=-0.5, wobble=(1.6, 0.3)),
    ),
    "train": Kind(
        ("train", "locomotive"),
        ("chugging", "puffing"),
        "g o 7 -9.5 2.6 1.8; b p -9.5 4 -9.5 -8 -3 -8 -3 -2.5 8.5 -2.5 8.5 4; k p 4 -2.5 3.6 -7.5 7.4 -7.5 7 -2.5;"
        "d p -10.3 -8 -2.2 -8 -2.2 -9.5 -10.3 -9.5; w p -8 -6 -4.6 -6 -4.6 -2 -8 -2; d p 8.5 1 11 7 8.5 7;"
        "k o -6.3 5.8 3.1 3.1; k o .2 6.5 2.4 2.4; k o 5.8 6.5 2.4 2.4; g o -6.3 5.8 1.2 1.2; g o .2 6.5 .9 .9; g o 5.8 6.5 .9 .9",
        "conex -.2 0 0 .32 .32 1.1; box -.6 0 .15 .35 .4 .5; cone .65 0 .3 .12 .18 .5; box 0 0 -.4 .95 .35 .1;"
        "coney -.6 -.4 -.55 .22 .22 .8; coney 0 -.4 -.55 .22 .22 .8; coney .6 -.4 -.55 .22 .22 .8",
        Voice(500, noise=1, width=1.6, attack=0.01, decay=2, pulse=(9, 1.0)),
    ),
    "guitar": Kind(
        ("guitar", "ukulele"),
        ("strumming", "twanging"),
        "d p -1 -10 1 -10 1 0 -1 0; k p -1.8 -11 1.8 -11 1.5 -8.4 -1.5 -8.4; b o 0 -.5 4.6 3.6; b o 0 5.5 6.3 5;"
        "k o 0 2.6 2 2; w l .6 0 -9 0 8; k l 1.2 -2.2 7.5 2.2 7.5",
        "ball 0 0 -.6 .5 .18 .4; ball 0 0 -.15 .36 .18 .3; box 0 0 .5 .07 .05 .5; box 0 0 .95 .14 .06 .12",
        Voice(240, STRING, attack=0.004, decay=0.28),
    ),
    "trumpet": Kind(
        ("trumpet", "bugle"),
        ("blaring", "tooting"),
        "b l 2 -10 -1 4 -1; b p 3 -2 7 -3.5 10 -7 10.5 -7 10.5 5 10 5 7 1.5 3 0; b l 1.7 -6 -1 -7.5 1 -7.5 3 -6 5 2 5 3.5 3 3.5 1 2 -1;"
        "k l 1.5 -4 -5 -4 4; k l 1.5 -1.5 -5 -1.5 4; k l 1.5 1 -5 1 4; k l 1.6 -10.5 -2.4 -10.5 .4",
        "conex -.9 0 .1 .07 .07 1.3; conex .4 0 .1 .07 .5 .55; ringy -.15 0 -.15 .3 .07; cone -.3 0 -.1 .06 .06 .45;"
        "cone -.1 0 -.1 .06 .06 .45",
        Voice(440, BRASS, attack=0.05, decay=1.5, wobble=(5.5, 0.02)),
    ),
    "flute": Kind(
        ("flute", "recorder"),
        ("fluting", "piping"),
        "b p -10.5 4.5 9 -7.5 10.5 -4.5 -9 7.5; d p -10.5 4.5 -8 3 -6.5 6 -9 7.5; k o -4 2 .9 .9; k o -1 .2 .9 .9;"
        "k o 2 -1.6 .9 .9; k o 5 -3.4 .9 .9; k l .8 6 4 6 9; k l .8 6 4 9 3; k o 5 9 1.4 1.1",
        "conex -1 0 0 .09 .09 2; ringx -.9 0 0 .1 .05; ringx .9 0 0 .1 .05; ball .6 0 .1 .06 .06 .06",
        Voice(800, SOFT, noise=0.15, band=3, width=2, attack=0.07, decay=1.2),
    ),
    "phone": Kind(
        ("phone", "telephone"),
        ("trilling", "jingling"),
        "b p -5.5 -4 5.5 -4 9 8.5 -9 8.5; w o 0 2.5 4 4; k o 0 2.5 1.7 1.7; d l 3 -7.5 -5 -5 -8 5 -8 7.5 -5;"
        "d o -8 -4.4 3 2.2; d o 8 -4.4 3 2.2",
        "cone 0 0 -.6 .85 .5 .7; coney 0 -.75 -.2 .32 .32 .2; conex -.7 0 .5 .13 .13 1.4; ball -.75 0 .35 .22 .2 .2;"
        "ball .75 0 .35 .22 .2 .2",
        Voice(1000, ((1, 1), (1.25, 1)), attack=0.01, decay=2, pulse=(20, 1.0)),
    ),
    "frog": Kind(
        ("frog", "toad"),
        ("croaking", "ribbiting"),
        "d o -8 7.5 3.2 2; d o 8 7.5 3.2 2; b o 0 3 8.3 6; b o -4.6 -4 3.3 3.3; b o 4.6 -4 3.3 3.3; w o -4.6 -4.3 2.1 2.1;"
        "w o 4.6 -4.3 2.1 2.1; k o -4.6 -4.3 1 1.1; k o 4.6 -4.3 1 1.1; k l .9 -5.5 3 -3 5 0 5.7 3 5 5.5 3; l o 0 7.5 4 1.5",
        "ball 0 0 -.3 .75 .55 .4; ball .4 .25 .15 .17 .17 .17; ball .4 -.25 .15 .17 .17 .17; ball -.5 .6 -.5 .4 .15 .2;"
        "ball -.5 -.6 -.5 .4 .15 .2",
        Voice(170, REED, noise=0.15, band=5, width=1.5, attack=0.02, decay=0.6, pulse=(34, 1.0), glide=0.35),
    ),
    "bee": Kind(
        ("bee", "bumblebee"),
        ("buzzing", "humming"),
        "w o -2.5 -6 2.8 4.2; w o 2.5 -6.5 2.8 4.2; k p -7.5 0 -11 1.5 -7.5 3; b o 0 1.5 8 5; k p -4.5 -2.6 -2 -3.3 -2 6.3 -4.5 5.6;"
        "k p .3 -3.4 2.8 -3.1 2.8 6.1 .3 6.4; k o 6 .5 1.1 1.2; k l .7 6 -3 8 -6.5; k l .7 7.2 -2 10 -4.5",
        "ball 0 0 -.1 .7 .4 .4; ball .75 0 0 .25 .25 .25; ball -.05 .5 .45 .2 .45 .04; ball -.05 -.5 .45 .2 .45 .04;"
        "conex -.95 0 -.1 .01 .08 .3",
        Voice(190, STRING, noise=0.1, band=5, width=1, attack=0.08, decay=2, wobble=(7, 0.14)),
    ),
    "wave": Kind(
        ("wave", "breaker"),
        ("crashing", "surging"),
        "b p -10.5 8.5 -10.5 3 -6 -4 0 -8 6 -7.5 9.5 -3.5 8 -.5 5.5 -3 2.5 -2.5 2 2 5 5 10.5 5 10.5 8.5;"
        "w l 1.6 -5.5 -3.5 0 -7.3 6 -6.8 8.8 -3.3; l l 1 -8 6 -3 2 -1 -2; l l 1 -4 7 0 4.5; w o 9 5.5 1.6 1; w o 6 6 1.4 1",
        "coney -.1 -.8 0 .75 .75 1.6; box .3 0 -.75 .7 .8 .1; coney .35 -.8 .3 .3 .3 1.6",
        Voice(600, noise=1, width=2, attack=0.3, decay=0.35),
    ),
    "campfire": Kind(
        ("campfire", "bonfire"),
        ("crackling", "sputtering"),
        "k l 2.4 -8.5 9 8.5 5.5; k l 2.4 -8.5 5.5 8.5 9; b p 0 -10.5 3 -5 4.3 -6.5 6.3 -1 5.5 4 2.5 7 -2.5 7 -5.5 4 -6.3 -1 -4 -4.5 -2.5 -3;"
        "l p 0 -3.5 2 0 3 3 1.5 6 -1.5 6 -3 3 -2 1; a o 0 4 1.3 1.9",
        "cone 0 0 -.5 .5 .01 1.4; cone -.3 .2 -.5 .3 .01 .9; cone .3 -.2 -.5 .3 .01 .9; conex -.9 0 -.65 .13 .13 1.8;"
        "coney 0 -.9 -.65 .13 .13 1.8",
        Voice(1100, noise=1, width=2.0, attack=0.01, decay=2, grains=28),
    ),
    "helicopter": Kind(
        ("helicopter", "chopper"),
        ("chopping", "whirling"),
        "k l 1 0 5 -1 8.5; k l 1 5 5 5 8.5; k l 1.1 -4 8.5 8 8.5; b p -2 -2 -10 -3 -10 -.5 -2 3; b o 2.5 1 6.2 4.8; w p 4 -2.2 7.3 0 7.8 1.5 4 1.5;"
        "k l 1.1 2 -4 2 -7; k l 1.4 -7.5 -7.5 11 -6.8; k l 1.2 -10 -5.5 -10.3 2",
        "ball .2 0 -.1 .5 .35 .35; conex -1 0 0 .06 .14 .9; box .2 0 .5 1 .05 .02; box .2 0 .5 .05 1 .02; cone .2 0 .2 .04 .04 .3;"
        "conex -.2 .3 -.6 .04 .04 .8; conex -.2 -.3 -.6 .04 .04 .8; ringy -1 0 0 .2 .03",
        Voice(130, STRING, noise=0.6, band=2.5, width=1.6, attack=0.08, decay=2, pulse=(13, 0.95)),
    ),
    "balloon": Kind(
        ("balloon", "party balloon"),
        ("popping", "bursting"),
        "k l .7 0 5.5 1 7 -1 9 0 11; b p -1.6 6.3 1.6 6.3 0 3.5; b o 0 -3 6.6 7.6; w o -2.5 -6 1.2 2.2",
        "ball 0 0 .25 .62 .62 .7; cone 0 0 -.55 .12 .01 .12; cone 0 0 -1.1 .025 .025 .55",
        Voice(900, noise=1, width=2.5, attack=0.001, decay=0.02),
    ),
    "whistle": Kind(
        ("whistle", "referee whistle"),
        ("shrilling", "whistling"),
        "k l 1 8 -1 10.5 -4.5; b p -10.5 -5.5 4 -5.5 4 .5 -10.5 -.5; b o 3 2 6 6.2; k p -3.5 -6 0 -6 -1 -2.5 -3 -2.5; w o 3 2 2.7 2.7; k o 3.6 2.6 1.2 1.2",
        "coney .35 -.35 -.1 .55 .55 .7; box -.45 0 .25 .5 .3 .17; ringy .95 0 .2 .15 .04",
        Voice(2100, PURE, noise=0.15, band=1, width=1, attack=0.02, decay=2, wobble=(28, 0.12)),
    ),
    "hammer": Kind(
        ("hammer", "mallet"),
        ("banging", "clanging"),
        "a p -1.4 -4 1.4 -4 1.8 10.5 -1.8 10.5; b p -7.5 -10 -4.5 -10 -4 -8.5 4 -8.5 9 -6 4 -3.5 -4 -3.5 -4.5 -2 -7.5 -2; l l 1 -6 -8.5 -6 -4",
        "cone 0 0 -1 .09 .09 1.6; conex -.6 0 .7 .25 .25 .9; conex .3 0 .7 .2 .02 .4",
        Voice(950, METAL, noise=0.3, band=1, width=2, attack=0.001, decay=0.09),
    ),
    "kettle": Kind(
        ("kettle", "teapot"),
        ("hissing", "boiling"),
        "d l 1.7 -5.5 -3 -4.5 -9 4.5 -9 5.5 -3; b p 4 4 9 -3.5 11 -2 7.5 7; b o 0 3 7.2 5.8; b p -7 3.5 7 3.5 6 9 -6 9; d o 0 -2.6 3.4 1.1; k o 0 -4.4 1.2 1.2;"
        "l l 1.2 -4.5 1 -5 5",
        "ball 0 0 -.2 .65 .65 .5; cone 0 0 -.75 .55 .62 .3; ringy 0 0 .35 .45 .06; conex .55 0 0 .18 .08 .5; ball 0 0 .38 .1 .1 .1",
        Voice(3000, noise=1, width=0.35, attack=0.2, decay=2),
    ),
    "owl": Kind(
        ("owl", "barn owl"),
        ("hooting", "calling"),
        "b p -6 -3 -6.5 -10.5 -1.5 -6.5; b p 6 -3 6.5 -10.5 1.5 -6.5; b o 0 1.5 6.7 8.3; d o -5.7 4 1.9 5; d o 5.7 4 1.9 5; l o 0 5.3 3.4 3.8;"
        "w o -2.9 -2.5 2.8 2.8; w o 2.9 -2.5 2.8 2.8; k o -2.9 -2.5 1.4 1.4; k o 2.9 -2.5 1.4 1.4; a p -1.1 -.5 1.1 -.5 0 2.6; a l 1 -2 9.8 -3 9.8; a l 1 2 9.8 3 9.8",
        "ball 0 0 -.2 .5 .45 .75; cone .0 .3 .5 .15 .01 .4; cone .0 -.3 .5 .15 .01 .4; coney 0 -.5 .25 .2 .2 .1; ball 0 .5 -.2 .3 .1 .5; ball 0 -.5 -.2 .3 .1 .5",
        Voice(360, PURE, noise=0.08, band=1, width=0.5, attack=0.09, decay=0.7, glide=-0.2),
    ),
    "duck": Kind(
        ("duck", "mallard"),
        ("quacking", "squawking"),
        "b p -7 3 -11 -2.5 -4 1; b p 2 -4 8 -3 6 5 0 4; b o -1 4.3 8.2 4.4; b o 5 -4.5 3.7 3.6; a p 8 -5.8 11.5 -4 11 -2.8 8 -2.8; d p -6 3 2 2.5 .5 5.5 -3 6.3;"
        "k o 6 -5.6 .9 .9; w l .9 -10 8.6 10 8.6",
        "ball -.15 0 -.3 .7 .42 .35; cone .4 0 -.2 .16 .14 .6; ball .45 0 .5 .27 .25 .25; box .8 0 .45 .18 .15 .05; conex -1 0 -.1 .01 .25 .35",
        Voice(340, NASAL, noise=0.1, band=4, width=1, attack=0.015, decay=0.2, glide=-0.25, pulse=(45, 0.4)),
    ),
    "cannon": Kind(
        ("cannon", "howitzer"),
        ("thundering", "firing"),
        "d p -3 3 -11 7.5 -10 9.7 -1 6; b p -8 3 -8.5 -3 9 -8.5 10.5 -3.5; b o -8 0 2.5 3; k o 9.8 -6 1.1 2.4; k o -1 4.5 5 5; g o -1 4.5 3.6 3.6;"
        "k l .9 -1 0 -1 9; k l .9 -5.5 4.5 3.5 4.5; k o -1 4.5 1.1 1.1",
        "conex -.7 0 .1 .3 .2 1.6; ball -.7 0 .1 .3 .3 .3; ringy -.2 .4 -.4 .45 .06; ringy -.2 -.4 -.4 .45 .06; box -.7 0 -.6 .4 .1 .06",
        Voice(90, noise=1, width=2.2, attack=0.004, decay=0.28),
    ),
    "saw": Kind(
        ("saw", "handsaw"),
        ("sawing", "rasping"),
        "b p -4 -4 10.5 1 10.5 3 9 5 7.5 2.9 6 5 4.5 2.9 3 5 1.5 2.9 0 5 -1.5 2.9 -3 5 -4 3; a p -3.5 -5 -8 -6 -10.5 -3 -9.5 5.5 -5 5.5 -3.5 3; w o -7 0 1.7 2.6;"
        "l l .8 -2 -1.5 8 1.5",
        "box .25 0 0 .75 .02 .25; box -.75 0 0 .08 .06 .4; box -.55 0 .33 .2 .06 .07; box -.55 0 -.33 .2 .06 .07",
        Voice(1500, noise=1, width=1.2, attack=0.03, decay=2, pulse=(6, 0.8), wobble=(6, 0.5)),
    ),
    "robot": Kind(
        ("robot", "android"),
        ("beeping", "bleeping"),
        "g l 2 -3 5 -3 10; g l 2 3 5 3 10; g l 1.8 -6 0 -9.5 1 -9.5 5.5; g l 1.8 6 0 9.5 1 9.5 5.5; k l .8 0 -8 0 -10.5; a o 0 -10.5 1.1 1.1;"
        "b p -5.5 -8.5 5.5 -8.5 5.5 -2 -5.5 -2; b p -6.2 -1 6.2 -1 6.2 6 -6.2 6; w o -2.5 -5.5 1.6 1.6; w o 2.5 -5.5 1.6 1.6; k o -2.5 -5.5 .8 .8; k o 2.5 -5.5 .8 .8;"
        "k l .8 -2.5 -3.2 2.5 -3.2; d p -3.5 1 3.5 1 3.5 4 -3.5 4",
        "box 0 0 .6 .3 .28 .25; box 0 0 0 .42 .3 .35; box -.2 0 -.7 .12 .12 .3; box .2 0 -.7 .12 .12 .3; box -.6 0 0 .1 .1 .35; box .6 0 0 .1 .1 .35; cone 0 0 .85 .03 .03 .2",
        Voice(1300, REED, attack=0.003, decay=2),
    ),
    "rocket": Kind(
        ("rocket", "spaceship"),
        ("whooshing", "blasting off"),
        "a p -2.2 5 2.2 5 0 11; d p -3 0 -7 6.5 -6.5 8 -3 5.5; d p 3 0 7 6.5 6.5 8 3 5.5; b p 0 -11 2.4 -8 3.6 -3 3.4 5.5 -3.4 5.5 -3.6 -3 -2.4 -8; w o 0 -3.5 1.9 1.9; k o 0 -3.5 1 1;"
        "d p -3.4 3 3.4 3 3.4 5.5 -3.4 5.5",
        "cone 0 0 -.6 .3 .3 1.1; cone 0 0 .5 .3 .01 .5; box .45 0 -.5 .18 .02 .25; box -.45 0 -.5 .18 .02 .25; box 0 .45 -.5 .02 .18 .25; box 0 -.45 -.5 .02 .18 .25; cone 0 0 -.9 .28 .15 .3",
        Voice(700, noise=1, width=1.4, attack=0.15, decay=1.5, glide=1.8),
    ),
    "glass": Kind(
        ("glass/glasses", "goblet"),
        ("clinking", "chinking"),
        "b l 1.6 0 0 0 8; b o 0 8.7 5 1.5; b p -5.5 -9.5 5.5 -9.5 5 -4 3 -.5 0 1 -3 -.5 -5 -4; l p -5.3 -6.5 5.3 -6.5 5 -4 3 -.5 0 1 -3 -.5 -5 -4; w l 1 -3.3 -8 -3 -4",
        "cone 0 0 .1 .15 .55 .8; cone 0 0 -.75 .05 .05 .85; cone 0 0 -.8 .5 .5 .05; ball 0 0 -.77 .5 .5 .02",
        Voice(3100, ((1, 1), (1.5, 0.6), (2.2, 0.4)), attack=0.001, decay=0.12),
    ),
    "snake": Kind(
        ("snake", "serpent"),
        ("slithering", "spitting"),
        "b l 3.4 -10 6 -7 8 -2 7.5 3 8 8 6.5 8 3.5 3 2.5 -3 3 -7 1 -7 -2.5 -3 -4.5 3 -5; a l .7 7 -5.5 11 -5.5; b o 5 -5.7 3.8 2.8; k o 5.8 -6.8 .9 .9;"
        "d l 1 -6 7.6 -4 7.4; d l 1 1 7.6 4 7.7; d l 1 3 2.6 0 2.7; d l 1 -6.6 -2.4 -5.3 -3.4",
        "ring 0 0 -.7 .75 .14; ring 0 0 -.45 .55 .13; ring 0 0 -.22 .36 .12; cone .2 0 -.2 .12 .12 .7; ball .35 0 .6 .28 .18 .14",
        Voice(5000, noise=1, width=0.9, attack=0.04, decay=0.5, pulse=(25, 0.4)),
    ),
    "maraca": Kind(
        ("maraca", "baby rattle"),
        ("rattling", "shaking"),
        "a l 2.2 -.5 1 -6.5 10; k l 2.6 -6 9 -6.6 10.3; b o 2 -4 6 6.2; l l 1.3 -2.8 -5.5 2 -8 6.3 -6.8; d l 1.3 -2 -.5 2.5 -2.2 7 -1.5",
        "ball 0 0 .45 .45 .45 .5; cone 0 0 -1 .08 .08 1; ball 0 0 -1 .13 .13 .1",
        Voice(3600, noise=1, width=1.0, attack=0.004, decay=2, pulse=(16, 1.0)),
    ),
}
