"""Memories that shrink: no reader sees removed rows, compacting keeps the rest, a kill at any step loses nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_memory import INFO, build, rows

from cmcr.cli import main
from cmcr.embed import compact, remove_rows
from cmcr.errors import ArtifactError, InputError
from cmcr.memory import Memory, MemoryWriter
from cmcr.modality import Modality

TEXT, IMAGE = Modality.TEXT, Modality.IMAGE


def removed(path, numbers, modality=TEXT):
    return remove_rows(path, [f"id {number}" for number in numbers], modality)


@settings(max_examples=15)
@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=4), st.sets(st.integers(0, 23)), st.integers(1, 9), st.booleans()
)
def test_every_reader_sees_the_rows_that_are_left_and_no_other(tmp_path_factory, sizes, gone, size, compacted):
    path = tmp_path_factory.mktemp("m") / "mem"
    build(path, sizes, dtype="float32")
    whole, total = Memory.open(path), sum(sizes)
    vectors, metadata = whole.vectors(TEXT), list(whole.metadata(TEXT))
    gone = sorted(number for number in gone if number < total)
    done = removed(path, gone)
    if compacted:
        compact(path)
    memory, left = Memory.open(path), [n for n in range(total) if n not in gone]
    assert dict(done.removed) == ({TEXT: len(gone)} if gone else {})
    assert memory.rows(TEXT) == len(left) and memory.modalities == ((TEXT,) if left else ())
    assert memory.verify() == [] and len(list(memory.skip_records())) == len(sizes)
    if not left:
        with pytest.raises(ArtifactError, match="holds no text; it holds nothing"):
            memory.vectors(TEXT)
        return
    np.testing.assert_array_equal(memory.vectors(TEXT), vectors[left])
    blocks = list(memory.blocks(TEXT, size))
    assert all(1 <= len(block) <= size for block in blocks)
    np.testing.assert_array_equal(np.concatenate(blocks), vectors[left])
    assert list(memory.metadata(TEXT)) == [metadata[n] for n in left] == [memory.row(TEXT, n) for n in range(len(left))]
    assert memory.sources(TEXT, {row.id for row in metadata}) == {metadata[n].id: metadata[n].source for n in left}
    order = list(range(len(left)))[::-2]
    np.testing.assert_array_equal(memory.vectors(TEXT, order), vectors[left][order])
    for beyond in (len(left), -1):
        with pytest.raises(IndexError, match=f"holds {len(left)} text rows"):
            memory.row(TEXT, beyond)
        with pytest.raises(IndexError):
            memory.vectors(TEXT, [beyond])


def test_nothing_is_rewritten_but_a_list_and_the_manifest(tmp_path, folder_bytes):
    build(tmp_path / "mem")
    before = folder_bytes(tmp_path / "mem")
    prints = [Memory.open(tmp_path / "mem").fingerprint(TEXT)]
    for numbers in ([3], [3, 7, 7], [11]):
        removed(tmp_path / "mem", numbers)
        prints.append(Memory.open(tmp_path / "mem").fingerprint(TEXT))
    after = folder_bytes(tmp_path / "mem")
    assert len(set(prints)) == 4
    assert after.keys() - before.keys() == {"removed/text_0002.npy"}
    assert {name for name in before if after[name] != before[name]} == {"manifest.json"}
    assert np.load(tmp_path / "mem/removed/text_0002.npy").tolist() == [3, 7, 11]


def test_what_older_releases_cannot_read_says_version_2_and_the_rest_says_1(tmp_path):
    def version():
        return json.loads((tmp_path / "mem/manifest.json").read_text())["version"]

    build(tmp_path / "mem")
    assert version() == 1
    remove_rows(tmp_path / "mem", ["nobody"])
    assert version() == 1
    removed(tmp_path / "mem", [3])
    assert version() == 2
    build(tmp_path / "int8", dtype="int8")
    assert json.loads((tmp_path / "int8/manifest.json").read_text())["version"] == 2


def test_ids_are_found_in_their_joining_form_in_every_modality_and_the_rest_is_told(tmp_path):
    for modality in (TEXT, IMAGE):
        build(tmp_path / "mem", (4,), modality)
    done = remove_rows(tmp_path / "mem", [" id 1", "id 9", "id 2", "id 9"])
    assert (dict(done.removed), dict(done.left), done.unknown) == ({IMAGE: 2, TEXT: 2}, {IMAGE: 2, TEXT: 2}, ("id 9",))
    assert dict(removed(tmp_path / "mem", [0, 1], IMAGE).removed) == {IMAGE: 1}
    memory = Memory.open(tmp_path / "mem")
    assert (memory.ids(IMAGE), memory.ids(TEXT)) == (["id 3"], ["id 0", "id 3"])


def test_rows_come_after_removed_ones_and_a_name_is_never_used_for_other_content(tmp_path):
    path = tmp_path / "mem"
    vectors = build(path, (3, 2, 4))
    open_before = Memory.open(path)
    removed(path, [0, 3, 4])
    opened = Memory.open(path)
    removed(path, [8])
    assert opened.ids(TEXT) == [f"id {n}" for n in (1, 2, 5, 6, 7, 8)]  # as it was when it was opened
    compact(path)
    names = [
        shard["vectors"][-8:-4] for shard in json.loads((path / "manifest.json").read_text())["modalities"]["text"]
    ]
    assert names == ["0003", "0004"]
    with MemoryWriter(path, INFO) as writer:
        writer.append(TEXT, vectors[:2], rows(2, 20))
    memory = Memory.open(path)
    assert memory.ids(TEXT) == [f"id {n}" for n in (1, 2, 5, 6, 7, 20, 21)] and memory.verify() == []
    assert [shard.number for shard in memory.shards(TEXT)] == [3, 4, 5]
    for reader in (open_before, opened):
        with pytest.raises(ArtifactError, match="No such file"):
            reader.vectors(TEXT)
    removed(path, [5, 6, 7])
    compact(path)
    assert [shard.number for shard in Memory.open(path).shards(TEXT)] == [3, 5]  # one that held nothing else is gone


def test_a_memory_opened_while_rows_are_removed_is_opened_again(tmp_path, monkeypatch):
    path = tmp_path / "mem"
    build(path)
    removed(path, [1])
    real, calls = Memory._read_removed, []

    def late(memory):
        calls.append(memory)
        if len(calls) == 1:
            removed(path, [2])  # takes away the list that the manifest just read names
        real(memory)

    monkeypatch.setattr(Memory, "_read_removed", late)
    assert Memory.open(path).ids(TEXT)[:2] == ["id 0", "id 3"]


def npy(array):
    return lambda path: np.save(path / "removed/text_0000.npy", array)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: (path / "removed/text_0000.npy").unlink(), "No such file"),
        (npy(np.array([1, 4])), "its sha256 is not the manifest's"),
        (npy(np.arange(2000)), "damaged .more than"),
    ],
)
def test_a_damaged_list_is_refused_rather_than_rows_shown(tmp_path, damage, message):
    build(tmp_path / "mem")
    removed(tmp_path / "mem", [1, 3])
    damage(tmp_path / "mem")
    with pytest.raises(ArtifactError, match=message):
        Memory.open(tmp_path / "mem")


@pytest.mark.parametrize("numbers", [[3, 1], [1, 12], [-1, 1], [1, 1], [1.0, 3.0], [[1, 3]]])
def test_a_list_that_cannot_be_is_refused_also_with_the_right_hash(tmp_path, numbers):
    import hashlib

    build(tmp_path / "mem")
    removed(tmp_path / "mem", [1, 3])
    npy(np.array(numbers))(tmp_path / "mem")
    manifest = json.loads((tmp_path / "mem/manifest.json").read_text())
    manifest["removed"]["text"]["sha256"] = hashlib.sha256(
        (tmp_path / "mem/removed/text_0000.npy").read_bytes()
    ).hexdigest()
    (tmp_path / "mem/manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match=r"removed/text_0000.npy: damaged"):
        Memory.open(tmp_path / "mem")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m["removed"]["text"].update(numbers="../../text_0000.npy"), "file '../../text_0000.npy'"),
        (lambda m: m["removed"]["text"].update(rows=13), "13 removed rows"),
        (lambda m: m["removed"]["text"].update(rows=0), "0 removed rows"),
        (lambda m: m["removed"].update(image=m["removed"]["text"]), "file 'removed/text_0000.npy'"),
        (lambda m: m.update(written={"text": 2}), r"shards \[0, 1, 2\]"),
        (lambda m: m.update(removed=[]), "damaged"),
    ],
)
def test_an_edited_manifest_leads_nowhere(tmp_path, change, message):
    build(tmp_path / "mem")
    removed(tmp_path / "mem", [1, 3])
    manifest = json.loads((tmp_path / "mem/manifest.json").read_text())
    change(manifest)
    (tmp_path / "mem/manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match=message):
        Memory.open(tmp_path / "mem")


def test_a_damaged_shard_is_not_compacted_into_a_sound_one(tmp_path, folder_bytes):
    build(tmp_path / "mem")
    removed(tmp_path / "mem", [1])
    path = tmp_path / "mem/text_emb/text_emb_0000.npy"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    before = folder_bytes(tmp_path / "mem")
    with pytest.raises(ArtifactError, match=r"text_emb_0000.npy: its sha256 is not the manifest's"):
        compact(tmp_path / "mem")
    assert folder_bytes(tmp_path / "mem") == before


def test_a_memory_that_waits_for_other_processes_is_left_alone(tmp_path, fake_encoder):
    from cmcr.embed import Part, embed
    from cmcr.items import text_item, unique_items

    inputs = unique_items(TEXT, [text_item(f"{n} drums", "t", str(n)) for n in range(6)])
    embed(fake_encoder(), inputs, tmp_path / "mem", shard_size=2, part=Part(0, 2))
    with pytest.raises(ArtifactError, match="a run of several processes is unfinished"):
        remove_rows(tmp_path / "mem", ["0"])
    with pytest.raises(InputError, match="--update is for a run alone"):
        embed(fake_encoder(), inputs, tmp_path / "mem", shard_size=2, update=True)
    embed(fake_encoder(), inputs, tmp_path / "mem", shard_size=2, part=Part(1, 2))
    removed(tmp_path / "mem", [])
    assert dict(remove_rows(tmp_path / "mem", ["0", "5"]).removed) == {TEXT: 2}
    for rank in range(2):  # and comes back, also by several
        embed(fake_encoder(), inputs, tmp_path / "mem", shard_size=1, part=Part(rank, 2))
    assert Memory.open(tmp_path / "mem").ids(TEXT) == ["1", "2", "3", "4", "0", "5"]


@pytest.mark.slow
def test_killed_at_any_step_a_memory_has_its_rows_or_those_that_are_left(tmp_path, fake_encoder, write_files):
    photos = write_files("photos", "image", 6)
    for name in ("work", "killed"):
        (tmp_path / name).mkdir()
    script = Path(__file__).parent / "killed_rows.py"
    paths = os.pathsep.join([str(script.parent), str(script.parent.parent)])
    done = subprocess.run(
        [sys.executable, str(script), str(photos), str(tmp_path / "killed")],
        env=os.environ | {"PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    instants = json.loads(done.stdout)
    assert instants["remove"] > 4 and instants["compact"] > 8 and instants["update"] > 8, instants


@pytest.fixture
def cmcr(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return call


def test_remove_and_compact_as_a_user_meets_them(cmcr, tmp_path):
    build(tmp_path / "mem")
    (tmp_path / "list.txt").write_text("id 5\n\nid 99\n", "utf-8")
    code, out, err = cmcr("remove", "mem", "--ids", "id 0,id 1", "--ids", "id 2", "--ids-from", "list.txt")
    assert code == 0 and out.splitlines()[1].split("\t") == ["text", "4", "8"]
    assert "warning: 1 ids are not in mem: 'id 99'" in err and "next: cmcr compact mem" in err
    code, out, err = cmcr("remove", "mem", "--ids", "id 0")
    assert code == 1 and "nothing was removed" in err
    code, out, _ = cmcr("remove", "mem", "--ids", "id 3,id 0", "--strict", "--json")
    assert code == 1 and json.loads(out) == {
        "memory": "mem",
        "removed": {"text": 1},
        "rows": {"text": 7},
        "unknown": ["id 0"],
    }
    code, out, _ = cmcr("info", "mem", "--json")
    shown = json.loads(out)
    assert (shown["rows"], shown["removed"]) == ({"text": 7}, {"text": 5})
    assert cmcr("info", "mem", "--verify")[0] == 0
    code, _, err = cmcr("compact", "mem")
    assert code == 0 and "dropped 5 text" in err
    code, _, err = cmcr("compact", "mem")
    assert code == 0 and "nothing to do" in err
    assert "removed" not in json.loads(cmcr("info", "mem", "--json")[1]) and cmcr("info", "mem", "--verify")[0] == 0
    for arguments, words in (
        (("remove", "mem"), "expected --ids"),
        (("remove", "gone", "--ids", "a"), "does not exist"),
    ):
        code, _, err = cmcr(*arguments)
        assert code and words in err and "Traceback" not in err


def test_an_id_with_a_comma_is_found_as_it_stands(cmcr, tmp_path, fake_encoder):
    from cmcr.embed import embed
    from cmcr.items import text_item, unique_items

    embed(fake_encoder(), unique_items(TEXT, [text_item(each, "t", each) for each in ("a,b", "a", "b", "c")]), "mem")
    assert cmcr("remove", "mem", "--ids", "a,b")[0] == 0
    assert Memory.open("mem").ids(TEXT) == ["a", "b", "c"]
    assert cmcr("remove", "mem", "--ids", "a,b")[0] == 0
    assert Memory.open("mem").ids(TEXT) == ["c"]


def test_joining_exporting_galleries_and_row_names_do_not_see_removed_rows(tmp_path):
    from spaces import make_memory, make_space, texts

    from cmcr.ask import export_vectors
    from cmcr.ask.gallery import Gallery
    from cmcr.ask.row_names import find_row
    from cmcr.memory.overlap import join

    space = make_space()
    for name, gone in (("seer", ["t3", "t9"]), ("hearer", ["t0"])):
        make_memory(tmp_path / name, name, {TEXT: texts(20)})
        remove_rows(tmp_path / name, gone)
    seer, hearer = Memory.open(tmp_path / "seer"), Memory.open(tmp_path / "hearer")
    overlap, ids = join(seer, hearer), (seer.ids(TEXT), hearer.ids(TEXT))
    joined = [ids[0][row] for row in overlap.rows_a]
    assert joined == [ids[1][row] for row in overlap.rows_b] == [f"t{n}" for n in range(20) if n not in (0, 3, 9)]
    assert (overlap.only_a, overlap.only_b) == (1, 2)
    vectors, names = export_vectors(space, seer, TEXT, tmp_path / "out", "npy")
    assert names.read_text().splitlines() == ids[0] and len(np.load(vectors)) == 18
    gallery = Gallery(space, [seer, hearer], TEXT)
    assert sorted(gallery.ids(TEXT)) == sorted({*ids[0], *ids[1]}) and gallery.rows(TEXT) == 20
    assert find_row(f"{tmp_path / 'seer'}#t4").number == 3
    with pytest.raises(InputError, match="has no row 't3'"):
        find_row(f"{tmp_path / 'seer'}#t3")
