"""A folder of a stranger, with everything in it that could do harm, before every command that takes a folder."""

import io
import json
import os
import shutil
import stat
from pathlib import Path

import pytest
import torch
from PIL import Image
from spaces import load_fake_encoder, make_memory, make_space

import cmcr.ask.subject as subject_module
from cmcr import Memory, Modality
from cmcr.ask import make_index
from cmcr.cli import main
from cmcr.memory import MemoryWriter
from cmcr.space import ConnectedSpace

TEXT, IMAGE, AUDIO = Modality.TEXT, Modality.IMAGE, Modality.AUDIO
SECRET = "the user's own words"
ESCAPES = "\x1b]0;owned\x07\x1b[2J\u202e\u2066\x9b31m\x7f\u2028"
UNFIT = set("\x1b\x07\u202e\u2066\x9b\x7f\u2028")


def png():
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home with files of its user, and a working directory in it that holds what a stranger sent."""
    home = tmp_path / "home"
    (home / "private" / "folder").mkdir(parents=True)
    (home / "private" / "secret.txt").write_text(SECRET)
    (home / "private" / "me.png").write_bytes(png())
    (home / "project").mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("SECRET", SECRET)
    monkeypatch.chdir(home / "project")
    monkeypatch.setattr(subject_module, "load_encoder", load_fake_encoder)
    return home


@pytest.fixture
def untouched(home):
    """Fail when anything of the user's has changed, or a file came to it, after the test."""

    def state():
        return {path: path.read_bytes() if path.is_file() else None for path in sorted((home / "private").rglob("*"))}

    before = state()
    yield
    assert state() == before


def memories():
    """Write two memories that can be connected, with a stranger's texts in every place that is shown."""
    texts = {f"t{n}": (f"texts.txt:{n}{ESCAPES}", f"text {n} {ESCAPES}", f"{n}".encode()) for n in range(40)}
    images = {f"i{n}{ESCAPES}": (f"../i{n}.png", None, f"i{n}".encode()) for n in range(8)}
    images |= {
        "passwd": ("/etc/passwd", None, b"1"),
        "environ": ("/proc/self/environ", None, b"2"),
        "secret": ("../../private/secret.txt", None, b"3"),
        "me": ("../../private/me.png", None, b"4"),
        "linked": ("linked.png", None, b"5"),
    }
    for name, rows in (
        ("seer", {TEXT: texts, IMAGE: images}),
        ("hearer", {TEXT: texts, AUDIO: {"a": ("a.wav", None, b"a")}}),
    ):
        make_memory(name, name, rows, shard=100)
    os.symlink("../../private/me.png", "seer/linked.png")


PAGE = ["--html", "out.html"]
COMMANDS = {
    "info": ["info", "seer"],
    "verify": ["info", "seer", "--verify"],
    "info space": ["info", "space"],
    "verify space": ["info", "space", "--verify"],
    "verify run": ["info", "space.run", "--verify"],
    "retrieve": ["retrieve", "space", "seer#me", "--in", "seer", "--modality", "image", "-k", "20", *PAGE],
    "retrieve text": ["retrieve", "space", "seer#t1", "--in", "seer", "--modality", "text", *PAGE],
    "retrieve index": ["retrieve", "space", "seer#me", "--in", "seer", "--modality", "image", "--index", "flat"],
    "index": ["index", "seer", "--space", "space", "--modality", "image", "--kind", "flat"],
    "export": ["export", "space", "seer", "-o", "out", "--format", "npy", "--modality", "text"],
    "map": ["map", "seer", "--space", "space", "-o", "out.html", "--by", "folder"],
    "connect": ["connect", "seer", "hearer", "-o", "space", "--method", "route", "--overwrite"],
    "retention": ["eval", "retrieval", "space", "--a", "seer:text", "--b", "hearer:text", "-o", "out", "--html"],
}  # fmt: skip


def run(command, capsys):
    """Run a command; assert that it ends with clean lines, and return its exit code."""
    code = main(list(COMMANDS[command]))
    out, err = capsys.readouterr()
    assert code in (0, 1)
    assert not UNFIT & set(out + err)
    assert code == 0 or "error: " in err or "problems" in err
    assert err.count("error: ") <= 1 and "Traceback" not in err
    assert SECRET not in out + err
    return code


def plant_links(home):
    """Put a link to the user's files wherever something is written: temporary files, locks, targets."""
    make_index(ConnectedSpace.from_pretrained("space"), Memory.open("seer"), IMAGE, "flat")
    secret = home / "private" / "secret.txt"
    folders = ["seer", "seer/metadata", "seer/img_emb", "seer/text_emb", "seer/index", "space", "space.run", "out", "."]
    for folder in folders:
        os.makedirs(folder, exist_ok=True)
        names = [each for each in os.listdir(folder) if os.path.isfile(f"{folder}/{each}") and each[0] != "."]
        names += ["out.html", "text.npy", "text_ids.txt", "config.json", "metrics.jsonl", "result.json", "index.html"]
        for name in set(names):
            for planted in (f".{name}.partial", f".{name}.0123456789abcdef.partial"):
                os.symlink(secret, f"{folder}/{planted}")
    for lock in ("seer/.lock", "seer/index/.lock", "space.run/.lock"):
        if os.path.lexists(lock):
            os.unlink(lock)
        os.symlink(secret, lock)
    for target in (
        "out.html",
        "out/text.npy",
        "out/text_ids.txt",
        "out/result.json",
        "out/index.html",
        "space/README.md.new",
    ):
        os.symlink(secret, target)
    os.unlink("space/README.md")
    os.symlink(secret, "space/README.md")


