"""Exact search against a naive sort; every FAISS kind against the exact search; the index file against accidents."""

import hashlib
import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmcr.errors import ArtifactError, InputError
from cmcr.modality import Modality
from cmcr.search import ExactIndex, build_index, exact_search, index_path, load_index, save_index
from cmcr.search import exact as exact_module
from cmcr.search import faiss as index_module
from cmcr.search.faiss import KINDS


def unit(x):
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def clustered(rows, dim=48, seed=0, shift=0.0):
    rng, centres = np.random.default_rng(seed), np.random.default_rng(99).standard_normal((40, dim))
    return unit(centres[rng.integers(40, size=rows)] + 0.7 * rng.standard_normal((rows, dim)) + shift)


def cut(x, size):
    return [x[i : i + size] for i in range(0, len(x), size)]


def naive(gallery, queries, k):
    scores = np.asarray(queries.astype(np.float64) @ gallery.T.astype(np.float64), np.float32)
    order = [sorted(range(len(gallery)), key=lambda j, row=row: (-row[j], j))[:k] for row in scores]
    return np.array(order), np.take_along_axis(scores, np.array(order), axis=1)


def overlap(a, b):
    return np.mean([len(set(x) & set(y)) / len(y) for x, y in zip(a, b, strict=True)])


@given(st.integers(0, 9999), st.integers(1, 60), st.integers(1, 12), st.integers(1, 17), st.integers(1, 5))
def test_exact_search_is_the_naive_sort_for_any_block_size_with_ties_to_the_lower_row(seed, rows, k, size, chunk):
    rng = np.random.default_rng(seed)
    gallery = unit(rng.integers(-1, 2, (rows, 3)) + np.array([0.5, 0, 0]))  # few distinct vectors: full of ties
    queries = unit(rng.standard_normal((4, 3)))
    want_rows, want_scores = naive(gallery, queries, min(k, rows))
    got = exact_search(cut(gallery, size), queries, k, chunk=chunk)
    np.testing.assert_array_equal(got.rows, want_rows)
    np.testing.assert_array_equal(got.scores, want_scores)
    assert (got.scores.dtype, got.rows.dtype) == (np.float32, np.int64)


@given(st.integers(0, 9999), st.integers(20, 300), st.integers(1, 12), st.sampled_from([0, 1, 256]))
def test_rows_that_differ_in_the_last_bits_are_told_apart_as_in_float64(seed, rows, k, sparse):
    rng = np.random.default_rng(seed)
    centre = unit(rng.standard_normal((1, 512)))
    gallery = unit(centre + 4e-8 * rng.standard_normal((rows, 512)))[rng.integers(rows, size=rows)]
    away = rng.standard_normal((3, 512))
    queries = unit(
        away - (away @ centre.T - 0.02) * centre
    )  # scores near 1e-3, of sums that float32 gets wrong by more
    want_rows, want_scores = naive(gallery, queries, k)
    with pytest.MonkeyPatch.context() as patch:  # tiles so small that the filter is met, and both ways to score
        patch.setattr(exact_module, "_TILE", 8)
        patch.setattr(exact_module, "_SPARSE", sparse)
        got = exact_search(cut(gallery, 29), queries, k)
    np.testing.assert_array_equal(got.rows, want_rows)
    np.testing.assert_array_equal(got.scores, want_scores)


@pytest.mark.parametrize("asked", [1, 3])
def test_rows_known_to_be_unit_vectors_give_the_same_hits_whatever_the_tiles(asked):
    gallery, queries = clustered(70_000, 16, seed=5), clustered(asked, 16, seed=6)
    want_rows, want_scores = naive(gallery, queries, 10)
    for blocks in ([gallery], cut(gallery, 30_000)):
        got = exact_search(blocks, queries, 10, unit=True)
        np.testing.assert_array_equal(got.rows, want_rows)
        np.testing.assert_array_equal(got.scores, want_scores)


def test_a_torch_that_may_round_to_bfloat16_changes_nothing():
    import torch

    gallery, queries, before = clustered(9000, 512), clustered(256, 512, seed=2), torch.get_float32_matmul_precision()
    want = exact_search([gallery], queries, 10)
    torch.set_float32_matmul_precision("medium")
    try:
        got = exact_search([gallery], queries, 10)
    finally:
        torch.set_float32_matmul_precision(before)
    np.testing.assert_array_equal(got.rows, want.rows)
    np.testing.assert_array_equal(got.scores, want.scores)


