"""What makes two ids one: Unicode forms and blanks; what is refused, and what is said when nothing agrees."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmcr.errors import InputError
from cmcr.items import ById, join_ids, readable, same_id, what_differs

COMPOSED, APART = "caf\u00e9", "cafe\u0301"


def joined(first, second):
    return [(first[a], second[b]) for a, b in zip(*join_ids(first, second, ("A", "B")), strict=True)]


def test_equal_ids_come_first_and_the_rest_join_by_their_form():
    assert joined(["x", COMPOSED, " b", "only a"], ["b\u00a0", "only b", APART, "x"]) == [
        ("x", "x"), (COMPOSED, APART), (" b", "b\u00a0")
    ]  # fmt: skip
    assert joined([COMPOSED, APART], [APART, COMPOSED]) == [(COMPOSED, COMPOSED), (APART, APART)]
    assert joined([COMPOSED, APART], [APART]) == [(APART, APART)]
    assert joined(["a", "A"], ["a "]) == [("a", "a ")]


def test_two_ids_that_would_become_one_are_named():
    with pytest.raises(
        InputError, match=r"A: the ids 'caf\\xe9' and 'cafe\\u0301 ' differ only in .*give them other ids"
    ):
        joined([COMPOSED, APART + " "], [APART])
    with pytest.raises(InputError, match=r"B: the ids 'a ' and ' a' differ only"):
        joined(["a"], ["a ", " a"])


names = st.lists(st.text("ab\u00e9e\u0301 ", max_size=4), unique=True, max_size=8)


@given(names, names)
def test_whatever_was_equal_stays_joined_and_no_row_twice(first, second):
    try:
        pairs = joined(first, second)
    except InputError:
        return
    assert {(name, name) for name in first if name in second} <= set(pairs)
    for side in zip(*pairs, strict=True):
        assert len(set(side)) == len(side)
    form = [unicodedata.normalize("NFC", name).strip() for name in first]
    assert all(unicodedata.normalize("NFC", b).strip() == form[first.index(a)] for a, b in pairs)
    assert [a for a, _ in pairs] == [name for name in first if name in dict(pairs)]


@pytest.mark.parametrize(
    ("first", "second", "what"),
    [
        (["Dog"], ["cat", "dog"], "'Dog' and 'dog' differ in upper and lower case"),
        (["photos/1"], ["1"], "'photos/1' and '1' differ in the folder before the name"),
        (["1.jpg"], ["1"], "a suffix"),
        (["Photos/1.JPG"], ["b/1"], "folder, suffix or case"),
        (["\ufb01n"], ["fin"], "the form of their letters"),
    ],
)
def test_what_differs_is_said_when_nothing_agrees(first, second, what):
    assert what in what_differs(first, second)
    assert what_differs(["one"], ["two"]) == ""


def test_values_are_found_in_any_form():
    labels = ById({COMPOSED: "x", "b ": "y", " b": "y", "c ": "1", " c": "2"}, "labels.csv")
    assert (labels[APART], labels.get(COMPOSED + " "), labels["b"], labels.get("d")) == ("x", "x", "y", None)
    assert labels["c "] == "1" and APART in labels and "d" not in labels and len(labels) == 5
    with pytest.raises(InputError, match=r"labels.csv: 'c ' and ' c' both may be 'c'; keep one"):
        labels["c"]


def test_an_id_is_found_as_it_stands_before_any_other_form():
    assert same_id(APART, [COMPOSED, APART]) == [1]
    assert same_id(APART + " ", [COMPOSED, "x", APART]) == [0, 2]
    assert same_id("y", ["x"]) == []


@given(st.text(st.characters(exclude_categories=())))
def test_any_name_becomes_one_that_can_be_stored(name):
    shown = readable(name)
    shown.encode()
    assert readable(shown) == shown
    if not any("\ud800" <= letter <= "\udfff" for letter in name):
        assert shown == name
