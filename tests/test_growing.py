"""Memories that grow: changed files embedded anew, indexes extended, int8, and groups of near-duplicates."""

import csv
import json

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from spaces import make_memory, make_space, texts
from test_memory import INFO, build, rows

from cmcr import ArrayMemory
from cmcr.ask import Debias, make_index, open_index
from cmcr.ask.retrieve import retrieve
from cmcr.cli import main
from cmcr.embed import compact, embed, import_vectors, remove_rows
from cmcr.errors import ArtifactError, InputError
from cmcr.items import read_items
from cmcr.memory import CHANGED, Memory, MemoryWriter
from cmcr.modality import Modality
from cmcr.search import duplicates_of, stale_indexes

TEXT, IMAGE = Modality.TEXT, Modality.IMAGE


def run(encoder, source, memory, **options):
    return embed(encoder, read_items(str(source), None, encoder.modalities), memory, **options)


@pytest.fixture
def cmcr(tmp_path, monkeypatch, capsys, fake_encoders):
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return call


# Changed files


def test_update_takes_a_changed_file_and_gives_up_the_old_row(tmp_path, fake_encoder, write_files):
    photos, path = write_files("photos", "image", 4), tmp_path / "mem"
    run(fake_encoder(), photos, path)
    before = Memory.open(path)
    (photos / "001.png").write_bytes((photos / "003.png").read_bytes())
    for _ in range(2):
        report = run(fake_encoder(), photos, path)
        assert (report.embedded, report.updated, report.changed, report.already) == (0, 0, 1, 3)
    report = run(fake_encoder(), photos, path, update=True)
    assert (report.embedded, report.updated, report.changed, report.already, report.rows) == (1, 1, 0, 3, 4)
    memory = Memory.open(path)
    assert memory.ids(IMAGE) == ["000", "002", "003", "001"] and memory.verify() == [] == memory.skipped()
    np.testing.assert_array_equal(memory.vectors(IMAGE, [3]), before.vectors(IMAGE, [3]))
    for update in (False, True):
        report = run(fake_encoder(), photos, path, update=update)
        assert (report.embedded, report.skipped, report.already) == (0, [], 4)


def test_a_changed_file_that_is_broken_keeps_its_old_row(tmp_path, fake_encoder, write_files):
    photos, path = write_files("photos", "image", 2), tmp_path / "mem"
    run(fake_encoder(), photos, path)
    (photos / "001.png").write_bytes(b"no picture")
    report = run(fake_encoder(), photos, path, update=True)
    assert (report.embedded, report.updated, len(report.skipped)) == (0, 0, 1)
    assert Memory.open(path).ids(IMAGE) == ["000", "001"] and not Memory.open(path).manifest.removed


def test_another_file_of_the_same_id_is_no_update_but_a_moved_line_of_a_list_is(tmp_path, fake_encoder, write_files):
    write_files("a", "image", 1), write_files("b", "image", 1, start=7)
    (tmp_path / "b/007.png").rename(tmp_path / "b/000.png")
    run(fake_encoder(), tmp_path / "a", tmp_path / "mem")
    report = run(fake_encoder(), tmp_path / "b", tmp_path / "mem", update=True)
    assert report.embedded == 0 and "give --id-prefix" in report.skipped[0].reason
    table = tmp_path / "list.jsonl"
    for lines in ((("x", "a dog"), ("y", "a cat")), (("y", "a cow"), ("z", "a hen"), ("x", "a dog"))):
        table.write_text("".join(json.dumps({"id": name, "text": text}) + "\n" for name, text in lines))
        report = run(fake_encoder(), table, tmp_path / "mem", update=True)
    assert (report.embedded, report.updated, report.already) == (2, 1, 1)
    assert {row.id: row.text for row in Memory.open(tmp_path / "mem").metadata(TEXT)} == {
        "x": "a dog",
        "y": "a cow",
        "z": "a hen",
    }


def test_a_removed_id_comes_back_whatever_was_said_of_it_before(tmp_path, fake_encoder, write_files):
    photos, path = write_files("photos", "image", 3), tmp_path / "mem"
    run(fake_encoder(), photos, path)
    (photos / "001.png").write_bytes((photos / "002.png").read_bytes())
    assert [skip.reason for skip in run(fake_encoder(), photos, path).skipped] == [CHANGED]
    remove_rows(path, ["001", "000"])
    assert run(fake_encoder(), photos, path).embedded == 2
    assert Memory.open(path).ids(IMAGE) == ["002", "000", "001"] and Memory.open(path).skipped() == []


