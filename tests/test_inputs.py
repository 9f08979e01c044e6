"""What becomes an item, in which order, under which id; what is refused, and how."""

import csv
import gzip
import hashlib
import io
import json
import os
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmcr.errors import InputError, ItemError
from cmcr.items import Item, item_from_query, read_inputs, read_items
from cmcr.modality import Modality

IMAGE, TEXT, AUDIO, CLOUD = Modality.IMAGE, Modality.TEXT, Modality.AUDIO, Modality.POINT_CLOUD


def touch(root, *names, data=b"x"):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return str(root)


def ids(found):
    return [item.id for item in found.items]


def make_tar(path, members):
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            if data is None:
                info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
                tar.addfile(info)
            else:
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return str(path)


def test_folder_is_recursive_sorted_and_keyed_without_suffix(tmp_path):
    source = touch(
        tmp_path, "b/2.JPG", "b/10.png", "a.webp", ".hidden.png", ".cache/x.png", "notes.md", "deep/er/z.jpeg"
    )
    found = read_items(source, None, (IMAGE, AUDIO))
    assert found.modality is IMAGE and found.ignored == {".md": 1}
    assert ids(found) == ["a", "b/10", "b/2", "deep/er/z"]
    assert found.items[0].source == f"{source}/a.webp" and found.items[0].read() == b"x"


def test_photo_and_caption_of_one_name_share_an_id(tmp_path):
    source = touch(tmp_path, "a/b.jpg", "a/b.txt", data=b" a dog\n")
    photos, captions = read_items(source, IMAGE, (IMAGE, TEXT)), read_items(source, TEXT, (IMAGE, TEXT))
    assert ids(photos) == ids(captions) == ["a/b"]
    assert captions.items[0].read() == b"a dog"


def test_second_file_of_one_id_is_a_problem_not_a_row(tmp_path):
    first, second = read_items(touch(tmp_path, "a.jpg", "a.png"), None, (IMAGE,)).items
    assert first.problem is None
    with pytest.raises(ItemError, match=r"same id as .*a\.jpg"):
        second.read()


def test_modality_must_be_the_only_one_there(tmp_path):
    source = touch(tmp_path, "a.jpg", "b.txt", "c.wav")
    assert read_items(source, None, (AUDIO, CLOUD)).modality is AUDIO
    with pytest.raises(InputError, match="holds 1 image and 1 text files; choose one with --modality image"):
        read_items(source, None, (IMAGE, TEXT))


def test_glob_is_keyed_from_its_fixed_part(tmp_path):
    touch(tmp_path, "x/a.jpg", "x/y/b.jpg", "x/c.png", "z/d.jpg")
    assert ids(read_items(f"{tmp_path}/x/**/*.jpg", None, (IMAGE,))) == ["a", "y/b"]
    assert ids(read_items(f"{tmp_path}/*/*.jpg", None, (IMAGE,))) == ["x/a", "z/d"]


def test_single_file(tmp_path):
    touch(tmp_path, "dog.wav")
    assert ids(read_items(f"{tmp_path}/dog.wav", None, (AUDIO, TEXT))) == ["dog"]


def test_txt_clouds_only_when_the_modality_is_given(tmp_path):
    source = touch(tmp_path, "chair.txt", data=b"1 2 3")
    assert ids(read_items(source, CLOUD, (CLOUD, IMAGE))) == ["chair"]
    with pytest.raises(InputError, match="no usable files"):
        read_items(source, None, (CLOUD, IMAGE))


def test_text_file_has_an_item_a_line(tmp_path):
    path = tmp_path / "texts.txt"
    path.write_bytes(b"\xef\xbb\xbfa dog\r\n\n  a cat \na dog\n")
    found = read_items(str(path), None, (TEXT, IMAGE))
    assert [(item.text, item.source) for item in found.items] == [("a dog", "texts.txt:1"), ("a cat", "texts.txt:3")]
    assert found.duplicates == 1
    assert ids(found)[0] == "t-" + hashlib.sha256(b"a dog").hexdigest()[:16]


