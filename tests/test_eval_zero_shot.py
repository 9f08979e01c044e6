"""Zero-shot over pictures and sounds, folds, ties and the ladder; and the page."""

import json
from html.parser import HTMLParser

import numpy as np
import pytest
from browser import visit
from sklearn.metrics import confusion_matrix
from spaces import DIMS, FakeEncoder, make_space, vector_of

from cmcr.ask import Subject
from cmcr.ask import subject as subject_module
from cmcr.cli import main
from cmcr.datasets import read_labelled
from cmcr.encoders.tiny import TinyEncoder
from cmcr.errors import InputError
from cmcr.evaluate.zero_shot.classes import Templates, class_labels
from cmcr.evaluate.zero_shot.classify import chance, confusion, evaluate, measures, predictions
from cmcr.evaluate.zero_shot.page import classification_page
from cmcr.modality import Modality
from cmcr.tiny import world

PLAIN = Templates("plain", ("{}",))


@pytest.fixture
def fakes(monkeypatch):
    """Encoders whose vector is a hash of the content: a picture that holds its own class name is right."""
    monkeypatch.setattr(subject_module, "load_encoder", lambda name, *_, **__: FakeEncoder(name))


@pytest.fixture
def pictures(tmp_path):
    """Three classes; every picture holds its label, but one of the cats holds ``dog`` and one cannot be decoded."""
    for label, contents in (("cat", ["cat", "dog", "cat"]), ("dog", ["dog", "broken"]), ("ant", ["ant"])):
        folder = tmp_path / "set" / label
        folder.mkdir(parents=True)
        for number, content in enumerate(contents):
            (folder / f"{number}.png").write_text(content)
    return tmp_path / "set"


def classify(path, tmp_path, space=None, templates=PLAIN, **more):
    data = read_labelled(path, unpack=tmp_path / "unpacked", modalities=[Modality.IMAGE])
    subject = Subject("seer", space)
    return evaluate(subject, data, class_labels(data.classes), templates, folder=tmp_path / "mem", **more)


def test_a_bare_encoder_has_one_row_and_what_is_broken_is_counted(fakes, pictures, tmp_path):
    result = classify(pictures, tmp_path).result
    assert list(result.values) == ["encoder alone"]
    assert (result.n, result.expected, result.skipped) == (5, 6, {"cannot be decoded": 1})
    assert result.shortfall == "measured over 5 of 6 items: 1 x cannot be decoded"
    assert result.values["encoder alone"]["top-1"] == 0.8
    assert result.per_class["encoder alone"] == [1.0, 2 / 3, 1.0]
    assert result.confusion["encoder alone"] == [[1, 0, 0], [0, 2, 1], [0, 0, 1]]
    assert result.settings["order"] == "nothing is projected"
    assert json.loads(json.dumps(result.to_json()))["classes"] == ["ant", "cat", "dog"]


def test_the_ladder_asks_the_encoder_alone_and_then_the_space(fakes, pictures, tmp_path):
    result = classify(pictures, tmp_path, make_space(), ladder=True).result
    assert list(result.values) == ["seer alone", "project-first", "average-first"]
    assert result.values["seer alone"] == classify(pictures, tmp_path).result.values["encoder alone"]
    assert list(classify(pictures, tmp_path, make_space(), orders=["average-first"]).result.values) == ["average-first"]


def test_the_text_encoder_of_the_space_can_be_chosen(fakes, pictures, tmp_path):
    space = make_space()
    first, other = (classify(pictures, tmp_path, space, text_encoder=name).result for name in (None, "hearer"))
    assert [each.settings["text encoder"] for each in (first, other)] == ["seer", "hearer"]
    phrase = vector_of(b"cat", DIMS["hearer"])[None]
    expected = space.project(phrase, encoder="hearer", modality=Modality.TEXT)
    scores = classify(pictures, tmp_path, space, text_encoder="hearer").scores["project-first"]
    picture = space.project(vector_of(b"ant", DIMS["seer"])[None], encoder="seer", modality=Modality.IMAGE)
    assert scores[0, 1] == pytest.approx((picture @ expected.T).item(), abs=1e-5)
    with pytest.raises(InputError, match="did you mean 'hearer'"):
        classify(pictures, tmp_path, space, text_encoder="hearr")


