"""The program amid closed, full and narrow streams, signals and odd arguments: an exit code, a line, never a trace."""

import errno
import json
import os
import signal
import subprocess
import sys

import pytest

from cmcr import console, process
from cmcr.cli import main
from cmcr.files import write_atomic, write_json, write_text


def run(tmp_path, command, environment=(), **streams):
    """Run a shell line in an empty folder; returns (code, stdout, stderr), without a trace in the latter."""
    done = subprocess.run(
        ["bash", "-c", command.replace("CMCR", f"{sys.executable} -m cmcr")],
        cwd=tmp_path,
        env={**os.environ, **dict(environment)},
        capture_output=True,
        timeout=120,
        # Whoever runs the tests in the background of a shell has Ctrl-C ignored, and so would all that they start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        **streams,
    )
    out, err = (text.decode("utf-8", "surrogateescape") for text in (done.stdout, done.stderr))
    assert not any(word in err for word in ("Traceback", "Exception ignored", "Fatal")), err
    return done.returncode, out, err


FULL = "error: standard output: No space left on device; free some space and run the same command again\n"
CLOSED = "error: standard output: Bad file descriptor; it is closed: give it somewhere to go\n"


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("CMCR info space > /dev/full", (1, "", FULL)),
        ("CMCR info space >&-", (1, "", CLOSED)),
        ("CMCR info none <&- >&- 2>&-", (1, "", "")),
        ("CMCR info none > /dev/full 2> /dev/full", (1, "", "")),
        ("CMCR --help 2>&- | head -c 0", (0, "", "")),
    ],
)
def test_streams_that_are_closed_or_full(tmp_path, command, expected):
    write_json(tmp_path / "space" / "config.json", {"format": "cmcr-space", "encoders": []})
    assert run(tmp_path, command) == expected


def test_a_closed_stdin_is_empty():
    code = "import sys; from cmcr import process; process.mend_streams(); sys.exit(len(sys.stdin.buffer.read()))"
    assert subprocess.run(["bash", "-c", f"{sys.executable} -c '{code}' <&-"]).returncode == 0


def test_no_file_takes_the_number_of_a_closed_stream(tmp_path):
    code = "import os; from cmcr import process; process.mend_streams(); print(os.open('/dev/null', 0), file=o)"
    command = f"exec 7>numbers; {sys.executable} -c \"o = open(7, 'w'); {code}\" <&- >&- 2>&-"
    assert run(tmp_path, command)[0] == 0
    assert int((tmp_path / "numbers").read_text()) > 2


def test_streams_that_are_not_unicode_get_escapes_and_json_stays_json(tmp_path):
    (tmp_path / "mü").mkdir()
    write_json(tmp_path / "mü" / "config.json", {"format": "cmcr-space", "method": "süß \U0001f600", "encoders": []})
    narrow = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
    code, out, _ = run(tmp_path, "CMCR info mü --json", narrow)
    assert code == 0 and out.isascii() and json.loads(out)["method"] == "süß \U0001f600"
    code, out, err = run(tmp_path, "CMCR info mü; CMCR info nü", narrow)
    assert code == 1 and "method\ts\\xfc\\xdf \\U0001f600" in out and "does not exist" in err and err.isascii()


INTERRUPTING = """
import os, signal, sys

class Finder:
    # Ctrl-C comes just when a module is looked for, and whoever imports it makes of it what it likes.
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["AT"]:
            for _ in range(int(os.environ.get("TIMES", "1"))):
                try:
                    os.kill(os.getpid(), signal.SIGINT)
                except KeyboardInterrupt:
                    if os.environ.get("MADE"):
                        raise ImportError("made of it")
                    if "TIMES" not in os.environ:
                        raise

sys.meta_path.insert(0, Finder())
"""
INTERRUPTED = "error: interrupted; what was written is whole, and the same command goes on from there\n"


