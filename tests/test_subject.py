"""A space and a bare encoder behind one face; what was embedded once is not embedded again."""

import numpy as np
import pytest
from spaces import FakeEncoder, make_space

from cmcr.ask import Subject
from cmcr.ask import subject as module
from cmcr.errors import ArtifactError, InputError
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
