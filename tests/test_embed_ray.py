"""``cmcr embed --workers ray``: the bytes of a run alone, though an actor is killed in the middle."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cmcr.cli import main
from cmcr.memory import Memory
from cmcr.tiny import world

CRASH = """
import os
from cmcr.encoders.tiny import TinyEncoder
real = TinyEncoder.prepare
def prepare(self, item, data):
    if item.id == "00013":
        os.abort()
    return real(self, item, data)
TinyEncoder.prepare = prepare
"""


def test_without_the_extra_one_line_names_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    (tmp_path / "t.txt").write_text("a dog\n")
    given = ["embed", str(tmp_path / "t.txt"), "-e", "tiny-clip", "-o", str(tmp_path / "mem"), "--workers", "ray"]
    assert main(given) == 1
    expected = "error: --workers ray needs ray, which is not installed: pip install 'cmcr[ray]'\n"
    assert capsys.readouterr().err == expected


@pytest.fixture
def sounds(tmp_path):
    """Forty sounds and a bad one, and the bytes of a memory that one process made of them."""
    pytest.importorskip("ray.data", reason="ray is not installed: pip install 'cmcr[ray]'")
    world.write_sounds(tmp_path / "sounds", world.train_scenes(40, 0), 0)
    (tmp_path / "sounds/00007b.wav").write_bytes(b"no sound")
    return tmp_path


def command(*more):
    return [sys.executable, "-m", "cmcr", "embed", "sounds", "-e", "tiny-clap", "--shard-size", "3", *more]


def ray(folder, *more, **environment):
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | environment
    given = command("-o", "ray", "--workers", "ray", "--ray-actors", "2", *more)
    return subprocess.Popen(
        given, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def actors(process):
    """Return the actors that run below a process."""
    below, found = {process.pid}, []
    for status in sorted(Path("/proc").glob("[0-9]*/stat"), key=lambda path: int(path.parent.name)):
        try:
            parent = int(status.read_text().rsplit(")", 1)[1].split()[1])
            name = (status.parent / "cmdline").read_text()
        except OSError:  # it has just ended
            continue
        if parent in below:
            below.add(int(status.parent.name))
            if name.startswith("ray::") and "MapBatches" in name:
                found.append(int(status.parent.name))
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds the actors in /proc")
def test_a_killed_actor_costs_a_retry_and_the_bytes_are_those_of_a_run_alone(sounds, folder_bytes):
    subprocess.run(command("-o", "alone"), cwd=sounds, check=True, capture_output=True)
    process, killed = ray(sounds, "--json"), []
    while process.poll() is None and not killed:
        if (sounds / "ray/audio_emb").exists():
            killed = actors(process)[:1]
            for actor in killed:
                os.kill(actor, signal.SIGKILL)
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0 and killed, err
    assert folder_bytes(sounds / "ray") == folder_bytes(sounds / "alone")
    assert out.startswith("{") and '"embedded": 40' in out and '"skipped": 1' in out


@pytest.mark.slow
def test_what_crashes_its_actor_every_time_ends_the_run_and_another_goes_on(sounds, folder_bytes, monkeypatch):
    (sounds / "sitecustomize.py").write_text(CRASH)
    process = ray(sounds, PYTHONPATH=f"{sounds}:{os.environ.get('PYTHONPATH', '')}")
    _, err = process.communicate(timeout=280)
    assert process.returncode == 1 and "Traceback" not in err, err
    assert "error: '00011' to '00013' ended their actor 4 times" in err
    (sounds / "sitecustomize.py").unlink()
    for name in ("ray", "alone"):
        subprocess.run(command("-o", name), cwd=sounds, check=True, capture_output=True)
    assert folder_bytes(sounds / "ray") == folder_bytes(sounds / "alone") and Memory.open(sounds / "ray").verify() == []
