"""From a cell to a text or to none: the same answer from every reader of tables and lists."""

import csv
import io
import json
from decimal import Decimal

import pytest

from cmcr.datasets import read_labelled, read_labels
from cmcr.datasets.boxes import read_vggss
from cmcr.datasets.pairs import read_pairs
from cmcr.errors import InputError, ItemError
from cmcr.items import Nothing, cell_text, read_items
from cmcr.items.cells import WORDS_FOR_NOTHING, Repeated
from cmcr.modality import Modality

IMAGE, TEXT, AUDIO = Modality.IMAGE, Modality.TEXT, Modality.AUDIO

TEXTS = [
    ("a dog", "a dog"), (" a ", " a "), ("nan", "nan"), ("None", "None"), (b"a dog", "a dog"),
    (42, "42"), (-3, "-3"), (1.0, "1"), (-0.0, "0"), (0.5, "0.5"), (2.0**53, "9007199254740992.0"), (1e300, "1e+300"),
    (10**30, "1" + "0" * 30), (Decimal("1.50"), "1.50"),
]  # fmt: skip
NO_TEXTS = [
    ("", ""), (" \t\n", ""), (b"", ""), (b"\xff", ": x is bytes that are not UTF-8; expected one text"),
    (None, ": x is null"), (float("nan"), ": x is NaN"), (Decimal("NaN"), ": x is NaN"),
    (float("inf"), ": x is infinite; expected one text"), (float("-inf"), ": x is infinite; expected one text"),
    (True, ": x is true; expected one text"), (False, ": x is false; expected one text"),
    (["a", "b"], ": x is a list of 2; expected one text"), ([], ": x is a list of 0; expected one text"),
    ({"a": 1}, ": x is an object; expected one text"),
    (Repeated(), ": x is given twice, and differently; expected one text"),
]  # fmt: skip


@pytest.mark.parametrize(("cell", "text"), TEXTS)
def test_texts_and_numbers_are_texts(cell, text):
    assert cell_text(cell) == text


@pytest.mark.parametrize(("cell", "reason"), NO_TEXTS)
def test_nothing_else_is_a_text(cell, reason):
    found = cell_text(cell)
    assert isinstance(found, Nothing)
    assert found.of("x") == reason


def test_words_for_nothing_are_words_where_the_file_has_types():
    for word in WORDS_FOR_NOTHING:
        assert cell_text(word) == word
        assert cell_text(f" {word}\n", typed=False) == Nothing(repr(word))
    for word in ("nano", "None of them", "NA", "Nan", "none", "0"):
        assert cell_text(word, typed=False) == word


@pytest.mark.parametrize("cell", ["['a dog', 'two dogs']", '["a dog"]', "['a'\n 'b']", "[]", ' [ "a", null ] '])
def test_a_list_written_out_in_a_file_without_types_is_no_text(cell):
    assert cell_text(cell, typed=False) == Nothing("a list", wrong=True)
    assert cell_text(cell) == cell


def test_an_object_written_out_is_no_text_and_brackets_alone_make_none():
    for cell in ("{'en': 'a dog'}", '{"en": ["a"]}', "{}"):
        assert cell_text(cell, typed=False) == Nothing("an object", wrong=True)
    for text in ("[music]", "['tis] the dog", "[1]", "{x}", "'a', 'b'", "a ['b']"):
        assert cell_text(text, typed=False) == text


