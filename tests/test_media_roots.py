import io
import os
import tarfile

import pytest
from PIL import Image
from spaces import make_memory, make_space

from cmcr import Memory, Modality
from cmcr.cli import main
from cmcr.errors import InputError
from cmcr.memory import MediaRoots, OutsideError
from cmcr.report import Previews

IMAGE, TEXT = Modality.IMAGE, Modality.TEXT


def png(colour="red"):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home folder with a picture nobody is to see, and a project in it, which is the working directory."""
    home = tmp_path / "home"
    (home / "project" / "photos").mkdir(parents=True)
    (home / "private").mkdir()
    for path in (home / "private" / "me.png", home / "project" / "photos" / "a.png"):
        path.write_bytes(png())
    with tarfile.open(home / "private" / "me.tar", "w") as tar:
        tar.add(home / "private" / "me.png", "me.png")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(home / "project")
    return home


def memory_of(home, *sources):
    rows = {str(number): (source, None, str(number).encode()) for number, source in enumerate(sources)}
    return make_memory(home / "project" / "mem", "seer", {IMAGE: rows})


def shown(memory, **options):
    previews = Previews(**options)
    return [previews.of_row(memory, IMAGE, row) for row in memory.metadata(IMAGE)], previews


def test_a_row_opens_what_lies_in_the_working_directory_and_nothing_else(home):
    os.symlink(home / "private" / "me.png", home / "project" / "link.png")
    os.symlink(home / "private", home / "project" / "linked")
    outside = [
        "../../private/me.png",
        str(home / "private" / "me.png"),
        "../photos/../../private/me.png",
        "../link.png",
        "../linked/me.png",
        "../../private/me.tar!me.png",
        "/proc/self/cwd/../private/me.png",
    ]
    media, previews = shown(memory_of(home, "../photos/a.png", *outside))
    assert [each.kind for each in media] == ["image", *["none"] * len(outside)]
    assert {each.note for each in media[1:]} == {
        "not opened: it lies outside of the working directory and of every --media-root"
    }
    assert previews.outside == len(outside)
    media, previews = shown(Memory.open("mem"), roots=MediaRoots([home / "private"]))
    assert [each.kind for each in media] == ["image"] * (1 + len(outside)) and previews.outside == 0


def test_a_memory_may_hold_its_files_itself(home, tmp_path, monkeypatch):
    memory = memory_of(home, "photos/b.png")
    (memory.path / "photos").mkdir()
    (memory.path / "photos" / "b.png").write_bytes(png())
    monkeypatch.chdir(tmp_path)
    assert shown(Memory.open(home / "project" / "mem"))[0][0].kind == "image"


@pytest.mark.parametrize("where", [".", "..", "/"])
def test_neither_the_home_nor_what_is_above_it_is_a_project(home, monkeypatch, where):
    memory = memory_of(home, "../photos/a.png")
    monkeypatch.chdir(home / where)
    assert MediaRoots().folders == []
    with pytest.raises(OutsideError):
        memory = Memory.open(home / "project" / "mem")
        memory.source_bytes(memory.row(IMAGE, 0))
    assert MediaRoots(["project"] if where == "." else [home]).folders


def test_a_folder_beside_one_with_the_same_beginning_is_outside(home):
    (home / "project2").mkdir()
    (home / "project2" / "a.png").write_bytes(png())
    assert shown(memory_of(home, "../../project2/a.png"))[1].outside == 1


def test_only_files_of_the_modality_are_opened_and_texts_never(home):
    for name in ("secret.env", "secret", "secret.txt"):
        (home / "project" / name).write_bytes(png())
    media, _ = shown(memory_of(home, "../secret.env", "../secret", "../secret.txt"))
    assert [each.note for each in media] == [
        f"not opened: {what} is not of image" for what in (".env", "no suffix", ".txt")
    ]
    texts = make_memory(home / "project" / "texts", "seer", {TEXT: {"t": ("../secret.txt", None, b"t")}})
    row = texts.row(TEXT, 0)
    assert Previews().of_row(texts, TEXT, row).note == "text not kept"


def test_a_pipe_is_not_waited_for(home):
    os.mkfifo(home / "project" / "pipe.png")
    media, _ = shown(memory_of(home, "../pipe.png"))
    assert media[0].kind == "none"


def test_what_is_no_folder_is_refused(home):
    with pytest.raises(InputError, match="not a folder"):
        MediaRoots(["nowhere"])


def test_the_command_says_how_to_show_what_it_left_out(home, capsys, monkeypatch):
    make_space().save("space")
    memory_of(home, "../photos/a.png", "../../private/me.png")
    command = ["retrieve", "space", "mem#0", "--in", "mem", "--html", "hits.html"]
    assert main(command) == 0
    err = capsys.readouterr().err
    assert "warning: 1 files were not opened for the page" in err and "--media-root DIR" in err
    page = (home / "project" / "hits.html").read_text()
    assert page.count("data:image/jpeg") == 2 and "outside of the working directory" in page  # the query, and its hit
    assert main([*command, "--media-root", str(home / "private")]) == 0
    assert "warning" not in capsys.readouterr().err
    assert (home / "project" / "hits.html").read_text().count("data:image/jpeg") == 3
    assert main([*command, "--media-root", "nowhere"]) == 2


@pytest.mark.parametrize("source", ["x" * 5000 + ".png", "../" + "d/" * 3000 + "a.png", f"{'t' * 5000}.tar!a.png"])
def test_a_source_that_no_file_can_have_costs_its_card_only(home, capsys, source):
    memory = memory_of(home, "../photos/a.png", source)
    media, _ = shown(memory)
    assert [(each.kind, each.note) for each in media] == [("image", ""), ("none", "file not found")]
    make_space().save("space")
    query = ["mem#0", "--in", "mem", "--modality", "image", "-k", "2"]
    assert main(["retrieve", "space", *query, "--html", "out.html"]) == 0
    assert capsys.readouterr().err.count("error") == 0
