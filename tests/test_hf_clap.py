"""CLAP through transformers: the Hub's folders and LAION's checkpoints, without the extractor's randomness."""

import io
import json
import os
import re
import socket
import sys
import time

import numpy as np
import pytest
import soundfile
import torch
from checkpoints_clap import laion_state, write_hub_folder, write_laion, write_tokenizer

from cmcr.encoders.hf_clap import HfClapEncoder, translate
from cmcr.errors import ArtifactError, InputError, MissingExtraError
from cmcr.items import Item
from cmcr.modality import Modality

transformers = pytest.importorskip("transformers", reason="not installed: pip install 'cmcr[hf-clap]'")

A, T = Modality.AUDIO, Modality.TEXT
TEXTS = ("a dog barks", "rain", "an aeroplane flies over " * 30)


def wav(samples, rate=48_000, subtype="PCM_16"):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype=subtype)
    return file.getvalue()


def noise(seconds, seed=0):
    return np.random.default_rng(seed).uniform(-0.4, 0.4, int(seconds * 48_000)).astype(np.float32)


def chirp(seconds, hertz):
    return (0.4 * np.sin(2 * np.pi * hertz * (np.arange(int(seconds * 48_000)) / 48_000) ** 1.5)).astype(np.float32)


SOUNDS = (noise(3), chirp(25, 50), chirp(8, 500), noise(13, 1) ** 3)


def heard(encoder, *sounds):
    return encoder.encode(A, [encoder.prepare(Item("x", A, "x.wav"), wav(sound)) for sound in sounds])


