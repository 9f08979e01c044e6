"""Labels in the forms people have, and what is said when there are none."""

import pytest

from cmcr.datasets import read_labels
from cmcr.errors import InputError


def test_lines_and_tables_give_the_same_labels(tmp_path):
    lines = tmp_path / "labels.txt"
    lines.write_text("a\tred fox\r\n\nb\tdog\n")
    table = tmp_path / "labels.jsonl"
    table.write_text('{"id": "a", "label": "red fox", "kind": 1}\n{"id": "b", "label": "dog", "kind": 2}\n')
    csv = tmp_path / "labels.csv"
    csv.write_text("id,class\na,red fox\nb,dog\n")
    assert read_labels(lines) == read_labels(table) == read_labels(csv) == {"a": "red fox", "b": "dog"}
    assert read_labels(table, "kind") == {"a": "1", "b": "2"}


@pytest.mark.parametrize(
    ("name", "text", "field", "message"),
    [
        ("l.txt", "a dog\n", None, "l.txt:1: 'a dog'; expected id<TAB>class"),
        ("l.txt", "a\tdog\na\tcat\n", None, "l.txt:2: 'a' is 'cat' here and 'dog' before"),
        ("l.txt", "\n", None, "no label in it"),
        ("l.jsonl", '{"id": "a", "kind": "x"}\n', None, "looked for id and class or label or category; saw id kind"),
        ("l.jsonl", '{"id": "a", "kind": "x"}\n', "kinds", "did you mean 'kind'"),
        ("l.jsonl", '{"id": "a", "class": "x"}\n{"id": "b"}\n', None, "l.jsonl:2: no id or no class"),
        ("l.jsonl", '{"id": "a", "class": "x"}\n{broken\n', None, "l.jsonl:2: not JSON"),
    ],
)
def test_refusals(tmp_path, name, text, field, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message.replace("(", r"\(")):
        read_labels(tmp_path / name, field)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match="no such file; expected labels"):
        read_labels(tmp_path / "none.txt")
