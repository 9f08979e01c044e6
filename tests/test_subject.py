"""A space and a bare encoder behind one face; what was embedded once is not embedded again."""

import numpy as np
import pytest
from spaces import FakeEncoder, make_memory, make_space, texts

from cmcr.ask import Subject, ask
from cmcr.ask import subject as module
from cmcr.ask.row_names import find_row
from cmcr.errors import ArtifactError, InputError, UnknownEncoderError
from cmcr.items import Inputs, text_item
from cmcr.modality import Modality

TEXT = Modality.TEXT
WORDS = ["a dog", "a cat", "two owls"]


@pytest.fixture
def calls(monkeypatch):
    """Let the fake encoders of the test space load, and count what they encode."""
    counted = []

    def load(name, device="cpu", *, weights=(), precision="fp32"):
        encoder = FakeEncoder(name)
        encode = encoder.encode
        encoder.encode = lambda modality, prepared: counted.append(len(prepared)) or encode(modality, prepared)
        return encoder

    monkeypatch.setattr(module, "load_encoder", load)
    return counted


def inputs(words=WORDS):
    return Inputs(TEXT, [text_item(word, "t") for word in words])


def test_a_space_projects_what_its_first_encoder_embeds(calls, tmp_path):
    space = make_space()
    subject = Subject("a space", space)
    found = subject.embed(inputs(), tmp_path)
    assert [item.text for item in found.items] == WORDS and found.encoder == "seer"
    np.testing.assert_array_equal(found.vectors, space.project(found.raw, encoder="seer", modality=TEXT))
    other = subject.embed(inputs(), tmp_path, encoder="hearer")
    assert other.encoder == "hearer" and other.raw.shape != found.raw.shape


def test_a_bare_encoder_is_its_own_space(calls, tmp_path):
    subject = Subject("seer", None)
    found = subject.embed(inputs(), tmp_path)
    np.testing.assert_array_equal(found.vectors, found.raw)
    assert subject.method == "encoder"
    with pytest.raises(InputError, match=r"seer embeds .*, not audio"):
        subject.encoder_for(Modality.AUDIO)


def test_a_second_run_embeds_nothing_and_gives_the_same(calls, tmp_path):
    first = Subject("a space", make_space()).embed(inputs(), tmp_path)
    assert sum(calls) == 3
    again = Subject("a space", make_space()).embed(inputs(WORDS[::-1]), tmp_path)
    assert sum(calls) == 3
    np.testing.assert_array_equal(again.vectors, first.vectors[::-1])


def test_texts_come_back_in_order_and_repeated(calls, tmp_path):
    subject = Subject("a space", make_space())
    raw, encoder = subject.texts(["a dog", "a cat", "a dog"], tmp_path)
    assert encoder == "seer" and raw.shape[0] == 3
    np.testing.assert_array_equal(raw[0], raw[2])
    assert not np.array_equal(raw[0], raw[1])
    with pytest.raises(InputError, match="cannot embed 1 texts: empty text"):
        subject.texts(["a dog", " "], tmp_path)


def test_what_cannot_be_embedded_is_named(calls, tmp_path):
    found = Subject("seer", None).embed(inputs(["a dog", " "]), tmp_path)
    assert [item.text for item in found.items] == ["a dog"]
    assert [skip.reason for skip in found.skips] == ["empty text"]
    assert len(found.raw) == 1


def test_an_encoder_of_other_weights_is_refused(monkeypatch):
    monkeypatch.setattr(module, "load_encoder", lambda name, *_, **__: FakeEncoder(name, fingerprint="f" * 64))
    with pytest.raises(ArtifactError, match="encoder seer is ffffffffffff here"):
        Subject("a space", make_space()).encoder_for(TEXT)


def test_without_a_folder_nothing_is_kept_and_the_vectors_are_those_of_a_memory(calls, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    subject = Subject("a space", make_space())
    words = [*WORDS, " ", *(f"text {n}" for n in range(150))]
    at_once = subject.embed(inputs(words))
    assert not list(tmp_path.iterdir())
    kept = subject.embed(inputs(words), tmp_path / "kept")
    np.testing.assert_allclose(at_once.raw, kept.raw, atol=1e-6)
    np.testing.assert_allclose(at_once.vectors, kept.vectors, atol=1e-6)
    assert at_once.items == kept.items and [skip.reason for skip in at_once.skips] == ["empty text"]


def test_a_row_of_a_memory_is_projected_as_the_memory_is(tmp_path):
    subject, memory = Subject("a space", make_space()), make_memory(tmp_path / "mem", "seer", {TEXT: texts(4)})
    row = find_row(f"{memory.path}#t2")
    np.testing.assert_allclose(subject.project_row(row), subject.project_memory(memory, TEXT)[2], atol=1e-6)


def test_an_encoder_that_does_not_run_here_is_named_with_who_else_could(calls, monkeypatch):
    def only_hearer(name, *_, **__):
        if name not in runs:
            raise UnknownEncoderError(f"unknown encoder {name!r}")
        return FakeEncoder(name)

    runs = ["hearer"]
    monkeypatch.setattr(module, "load_encoder", only_hearer)
    with pytest.raises(InputError, match=r"seer embeds text .*its vectors were imported.*--encoder hearer, or a row"):
        Subject("a space", make_space()).embed(inputs())
    runs.clear()
    subject = Subject("a space", make_space())
    with pytest.raises(InputError, match=r"seer embeds text .*; ask with a row of a memory, MEMORY#ID$"):
        subject.embed(inputs())
    with pytest.raises(InputError, match=r"hearer embeds audio .*; ask with a row of a memory"):
        subject.encoder_for(Modality.AUDIO)


def test_the_encoder_asked_for_embeds_what_it_can(calls):
    subject = Subject("a space", make_space())
    assert subject.preferred(TEXT, ["hearer", "seer"]) == "hearer"
    assert subject.preferred(Modality.IMAGE, ["hearer", "seer"]) == "seer"
    assert subject.preferred(Modality.IMAGE, ["hearer"]) is None


def test_queries_of_one_subject_load_its_encoder_once(monkeypatch):
    loaded = []
    monkeypatch.setattr(module, "load_encoder", lambda name, *_, **__: loaded.append(name) or FakeEncoder(name))
    subject = Subject("a space", make_space())
    asked = [ask(subject, word) for word in WORDS]
    assert loaded == ["seer"]
    alone = ask(make_space(), WORDS[0])
    np.testing.assert_array_equal(asked[0].vector, alone.vector)
