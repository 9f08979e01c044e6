"""LAION's CLAP: vectors as the official code's, without its network, its pickles and its randomness."""

import importlib.util
import io
import os
import random
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from checkpoints_clap import laion_state, write_laion, write_tokenizer

from cmcr.encoders.hf_clap import HfClapEncoder
from cmcr.encoders.laion_clap import MODELS, LaionClapEncoder
from cmcr.errors import ArtifactError, InputError, ItemError, MissingExtraError
from cmcr.items import Item
from cmcr.modality import Modality

A, T = Modality.AUDIO, Modality.TEXT
TEXTS = ("a dog barks", "rain", "an aeroplane flies over " * 30)

needs_laion = pytest.mark.skipif(
    importlib.util.find_spec("laion_clap") is None,
    reason="laion-clap is not installed: pip install 'cmcr[clap]'",
)


def wav(samples, rate=48_000, subtype="FLOAT"):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype=subtype)
    return file.getvalue()


def noise(seconds, seed=0):
    return np.random.default_rng(seed).uniform(-0.4, 0.4, int(seconds * 48_000)).astype(np.float32)


def chirp(seconds, hertz):
    times = np.arange(int(seconds * 48_000)) / 48_000
    return (0.4 * np.sin(2 * np.pi * hertz * times**1.5)).astype(np.float32)


SOUNDS = {"noise": noise(3), "long chirp": chirp(25, 50), "chirp": chirp(8, 500), "long noise": noise(13) ** 3}


def heard(encoder, *sounds):
    return encoder.encode(A, [encoder.prepare(Item("x", A, "x.wav"), wav(sound)) for sound in sounds])


