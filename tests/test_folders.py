"""Linked folders, circles, links to nowhere, deep nests and names of any bytes: what is found, and what is said."""

import inspect
import os
import sys
from pathlib import Path

import pytest

from cmcr.errors import InputError
from cmcr.items import folders, read_items
from cmcr.modality import Modality

IMAGE = Modality.IMAGE


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def ids(source):
    return [item.id for item in read_items(str(source), None, (IMAGE,)).items]


@pytest.fixture
def album(tmp_path):
    """A folder with a linked folder that links on, a linked file, circles, a link to nowhere and a pipe."""
    touch(tmp_path, "store/dog/1.png", "store/dog/2.png", "store/cat/3.png", "album/own/0.png", "album/own/.hid/9.png")
    links = {
        "album/dog": "../store/dog",
        "album/own/one.png": "../../store/cat/3.png",
        "store/dog/onwards": "../cat",
        "store/cat/back": "../dog",
        "album/own/self": ".",
        "album/again": "own",
        "album/root": "/",
        "album/holder": "..",
        "album/.secret": "../store",
        "album/gone.png": "nowhere.png",
    }
    for link, target in links.items():
        (tmp_path / link).symlink_to(target)
    os.mkfifo(tmp_path / "album/pipe.png")
    return tmp_path / "album"


FOUND = ["dog/1", "dog/2", "dog/onwards/3", "own/0", "own/one"]


def test_linked_folders_are_followed_once_each_and_circles_end(album):
    assert ids(album) == FOUND
    assert read_items(str(album), None, (IMAGE,)).remarks == (
        f"followed linked folders: 2 ({album}/dog, ...)",
        f"linked folders not entered, for they lead to one that is read anyway or holds them: 5 ({album}/again, ...)",
        f"passed over links that lead nowhere: 1 ({album}/gone.png)",
        f"passed over what is no regular file: 1 ({album}/pipe.png)",
    )


def test_a_glob_follows_as_a_folder_does(album):
    whole = read_items(f"{album}/**/*.png", None, (IMAGE,))
    assert [item.id for item in whole.items] == FOUND and whole.remarks == folders.walk(album).remarks()
    assert ids(f"{album}/**") == FOUND
    assert ids(f"{album}/*/*.png") == ["again/0", "again/one", "dog/1", "dog/2", "own/0", "own/one"]
    assert ids(f"{album}/dog/[1-9].png") == ["1", "2"]


def test_what_has_no_link_keeps_its_ids_whatever_links_lie_before_it(tmp_path):
    touch(tmp_path, "in/z/1.png", "in/z/deep/2.png")
    (tmp_path / "in/a").symlink_to("z/deep")
    assert ids(tmp_path / "in") == ["z/1", "z/deep/2"]


def test_links_to_links_do_not_multiply(tmp_path):
    """Each folder links twice to the next: two to the power of 40 ways, and 41 folders."""
    for level in range(41):
        touch(tmp_path, f"store/{level}/x.png")
        for name in ("l", "r") if level < 40 else ():
            (tmp_path / f"store/{level}/{name}").symlink_to(f"../{level + 1}")
    (tmp_path / "in").mkdir()
    (tmp_path / "in/first").symlink_to("../store/0")
    found = folders.walk(tmp_path / "in")
    assert 30 < len(found.files) <= 41  # the system follows 40 links in one path


def test_only_links_to_nowhere_are_said(tmp_path):
    (tmp_path / "a.png").symlink_to("b.png")
    with pytest.raises(InputError, match=r"saw no file at all; passed over links that lead nowhere: 1 \(.*a\.png\)"):
        ids(tmp_path)


@pytest.mark.parametrize("pattern", ["", "/**/*.png"])
def test_deep_nests_are_walked(tmp_path, pattern):
    touch(tmp_path, "/".join(["d"] * 200) + "/x.png")
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 100)  # as 1,100 folders are to the usual limit
    try:
        assert len(ids(f"{tmp_path}{pattern}")) == 1
    finally:
        sys.setrecursionlimit(before)


@pytest.mark.parametrize("pattern", ["", "/**/*.png"])
def test_what_no_path_reaches_is_counted(tmp_path, monkeypatch, pattern):
    touch(tmp_path, "x.png")
    monkeypatch.chdir(tmp_path)
    for _ in range(22):  # step by step, for no path may be that long
        os.mkdir("n" * 200)
        os.chdir("n" * 200)
    Path("unreachable.png").write_bytes(b"x")
    items = read_items(f"{tmp_path}{pattern}", None, (IMAGE,)).items
    assert [item.problem for item in items] == [None, "not read: File name too long"]
    assert len(items[1].id) > 3000 and items[1].source.endswith("n/")
