import contextlib
import os
import secrets
from pathlib import Path

import pytest

from cmcr.errors import ArtifactError
from cmcr.files import (
    atomic,
    check_regular,
    left_behind,
    locked,
    open_file,
    read_lines,
    remove_left_behind,
    sha256_file,
    write_atomic,
    write_json,
)


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


@pytest.fixture
def outside(tmp_path):
    path = tmp_path / "outside.txt"
    path.write_bytes(b"the user's own")
    return path


def plant_every_link(monkeypatch, folder, outside):
    """Let whoever fills a folder foresee the random name: even then nothing is followed."""
    monkeypatch.setattr(secrets, "token_hex", lambda size: "0" * 2 * size)
    (folder / ".file.0000000000000000.partial").symlink_to(outside)


def test_a_planted_temporary_link_is_never_written_through(tmp_path, outside, monkeypatch):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / ".file.partial").symlink_to(outside)
    write_atomic(folder / "file", b"ours")
    assert (folder / "file").read_bytes() == b"ours" and outside.read_bytes() == b"the user's own"
    plant_every_link(monkeypatch, folder, outside)
    with contextlib.suppress(FileExistsError):
        write_atomic(folder / "file", b"again")
    assert outside.read_bytes() == b"the user's own"


def test_a_link_in_the_place_of_the_file_is_replaced_and_not_followed(tmp_path, outside):
    (tmp_path / "file").symlink_to(outside)
    write_atomic(tmp_path / "file", b"ours")
    assert not (tmp_path / "file").is_symlink() and (tmp_path / "file").read_bytes() == b"ours"
    assert outside.read_bytes() == b"the user's own"


def test_two_may_write_one_file_and_long_names_are_no_hindrance(tmp_path):
    path = tmp_path / ("n" * 250)
    with atomic(path) as first, atomic(path) as second:
        first.write(b"first")
        second.write(b"second")
    assert path.read_bytes() == b"first" and len(list(tmp_path.iterdir())) == 1


def test_what_killed_runs_left_is_found_and_removed_links_and_all(tmp_path, outside):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / ".a.npy.0123456789abcdef.partial").symlink_to(outside)
    os.mkfifo(tmp_path / ".b.partial")
    (tmp_path / "kept.partial").touch()
    assert left_behind(tmp_path) == [tmp_path / ".b.partial"] and left_behind(tmp_path / "none") == []
    remove_left_behind(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"sub", "kept.partial", "outside.txt"}
    assert not list((tmp_path / "sub").iterdir()) and outside.read_bytes() == b"the user's own"


@pytest.mark.parametrize("plant", [os.symlink, os.link, lambda target, path: os.mkfifo(path)])
def test_a_lock_that_is_no_file_of_its_own_is_replaced(tmp_path, outside, plant):
    (tmp_path / "run").mkdir()
    plant(outside, tmp_path / "run" / ".lock")
    with locked(tmp_path / "run"):
        pass
    assert outside.read_bytes() == b"the user's own"


def test_nothing_is_written_where_a_sub_folder_is_a_link(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run" / "deep").mkdir(parents=True)
    (tmp_path / "run" / "deep" / "pairs").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ArtifactError, match=r"deep/pairs: a link to another folder"), locked(tmp_path / "run"):
        pass
    assert not list((tmp_path / "elsewhere").iterdir())
    (tmp_path / "linked").symlink_to(tmp_path / "elsewhere")  # the folder itself is the user's to link
    with locked(tmp_path / "linked"):
        pass


def test_only_regular_files_of_a_bounded_size_are_read(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", Path("/dev/zero")):
        for read in (open_file, sha256_file, check_regular, lambda path: list(read_lines(path))):
            with pytest.raises(OSError, match="not a regular file"):
                read(path)
    with pytest.raises(IsADirectoryError):
        open_file(tmp_path)
    sparse = tmp_path / "sparse"
    with sparse.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(OSError, match="a line of 16777216 bytes"):
        list(read_lines(sparse))
    (tmp_path / "link").symlink_to(tmp_path / "few")  # as in the caches of the Hub
    (tmp_path / "few").write_bytes(b"a\nb")
    assert list(read_lines(tmp_path / "link")) == [b"a\n", b"b"]