def read(encoder, *texts):
    return encoder.encode(T, [encoder.prepare(Item("x", T, "x"), text.encode()) for text in texts])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One checkpoint without fusion, one with, and a tokenizer beside them."""
    folder = tmp_path_factory.mktemp("laion")
    write_tokenizer(folder / "roberta-base")
    write_laion(folder / "plain.pt", "HTSAT-tiny")
    write_laion(folder / "fused.pt", "HTSAT-tiny", fusion=True)
    return folder


@pytest.fixture(scope="module", params=["plain", "fused"])
def encoder(request, folder):
    name = "HTSAT-tiny" if request.param == "plain" else "HTSAT-tiny-fusion"
    return LaionClapEncoder(f"{name}/{request.param}.pt", weights=[folder])


@pytest.fixture(scope="module")
def vectors(encoder):
    """Of ``SOUNDS``, embedded together."""
    return heard(encoder, *SOUNDS.values())


@pytest.fixture(scope="module")
def fused(folder):
    return LaionClapEncoder("HTSAT-tiny-fusion/fused.pt", weights=[folder])


@pytest.fixture(scope="module")
def official():
    """The whole package, imported without the tokenizers that it asks the network for."""
    import transformers

    path = list(sys.path)
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in ("BertTokenizer", "RobertaTokenizer", "BartTokenizer"):
            patch.setattr(getattr(transformers, name), "from_pretrained", lambda *args, **options: None)
        import laion_clap.clap_module.model
        import laion_clap.training.data
    sys.path[:] = path
    return laion_clap


@needs_laion
def test_an_encoder_tells_what_it_is(encoder, folder):
    assert re.fullmatch(r"laion_clap:HTSAT-tiny(/plain|-fusion/fused)\.pt", encoder.name)
    assert encoder.modalities == (A, T) and encoder.dim == 512
    assert re.fullmatch("[0-9a-f]{64}", encoder.fingerprint)
    assert encoder.encode(A, []).shape == encoder.encode(T, []).shape == (0, 512)


@needs_laion
def test_audio_is_embedded_in_seconds_without_a_network_and_without_the_text_tower(folder, tmp_path):
    script = (
        "import socket, sys, warnings\n"
        "calls = []\n"
        "def refuse(*args, **options): calls.append(args); raise OSError('no network')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "import transformers\n"
        "def trapped(*args, **options): raise AssertionError('asked for a tokenizer')\n"
        "for name in ('BertTokenizer', 'RobertaTokenizer', 'BartTokenizer'):\n"
        "    getattr(transformers, name).from_pretrained = trapped\n"
        "from cmcr.encoders.laion_clap import LaionClapEncoder\n"
        "from cmcr.items.read import Item\n"
        "from cmcr.modality import Modality\n"
        f"encoder = LaionClapEncoder('HTSAT-tiny-fusion/' + {str(folder / 'fused.pt')!r})\n"
        "path = list(sys.path)\n"
        "from pathlib import Path\n"
        f"data = Path({str(tmp_path / 'x.wav')!r}).read_bytes()\n"
        "prepared = encoder.prepare(Item('x', Modality.AUDIO, 'x.wav'), data)\n"
        "print(encoder.encode(Modality.AUDIO, [prepared]).shape, len(calls), sys.path == path)\n"
        "print([name for name in ('laion_clap', 'wget', 'webdataset') if name in sys.modules])\n"
    )
    (tmp_path / "x.wav").write_bytes(wav(noise(1)))
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout == "(1, 512) 0 True\n[]\n", done.stderr[-2000:]
    assert not done.stderr


@needs_laion
def test_vectors_are_the_official_models(official, folder, tmp_path, monkeypatch):
    import transformers

    config = transformers.RobertaConfig(
        vocab_size=50265, max_position_embeddings=514, type_vocab_size=1, layer_norm_eps=1e-5, num_hidden_layers=1
    )
    library = official.clap_module.model
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        monkeypatch.setattr(
            library.RobertaModel, "from_pretrained", lambda *args: transformers.RobertaModel(config).eval()
        )
        settings = official.clap_module.factory._MODEL_CONFIGS["HTSAT-tiny"]
        settings = {**settings, "text_cfg": {**settings["text_cfg"], "model_type": "roberta"}}
        model = library.CLAP(**settings).eval()
    state = laion_state("HTSAT-tiny", text_layers=1, text_width=768, position_ids=False)
    model.load_state_dict(state)  # strict: the layout that these tests write is the library's own
    torch.save(state, tmp_path / "whole.pt")
    encoder = LaionClapEncoder("HTSAT-tiny/whole.pt", weights=[tmp_path, folder])

    data = official.training.data
    sounds = [SOUNDS["noise"], SOUNDS["chirp"], noise(10)]
    inputs = []
    for sound in sounds:
        waveform = torch.from_numpy(data.int16_to_float32(data.float32_to_int16(sound)))
        inputs.append(data.get_audio_features({}, waveform, 480_000, "rand_trunc", "repeatpad", settings["audio_cfg"]))
    tokens = transformers.RobertaTokenizer.from_pretrained(folder / "roberta-base", local_files_only=True)(
        list(TEXTS), padding="max_length", truncation=True, max_length=77, return_tensors="pt"
    )
    with torch.inference_mode():
        audio, text = model.get_audio_embedding(inputs).numpy(), model.get_text_embedding(tokens).numpy()
    assert np.abs(heard(encoder, *sounds) - audio).max() < 1e-5
    assert np.abs(read(encoder, *TEXTS) - text).max() < 1e-5


@needs_laion
def test_fusion_features_are_the_official_ones_with_the_middle_starts(official, fused, monkeypatch):
    pytest.importorskip("torchaudio", reason="not installed: pip install torchaudio")
    data = official.training.data
    transforms = data.torchvision.transforms
    smooth = transforms.Resize
    monkeypatch.setattr(transforms, "Resize", lambda size: smooth(size, antialias=False))  # as when it was trained
    monkeypatch.setattr(np.random, "choice", lambda third: third[len(third) // 2])
    settings = official.clap_module.factory._MODEL_CONFIGS["HTSAT-tiny"]["audio_cfg"]
    for sound in SOUNDS.values():
        waveform = torch.from_numpy(data.int16_to_float32(data.float32_to_int16(sound)))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Argument 'onesided'", UserWarning)
            theirs = data.get_audio_features({}, waveform, 480_000, "fusion", "repeatpad", settings)
        ours = fused.prepare(Item("x", A, "x.wav"), wav(sound))
        assert np.abs(theirs["mel_fusion"].numpy() - ours).max() < 1e-2
        assert bool(theirs["longer"]) == (len(ours) > 1)


@needs_laion
def test_both_adapters_agree_and_tell_sounds_and_texts_apart(encoder, vectors, folder):
    other, text = HfClapEncoder(encoder.name.split("/")[1], weights=[folder]), read(encoder, *TEXTS)
    assert (vectors * heard(other, *SOUNDS.values())).sum(1).min() > 0.999
    assert (text * read(other, *TEXTS)).sum(1).min() > 0.9999
    for each in (vectors, text):
        assert np.triu(each @ each.T, 1).max() < 0.99  # or agreement would mean nothing
    assert other.fingerprint != encoder.fingerprint


@needs_laion
def test_a_vector_does_not_depend_on_its_batch(encoder, vectors):
    short = [SOUNDS["noise"], SOUNDS["chirp"]]
    assert np.abs(heard(encoder, *short) - vectors[::2]).max() < 1e-5  # none of the batch long
    for name in ("noise", "long chirp"):
        assert np.abs(heard(encoder, SOUNDS[name]) - vectors[list(SOUNDS).index(name)]).max() < 1e-5
    assert np.abs(read(encoder, *TEXTS) - np.concatenate([read(encoder, text) for text in TEXTS])).max() < 1e-5


@needs_laion
@pytest.mark.parametrize("model", ["HTSAT-tiny/plain.pt", "HTSAT-tiny-fusion/fused.pt"])
def test_no_random_state_is_read_or_touched(model, folder):
    seen = []
    for seed in (1, 2):
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - the state that the original reads
        torch.manual_seed(seed)
        before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002
        seen.append(heard(LaionClapEncoder(model, weights=[folder]), SOUNDS["long chirp"]))
        assert before == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())  # noqa: NPY002
    assert np.array_equal(*seen)


@needs_laion
def test_any_sound_has_a_unit_vector(encoder):
    mono = SOUNDS["noise"]
    sounds = [
        wav(np.full(1, 0.5)),
        wav(np.zeros(48_000)),
        wav(np.stack([mono, mono], 1)),
        wav(chirp(2, 100)[::6], 8_000),
    ]
    prepared = [encoder.prepare(Item("x", A, "x.wav"), sound) for sound in sounds]
    found = encoder.encode(A, prepared)
    assert found.dtype == np.float32 and np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert np.array_equal(prepared[2], encoder.prepare(Item("x", A, "x.wav"), wav(mono)))
    assert found[3] @ heard(encoder, chirp(2, 100))[0] > found[3] @ found[2]


@needs_laion
def test_half_precision_is_close(encoder, vectors, folder):
    half = LaionClapEncoder(encoder.name.removeprefix("laion_clap:"), precision="bf16", weights=[folder])
    close = heard(half, SOUNDS["noise"], SOUNDS["long chirp"])
    assert 0.99 < (vectors[:2] * close).sum(1).min() < 0.9999999
    assert (read(encoder, *TEXTS) * read(half, *TEXTS)).sum(1).min() > 0.99


@needs_laion
@pytest.mark.parametrize("settings", [{"position_ids": False}, {"module": False}, {"wrapped": False}])
def test_every_spelling_of_a_checkpoint_is_read(settings, folder, fused, tmp_path):
    write_laion(tmp_path / "x.pt", "HTSAT-tiny", fusion=True, **settings)
    encoder = LaionClapEncoder("HTSAT-tiny-fusion/x.pt", weights=[tmp_path, folder])
    assert np.array_equal(read(encoder, "rain"), read(fused, "rain"))
    assert (encoder.fingerprint == fused.fingerprint) == settings.get("position_ids", True)


@needs_laion
def test_only_the_tower_in_use_is_built(folder, monkeypatch):
    import transformers

    def refuse(*args, **options):
        raise AssertionError("not needed")

    encoder = LaionClapEncoder("HTSAT-tiny/plain.pt", weights=[folder])
    with monkeypatch.context() as patch:
        patch.setattr(transformers.RobertaModel, "__init__", refuse)
        assert heard(encoder, SOUNDS["noise"]).shape == (1, 512)
    encoder = LaionClapEncoder("HTSAT-tiny/plain.pt", weights=[folder])
    monkeypatch.setattr(sys.modules["clap_module.model"], "create_htsat_model", refuse)
    assert read(encoder, "rain").shape == (1, 512)


@needs_laion
def test_audio_needs_no_tokenizer_and_text_says_where_to_put_it(folder, tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setenv("CMCR_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    (tmp_path / "alone.pt").symlink_to(folder / "plain.pt")
    encoder = LaionClapEncoder("HTSAT-tiny/alone.pt", weights=[tmp_path])
    assert heard(encoder, SOUNDS["noise"]).shape == (1, 512)
    with pytest.raises(InputError, match=r"texts need the folder roberta-base .* get it with: hf download"):
        read(encoder, "rain")


@needs_laion
def test_what_is_no_sound_or_text_is_an_item_error(encoder):
    for modality, data in ((A, b"RIFF"), (A, b""), (T, b"\xff"), (T, b" \n")):
        with pytest.raises(ItemError):
            encoder.prepare(Item("x", modality, "x"), data)


@needs_laion
@pytest.mark.parametrize(
    ("asked", "file", "seen"),
    [
        ("HTSAT-tiny", "fused.pt", "HTSAT-tiny-fusion; use laion_clap:HTSAT-tiny-fusion/fused.pt"),
        ("HTSAT-tiny-fusion", "plain.pt", "HTSAT-tiny; use laion_clap:HTSAT-tiny/plain.pt"),
        ("HTSAT-base", "plain.pt", "HTSAT-tiny; use"),
    ],
)
def test_a_checkpoint_of_another_model_is_told_by_its_name(asked, file, seen, folder):
    with pytest.raises(ArtifactError, match=f"is not {asked}: it looks like {seen}") as told:
        LaionClapEncoder(f"{asked}/{file}", weights=[folder])
    assert "\n" not in str(told.value)


@needs_laion
def test_checkpoints_of_other_sizes_and_libraries_are_told(tmp_path):
    cases = {
        "base": (laion_state((128, (1, 1, 1, 1))), "it looks like HTSAT-base; use laion_clap:HTSAT-base/base.pt"),
        "odd": (laion_state(), "it looks like an HTSAT of width 32, which is none of HTSAT-tiny"),
        "hub": ({"audio_model.x": torch.ones(1)}, "it looks like a Hugging Face model: use hf_clap:FOLDER"),
        "other": ({"visual.proj": torch.ones(1)}, "expected LAION's HTSAT with RoBERTa"),
    }
    for name, (state, message) in cases.items():
        torch.save(state, tmp_path / f"{name}.pt")
        with pytest.raises(ArtifactError, match=re.escape(message)):
            LaionClapEncoder(f"HTSAT-tiny/{name}.pt", weights=[tmp_path])


@needs_laion
def test_missing_and_unknown_names_are_reported(tmp_path):
    state = laion_state("HTSAT-tiny")
    torch.save({**state, "decoder.weight": torch.ones(1)}, tmp_path / "more.pt")
    with pytest.raises(ArtifactError, match=r"holds 1 names unknown to CLAP \(decoder.weight"):
        LaionClapEncoder("HTSAT-tiny/more.pt", weights=[tmp_path])
    del state["audio_branch.norm.weight"]
    torch.save(state, tmp_path / "less.pt")
    with pytest.raises(ArtifactError, match=r"1 missing: audio_branch.norm.weight"):
        heard(LaionClapEncoder("HTSAT-tiny/less.pt", weights=[tmp_path]), SOUNDS["noise"])


@needs_laion
def test_a_checkpoint_that_would_run_code_is_refused(tmp_path):
    class Hostile:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"state_dict": laion_state(), "epoch": Hostile()}, tmp_path / "x.pt")
    with pytest.raises(ArtifactError, match="cannot be read as weights"):
        LaionClapEncoder("HTSAT-tiny/x.pt", weights=[tmp_path])
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("model", ["HTSAT-tiny", "HTSAT-tiny/", "HTSAT-tny-fusion/x.pt", "PANN-14/x.pt", ""])
def test_an_unknown_model_is_told_what_there_is(model):
    with pytest.raises(InputError, match=f"expected MODEL/FILE, such as .*{', '.join(MODELS)}"):
        LaionClapEncoder(model)


def test_without_laion_clap_its_command_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "laion_clap", None)
    with pytest.raises(MissingExtraError, match=r"hf_clap reads the same files.*pip install 'cmcr\[clap\]'"):
        LaionClapEncoder("HTSAT-tiny/x.pt")


@needs_laion
def test_a_missing_file_names_the_places(tmp_path, monkeypatch):
    monkeypatch.setenv("CMCR_WEIGHTS", str(tmp_path / "weights"))
    with pytest.raises(InputError, match=r"630k-best.pt' not found .*--weights"):
        LaionClapEncoder("HTSAT-tiny/630k-best.pt", weights=[tmp_path])


@needs_laion
@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_full_size_models_agree_in_both_adapters(model, folder, tmp_path):
    size, fusion = model.removesuffix("-fusion"), model.endswith("-fusion")
    path = write_laion(tmp_path / "x.pt", size, fusion=fusion, text_layers=12, text_width=768)
    ours, other = LaionClapEncoder(f"{model}/{path}", weights=[folder]), HfClapEncoder(str(path), weights=[folder])
    assert (heard(ours, *SOUNDS.values()) * heard(other, *SOUNDS.values())).sum(1).min() > 0.999
    assert (read(ours, *TEXTS) * read(other, *TEXTS)).sum(1).min() > 0.9999
    Path(path).unlink()
