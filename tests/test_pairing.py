import numpy as np
import pytest
import torch
from worlds import DIM_A, rows, space, two_memories, write

from cmcr.connect.pairs import QUERIES, build_pairs
from cmcr.errors import InputError
from cmcr.memory import Memory
from cmcr.memory.overlap import Side, join, outer_modality
from cmcr.modality import Modality

TEXT, IMAGE, AUDIO = Modality.TEXT, Modality.IMAGE, Modality.AUDIO


@pytest.fixture
def memories(tmp_path):
    a, b, _ = two_memories(tmp_path, texts=50, outer=30)
    return Memory.open(a), Memory.open(b)


def sides(memories, outer=True):
    overlap = join(*memories)
    return [
        Side(memory, TEXT, found, other if outer else None)
        for memory, found, other in zip(memories, (overlap.rows_a, overlap.rows_b), (IMAGE, AUDIO), strict=True)
    ]


def texts(count, names=None):
    return space(1, DIM_A, np.random.default_rng(0).normal(size=(count, 6)), 0), names or rows("t", count)


def test_rows_join_by_id_whatever_their_order(tmp_path):
    vectors, metadata = texts(6)
    order = [4, 2, 0, 5]
    a = Memory.open(write(tmp_path / "a", "a", {TEXT: (vectors, metadata)}))
    b = Memory.open(write(tmp_path / "b", "b", {TEXT: (vectors[order], [metadata[i] for i in order])}))
    overlap = join(a, b)
    assert [a.ids(TEXT)[i] for i in overlap.rows_a] == [b.ids(TEXT)[i] for i in overlap.rows_b]
    assert (len(overlap.rows_a), overlap.only_a, overlap.only_b, overlap.unchecked) == (4, 2, 0, 0)


def test_one_id_with_two_contents_is_named(tmp_path):
    vectors, metadata = texts(6)
    changed = [row if row.id != "t3" else type(row)(row.id, row.source, "0" * 64, "other") for row in metadata]
    a = Memory.open(write(tmp_path / "a", "a", {TEXT: (vectors, metadata)}))
    b = Memory.open(write(tmp_path / "b", "b", {TEXT: (vectors, changed)}))
    with pytest.raises(InputError, match="text 't3' has different content"):
        join(a, b)


def test_ids_in_two_unicode_forms_join(tmp_path):
    vectors, metadata = texts(6)
    told = {"t1": ("\u00e9", "e\u0301"), "t3": ("t3", " t3")}
    for side, name in enumerate("ab"):
        own = [type(row)(told.get(row.id, (row.id,) * 2)[side], row.source, row.hash, row.text) for row in metadata]
        write(tmp_path / name, name, {TEXT: (vectors, own)})
    overlap = join(Memory.open(tmp_path / "a"), Memory.open(tmp_path / "b"))
    assert overlap.rows_a.tolist() == overlap.rows_b.tolist() == list(range(6))


def test_unknown_content_is_joined_and_counted(tmp_path):
    vectors, metadata = texts(6)
    unknown = [type(row)(row.id, row.source, None, None) for row in metadata]
    a = Memory.open(write(tmp_path / "a", "a", {TEXT: (vectors, metadata)}))
    b = Memory.open(write(tmp_path / "b", "b", {TEXT: (vectors, unknown)}))
    assert join(a, b).unchecked == 6


def test_memories_that_cannot_be_joined(tmp_path):
    vectors, metadata = texts(6)
    a = Memory.open(write(tmp_path / "a", "a", {TEXT: (vectors, metadata), IMAGE: (vectors, metadata)}))
    both = Memory.open(write(tmp_path / "both", "b", {TEXT: (vectors, metadata), IMAGE: (vectors, metadata)}))
    other = Memory.open(write(tmp_path / "other", "b", {AUDIO: (vectors, metadata)}))
    strangers = Memory.open(write(tmp_path / "strangers", "b", {TEXT: (vectors, rows("x", 6))}))
    single = Memory.open(write(tmp_path / "single", "b", {TEXT: (vectors[:1], metadata[:1])}))
    for memory, message in (
        (other, "no common modality: .* holds image, text, .* holds audio"),
        (both, "several common modalities .* --via"),
        (strangers, "share 0 text id"),
        (single, "share 1 text id.* at least 2"),
    ):
        with pytest.raises(InputError, match=message):
            join(a, memory)
    assert join(a, both, TEXT).modality == TEXT
    with pytest.raises(InputError, match="--via audio: not in both"):
        join(a, both, AUDIO)


