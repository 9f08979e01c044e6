"""roberta-base's tokenizer: where it is looked for, that it is the right one, and that nothing waits for a network."""

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from checkpoints_clap import write_tokenizer

from cmcr.encoders.clap_text import RobertaTokens, download, find_tokenizer
from cmcr.errors import InputError

pytest.importorskip("transformers", reason="not installed: pip install 'cmcr[hf-clap]'")


@pytest.fixture(scope="session")
def roberta(tmp_path_factory):
    return write_tokenizer(tmp_path_factory.mktemp("tokenizer") / "roberta-base")


@pytest.fixture(autouse=True)
def asked(tmp_path, monkeypatch):
    """No weights, no cache, no network; the list of what was asked of the network, and of how long was slept."""
    from huggingface_hub import constants

    calls = []

    def unreachable(*args, **options):
        calls.append(args)
        raise OSError("no network in tests")

    monkeypatch.setenv("CMCR_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(socket, "create_connection", unreachable)
    monkeypatch.setattr(socket, "getaddrinfo", unreachable)
    monkeypatch.chdir(tmp_path)
    return calls


def into_cache(hub, repository, files):
    """Lay ``files`` (name: content) into a Hugging Face cache as a download does."""
    folder = Path(hub, f"models--{repository.replace('/', '--')}")
    for name, content in {
        "refs/main": "abc",
        **{f"snapshots/abc/{name}": text for name, text in files.items()},
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder / "snapshots/abc"


def test_texts_become_77_tokens_padded_or_cut(roberta):
    tokens = RobertaTokens(lambda: roberta)
    ids, mask = tokens("a dog")
    used = int(mask.sum())
    assert ids.shape == (77,) and ids.dtype == np.int64
    assert ids[0] == 0 and ids[used - 1] == 2 and (ids[used:] == 1).all() and not mask[used:].any()
    ids, mask = tokens("a dog barks " * 100)
    assert mask.all() and ids[0] == 0 and ids[-1] == 2
    assert not np.array_equal(tokens("a dog"), tokens("a cat"))


def test_the_tokenizer_is_found_beside_the_weights_then_in_their_folder_then_in_the_cache(tmp_path, roberta):
    files = {name: (roberta / name).read_text() for name in ("vocab.json", "merges.txt")}
    cached = into_cache(tmp_path / "hub", "roberta-base", files)
    assert find_tokenizer(()) == cached
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights/roberta-base").symlink_to(roberta)
    assert find_tokenizer(()) == tmp_path / "weights/roberta-base"
    assert find_tokenizer((roberta.parent,)) == roberta


@pytest.mark.parametrize("left", ["nothing", "vocab.json alone"])
def test_a_missing_tokenizer_is_one_line_with_its_command(tmp_path, roberta, left, asked):
    if left != "nothing":
        (tmp_path / "weights/roberta-base").mkdir(parents=True)
        (tmp_path / "weights/roberta-base/vocab.json").write_text((roberta / "vocab.json").read_text())
    with pytest.raises(InputError) as told:
        RobertaTokens(lambda: find_tokenizer(()))("a dog")
    assert not asked
    command = "hf download FacebookAI/roberta-base vocab.json merges.txt --local-dir"
    assert f"{command} {tmp_path}/weights/roberta-base" in str(told.value) and "\n" not in str(told.value)


def test_a_tokenizer_of_another_vocabulary_is_refused(tmp_path, roberta):
    vocabulary = json.loads((roberta / "vocab.json").read_text())
    for name, kept in {
        "few": dict(list(vocabulary.items())[:300]),
        "moved": {**vocabulary, "<pad>": 2, "</s>": 1},
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "vocab.json").write_text(json.dumps(kept))
        (tmp_path / name / "merges.txt").write_text("#version: 0.2\n")
        with pytest.raises(InputError, match=r"tokens, not roberta-base's 50265; put its files there"):
            RobertaTokens(lambda name=name: tmp_path / name)("a dog")


def test_the_silent_tokenizer_of_five_tokens_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    refused = r"a tokenizer of 5 tokens, not roberta-base's 50265|its tokenizer cannot be read"  # since 5; before
    with pytest.raises(InputError, match=refused):
        RobertaTokens(lambda: tmp_path / "empty")("a dog")


def test_damaged_tokenizer_files_are_one_line(tmp_path, roberta):
    (tmp_path / "vocab.json").write_text((roberta / "vocab.json").read_text()[:1000])
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    with pytest.raises(InputError, match=r"its tokenizer cannot be read") as told:
        RobertaTokens(lambda: tmp_path)("a dog")
    assert "\n" not in str(told.value)


def test_threads_share_one_tokenizer(roberta):
    found = []

    def find():
        found.append(1)
        time.sleep(0.05)
        return roberta

    tokens = RobertaTokens(find)
    texts = [f"sound number {number} " * (number % 40) + "." for number in range(300)]
    with ThreadPoolExecutor(8) as pool:
        rows = list(pool.map(tokens, texts))
    assert len(found) == 1
    assert all(np.array_equal(row, tokens(text)) for row, text in zip(rows, texts, strict=True))


def test_an_unreachable_hub_is_one_line_after_a_single_try(asked, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: asked.append(seconds))
    with pytest.raises(InputError, match=r"laion/x: no such folder, .*\(the Hub cannot be reached\); .*hf_clap:FOLDER"):
        download("laion/x", ("model.safetensors",))
    assert len(asked) == 1


def test_the_hub_is_not_asked_when_offline(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"cannot be fetched \(HF_HUB_OFFLINE is set\)"):
        download("laion/x", ("model.safetensors",))


def test_of_a_hub_model_only_the_preferred_weights_are_fetched(tmp_path, monkeypatch):
    import huggingface_hub

    asked = []
    names = ["pytorch_model.bin", "model.safetensors", "config.json"]
    info = SimpleNamespace(siblings=[SimpleNamespace(rfilename=name) for name in names])
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda self, repository, timeout: info)
    monkeypatch.setattr(
        huggingface_hub,
        "snapshot_download",
        lambda repository, allow_patterns: asked.append(allow_patterns) or str(tmp_path),
    )
    assert download("laion/x", ("model.safetensors", "pytorch_model.bin")) == tmp_path
    assert "model.safetensors" in asked[0] and "pytorch_model.bin" not in asked[0]
    assert {"config.json", "preprocessor_config.json", "vocab.json", "merges.txt"} <= set(asked[0])
    with pytest.raises(InputError, match=r"laion/x: holds no tf_model.h5 on the Hub; expected a CLAP model"):
        download("laion/x", ("tf_model.h5",))
