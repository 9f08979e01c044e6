"""The tiny towers: trained on their own pairs only, strong in their own space, exact and robust as encoders."""

import functools
import io
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from safetensors import safe_open

from cmcr.encoders import load_encoder
from cmcr.encoders.tiny import TinyEncoder
from cmcr.errors import ArtifactError, InputError, ItemError
from cmcr.items import Item
from cmcr.modality import Modality
from cmcr.tiny import prepare, train, world
from cmcr.tiny.scene import HELD_OUT
from cmcr.tiny.towers import SPECS, TOKENS, weights_path

NAMES = tuple(SPECS)


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def encoder():
    return functools.cache(load_encoder)


def png(image, **options):
    file = io.BytesIO()
    image.save(file, **({"format": "PNG"} | options))
    return file.getvalue()


def wav(samples, rate=16_000, **options):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, **({"format": "WAV"} | options))
    return file.getvalue()


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


SUFFIX = {Modality.IMAGE: ".png", Modality.AUDIO: ".wav", Modality.POINT_CLOUD: ".npy", Modality.TEXT: ".txt"}


def embed(encoder, modality, *contents):
    prepared = [encoder.prepare(item(modality), content) for content in contents]
    return encoder.encode(modality, prepared)


def item(modality):
    name = "x" + SUFFIX[modality]
    return Item(id="x", modality=modality, source=name, path=Path(name))


def content(name, modality, scene, seed, omit=0.0):
    generator = rng([*np.atleast_1d(seed), 9])
    match modality:
        case Modality.IMAGE:
            return png(world.draw(scene, generator))
        case Modality.AUDIO:
            return wav(world.sound(scene, generator))
        case Modality.POINT_CLOUD:
            return npy(world.shape(scene, generator))
        case Modality.TEXT:
            caption = world.picture_caption if name == "tiny-clip" else world.sound_caption
            return caption(scene, generator, omit).encode()


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_small_and_say_what_they_are(name, encoder):
    assert weights_path(name).stat().st_size <= 2_000_000
    with safe_open(weights_path(name), framework="pt") as file:
        about = json.loads(file.metadata()["cmcr"])
    assert (about["space"], about["version"]) == (name, prepare.VERSION)
    assert bool(about["vocabulary"]) == (Modality.TEXT in SPECS[name].modalities)
    loaded = encoder(name)
    assert (loaded.name, loaded.modalities, loaded.dim) == (name, SPECS[name].modalities, SPECS[name].dim)
    assert len(loaded.fingerprint) == 64


def test_the_three_spaces_are_three_spaces(encoder):
    assert len({encoder(name).dim for name in NAMES}) == len({encoder(name).fingerprint for name in NAMES}) == 3
    assert len({spec.seed for spec in SPECS.values()}) == 3


@pytest.mark.parametrize("name", NAMES)
def test_a_trainer_sees_its_two_modalities_and_no_held_out_combination(name, monkeypatch):
    rendered = []
    real = train.render
    monkeypatch.setattr(train, "render", lambda *a: rendered.append((a[1], a[2].combo)) or real(*a))
    list(train.pairs(name, 60))
    assert {modality for modality, _ in rendered} == set(SPECS[name].modalities)
    assert not {combo for _, combo in rendered} & set(HELD_OUT)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_trained_on_is_what_pairs_yields(name, monkeypatch):
    monkeypatch.setattr(train, "pairs", lambda *_: pytest.fail("asked for pairs"))
    with pytest.raises(pytest.fail.Exception, match="asked for pairs"):
        train.train(name, steps=1, n=32, batch=32)


def test_no_pair_of_the_outer_modalities_can_be_asked_for():
    paired = [set(spec.modalities) for spec in SPECS.values()]
    assert {Modality.IMAGE, Modality.AUDIO} not in paired and {Modality.POINT_CLOUD, Modality.TEXT} not in paired
    assert {Modality.POINT_CLOUD, Modality.AUDIO} not in paired


def test_pairs_are_the_same_every_time():
    first, again = (list(train.pairs("tiny-clip", 6)) for _ in range(2))
    assert all(np.array_equal(a[0], b[0]) and a[1] == b[1] for a, b in zip(first, again, strict=True))


def recalls(encoder, seed):
    """Recall@1 both ways over all held-out combinations, captions naming every attribute."""
    scenes, (first, second) = world.test_scenes(seed), encoder.modalities
    x, y = (
        embed(encoder, m, *(content(encoder.name, m, s, [seed, i, j]) for i, s in enumerate(scenes)))
        for j, m in enumerate((first, second))
    )
    right = np.arange(len(scenes))
    return ((x @ y.T).argmax(1) == right).mean(), ((x @ y.T).argmax(0) == right).mean()


@pytest.mark.parametrize("name", NAMES)
def test_recall_on_held_out_combinations(name, encoder):
    assert min(recalls(encoder(name), seed=77)) >= 0.85, "chance is 1/96"


