"""Paired retrieval against a naive count, a perfect space and a collapsed one."""

import json

import numpy as np
import pytest
from spaces import FakeEncoder, make_memory, make_space, texts

from cmcr.ask import Subject
from cmcr.errors import ArtifactError, InputError
from cmcr.evaluate.retrieval.pairs import PairedSide, chance, evaluate, measured, measures, rank_owners
from cmcr.modality import Modality
from cmcr.numbers import retrieval as metrics

TEXT, IMAGE, AUDIO = Modality.TEXT, Modality.IMAGE, Modality.AUDIO


def entries(names, content="{}"):
    return {name: (name, None, content.format(name).encode()) for name in names}


@pytest.fixture
def memories(tmp_path):
    sounds = [f"x{n}" for n in range(30)]
    pictures = [f"x{n}" for n in reversed(range(10, 45))]  # another order, and not the same ids
    a = make_memory(tmp_path / "a", "hearer", {AUDIO: entries(sounds)})
    b = make_memory(tmp_path / "b", "seer", {IMAGE: entries(pictures)})
    return a, b


def test_both_directions_agree_with_a_naive_count(memories):
    a, b = memories
    space = make_space()
    result = evaluate(space, a, AUDIO, b, IMAGE)
    ids = [name for name in a.ids(AUDIO) if name in b.ids(IMAGE)]
    vectors = [
        space.project(memory, modality=m)[[memory.ids(m).index(name) for name in ids]]
        for memory, m in ((a, AUDIO), (b, IMAGE))
    ]
    scores = vectors[0] @ vectors[1].T
    for asked, table in (("audio->image", scores), ("image->audio", scores.T)):
        ranks = np.array([1 + sum(row > row[i]) for i, row in enumerate(table)])
        for k in (1, 5, 10):
            assert result.values[asked][f"recall@{k}"] == pytest.approx(np.mean(ranks <= k))
        assert result.values[asked]["median rank"] == np.median(ranks)
        assert result.values[asked]["mAP"] == pytest.approx(np.mean(1 / ranks))
        assert (
            result.values[asked]["recall@1 low"]
            <= result.values[asked]["recall@1"]
            <= result.values[asked]["recall@1 high"]
        )
    assert (result.n, result.gallery, result.chance["recall@5"]) == (20, 20, 0.25)
    assert result.notes == (
        "10 of 30 audio rows have no partner and were left out",
        "15 of 35 image rows have no partner and were left out",
    )


def test_ids_in_two_unicode_forms_or_with_blanks_are_pairs(tmp_path):
    space = make_space("identity", names=("seer",))
    names = ["caf\u00e9", "b", "c", "d"]
    a = make_memory(tmp_path / "a", "seer", {IMAGE: {name: (name, None, name.encode()) for name in names}})
    other = dict(zip(names, ("cafe\u0301", "b ", "C", "d"), strict=True))
    b = make_memory(tmp_path / "b", "seer", {TEXT: {other[name]: (name, None, name.encode()) for name in names}})
    result = evaluate(space, a, IMAGE, b, TEXT)
    assert (result.n, result.values["image->text"]["recall@1"]) == (3, 1.0)
    assert (
        result.notes[-1].startswith("2 pairs whose ids differ in")
        and "'caf\\xe9' and 'cafe\\u0301'" in result.notes[-1]
    )
    alone = make_memory(tmp_path / "c", "seer", {TEXT: {"C": ("C", None, b"C"), "x/d": ("d", None, b"d")}})
    with pytest.raises(InputError, match="pairs are joined by id; 'c' and 'C' differ in upper and lower case"):
        evaluate(space, a, IMAGE, alone, TEXT)


def test_a_bare_encoder_is_measured_in_its_own_vectors(tmp_path):
    class Bare(Subject):
        def load(self, name):
            return FakeEncoder(name)

    rows = {f"x{n}": (f"{n}", None, b"%d" % n) for n in range(12)}
    memory = make_memory(tmp_path / "a", "seer", {IMAGE: rows, TEXT: rows})
    result = evaluate(Bare("seer", None), memory, IMAGE, memory, TEXT)
    assert (result.values["image->text"]["recall@1"], result.settings["method"]) == (1.0, "encoder")
    assert result.fingerprints["space"] == FakeEncoder("seer").fingerprint
    alien = make_memory(tmp_path / "b", "hearer", {AUDIO: rows})
    with pytest.raises(ArtifactError, match=r"b was made by hearer .*, not by seer .*in a space that connects them"):
        evaluate(Bare("seer", None), memory, IMAGE, alien, AUDIO)