def test_update_as_a_user_meets_it(cmcr, write_files):
    photos = write_files("photos", "image", 3)
    cmcr("embed", "photos", "-e", "fake-clip", "-o", "mem")
    for name in ("000", "001"):
        (photos / f"{name}.png").write_bytes((photos / "002.png").read_bytes())
    code, _, err = cmcr("embed", "photos", "-e", "fake-clip", "-o", "mem")
    assert code == 0 and "2 changed since they were embedded; --update embeds them anew" in err
    code, out, err = cmcr("embed", "photos", "-e", "fake-clip", "-o", "mem", "--update", "--json")
    assert code == 0 and json.loads(out)["added"][0]["updated"] == 2
    assert "2 image embedded, 2 of them in place of older content, 1 already there; it holds 3" in err
    for extra, words in ((("--part", "1/2"), "--update is for a process alone"), (("--workers", "ray"), "leave out")):
        code, _, err = cmcr("embed", "photos", "-e", "fake-clip", "-o", "mem", "--update", *extra)
        assert code == 2 and words in err


# int8


@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(1, 80))
@settings(max_examples=10)
def test_int8_is_off_by_half_a_step_and_its_largest_component_not_at_all(tmp_path_factory, seed, count, dim):
    path = tmp_path_factory.mktemp("m") / "mem"
    vectors = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    np.save(path.with_suffix(".npy"), vectors)
    path.with_suffix(".txt").write_text("".join(f"{n}\n" for n in range(count)))
    given_ = {"encoder_name": "x", "modality": IMAGE, "dtype": "int8"}
    assert import_vectors(path.with_suffix(".npy"), path.with_suffix(".txt"), path, **given_).rows == count
    memory, units = Memory.open(path), vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    read, stored = memory.vectors(IMAGE), np.load(path / "img_emb/img_emb_0000.npy")
    assert (memory.dtype, stored.dtype, memory.verify()) == ("int8", np.int8, [])
    assert np.abs(stored).max(axis=1).tolist() == [127] * count
    np.testing.assert_allclose(np.linalg.norm(read, axis=1), 1, atol=1e-6)
    scaled = stored * (np.abs(units).max(axis=1, keepdims=True) / 127)
    step = np.abs(units).max(axis=1, keepdims=True) / 127
    assert (np.abs(scaled - units) <= 0.5001 * step).all()
    np.testing.assert_allclose(read, scaled / np.linalg.norm(scaled, axis=1, keepdims=True), atol=1e-6)