@pytest.mark.parametrize(
    "how",
    [
        {"AT": "cmcr.cli"},
        {"AT": "typer"},
        {"AT": "cmcr.memory.manifest"},
        {"AT": "cmcr.memory.manifest", "MADE": "1"},
        {"AT": "cmcr.memory.manifest", "TIMES": "2"},
    ],
    ids=["before", "while loading", "in a command", "made into an error", "twice"],
)
def test_ctrl_c_at_any_time_is_one_line_and_130(tmp_path, how):
    (tmp_path / "sitecustomize.py").write_text(INTERRUPTING)
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    assert run(tmp_path, "CMCR info none", {"PYTHONPATH": path, **how}) == (130, "", INTERRUPTED)


def test_ctrl_c_that_is_ignored_stays_ignored(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(INTERRUPTING)
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    command = "trap '' INT; CMCR info none"
    code, _, err = run(tmp_path, command, {"PYTHONPATH": path, "AT": "cmcr.memory.manifest"})
    assert code == 1 and err.startswith("error: none: does not exist")


def test_a_termination_ends_without_a_trace(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(INTERRUPTING.replace("SIGINT", "SIGTERM"))
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    code, out, err = run(tmp_path, "exec CMCR info none", {"PYTHONPATH": path, "AT": "cmcr.memory.manifest"})
    assert (code, out, err) == (-signal.SIGTERM, "", "")


@pytest.mark.parametrize(
    ("raised", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "some/file"), "some/file: No space left on device; free"),
        (OSError(errno.EIO, "Input/output error"), "Input/output error; nothing half-written"),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "f/x"), "f/x: Not a directory; a file is in the way"),
        (MemoryError(), "there is not enough memory"),
        (AttributeError("no such thing"), "AttributeError: no such thing; this is a fault of cmcr"),
        (RecursionError(), "RecursionError: nested too deeply; this is a fault of cmcr"),
    ],
)
def test_whatever_a_command_raises_is_one_line(monkeypatch, capsys, raised, message):
    def fails(columns, rows):
        raise raised

    monkeypatch.setattr(console, "show_table", fails)
    assert main(["encoders"]) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"error: {message}") and err.count("\n") == 1
    monkeypatch.setenv("CMCR_TRACEBACK", "1")
    if "fault of cmcr" in message:
        with pytest.raises(type(raised)):
            main(["encoders"])


def test_a_nul_in_an_argument(capsys):
    assert main(["info", "a\0b"]) == 1
    assert "holds a NUL" in capsys.readouterr().err


def test_messages_that_cannot_be_written_stop_nothing(monkeypatch):
    class Full:
        def write(self, text):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sys, "stderr", Full())
    console.say("heard by nobody")


def test_names_that_are_not_utf8_are_escaped_in_what_is_written(tmp_path):
    write_text(tmp_path / "a.html", "m\udcff ü")
    assert (tmp_path / "a.html").read_bytes() == "m\\udcff ü".encode()
    write_json(tmp_path / "a.json", {"m\udcff": "ü\udc80"})
    assert json.loads((tmp_path / "a.json").read_bytes()) == {"m\\udcff": "ü\\udc80"}


def test_a_failed_write_names_its_file(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        write_atomic(tmp_path / "file", b"data")
    assert caught.value.filename == str(tmp_path / "file")


def test_handlers_of_others_are_left_alone():
    before = signal.getsignal(signal.SIGINT)

    def own(number, frame):
        pass

    signal.signal(signal.SIGINT, own)
    try:
        for step in (process.take_interrupts, process.begin, process.end):
            step()
            assert signal.getsignal(signal.SIGINT) is own
    finally:
        signal.signal(signal.SIGINT, before)


def test_one_ctrl_c_is_an_exception_that_is_remembered(monkeypatch):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr(process, "_pressed", False)
    try:
        process.take_interrupts()
        process.begin()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert process.interrupted()
        process.end()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_error_that_quotes_a_whole_file_is_cut_in_its_middle(capsys):
    console.fail("x.json: " + "a" * 100_000 + "; restore it")
    line = capsys.readouterr().err
    assert line.startswith("error: x.json: aaa") and line.endswith("; restore it\n") and len(line) < 3100
