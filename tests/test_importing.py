"""Vectors made elsewhere: a .npy with ids, a clip-retrieval folder."""

import hashlib
import sys

import numpy as np
import pytest

from cmcr.embed import import_clip_retrieval, import_vectors
from cmcr.embed.vectors import ImportedVectors
from cmcr.encoders.base import Encoder
from cmcr.errors import ArtifactError, InputError, MissingExtraError
from cmcr.items import Item, text_item
from cmcr.memory import Memory
from cmcr.modality import Modality

TEXT, IMAGE, AUDIO = Modality.TEXT, Modality.IMAGE, Modality.AUDIO


def vectors(count=7, dim=5):
    return np.random.default_rng(3).normal(size=(count, dim)).astype(np.float32)


@pytest.fixture
def imported(tmp_path):
    """Write vectors.npy, ids.txt and texts.txt, and return a call that imports them."""
    np.save(tmp_path / "vectors.npy", vectors())
    (tmp_path / "ids.txt").write_text("".join(f"id {n}\n" for n in range(7)))
    (tmp_path / "texts.txt").write_text("".join(f"text {n}\n" for n in range(7)))

    def call(**options):
        options = {"encoder_name": "big-clip", "modality": TEXT, "shard_size": 3} | options
        return import_vectors(tmp_path / "vectors.npy", tmp_path / "ids.txt", tmp_path / "mem", **options)

    return call


def test_imported_vectors_are_rows_like_others(tmp_path, imported, folder_bytes):
    report = imported(sources=tmp_path / "texts.txt", dtype="float32")
    memory = Memory.open(tmp_path / "mem")
    assert (report.embedded, memory.encoder.fingerprint, memory.encoder.dim) == (7, "imported:big-clip", 5)
    expected = vectors() / np.linalg.norm(vectors(), axis=1, keepdims=True)
    np.testing.assert_allclose(memory.vectors(TEXT), expected, atol=1e-6)
    row = memory.row(TEXT, 4)
    assert (row.id, row.text) == ("id 4", "text 4") and memory.verify() == []
    assert row.hash == hashlib.sha256(text_item("text 4", "").read()).hexdigest()  # joins rows that were embedded
    before = folder_bytes(tmp_path / "mem")
    assert imported(sources=tmp_path / "texts.txt").already == 7 and folder_bytes(tmp_path / "mem") == before


def test_imported_vectors_without_content_have_no_hash(tmp_path, imported):
    assert imported(modality=AUDIO, fingerprint="abc").embedded == 7
    memory = Memory.open(tmp_path / "mem")
    assert memory.encoder.fingerprint == "abc"
    assert {(row.hash, row.text) for row in memory.metadata(AUDIO)} == {(None, None)}
    assert imported(modality=AUDIO, fingerprint="abc").already == 7


def test_imported_paths_are_found_from_the_memory(tmp_path, imported, write_files):
    photos = write_files("photos", "image", 7)
    (tmp_path / "paths.txt").write_text("".join(f"photos/{n:03d}.png\n" for n in range(7)))
    imported(modality=IMAGE, sources=tmp_path / "paths.txt")
    memory = Memory.open(tmp_path / "mem")
    assert memory.source_path(memory.row(IMAGE, 2)).samefile(photos / "002.png")


def test_unusable_imported_vectors_are_skipped_and_can_be_mended(tmp_path, imported):
    damaged = vectors()
    damaged[2], damaged[5, 0] = 0, np.nan
    np.save(tmp_path / "vectors.npy", damaged)
    report = imported()
    assert (report.embedded, [skip.id for skip in report.skipped]) == (5, ["id 2", "id 5"])
    np.save(tmp_path / "vectors.npy", vectors())
    assert imported().embedded == 0
    assert imported(retry_skipped=True).embedded == 2


IMPORT_FAILURES = [
    (lambda f: (f / "vectors.npy").unlink(), "no such file; expected a .npy"),
    (lambda f: (f / "vectors.npy").write_bytes(b""), "not a readable .npy"),
    (lambda f: (f / "vectors.npy").write_bytes((f / "vectors.npy").read_bytes()[:-3]), "not a readable .npy"),
    (lambda f: np.save(f / "vectors.npy", np.array([[{}]]), allow_pickle=True), "not a readable .npy"),
    (lambda f: np.save(f / "vectors.npy", np.zeros(7)), r"float64 of shape \(7,\); expected floats of shape \(rows"),
    (lambda f: np.save(f / "vectors.npy", np.zeros((7, 3), int)), r"int64 of shape \(7, 3\)"),
    (lambda f: np.savez(f / "x", a=np.zeros(3)) or (f / "x.npz").rename(f / "vectors.npy"), "not a readable .npy"),
    (lambda f: (f / "ids.txt").unlink(), "ids.txt: no such file"),
    (lambda f: (f / "ids.txt").write_text("a\nb\n"), "2 ids for the 7 rows"),
    (lambda f: (f / "ids.txt").write_text("a\n" * 7), "'a' stands there twice"),
    (lambda f: (f / "ids.txt").write_text("a\n\nb\n"), "ids.txt:2: a blank line"),
    (lambda f: (f / "ids.txt").write_bytes(b"caf\xe9\n"), "not UTF-8"),
    (lambda f: (f / "texts.txt").write_text("a\n"), "1 lines for 7 ids"),
]


