"""Scores between any items: by hand, in a space and with a bare encoder; and what is refused."""

import json

import numpy as np
import pytest
from spaces import DIMS, FakeEncoder, make_memory, make_space, texts, vector_of

from cmcr.ask import Subject
from cmcr.ask import subject as subject_module
from cmcr.ask.score import score
from cmcr.cli import main
from cmcr.errors import ArtifactError, InputError, UnknownEncoderError
from cmcr.modality import Modality

TEXT, IMAGE, AUDIO = Modality.TEXT, Modality.IMAGE, Modality.AUDIO


@pytest.fixture
def place(tmp_path, monkeypatch):
    loaded = []

    def load(name, device="cpu", *, weights=(), precision="fp32"):
        if name not in DIMS:
            raise UnknownEncoderError(f"unknown encoder {name!r}")
        loaded.append(name)
        return FakeEncoder(name)

    monkeypatch.setattr(subject_module, "load_encoder", load)
    monkeypatch.chdir(tmp_path)
    make_space().save("space")
    (tmp_path / "dog.wav").write_bytes(b"woof")
    (tmp_path / "dog.png").write_bytes(b"a dog seen")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "dog.png").write_bytes(b"another dog")
    (tmp_path / "bad.png").write_bytes(b"broken")
    entries = {f"x{n}": (f"p{n}.png", None, b"%d" % n) for n in range(3)}
    make_memory(tmp_path / "seen", "seer", {IMAGE: entries, TEXT: texts(2) | {"x1": ("q", "one", b"one")}})
    make_memory(tmp_path / "alien", "seer", {IMAGE: entries}, fingerprint="0" * 64)
    return loaded


def run(capsys, *argv):
    code = main(["score", *argv])
    out, err = capsys.readouterr()
    return code, out, err


def projected(content, encoder, modality):
    return make_space().project(vector_of(content, DIMS[encoder])[None], encoder=encoder, modality=modality)[0]


def test_cosines_and_softmax_by_hand_over_every_kind_of_item(place):
    rows, columns = ["a dog", "dog.wav"], ["dog.png", "more/dog.png", "seen#x2", "seen:image#x1"]
    found = score(Subject.open("space"), rows, columns, temperature=0.5)
    left = [projected(b"a dog", "seer", TEXT), projected(b"woof", "hearer", AUDIO)]
    right = [projected(content, "seer", IMAGE) for content in (b"a dog seen", b"another dog", b"2", b"1")]
    expected = np.array([[float(np.dot(x, y)) for y in right] for x in left])
    assert np.allclose(found.cosines, expected, atol=1e-6)
    weights = np.exp(expected / 0.5)
    assert np.allclose(found.softmax, weights / weights.sum(axis=1, keepdims=True), atol=1e-6)
    assert (found.rows, found.columns, found.temperature) == (rows, columns, 0.5)
    assert sorted(place) == ["hearer", "seer"]  # each loaded once, whatever the number of items


def test_the_softmax_holds_at_any_temperature(place):
    found = score(Subject.open("space"), ["a"], ["b", "c"], temperature=1e-5)
    assert np.isfinite(found.softmax).all()
    assert found.softmax.max() == pytest.approx(1)


def test_a_bare_encoder_scores_its_own_vectors(place):
    found = score(Subject.open("seer"), ["a dog", "seen#x2"], ["dog.png", "seen:image#x2"])
    assert found.cosines[0, 0] == pytest.approx(vector_of(b"a dog", 12) @ vector_of(b"a dog seen", 12), abs=1e-6)
    assert found.cosines[1, 1] == pytest.approx(1, abs=1e-6)


