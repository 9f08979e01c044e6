"""What every installed encoder owes its callers, each on the smallest random model of its true layout."""

import importlib.util
import io
import json
import random
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import soundfile
import torch
from checkpoints_clap import write_laion, write_tokenizer
from checkpoints_ulip import write_ulip
from PIL import Image
from safetensors.torch import save_file

from cmcr.encoders import load_encoder
from cmcr.errors import ItemError
from cmcr.items import Item
from cmcr.modality import Modality

IMAGE, TEXT, AUDIO, CLOUD = Modality.IMAGE, Modality.TEXT, Modality.AUDIO, Modality.POINT_CLOUD
CASES = {
    "tiny-clip": (IMAGE, TEXT),
    "tiny-clap": (AUDIO, TEXT),
    "tiny-ulip": (CLOUD, IMAGE),
    "open_clip:local-dir:small": (IMAGE, TEXT),
    "hf_clap:fused.pt": (AUDIO, TEXT),
    "hf_clap:plain.pt": (AUDIO, TEXT),
    "laion_clap:HTSAT-tiny-fusion/tiny-fused.pt": (AUDIO, TEXT),
    "ulip:ulip-2.pt": (CLOUD, IMAGE, TEXT),
}
WORDS = ("a red dog", "two small blue cats beside a very large bell", "drum", "three owls", "a siren and a car")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    import open_clip

    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    config = {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 64, "layers": 2, "width": 64, "patch_size": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 2},
    }
    state = open_clip.CLIP(**config).state_dict()
    state["visual.conv1.weight"] *= 20  # fresh models say nearly the same of everything
    (folder / "small").mkdir()
    (folder / "small" / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    save_file(state, folder / "small" / "open_clip_model.safetensors")
    write_laion(folder / "fused.pt", fusion=True)
    write_laion(folder / "plain.pt", fusion=False)
    if importlib.util.find_spec("laion_clap"):
        write_laion(folder / "tiny-fused.pt", "HTSAT-tiny", fusion=True, text_layers=12, text_width=768)
    write_tokenizer(folder / "roberta-base")
    write_ulip(folder / "ulip-2.pt", small=True)
    return folder


@pytest.fixture(scope="module", params=CASES)
def encoder(request, weights):
    if request.param.startswith("laion_clap:") and not importlib.util.find_spec("laion_clap"):
        pytest.skip("laion-clap is not installed: pip install 'cmcr[clap]' (numpy<2)")
    return load_encoder(request.param, weights=[weights])


def content(modality, number):
    """One item's bytes and the suffix of its file; sizes and lengths differ from number to number."""
    rng = np.random.default_rng([number, len(modality)])
    file = io.BytesIO()
    if modality is TEXT:
        return WORDS[number].encode(), ""
    if modality is IMAGE:
        size = (60 + 30 * number, 90, 3)
        Image.fromarray(
            np.kron(rng.integers(0, 255, (size[0] // 15, 6, 3)), np.ones((15, 15, 1))).astype(np.uint8)
        ).save(file, "PNG")
        return file.getvalue(), ".png"
    if modality is AUDIO:
        # One is longer than CLAP's window of ten seconds, one is stereo, one has another rate.
        seconds, rate = (0.3, 1.0, 12.0, 2.5, 0.01)[number], (48_000, 16_000, 48_000, 44_100, 8_000)[number]
        time = np.arange(max(1, int(seconds * rate))) / rate
        wave = 0.5 * np.sin(2 * np.pi * (300 + 500 * number) * time) + rng.normal(0, 0.05, len(time))
        soundfile.write(file, np.stack([wave] * (1 + number % 2), 1), rate, format="WAV")
        return file.getvalue(), ".wav"
    points = rng.normal(size=(1100 + 300 * number, 3)) * [1, 2 + number, 0.5]
    np.save(file, points.astype(np.float32))
    return file.getvalue(), ".npy"


def prepared(encoder, modality, numbers=range(5)):
    made = []
    for number in numbers:
        data, suffix = content(modality, number)
        made.append(encoder.prepare(item(modality, number, suffix), data))
    return made


def item(modality, number, suffix):
    text = WORDS[number] if modality is TEXT else None
    return Item(f"{number}", modality, f"{number}{suffix}", text, None if text else f"{number}{suffix}")


def each(encoder):
    assert encoder.modalities
    return encoder.modalities


def test_it_says_what_it_is(encoder, request):
    name = request.node.callspec.params["encoder"]
    assert set(encoder.modalities) == set(CASES[name])
    assert encoder.name == name  # the name loads it again, on any machine
    assert len(encoder.fingerprint) == 64 and int(encoder.fingerprint, 16) >= 0
    assert isinstance(encoder.dim, int)


def test_vectors_are_float32_units_that_tell_things_apart(encoder):
    for modality in each(encoder):
        vectors = encoder.encode(modality, prepared(encoder, modality))
        assert vectors.shape == (5, encoder.dim) and vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
        assert (vectors @ vectors.T)[~np.eye(5, dtype=bool)].max() < 0.9999
        assert encoder.encode(modality, []).shape == (0, encoder.dim)


def test_a_vector_does_not_depend_on_its_batch(encoder):
    for modality in each(encoder):
        ready = prepared(encoder, modality)
        whole = encoder.encode(modality, ready)
        alone = np.concatenate([encoder.encode(modality, [one]) for one in ready])
        parts = np.concatenate([encoder.encode(modality, ready[:3]), encoder.encode(modality, ready[3:])])
        backwards = encoder.encode(modality, ready[::-1])[::-1]
        for other in (alone, parts, backwards):
            np.testing.assert_allclose(other, whole, atol=1e-5)


def test_a_vector_does_not_depend_on_global_random_state_and_leaves_it_alone(encoder):
    for modality in each(encoder):
        results = []
        for seed in (1, 2):
            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002 - the state under test
            torch.manual_seed(seed)
            before = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())  # noqa: NPY002
            results.append(encoder.encode(modality, prepared(encoder, modality)))
            after = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())  # noqa: NPY002
            assert before == after
        np.testing.assert_array_equal(*results)


def test_items_may_be_prepared_in_threads(encoder):
    for modality in each(encoder):
        with ThreadPoolExecutor(4) as pool:
            jobs = [pool.submit(prepared, encoder, modality, [number]) for number in (*range(5), *range(5))]
            threaded = encoder.encode(modality, [job.result()[0] for job in jobs])
        alone = encoder.encode(modality, prepared(encoder, modality))
        np.testing.assert_allclose(threaded, np.concatenate([alone, alone]), atol=1e-5)


@pytest.mark.parametrize("damage", ["empty", "noise", "half"])
def test_damaged_content_is_an_item_error(encoder, damage):
    for modality in each(encoder):
        if modality is TEXT:
            continue
        data, suffix = content(modality, 1)
        broken = {"empty": b"", "noise": b"\x00\xff" * 400, "half": data[: len(data) // 2]}[damage]
        with pytest.raises(ItemError), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            encoder.prepare(item(modality, 1, suffix), broken)


def test_what_is_no_text_is_an_item_error(encoder):
    for data, reason in ((b"a\xff", "not UTF-8 at byte 1"), (b" \n", "empty text")):
        if TEXT in encoder.modalities:
            with pytest.raises(ItemError, match=reason):
                encoder.prepare(item(TEXT, 0, ""), data)


def test_it_runs_in_lower_precision(encoder, weights):
    lower = load_encoder(encoder.name, weights=[weights], precision="bf16")
    assert lower.fingerprint == encoder.fingerprint
    for modality in each(encoder):
        ready = prepared(encoder, modality)
        vectors = lower.encode(modality, ready)
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
        assert (vectors * encoder.encode(modality, ready)).sum(1).min() > 0.95
