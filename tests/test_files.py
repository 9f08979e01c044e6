import os

import pytest

from cmcr.errors import ArtifactError
from cmcr.files import atomic, locked, sha256_file, write_atomic, write_json


def test_a_write_that_fails_half_way_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    write_atomic(path, b"old")
    with pytest.raises(KeyboardInterrupt), atomic(path) as file:
        file.write(b"half")
        file.flush()
        assert path.read_bytes() == b"old"
        raise KeyboardInterrupt
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert path.read_bytes() == b"old"


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomic(path, b"old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1


def test_the_name_appears_only_after_the_bytes_are_on_disk(tmp_path, monkeypatch):
    path, seen = tmp_path / "new" / "file", []
    monkeypatch.setattr(os, "fsync", lambda descriptor: seen.append(path.exists()))
    write_atomic(path, b"bytes")
    assert seen == [False] and path.read_bytes() == b"bytes"


def test_equal_values_are_equal_bytes(tmp_path):
    write_json(tmp_path / "one", {"b": 1, "a": "ä"})
    write_json(tmp_path / "two", {"a": "ä", "b": 1})
    assert sha256_file(tmp_path / "one") == sha256_file(tmp_path / "two")


def test_one_holder_at_a_time(tmp_path):
    expected = pytest.raises(ArtifactError, match="another run is writing to it")
    with locked(tmp_path / "run"), expected, locked(tmp_path / "run"):
        pass
    with locked(tmp_path / "run"):
        pass