@pytest.mark.parametrize(("damage", "message"), IMPORT_FAILURES)
def test_imports_that_cannot_be_are_refused_in_one_line(tmp_path, imported, damage, message):
    damage(tmp_path)
    with pytest.raises(InputError, match=message) as caught:
        imported(sources=tmp_path / "texts.txt")
    assert "\n" not in str(caught.value) and not (tmp_path / "mem").exists()


def test_a_repeated_id_among_many_is_named(tmp_path):
    ids = [f"id {n}" for n in range(40_000)]
    np.save(tmp_path / "v.npy", np.ones((len(ids), 2), np.float16))
    for repeats in ("id 0", "id 39998"):  # a look at all ids before, for each, would take minutes
        (tmp_path / "ids.txt").write_text("\n".join([*ids[:-1], repeats]))
        with pytest.raises(InputError, match=f"'{repeats}' stands there twice"):
            import_vectors(tmp_path / "v.npy", tmp_path / "ids.txt", tmp_path / "mem", encoder_name="x", modality=IMAGE)


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_ids_and_sources_are_lines_of_any_system(tmp_path, imported, end):
    (tmp_path / "ids.txt").write_bytes("".join(f"id\x85 {n}{end}" for n in range(7)).encode())
    (tmp_path / "texts.txt").write_bytes(end.join(["a", "nan", "c\u2028c", "None", "e", "f", "null"]).encode())
    report = imported(sources=tmp_path / "texts.txt")
    memory = Memory.open(tmp_path / "mem")
    assert [(row.id, row.text) for row in memory.metadata(TEXT)] == [
        ("id\x85 0", "a"), ("id\x85 2", "c\u2028c"), ("id\x85 4", "e"), ("id\x85 5", "f")
    ]  # fmt: skip
    assert [(skip.id, skip.reason) for skip in report.skipped] == [
        ("id\x85 1", "no text: its line is 'nan'"),
        ("id\x85 3", "no text: its line is 'None'"),
        ("id\x85 6", "no text: its line is 'null'"),
    ]
    assert imported(modality=IMAGE, sources=tmp_path / "texts.txt").embedded == 7  # a path may be called anything


def test_import_into_another_encoders_memory_is_refused(tmp_path, imported):
    imported()
    with pytest.raises(ArtifactError, match=r"belongs to encoder 'big-clip'.*not to 'other'"):
        imported(encoder_name="other")


@pytest.fixture
def clip_retrieval(tmp_path):
    """Write a folder as clip-retrieval does: two partitions, images and texts, float16, parquet."""
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    root = tmp_path / "embeddings"
    for folder in ("img_emb", "text_emb", "metadata"):
        (root / folder).mkdir(parents=True)
    for number, (start, stop) in enumerate([(0, 3), (3, 7)]):
        np.save(root / f"img_emb/img_emb_{number}.npy", vectors()[start:stop].astype(np.float16))
        np.save(root / f"text_emb/text_emb_{number}.npy", vectors(7)[start:stop] * 2)
        table = {
            "image_path": [f"pics/{n}.jpg" for n in range(start, stop)],
            "caption": [f"text {n}" for n in range(start, stop)],
        }
        parquet.write_table(pa.table(table), root / f"metadata/metadata_{number}.parquet")
    return root


def test_clip_retrieval_folder(tmp_path, clip_retrieval):
    images, captions = import_clip_retrieval(clip_retrieval, tmp_path / "mem", encoder_name="clip", shard_size=2)
    memory = Memory.open(tmp_path / "mem")
    assert (images.embedded, captions.embedded) == (7, 7) and memory.modalities == (IMAGE, TEXT)
    assert memory.ids(IMAGE) == memory.ids(TEXT) == [f"pics/{n}" for n in range(7)]
    assert memory.row(IMAGE, 5).source == "pics/5.jpg" and memory.row(TEXT, 5).text == "text 5"
    expected = vectors() / np.linalg.norm(vectors(), axis=1, keepdims=True)
    np.testing.assert_allclose(memory.vectors(IMAGE), expected, atol=2e-3)
    again = import_clip_retrieval(clip_retrieval, tmp_path / "mem", encoder_name="clip", modality=TEXT)
    assert [report.already for report in again] == [7]


