"""Class vectors against the rule written out, and predictions against a naive argmax."""

import numpy as np
import pytest
from spaces import FakeEncoder, make_space, vector_of

from cmcr.errors import InputError
from cmcr.metrics import top_k_accuracy
from cmcr.modality import Modality
from cmcr.zero_shot import build_classifier, class_vectors, phrases, predict

NAMES, TEMPLATES = ["bell", "a {brace}", "siren"], ["a photo of a {}.", "{}", "the {} of {}"]


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
    space, encoder = make_space(), FakeEncoder("seer")
    raw = np.array([[vector_of(t.replace("{}", n).encode(), 12) for t in TEMPLATES] for n in NAMES])

    def project(x):
        return space.project(x, encoder="seer", modality=Modality.TEXT)

    first = unit(np.mean([project(raw[:, t]) for t in range(3)], axis=0))
    then = project(unit(raw.mean(axis=1)))
    np.testing.assert_allclose(build_classifier(space, encoder, NAMES, TEMPLATES), first, atol=1e-5)
    got = build_classifier(space, encoder, NAMES, TEMPLATES, order="average-first")
    np.testing.assert_allclose(got, then, atol=1e-5)
    assert np.abs(first - then).max() > 1e-3  # the orders differ, so the choice acts


def test_predictions_are_the_nearest_classes():
    rng = np.random.default_rng(0)
    classes, vectors = class_vectors(unit(rng.standard_normal((6, 4, 8)))), unit(rng.standard_normal((30, 8)))
    hits = predict(vectors.astype(np.float32), classes, k=3)
    expected = np.argsort(-(vectors @ classes.T), axis=1)[:, :3]
    np.testing.assert_array_equal(hits.rows, expected)
    assert top_k_accuracy(hits.rows, expected[:, 1], 1) == 0
    assert top_k_accuracy(hits.rows, expected[:, 1], 2) == 1