def test_a_perfect_space_scores_one_and_says_which_encoder_when_the_modality_is_one(tmp_path):
    space = make_space("identity", names=("seer",))
    a = make_memory(tmp_path / "a", "seer", {TEXT: texts(40)})
    result = evaluate(space, a, TEXT, a, TEXT)
    assert result.values["seer text->seer text"]["recall@1"] == 1.0
    assert result.values["seer text->seer text"]["mAP"] == 1.0
    assert result.notes == ()


def test_a_collapsed_space_scores_at_the_bottom(tmp_path):
    space = make_space("identity", names=("seer",))
    same = dict.fromkeys("abcdefghijklmnop", ("x", None, b"the same"))
    a = make_memory(tmp_path / "a", "seer", {IMAGE: same, TEXT: same})
    values = evaluate(space, a, IMAGE, a, TEXT).values["image->text"]
    assert (values["recall@1"], values["recall@10"], values["median rank"]) == (0.0, 0.0, 16.0)


def test_chance_is_what_a_random_order_scores():
    rng, size = np.random.default_rng(0), 50
    ranks = np.array([1 + rng.permutation(size)[0] for _ in range(20_000)])
    expected = chance(size)
    assert np.mean(ranks <= 5) == pytest.approx(expected["recall@5"], abs=0.01)
    assert np.mean(1 / ranks) == pytest.approx(expected["mAP"], abs=0.01)
    assert expected["median rank"] == 25.5


def unit(x):
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def captioned(pairs=40, dim=6, seed=0):
    """Return items and their one to five captions: noisy copies of them."""
    rng = np.random.default_rng(seed)
    items = unit(rng.normal(size=(pairs, dim)))
    owners = np.repeat(np.arange(pairs), rng.integers(1, 6, size=pairs))
    captions = unit(items[owners] + 0.6 * rng.normal(size=(len(owners), dim)))
    return (
        PairedSide("image", IMAGE, np.arange(pairs), items, [None] * pairs),
        PairedSide("text", TEXT, owners, captions, [None] * len(owners)),
    )


def measure(sides):
    return measured(sides, list(range(len(sides[0].owners))), settings={}, fingerprints={}, start=0.0)


def test_any_caption_answers_and_each_caption_asks():
    items, texts = captioned()
    result = measure((items, texts)).result
    scores = items.vectors.astype(float) @ texts.vectors.astype(float).T
    hits = {"image->text": [], "text->image": []}
    for item in range(40):
        order = np.argsort(-scores[item])
        hits["image->text"].append([item in texts.owners[order[:k]] for k in (1, 5, 10)])
    for text, owner in enumerate(texts.owners):
        order = np.argsort(-scores[:, text])
        hits["text->image"].append([owner in order[:k] for k in (1, 5, 10)])
    for direction, table in hits.items():
        naive = np.mean(table, axis=0)
        assert [result.values[direction][f"recall@{k}"] for k in (1, 5, 10)] == pytest.approx(naive.tolist())
    assert result.sizes == {"image->text": (40, len(texts.owners)), "text->image": (len(texts.owners), 40)}
    assert result.chances == {
        "image->text": chance(len(texts.owners), np.bincount(texts.owners)), "text->image": chance(40),
    }  # fmt: skip
    assert (result.n, result.settings["recall"]) == (40, "hit rate per query, any caption of the item")


@pytest.fixture(scope="module")
def tables():
    """The measured values of both directions, with their (Q, G) scores and what is relevant."""
    items, texts = captioned(seed=1)
    values = measure((items, texts)).result.values
    return [
        (values[f"{q.name}->{g.name}"], metrics.cosine(q.vectors, g.vectors), q.owners[:, None] == g.owners)
        for q, g in ((items, texts), (texts, items))
    ]


def test_captions_agree_with_scikit_learn(tables):
    from sklearn.metrics import average_precision_score, top_k_accuracy_score

    for values, scores, relevant in tables:
        precisions = [average_precision_score(*row) for row in zip(relevant, scores, strict=True)]
        assert values["mAP"] == pytest.approx(np.mean(precisions), abs=1e-6)
    values, scores, relevant = tables[1]  # one right answer each, as in classification
    for k in (1, 5, 10):
        theirs = top_k_accuracy_score(relevant.argmax(axis=1), scores, k=k, labels=range(scores.shape[1]))
        assert values[f"recall@{k}"] == pytest.approx(theirs)


@pytest.mark.slow  # its import alone takes seconds
def test_captions_agree_with_torchmetrics(tables):
    import torch
    from torchmetrics.retrieval import RetrievalHitRate, RetrievalMAP

    for values, scores, relevant in tables:
        index = np.broadcast_to(np.arange(len(scores))[:, None], scores.shape)
        # Its MAP takes nothing with a score of 0 or less for found, so the cosines are lifted above it.
        flat = [torch.from_numpy(np.ascontiguousarray(table).ravel()) for table in (scores + 2, relevant, index)]
        for k in (1, 5, 10):
            theirs = RetrievalHitRate(top_k=k)(flat[0], flat[1], indexes=flat[2])
            assert values[f"recall@{k}"] == pytest.approx(float(theirs), abs=1e-6)
        assert values["mAP"] == pytest.approx(float(RetrievalMAP()(flat[0], flat[1], indexes=flat[2])), abs=1e-6)


