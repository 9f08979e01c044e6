"""The tiny world: same seed, same thing; attributes kept under variation; held-out combinations kept apart."""

import itertools
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmcr import media
from cmcr.tiny import captions, world
from cmcr.tiny.pictures import RADIUS as PICTURE_RADIUS
from cmcr.tiny.prepare import words
from cmcr.tiny.sounds import SECONDS
from cmcr.tiny.world import COLOURS, COUNTS, HELD_OUT, KINDS, RHYTHMS, SIZES, TRAINED, Scene

SCENE = Scene("bell", 2, "large", "red", "steady")
SCENES = st.builds(
    Scene, *map(st.sampled_from, (tuple(KINDS), COUNTS, SIZES, COLOURS, RHYTHMS))
)  # fmt: skip
MAKERS = {"draw": lambda s, rng: np.asarray(world.draw(s, rng)), "sound": world.sound, "shape": world.shape}


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_made_deterministically_and_varies_with_the_generator(make, kind):
    scene = replace(SCENE, kind=kind)
    first, again, other = make(scene, rng(1)), make(scene, rng(1)), make(scene, rng(2))
    assert first.dtype in (np.uint8, np.float32) and np.isfinite(first).all()
    assert np.array_equal(first, again)
    assert first.shape == other.shape and not np.array_equal(first, other)


@given(SCENES, st.integers(0, 2**32))
def test_any_scene_has_the_promised_form(scene, seed):
    picture, sound, cloud = (make(scene, rng(seed)) for make in MAKERS.values())
    assert picture.shape == (128, 128, 3)
    assert sound.shape == (int(SECONDS * world.SAMPLE_RATE),) and 0.1 < np.abs(sound).max() <= 1
    assert cloud.shape == (1024, 3) and np.abs(cloud).max() < 4


def test_kinds_sound_and_look_and_stand_unlike_each_other():
    for make in MAKERS.values():
        made = [make(replace(SCENE, kind=kind), rng(1)) for kind in KINDS]
        assert all(not np.array_equal(a, b) for a, b in itertools.combinations(made, 2))


def test_colour_is_seen_only_and_rhythm_heard_only():
    blue, hurried = replace(SCENE, colour="blue"), replace(SCENE, rhythm="hurried")
    for name, make in MAKERS.items():
        plain = make(SCENE, rng(3))
        assert np.array_equal(plain, make(blue, rng(3))) == (name != "draw")
        assert np.array_equal(plain, make(hurried, rng(3))) == (name != "sound")


@pytest.mark.parametrize("rhythm", RHYTHMS[1:])
def test_each_rhythm_is_heard_in_a_single_event(rhythm):
    once = replace(SCENE, count=1)
    steady, shaded = world.sound(once, rng(4)), world.sound(replace(once, rhythm=rhythm), rng(4))
    assert np.abs(steady - shaded).max() > 0.1


def test_count_is_the_number_of_events_that_are_heard():
    for count in COUNTS:
        scene = Scene("hammer", count, "medium", "red", "steady")
        loud = np.abs(world.sound(scene, rng(5))).reshape(-1, 400).max(axis=1)
        onsets = (loud[1:] > 0.2) & (loud[:-1] < 0.1)
        assert onsets.sum() + (loud[0] > 0.2) == count


def test_size_is_heard_as_pitch_and_seen_as_scale():
    def centroid(size):
        spectrum = np.abs(np.fft.rfft(world.sound(Scene("trumpet", 1, size, "red", "steady"), rng(6)))) ** 2
        return (spectrum * np.arange(len(spectrum))).sum() / spectrum.sum()

    assert centroid("small") > 1.3 * centroid("medium") > 1.3 * 1.3 * centroid("large")
    widths = [np.ptp(world.shape(Scene("drum", 1, size, "red", "steady"), rng(6))[:, 2]) for size in SIZES]
    assert widths[0] < 0.8 * widths[1] < 0.8 * 0.8 * widths[2]
    assert list(PICTURE_RADIUS) == list(SIZES) and sorted(PICTURE_RADIUS.values()) == list(PICTURE_RADIUS.values())