def linked_folders(home):
    for name in ("seer/index", "seer/staged", "space.run/pairs", "space.run/graphs"):
        os.makedirs(os.path.dirname(name), exist_ok=True)
        shutil.rmtree(name, ignore_errors=True)
        os.symlink(home / "private" / "folder", name)


FILES = ("seer/manifest.json", "seer/metadata/img_0000.jsonl", "seer/img_emb/img_emb_0000.npy", "space/config.json",
         "space/model.safetensors", "space/README.md", "hearer/manifest.json", "hearer/text_emb/text_emb_0000.npy",
         "seer/skipped.jsonl", "seer/index/x.faiss", "seer/index/x.json")  # fmt: skip


def instead(make):
    def plant(name):
        os.makedirs(os.path.dirname(name), exist_ok=True)
        if os.path.lexists(name):
            os.unlink(name)
        make(name)

    return plant


def sparse(name):
    with open(name, "wb") as file:
        file.truncate(1 << 40)


@pytest.fixture
def sent(home, untouched):
    memories()
    make_space().save("space")
    os.makedirs("out")


def test_links_in_a_strangers_folders_are_neither_written_through_nor_read(sent, home, capsys):
    plant_links(home)
    for command in COMMANDS:
        run(command, capsys)
        for page in ("out.html", "out/index.html"):
            if not os.path.islink(page) and os.path.exists(page):
                text = Path(page).read_text("utf-8")
                assert SECRET not in text and "root:" not in text and not UNFIT & set(text)
                assert "data:image/jpeg" not in text  # the only picture there is lies outside
    assert not [name for name in os.listdir("seer/index") if name.endswith(".partial")]


def test_embedding_into_a_strangers_memory_removes_what_was_planted(sent, home):
    plant_links(home)
    os.makedirs("seer/staged", exist_ok=True)
    os.symlink(home / "private" / "secret.txt", "seer/staged/plan.json.x")
    info = Memory.open("seer").encoder
    assert any(name.endswith(".partial") for name in Memory.open("seer").leftovers())
    with MemoryWriter("seer", info) as writer:
        assert writer.memory.leftovers() == []
    assert stat.S_ISREG(os.lstat("seer/.lock").st_mode)


def test_nothing_is_written_where_a_folder_of_an_artifact_is_a_link(sent, home, capsys):
    linked_folders(home)
    assert run("index", capsys) == run("connect", capsys) == 1
    for command in COMMANDS:
        run(command, capsys)


PLANTS = {"pipe": os.mkfifo, "hole": sparse, "device": lambda name: os.symlink("/dev/zero", name)}
QUICK = {("hole", FILES[0]), ("pipe", FILES[1]), ("hole", FILES[1]), ("hole", FILES[2]), ("pipe", FILES[3])}


@pytest.mark.parametrize(
    ("make", "name"),
    [
        pytest.param(make, name, id=f"{kind}-{name}", marks=() if (kind, name) in QUICK else pytest.mark.slow)
        for kind, make in PLANTS.items()
        for name in FILES
    ],
)
def test_no_command_waits_for_a_pipe_or_believes_a_size(sent, capsys, make, name):
    instead(make)(name)
    space = name.startswith("space")
    for command in ("verify space", "retrieve") if space else ("info", "verify", "retrieve", "connect"):
        run(command, capsys)


def test_weights_that_are_not_finite_are_refused_by_every_command(sent, capsys):
    space = make_space()
    with torch.no_grad():
        space.projectors["seer"].body[0].weight.fill_(float("nan"))
    space.save("space")
    for command in ("verify space", "retrieve", "index", "export", "map"):
        assert run(command, capsys) == 1


def test_a_strangers_names_and_settings_reach_no_terminal(sent, capsys):
    config = json.loads(Path("space/config.json").read_text())
    for value in (config["recipe"], config["metrics"]):
        value[f"x{ESCAPES}"] = ESCAPES
    config["method"] = ESCAPES
    Path("space/config.json").write_text(json.dumps(config))
    manifest = json.loads(Path("seer/manifest.json").read_text())
    manifest["encoder"]["name"] = ESCAPES
    Path("seer/manifest.json").write_text(json.dumps(manifest))
    for command, name in (("info", "encoder"), ("info space", "method")):
        assert main([*COMMANDS[command], "--json"]) == 0
        out = capsys.readouterr().out
        assert not UNFIT & set(out) and json.loads(out)[name] == ESCAPES
    for command in COMMANDS:
        run(command, capsys)