def test_the_encoder_of_a_text_can_be_chosen(place):
    subject = Subject.open("space")
    first, second = (score(subject, ["a dog"], ["dog.wav"], encoder=name).cosines for name in (None, "hearer"))
    assert first[0, 0] == pytest.approx(
        projected(b"a dog", "seer", TEXT) @ projected(b"woof", "hearer", AUDIO), abs=1e-6
    )
    assert second[0, 0] == pytest.approx(
        projected(b"a dog", "hearer", TEXT) @ projected(b"woof", "hearer", AUDIO), abs=1e-6
    )
    with pytest.raises(InputError, match="did you mean 'hearer'"):
        score(subject, ["a dog"], ["dog.wav"], encoder="hearers")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["seen#x1"], "seen#x1 is image and text; say which: seen:image#x1"),
        (["seen:imge#x1"], "'imge' is no modality; did you mean 'image'"),
        (["gone:image#x1"], "gone is no memory"),
        (["seen#x9"], "seen has no row 'x9'; did you mean"),
        (["seen:audio#x1"], "seen holds image, text, no audio|holds no audio"),
        (["bad.png"], "'bad.png': cannot be decoded"),
        (["none.png"], "none.png: no such file"),
        ([""], "empty text"),
        ([], "at least one of each"),
    ],
)
def test_refused_items(place, rows, message):
    with pytest.raises((InputError, ArtifactError), match=message):
        score(Subject.open("space"), rows, ["a"])


def test_a_memory_of_another_encoder_is_refused(place):
    with pytest.raises(ArtifactError, match="made by seer"):
        score(Subject.open("space"), ["alien#x1"], ["a"])
    with pytest.raises(ArtifactError, match="score in a space that connects them"):
        score(Subject.open("hearer"), ["seen:text#t1"], ["a"])
    with pytest.raises(InputError, match="temperature 0"):
        score(Subject.open("space"), ["a"], ["b"], temperature=0)


def test_an_up_axis_is_for_the_clouds_among_the_items(place, tmp_path):
    (tmp_path / "shape.npy").write_bytes(b"points")
    found = score(Subject.open("space"), ["a dog"], ["shape.npy", "dog.png"], up="z")
    assert found.cosines.shape == (1, 2)


def test_the_command_shows_a_line_for_every_two_items(place, capsys):
    code, out, err = run(capsys, "a dog", "dog.wav", "--with", "dog.png", "--with", "seen#x2", "--space", "space")
    assert code == 0, err
    lines = [line.split("\t") for line in out.splitlines()]
    assert lines[0] == ["item", "with", "cosine", "softmax"]
    assert [line[:2] for line in lines[1:]] == [
        ["a dog", "dog.png"], ["a dog", "seen#x2"], ["dog.wav", "dog.png"], ["dog.wav", "seen#x2"]
    ]  # fmt: skip
    assert sum(float(line[3]) for line in lines[1:3]) == pytest.approx(1, abs=1e-3)
    assert "next: cmcr retrieve space 'a dog' --in MEMORY" in err


def test_without_with_the_first_is_scored_with_the_others(place, capsys):
    code, out, _ = run(capsys, "a dog", "dog.png", "dog.wav", "--space", "space", "--json", "--temperature", "0.2")
    shown = json.loads(out)
    assert code == 0
    assert (shown["rows"], shown["columns"]) == (["a dog"], ["dog.png", "dog.wav"])
    assert (shown["space"], shown["method"], shown["temperature"]) == ("space", "c-mcr", 0.2)
    assert sum(shown["softmax"][0]) == pytest.approx(1)
    assert np.shape(shown["cosines"]) == (1, 2)


def test_a_bare_encoder_by_the_command(place, capsys):
    code, _, err = run(capsys, "a dog", "dog.png", "--space", "seer")
    assert code == 0
    assert "next: cmcr connect" in err


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (["a", "--space", "space"], 2),
        (["a", "b"], 2),
        (["a", "b", "--space", "space", "--temperature", "0"], 2),
        (["a", "none.png", "--space", "space"], 1),
        (["a", "b", "--space", "nobody"], 1),
    ],
)
def test_exit_codes(place, capsys, argv, code):
    found, out, err = run(capsys, *argv)
    assert (found, out) == (code, "")
    assert code == 2 or err.count("\n") == 1
