"""Class vectors against the rule written out, predictions against a naive argmax, and files of templates and labels."""

import json
import sys

import numpy as np
import pytest
from spaces import make_space, vector_of

from cmcr.errors import InputError, MissingExtraError
from cmcr.evaluate.zero_shot.classes import (
    ORDERS,
    build_classifier,
    class_labels,
    class_vectors,
    load_templates,
    phrases,
    predict,
)
from cmcr.modality import Modality
from cmcr.numbers.retrieval import top_k_accuracy

NAMES, TEMPLATES = ["bell", "a {brace}", "siren"], ["a photo of a {}.", "{}", "the {} of {}"]
CLASSES = ("bed", "night_stand", "tv_stand")


def test_phrases_fill_every_template_and_take_braces_as_text():
    assert phrases(["{0.__class__}"], ["a {} {x}"]) == ["a {0.__class__} {x}"]
    assert phrases(NAMES, TEMPLATES)[3:6] == ["a photo of a a {brace}.", "a {brace}", "the a {brace} of a {brace}"]


@pytest.mark.parametrize(("names", "templates", "words"), [([], ["{}"], "0 class names"), (["a"], ["b"], "has no {}")])
def test_phrases_refuse_nothing_to_fill(names, templates, words):
    with pytest.raises(InputError, match=words):
        phrases(names, templates)


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_the_classifier_is_the_normalised_mean_in_either_order():
    space = make_space()
    raw = np.array([[vector_of(t.replace("{}", n).encode(), 12) for t in TEMPLATES] for n in NAMES])

    def project(x):
        return space.project(x, encoder="seer", modality=Modality.TEXT)

    first = unit(np.mean([project(raw[:, t]) for t in range(3)], axis=0))
    then = project(unit(raw.mean(axis=1)))
    flat = raw.reshape(9, 12)
    np.testing.assert_allclose(build_classifier(flat, 3, project), first, atol=1e-5)
    np.testing.assert_allclose(build_classifier(flat, 3, project, "average-first"), then, atol=1e-5)
    assert np.abs(first - then).max() > 1e-3  # the orders differ, so the choice acts
    plain = [build_classifier(flat, 3, lambda x: x, order) for order in ORDERS]
    np.testing.assert_array_equal(*plain)  # where nothing is projected they are one


def test_predictions_are_the_nearest_classes():
    rng = np.random.default_rng(0)
    classes, vectors = class_vectors(unit(rng.standard_normal((6, 4, 8)))), unit(rng.standard_normal((30, 8)))
    hits = predict(vectors.astype(np.float32), classes, k=3)
    expected = np.argsort(-(vectors @ classes.T), axis=1)[:, :3]
    np.testing.assert_array_equal(hits.rows, expected)
    assert top_k_accuracy(hits.rows, expected[:, 1], 1) == 0
    assert top_k_accuracy(hits.rows, expected[:, 1], 2) == 1


def test_the_default_templates_are_those_of_open_clip():
    found = load_templates("imagenet")
    assert len(found.phrases) == 80
    assert found.phrases[0] == "a bad photo of a {}."
    assert all(template.count("{}") == 1 for template in found.phrases)
    assert load_templates("plain").phrases == ("{}",)


def test_without_open_clip_the_message_says_what_to_install_or_to_give(monkeypatch):
    monkeypatch.setitem(sys.modules, "open_clip.zero_shot_metadata", None)
    with pytest.raises(MissingExtraError, match=r"cmcr\[clip\].*"):
        load_templates("imagenet")


def test_templates_from_lines_and_from_json_are_kept_as_they_are(tmp_path):
    lines = tmp_path / "templates.txt"
    lines.write_text("a photo of a {}.\n\n  {} without a full stop\n")
    assert load_templates(str(lines)).phrases == ("a photo of a {}.", "  {} without a full stop")
    ulip = tmp_path / "templates.json"
    ulip.write_text(json.dumps({"modelnet40_64": ["a {}.", "one {}"], "shapenet_64": ["the {}"]}))
    assert load_templates(str(ulip), "modelnet40").phrases == ("a {}.", "one {}")
    chosen = load_templates(str(ulip), "modelnet40", "shapenet_64")
    assert chosen.phrases == ("the {}",)
    assert "templates.json: shapenet_64 (1, sha256 " in chosen.told
    ulip.write_text(json.dumps(["a {}"]))
    assert load_templates(str(ulip)).phrases == ("a {}",)
    ulip.write_text(json.dumps({"mine": ["my {}"]}))
    assert load_templates(str(ulip), "modelnet40").phrases == ("my {}",)


@pytest.mark.parametrize(
    ("content", "data", "key", "words"),
    [
        ('{"a": ["{}"], "b": ["{}"]}', "modelnet40", None, "holds a, b; choose one with --template-set"),
        ('{"modelnet40_64": ["{}"]}', "", "modelnet40", "expected modelnet40_64; did you mean 'modelnet40_64'"),
        ('["{}"]', "", "x", "leave --template-set out"),
        ('{"a": "no list"}', "", None, "expected texts"),
        ("[1]", "", None, "expected texts"),
        ("[", "", None, "not JSON"),
        ("[]", "", None, "expected texts"),
    ],
)
def test_template_files_that_cannot_be_used(tmp_path, content, data, key, words):
    path = tmp_path / "t.json"
    path.write_text(content)
    with pytest.raises(InputError, match=words):
        load_templates(str(path), data, key)


def test_a_missing_template_file_names_what_there_is(tmp_path):
    with pytest.raises(InputError, match="expected templates: imagenet, sound, plain, or a file"):
        load_templates(str(tmp_path / "no.txt"))
    with pytest.raises(InputError, match="leave it out"):
        load_templates("plain", key="modelnet40_64")


def test_labels_are_the_names_with_blanks_or_what_a_file_says(tmp_path):
    assert class_labels(CLASSES) == ("bed", "night stand", "tv stand")
    file = tmp_path / "labels.json"
    for content, expected in (
        (["bunk", "night stand", "telly"], ("bunk", "night stand", "telly")),
        ({"modelnet40": ["bed", "night stand", "tv stand"], "other": ["x"]}, ("bed", "night stand", "tv stand")),
        ({"tv_stand": "telly"}, ("bed", "night stand", "telly")),
    ):
        file.write_text(json.dumps(content))
        assert class_labels(CLASSES, file, "modelnet40") == expected
    lines = tmp_path / "labels.txt"
    lines.write_text("bed\nnightstand\ntv\n")
    assert class_labels(CLASSES, lines) == ("bed", "nightstand", "tv")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"sofa": "couch", "bed": "bunk"}, "unknown classes sofa; expected bed, night_stand, tv_stand"),
        ({"a": ["x"], "b": ["y"]}, "holds a, b; choose one with a file of one list"),
        (["bed", "night stand"], "2 labels; the data set has 3 classes"),
        (["bed", "tv stand", "night stand"], "label 1 is 'tv stand' where the data set has 'night_stand'"),
    ],
)
def test_labels_that_do_not_fit_are_refused(tmp_path, content, words):
    file = tmp_path / "labels.json"
    file.write_text(json.dumps(content))
    with pytest.raises(InputError, match=words):
        class_labels(CLASSES, file)