def test_choices_that_a_bare_encoder_does_not_have_are_not_passed_over(fakes, pictures, tmp_path):
    with pytest.raises(InputError, match="seer is an encoder itself"):
        classify(pictures, tmp_path, text_encoder="hearer")
    assert classify(pictures, tmp_path, ladder=True).result.notes == (
        "ladder: seer is asked alone anyway; give a space to see what comes after",
    )


def test_ties_count_against_us_in_every_number(fakes, tmp_path):
    for label in ("a", "b", "c"):
        (tmp_path / "set" / label).mkdir(parents=True)
        (tmp_path / "set" / label / "0.png").write_text("same")
    data = read_labelled(tmp_path / "set", unpack=tmp_path, modalities=[Modality.IMAGE])
    result = evaluate(Subject("seer", None), data, ["same"] * 3, PLAIN, folder=tmp_path / "mem").result
    assert [result.values["encoder alone"][f"top-{k}"] for k in (1, 3, 5)] == [0.0, 1.0, 1.0]
    assert np.trace(result.confusion["encoder alone"]) == 0
    assert np.sum(result.confusion["encoder alone"]) == 3


def test_the_measures_of_any_scores_agree_with_loops_and_with_scikit_learn():
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 6, (200, 7)).astype(np.float32)  # many ties
    truth = rng.integers(0, 5, 200)  # two classes have no item
    ranks = [1 + sum(row[j] >= row[t] for j in range(7) if j != t) for row, t in zip(scores, truth, strict=True)]
    values = measures(scores, truth)
    for k in (1, 3, 5):
        assert values[f"top-{k}"] == np.mean([rank <= k for rank in ranks])
    by_class = [np.mean([r == 1 for r, t in zip(ranks, truth, strict=True) if t == c]) for c in range(5)]
    assert values["mean per class"] == pytest.approx(np.mean(by_class))
    predicted = predictions(scores, truth)
    np.testing.assert_array_equal(predicted == truth, np.array(ranks) == 1)
    assert all(row[p] == max(np.delete(row, t)) for row, t, p in zip(scores, truth, predicted, strict=True) if p != t)
    np.testing.assert_array_equal(confusion(scores, truth), confusion_matrix(truth, predicted, labels=range(7)))


def test_chance_is_what_random_scores_score():
    rng = np.random.default_rng(0)
    values, expected = measures(rng.random((20_000, 8)), rng.integers(0, 8, 20_000)), chance(8)
    assert all(values[name] == pytest.approx(expected[name], abs=0.01) for name in expected)


