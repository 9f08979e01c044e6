"""Every example runs."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
CASES = {
    "own_vectors.py": ([], "sound -> image recall@1 "),
    "sound_to_picture.py": (["--small"], "connected through text"),
}


def test_every_example_is_tried():
    assert set(CASES) == {path.name for path in EXAMPLES.glob("*.py")}


@pytest.mark.parametrize("name", CASES)
def test_example_runs(name, tmp_path):
    flags, said = CASES[name]
    command = [sys.executable, str(EXAMPLES / name), str(tmp_path / "out"), *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert said in done.stdout
    if name == "own_vectors.py":
        assert float(done.stdout.split("recall@1 ")[1].split()[0]) > 0.5