def test_int8_memories_grow_shrink_and_are_verified(tmp_path):
    build(tmp_path / "mem", dtype="int8")
    remove_rows(tmp_path / "mem", ["id 1"])
    compact(tmp_path / "mem")
    with MemoryWriter(tmp_path / "mem", INFO) as writer:
        writer.append(TEXT, np.eye(6, dtype=np.float32)[:1], rows(1, 30))
    memory = Memory.open(tmp_path / "mem")
    assert (
        memory.rows(TEXT) == 12
        and memory.verify() == []
        and memory.vectors(TEXT, [11]).tolist() == np.eye(6)[:1].tolist()
    )
    with pytest.raises(ArtifactError, match="stores int8, not float16"):
        MemoryWriter(tmp_path / "mem", INFO, "float16").__enter__()
    path = tmp_path / "mem/text_emb/text_emb_0001.npy"
    np.save(path, np.load(path) // 2)
    assert any("3 rows whose largest number is not 127" in problem for problem in memory.verify())


# Indexes


def grown(folder, count):
    """Return a space and a memory of its ``hearer`` that holds ``count`` texts, of which some may have been there."""
    said, path = list(texts(count).items()), folder / "mem"
    have = Memory.open(path).rows(TEXT) if path.exists() else 0
    make_memory(path, "hearer", {TEXT: dict(said[have:])}, shard=50)
    return make_space(), Memory.open(path)


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivf"])
@pytest.mark.parametrize("biased", [False, True])
def test_an_index_of_a_memory_that_grew_is_extended(tmp_path, monkeypatch, kind, biased):
    against = Debias(make_memory(tmp_path / "asked", "seer", {TEXT: texts(30)}), TEXT) if biased else None
    space, memory = grown(tmp_path, 220)
    path, built = make_index(space, memory, TEXT, kind, debias=against)
    assert make_index(space, memory, TEXT, kind, debias=against) == (path, built)
    space, memory = grown(tmp_path, 221)
    with pytest.raises(ArtifactError, match="is stale"):
        open_index(space, memory, TEXT, kind)
    with monkeypatch.context() as patch:
        patch.setattr("cmcr.ask.retrieve.build_index", None)  # extended, and not built anew
        _, info = make_index(space, memory, TEXT, kind, debias=against)
    extended, bytes_ = open_index(space, memory, TEXT, kind), path.read_bytes()
    assert (info.rows, info.parameters["extended"]) == (221, 1) and memory.verify() == []
    _, info = make_index(space, memory, TEXT, kind, debias=against, anew=True)
    rebuilt, queries = open_index(space, memory, TEXT, kind), space.project(memory, modality=TEXT)
    assert "extended" not in info.parameters
    assert kind != "flat" or path.read_bytes() == bytes_
    assert (extended.search(queries, 1).rows[:, 0] == rebuilt.search(queries, 1).rows[:, 0]).mean() > 0.98


def test_an_index_is_built_anew_where_extending_would_be_wrong(tmp_path):
    space, memory = grown(tmp_path, 220)
    path, _ = make_index(space, memory, TEXT, "ivf")
    space, memory = grown(tmp_path, 221)
    assert "extended" not in make_index(space, memory, TEXT, "ivf", seed=3)[1].parameters  # other clusters
    make_index(space, memory, TEXT, "flat")
    flat = path.with_name(path.name.replace("ivf", "flat"))
    data = bytearray(flat.read_bytes())
    data[len(data) // 2] ^= 1
    flat.write_bytes(data)
    make_index(space, memory, TEXT, "flat")  # mends what is damaged
    assert memory.verify() == [] and stale_indexes(memory) == []
    remove_rows(memory.path, [memory.ids(TEXT)[0]])
    compact(memory.path)
    memory = Memory.open(memory.path)
    assert len(stale_indexes(memory)) == 2
    assert "extended" not in make_index(space, memory, TEXT, "flat")[1].parameters
    assert [each.name for each in stale_indexes(memory)] == [path.name]


@pytest.mark.parametrize("kind", ["exact", "flat", "hnsw", "ivf"])
def test_removed_rows_are_found_by_no_index_and_the_others_keep_their_names(tmp_path, kind):
    space, memory = grown(tmp_path, 221)
    if kind != "exact":
        make_index(space, memory, TEXT, kind)
    ids = memory.ids(TEXT)
    gone = ids[:60] + ids[100:101] + ids[200:]
    remove_rows(memory.path, gone)
    memory = Memory.open(memory.path)
    queries = space.project(memory.with_removed(), modality=TEXT)[:: 20 if kind == "exact" else 10]
    hits = retrieve(space, queries, memory, TEXT, 12, open_index(space, memory, TEXT, kind))
    exact = retrieve(space, queries, memory, TEXT, 12)
    found = [[hit.id for hit in each] for each in hits]
    assert all(len(each) == 12 and not set(each) & set(gone) for each in found)
    same = [len({hit.id for hit in one} & set(two)) / 12 for one, two in zip(exact, found, strict=True)]
    assert np.mean(same) > (0.95 if kind in ("hnsw", "ivf") else 0.999)
    assert len(
        retrieve(space, queries[:1], memory, TEXT, 500, open_index(space, memory, TEXT, kind))[0]
    ) <= memory.rows(TEXT)
    if kind != "exact":  # an index made now holds them too, and finds them no more
        make_index(space, memory, TEXT, kind, anew=True)
        again = retrieve(space, queries, memory, TEXT, 12, open_index(space, memory, TEXT, kind))
        assert not {hit.id for each in again for hit in each} & set(gone)


# Near-duplicates


def naive_groups(vectors, above):
    near = vectors.astype(np.float64) @ vectors.astype(np.float64).T >= above
    label = np.arange(len(near))
    for _ in range(len(near)):
        label = np.array([label[row].min() for row in near])
    return [np.flatnonzero(label == each).tolist() for each in np.unique(label) if (label == each).sum() > 1]


@given(st.integers(0, 10_000), st.integers(1, 60), st.integers(1, 17), st.sampled_from([-1.0, 0.5, 0.9, 0.999, 1.0]))
@example(0, 1, 4, -1.0)
@settings(max_examples=15)
def test_groups_are_the_connected_components_whatever_the_tile(seed, count, tile, above):
    rng = np.random.default_rng(seed)
    arrays = rng.normal(size=(8, 5))[rng.integers(8, size=count)] + rng.normal(size=(count, 5)) * 0.2
    memory = ArrayMemory("a", {"image": arrays})
    groups = duplicates_of(memory, "image", above, tile=tile)
    vectors = memory.vectors(IMAGE)
    for group in groups:
        np.testing.assert_allclose(group.cosines, vectors[group.rows] @ vectors[group.rows[0]], atol=1e-6)
    if above < 1:  # of a row with itself, float64 may say less than 1
        assert [group.rows.tolist() for group in groups] == naive_groups(vectors, above)


def test_bounds_of_cosines():
    with pytest.raises(InputError, match=r"above 1.5; expected a cosine"):
        duplicates_of(ArrayMemory("a", {"image": np.eye(3)}), "image", 1.5)


def test_dedup_as_a_user_meets_it(cmcr, tmp_path, write_files):
    photos = write_files("photos", "image", 4)
    for name in ("010", "011", "020"):
        (photos / f"{name}.png").write_bytes((photos / f"00{name[1]}.png").read_bytes())
    cmcr("embed", "photos", "-e", "fake-clip", "-o", "mem")
    code, out, err = cmcr("dedup", "mem", "--above", 0.99, "--csv", "groups.csv", "--json")
    groups = [[each["id"] for each in group] for group in json.loads(out)["groups"]]
    assert code == 0 and groups == [["001", "010", "011"], ["002", "020"]]
    assert "2 groups at 0.99 or above; 3 of 7 rows are extra" in err and "--keep first --remove" in err
    with open("groups.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert [(row["group"], row["id"]) for row in table] == [
        ("1", "001"), ("1", "010"), ("1", "011"), ("2", "002"), ("2", "020")
    ]  # fmt: skip
    for half in (["--remove"], ["--keep", "first"]):
        code, _, err = cmcr("dedup", "mem", *half)
        assert code == 2 and "go together" in err
    code, _, err = cmcr("dedup", "mem", "--above", 0.99, "--keep", "first", "--remove")
    assert code == 0 and "3 removed, 4 left" in err
    assert Memory.open("mem").ids(IMAGE) == ["000", "001", "002", "003"]
    code, _, err = cmcr("dedup", "mem", "--above", 0.99)
    assert code == 0 and "0 groups" in err


def test_an_index_that_died_between_its_two_files_is_refused_and_mended(tmp_path, monkeypatch):
    space, memory = grown(tmp_path, 220)
    make_index(space, memory, TEXT, "flat")
    space, memory = grown(tmp_path, 221)

    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("cmcr.search.faiss.write_json", die)
        make_index(space, memory, TEXT, "flat")
    with pytest.raises(ArtifactError, match=r"is (stale|damaged)"):
        open_index(space, memory, TEXT, "flat")
    make_index(space, memory, TEXT, "flat")
    queries = space.project(memory, modality=TEXT)
    assert open_index(space, memory, TEXT, "flat").search(queries, 1).rows[:, 0].tolist() == list(range(221))


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_imported_vectors_that_changed_take_the_place_of_the_old(cmcr, tmp_path, dtype):
    vectors = np.random.default_rng(0).normal(size=(9, 16)).astype(np.float32)
    (tmp_path / "ids.txt").write_text("".join(f"{n}\n" for n in range(9)))
    command = ("embed", "--ids", "ids.txt", "--encoder-name", "x", "-o", "mem", "--modality", "image", "--dtype", dtype)
    np.save("one.npy", vectors)
    assert cmcr(*command, "--from-vectors", "one.npy")[0] == 0
    assert "9 already there" in cmcr(*command, "--from-vectors", "one.npy", "--update")[2]
    before = Memory.open("mem").vectors(IMAGE)
    vectors *= 3
    vectors[4], vectors[7] = -vectors[4], 0
    np.save("two.npy", vectors)
    assert "9 already there" in cmcr(*command, "--from-vectors", "two.npy")[2]
    code, _, err = cmcr(*command, "--from-vectors", "two.npy", "--update")
    assert code == 0 and "1 of them in place of older content, 8 already there; it holds 9" in err, err
    memory = Memory.open("mem")
    assert memory.ids(IMAGE) == ["0", "1", "2", "3", "5", "6", "7", "8", "4"] and memory.verify() == []
    np.testing.assert_array_equal(memory.vectors(IMAGE)[:8], np.delete(before, 4, axis=0))
    np.testing.assert_allclose(memory.vectors(IMAGE, [8]), -before[4:5], atol=1e-6)
