"""Debiased galleries against a naive float64 table: scores, order, every index, the command line, what is exported."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from spaces import load_fake_encoder, make_memory, make_space, texts

from cmcr.ask import Debias, ask, export_vectors, make_index, open_index
from cmcr.ask import subject as module
from cmcr.ask.retrieve import retrieve
from cmcr.cli import main
from cmcr.errors import ArtifactError, InputError
from cmcr.memory import Memory
from cmcr.modality import Modality
from cmcr.numbers import cosine
from cmcr.search import (
    Bias,
    build_index,
    exact_search,
    hub_biases,
    index_path,
    load_index,
    save_index,
    with_biases,
    with_ones,
)
from cmcr.search import exact as exact_module
from cmcr.search.faiss import KINDS
from cmcr.search.verify import memory_problems

TEXT, IMAGE, AUDIO = Modality.TEXT, Modality.IMAGE, Modality.AUDIO


def unit(x):
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def naive_biases(gallery, references, k, alpha):
    return (alpha * -np.sort(-cosine(gallery, references).astype(np.float64))[:, :k].mean(axis=1)).astype(np.float32)


def naive(gallery, queries, biases, k):
    """Return rows and scores of the float64 table of cosine less bias, rounded once; ties to the lower row."""
    scores = (queries.astype(np.float64) @ gallery.T.astype(np.float64) - biases.astype(np.float64)).astype(np.float32)
    rows = np.array([sorted(range(len(gallery)), key=lambda j, row=row: (-row[j], j))[:k] for row in scores])
    return rows, np.take_along_axis(scores, rows, axis=1)


def hubby(rows, dim=32, seed=0):
    """Return unit rows of clusters, a tenth of which lie near the middle of all queries."""
    rng = np.random.default_rng(seed)
    drawn = np.random.default_rng(9).normal(size=(12, dim))[rng.integers(12, size=rows)] + rng.normal(size=(rows, dim))
    drawn[::10] = 0.1 * drawn[::10] + 1
    return unit(drawn)


def queries_of(rows, dim=32, seed=1):
    rng = np.random.default_rng(seed)
    drawn = np.random.default_rng(9).normal(size=(12, dim))[rng.integers(12, size=rows)]
    return unit(drawn + rng.normal(size=(rows, dim)) + 0.7)


@given(st.integers(0, 999), st.integers(1, 50), st.integers(1, 40), st.integers(1, 12), st.integers(1, 17))
def test_the_exact_search_is_the_naive_table_of_cosine_less_bias(seed, rows, count, k, size):
    rng = np.random.default_rng(seed)
    gallery = unit(rng.integers(-1, 2, (rows, 3)) + np.array([0.5, 0, 0]))  # few distinct vectors: full of ties
    references, queries = unit(rng.standard_normal((count, 3))), unit(rng.standard_normal((4, 3)))
    blocks = [gallery[start : start + size] for start in range(0, rows, size)]
    biases = hub_biases(blocks, references, k, 0.75)
    np.testing.assert_array_equal(biases, naive_biases(gallery, references, k, 0.75))
    found = exact_search(with_biases(lambda: blocks, biases)(), with_ones(queries), k, chunk=3)
    want_rows, want_scores = naive(gallery, queries, biases, k)
    np.testing.assert_array_equal(found.rows, want_rows)
    np.testing.assert_array_equal(found.scores, want_scores)


@given(st.integers(0, 999), st.sampled_from([0, 1, 256]))
def test_rows_whose_scores_differ_in_the_last_bits_are_told_apart(seed, sparse):
    rng = np.random.default_rng(seed)
    centre, references = unit(rng.standard_normal((1, 256))), unit(rng.standard_normal((300, 256)))
    gallery = unit(centre + 4e-8 * rng.standard_normal((200, 256)))[rng.integers(200, size=200)]
    biases, queries = hub_biases([gallery], references, 128, 0.75), unit(rng.standard_normal((3, 256)))
    with pytest.MonkeyPatch.context() as patch:  # tiles so small that the filter is met, and both ways to score
        patch.setattr(exact_module, "_TILE", 8)
        patch.setattr(exact_module, "_SPARSE", sparse)
        found = exact_search(with_biases(lambda: [gallery], biases)(), with_ones(queries), 9)
    want_rows, want_scores = naive(gallery, queries, biases, 9)
    np.testing.assert_array_equal(found.rows, want_rows)
    np.testing.assert_array_equal(found.scores, want_scores)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_agrees_with_the_exact_search_and_keeps_what_its_biases_are(kind, tmp_path):
    gallery, queries, bias = hubby(3000), queries_of(100), Bias("mem/b", "b" * 64, "audio", 500, 20, 1.0)
    blocks = with_biases(
        lambda: [gallery[:1300], gallery[1300:]], hub_biases([gallery], queries_of(500, seed=2), 20, 1.0)
    )
    exact = exact_search(blocks(), with_ones(queries), 10)
    path = index_path(tmp_path, "f" * 64, IMAGE, kind)
    built = build_index(kind, blocks, bias=bias)
    info = save_index(built, path, memory="m", space="s", modality=IMAGE)
    assert (info.bias, info.dim) == (bias, 33)
    loaded = load_index(path, memory="m", space="s")
    assert loaded.bias == bias
    assert kind != "ivf" or built.parameters["probes"] == 2 * build_index(kind, lambda: [gallery]).parameters["probes"]
    for index in (built, loaded):
        found = index.search(queries, 10)
        if kind == "flat":
            np.testing.assert_array_equal(found.rows, exact.rows)
        shared = [len(set(a) & set(b)) for a, b in zip(found.rows.tolist(), exact.rows.tolist(), strict=True)]
        assert np.mean(shared) >= 9.5
        scores = {(q, row): s for q in range(100) for row, s in zip(exact.rows[q], exact.scores[q], strict=True)}
        both = [(q, n) for q in range(100) for n in range(10) if (q, found.rows[q, n]) in scores]
        got, want = [found.scores[each] for each in both], [scores[q, found.rows[q, n]] for q, n in both]
        np.testing.assert_allclose(got, want, atol=1e-5 if kind == "flat" else 2e-3)
    with pytest.raises(InputError, match="queries have 33 dimensions and the gallery 32"):
        loaded.search(with_ones(queries), 3)


@pytest.mark.parametrize("kind", KINDS)
def test_the_lowest_score_that_a_biased_row_can_have_is_no_damage(kind):
    row = unit(np.ones((1, 4)))
    blocks = with_biases(lambda: [row], hub_biases([row], row, 1, 1.0))
    found = build_index(kind, blocks, bias=Bias("mem/b", "", "text", 1, 1, 1.0)).search(-row, 1)
    assert found.scores[0, 0] == pytest.approx(-2, abs=2e-3)


def test_biases_take_hubs_off_the_top_and_none_does_not():
    gallery, queries, references = hubby(600), queries_of(200), queries_of(300, seed=2)
    plain = exact_search([gallery], queries, 1).rows
    biases = hub_biases([gallery], references, 128, 0.75)
    found = exact_search(with_biases(lambda: [gallery], biases)(), with_ones(queries), 1).rows
    share = [np.mean(rows % 10 == 0) for rows in (plain, found)]
    assert share[0] > 3 * share[1]
    unmoved = exact_search(with_biases(lambda: [gallery], 0 * biases)(), with_ones(queries), 1)
    np.testing.assert_array_equal(unmoved.rows, plain)


def test_of_references_only_the_nearest_count_and_of_few_all():
    gallery, references = hubby(50), queries_of(9)
    every = hub_biases([gallery], references, 128, 1.0)
    np.testing.assert_allclose(every, (gallery @ references.T).mean(axis=1), atol=1e-6)
    np.testing.assert_allclose(
        hub_biases([gallery], references, 1, 2.0), 2 * (gallery @ references.T).max(axis=1), atol=1e-6
    )
    with pytest.raises(InputError, match="k = 0"):
        hub_biases([gallery], references, 0, 1.0)
    with pytest.raises(InputError, match="no reference rows"):
        hub_biases([gallery], references[:0], 3, 1.0)


@pytest.fixture(autouse=True)
def encoders(monkeypatch):
    monkeypatch.setattr(module, "load_encoder", load_fake_encoder)


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pictures = {f"p{n}": (f"p{n}.png", None, f"picture {n}".encode()) for n in range(20)}
    sounds = {f"s{n}": (f"s{n}.wav", None, f"sound {n}".encode()) for n in range(15)}
    space = make_space()
    space.save(tmp_path / "space")
    seen = make_memory(tmp_path / "seen", "seer", {IMAGE: pictures, TEXT: texts(5)})
    return space, seen, make_memory(tmp_path / "heard", "hearer", {AUDIO: sounds, TEXT: texts(5)})


def expected(space, seen, heard, k=4, alpha=0.5):
    gallery, references = space.project(seen, modality=IMAGE), space.project(heard, modality=AUDIO)
    return gallery, naive_biases(gallery, references, k, alpha)


@pytest.mark.parametrize("kind", KINDS)
def test_an_index_is_debiased_only_where_asked_for(kind, world):
    space, seen, heard = world
    gallery, biases = expected(space, seen, heard)
    queries = [ask(space, f"text {n}") for n in range(6)]
    vectors = np.stack([query.vector for query in queries])
    for debias, own in ((Debias(heard, AUDIO, 4, 0.5), biases), (None, 0 * biases)):
        make_index(space, seen, IMAGE, kind, debias=debias)
        found = retrieve(space, queries, seen, IMAGE, k=20, index=open_index(space, seen, IMAGE, kind))
        want_rows, want_scores = naive(gallery, vectors, own, 20)
        order = [[int(hit.id[1:]) for hit in hits] for hits in found]
        near = 1e-6 if kind == "flat" else 1e-3  # the others keep vectors as float16
        np.testing.assert_allclose([[hit.score for hit in hits] for hits in found], want_scores, atol=near)
        assert order == want_rows.tolist() or kind != "flat"
    exactly = retrieve(space, queries, seen, IMAGE, k=20)  # without an index, whatever indexes there are
    assert [[int(hit.id[1:]) for hit in hits] for hits in exactly] == want_rows.tolist()
    assert not np.array_equal(naive(gallery, vectors, biases, 20)[0], want_rows)


def run(capsys, *args):
    code = main([str(each) for each in args])
    out, err = capsys.readouterr()
    return code, out, err


INDEX = ("index", "seen", "--space", "space", "--modality", "image", "--kind", "flat", "--json")
ASK = ("retrieve", "space", "text 1", "--in", "seen", "--modality", "image", "--json")


def test_the_command_line_makes_a_debiased_index_and_tells_what_scores_are(world, capsys):
    gallery, biases = expected(*world)
    code, out, _ = run(capsys, *INDEX, "--debias", "heard:audio", "--debias-k", "4", "--debias-alpha", "0.5")
    told = json.loads(out)
    assert (code, told["dim"]) == (0, 11)
    assert [told["bias"][name] for name in ("path", "modality", "rows", "k", "alpha")] == ["heard", "audio", 15, 4, 0.5]
    assert told["bias"]["memory"] == world[2].fingerprint(AUDIO)
    what = "cosine less the row's bias, 0.5 x the mean of its 4 largest cosines with the 15 audio rows of heard"
    code, out, err = run(capsys, *ASK, "--index", "flat")
    assert (code, json.loads(out)["scores"]) == (0, what)
    assert f"scores are debiased: {what}" in err
    vector = ask(world[0], "text 1").vector[None]
    rows, scores = naive(gallery, vector, biases, 10)
    assert [hit["id"] for hit in json.loads(out)["hits"]] == [f"p{row}" for row in rows[0]]
    np.testing.assert_allclose([hit["score"] for hit in json.loads(out)["hits"]], scores[0], atol=1e-6)
    for index in ("exact", "flat"):
        code, out, err = run(capsys, *ASK, "--index", index)
        assert ("scores" in json.loads(out)) == (index == "flat") == ("debiased" in err)
    run(capsys, *INDEX)  # takes its place
    code, out, err = run(capsys, *ASK, "--index", "flat")
    assert "scores" not in json.loads(out) and "debiased" not in err
    assert "bias" not in json.loads(next((world[1].path / "index").glob("*.json")).read_text())


def test_the_cure_of_a_stale_index_makes_it_debiased_again(world, capsys):
    run(capsys, *INDEX, "--debias", "heard:audio", "--debias-k", "4")
    make_memory(world[1].path, "seer", {IMAGE: {"new": ("new.png", None, b"new")}})
    code, _, err = run(capsys, *ASK, "--index", "flat")
    assert (code, err.count("\n")) == (1, 1)
    assert "is stale" in err
    cure = err.strip().rpartition("make it anew: cmcr ")[2]
    assert run(capsys, *cure.split())[0] == 0
    assert "4 largest cosines" in json.loads(run(capsys, *ASK, "--index", "flat")[1])["scores"]


REFUSALS = {
    "a modality that the memory lacks": (["heard:image"], 1, "heard holds text, audio, no image"),
    "an unknown modality": (["heard:odour"], 2, "expected MEMORY:MODALITY with one of"),
    "no modality": (["heard"], 2, "expected MEMORY:MODALITY"),
    "no memory": (["nowhere:audio"], 1, "nowhere"),
    "a memory of another space": (["other:text"], 1, "was made by hearer (000000000000)"),
    "k of 0": (["heard:audio", "--debias-k", "0"], 1, "debias k 0; expected a number above 0"),
    "alpha that is no number": (
        ["heard:audio", "--debias-alpha", "nan"],
        1,
        "debias alpha nan; expected a finite number",
    ),
    "alpha of 0": (["heard:audio", "--debias-alpha", "0"], 1, "debias alpha 0.0; expected a number above 0"),
    "alpha above 1": (["heard:audio", "--debias-alpha", "1.5"], 1, "debias alpha 1.5; expected at most 1"),
    "alpha below 0": (["heard:audio", "--debias-alpha", "-1"], 1, "debias alpha -1.0; expected a finite number of 0"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals(case, world, capsys):
    flags, code, words = REFUSALS[case]
    make_memory(world[1].path.parent / "other", "hearer", {TEXT: texts(3)}, fingerprint="0" * 64)
    got, out, err = run(capsys, *INDEX, "--debias", *flags)
    assert (got, out) == (code, "")
    assert words in " ".join(err.replace("│", " ").split())
    assert code == 2 or err.count("\n") == 1
    assert not [*world[1].path.glob("index/*.faiss")]


def test_refusals_of_export_and_of_settings_without_debias(world, capsys):
    code, _, err = run(capsys, *INDEX, "--debias-k", "3")
    assert (code, "--debias-k" in err) == (2, True)
    code, _, err = run(capsys, "export", "space", "seen", "-o", "out", "--debias", "heard:image")
    assert (code, err) == (1, "error: heard holds text, audio, no image\n")
    assert not [*world[1].path.parent.glob("out/*")]
    code, _, err = run(capsys, "export", "space", "-o", "out", "--format", "torch", "--debias", "heard:audio")
    assert (code, "writes projectors" in " ".join(err.replace("│", " ").split())) == (2, True)


def test_a_memory_without_rows_is_no_reference(world):
    space, seen, heard = world
    manifest = heard.path / "manifest.json"
    told = json.loads(manifest.read_text())
    told["modalities"]["audio"] = []
    manifest.write_text(json.dumps(told))
    with pytest.raises(InputError, match="heard holds text, no audio"):
        make_index(space, seen, IMAGE, "flat", debias=Debias(Memory.open(heard.path), AUDIO))


@pytest.mark.parametrize("kind", ["npy", "parquet", "faiss"])
def test_exported_vectors_have_the_bias_and_say_what_a_query_appends(kind, world, tmp_path):
    space, seen, heard = world
    gallery, biases = expected(space, seen, heard)
    first, *rest = export_vectors(space, seen, IMAGE, tmp_path / "out", kind, Debias(heard, AUDIO, 4, 0.5))
    assert (first.name, rest[-1].name) == (f"image-debiased.{kind}", "image-debiased.json")
    about = json.loads(rest[-1].read_text())
    assert "append a 1 to a query's vector and compare by inner product" in about["query"]
    assert (about["k"], about["alpha"], about["rows"]) == (4, 0.5, 15)
    np.testing.assert_array_equal(_read(first), np.concatenate([gallery, -biases[:, None]], axis=1))
    assert export_vectors(space, seen, IMAGE, tmp_path / "out", kind)[0].name == f"image.{kind}"
    assert _read(tmp_path / "out" / f"image.{kind}").shape == (20, space.dim)
    assert _read(first).shape == (20, space.dim + 1)


def _read(path):
    if path.suffix == ".npy":
        return np.load(path)
    if path.suffix == ".faiss":
        import faiss

        return faiss.read_index(str(path)).reconstruct_n(0, 20)
    from pyarrow import parquet

    table = parquet.read_table(path)
    if "debiased" in path.name:
        assert "append a 1" in json.loads(table.schema.metadata[b"cmcr_bias"])["query"]
    return table["vector"].combine_chunks().flatten().to_numpy().reshape(20, -1)


def test_export_says_on_the_command_line_what_a_query_appends(world, capsys):
    code, out, err = run(
        capsys, "export", "space", "seen", "-o", "out", "--modality", "image", "--debias", "heard:audio"
    )
    assert (code, "image-debiased.npy" in out) == (0, True)
    assert "append a 1 to a query's vector" in err
    assert "append a 1" not in run(capsys, "export", "space", "seen", "-o", "out")[2]


def test_what_stands_beside_an_index_of_its_biases_is_checked(world):
    space, seen, heard = world
    path, _ = make_index(space, seen, IMAGE, "flat", debias=Debias(heard, AUDIO))
    assert memory_problems(seen) == []
    stored = json.loads(path.with_suffix(".json").read_text())
    for name, wrong in (("k", 0), ("rows", 0), ("alpha", -1.0), ("alpha", "much"), ("path", None)):
        path.with_suffix(".json").write_text(json.dumps(stored | {"bias": stored["bias"] | {name: wrong}}))
        assert len(memory_problems(seen)) == 1
    path.with_suffix(".json").write_text(json.dumps({k: v for k, v in stored.items() if k != "bias"}))
    with pytest.raises((ArtifactError, InputError), match="dimensions"):
        open_index(space, seen, IMAGE, "flat").search(np.ones((1, 10), np.float32) / 4, 3)
