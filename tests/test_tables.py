"""Where a line, a row and a record end, and what is said where that cannot be known."""

import csv
import json
import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmcr.datasets import read_clips, read_labelled, read_labels
from cmcr.datasets.boxes import read_listing
from cmcr.datasets.clips import AVE_COLUMNS
from cmcr.datasets.labelled import read_names
from cmcr.datasets.pairs import read_pairs
from cmcr.errors import InputError
from cmcr.items import decode, lines_of, read_items, read_rows, read_table
from cmcr.modality import Modality

IMAGE, TEXT = Modality.IMAGE, Modality.TEXT
NO_ENDS = "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
"""What ``str.splitlines`` ends a line at, and no list means."""


def records(path):
    return [(record.line, record.values, record.problem) for record in read_table(path)]


def written(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@given(
    st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\n"))), st.sampled_from(["\n", "\r", "\r\n"])
)
def test_lines_end_in_the_three_ways_of_the_systems_and_in_no_other(lines, end):
    assert lines_of(end.join(lines)) == (lines or [""])


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_every_list_of_lines_is_read_alike(tmp_path, end):
    odd = f"a{NO_ENDS}b"
    texts = read_items(str(written(tmp_path / "t.txt", end.join(["one", "", odd, "two"]))), None, (TEXT,)).items
    assert [(item.text, item.source) for item in texts] == [("one", "t.txt:1"), (odd, "t.txt:3"), ("two", "t.txt:4")]
    assert read_names(written(tmp_path / "n.txt", end.join(["one", odd, "two"]))) == ("one", odd, "two")
    labels = written(tmp_path / "l.txt", end.join([f"{odd}\tx", "b\ty", ""]))
    assert read_labels(labels) == {odd: "x", "b": "y"}
    table = written(tmp_path / "t.csv", end.join(["id,text", f"1,{odd}", "2,b"]))
    assert records(table) == [(2, {"id": "1", "text": odd}, None), (3, {"id": "2", "text": "b"}, None)]
    assert [row.image for row in read_listing(written(tmp_path / "v.csv", end.join(["video", odd, "c"])))] == [odd, "c"]
    lines = [json.dumps({"text": odd}, ensure_ascii=False), json.dumps({"text": "b"})]
    # Some of these are no JSON blanks, but inside a string all but the control characters may stand.
    found = records(written(tmp_path / "t.jsonl", end.join(lines)))
    assert [line for line, _, _ in found] == [1, 2]


def test_a_bad_byte_is_found_in_its_line_whatever_the_ends():
    for end in (b"\n", b"\r", b"\r\n"):
        with pytest.raises(InputError, match=r"x:3: byte .* is not UTF-8"):
            decode(end.join([b"a", b"b", b"caf\xe9"]), "x")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("name", ["t.txt", "t.csv", "t.jsonl"])
def test_other_widths_of_unicode_are_named(tmp_path, encoding, name):
    path = written(tmp_path / name, "text\ncafé\n".encode(encoding))
    cure = "iconv -f UTF-16" if encoding == "utf-16" else "UTF-16"
    with pytest.raises(InputError, match=f"NUL; expected UTF-8 text, not .*{cure}"):
        read_items(str(path), None, (TEXT,))
    with pytest.raises(InputError, match="iconv -f UTF-16"):
        decode("世界".encode("utf-16"), "x")  # no NUL in it
    assert decode("\ufefftext".encode(), "x") == "text"


# CSV


def test_a_long_cell_is_no_obstacle_and_the_bound_of_the_process_stays(tmp_path):
    before = csv.field_size_limit()
    path = written(tmp_path / "t.csv", f'text,image\na dog,{"A" * (before + 10)}\n"a ""cat""",x\n')
    assert [item.text for item in read_items(str(path), TEXT, (TEXT,)).items] == ["a dog", 'a "cat"']
    assert csv.field_size_limit() == before
    with pytest.raises(InputError):
        read_rows(f'a\n"{"b" * (before + 10)}\nc\n', "x")
    assert csv.field_size_limit() == before
    threads = [threading.Thread(target=records, args=(path,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert csv.field_size_limit() == before


SWALLOWING = {
    "to the end": 'id,text\n1,a dog\n2,"a cat\n3,a cow\n',
    "to the next quote": 'id,text\n1,a dog\n2,"a cat\n3,"a cow"\n4,"a hen"\n',
    "in the header": '"id,text\n1,a dog\n',
    "by a backslash": 'id,text\n1,a dog\n2,"say \\"",x\n3,"b"\n',
}


@pytest.mark.parametrize("text", SWALLOWING.values(), ids=SWALLOWING)
@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_a_quote_that_swallows_rows_is_named_by_its_line(tmp_path, text, end):
    line = 1 if text.startswith('"') else 3
    path = written(tmp_path / "t.csv", text.replace("\n", end))
    with pytest.raises(InputError, match=rf"t\.csv:{line}: a quote opens in this row and is not rightly closed"):
        records(path)
    with pytest.raises(InputError, match=rf"t\.csv:{line}: a quote opens"):
        read_items(str(path), TEXT, (TEXT,))
    with pytest.raises(InputError, match=rf"t\.csv:{line}: a quote opens"):
        read_labels(path, "text")


def test_rows_whose_quotes_are_wrong_in_one_line_are_problems(tmp_path):
    rows = [
        "id,text",
        "1,a dog",
        '2,"a "red" cat"',
        '3,"a \\"red\\" cat"',
        '4,"a cow" ',
        '"5" ,"a ""hen"""  ',
        '6,"open',
    ]
    path = written(tmp_path / "t.csv", "\n".join(rows))
    assert [(line, values.get("text"), problem and problem[:38]) for line, values, problem in records(path)] == [
        (2, "a dog", None),
        (3, None, "a quote that is not rightly closed; wr"),
        (4, None, "a quote that is not rightly closed; wr"),
        (5, "a cow", None),
        (6, 'a "hen"', None),
        (7, None, "a quote that is not rightly closed; wr"),
    ]
    items = read_items(str(path), None, (TEXT,)).items
    assert [item.problem is None for item in items] == [True, False, False, True, True, False]
    with pytest.raises(InputError, match=r"v\.csv:2: a quote that is not rightly closed"):
        read_listing(written(tmp_path / "v.csv", 'video\n"a"b\n'))


@given(
    st.lists(
        st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1), min_size=2, max_size=2),
        min_size=1,
    ),
    st.sampled_from([",", "\t"]),
    st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
)
def test_what_a_writer_of_csv_wrote_is_read_back(tmp_path_factory, rows, delimiter, quoting):
    path = tmp_path_factory.mktemp("t") / ("t.csv" if delimiter == "," else "t.tsv")
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=delimiter, quoting=quoting).writerows([["a", "b"], *rows])
    text = path.read_bytes().decode()
    assert [row.cells for row in read_rows(text, "x", delimiter)] == [["a", "b"], *rows]


def test_columns_of_one_name(tmp_path):
    path = written(tmp_path / "t.csv", "id,text,text,,\n1,a,a,x,y\n2,a,b,x,y\n")
    same, other = read_items(str(path), None, (TEXT,)).items
    assert (same.text, other.problem) == (
        "a", "no text in this record: text is given twice, and differently; expected one text"
    )  # fmt: skip


def test_a_header_alone_and_a_row_too_long(tmp_path):
    with pytest.raises(InputError, match="saw no record at all"):
        read_items(str(written(tmp_path / "h.csv", "id,text\n")), None, (TEXT,))
    path = written(tmp_path / "t.csv", "id,text\n1,a dog, asleep\n2\n\n3,a cat\n")
    assert [(item.text, item.problem) for item in read_items(str(path), None, (TEXT,)).items] == [
        ("a dog", "1 cells more than the header has columns"), (None, "no text in this record"), ("a cat", None)
    ]  # fmt: skip


# JSON


ONE_VALUE = {
    "list in a line": ('[{"text": "a"}, {"text": "b"}]', r"t\.jsonl:1: a JSON list; expected an object on each line"),
    "list over lines": ('\n[\n{"text": "a"},\n{"text": "b"}\n]\n', r"t\.jsonl:2: a JSON list; expected an object"),
    "pretty list": (json.dumps([{"text": "a"}], indent=1), r"t\.jsonl:1: a JSON list; expected an object"),
    "pretty object": (json.dumps({"text": "a"}, indent=1), r"t\.jsonl:1: not JSON in this line, for one object stands"),
    "pretty objects": (
        "{\n}\n{\n}\n",
        r"t\.jsonl:1: not JSON: Expecting property name .*; no record in it can be used",
    ),
    "lists": ('["a"]\n["b"]\n', r"t\.jsonl:1: a JSON list; expected an object; no record in it can be used"),
    "texts": ('"a"\n"b"\n', r"t\.jsonl:1: a JSON str; expected an object; no record in it can be used"),
}


@pytest.mark.parametrize(("text", "message"), ONE_VALUE.values(), ids=ONE_VALUE)
@pytest.mark.parametrize("allowed", [(TEXT,), (TEXT, IMAGE)])
def test_json_that_is_not_one_object_a_line(tmp_path, text, message, allowed):
    path = written(tmp_path / "t.jsonl", text)
    with pytest.raises(InputError, match=message) as caught:
        read_items(str(path), None, allowed)
    assert "\n" not in str(caught.value)
    for read in (read_labels, lambda path: read_labelled(path, unpack=tmp_path / "u")):
        with pytest.raises(InputError, match=message.partition("; no record")[0]):
            read(path)


def test_keys_given_twice_long_numbers_and_deep_nests(tmp_path):
    lines = [
        '{"text": "a", "text": "b"}',
        '{"text": "a", "text": "a", "x": {"y": 1, "y": 2}}',
        f'{{"text": "fine", "size": {"9" * 5000}}}',
        f'{{"text": {"9" * 5000}}}',
        '{"text": 1e999}',
        f'{{"text": "a", "x": {"[" * 100_000}{"]" * 100_000}}}',
        '{"text": NaN}',
    ]
    items = read_items(str(written(tmp_path / "t.jsonl", "\n".join(lines))), None, (TEXT,)).items
    assert [item.text for item in items] == [None, "a", "fine", "9" * 5000, None, None, None]
    assert [item.problem for item in items if item.problem] == [
        "no text in this record: text is given twice, and differently; expected one text",
        "no text in this record: text is infinite; expected one text",
        "not JSON: nested too deeply",
        "no text in this record: text is NaN",
    ]


def test_pairs_in_a_table_with_a_swallowing_quote_or_a_list(tmp_path):
    with pytest.raises(InputError, match=r"p\.csv:2: a quote opens"):
        read_pairs(written(tmp_path / "p.csv", 'image,text\na.png,"a\nb.png,b\n'))
    with pytest.raises(InputError, match=r"p\.jsonl:1: a JSON list"):
        read_pairs(written(tmp_path / "p.jsonl", '[{"image": "a.png", "text": "a"}]'))


def test_lines_of_ave_are_numbered_as_they_stand_and_times_are_finite(tmp_path):
    lines = [AVE_COLUMNS, "", "dog&one&good&0&5", "dog&two&good&nan&5", "no line"]
    written(tmp_path / "testSet.txt", "\r".join(lines))
    clips = read_clips(tmp_path, "ave", unpack=tmp_path / "u").clips
    assert [clip.id for clip in clips] == ["one", "testSet.txt:4", "testSet.txt:5"]


def test_a_name_longer_than_any_files_is_missing(tmp_path):
    path = written(tmp_path / "t.csv", f"path,label\n{'9' * 5000}.png,a\n")
    (item,) = read_labelled(path, unpack=tmp_path / "u", modalities=[IMAGE]).inputs.items
    assert item.problem == "listed, but its file is missing"


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "t.jsonl")
    with pytest.raises(InputError, match=r"t\.jsonl: (a pipe, socket or device|not a regular file)"):
        read_items(str(tmp_path / "t.jsonl"), None, (TEXT,))


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("x.csv", "\ufeffid;text\r\n1;a\r\n", r"x.csv:1: ';' stands between the columns; expected commas"),
        ("x.csv", "sep=;\nid;text\n1;a\n", r"x.csv:1: ';' stands"),
        ("x.csv", "id\ttext\n1\ta\n", r"'\\t' stands between the columns; expected commas"),
        ("x.tsv", "id,text\n1,a\n", r"',' stands between the columns; expected tabs"),
    ],
)
def test_another_mark_between_columns_is_named(tmp_path, name, text, reason):
    with pytest.raises(InputError, match=reason):
        list(read_table(written(tmp_path / name, text)))
