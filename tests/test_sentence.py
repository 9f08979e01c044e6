"""Text encoders of sentence-transformers: on a stand-in that honours its documented interface, and on the library."""

import sys
import types

import numpy as np
import pytest
import torch
from checkpoints_clap import write_tokenizer

from cmcr.cli import main
from cmcr.encoders import load_encoder
from cmcr.errors import ArtifactError, InputError, ItemError, MissingExtraError
from cmcr.items import Item
from cmcr.memory import Memory
from cmcr.modality import Modality

TEXT = Modality.TEXT


class SentenceTransformer(torch.nn.Module):
    """Counts letters; a folder named ``broken`` cannot be read, and only folders that exist are found."""

    def __init__(self, model_name_or_path, *, device=None, trust_remote_code=False):
        super().__init__()
        assert trust_remote_code is False and device == "cpu"
        if model_name_or_path.endswith("broken"):
            raise ValueError("unrecognized model")
        if model_name_or_path == "nobody/none":
            raise OSError("not a valid model identifier")
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(26, 7)
        self.max_seq_length, self.prompts, self.default_prompt_name = 128, {"document": ""}, None

    def encode(
        self, sentences, batch_size=32, show_progress_bar=None, convert_to_numpy=True, normalize_embeddings=False
    ):
        assert isinstance(sentences, list) and batch_size >= 1 and not show_progress_bar and convert_to_numpy
        counts = torch.tensor([[text.lower().count(chr(97 + n)) for n in range(26)] for text in sentences]).float()
        found = self.layer(counts)
        return (torch.nn.functional.normalize(found, dim=1) if normalize_embeddings else found).numpy()


@pytest.fixture
def library(monkeypatch):
    module = types.ModuleType("sentence_transformers")
    module.SentenceTransformer = SentenceTransformer
    monkeypatch.setitem(sys.modules, "sentence_transformers", module)
    return module


def test_its_texts_are_a_memory_of_texts_alone(library, tmp_path, capsys):
    (tmp_path / "model").mkdir()
    encoder = load_encoder(f"sentence-transformers:{tmp_path / 'model'}")
    assert (encoder.name, encoder.modalities, encoder.dim) == ("sentence-transformers:model", (TEXT,), 7)
    item = Item("x", TEXT, "x")
    vectors = encoder.encode(TEXT, [encoder.prepare(item, text.encode()) for text in ("a dog", "two cats")])
    assert vectors.dtype == np.float32 and np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert np.allclose(vectors[1], encoder.encode(TEXT, ["two cats"])[0], atol=1e-6)
    assert encoder.encode(TEXT, []).shape == (0, 7)
    with pytest.raises(ItemError, match="empty text"):
        encoder.prepare(item, b"  ")
    (tmp_path / "texts.txt").write_text("a dog\ntwo cats\n")
    command = ["embed", str(tmp_path / "texts.txt"), "-e", "sentence-transformers:model", "-o", str(tmp_path / "mem")]
    assert main([*command, "--weights", str(tmp_path)]) == 0
    memory = Memory.open(tmp_path / "mem")
    assert np.allclose(memory.vectors(TEXT), vectors, atol=1e-3) and memory.encoder.fingerprint == encoder.fingerprint


def test_its_fingerprint_is_of_weights_length_and_prompt(library, monkeypatch):
    first = load_encoder("sentence-transformers:one/model")
    assert load_encoder("sentence-transformers:one/model").fingerprint == first.fingerprint
    for change in ({"max_seq_length": 64}, {"prompts": {"query": "find: "}, "default_prompt_name": "query"}):

        class Changed(SentenceTransformer):
            def __init__(self, *arguments, changes=change, **options):
                super().__init__(*arguments, **options)
                vars(self).update(changes)

        monkeypatch.setattr(library, "SentenceTransformer", Changed)
        assert load_encoder("sentence-transformers:one/model").fingerprint != first.fingerprint


def test_what_cannot_be_loaded_is_told(library, tmp_path):
    with pytest.raises(
        InputError, match=r"sentence-transformers:nobody/none: no such folder, and not found on the Hub"
    ):
        load_encoder("sentence-transformers:nobody/none")
    (tmp_path / "broken").mkdir()
    with pytest.raises(ArtifactError, match=r"cannot be read as a text encoder .*unrecognized model"):
        load_encoder(f"sentence-transformers:{tmp_path / 'broken'}")


def test_without_the_library_its_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'cmcr\[sentence-transformers\]'"):
        load_encoder("sentence-transformers:any/model")


@pytest.mark.filterwarnings("ignore")  # of the library's own imports
def test_a_random_model_of_the_library_itself(tmp_path):
    reason = "not installed: pip install 'cmcr[sentence-transformers]'"
    pytest.importorskip("sentence_transformers", reason=reason)
    transformers = pytest.importorskip("transformers", reason=reason)
    folder = tmp_path / "random"
    write_tokenizer(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    config = transformers.RobertaConfig(vocab_size=50265, max_position_embeddings=80, pad_token_id=1, **sizes)
    transformers.RobertaModel(config).save_pretrained(folder)
    encoder = load_encoder(f"sentence-transformers:{folder}")
    assert (encoder.name, encoder.dim) == ("sentence-transformers:random", 32)
    texts = ["a red dog", "two small blue cats beside a very large bell"]
    together = encoder.encode(TEXT, texts)
    alone = np.concatenate([encoder.encode(TEXT, [text]) for text in texts])
    assert np.allclose(together, alone, atol=1e-5) and np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    assert load_encoder(f"sentence-transformers:{folder}").fingerprint == encoder.fingerprint