def test_a_class_without_an_item_is_said_and_has_no_accuracy(fakes, pictures, tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("ant\ncat\ndog\ngnu\n")
    data = read_labelled(pictures, unpack=tmp_path, modalities=[Modality.IMAGE], names=names)
    result = evaluate(Subject("seer", None), data, data.classes, PLAIN, folder=tmp_path / "mem").result
    assert result.per_class["encoder alone"][3] is None
    assert result.notes == ("no item of 1 classes: gnu",)
    assert (result.gallery, result.chance["top-1"]) == (4, 0.25)
    page = classification_page(classify(pictures, tmp_path), "x")
    assert "no item" not in page
    outcome = evaluate(Subject("seer", None), data, data.classes, PLAIN, folder=tmp_path / "mem")
    assert "no item" in classification_page(outcome, "x")


@pytest.fixture(scope="session")
def tiny_sets(tmp_path_factory):
    """ESC-50's layout with five kinds of sound, and folders of five kinds of picture."""
    root = tmp_path_factory.mktemp("tiny-sets")
    rows = []
    scenes = [scene for scene in world.test_scenes(0) if scene.kind in ("bell", "siren", "dog", "cat", "rocket")]
    for number, path in enumerate(world.write_sounds(root / "esc" / "audio", scenes, 0)):
        rows.append(f"{path.name},{number % 5 + 1},{scenes[number].kind}\n")
    (root / "esc" / "meta").mkdir()
    (root / "esc" / "meta" / "esc50.csv").write_text("filename,fold,category\n" + "".join(rows))
    for kind in ("bell", "siren", "dog", "cat", "rocket"):
        world.write_images(root / "pictures" / kind, [s for s in scenes if s.kind == kind][:3], 0)
    return root


@pytest.fixture
def run(tmp_path, capsys):
    def call(*options):
        code = main(["eval", "zero-shot", *map(str, options), "-o", str(tmp_path / "out")])
        return code, *capsys.readouterr()

    return call


def test_esc50_by_fold_with_the_phrase_for_sounds(run, tiny_sets, tmp_path, monkeypatch):
    code, out, err = run("tiny-clap", "--data", tiny_sets / "esc", "--json")
    result = json.loads(out)
    assert code == 0
    assert (result["name"], result["n"], result["gallery"]) == ("esc50", 15, 5)
    assert result["settings"]["templates"].startswith("sound (1, sha256 ")
    assert "top-1 by fold, encoder alone: 1 " in err
    top1, folds = result["values"]["encoder alone"]["top-1"], result["folds"]["encoder alone"]
    assert top1 > 0.6
    assert sum(fold["n"] for fold in folds.values()) == 15
    assert sum(fold["n"] * fold["top-1"] for fold in folds.values()) / 15 == pytest.approx(top1)
    kinds = ["bell", "cat", "dog", "rocket", "siren"]
    encoder = TinyEncoder("tiny-clap")
    phrases = [f"This is a sound of {kind}.".encode() for kind in kinds]
    texts = encoder.encode(Modality.TEXT, [encoder._text(phrase) for phrase in phrases])
    monkeypatch.setattr(TinyEncoder, "encode", lambda *_: pytest.fail("embedded again"))
    assert json.loads(run("tiny-clap", "--data", tiny_sets / "esc", "--json")[1])["values"] == result["values"]
    from cmcr.memory import Memory

    memory = Memory.open(next((tmp_path / "out" / "memories").glob("esc50-*")) / "tiny-clap")
    right = 0
    for name, vector in zip(memory.ids(Modality.AUDIO), memory.vectors(Modality.AUDIO), strict=True):
        lines = (tiny_sets / "esc" / "meta" / "esc50.csv").read_text().splitlines()
        true = next(line.split(",")[2] for line in lines if line.startswith(f"{name}.wav"))
        right += kinds[int(np.argmax([vector @ text for text in texts]))] == true
    assert top1 == right / 15


def test_folders_of_pictures_with_the_templates_of_open_clip(run, tiny_sets):
    code, out, err = run("tiny-clip", "--data", tiny_sets / "pictures")
    assert code == 0
    rows = [line.split("\t") for line in out.splitlines()]
    assert rows[0] == ["", "queries", "gallery", "top-1", "top-3", "top-5", "mean per class"]
    assert rows[1][:3] == ["encoder alone", "15", "5"]
    assert float(rows[1][3]) > 0.6
    assert rows[2][3:] == ["0.200", "0.600", "1.000", "0.200"]
    assert "templates: imagenet (80, sha256 " in err
    assert "next: " in err.splitlines()[-1]


def test_wrong_use_is_refused(run, tiny_sets):
    pictures = tiny_sets / "pictures"
    code, _, err = run("tiny-clip", "--data", pictures, "--templates", "plain", "--points", 5)
    assert code == 2
    assert "these items are image" in err
    code, _, err = run("tiny-clip", "--data", pictures, "--modality", "audio", "--templates", "plain")
    assert code == 1
    assert "looked for" in err
    code, _, err = run("tiny-clap", "--data", pictures, "--modality", "image", "--templates", "plain")
    assert code == 1
    assert "tiny-clap embeds audio and text, not image" in err
    assert run("tiny-clip", "--data", pictures, "--templates", "no-such-file")[0] == 1
    assert run("tiny-clip")[0] == 2


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))


def test_the_page_shows_the_numbers_escapes_everything_and_fetches_nothing(fakes, tmp_path):
    evil = "<script>alert(1)</script>"
    for label in (evil.replace("/", ""), "dog"):
        (tmp_path / "set" / label).mkdir(parents=True)
        (tmp_path / "set" / label / "0.png").write_text("dog")
    outcome = classify(tmp_path / "set", tmp_path, make_space(), Templates(evil, ("{}",)))
    page = classification_page(outcome, evil)
    assert "<script" not in page.replace("&lt;script", "")
    read = Tags(page)
    for _, attributes in read.tags:
        assert attributes.get("src", "data:").startswith("data:")
        assert not [name for name in attributes if name.startswith("on")]
    for words in ("project-first", "average-first", "chance", "Confusion", "Each class", "What is taken for what"):
        assert words in page
    assert page.count("rows: true class; columns: predicted class") == 2


@pytest.mark.slow
def test_a_browser_shows_the_page(run, tiny_sets, tmp_path):
    assert run("tiny-clap", "--data", tiny_sets / "esc", "--html")[0] == 0
    assert visit(tmp_path / "out" / "index.html")["audio"] >= 4