def read(encoder, *texts):
    return encoder.encode(T, [encoder.prepare(Item("x", T, "x"), text.encode()) for text in texts])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A Hub folder with fusion, one without, a LAION checkpoint, a tokenizer."""
    folder = tmp_path_factory.mktemp("hf")
    write_hub_folder(folder / "fused", fusion=True)
    write_hub_folder(folder / "plain", tokenizer=False)
    write_laion(folder / "laion.pt", fusion=True)
    write_tokenizer(folder / "roberta-base")
    return folder


@pytest.fixture(scope="module", params=["fused", "plain", "laion.pt"])
def encoder(request, folder):
    return HfClapEncoder(request.param, weights=[folder])


@pytest.fixture
def offline(tmp_path, monkeypatch):
    from huggingface_hub import constants

    calls = []

    def unreachable(*args, **options):
        calls.append(args)
        raise OSError("no network in tests")

    monkeypatch.setenv("CMCR_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(socket, "create_connection", unreachable)
    monkeypatch.setattr(socket, "getaddrinfo", unreachable)
    monkeypatch.setattr(time, "sleep", lambda seconds: calls.append(seconds))
    return calls


def test_an_encoder_tells_what_it_is(encoder):
    assert re.fullmatch(r"hf_clap:(fused|plain|laion\.pt)", encoder.name)
    assert encoder.modalities == (A, T) and encoder.dim == 512
    assert encoder.fusion == (encoder.name != "hf_clap:plain")
    assert re.fullmatch("[0-9a-f]{64}", encoder.fingerprint)
    assert encoder.encode(A, []).shape == encoder.encode(T, []).shape == (0, 512)


@pytest.mark.parametrize("name", ["fused", "plain"])
def test_vectors_are_those_of_the_whole_model_on_its_own_input(name, folder):
    fusion = name == "fused"
    encoder = HfClapEncoder(str(folder / name), weights=[folder])
    model = transformers.ClapModel.from_pretrained(folder / name, local_files_only=True).eval()
    extract = transformers.ClapFeatureExtractor.from_pretrained(folder / name, local_files_only=True)
    short = [sound for sound in SOUNDS if len(sound) <= 480_000]
    wavs = [soundfile.read(io.BytesIO(wav(sound)), dtype="float32")[0] for sound in short]
    sixteen = [np.trunc(sound * 32767) / 32767 for sound in wavs]
    given = extract(sixteen, sampling_rate=48_000, return_tensors="pt")
    given["is_longer"] = torch.zeros(len(short), 1, dtype=torch.bool)  # it says True of one, at random
    tokens = transformers.RobertaTokenizer.from_pretrained(folder / "roberta-base", local_files_only=True)(
        list(TEXTS), padding="max_length", truncation=True, max_length=77, return_tensors="pt"
    )
    with torch.inference_mode():
        audio = model.audio_projection(model.audio_model(**given).pooler_output)
        text = model.text_projection(model.text_model(**tokens).pooler_output)
        given["is_longer"][0] = True
        other = model.audio_projection(model.audio_model(**given).pooler_output)
    audio, text, other = (torch.nn.functional.normalize(each, dim=1).numpy() for each in (audio, text, other))
    assert (heard(encoder, *short) * audio).sum(1).min() > 0.99999
    assert np.abs(read(encoder, *TEXTS) - text).max() < 1e-5
    if fusion:
        assert (audio * other).sum(1).min() < 0.999  # what the extractor's randomness would do
        long = torch.from_numpy(encoder.prepare(Item("x", A, "x.wav"), wav(SOUNDS[1])))[None]
        with torch.inference_mode():
            fused = model.get_audio_features(input_features=long, is_longer=torch.tensor([[True]]))
        fused = getattr(fused, "pooler_output", fused)  # before transformers 5 the vectors themselves
        assert np.abs(heard(encoder, SOUNDS[1]) - fused.numpy()).max() < 1e-5
    for vectors in (audio, text):
        assert np.triu(vectors @ vectors.T, 1).max() < 0.99


def test_a_vector_does_not_depend_on_its_batch(encoder):
    together = heard(encoder, *SOUNDS)
    assert np.abs(together - np.concatenate([heard(encoder, sound) for sound in SOUNDS])).max() < 1e-5
    assert np.abs(together[::2] - heard(encoder, *SOUNDS[::2])).max() < 1e-5  # none of them long
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5) and together.dtype == np.float32
    assert np.triu(together @ together.T, 1).max() < 0.99
    assert np.abs(read(encoder, *TEXTS) - np.concatenate([read(encoder, text) for text in TEXTS])).max() < 1e-5


def test_a_batch_mixes_sounds_of_any_length(encoder):
    sounds = [np.full(1, 0.5), np.zeros(48_000), noise(10), noise(10.005), noise(10.02)]
    vectors = heard(encoder, *sounds)
    assert np.abs(vectors - np.concatenate([heard(encoder, sound) for sound in sounds])).max() < 1e-5
    assert np.isfinite(vectors).all()


def test_what_sixteen_bits_cannot_hold_is_silence(encoder):
    item = Item("x", A, "x.wav")
    faint = encoder.prepare(item, wav(noise(1) / 20_000, subtype="FLOAT"))
    assert np.array_equal(faint, encoder.prepare(item, wav(np.zeros(48_000))))


def test_building_and_encoding_leave_the_random_state_alone(folder):
    seen = []
    for seed in (1, 2):
        np.random.seed(seed)  # noqa: NPY002 - the state that the extractor reads
        torch.manual_seed(seed)
        before = np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002
        seen.append(heard(HfClapEncoder("fused", weights=[folder]), *SOUNDS[:2]))
        assert before == (np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())  # noqa: NPY002
    assert np.array_equal(*seen)


def test_half_precision_is_close(encoder, folder):
    half = HfClapEncoder(encoder.name.removeprefix("hf_clap:"), precision="bf16", weights=[folder])
    assert 0.99 < (heard(encoder, *SOUNDS[:2]) * heard(half, *SOUNDS[:2])).sum(1).min() < 0.9999999
    assert (read(encoder, *TEXTS) * read(half, *TEXTS)).sum(1).min() > 0.99


def test_only_the_tower_in_use_is_built(encoder, folder, monkeypatch):
    def refuse(*args, **options):
        raise AssertionError("not needed")

    model = encoder.name.removeprefix("hf_clap:")
    for other, use in (
        ("ClapTextModel", lambda one: heard(one, SOUNDS[0])),
        ("ClapAudioModel", lambda one: read(one, "x")),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(getattr(transformers, other), "__init__", refuse)
            assert use(HfClapEncoder(model, weights=[folder])).shape == (1, 512)


def test_every_name_of_laions_layout_is_one_of_the_models(folder):
    translated = translate(laion_state(fusion=True))
    expected = transformers.ClapModel.from_pretrained(folder / "fused", local_files_only=True).state_dict()
    constant = {name for name in expected if name.endswith(("position_ids", "token_type_ids"))}
    assert translated.keys() | constant == expected.keys()
    assert all(translated[name].shape == expected[name].shape for name in translated.keys() - constant)


@pytest.mark.parametrize("settings", [{"position_ids": False}, {"module": False}, {"wrapped": False}])
def test_every_spelling_of_laions_checkpoint_is_read(settings, folder, tmp_path):
    usual = HfClapEncoder("laion.pt", weights=[folder])
    encoder = HfClapEncoder(str(write_laion(tmp_path / "x.pt", fusion=True, **settings)), weights=[folder])
    assert np.array_equal(read(encoder, "rain"), read(usual, "rain"))
    assert (encoder.fingerprint == usual.fingerprint) == settings.get("position_ids", True)


def test_safetensors_are_preferred_and_the_old_format_is_read(folder, tmp_path):
    both = write_hub_folder(tmp_path / "both", tokenizer=False)
    write_hub_folder(tmp_path / "both", tokenizer=False, weights="pytorch_model.bin", seed=1)
    old = write_hub_folder(tmp_path / "old", tokenizer=False, weights="pytorch_model.bin", seed=1)
    plain, old, both = (HfClapEncoder(str(path)) for path in (folder / "plain", old, both))
    assert both.fingerprint == plain.fingerprint != old.fingerprint
    assert heard(old, SOUNDS[0]) @ heard(plain, SOUNDS[0]).T < 0.9


def test_the_mel_bands_begin_at_50_hertz_unless_the_folder_says_otherwise(folder, tmp_path):
    vectors, prints = [], set()
    for number, change in enumerate(({}, {"frequency_min": None}, {"frequency_min": 0})):
        path = write_hub_folder(tmp_path / str(number), tokenizer=False)
        settings = json.loads((path / "preprocessor_config.json").read_text()) | change
        settings = {name: value for name, value in settings.items() if value is not None}
        (path / "preprocessor_config.json").write_text(json.dumps(settings))
        encoder = HfClapEncoder(str(path))
        vectors.append(heard(encoder, SOUNDS[0]))
        prints.add(encoder.fingerprint)
    assert np.array_equal(vectors[0], vectors[1]) and not np.array_equal(vectors[0], vectors[2])
    assert len(prints) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hop_length": 320}, "hop_length is 320; only 480 is supported"),
        ({"sampling_rate": 44_100}, "sampling_rate is 44100; only 48000 is supported"),
        ({"truncation": "fusion"}, "truncation is 'fusion'; only 'rand_trunc' is supported"),
        ({"padding": "pad"}, "padding is 'pad'; only 'repeatpad' is supported"),
    ],
)
def test_a_folder_with_another_preprocessing_is_refused(change, message, folder, tmp_path):
    settings = json.loads((folder / "plain/preprocessor_config.json").read_text()) | change
    (tmp_path / "config.json").write_text((folder / "plain/config.json").read_text())
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    with pytest.raises(ArtifactError, match=message):
        HfClapEncoder(str(tmp_path))


def test_a_folder_that_is_no_clap_model_is_told(folder, tmp_path):
    config = (folder / "plain/config.json").read_text()
    cases = {
        "empty": ({}, "has no config.json with a model_type; expected a CLAP model"),
        "clip": ({"config.json": '{"model_type": "clip"}'}, "has model_type 'clip'; expected a CLAP model"),
        "cut": ({"config.json": config[:50]}, "is no JSON object"),
        "list": ({"config.json": "[]"}, "is no JSON object"),
        "typed": ({"config.json": '{"model_type": "clap", "audio_config": 3}'}, "is not a CLAP configuration"),
        "bare": ({"config.json": config}, "holds no model.safetensors or pytorch_model.bin"),
        "damaged": ({"config.json": config, "model.safetensors": "x" * 99}, "cannot be read as weights"),
    }
    for name, (files, message) in cases.items():
        (tmp_path / name).mkdir()
        for file, content in files.items():
            (tmp_path / name / file).write_text(content)
        with pytest.raises(ArtifactError, match=message) as told:
            HfClapEncoder(str(tmp_path / name))
        assert "\n" not in str(told.value)


def test_missing_and_unknown_names_are_reported(tmp_path):
    state = laion_state()
    torch.save({**state, "decoder.weight": torch.ones(1)}, tmp_path / "more.pt")
    with pytest.raises(ArtifactError, match=r"holds 1 names unknown to CLAP \(decoder.weight"):
        HfClapEncoder(str(tmp_path / "more.pt"))
    del state["audio_branch.layers.1.blocks.0.norm1.weight"]
    torch.save(state, tmp_path / "less.pt")
    with pytest.raises(ArtifactError, match=r"1 missing: .*layers.1.blocks.0.layernorm_before.weight"):
        heard(HfClapEncoder(str(tmp_path / "less.pt")), SOUNDS[0])


@pytest.mark.parametrize("name", ["x.pt", "model/pytorch_model.bin"])
def test_weights_that_would_run_code_are_refused(name, folder, tmp_path):
    class Hostile:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text((folder / "plain/config.json").read_text())
    torch.save({"state_dict": laion_state(), "epoch": Hostile()}, tmp_path / name)
    with pytest.raises(ArtifactError, match="cannot be read as weights"):
        HfClapEncoder(str(tmp_path / name.removesuffix("/pytorch_model.bin")))
    assert not (tmp_path / "ran").exists()


def test_a_name_on_the_hub_is_found_in_the_weights_folder_and_in_the_cache(folder, tmp_path, offline, monkeypatch):
    monkeypatch.chdir(tmp_path)
    encoder = HfClapEncoder("laion/fused", weights=[folder])
    assert encoder.name == "hf_clap:laion/fused" and read(encoder, "rain").shape == (1, 512)
    snapshot = tmp_path / "hub/models--laion--plain/snapshots/abc"
    snapshot.parent.mkdir(parents=True)
    snapshot.symlink_to(folder / "plain")
    (snapshot.parent.parent / "refs").mkdir()
    (snapshot.parent.parent / "refs/main").write_text("abc")
    cached = HfClapEncoder("laion/plain", weights=[folder / "roberta-base"])
    assert cached.name == "hf_clap:laion/plain"
    assert cached.fingerprint == HfClapEncoder(str(folder / "plain")).fingerprint
    assert read(cached, "rain").shape == (1, 512)


@pytest.mark.parametrize("partly", [False, True])
def test_an_unreachable_hub_is_one_line_after_a_single_try(partly, tmp_path, offline):
    if partly:  # as an interrupted download leaves it
        (tmp_path / "hub/models--laion--x/snapshots/abc").mkdir(parents=True)
        (tmp_path / "hub/models--laion--x/refs").mkdir()
        (tmp_path / "hub/models--laion--x/refs/main").write_text("abc")
    with pytest.raises(
        InputError, match=r"laion/x: no such folder, .*the Hub cannot be reached.*hf_clap:FOLDER"
    ) as told:
        HfClapEncoder("laion/x")
    assert len(offline) == 1 and "\n" not in str(told.value)


def test_what_is_nowhere_is_told(tmp_path, offline):
    for model in ("nothing.pt", "some/where/deep", str(tmp_path / "nothing")):
        with pytest.raises(InputError, match=r"CLAP model '.*' not found"):
            HfClapEncoder(model)
    with pytest.raises(InputError, match="no such file or folder; check the path"):
        HfClapEncoder("laion/x", weights=[tmp_path / "missing"])


def test_without_transformers_its_command_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'cmcr\[hf-clap\]'"):
        HfClapEncoder("x.pt")


@pytest.mark.slow
def test_a_full_size_checkpoint_is_embedded(folder, tmp_path):
    path = write_laion(tmp_path / "x.pt", "HTSAT-tiny", fusion=True, text_layers=12, text_width=768)
    encoder = HfClapEncoder(str(path), weights=[folder])
    vectors = heard(encoder, *SOUNDS)
    assert vectors.shape == (4, 512) and np.triu(vectors @ vectors.T, 1).max() < 0.99
    assert read(encoder, *TEXTS).shape == (3, 512)
    path.unlink()
