"""Paired retrieval against a naive count, a perfect space and a collapsed one."""

import json

import numpy as np
import pytest
from spaces import make_memory, make_space, texts

from cmcr.benchmarks import REGISTRY, load_benchmark
from cmcr.benchmarks.paired_retrieval import chance, evaluate
from cmcr.errors import ArtifactError, InputError
from cmcr.modality import Modality

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


def test_the_registry():
    assert load_benchmark("paired-retrieval") is evaluate
    with pytest.raises(InputError, match="did you mean 'paired-retrieval'"):
        load_benchmark("paired_retrieval")
    assert all(callable(load_benchmark(name)) for name in REGISTRY)