def test_stdin(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"one\ntwo\n")))
    assert [item.source for item in read_items("-", None, (TEXT,)).items] == ["stdin:1", "stdin:2"]
    with pytest.raises(InputError, match="needs text, not image"):
        read_items("-", None, (IMAGE,))


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n\0"), min_size=1)), st.data())
def test_inserting_a_line_changes_no_other_id(tmp_path_factory, lines, data):
    path = tmp_path_factory.mktemp("texts") / "t.txt"
    lines.append("one line at least")
    path.write_bytes("\n".join(lines).encode())
    before = {item.text: item.id for item in read_items(str(path), None, (TEXT,)).items}
    lines.insert(data.draw(st.integers(0, len(lines))), "a new line")
    path.write_bytes("\n".join(lines).encode())
    after = {item.text: item.id for item in read_items(str(path), None, (TEXT,)).items}
    assert before.items() <= after.items() and len(set(after.values())) == len(after)


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".tsv"])
def test_manifest(tmp_path, suffix):
    touch(tmp_path, "pics/1.jpg", data=b"one")
    records = [
        {"id": "first", "image": "pics/1.jpg", "caption": "a dog, asleep"},
        {"image": "pics/2.jpg", "caption": ""},
    ]
    path = tmp_path / f"list{suffix}"
    with path.open("w", newline="") as file:
        if suffix == ".jsonl":
            file.writelines(json.dumps(record) + "\n\n" for record in records)
        else:
            writer = csv.DictWriter(file, ["id", "image", "caption"], delimiter="\t" if suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(records)
    photos = read_items(str(path), IMAGE, (IMAGE, TEXT))
    assert ids(photos) == ["first", "pics/2"] and photos.items[0].read() == b"one"
    texts = read_items(str(path), None, (TEXT, AUDIO))
    first = texts.items[0]
    assert (first.id, first.text, first.problem) == ("first", "a dog, asleep", None)
    assert texts.items[1].problem == "no text in this record"
    with pytest.raises(InputError, match="holds image and text; choose one with --modality image"):
        read_items(str(path), None, (IMAGE, TEXT))


def test_manifest_with_a_path_column_goes_by_its_suffixes(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("path\nsounds/a.wav\nsounds/b.wav\n")
    assert ids(read_items(str(path), None, (AUDIO, TEXT))) == ["sounds/a", "sounds/b"]
    with pytest.raises(InputError, match=r"no usable column; looked for .*image_path.*; saw path"):
        read_items(str(path), None, (IMAGE,))


def test_bad_records_are_problems_and_the_rest_goes_on(tmp_path):
    path = tmp_path / "list.jsonl"
    path.write_text('{"text": "fine"}\n{"text": \n[1]\n{"text": "\\ud800"}\n{"text": "also fine", "id": 7}\n')
    items = read_items(str(path), None, (TEXT,)).items
    assert [item.problem is None for item in items] == [True, False, False, False, True]
    assert items[4].id == "7" and items[1].source == "list.jsonl:2" and "not JSON" in items[1].problem
    json.dumps([item.id for item in items]).encode()


def test_webdataset_members_are_read_in_place(tmp_path):
    members = [("b.jpg", b"B" * 700), ("b.txt", b"bee"), ("sub.d/a.png", b"A"), ("a.thumb.jpg", b"t")]
    source = make_tar(tmp_path / "0.tar", members)
    found = read_items(source, IMAGE, (IMAGE, TEXT))
    assert [(item.id, item.read()) for item in found.items] == [("b", b"B" * 700), ("sub.d/a", b"A")]
    assert found.ignored == {".thumb.jpg": 1, ".txt": 1}
    assert found.items[0].source == f"{source}!b.jpg" and found.items[0].suffix == ".jpg"
    assert [item.read() for item in read_items(source, TEXT, (IMAGE, TEXT)).items] == [b"bee"]
    make_tar(tmp_path / "1.tar", [("c.jpg", b"C"), ("b.jpg", b"again")])
    both = read_items(f"{tmp_path}/*.tar", None, (IMAGE,)).items
    assert [item.id for item in both] == ["b", "sub.d/a", "c", "b"] and "same id" in both[-1].problem


def test_links_in_a_tar_are_refused(tmp_path):
    item = read_items(make_tar(tmp_path / "x.tar", [("ok.jpg", b"1"), ("evil.jpg", None)]), None, (IMAGE,)).items[1]
    with pytest.raises(ItemError, match="not a regular file"):
        item.read()


@pytest.mark.parametrize("cut", [3000, 1800])
def test_truncated_tar_keeps_what_is_whole(tmp_path, cut):
    path = tmp_path / "x.tar"
    make_tar(path, [(f"{n}.jpg", b"x" * 1000) for n in range(3)])
    path.write_bytes(path.read_bytes()[:cut])
    items = read_items(str(path), None, (IMAGE,)).items
    assert items[0].read() == b"x" * 1000
    with pytest.raises(ItemError, match="damaged archive"):
        items[-1].read()


def test_names_that_are_not_utf8_are_read_under_an_escaped_id(tmp_path):
    touch(tmp_path, "fine.jpg", os.fsdecode(b"caf\xe9.jpg"), os.fsdecode(b"d\xe9r/x.jpg"))
    items = read_items(str(tmp_path), None, (IMAGE,)).items
    assert [(item.id, item.read()) for item in items] == [(r"caf\xe9", b"x"), (r"d\xe9r/x", b"x"), ("fine", b"x")]
    assert items[0].source == rf"{tmp_path}/caf\xe9.jpg"
    assert ids(read_items(os.fsdecode(bytes(tmp_path) + b"/d\xe9r/*.jpg"), None, (IMAGE,))) == ["x"]
    tar = make_tar(tmp_path / "x.tar", [(os.fsdecode(b"caf\xe9.jpg"), b"T")])
    assert [(item.id, item.read()) for item in read_items(tar, None, (IMAGE,)).items] == [(r"caf\xe9", b"T")]


def test_surrogates_and_nulls_in_a_manifest_are_escaped_or_refused(tmp_path):
    touch(tmp_path, os.fsdecode(b"caf\xe9.jpg"))
    lines = [
        {"image": "caf\udce9.jpg"},
        {"image": "\ud800.jpg", "id": "\ud800"},
        {"image": "a\0/b.jpg"},
        {"id": "\udfff"},
    ]
    (tmp_path / "l.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    items = read_items(f"{tmp_path}/l.jsonl", None, (IMAGE,)).items
    assert items[0].read() == b"x"
    assert [item.id for item in items] == [r"caf\xe9", r"\ud800", "a\0/b", r"\udfff"]
    for item in items[1:]:
        with pytest.raises(ItemError, match=r"cannot be read|no image in this record"):
            item.read()
    for item in items:
        (item.id + item.source).encode()


def test_a_file_of_the_same_name_in_other_letters_is_named(tmp_path):
    touch(tmp_path, "cafe\u0301.jpg")
    (tmp_path / "l.csv").write_text("image\ncaf\u00e9.jpg\nother.jpg\n")
    near, far = read_items(f"{tmp_path}/l.csv", None, (IMAGE,)).items
    with pytest.raises(
        ItemError, match=r"No such file or directory; there is 'cafe\\u0301.jpg', the same name in other"
    ):
        near.read()
    with pytest.raises(ItemError, match=r"No such file or directory$"):
        far.read()


def test_of_several_inputs_ids_begin_with_the_folder(tmp_path, monkeypatch):
    touch(tmp_path, "A/1.jpg", "B/1.jpg", "B/sub/2.jpg", "C/3.jpg", "4.jpg", "other/B/1.jpg")
    tar = make_tar(tmp_path / "0.tar", [("k.jpg", b"1")])
    both = read_inputs([f"{tmp_path}/A", f"{tmp_path}/B/"], None, (IMAGE, TEXT))
    assert [item.id for item in both.items] == ["A/1", "B/1", "B/sub/2"]
    mixed = [f"{tmp_path}/B", f"{tmp_path}/C/*.jpg", f"{tmp_path}/4.jpg", tar]
    assert ids(read_inputs(mixed, None, (IMAGE,))) == ["B/1", "B/sub/2", "C/3", "4", "k"]
    assert ids(read_inputs([f"{tmp_path}/A"], None, (IMAGE,))) == ["1"]
    assert ids(read_inputs([f"{tmp_path}/A"], None, (IMAGE,), id_prefix="x/")) == ["x/1"]
    assert ids(read_inputs([f"{tmp_path}/A", f"{tmp_path}/B"], None, (IMAGE,), id_prefix="x"))[0] == "x/A/1"
    monkeypatch.chdir(tmp_path / "A")
    assert ids(read_inputs([".", "../C"], None, (IMAGE,))) == ["A/1", "C/3"]
    far = f"{tmp_path}/other/B"
    assert ids(read_inputs([far, f"{tmp_path}/C", f"{tmp_path}/B"], None, (IMAGE,))) == [
        "other/B/1", "C/3", f"{tmp_path.name}/B/1", f"{tmp_path.name}/B/sub/2",
    ]  # fmt: skip
    assert ids(read_inputs([f"{far}/*.jpg", f"{far}/1.*"], None, (IMAGE,)))[0] == "B/1"
    for twice in ([f"{tmp_path}/B", "../B/"], [far, f"{far}/*.jpg"]):
        with pytest.raises(InputError, match=r"B/?: given twice among the inputs"):
            read_inputs(twice, None, (IMAGE,))
    for prefix in ("", "/", "a\nb"):
        with pytest.raises(InputError, match="--id-prefix"):
            read_inputs([f"{tmp_path}/A"], None, (IMAGE,), id_prefix=prefix)


def test_several_inputs_are_of_one_modality_and_texts_keep_their_ids(tmp_path):
    touch(tmp_path, "A/1.jpg")
    (tmp_path / "a.txt").write_text("a dog\na cat\n")
    (tmp_path / "b.txt").write_text("a dog\na cow\n")
    with pytest.raises(InputError, match=r"A holds image and .*a.txt holds text; choose one with --modality image"):
        read_inputs([f"{tmp_path}/A", f"{tmp_path}/a.txt"], None, (IMAGE, TEXT))
    found = read_inputs([f"{tmp_path}/a.txt", f"{tmp_path}/b.txt"], None, (IMAGE, TEXT))
    assert [item.text for item in found.items] == ["a dog", "a cat", "a cow"] and found.duplicates == 1
    assert ids(found)[:2] == ids(read_items(f"{tmp_path}/a.txt", None, (TEXT,)))


def gz(tmp_path):
    path = tmp_path / "x.tar.gz"
    path.write_bytes(gzip.compress(b"tar"))
    return path


def latin1(tmp_path, name="texts.txt"):
    path = tmp_path / name
    path.write_bytes("fine\ncafé\n".encode("latin-1"))
    return path


def written(name, data):
    return lambda folder: touch(folder, name, data=data) and folder / name


FAILURES = [
    (lambda folder: folder / "nowhere", None, "no such file or folder"),
    (lambda folder: folder / "*.jpg", None, "no such file or folder, nor a pattern that a file matches"),
    (lambda folder: folder, None, r"no usable files; looked for \.aif .*\.wav.*; saw no file at all"),
    (lambda folder: touch(folder, "a.heic", "b.heic", "README"), None, r"saw \.heic \(2\), no suffix \(1\)"),
    (lambda folder: touch(folder, "a.heic"), IMAGE, r"looked for \.bmp \.gif \.jpeg \.jpg \.png .*; saw \.heic \(1\)"),
    (lambda folder: folder, CLOUD, "modality point_cloud; this encoder embeds image and text and audio"),
    (latin1, None, r"texts.txt:2: byte 8 \(0xe9\) is not UTF-8, perhaps Latin-1; convert it: iconv"),
    (lambda folder: latin1(folder, "l.csv"), None, "l.csv:2: byte 8"),
    (lambda folder: latin1(folder, "l.jsonl"), None, "l.jsonl:2: byte 8"),
    (written("u.txt", "hello".encode("utf-16")), None, "is NUL; expected UTF-8"),
    (written("e.jsonl", b""), None, "no usable column; .*saw no record at all"),
    (written("e.csv", b"name,size\na,1\n"), None, "no usable column; .*saw name size"),
    (written("t.txt", b"\n \n"), None, "t.txt: no text in it"),
    (gz, None, "compressed with gzip; .*decompress it first"),
    (written("x.tar", b"hello" * 500), None, "not a tar"),
    (written("y.tar", b""), None, "not a tar"),
    (
        lambda folder: os.mkfifo(folder / "p.txt") or folder / "p.txt",
        None,
        "p.txt: not a regular file; expected a file or a folder",
    ),
]


@pytest.mark.parametrize(("make", "modality", "message"), FAILURES)
def test_unusable_inputs_are_one_line_with_the_cure(tmp_path, make, modality, message):
    with pytest.raises(InputError, match=message) as caught:
        read_items(str(make(tmp_path)), modality, (IMAGE, TEXT, AUDIO))
    assert "\n" not in str(caught.value)


ITEMS = [
    (lambda folder: Item("a", IMAGE, "a", path=folder / "gone.jpg"), "No such file"),
    (lambda folder: Item("a", IMAGE, "a", path=folder), "not a regular file"),
    (lambda folder: Item("a", IMAGE, "a", path=folder / "x\0y"), "cannot be read"),
    (lambda folder: Item("a", TEXT, "a", path=written("e.txt", b"\n")(folder)), "empty text"),
    (lambda folder: Item("a", TEXT, "a", path=latin1(folder)), r"byte 8 \(0xe9\) is not UTF-8"),
    (lambda folder: Item("a", TEXT, "a", path=written("l.txt", b"x" * 100_001)(folder)), "100001 characters"),
    (lambda folder: Item("a", IMAGE, "a", path=written("s.jpg", b"x")(folder), size=9), "truncated: 1 of 9 bytes"),
]


@pytest.mark.parametrize(("make", "reason"), ITEMS)
def test_unreadable_items_say_why(tmp_path, make, reason):
    with pytest.raises(ItemError, match=reason):
        make(tmp_path).read()


def test_enormous_items_are_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("cmcr.items.item.MAX_ITEM_BYTES", 10)
    with pytest.raises(ItemError, match="11 bytes; at most 10"):
        Item("a", IMAGE, "a", path=written("big.jpg", b"x" * 11)(tmp_path)).read()


def test_named_pipe_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(ItemError, match="not a regular file"):
        Item("a", IMAGE, "a", path=tmp_path / "pipe.jpg").read()


def test_query_is_a_file_or_a_text(tmp_path):
    touch(tmp_path, "dog.wav")
    item = item_from_query(f"{tmp_path}/dog.wav", (AUDIO, TEXT))
    assert (item.modality, item.id) == (AUDIO, "dog")
    assert item_from_query(" a dog. ", (AUDIO, TEXT)).text == "a dog."
    assert item_from_query("long " * 2000, (TEXT,)).modality is TEXT
    for query, allowed, message in [
        ("cat.wav", (AUDIO, TEXT), "no such file"),
        (" ", (TEXT,), "empty text"),
        ("a dog", (AUDIO,), "is text; expected audio"),
        (f"{tmp_path}/dog.wav", (IMAGE, TEXT), "is audio; expected image or text"),
    ]:
        with pytest.raises(InputError, match=message):
            item_from_query(query, allowed)
