"""``cmcr embed`` and ``cmcr info`` as a user meets them: exit codes, one-line errors, JSON, and what is said next."""

import errno
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from spaces import make_space

from cmcr import ConnectConfig, ConnectedSpace
from cmcr.cli import main
from cmcr.memory import Memory
from cmcr.modality import Modality

pytestmark = pytest.mark.usefixtures("fake_encoders")


@pytest.fixture
def cmcr(tmp_path, monkeypatch, capsys):
    """Run the command line in an empty folder; returns (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return call


def error_line(result):
    code, out, err = result
    assert code == 1 and out == "" and err.startswith("error: ") and err.count("\n") == 1, result
    return err


def test_embed_tells_what_it_did_and_what_comes_next(cmcr, write_files):
    write_files("photos", "image", 3)
    with open("photos/001.png", "wb") as file:
        file.write(b"no picture")
    with open("photos/notes.md", "wb") as file:
        file.write(b"# notes")
    code, out, err = cmcr("embed", "photos", "--encoder", "fake-clip", "-o", "mem/clip")
    assert (code, out) == (0, "")
    assert "mem/clip: 2 image embedded, 1 skipped; it holds 2" in err
    assert "left aside for their suffix: .md (1)" in err
    assert "skipped 1: not a picture that Pillow can read (../../photos/001.png)" in err
    assert "next: cmcr embed INPUT -e fake-clip -o mem/clip" in err
    with open("texts.txt", "w") as file:
        file.write("a dog\na cat\na dog\n")
    code, _, err = cmcr("embed", "texts.txt", "--encoder", "fake-clip", "-o", "mem/clip")
    assert code == 0 and "2 text embedded, 1 repeated; it holds 2" in err and "next: cmcr connect mem/clip" in err


def test_equal_names_in_two_folders_are_told_apart(cmcr, write_files):
    write_files("A", "image", 2)
    write_files("B", "image", 3, start=1)
    os.replace("B/003.png", "B/001.png")
    assert cmcr("embed", "A", "-e", "fake-clip", "-o", "mem")[0] == 0
    reason = "has the same id as ../A/001.png, which is in the memory: give --id-prefix"
    for more in ((), (), ("--retry-skipped",)):
        code, _, err = cmcr("embed", "B", "-e", "fake-clip", "-o", "mem", *more)
        assert code == 0 and f"skipped 1: {reason} (../B/001.png)" in err and "changed" not in err
    assert [skip.reason for skip in Memory.open("mem").skipped()] == [reason]
    assert "2 image embedded; it holds 5" in cmcr("embed", "B", "-e", "fake-clip", "-o", "mem", "--id-prefix", "B")[2]
    assert Memory.open("mem").ids(Modality.IMAGE) == ["000", "001", "002", "B/001", "B/002"]
    cmcr("embed", "A", "B", "-e", "fake-clip", "-o", "both")
    assert Memory.open("both").ids(Modality.IMAGE) == ["A/000", "A/001", "B/001", "B/002"]
    os.rename("A", "moved")
    assert "0 image embedded, 2 already there" in cmcr("embed", "moved", "-e", "fake-clip", "-o", "mem")[2]
    os.replace("B/002.png", "moved/001.png")
    os.rename("moved", "A")
    assert "skipped 1: changed since it was embedded (" in cmcr("embed", "A", "-e", "fake-clip", "-o", "mem")[2]


def test_an_id_of_two_texts_says_both_that_it_may_mean(cmcr):
    for folder, text in (("A", "a dog"), ("B", "a cat")):
        os.mkdir(folder)
        with open(f"{folder}/captions.jsonl", "w") as file:
            file.write(json.dumps({"id": "1", "text": text}) + "\n")
    cmcr("embed", "A/captions.jsonl", "-e", "fake-clip", "-o", "mem")
    for _ in range(2):
        code, _, err = cmcr("embed", "B/captions.jsonl", "-e", "fake-clip", "-o", "mem")
        assert code == 1 and "changed since it was embedded, or of another list: then give --id-prefix (captions" in err
        assert len(Memory.open("mem").skipped()) == 1


def test_files_of_one_key_are_counted_together_and_named(cmcr, write_files):
    for number in range(4):
        photos = write_files("photos", "image", 4)
        (photos / f"00{number}.jpg").write_bytes((photos / f"00{number}.png").read_bytes())
    err = cmcr("embed", "photos", "-e", "fake-clip", "-o", "mem")[2]
    assert "skipped 4: has the same id as photos/000.jpg (../photos/000.png)" in err


def test_nothing_kept_is_an_error_and_nothing_new_is_none(cmcr, write_files):
    photos = write_files("photos", "image", 2)
    for path in photos.iterdir():
        path.rename(path.with_suffix(".keep"))
        path.write_bytes(b"no picture")
    command = ("embed", "photos", "-e", "fake-clip", "-o", "mem")
    for _ in range(2):
        code, _, err = cmcr(*command)
        assert code == 1 and "next:" not in err
        assert err.endswith("error: mem: nothing was embedded: all 2 items were skipped; mend them and run it again\n")
    code, out, _ = cmcr(*command, "--json")
    assert code == 1 and json.loads(out)["added"][0]["rows"] == 0
    for path in photos.glob("*.keep"):
        path.rename(path.with_suffix(".png"))
    assert cmcr(*command)[0] == 0
    code, _, err = cmcr(*command)
    assert code == 0 and "0 image embedded, 2 already there" in err


def test_names_of_any_bytes_from_the_input_to_the_memory(cmcr, write_files, tmp_path):
    """The folder and its files are no UTF-8; a list names what cannot be a path."""
    photos = write_files(os.fsdecode(b"phot\xf6s"), "image", 3)
    (photos / "001.png").rename(photos / os.fsdecode(b"\xe9.png"))
    (photos / "002.png").write_bytes(b"no picture")
    (photos / "002.png").rename(photos / os.fsdecode(b"\xe8.png"))
    code, out, err = cmcr("embed", photos, "-e", "fake-clip", "-o", "mem", "--json")
    assert code == 0 and "2 image embedded, 1 skipped" in err and json.loads(out)["added"][0]["embedded"] == 2
    memory = Memory.open("mem")
    assert memory.ids(Modality.IMAGE) == ["000", r"\xe9"] and memory.verify() == []
    assert [row.source for row in memory.metadata(Modality.IMAGE)][1] == r"../phot\xf6s/\xe9.png"
    assert [skip.id for skip in memory.skipped()] == [r"\xe8"]
    assert "2 already there" in cmcr("embed", photos, "-e", "fake-clip", "-o", "mem")[2]
    paths = ["\ud800/x.png", "a\0b/x.png", "gone.png"]
    (tmp_path / "l.jsonl").write_text("".join(json.dumps({"image": path}) + "\n" for path in paths))
    code, _, err = cmcr("embed", "l.jsonl", "-e", "fake-clip", "-o", "lists")
    assert code == 1 and "all 3 items were skipped" in err


def test_linked_folders_are_followed_and_said(cmcr, write_files):
    write_files("store", "image", 3)
    os.mkdir("photos")
    os.symlink("../store", "photos/linked")
    code, out, err = cmcr("embed", "photos", "-e", "fake-clip", "-o", "mem", "--json")
    assert code == 0 and "3 image embedded" in err and "followed linked folders: 1 (photos/linked)" in err
    assert json.loads(out)["added"][0]["remarks"] == ["followed linked folders: 1 (photos/linked)"]
    assert Memory.open("mem").ids(Modality.IMAGE) == ["linked/000", "linked/001", "linked/002"]


def test_json_and_strict(cmcr, write_files):
    write_files("photos", "image", 3)
    with open("photos/001.png", "wb") as file:
        file.write(b"")
    command = ("embed", "photos", "-e", "fake-clip", "-o", "mem", "--strict", "--json", "--dtype", "float32")
    code, out, _ = cmcr(*command)
    assert code == 1 and Memory.open("mem").rows(Modality.IMAGE) == 2 and Memory.open("mem").dtype == "float32"
    expected = {"modality": "image", "items": 3, "embedded": 2, "already": 0, "duplicates": 0, "ignored": {}}
    expected |= {"skipped": 1, "reasons": {"empty file": 1}, "rows": 2}
    assert json.loads(out) == {"memory": "mem", "encoder": "fake-clip", "added": [expected]}
    os.unlink("photos/001.png")
    assert cmcr(*command)[0] == 0


def test_from_vectors(cmcr):
    np.save("v.npy", np.eye(3, dtype=np.float32))
    with open("ids.txt", "w") as file:
        file.write("a\nb\nc\n")
    command = ("embed", "--from-vectors", "v.npy", "--ids", "ids.txt", "--encoder-name", "big", "--modality", "audio")
    assert cmcr(*command, "--sources", "ids.txt", "-o", "mem")[0] == 0
    code, _, err = cmcr(*command, "-o", "mem")
    assert code == 0 and "0 audio embedded, 3 already there" in err and "next: cmcr connect mem" in err
    np.testing.assert_array_equal(Memory.open("mem").vectors(Modality.AUDIO), np.eye(3))


def test_info_shows_a_memory_without_reading_its_vectors(cmcr, write_files):
    cmcr("embed", write_files("sounds", "audio", 3), "-e", "fake-clap", "-o", "mem", "--shard-size", 2)
    code, out, _ = cmcr("info", "mem", "--json")
    shown = json.loads(out)
    assert code == 0 and shown["encoder"] == "fake-clap" and shown["dim"] == 16
    assert (shown["rows"], shown["shards"], shown["skipped"]) == ({"audio": 3}, {"audio": 2}, 0)
    assert shown["bytes"] == sum(
        os.path.getsize(f"mem/{d}/{f}") for d in ("audio_emb", "metadata") for f in os.listdir(f"mem/{d}")
    )
    for name in os.listdir("mem/audio_emb"):
        with open(f"mem/audio_emb/{name}", "wb") as file:
            file.write(b"broken")
    code, out, _ = cmcr("info", "mem")
    assert code == 0 and "encoder\tfake-clap" in out and "rows\taudio: 3" in out


def test_info_verify(cmcr, write_files):
    cmcr("embed", write_files("sounds", "audio", 3), "-e", "fake-clap", "-o", "mem")
    code, out, err = cmcr("info", "mem", "--verify")
    assert (code, out) == (0, "") and "mem: sound: 3 audio" in err
    with open("mem/metadata/audio_0000.jsonl", "ab") as file:
        file.write(b"{}\n")
    code, out, err = cmcr("info", "mem", "--verify")
    assert code == 1 and "audio_0000.jsonl: its sha256 is not the manifest's" in out
    assert json.loads(cmcr("info", "mem", "--verify", "--json")[1])["problems"]


def test_info_shows_and_checks_a_space(cmcr, tmp_path):
    make_space().save("space")
    code, out, _ = cmcr("info", "space")
    assert code == 0 and "overlap\ttext" in out
    assert "encoder seer\ttext, image, point_cloud; 12 -> " in out
    assert json.loads(cmcr("info", "space", "--json")[1])["overlap"] == "text"
    assert cmcr("info", "space", "--verify")[2] == "space: sound: seer + hearer\n"
    with open("space/model.safetensors", "ab") as file:
        file.write(b"x")
    assert cmcr("info", "space", "--verify")[0] == 1
    with open("space/config.json", "w") as file:
        json.dump({"format": "cmcr-space", "overlap": "text", "encoders": [{"name": "a"}]}, file)
    code, _, err = cmcr("info", "space")
    assert code == 1 and "was edited by hand (no 'maps'); connect anew" in err


def test_info_shows_the_settings_of_a_space_s_own_method(cmcr, tmp_path):
    made = make_space()
    recipe = ConnectConfig("linear").to_dict() | {"batch_size": 0, "of_old": 1}
    ConnectedSpace(made.encoders, made.maps, made.overlap, "linear", recipe).save("space")
    told = {line.split("\t")[0] for line in cmcr("info", "space")[1].splitlines()}
    assert {"recipe.ridge", "recipe.seed", "recipe.of_old"} <= told
    assert not {"recipe.route_tau", "recipe.intra_weight"} & told
    assert "route_tau" in json.loads(cmcr("info", "space", "--json")[1])["recipe"]


def test_terminal_codes_in_names_are_not_obeyed(cmcr, write_files):
    photos = write_files("photos", "image", 1)
    (photos / "\x1b[31mred.png").write_bytes(b"no picture")
    assert "\x1b" not in cmcr("embed", "photos", "-e", "fake-clip", "-o", "mem")[2]


def test_interrupt_is_130(cmcr, write_files, monkeypatch, fake_encoder):
    def stop(self, modality, prepared):
        raise KeyboardInterrupt

    monkeypatch.setattr(fake_encoder, "encode", stop)
    assert cmcr("embed", write_files("photos", "image", 1), "-e", "fake-clip", "-o", "mem")[0] == 130
    assert Memory.open("mem").verify() == []


def put(name, data=b""):
    def write():
        os.makedirs(os.path.dirname(name) or ".", exist_ok=True)
        with open(name, "wb") as file:
            file.write(data)

    return write


def nothing():
    return None


def foreign_memory():
    put("t.txt", b"a dog\n")()
    assert main(["embed", "t.txt", "-e", "fake-clip", "-o", "mem"]) == 0


FAILS = [
    (nothing, ["photos"], "photos: no such file or folder"),
    (lambda: os.mkdir("photos"), ["photos"], "photos: no usable files; looked for .bmp .gif"),
    (put("photos/a.heic"), ["photos"], "saw .heic (1)"),
    (put("t.txt", "café".encode("latin-1")), ["t.txt"], "t.txt:1: byte 3 (0xe9) is not UTF-8, perhaps Latin-1"),
    (put("t.txt"), ["t.txt"], "t.txt: no text in it"),
    (put("t.txt", b"a"), ["t.txt", "--modality", "audio"], "modality audio; this encoder embeds image and text"),
    (put("t.txt", b"a"), ["t.txt", "-o", "t.txt"], "t.txt: is a file; choose a folder"),
    (put("mem/a.jpg"), ["mem"], "mem: not empty and not a memory (holds 'a.jpg')"),
    (put("x.tar.gz", b"\x1f\x8b0000"), ["x.tar.gz"], "compressed with gzip"),
    (foreign_memory, ["t.txt", "-e", "fake-clap"], "belongs to encoder 'fake-clip'"),
    (foreign_memory, ["t.txt", "--dtype", "float32"], "stores float16, not float32"),
    (lambda: foreign_memory() or put("mem/manifest.json", b"{")(), ["t.txt"], "mem/manifest.json: not JSON"),
    (put("t.txt", b"a"), ["t.txt", "-e", "tiny-clop"], "unknown encoder 'tiny-clop'"),
    (put("t.txt", b"a"), ["t.txt", "-e", "tiny-clop"], "did you mean 'tiny-clip'?"),
    (put("t.txt", b"a"), ["t.txt", "--device", "abacus"], "unknown device 'abacus'"),
    (put("t.txt", b"a"), ["t.txt", "-e", "ulip"], "'pointbert_ULIP-2.pt' not found (looked in"),
    (put("t.txt", b"a"), ["t.txt", "-e", "ulip", "--weights", "w"], "--weights w: no such file or folder"),
    (put("t.txt", b"a"), ["t.txt", "-e", "open_clip:ViT-B-32"], "names no weights"),
    (put("t.txt", b"a"), ["t.txt", "--up", "y"], "--up y is for point clouds; these items are text"),
]


@pytest.mark.parametrize(("prepare", "arguments", "message"), FAILS)
def test_how_it_fails(cmcr, prepare, arguments, message):
    prepare()
    defaults = [
        part for flag, value in (("-e", "fake-clip"), ("-o", "mem")) if flag not in arguments for part in (flag, value)
    ]
    assert message in error_line(cmcr("embed", *arguments, *defaults))


BAD_ITEMS = [
    ("image", "a.png", b"", "empty file"),
    ("image", "a.png", b"\x89PNG\r\n\x1a\n truncated", "picture"),
    ("image", "a.png", b"RIFF a sound called a picture", "not a picture"),
    ("audio", "a.wav", b"", "empty file"),
    ("audio", "a.wav", b"RIFF\xff\xff\0\0WAVEfmt ", "truncated sound"),
    ("audio", "a.wav", b"\x89PNG\r\n\x1a\n a picture called a sound", "unknown sound"),
    ("point_cloud", "a.npy", b"", "empty file"),
    ("point_cloud", "a.npy", b"\x93NUMPY\x01\x00", "damaged point cloud"),
    ("point_cloud", "a.xyz", b"1 2 nan", "non-finite points"),
    ("text", "a.txt", b" \n", "empty text"),
    ("text", "a.txt", b"caf\xe9", "not UTF-8"),
    ("text", "a.txt", b"x" * 100_001, "100001 characters; at most 100000"),
]


@pytest.mark.parametrize(("modality", "name", "data", "reason"), BAD_ITEMS)
def test_a_bad_item_is_a_counted_skip_and_the_others_stay(cmcr, write_files, modality, name, data, reason):
    encoder = {"audio": "fake-clap", "point_cloud": "fake-ulip"}.get(modality, "fake-clip")
    folder = write_files("files", modality, 2)
    (folder / name).write_bytes(data)
    code, _, err = cmcr("embed", "files", "-e", encoder, "-o", "mem")
    assert code == 0 and f"2 {modality} embedded, 1 skipped" in err and reason in err
    assert Memory.open("mem").rows(Modality(modality)) == 2 and Memory.open("mem").verify() == []


@pytest.mark.parametrize(
    ("number", "cure"), [(errno.ENOSPC, "free some space"), (errno.EROFS, "a folder you can write to")]
)
def test_full_disk_and_read_only_folder_lose_nothing(cmcr, write_files, monkeypatch, number, cure):
    photos, calls, real = write_files("photos", "image", 6), [], os.fsync

    def failing(descriptor):
        calls.append(descriptor)
        if len(calls) == 6:  # in the second shard
            raise OSError(number, os.strerror(number))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", failing)
    command = ("embed", photos, "-e", "fake-clip", "-o", "mem", "--shard-size", 2)
    err = error_line(cmcr(*command))
    assert re.match(rf"error: mem/\S+: {os.strerror(number)}; ", err) and cure in err
    assert Memory.open("mem").rows(Modality.IMAGE) == 2
    monkeypatch.setattr(os, "fsync", real)
    assert "4 image embedded, 2 already there" in cmcr(*command)[2]
    assert Memory.open("mem").verify() == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["-o", "mem"],
        ["photos", "-o", "mem"],
        ["photos", "-e", "fake-clip"],
        ["--from-vectors", "v.npy", "-o", "mem"],
        ["photos", "--from-vectors", "v.npy", "--encoder-name", "x", "-o", "mem"],
        ["--from-vectors", "v.npy", "--encoder-name", "x", "-o", "mem", "--id-prefix", "p"],
        ["--from-vectors", "v.npy", "--encoder-name", "x", "-o", "mem"],
        ["photos", "-e", "fake-clip", "-o", "mem", "--batch-size", "0"],
        ["photos", "-e", "fake-clip", "-o", "mem", "--modality", "Smell"],
    ],
)
def test_usage_errors_are_2(cmcr, arguments):
    code, out, _ = cmcr("embed", *arguments)
    assert (code, out) == (2, "")


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (nothing, "mem: does not exist"),
        (put("mem/x"), "mem: holds no manifest.json"),
        (put("mem/config.json", b"{"), "config.json: not JSON"),
        (put("mem/manifest.json", b"{}"), "not the manifest of a memory"),
    ],
)
def test_info_of_something_else(cmcr, prepare, message):
    prepare()
    assert message in error_line(cmcr("info", "mem"))


def test_help_loads_no_heavy_library():
    script = "import sys, cmcr.cli; print([m for m in ('torch', 'numpy', 'PIL', 'soundfile') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "[]\n"