def test_ranks_of_single_answers_are_those_of_the_metric_and_ties_count_against():
    items, _ = captioned()
    other = PairedSide("audio", AUDIO, items.owners, captioned(seed=5)[0].vectors, items.shown)
    np.testing.assert_array_equal(rank_owners(items, other), metrics.ranks(items.vectors, other.vectors))
    same = PairedSide("audio", AUDIO, items.owners, np.ones_like(items.vectors), items.shown)
    assert set(rank_owners(items, same)) == {40}
    texts = captioned()[1]
    flat = PairedSide("text", TEXT, texts.owners, np.ones_like(texts.vectors), texts.shown)
    own = np.bincount(texts.owners)
    np.testing.assert_array_equal(rank_owners(items, flat), len(texts.owners) - own + 1)


def test_the_interval_is_drawn_over_items_for_their_captions_are_no_independent_queries():
    ranks = np.random.default_rng(0).integers(1, 4, size=50)
    alone = measures(ranks)
    five_times = measures(np.repeat(ranks, 5), np.repeat(np.arange(50), 5))
    for name in ("recall@1", "recall@1 low", "recall@1 high"):
        assert five_times[name] == pytest.approx(alone[name])
    as_if_independent = measures(np.repeat(ranks, 5))
    width = {name: v["recall@1 high"] - v["recall@1 low"] for name, v in (("a", alone), ("b", as_if_independent))}
    assert width["b"] < 0.6 * width["a"]


def test_chance_with_several_right_answers_is_what_a_random_order_scores():
    rng, size, relevant = np.random.default_rng(0), 30, np.array([1, 4, 4, 6])
    expected = chance(size, relevant)
    orders = [rng.permutation(size) for _ in range(8000)]
    places = [np.sort(order[: relevant[n % 4]]) + 1 for n, order in enumerate(orders)]
    first = np.array([place[0] for place in places])
    precision = [np.mean(np.arange(1, len(place) + 1) / place) for place in places]
    for k in (1, 5, 10):
        assert expected[f"recall@{k}"] == pytest.approx(np.mean(first <= k), abs=0.015)
    assert expected["mAP"] == pytest.approx(np.mean(precision), abs=0.01)
    assert expected["median rank"] == pytest.approx(np.median(first), abs=0.6)
    assert chance(5, np.array([5]))["recall@1"] == chance(3)["recall@10"] == 1.0


def test_the_table_has_a_chance_for_each_direction_where_they_differ():
    result = measure(captioned()).result
    columns, rows = result.table()
    assert [row[0] for row in rows] == [
        "image->text", "text->image", "chance of image->text", "chance of text->image",
    ]  # fmt: skip
    assert all(len(row) == len(columns) for row in rows)
    texts = len(captioned()[1].owners)
    assert [row[1:3] for row in rows] == [["40", str(texts)], [str(texts), "40"]] * 2
    assert float(rows[2][3]) == pytest.approx(result.chances["image->text"]["recall@1"], abs=5e-4)
    alike = captioned()[0]
    plain = measure((alike, PairedSide("audio", AUDIO, alike.owners, alike.vectors, alike.shown))).result
    assert [row[0] for row in plain.table()[1]] == ["image->audio", "audio->image", "chance"]


def test_a_result_is_written_whole_and_shown_beside_chance(memories, tmp_path):
    result = evaluate(make_space(), memories[0], AUDIO, memories[1], IMAGE)
    result.save(tmp_path / "out" / "result.json")
    read = json.loads((tmp_path / "out" / "result.json").read_text())
    assert read["values"] == result.values
    assert read["fingerprints"]["space"] == make_space().fingerprint
    assert {"cmcr", "numpy", "python", "torch"} <= set(read["versions"])
    columns, rows = result.table()
    assert columns[:4] == ["", "queries", "gallery", "recall@1"]
    assert [row[0] for row in rows] == ["audio->image", "image->audio", "chance"]
    assert all(len(row) == len(columns) for row in rows)


def test_refusals(memories, tmp_path):
    a, b = memories
    with pytest.raises(InputError, match="no id is in both"):
        evaluate(make_space(), a, AUDIO, make_memory(tmp_path / "c", "seer", {TEXT: texts(3)}), TEXT)
    with pytest.raises(InputError, match="no text"):
        evaluate(make_space(), a, TEXT, b, IMAGE)
    with pytest.raises(ArtifactError, match="was made by seer"):
        evaluate(make_space(names=("hearer",)), a, AUDIO, b, IMAGE)