@pytest.mark.parametrize("name", NAMES)
def test_a_vector_does_not_depend_on_its_batch_nor_on_the_run(name, encoder):
    loaded = encoder(name)
    for modality in loaded.modalities:
        contents = [content(name, modality, scene, seed) for seed, scene in enumerate(world.test_scenes(0)[:9])]
        together = embed(loaded, modality, *contents)
        alone = np.concatenate([embed(loaded, modality, c) for c in contents])
        assert together.dtype == np.float32 and together.shape == (9, loaded.dim)
        np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
        np.testing.assert_allclose(together, alone, atol=1e-5)
        assert np.array_equal(together, embed(TinyEncoder(name), modality, *contents))
        assert loaded.encode(modality, []).shape == (0, loaded.dim)


def test_unknown_words_add_nothing(encoder):
    for name, known in {"tiny-clip": "two red bells", "tiny-clap": "two bells ringing steadily"}.items():
        plain, more = embed(encoder(name), Modality.TEXT, known.encode(), f"{known} zzyzx QWXYZ ¡żółć!".encode())
        np.testing.assert_allclose(plain, more, atol=1e-6)


def test_size_words_carry_from_sounds_to_pictures(encoder):
    """What connecting relies on: both text towers tell sizes by the words that both kinds of captions use."""
    for name in ("tiny-clip", "tiny-clap"):
        small, little, large = embed(
            encoder(name), Modality.TEXT, b"two small bells", b"two little bells", b"two big bells"
        )
        assert small @ little > small @ large + 0.1


def test_pictures_of_any_size_mode_and_format(encoder):
    clip, image = encoder("tiny-clip"), world.draw(world.Scene("owl", 1, "large", "blue", "steady"), rng())
    contents = [
        png(image),
        png(image.resize((640, 640))),
        png(image.convert("RGBA")),
        png(image, format="JPEG", quality=95),
        png(image.convert("P", palette=Image.Palette.ADAPTIVE)),
    ]
    vectors = embed(clip, Modality.IMAGE, *contents)
    assert (vectors @ vectors[0] > 0.9).all()
    odd = embed(
        clip,
        Modality.IMAGE,
        png(Image.new("L", (1, 1))),
        png(Image.new("I;16", (300, 7))),
        png(Image.new("1", (7, 90))),
    )
    assert np.isfinite(odd).all()


def test_sounds_of_any_rate_length_and_channels(encoder):
    clap, sound = encoder("tiny-clap"), world.sound(world.Scene("dog", 2, "large", "red", "steady"), rng())
    stereo = np.stack([sound, sound], 1)
    long = np.concatenate([sound, rng().uniform(-1, 1, 80_000)])
    vectors = embed(
        clap, Modality.AUDIO, *map(wav, (sound, stereo, sound * 0.1, long)), wav(np.repeat(sound, 3), 48_000)
    )
    assert (vectors @ vectors[0] > 0.95).all(), "mono, stereo, quiet, long (first two seconds), 48 kHz"
    assert vectors[3] @ vectors[0] > 0.999
    short, silent = embed(clap, Modality.AUDIO, wav(sound[:50]), wav(np.zeros(16_000)))
    assert np.isfinite(short).all() and np.isfinite(silent).all()


def test_clouds_of_any_number_of_points_order_and_place(encoder):
    ulip, cloud = encoder("tiny-ulip"), world.shape(world.Scene("car", 1, "large", "red", "steady"), rng())
    dense = np.concatenate([world.shape(world.Scene("car", 1, "large", "red", "steady"), rng()) for _ in range(4)])
    with_colours = np.concatenate([cloud, rng().random((1024, 3))], 1)
    contents = [cloud, cloud[::-1], cloud + 100, with_colours, cloud.astype(np.float64), dense, cloud[:700]]
    vectors = embed(ulip, Modality.POINT_CLOUD, *map(npy, contents))
    assert (vectors @ vectors[0] > [0.999, 0.999, 0.99, 0.999, 0.999, 0.7, 0.7]).all()


REFUSED = [
    ("tiny-clip", Modality.TEXT, b"", "empty"),
    ("tiny-clip", Modality.TEXT, b" \n ", "empty"),
    ("tiny-clip", Modality.TEXT, "cloche fêlée".encode("latin-1"), "UTF-8"),
    ("tiny-clip", Modality.TEXT, b"zzyzx", "no word that tiny-clip knows"),
    ("tiny-clap", Modality.TEXT, b"zzyzx", "no word that tiny-clap knows"),
    ("tiny-clip", Modality.IMAGE, b"", "empty"),
    ("tiny-clip", Modality.IMAGE, b"not a picture", ""),
    ("tiny-clap", Modality.AUDIO, b"", "empty"),
    ("tiny-clap", Modality.AUDIO, b"RIFFnonsense", ""),
    ("tiny-clap", Modality.AUDIO, wav(np.full(100, np.nan, np.float32), subtype="FLOAT"), "finite"),
    ("tiny-ulip", Modality.POINT_CLOUD, npy(np.full((100, 3), np.nan)), "finite"),
    ("tiny-ulip", Modality.POINT_CLOUD, npy(np.zeros((5, 3))), "5 points"),
    ("tiny-ulip", Modality.POINT_CLOUD, npy(np.zeros((50, 2))), "(50, 2)"),
    ("tiny-ulip", Modality.POINT_CLOUD, b"", "empty"),
]