def test_outer_modality_is_the_other_one(memories, tmp_path):
    assert outer_modality(memories[0], TEXT, None) == IMAGE
    with pytest.raises(InputError, match="holds no audio beside the overlap"):
        outer_modality(memories[0], TEXT, AUDIO)
    vectors, metadata = texts(6)
    only = Memory.open(write(tmp_path / "only", "x", {TEXT: (vectors, metadata)}))
    with pytest.raises(InputError, match="holds only text"):
        outer_modality(only, TEXT, None)
    three = Memory.open(
        write(tmp_path / "three", "x", dict.fromkeys((TEXT, IMAGE, Modality.POINT_CLOUD), (vectors, metadata)))
    )
    with pytest.raises(InputError, match="choose one with --outer-a"):
        outer_modality(three, TEXT, None)
    assert outer_modality(three, TEXT, IMAGE) == IMAGE


@pytest.mark.parametrize("top_k", [0, 5])
def test_pairs_are_the_overlap_and_what_the_memory_recalls(memories, tmp_path, top_k):
    a, b = sides(memories)
    pairs = build_pairs(a, b, tmp_path / "pairs", 0.05, top_k)
    query, memory = memories[1].vectors(TEXT, a.rows * 0 + b.rows), memories[1].vectors(AUDIO)
    logits = torch.from_numpy(query @ memory.T / 0.05)
    if top_k:
        logits = logits.masked_fill(logits < logits.topk(top_k, dim=1).values[:, -1:], -torch.inf)
    expected = logits.softmax(dim=1).numpy() @ memory
    assert np.allclose(pairs.pseudo_b, expected, atol=1e-3)  # float16 on disk
    assert np.allclose(pairs.overlap_a, memories[0].vectors(TEXT), atol=1e-3)
    assert np.linalg.norm(pairs.pseudo_b.astype(float), axis=1).max() <= 1.001


def test_pairs_do_not_depend_on_the_queries_a_pass(memories, tmp_path, monkeypatch):
    whole = build_pairs(*sides(memories), tmp_path / "whole", 0.05)
    monkeypatch.setattr("cmcr.connect.pairs.QUERIES", 7)
    assert QUERIES > 7
    parts = build_pairs(*sides(memories), tmp_path / "parts", 0.05)
    assert np.allclose(whole.pseudo_a, parts.pseudo_a, atol=1e-3)


def test_pairs_are_computed_once_and_anew_when_what_made_them_changed(memories, tmp_path, monkeypatch):
    folder = tmp_path / "pairs"
    build_pairs(*sides(memories), folder, 0.05)
    calls = []
    monkeypatch.setattr("cmcr.connect.pairs.recall", lambda q, blocks, tau: calls.append(tau) or q)
    build_pairs(*sides(memories), folder, 0.05)
    assert calls == []
    build_pairs(*sides(memories), folder, 0.02)
    assert calls == [0.02, 0.02]


def test_without_memories_there_is_only_the_overlap_pair(memories, tmp_path):
    pairs = build_pairs(*sides(memories, outer=False), tmp_path / "pairs", 0.05)
    assert pairs.pseudo_a is None and pairs.pseudo_b is None
    assert len(pairs) == 50


def test_stopped_pairing_leaves_no_half_file_and_goes_on(memories, tmp_path, monkeypatch):
    folder = tmp_path / "pairs"
    original = Memory.blocks

    def stops(self, modality, size=8192):
        if modality == AUDIO:
            raise KeyboardInterrupt
        return original(self, modality, size)

    monkeypatch.setattr(Memory, "blocks", stops)
    with pytest.raises(KeyboardInterrupt):
        build_pairs(*sides(memories), folder, 0.05)
    assert not list(folder.glob(".*partial")) and not (folder / "pseudo_b.npy").exists()
    monkeypatch.setattr(Memory, "blocks", original)
    resumed = build_pairs(*sides(memories), folder, 0.05)
    undisturbed = build_pairs(*sides(memories), tmp_path / "again", 0.05)
    assert np.array_equal(resumed.pseudo_b, undisturbed.pseudo_b)
