"""The memory on disk: what is written is read back, what is edited or broken is said, nothing half-written counts."""

import errno
import hashlib
import json
import os
import tarfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmcr.errors import ArtifactError, InputError
from cmcr.memory import EncoderInfo, Memory, MemoryWriter, Row, Skip
from cmcr.modality import Modality

TEXT, IMAGE = Modality.TEXT, Modality.IMAGE
INFO = EncoderInfo("some-clip", "f" * 64, 6)


def unit(count, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(count, 6))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def rows(count, start=0):
    return [Row(f"id {n}", f"texts.txt:{n}", f"{n:064d}", f"text é {n}\u2028") for n in range(start, start + count)]


def build(path, sizes=(5, 3, 4), modality=TEXT, **options):
    vectors, start = unit(sum(sizes)), 0
    with MemoryWriter(path, INFO, **options) as writer:
        for size in sizes:
            skip = Skip(f"bad {start}", modality, "texts.txt:99", None, "empty text")
            writer.append(modality, vectors[start : start + size] * 3, rows(size, start), [skip])
            start += size
    return vectors


@pytest.fixture
def memory(tmp_path):
    build(tmp_path / "mem")
    return tmp_path / "mem"


@pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 1e-3), ("float32", 1e-6), ("int8", 6e-3)])
def test_what_is_written_is_read_back(tmp_path, dtype, tolerance):
    vectors = build(tmp_path / "mem", dtype=dtype)
    memory = Memory.open(tmp_path / "mem")
    assert (memory.encoder, memory.dtype, memory.normalized) == (INFO, dtype, True)
    assert memory.modalities == (TEXT,) and memory.rows(TEXT) == 12 and memory.rows(IMAGE) == 0
    assert list(memory.metadata(TEXT)) == rows(12) and memory.ids(TEXT) == [f"id {n}" for n in range(12)]
    assert memory.row(TEXT, 7) == rows(12)[7]
    read = memory.vectors(TEXT)
    assert read.dtype == np.float32
    np.testing.assert_allclose(read, vectors, atol=tolerance)
    np.testing.assert_allclose(np.linalg.norm(read, axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(memory.vectors(TEXT, [11, 0, 7, 7]), read[[11, 0, 7, 7]])
    assert memory.vectors(TEXT, []).shape == (0, 6)
    assert [skip.id for skip in memory.skipped()] == ["bad 0", "bad 5", "bad 8"]
    assert memory.verify() == []


@given(st.lists(st.integers(1, 6), min_size=1, max_size=5), st.integers(1, 9))
def test_blocks_are_the_rows_whatever_the_shards_and_the_block_size(tmp_path_factory, sizes, size):
    path = tmp_path_factory.mktemp("m") / "mem"
    build(path, sizes)
    memory = Memory.open(path)
    blocks = list(memory.blocks(TEXT, size))
    assert all(1 <= len(block) <= size for block in blocks)
    np.testing.assert_array_equal(np.concatenate(blocks), memory.vectors(TEXT))


def test_folder_has_the_names_neighbours_read(memory):
    found = {path.relative_to(memory).as_posix() for path in memory.rglob("*") if path.is_file()}
    shards = {f"text_emb/text_emb_000{n}.npy" for n in range(3)} | {f"metadata/text_000{n}.jsonl" for n in range(3)}
    assert found == shards | {"manifest.json", "skipped.jsonl", ".lock"}
    assert np.load(memory / "text_emb/text_emb_0001.npy").dtype == np.float16


def test_fingerprint_changes_with_every_row_and_the_encoder(tmp_path):
    prints = set()
    for name, sizes in (("a", (2,)), ("b", (3,)), ("c", (1, 2))):
        build(tmp_path / name, sizes)
        prints.add(Memory.open(tmp_path / name).fingerprint(TEXT))
    build(tmp_path / "again", (2,))
    assert len(prints) == 3 and Memory.open(tmp_path / "again").fingerprint(TEXT) in prints


def test_absent_modality_and_rows(memory):
    opened = Memory.open(memory)
    with pytest.raises(ArtifactError, match="holds no image; it holds text"):
        opened.vectors(IMAGE)
    with pytest.raises(IndexError, match="holds 12 text rows"):
        opened.vectors(TEXT, [12])
    with pytest.raises(IndexError):
        opened.row(TEXT, -1)


def test_sources_are_found_from_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").write_bytes(b"picture")
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        tar.add(tmp_path / "a.png", "in/a.png")
    build(tmp_path / "mem")
    memory = Memory.open(tmp_path / "mem")
    file, member = Row("a", "../a.png", None, None), Row("a", "../x.tar!in/a.png", None, None)
    assert memory.source_path(file).samefile(tmp_path / "a.png") and memory.source_path(member) is None
    assert memory.source_bytes(file) == memory.source_bytes(member) == b"picture"
    assert memory.source_bytes(rows(1)[0]) == rows(1)[0].text.encode()
    assert memory.source_bytes(Row("a", "../gone.png", None, None)) is None
    assert memory.source_bytes(Row("a", "../x.tar!gone", None, None)) is None


def edit(change):
    def damage(path):
        manifest = json.loads((path / "manifest.json").read_text())
        change(manifest)
        (path / "manifest.json").write_text(json.dumps(manifest))

    return damage


def put(name, data):
    return lambda path: (path / name).write_bytes(data)


def shard(manifest):
    return manifest["modalities"]["text"][0]


UNOPENABLE = [
    (lambda path: (path / "manifest.json").unlink(), "holds no manifest.json; expected a memory"),
    (put("manifest.json", b""), "not JSON"),
    (put("manifest.json", b"\xff\xfe"), "not JSON"),
    (put("manifest.json", b"[]"), "not the manifest of a memory"),
    (edit(lambda m: m.update(format="other")), "not the manifest of a memory"),
    (edit(lambda m: m.update(version=3)), "memory version 3; this cmcr reads versions 1 and 2"),
    (edit(lambda m: m.pop("dtype")), "damaged .no 'dtype'"),
    (edit(lambda m: m.update(dtype="int4")), "dtype 'int4', expected float16 or float32 or int8"),
    (edit(lambda m: m["encoder"].update(dim=-1)), "dim -1"),
    (edit(lambda m: m["encoder"].pop("name")), "damaged"),
    (edit(lambda m: m.update(encoder="clip")), "damaged"),
    (edit(lambda m: m["modalities"].update({"../smell": []})), "'../smell': expected image, text"),
    (edit(lambda m: m.update(modalities=[])), "damaged"),
    (edit(lambda m: shard(m).update(vectors="../../etc/passwd")), r"file '../../etc/passwd'"),
    (edit(lambda m: shard(m).update(rows="5")), r"text\[0\].rows is '5', expected a whole number"),
    (edit(lambda m: shard(m).update(sha256=None)), "sha256 is None, expected text"),
    (edit(lambda m: shard(m).update(extra=1)), "damaged"),
    (edit(lambda m: m.update(skipped=-1)), "skipped -1"),
]


@pytest.mark.parametrize(("damage", "message"), UNOPENABLE)
def test_edited_manifest_is_refused_in_one_line(memory, damage, message):
    damage(memory)
    with pytest.raises(ArtifactError, match=message) as caught:
        Memory.open(memory)
    assert "\n" not in str(caught.value)


def test_missing_memory(tmp_path):
    with pytest.raises(ArtifactError, match="nowhere: does not exist"):
        Memory.open(tmp_path / "nowhere")


def npy(array):
    return lambda path: np.save(path / "text_emb/text_emb_0000.npy", array)


def line(text):
    return put("metadata/text_0000.jsonl", (text + "\n").encode() * 5)


HALF = unit(5).astype(np.float16)
UNREADABLE = [
    (lambda path: (path / "text_emb/text_emb_0000.npy").unlink(), "No such file"),
    (put("text_emb/text_emb_0000.npy", b"\x93NUMPY"), "damaged"),
    (npy(HALF[:4]), r"float16 of shape \(4, 6\); the manifest says float16 of \(5, 6\)"),
    (npy(HALF.astype(np.float64)), "float64 of shape"),
    (lambda path: np.save(path / "text_emb/text_emb_0000.npy", [{}] * 5, allow_pickle=True), "damaged"),
    (npy(HALF * np.float16(np.nan)), "non-finite or zero vectors; see cmcr info --verify"),
    (npy(HALF * np.float16(0)), "non-finite or zero"),
    (edit(lambda m: shard(m).update(rows=4)), "the manifest says float16 of"),
    (lambda path: (path / "metadata/text_0000.jsonl").unlink(), "No such file"),
    (put("metadata/text_0000.jsonl", b'{"id": "a", "source": "s"}\n'), "1 lines; the manifest says 5 rows"),
    (line("not json"), "damaged"),
    (line("[]"), "not an object"),
    (line('{"source": "s"}'), "a row without id"),
    (put("skipped.jsonl", b""), "0 lines; the manifest says 3"),
    (put("skipped.jsonl", b"{}\n" * 3), "not a skip record"),
]


@pytest.mark.parametrize(("damage", "message"), UNREADABLE)
def test_damaged_files_are_named_when_read_and_by_verify(memory, damage, message):
    damage(memory)
    opened = Memory.open(memory)
    with pytest.raises(ArtifactError, match=message):
        list(opened.blocks(TEXT))
        list(opened.metadata(TEXT))
        opened.skipped()
    assert opened.verify()


def rehash(change):
    """Damage that the hashes do not show: the manifest is edited along."""

    def damage(path):
        import hashlib

        change(path)
        files = [path / "text_emb/text_emb_0000.npy", path / "metadata/text_0000.jsonl"]
        digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
        edit(lambda m: shard(m).update(sha256=digests[0], metadata_sha256=digests[1]))(path)

    return damage


PROBLEMS = [
    (npy(unit(5, seed=1).astype(np.float16)), "text_emb/text_emb_0000.npy: its sha256 is not the manifest's"),
    (line('{"id": "id 0", "source": "s"}'), "metadata/text_0000.jsonl: its sha256 is not the manifest's"),
    (rehash(npy(HALF * np.float16(2))), "5 rows are not of norm 1"),
    (rehash(npy(HALF * np.float16(np.inf))), "5 rows are not finite"),
    (rehash(line('{"id": "same", "source": "s"}')), "text: 4 ids are not unique"),
    (put("text_emb/text_emb_0007.npy", b""), "text_emb/text_emb_0007.npy: left over, not named by the manifest"),
    (put("metadata/.text_0003.jsonl.partial", b""), "metadata/.text_0003.jsonl.partial: left over"),
]


@pytest.mark.parametrize(("damage", "problem"), PROBLEMS)
def test_verify_names_each_problem_in_a_line(memory, damage, problem):
    damage(memory)
    assert any(problem in found and "\n" not in found for found in Memory.open(memory).verify())


def test_writer_removes_what_an_interrupted_run_left(memory, folder_bytes):
    whole = folder_bytes(memory)
    for name in ("text_emb/text_emb_0003.npy", "metadata/.text_0003.jsonl.partial", ".manifest.json.partial"):
        (memory / name).write_bytes(b"half")
    with (memory / "skipped.jsonl").open("ab") as file:
        file.write(b'{"id": "not comm')
    (memory / "index.faiss").write_bytes(b"someone else's")
    with MemoryWriter(memory, INFO):
        pass
    assert folder_bytes(memory) == whole | {"index.faiss": b"someone else's"}


def test_second_writer_is_refused(memory):
    with MemoryWriter(memory, INFO), pytest.raises(ArtifactError, match="another run is writing"):
        MemoryWriter(memory, INFO).__enter__()
    with MemoryWriter(memory, INFO):
        pass


@pytest.mark.parametrize(
    ("info", "dtype", "message"),
    [
        (EncoderInfo("other", "0" * 64, 6), None, "belongs to encoder 'some-clip' .*ffff.* not to 'other' .*0000"),
        (EncoderInfo("some-clip", "0" * 64, 6), None, "belongs to encoder 'some-clip'"),
        (INFO, "float32", "stores float16, not float32"),
    ],
)
def test_other_encoder_or_dtype_is_refused_and_changes_nothing(memory, folder_bytes, info, dtype, message):
    before = folder_bytes(memory)
    with pytest.raises(ArtifactError, match=message):
        MemoryWriter(memory, info, dtype).__enter__()
    assert folder_bytes(memory) == before


def test_places_that_are_no_memory(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.jpg").write_bytes(b"x")
    with pytest.raises(ArtifactError, match=r"not empty and not a memory \(holds 'a.jpg'\); choose a new folder"):
        MemoryWriter(tmp_path / "photos", INFO).__enter__()
    with pytest.raises(ArtifactError, match=r"a.jpg: is a file; choose a folder"):
        MemoryWriter(tmp_path / "photos/a.jpg", INFO).__enter__()
    with pytest.raises(InputError, match="dtype 'int4'; expected float16 or float32 or int8"):
        MemoryWriter(tmp_path / "new", INFO, "int4")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("vectors", [unit(2), unit(3)[:, :5], unit(3) * 0, unit(3) * np.nan])
def test_writer_stores_only_what_it_should(tmp_path, vectors):
    with MemoryWriter(tmp_path / "mem", INFO) as writer:
        with pytest.raises(ValueError, match="vectors"):
            writer.append(TEXT, vectors, rows(3))
        assert writer.memory.rows(TEXT) == 0


@pytest.mark.parametrize("call", range(1, 5))
def test_full_disk_in_the_middle_of_a_shard_loses_nothing(memory, folder_bytes, monkeypatch, call):
    before, real, calls = folder_bytes(memory), os.fsync, []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) == call:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    skip = Skip("bad", TEXT, "texts.txt:1", None, "empty text")
    with MemoryWriter(memory, INFO) as writer, pytest.raises(OSError, match=r"No space left.*mem"):
        writer.append(TEXT, unit(2), rows(2, 12), [skip])
    monkeypatch.undo()
    assert Memory.open(memory).rows(TEXT) == 12 and Memory.open(memory).vectors(TEXT).shape == (12, 6)
    with MemoryWriter(memory, INFO) as writer:
        assert folder_bytes(memory) == before
        writer.append(TEXT, unit(2), rows(2, 12), [skip])
    assert Memory.open(memory).verify() == [] and Memory.open(memory).rows(TEXT) == 14


def test_verify_reads_the_indexes_beside_the_vectors(memory):
    (memory / "index").mkdir()
    index = memory / "index" / "a-text-ivf.faiss"
    index.write_bytes(b"lists")
    index.with_suffix(".json").write_text(json.dumps({"sha256": hashlib.sha256(b"lists").hexdigest()}))
    assert Memory.open(memory).verify() == []
    index.write_bytes(b"lost")
    (memory / "index" / ".b.faiss.partial").write_bytes(b"")
    (memory / "index" / "c.faiss").write_bytes(b"")
    first, second, third = Memory.open(memory).verify()
    assert first.startswith("index/a-text-ivf.faiss: its sha256 is not the one in its .json")
    assert second.startswith("index/c.faiss: its .json is missing or damaged")
    assert third.startswith("index/.b.faiss.partial: left by a cmcr index that did not end")


def test_a_row_reads_its_line_and_says_what_is_damaged(memory):
    path, opened = memory / "metadata" / "text_0001.jsonl", Memory.open(memory)
    assert [opened.row(TEXT, n) for n in (7, 5, 11, 0)] == [rows(12)[n] for n in (7, 5, 11, 0)]
    lines = path.read_bytes().splitlines(keepends=True)
    for data, words in (
        (b"".join(lines[:2]), "2 lines; the manifest says 3"),
        (lines[0] + b"3\n" + lines[2], "not an object"),
        (lines[0] + b"{}\n" + lines[2], "a row without id"),
        (lines[0] + b"{\n" + lines[2], "damaged"),
    ):
        path.write_bytes(data)
        with pytest.raises(ArtifactError, match=words):
            Memory.open(memory).row(TEXT, 6)
    path.unlink()
    with pytest.raises(ArtifactError, match="No such file"):
        Memory.open(memory).row(TEXT, 6)