@pytest.mark.parametrize(("name", "modality", "data", "reason"), REFUSED)
def test_bad_items_are_refused_with_a_reason(name, modality, data, reason, encoder):
    with pytest.raises(ItemError) as caught:
        encoder(name).prepare(item(modality), data)
    assert reason in str(caught.value) and "\n" not in str(caught.value)


def test_clouds_of_one_point_and_of_any_unit_give_a_vector(encoder):
    car = world.shape(world.Scene("car", 1, "large", "red", "steady"), rng()).astype(np.float64)
    same, millimetres, absurd = embed(
        encoder("tiny-ulip"), Modality.POINT_CLOUD, *map(npy, (np.ones((64, 3)), car * 1e3, car * 1e30))
    )
    assert np.isfinite(same).all()
    np.testing.assert_allclose(millimetres, absurd, atol=1e-4)


def test_a_nearly_right_name_is_corrected():
    with pytest.raises(InputError, match="did you mean 'tiny-clip'"):
        load_encoder("tinyclip")


@pytest.mark.parametrize("damage", ["missing", "garbage", "version"])
def test_damaged_weights_are_refused(damage, tmp_path, monkeypatch):
    from cmcr.encoders import tiny

    path = tmp_path / "tiny-clip.safetensors"
    if damage == "garbage":
        path.write_bytes(b"garbage")
    if damage == "version":
        path.write_bytes(weights_path("tiny-clip").read_bytes())
        monkeypatch.setattr(prepare, "VERSION", "another")
    monkeypatch.setattr(tiny, "weights_path", lambda name: path)
    with pytest.raises(ArtifactError, match=r"cmcr\.tiny\.train|train anew"):
        TinyEncoder("tiny-clip")


def test_a_fingerprint_covers_weights_and_preprocessing(tmp_path, monkeypatch, encoder):
    from cmcr.encoders import tiny

    (tmp_path / "w").write_bytes(train.to_bytes(train.train("tiny-clip", steps=1, n=64, batch=64)))
    monkeypatch.setattr(tiny, "weights_path", lambda name: tmp_path / "w")
    assert TinyEncoder("tiny-clip").fingerprint != encoder("tiny-clip").fingerprint


@pytest.mark.parametrize("name", NAMES)
def test_training_twice_gives_the_same_bytes(name):
    torch.manual_seed(1)
    first = train.to_bytes(train.train(name, steps=3, n=128, batch=32))
    torch.manual_seed(2)
    assert first == train.to_bytes(train.train(name, steps=3, n=128, batch=32))


def learned(name, steps, n, batch):
    """Recall@1 on fresh scenes of trained combinations, over its chance."""
    space = train.train(name, steps=steps, n=n, batch=batch)
    captions = [content(name, Modality.TEXT, s, i) for i, s in enumerate(world.test_scenes(3))]
    row = {token: number for number, token in enumerate(space.vocabulary)}
    bags = [prepare.bag(TOKENS[name](caption.decode()), row) for caption in captions]
    first = space.spec.modalities[0]
    seen = [train.render(name, first, s, rng([3, i])) for i, s in enumerate(world.test_scenes(3))]
    with torch.inference_mode():
        similar = (
            space(first, torch.from_numpy(np.stack(seen))) @ space(Modality.TEXT, torch.from_numpy(np.stack(bags))).T
        )
    return (similar.argmax(1) == torch.arange(len(similar))).float().mean().item() * len(similar)


def test_a_few_seconds_of_training_learn():
    assert learned("tiny-clip", steps=60, n=960, batch=96) > 5, "times chance"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiny-clip", "tiny-clap"])
def test_a_minute_of_training_learns_well(name):
    assert learned(name, steps=250, n=3000, batch=128) > 30, "times chance"


@pytest.mark.parametrize("size", [(20_000, 1), (20_001, 1), (1, 3000), (120, 1)])
def test_a_line_of_pixels_is_seen_as_a_line(size):
    file = io.BytesIO()
    Image.new("RGB", size, (9, 200, 3)).save(file, "PNG")
    seen = TinyEncoder("tiny-clip").prepare(Item("a", Modality.IMAGE, "a"), file.getvalue())
    assert (seen[1] > 0.5).sum() == prepare.PIXELS