@pytest.mark.parametrize("scale", [1e-18, 1e-3, 1.0, 1e4, 1e30])
def test_rows_of_any_norm_and_rows_that_are_not_finite_keep_their_place(scale, monkeypatch):
    monkeypatch.setattr(exact_module, "_TILE", 16)
    gallery, queries = clustered(400, seed=3), clustered(5, seed=4)
    gallery[100:300] *= np.float32(scale)
    want_rows, want_scores = naive(gallery, queries, 20)
    got = exact_search([gallery], queries, 20)
    np.testing.assert_array_equal(got.rows, want_rows)
    np.testing.assert_array_equal(got.scores, want_scores)
    gallery[[7, 77, 177, 377]] = np.nan
    gallery[210, 3] = np.inf
    hits = exact_search(cut(gallery, 90), queries, 400)
    assert (np.isneginf(hits.scores).sum(axis=1) >= 4).all()
    few = exact_search(cut(gallery, 33), queries, 20)
    np.testing.assert_array_equal(few.rows, hits.rows[:, :20])
    np.testing.assert_array_equal(few.scores, hits.scores[:, :20])


def test_memory_is_a_tile_and_never_queries_by_gallery():
    import tracemalloc

    rows, dim, asked = 200_000, 8, 256
    gallery, queries = clustered(rows, dim), clustered(asked, dim, seed=1)
    tracemalloc.start()
    try:
        exact_search([gallery], queries, 10, chunk=32)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < asked * rows  # bytes: a quarter of the float32 table


def test_repeated_rows_come_in_row_order_whatever_the_blocks():
    gallery = np.tile(clustered(7, 300), (30, 1))
    gallery.flags.writeable = False  # as a gallery mapped from a file is
    expected = [list(range(query, 210, 7)) for query in range(7)]
    for size in (1, 3, 64, 100, 210):
        assert exact_search(cut(gallery, size), gallery[:7], 30).rows.tolist() == expected


def test_fewer_rows_than_k_and_no_rows_at_all():
    gallery = clustered(3)
    assert exact_search([gallery], gallery, 10).rows.shape == (3, 3)
    assert exact_search([], gallery, 10).rows.shape == (3, 0)
    assert build_index("flat", lambda: [gallery]).search(gallery, 10).rows.shape == (3, 3)
    assert exact_search([gallery], gallery[:0], 2).rows.shape[0] == 0


@pytest.mark.parametrize("kind", [*KINDS, "exact"])
def test_bad_queries_are_refused(kind):
    gallery = clustered(100)
    index = ExactIndex(lambda: [gallery]) if kind == "exact" else build_index(kind, lambda: [gallery])
    broken = gallery[:3].copy()
    broken[1, 2] = np.nan
    for queries, k, words in (
        (gallery, 0, "k = 0"),
        (broken, 3, "query 1 is not finite"),
        (gallery[:, :9], 3, "two spaces"),
    ):
        with pytest.raises(InputError, match=re.escape(words)):
            index.search(queries, k)


