"""What libraries raise over a file becomes one error of ours, and plain values are checked by one schema."""

import dataclasses
import os
import tomllib
from typing import Any, Literal

import numpy as np
import pytest

from cmcr.connect import ConnectConfig
from cmcr.errors import ArtifactError, InputError
from cmcr.modality import Modality
from cmcr.reading import DamagedError, open_npy, parse_json, plainly, read_bytes, read_json, read_toml, reading
from cmcr.schema import checked

DEEP = "[" * 100_000


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (DEEP, "nested too deeply"),
        ('{"a": ' * 100_000, "nested too deeply"),
        ("9" * 5000, "digits"),
        ("\ufffe{", "Expecting value"),
        ("", "Expecting value"),
        ('{"a": 1, "a": 2}', "'a' stands there twice"),
        ('["\\ud800"]', "surrogates not allowed"),
    ],
)
def test_json_that_cannot_be_used_is_one_kind_of_error(tmp_path, text, reason):
    (tmp_path / "a.json").write_bytes(text.encode())
    with pytest.raises(DamagedError, match=reason):
        read_json(tmp_path / "a.json")


def test_json_is_read_as_ever_but_for_strictness():
    assert parse_json(b"\xef\xbb\xbf[1, 1e400, NaN]")[1] == float("inf")
    assert parse_json('{"a": 1, "a": 2}') == {"a": 2} and parse_json('"\\ud83d\\ude00"', strict=True) == "\U0001f600"
    with pytest.raises(DamagedError, match="utf-8"):
        parse_json(b'"\xed\xa0\x80"')


@pytest.mark.parametrize("text", ["a = " + DEEP, "a = 0x" + "f" * 9000, "a = [", b"\xff", "a = 1\na = 2"])
def test_a_recipe_of_any_content_is_an_input_error(tmp_path, text):
    (tmp_path / "r.toml").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=r"r\.toml: "):
        ConnectConfig.from_toml(tmp_path / "r.toml")
    (tmp_path / "r.toml").write_text("[a]\nb = 1979-05-27\n")
    assert read_toml(tmp_path / "r.toml") == tomllib.loads("[a]\nb = 1979-05-27\n")


@pytest.mark.parametrize("value", ["inf", "nan", "-1", "1e400", "0x" + "f" * 99, "[[[1]]]", "'9'", "true", "{a = 1}"])
@pytest.mark.parametrize("name", ["epochs", "lr", "method", "center", "pairing"])
def test_a_setting_of_a_wrong_type_or_size_is_an_input_error(tmp_path, name, value):
    if (name, value) == ("center", "true"):
        return
    (tmp_path / "r.toml").write_text(f"{name} = {value}\n")
    with pytest.raises(InputError, match=f"{name} "):
        ConnectConfig.from_toml(tmp_path / "r.toml")


def test_pipes_folders_and_files_that_are_too_large_are_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(b"12345")
    for name, reason in (("pipe", "not a regular file"), (".", "directory")):
        with pytest.raises(OSError, match=reason):
            read_bytes(tmp_path / name, 10)
        with pytest.raises(OSError, match=reason):
            open_npy(tmp_path / name)
    with pytest.raises(DamagedError, match="more than 4 bytes"):
        read_bytes(tmp_path / "large", 4)
    assert read_bytes(tmp_path / "large", 5) == b"12345"
    with pytest.raises(DamagedError, match="null"):
        read_bytes(tmp_path / "a\0b", 5)
    with pytest.raises(FileNotFoundError):
        read_bytes(tmp_path / "none", 5)


def test_an_array_is_mapped_and_a_damaged_one_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(4))
    assert open_npy(tmp_path / "a.npy").tolist() == [0, 1, 2, 3]
    whole = (tmp_path / "a.npy").read_bytes()
    for damaged in (whole[:-1], whole[:20], b"", whole.replace(b"(4,)", b"-4, "), whole.replace(b"<i8", b"|O8")):
        (tmp_path / "a.npy").write_bytes(damaged)
        with pytest.raises(DamagedError):
            open_npy(tmp_path / "a.npy")


class PanicException(BaseException):
    pass


@pytest.mark.parametrize(
    ("raised", "reason"),
    [
        (AssertionError(), "AssertionError"),
        (OverflowError("too\nlarge"), "too large"),
        (KeyError("a"), "no 'a'"),
        (MemoryError(), "it asks for more memory than there is"),
        (OSError(5, "Input/output error"), "Input/output error"),
        (OSError("libsomething said no"), "libsomething said no"),
        (PanicException("index out of range"), "index out of range"),
    ],
)
def test_what_a_library_raises_names_the_file_the_reason_and_the_cure(raised, reason):
    with (
        pytest.raises(InputError, match=rf"^x\.bin: damaged \({reason}.*\); get it anew$"),
        reading("x.bin", "get it anew", InputError),
    ):
        raise raised


def test_a_file_that_cannot_be_opened_is_the_one_named(tmp_path):
    with (
        pytest.raises(ArtifactError, match=r"/folder/weights: No such file or directory; connect anew$"),
        reading(tmp_path / "folder", "connect anew", what="is damaged"),
    ):
        read_bytes(tmp_path / "folder" / "weights", 9)


@pytest.mark.parametrize("raised", [KeyboardInterrupt(), SystemExit(3), ArtifactError("as it is")])
def test_what_is_no_fault_of_the_file_passes(raised):
    with pytest.raises(type(raised)) as caught, plainly():
        raise raised
    assert caught.value is raised


@dataclasses.dataclass
class Inner:
    size: int
    rate: float = 0.5


@dataclasses.dataclass
class Outer:
    name: str
    inner: Inner
    kinds: tuple[Modality, ...] = ()
    mode: Literal["a", "b"] = "a"
    note: str | None = None
    counts: dict[str, int] = dataclasses.field(default_factory=dict)
    rest: Any = None


def test_plain_values_become_a_dataclass():
    value = {"name": "x", "inner": {"size": 3, "rate": 1}, "kinds": ["text"], "mode": "b", "counts": {"k": 1}}
    made = checked(Outer, value)
    assert made == Outer("x", Inner(3, 1.0), (Modality.TEXT,), "b", None, {"k": 1})
    assert isinstance(made.inner.rate, float)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": None}, "name is None, expected text"),
        ({"inner": []}, r"inner is \[\], expected an object with size, rate"),
        ({"inner": {}}, "no 'inner.size'"),
        ({"inner": {"size": True}}, "inner.size is True, expected a whole number"),
        ({"inner": {"size": 1.0}}, "inner.size is 1.0, expected a whole number"),
        ({"inner": {"size": 1 << 63}}, "inner.size is 9223372036854775808, expected a whole number of 64 bits"),
        ({"inner": {"size": 1, "rate": float("nan")}}, "inner.rate is nan, expected a number"),
        ({"kinds": "text"}, "kinds is 'text', expected a list"),
        ({"kinds": ["Text"]}, r"kinds\[0\]: modality 'Text': expected image, text.*did you mean"),
        ({"kinds": [3]}, r"kinds\[0\] is 3, expected text"),
        ({"mode": []}, r"mode is \[\], expected one of a, b"),
        ({"note": 3}, "note is 3, expected text"),
        ({"counts": {"k": "1"}}, "counts.k is '1', expected a whole number"),
        ({"nome": 1}, "unknown nome; did you mean"),
    ],
)
def test_a_value_of_a_wrong_type_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        checked(Outer, {"name": "x", "inner": {"size": 3}} | change)
