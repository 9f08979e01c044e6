"""What a command loads before it begins: itself, and nothing of the others."""

import os
import subprocess
import sys

import numpy as np
import pytest

from cmcr import Memory, Modality, connect_arrays
from cmcr.cli import main
from cmcr.cli.groups import LazyGroup
from cmcr.memory import EncoderInfo, MemoryWriter, Row

BOXES = "typer.rich_utils"
HEAVY = ("torch", "numpy", "PIL", "soundfile", "faiss", "safetensors", "jinja2", "filelock", "pydantic", BOXES)
ENCODING = ("faiss", "PIL", "soundfile", "av", "jinja2", "cmcr.encoders.tiny")
SCRIPT = f"""
import sys, cmcr.__main__, cmcr.cli
code = cmcr.cli.main()
own = sorted(name.removeprefix("cmcr.cli.") for name in sys.modules if name.startswith("cmcr.cli."))
print(code, *own, *(name for name in {HEAVY!r} if name in sys.modules))
"""


def loaded_by(*arguments, **environment):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments],
        capture_output=True, text=True, check=True, env=os.environ | environment,
    )  # fmt: skip
    code, *names = done.stdout.splitlines()[-1].split()
    return int(code), names


@pytest.mark.parametrize(
    ("arguments", "code", "names"),
    [
        (["--help"], 0, [BOXES]),
        (["conect"], 2, []),
        (["--nothing"], 2, []),
        ([], 2, [BOXES]),
        (["eval", "--help"], 0, ["evaluate", BOXES]),
        (["eval", "compar"], 2, ["evaluate"]),
        (["info", "--nothing"], 2, ["info"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_help_and_refusals_load_no_other_command_and_no_library(arguments, code, names):
    assert loaded_by(*arguments) == (code, sorted(["groups", *names]))


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["conect"], "cmcr: No such command 'conect'. Did you mean 'connect', 'compact'?; see: cmcr --help"),
        (["eval", "--nothing"], "cmcr eval: No such option: --nothing; see: cmcr eval --help"),
        (["connect"], "cmcr connect: Missing argument 'BASE'; see: cmcr connect --help"),
        (["info", "m", "a\x1b[2Jb"], "cmcr info: Got unexpected extra argument(s) (a\\x1b[2Jb); see: cmcr info --help"),
    ],
)
def test_a_refused_command_line_is_told_in_one_line(capsys, arguments, line):
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"error: {line}\n")


def test_completing_a_name_loads_no_command():
    shell = {"_CMCR_COMPLETE": "complete_bash", "COMP_WORDS": "cmcr ev", "COMP_CWORD": "1"}
    script = "import sys, cmcr.cli\ntry: cmcr.cli.app(prog_name='cmcr')\nfinally: print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=os.environ | shell)
    names, loaded = done.stdout.split("\n")[:2]
    assert names == "eval"
    assert {name for name in loaded.split() if name.startswith("cmcr.cli.")} == {"cmcr.cli.groups"}


@pytest.mark.parametrize("command", [[], ["eval"]], ids=["cmcr", "cmcr eval"])
def test_the_listing_is_what_the_commands_themselves_would_say(monkeypatch, capsys, command):
    assert main([*command, "--help"]) == 0
    listed = capsys.readouterr().out
    monkeypatch.setattr(LazyGroup, "_by_name", lambda group, method, *arguments: method(*arguments))  # they are loaded
    assert main([*command, "--help"]) == 0
    assert capsys.readouterr().out == listed


def test_no_garbage_is_searched_for_while_libraries_load_and_as_always_afterwards():
    script = """
import gc, cmcr.process as process
usual = gc.get_threshold()
process.search_later()
searched = gc.get_stats()[0]["collections"]
kept = [[] for _ in range(250_000)]
assert gc.get_stats()[0]["collections"] == searched and not gc.get_freeze_count()
kept += [[] for _ in range(100_000)]
assert gc.get_stats()[0]["collections"] > searched and gc.get_freeze_count() > 250_000
assert gc.get_threshold() == usual and not gc.callbacks
process.unfrozen = gc.get_freeze_count()
process.end()
assert gc.get_freeze_count() > process.unfrozen
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_script_postpones_the_search():
    script = (
        "import gc, sys, cmcr.__main__, cmcr.cli\n"
        "cmcr.cli.main = lambda: print(gc.get_threshold()[0]) or 0\n"
        "cmcr.__main__.run()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(done.stdout) == 300_000


@pytest.fixture
def asked(tmp_path):
    """A folder with the space of two encoders, and a memory of each."""
    texts = np.random.default_rng(0).normal(size=(200, 8))
    a, b = {"text": texts, "image": texts[:60]}, {"text": texts[:, ::-1], "audio": texts[:60, ::-1]}
    connect_arrays(a=a, b=b, via="text", method="linear").save(tmp_path / "space")
    for name, held in (("a", a), ("b", b)):
        with MemoryWriter(tmp_path / name, EncoderInfo(name, f"imported:{name}", 8)) as writer:
            for kind, vectors in held.items():
                rows = [Row(f"{kind}-{n}", f"{n}", None, None) for n in range(len(vectors))]
                writer.append(Modality(kind), vectors, rows)
    return tmp_path


@pytest.mark.parametrize(("index", "names"), [("exact", []), ("flat", ["faiss"])])
def test_a_row_is_asked_for_without_an_encoder_and_faiss_is_loaded_for_an_index_alone(asked, monkeypatch, index, names):
    monkeypatch.chdir(asked)
    if index != "exact":
        assert main(["index", "a", "--space", "space", "--modality", "image", "--kind", index]) == 0
    line = ["retrieve", "space", "b:audio#audio-4", "--in", "a", "--modality", "image", "-k", "1", "--index", index]
    script = f"""
import sys, cmcr.cli
code = cmcr.cli.main({line!r})
print(code, *(name for name in {ENCODING!r} if name in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1].split() == ["0", *names]
    assert "image-4" in done.stdout


def test_info_counts_a_memory_without_reading_a_row(asked, monkeypatch, capsys):
    opened, real = [], Memory._shard_vectors
    monkeypatch.setattr(Memory, "_shard_vectors", lambda *given: opened.append("vectors") or real(*given))
    monkeypatch.setattr(Memory, "_shard_metadata", lambda *given: opened.append("metadata") or iter(()))
    monkeypatch.setattr("cmcr.memory.memory.open_file", lambda path: opened.append(str(path)))
    monkeypatch.setattr("cmcr.memory.memory.read_lines", lambda path: opened.append(str(path)) or iter(()))
    assert main(["info", str(asked / "a")]) == 0
    assert "image: 60" in capsys.readouterr().out
    assert opened == []