def test_lists_that_a_data_frame_wrote_are_left_out_of_every_reader(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text("image,caption\n1.png,\"['a', 'b']\"\n2.png,a dog\n")
    assert [item.problem for item in read_items(str(path), TEXT, (TEXT, IMAGE)).items] == [
        "no text in this record: caption is a list; expected one text", None,
    ]  # fmt: skip
    pairs = read_pairs(path)
    assert [clip.problem for clip in pairs.clips] == [
        "no text in this record: caption is a list; expected one text",
        None,
    ]
    assert pairs.notes == ("texts left out because they are none: a list (1)",)


def test_pairs_without_a_second_modality_say_what_is_wrong_with_the_first_of_them(tmp_path):
    path = tmp_path / "p.jsonl"
    for text, reason in (
        ('[{"id": 1}]\n[{"id": 2}]\n', r"found no record; first of all, p.jsonl:1: its line is not a JSON object"),
        (
            '{"id": "a", "image": "1.png", "captions": [null]}',
            r"first of all, a: .*: captions is a list without a text",
        ),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=reason):
            read_pairs(path)


# In the readers. A row is (cell of the table, its text or the end of its reason).

CELLS = [
    ("a dog", "a dog"), (42, "42"), (1.0, "1"), ("nan", "nan"), (None, " is null"), (float("nan"), " is NaN"),
    (float("inf"), " is infinite; expected one text"), (True, " is true; expected one text"),
    (["one", "two"], " is a list of 2; expected one text"), ({"raw": "x"}, " is an object; expected one text"),
]  # fmt: skip


def write_jsonl(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_a_manifest_of_texts(tmp_path):
    records = [{"id": f"r{n}", "caption": cell} for n, (cell, _) in enumerate(CELLS)]
    path = write_jsonl(tmp_path / "m.jsonl", [*records, {"id": "empty", "caption": " "}, {"id": "lacking"}])
    items = read_items(str(path), TEXT, (TEXT, IMAGE)).items
    expected = [
        (f"r{n}", None, f"no text in this record: caption{said}") if said.startswith(" ") else (f"r{n}", said, None)
        for n, (_, said) in enumerate(CELLS)
    ]
    assert [(item.text, item.problem) for item in items[:-2]] == [each[1:] for each in expected]
    assert [item.id for item in items[:-2]] == [each[0] for each in expected]
    assert [item.problem for item in items[-2:]] == ["no text in this record"] * 2


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_words_for_nothing_in_a_table_without_types(tmp_path, suffix):
    path = tmp_path / f"t{suffix}"
    with path.open("w", newline="") as file:
        rows = [["id", "text"], ["1.0", "a dog"], ["b", "nan"], ["c", "None"], ["d", ""], ["nan", "42"]]
        csv.writer(file, delimiter="\t" if suffix == ".tsv" else ",").writerows(rows)
    items = read_items(str(path), None, (TEXT,)).items
    assert [(item.text, item.problem) for item in items] == [
        ("a dog", None),
        (None, "no text in this record: text is 'nan'"),
        (None, "no text in this record: text is 'None'"),
        (None, "no text in this record"),
        ("42", None),
    ]
    assert [item.id for item in items[:4]] == ["1.0", "b", "c", "d"]
    assert items[4].id.startswith("t-")  # an id that is missing is made from the text


def test_a_column_of_nothing_is_no_unknown_column(tmp_path):
    path = write_jsonl(tmp_path / "m.jsonl", [{"text": None}, {"text": ["a"]}])
    assert [item.problem for item in read_items(str(path), None, (TEXT, IMAGE)).items] == [
        "no text in this record: text is null",
        "no text in this record: text is a list of 1; expected one text",
    ]
    write_jsonl(path, [{"text": None, "image": "a.png"}])  # and decides nothing where another column is filled
    assert read_items(str(path), None, (TEXT, IMAGE)).modality is IMAGE


def test_ids_are_texts_or_numbers_or_missing(tmp_path):
    cells = [7, 1.0, "x", None, float("nan"), True, ["a"], {}]
    path = write_jsonl(tmp_path / "m.jsonl", [{"id": cell, "image": f"{n}.png"} for n, cell in enumerate(cells)])
    items = read_items(str(path), None, (IMAGE,)).items
    assert [item.id for item in items] == ["7", "1", "x", "3", "4", "m.jsonl:6", "m.jsonl:7", "m.jsonl:8"]
    assert [item.problem for item in items] == [
        *[None] * 5,
        "no id: id is true; expected one text",
        "no id: id is a list of 1; expected one text",
        "no id: id is an object; expected one text",
    ]


def test_a_text_that_is_nothing_is_not_sought_in_another_modalitys_file(tmp_path):
    (tmp_path / "cloud.xyz").write_text("1 2 3\n")
    (tmp_path / "words.txt").write_text("from a file")
    rows = [{"text": None, "path": "cloud.xyz"}, {"path": "cloud.xyz"}, {"text": None, "path": "words.txt"}]
    items = read_items(str(write_jsonl(tmp_path / "m.jsonl", rows)), TEXT, (TEXT,)).items
    assert [item.problem for item in items] == ["no text in this record: text is null", "no text in this record", None]
    assert items[2].read() == b"from a file"


def test_lines_and_files_of_a_word_for_nothing(tmp_path, monkeypatch):
    (tmp_path / "t.txt").write_text("a dog\nnan\nNone\nnan tree\n")
    items = read_items(str(tmp_path / "t.txt"), None, (TEXT,)).items
    assert [item.text for item in items] == ["a dog", None, None, "nan tree"]
    assert items[1].problem == "no text: the line is 'nan'"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"null\none")))
    assert [item.text for item in read_items("-", None, (TEXT,)).items] == [None, "one"]
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.txt").write_text("nan\n")
    with pytest.raises(ItemError, match="no text: the file is 'nan'"):
        read_items(str(tmp_path / "folder"), None, (TEXT,)).items[0].read()