def test_cells_of_a_clip_retrieval_folder(tmp_path, clip_retrieval):
    import pyarrow as pa
    from pyarrow import parquet

    folder = clip_retrieval / "metadata"
    captions = {
        0: pa.array([["a", "b"], ["c"], None]),
        1: pa.array(["nan", None, "", "a dog"], pa.string()),
    }
    keys = {0: pa.array([1.0, float("nan"), 3.0]), 1: pa.array([10, 11, None, 13], pa.int64())}
    for number, caption in captions.items():
        table = pa.table({"key": keys[number], "image_path": pa.nulls(len(caption), pa.string()), "caption": caption})
        parquet.write_table(table, folder / f"metadata_{number}.parquet")
    images, texts = import_clip_retrieval(clip_retrieval, tmp_path / "mem", encoder_name="clip")
    memory = Memory.open(tmp_path / "mem")
    assert memory.ids(IMAGE) == ["1", "3", "10", "11", "5", "13"]
    assert [(row.id, row.text) for row in memory.metadata(TEXT)] == [("10", "nan"), ("13", "a dog")]
    assert [(skip.id, skip.reason) for skip in images.skipped] == [("1", "has the same id as embeddings:1")]
    assert [(skip.id, skip.reason) for skip in texts.skipped] == [
        ("1", "no text in this record: caption is a list of 2; expected one text"),
        ("1", "no text in this record: caption is a list of 1; expected one text"),
        ("3", "no text in this record: caption is null"),
        ("11", "no text in this record: caption is null"),
        ("5", "no text in this record"),
    ]
    flags = pa.table({"key": [True, False, True], "caption": [b"a", b"b", b"\xff"]})
    parquet.write_table(flags, folder / "metadata_0.parquet")
    (texts,) = import_clip_retrieval(clip_retrieval, tmp_path / "other", encoder_name="clip", modality=TEXT)
    assert texts.reasons()[0] == ("no id in this record: key is true; expected one text", 2)


def test_a_damaged_parquet_file_is_named(tmp_path, clip_retrieval):
    path = clip_retrieval / "metadata/metadata_0.parquet"
    for damage in (b"", b"PAR1 no parquet PAR1", path.read_bytes()[:-30]):
        path.write_bytes(damage)
        with pytest.raises(InputError, match=r"metadata_0\.parquet: cannot be read as parquet"):
            import_clip_retrieval(clip_retrieval, tmp_path / "mem", encoder_name="clip")


def test_clip_retrieval_folder_without_metadata(tmp_path, clip_retrieval):
    for path in (clip_retrieval / "metadata").iterdir():
        path.unlink()
    import_clip_retrieval(clip_retrieval, tmp_path / "mem", encoder_name="clip")
    assert Memory.open(tmp_path / "mem").ids(IMAGE) == [str(n) for n in range(7)]


def test_clip_retrieval_folder_that_does_not_fit(tmp_path, clip_retrieval, monkeypatch):
    with pytest.raises(InputError, match="not a clip-retrieval folder; looked for img_emb"):
        import_clip_retrieval(tmp_path, tmp_path / "mem", encoder_name="clip")
    with pytest.raises(InputError, match="looked for audio"):
        import_clip_retrieval(clip_retrieval, tmp_path / "mem", encoder_name="clip", modality=AUDIO)
    np.save(clip_retrieval / "img_emb/img_emb_1.npy", vectors()[:2])
    with pytest.raises(InputError, match=r"metadata_1.parquet: 4 rows for the 2 vectors of .*img_emb_1.npy"):
        import_clip_retrieval(clip_retrieval, tmp_path / "mem", encoder_name="clip")
    (clip_retrieval / "metadata/metadata_1.parquet").unlink()
    with pytest.raises(InputError, match="2 vector files and 1 metadata files"):
        import_clip_retrieval(clip_retrieval, tmp_path / "mem", encoder_name="clip")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingExtraError, match=r"cmcr\[parquet\]"):
        import_clip_retrieval(clip_retrieval, tmp_path / "mem", encoder_name="clip")


def test_imported_vectors_honour_the_protocol():
    encoder: Encoder = ImportedVectors("x", None, TEXT, [vectors(2), vectors(3)], list("abcde"))
    found = encoder.encode(TEXT, [encoder.prepare(Item(key, TEXT, ""), b"") for key in "eab"])
    np.testing.assert_array_equal(found, np.stack([vectors(3)[2], vectors(2)[0], vectors(2)[1]]))
    assert encoder.modalities == (TEXT,) and encoder.dim == 5