def test_held_out_combinations_are_a_balanced_quarter():
    assert len(KINDS) >= 24 and not set(HELD_OUT) & set(TRAINED)
    assert len(HELD_OUT) * 4 == len(HELD_OUT) + len(TRAINED) == len(KINDS) * len(COUNTS) * len(SIZES)
    for attribute in range(3):
        for combos in (HELD_OUT, TRAINED):
            assert len(set(Counter(combo[attribute] for combo in combos).values())) == 1
    pairs = Counter((count, size) for _, count, size in HELD_OUT)
    assert len(pairs) == 12 and len(set(pairs.values())) == 1


def test_scenes_keep_to_their_side_of_the_split():
    assert {scene.combo for scene in world.train_scenes(3000, seed=1)} == set(TRAINED)
    gallery = world.test_scenes(seed=1)
    assert sorted(scene.combo for scene in gallery) == sorted(HELD_OUT)
    assert gallery == world.test_scenes(seed=1) != world.test_scenes(seed=2)
    assert world.train_scenes(50, seed=1) == world.train_scenes(50, seed=1) != world.train_scenes(50, seed=2)


def vocabulary(groups):
    return {word for group in groups for phrase in group for word in words(phrase)}


@given(SCENES, st.integers(0, 2**32))
def test_pictures_are_never_said_to_sound_and_sounds_never_to_have_colours(scene, seed):
    heard = vocabulary(captions.RHYTHM_WORDS.values()) | vocabulary(captions.PITCH_WORDS.values())
    heard = heard - {"mid"} | vocabulary(kind.verbs for kind in KINDS.values())
    assert not heard & set(words(world.picture_caption(scene, rng(seed))))
    assert not vocabulary(captions.COLOUR_WORDS.values()) & set(words(world.sound_caption(scene, rng(seed))))


@given(SCENES, st.integers(0, 2**32))
def test_a_full_caption_names_every_attribute_of_its_sense(scene, seed):
    def says(caption, table, value):
        return any(f" {phrase} " in f" {caption.replace(',', '')} " for phrase in table[value])

    seen, heard = world.picture_caption(scene, rng(seed), omit=0), world.sound_caption(scene, rng(seed), omit=0)
    numbers = captions.NUMBERS | {1: (*captions.NUMBERS[1], "an")}
    assert says(seen, numbers, scene.count) and says(heard, numbers, scene.count)
    assert says(seen, captions.SIZE_WORDS, scene.size) and says(seen, captions.COLOUR_WORDS, scene.colour)
    assert says(heard, captions.SIZE_WORDS, scene.size) or says(heard, captions.PITCH_WORDS, scene.size)
    assert says(heard, captions.RHYTHM_WORDS, scene.rhythm)


def test_captions_vary_and_sometimes_leave_an_attribute_out():
    said = [world.picture_caption(SCENE, rng(seed)) for seed in range(400)]
    colourless = sum("red" not in words(c) and "crimson" not in words(c) for c in said) / len(said)
    assert len(set(said)) > 100 and 0.08 < colourless < 0.25
    sizes = vocabulary(captions.SIZE_WORDS.values())
    with_size = sum(bool(sizes & set(words(world.sound_caption(SCENE, rng(seed))))) for seed in range(400)) / 400
    assert with_size > 0.5, "size words are what lets text carry size from sounds to pictures"


def test_files_are_read_back_and_are_equal_bytes_for_an_equal_seed(tmp_path):
    scenes = world.test_scenes(0)[:3]
    for name, write in {"i": world.write_images, "s": world.write_sounds, "c": world.write_clouds}.items():
        first, again = (write(tmp_path / f"{name}{n}", scenes, seed=5) for n in range(2))
        assert [p.read_bytes() for p in first] == [p.read_bytes() for p in again] and len(first) == 3
        assert write(tmp_path / name, scenes, seed=6)[0].read_bytes() != first[0].read_bytes()
    assert media.read_image((tmp_path / "i0/00000.png").read_bytes()).size == (128, 128)
    assert len(media.read_audio((tmp_path / "s0/00001.wav").read_bytes(), world.SAMPLE_RATE)) == 32_000
    assert media.read_point_cloud((tmp_path / "c0/00002.npy").read_bytes(), ".npy").shape == (1024, 3)
    lines = world.write_captions(tmp_path / "t.txt", scenes, 5, world.sound_caption)
    assert (tmp_path / "t.txt").read_text().splitlines() == lines and len(lines) == 3
