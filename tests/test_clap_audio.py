"""LAION's audio features: equal to the published code's where that is not random, and fixed where it is."""

import random

import numpy as np
import pytest
import torch

from cmcr.encoders import clap_audio
from cmcr.encoders.clap_audio import WINDOW, fit_window, fusion_channels, log_mel, mel_filters, quantise


def noise(samples, seed=0):
    return quantise(np.random.default_rng(seed).uniform(-0.7, 0.7, samples).astype(np.float32))


def extractor(truncation):
    transformers = pytest.importorskip("transformers", reason="not installed: pip install 'cmcr[hf-clap]'")
    return transformers.ClapFeatureExtractor(frequency_min=50, frequency_max=14_000, truncation=truncation)


def extracted(samples, truncation):
    return extractor(truncation)(samples, sampling_rate=48_000, return_tensors="np")["input_features"][0]


def test_sixteen_bits_are_cut_off_as_in_training():
    given = np.array([2.0, -2.0, 0.5, 1.9 / 32767, -1.9 / 32767], np.float32)
    expected = np.array([1.0, -1.0, 16383 / 32767, 1 / 32767, -1 / 32767], np.float32)
    assert quantise(given).tolist() == expected.tolist() and quantise(given).dtype == np.float32


def test_a_short_sound_is_repeated_whole_and_followed_by_silence():
    third = np.arange(1, 200_001, dtype=np.float32)
    window = fit_window(third)
    assert window.shape == (WINDOW,) and window.dtype == np.float32
    assert np.array_equal(window[:400_000], np.tile(third, 2)) and not window[400_000:].any()
    assert np.array_equal(fit_window(np.ones(1, np.float32)), np.ones(WINDOW))


def test_of_a_long_sound_the_middle_is_heard():
    assert fit_window(np.arange(WINDOW + 101))[[0, -1]].tolist() == [50, WINDOW + 49]
    assert np.array_equal(fit_window(np.arange(WINDOW)), np.arange(WINDOW))


@pytest.mark.parametrize(("low", "high"), [(50, 14_000), (0, 24_000), (300, 8_000)])
@pytest.mark.parametrize(("scale", "norm"), [("htk", None), ("slaney", "slaney")])
def test_mel_filters_are_those_of_the_field(scale, norm, low, high):
    audio = pytest.importorskip("transformers.audio_utils", reason="not installed: pip install 'cmcr[hf-clap]'")
    expected = audio.mel_filter_bank(513, 64, low, high, 48_000, norm=norm, mel_scale=scale)
    assert np.allclose(mel_filters(scale, low, high).numpy(), expected, rtol=0, atol=1e-6 * expected.max())


def test_mel_filters_are_librosas():
    librosa = pytest.importorskip("librosa", reason="not installed: pip install 'cmcr[clap]'")
    shape = {"sr": 48_000, "n_fft": 1024, "n_mels": 64, "fmin": 50, "fmax": 14_000}
    assert np.allclose(mel_filters("slaney").numpy().T, librosa.filters.mel(**shape), atol=1e-7)
    assert np.allclose(mel_filters("htk").numpy().T, librosa.filters.mel(**shape, htk=True, norm=None), atol=1e-5)


def test_the_log_mel_map_is_torchaudios():
    torchaudio = pytest.importorskip("torchaudio", reason="not installed: pip install torchaudio")
    samples = noise(WINDOW + 30_000)
    mel = torchaudio.transforms.MelSpectrogram(
        48_000, n_fft=1024, hop_length=480, n_mels=64, f_min=50, f_max=14_000, pad_mode="reflect", norm=None
    )(torch.from_numpy(samples))
    expected = torchaudio.transforms.AmplitudeToDB(top_db=None)(mel).T
    assert torch.allclose(log_mel(samples, mel_filters("htk")), expected, rtol=0, atol=1e-3)


def test_silence_is_a_hundred_decibels_below():
    assert log_mel(np.zeros(WINDOW, np.float32), mel_filters("htk")).unique().tolist() == [-100.0]


@pytest.mark.parametrize("samples", [1, 1000, 200_000, WINDOW])
@pytest.mark.parametrize(("truncation", "scale"), [("fusion", "htk"), ("rand_trunc", "slaney")])
def test_a_short_sound_has_the_features_of_transformers_extractor(samples, truncation, scale):
    sound, filters = noise(samples), mel_filters(scale)
    ours = fusion_channels(sound, filters) if truncation == "fusion" else log_mel(fit_window(sound), filters)[None]
    theirs = extracted(sound, truncation)
    assert ours.shape == (1, 1001, 64) and len(theirs) == (4 if truncation == "fusion" else 1)
    assert all(np.allclose(ours[0].numpy(), channel, rtol=0, atol=2e-3) for channel in theirs)


@pytest.mark.parametrize("samples", [WINDOW + 480, WINDOW + 960, WINDOW + 1440, 25 * 48_000])
def test_fusion_is_the_extractors_with_the_middle_start_of_each_third(samples, monkeypatch):
    sound = noise(samples)
    monkeypatch.setattr(np.random, "choice", lambda third: third[len(third) // 2])
    theirs = extracted(sound, "fusion")
    assert np.allclose(fusion_channels(sound, mel_filters("htk")).numpy(), theirs, rtol=0, atol=2e-3)


def test_the_three_chunks_of_25_seconds_start_after_2_5_and_7_5_and_12_5():
    sound, filters = noise(25 * 48_000), mel_filters("htk")
    mel, channels = log_mel(sound, filters), fusion_channels(sound, filters)
    for channel, start in zip(channels[1:], (250, 751, 1251), strict=True):
        assert torch.equal(channel, mel[start : start + 1001])


def test_without_fusion_a_long_sound_is_the_extractors_cut_in_the_middle(monkeypatch):
    sound = noise(WINDOW + 33_333)
    monkeypatch.setattr(np.random, "randint", lambda low, high: (high - 1) // 2)
    ours = log_mel(fit_window(sound), mel_filters("slaney"))
    assert np.allclose(ours.numpy(), extracted(sound, "rand_trunc")[0], rtol=0, atol=2e-3)


def test_a_sound_without_one_frame_more_than_the_window_is_not_long():
    filters = mel_filters("htk")
    assert fusion_channels(noise(WINDOW + 479), filters).shape == (1, 1001, 64)
    assert fusion_channels(noise(WINDOW + 480), filters).shape == (4, 1001, 64)


def test_features_neither_read_nor_touch_any_random_state():
    sound, filters = noise(WINDOW * 2), mel_filters("htk")
    seen = []
    for seed in (1, 2):
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - the state that the original reads
        torch.manual_seed(seed)
        before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002
        seen.append((fusion_channels(sound, filters), fit_window(sound)))
        assert before == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())  # noqa: NPY002
    assert torch.equal(seen[0][0], seen[1][0]) and np.array_equal(seen[0][1], seen[1][1])


def test_an_hour_needs_no_gigabytes_of_spectrum():
    sound = np.zeros(clap_audio.RATE * 60, np.float32)
    whole = log_mel(sound, mel_filters("htk"))
    assert whole.shape == (6001, 64)  # more than one block, none lost between them
    assert torch.equal(
        log_mel(noise(WINDOW * 3), mel_filters("htk"))[1030:1900],
        log_mel(noise(WINDOW * 3)[480 * 1000 :], mel_filters("htk"))[30:900],
    )
