"""What the program tells while it works: notes, progress in a log, and less or more of it when asked."""

import pytest
from worlds import two_memories

from cmcr import console
from cmcr.cli import main
from cmcr.connect import ConnectConfig, connect
from cmcr.connect.measures import meaning


@pytest.fixture
def loud():
    yield
    console.be_quiet(False)


def test_quiet_tells_results_and_errors_alone_wherever_it_stands(loud, capsys):
    assert main(["encoders", "-q"]) == 0
    quiet = capsys.readouterr()
    assert main(["--quiet", "info", "nowhere"]) == 1
    failed = capsys.readouterr()
    assert quiet.out
    assert quiet.err == ""
    assert failed.err.startswith("error: nowhere: ")
    console.say("a note")
    console.warn("a warning")
    assert capsys.readouterr().err == "warning: a warning\n"
    assert main(["encoders"]) == 0  # not for good
    console.say("a note")
    assert capsys.readouterr().err.endswith("a note\n")


def test_verbose_tells_versions_time_and_memory(capsys):
    assert main(["encoders", "-v"]) == 0
    first, *_, last = capsys.readouterr().err.splitlines()
    assert first.startswith("cmcr ")
    assert "torch" in first
    assert "threads" in first
    assert last.startswith("took ")
    assert last.endswith("MiB of memory")


def test_what_stands_behind_two_dashes_is_no_flag(capsys):
    assert main(["info", "--", "-q"]) == 1
    assert capsys.readouterr().err.startswith("error: -q: does not exist")


def test_a_log_says_how_far_it_is_now_and_then_and_how_long_it_takes(monkeypatch, capsys):
    now = iter([0.0, 4.0, 12.0, 13.0, 5000.0])
    monkeypatch.setattr(console.time, "monotonic", lambda: next(now))
    with console.progress("embed texts") as progress:
        for done in (10, 30, 40, 50):
            progress(done, 1000, "part\x1b[31m 2" if done == 30 else "")
    assert capsys.readouterr().err.splitlines() == [
        "embed texts: 30 of 1,000, about 6 min 28 s left (part?[31m 2)",
        "embed texts: 50 of 1,000, about 32 h 57 min left",
    ]


def test_a_run_that_goes_on_counts_its_own_pace(monkeypatch, capsys):
    now = iter([0.0, 1.0, 21.0])
    monkeypatch.setattr(console.time, "monotonic", lambda: next(now))
    with console.progress("connect") as progress:
        progress(900, 1000)  # of the run before
        progress(910, 1000)
    assert capsys.readouterr().err == "connect: 910 of 1,000, about 3 min 0 s left\n"


def test_every_measure_of_a_connection_has_a_meaning(tmp_path, capsys):
    two_memories(tmp_path, texts=120, outer=60)
    for method in ("c-mcr", "ensemble", "linear"):
        config = ConnectConfig(method, epochs=1)
        metrics = connect(tmp_path / "a", tmp_path / "b", out=tmp_path / method, config=config).space.metrics
        assert not [name for name in metrics if not name.endswith("_chance") and not meaning(name)]
    assert meaning("tiny-clap.held_out") == meaning("held_out")
    assert main(["connect", "--help-metrics"]) == 0
    assert "agreement_rows\trows that have such a match" in capsys.readouterr().out