@pytest.mark.parametrize("shift", [0.0, 0.5], ids=["same modality", "across a modality gap"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_agrees_with_the_exact_search(kind, shift, tmp_path):
    gallery, queries = clustered(4000), clustered(150, seed=5, shift=shift)
    exact = exact_search(cut(gallery, 1000), queries, 10)
    built = build_index(kind, lambda: cut(gallery, 777))
    path = index_path(tmp_path, "f" * 64, Modality.IMAGE, kind)
    save_index(built, path, memory="m", space="s", modality=Modality.IMAGE)
    for index in (built, load_index(path, memory="m", space="s")):
        found = index.search(queries, 10)
        if kind == "flat":
            np.testing.assert_array_equal(found.rows, exact.rows)
            np.testing.assert_allclose(found.scores, exact.scores, atol=1e-6)
        assert overlap(found.rows, exact.rows) >= 0.95
        own = index.search(gallery[:50], 1)  # vicinity's bug: a vector must be its own nearest, with cosine 1
        np.testing.assert_allclose(own.scores, 1.0, atol=1e-5 if kind == "flat" else 2e-4)  # float16
        assert own.rows[:, 0].tolist() == list(range(50))


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_vectors_give_the_same_bytes_on_any_number_of_threads(kind, tmp_path):
    import faiss

    gallery, before, inside = clustered(3000), faiss.omp_get_max_threads(), []

    def blocks():
        inside.append(faiss.omp_get_max_threads())
        return cut(gallery, 1000)

    try:
        for threads in (1, 4):
            faiss.omp_set_num_threads(threads)
            build_index(kind, blocks).write(tmp_path / str(threads))
            assert faiss.omp_get_max_threads() == threads
    finally:
        faiss.omp_set_num_threads(before)
    if kind == "hnsw":
        assert set(inside) == {
            1
        }  # a graph built by several threads depends on who comes first, if not on every machine
    assert (tmp_path / "1").read_bytes() == (tmp_path / "4").read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_one_row_can_be_indexed_and_none_cannot(kind):
    gallery = clustered(1)
    assert build_index(kind, lambda: [gallery]).search(gallery, 5).rows.tolist() == [[0]]
    with pytest.raises(InputError, match="empty"):
        build_index(kind, lambda: [gallery[:0]])


def test_an_ivf_index_that_finds_fewer_says_so():
    gallery = clustered(4000)
    index = build_index("ivf", lambda: [gallery])
    index._index.nprobe = 1
    hits = index.search(gallery[:5], 3000)
    assert (hits.rows[:, -1] == -1).all()
    assert np.isneginf(hits.scores[:, -1]).all()
    assert (hits.rows[:, 0] == np.arange(5)).all()


def test_unknown_kind():
    with pytest.raises(InputError, match="'pq': expected one of flat, hnsw, ivf"):
        build_index("pq", lambda: [clustered(3)])


@pytest.fixture
def saved(tmp_path):
    path = index_path(tmp_path, "f" * 64, Modality.AUDIO, "ivf")
    gallery = clustered(500)
    save_index(build_index("ivf", lambda: [gallery]), path, memory="m" * 64, space="s" * 64, modality=Modality.AUDIO)
    return path


def test_a_saved_index_says_what_it_is_made_of(saved):
    assert saved.name == "ffffffffffff-audio-ivf.faiss"
    info = json.loads(saved.with_suffix(".json").read_text())
    assert (info["kind"], info["rows"], info["dim"], info["modality"]) == ("ivf", 500, 48, "audio")
    assert sorted(p.name for p in saved.parent.iterdir() if p.name != ".lock") == [
        saved.name,
        saved.with_suffix(".json").name,
    ]


def _flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


ACCIDENTS = {
    "stale memory": (
        lambda p: None,
        {"memory": "x" * 64},
        "is stale: made of memory mmmmmmmmmmmm, which is now xxxxxxxxxxxx",
    ),
    "stale space": (lambda p: None, {"space": "x" * 64}, "is stale: made of space ssssssssssss"),
    "a flipped bit": (_flip, {}, "is damaged"),
    "truncated": (lambda p: p.write_bytes(p.read_bytes()[:-9]), {}, "is damaged"),
    "no index": (lambda p: p.unlink(), {}, "there is no index"),
    "no description": (lambda p: p.with_suffix(".json").unlink(), {}, "there is no index"),
    "not JSON": (lambda p: p.with_suffix(".json").write_text("{"), {}, "is damaged"),
    "other JSON": (lambda p: p.with_suffix(".json").write_text('{"kind": 3}'), {}, "is damaged"),
    "another format": (
        lambda p: p.with_suffix(".json").write_text('{"kind": "ivf", "format": 1}'),
        {},
        "has format 1, expected 2",
    ),
    "a list": (lambda p: p.with_suffix(".json").write_text("[1]"), {}, "is damaged"),
}


@pytest.mark.parametrize("accident", ACCIDENTS)
def test_a_stale_or_damaged_index_is_refused_with_its_cure(accident, saved):
    happen, other, words = ACCIDENTS[accident]
    happen(saved)
    with pytest.raises(ArtifactError, match=words) as error:
        load_index(saved, **{"memory": "m" * 64, "space": "s" * 64, **other}, cure="cmcr index mem/a")
    assert str(error.value).endswith("cmcr index mem/a")


def test_an_index_file_that_is_none_is_refused_even_with_the_right_hash(saved):
    from cmcr.files import sha256_file

    (data := b"hello" * 100, saved.write_bytes(data))
    info = json.loads(saved.with_suffix(".json").read_text())
    opening = hashlib.sha256(data + data).hexdigest()  # its structure and its end are both all of it
    changed = {"sha256": sha256_file(saved), "bytes": len(data), "opening": opening}
    saved.with_suffix(".json").write_text(json.dumps(info | changed))
    with pytest.raises(ArtifactError, match="cannot be read by faiss"):
        load_index(saved, memory="m" * 64, space="s" * 64)


def test_damage_amid_the_vectors_is_met_by_a_search_or_the_full_check(tmp_path, monkeypatch):
    monkeypatch.setattr(index_module, "_END", 1024)
    gallery = clustered(3000)
    for kind in KINDS:
        path = index_path(tmp_path, "f" * 64, Modality.AUDIO, kind)
        save_index(build_index(kind, lambda: [gallery]), path, memory="m", space="s", modality=Modality.AUDIO)
        data = bytearray(path.read_bytes())
        start = json.loads(path.with_suffix(".json").read_text())["structure"]
        data[start + 100 : len(data) - 2000] = b"\x7b" * (len(data) - 2100 - start)
        path.write_bytes(data)
        index = load_index(path, memory="m", space="s", cure="cmcr index mem/a")
        with pytest.raises(ArtifactError, match="is damaged: it finds what cannot be; make it anew: cmcr index mem/a"):
            index.search(gallery[:50], 10)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", [0.0, 0.999])
def test_damage_of_the_head_and_the_tail_is_seen_when_it_is_opened(kind, place, tmp_path):
    path = index_path(tmp_path, "f" * 64, Modality.AUDIO, kind)
    gallery = clustered(5000)
    save_index(build_index(kind, lambda: [gallery]), path, memory="m", space="s", modality=Modality.AUDIO)
    data = bytearray(path.read_bytes())
    data[int(len(data) * place)] ^= 1
    path.write_bytes(data)
    with pytest.raises(ArtifactError, match="is damaged"):
        load_index(path, memory="m", space="s")
