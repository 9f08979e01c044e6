"""What a wheel holds beside the code: the mark of types, the tiny world's weights, and what pages are made of."""

import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DATA = sorted(
    path.relative_to(ROOT).as_posix() for path in (ROOT / "cmcr").rglob("*") if path.suffix not in ("", ".py", ".pyc")
)


def test_a_wheel_is_the_whole_package_and_its_data_is_known():
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    assert build == {"targets": {"wheel": {"packages": ["cmcr"]}}}  # nothing is left out, nothing else comes along
    assert {Path(name).suffix for name in DATA} == {".typed", ".safetensors", ".toml", ".html", ".css", ".js", ".svg"}
    assert {"cmcr/py.typed", "cmcr/tiny/kinds.toml", "cmcr/tiny/weights/tiny-clip.safetensors"} <= set(DATA)


@pytest.mark.skipif(not (ROOT / ".git").exists() or not shutil.which("git"), reason="no git checkout")
def test_none_of_the_data_is_ignored_which_the_builder_would_leave_out():
    done = subprocess.run(["git", "check-ignore", "--no-index", *DATA], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1, done.stdout + done.stderr