def test_pairs(tmp_path):
    rows = [{"id": f"r{n}", "image": "a.png", "text": cell} for n, (cell, _) in enumerate(CELLS)]
    clips = read_pairs(write_jsonl(tmp_path / "p.jsonl", rows))
    for clip, (cell, said) in zip(clips.clips, CELLS, strict=True):
        texts = [item.text for item in clip.parts.get(TEXT, ())]
        if isinstance(cell, list):  # several captions of one picture are what pairs are made of
            assert (texts, clip.problem) == (cell, None)
        elif said.startswith(" "):
            assert (texts, clip.problem) == ([], f"no text in this record: text{said}")
        else:
            assert (texts, clip.problem) == ([said], None)
    assert clips.notes == (
        "texts left out because they are none: null (1), NaN (1), infinite (1), true (1), an object (1)",
    )


def test_pairs_keep_what_is_there(tmp_path):
    rows = [
        {"image": "a.png", "audio": "a.wav", "text": None},
        {"image": "b.png", "captions": ["one", None, float("nan"), 5, ["x"]]},
        {"image": "c.png", "text": None},
        {"image": "c.png", "text": "later"},
        {"image": ["d.png"], "text": "d"},
        {"id": True, "image": "e.png", "text": "e"},
        {"id": "f", "image": "f.png", "caption_1": "one", "caption_2": None},
    ]
    a, b, c, d, e, f = read_pairs(write_jsonl(tmp_path / "p.jsonl", rows)).clips
    assert (set(a.parts), a.problem) == ({IMAGE, AUDIO}, None)
    assert [item.text for item in b.parts[TEXT]] == ["one", "5"]
    assert ([item.text for item in c.parts[TEXT]], c.problem) == (["later"], None)
    assert d.problem == "no image in this record: image is a list of 1; expected one text"
    assert e.problem == "no id: id is true; expected one text"
    assert ([item.text for item in f.parts[TEXT]], f.problem) == (["one"], None)


def test_labels_of_a_table_and_of_lines(tmp_path):
    for cell, said in CELLS:
        path = write_jsonl(tmp_path / "l.jsonl", [{"id": "a", "class": "x"}, {"id": "b", "class": cell}])
        if said.startswith(" "):
            with pytest.raises(InputError, match=f"l.jsonl:2: no id or no class: class{said}"):
                read_labels(path)
        else:
            assert read_labels(path) == {"a": "x", "b": said}
    (tmp_path / "l.csv").write_text("id,class\na,x\nb,nan\n")
    with pytest.raises(InputError, match=r"l\.csv:3: no id or no class: class is 'nan'; correct or remove"):
        read_labels(tmp_path / "l.csv")
    (tmp_path / "l.txt").write_text("a\tx\nb\tNone\n")
    with pytest.raises(InputError, match=r"l\.txt:2: .*the class is 'None'; expected id<TAB>class"):
        read_labels(tmp_path / "l.txt")


def test_classes_of_a_labelled_manifest(tmp_path, write_files):
    folder = write_files("pictures", "image", len(CELLS) + 1)
    rows = [{"path": f"pictures/{n:03d}.png", "label": cell} for n, (cell, _) in enumerate(CELLS)]
    rows.append({"path": None, "label": "a dog"})
    rows.append({"path": f"pictures/{len(CELLS):03d}.png", "label": "a dog", "id": [1]})
    data = read_labelled(write_jsonl(folder.parent / "m.jsonl", rows), unpack=tmp_path / "u")
    assert data.classes == ("1", "42", "a dog", "nan")
    problems = [item.problem for item in data.inputs.items]
    assert problems[:-2] == [f"no label: label{said}" if said.startswith(" ") else None for _, said in CELLS]
    assert problems[-2:] == ["no path in this row: path is null", "no id: id is a list of 1; expected one text"]
    (tmp_path / "m.csv").write_text("path,label\npictures/000.png,None\npictures/001.png,dog\n")
    data = read_labelled(tmp_path / "m.csv", unpack=tmp_path / "u")
    assert data.classes == ("dog",)
    assert data.inputs.items[0].problem == "no label: label is 'None'"


def test_boxes(tmp_path):
    box = [0.1, 0.1, 0.5, 0.5]
    rows = [
        {"file": "a", "class": None, "bbox": [box]},
        {"file": 7, "class": True, "bbox": [box]},
        {"file": None, "class": "x", "bbox": [box]},
        {"file": "d", "class": "x", "bbox": [[False, 0, True, 1]]},
        {"file": "e", "class": "x", "bbox": [[0, 0, 10**400, 1]]},
    ]
    (tmp_path / "vggss.json").write_text(json.dumps(rows))
    read = read_vggss(tmp_path / "vggss.json")
    assert [(each.id, each.label, each.problem) for each in read] == [
        ("a", "", None),
        ("7", "", None),
        ("record 2", "", "no file in its record: file is null"),
        ("d", "x", "box of something else than numbers"),
        ("e", "x", "box of something else than numbers"),
    ]
