"""Every example runs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cmcr import ConnectConfig

EXAMPLES = Path(__file__).parent.parent / "examples"
CASES = {
    "four_arrays.py": ([], "ConnectedSpace(a: text, image; b: text, audio; linear via text, "),
    "freebind.py": ([], "kept as a preset: at-expertise; maps of the expert: 2"),
    "move_archive.py": ([], "moved 3000 image rows: from old-encoder"),
    "some_pairs.py": ([], "csa: of 100 pictures nobody paired, recall@1 "),
    "missing_modalities.py": ([], "from sounds alone: accuracy 0."),
    "one_vector_for_both.py": ([], "200 rows of 64 components, learnt from 180"),
    "omnibind.py": ([], "texts that ask whom they were written for: "),
    "published_heads.py": ([], "tiny-clap: audio, text through 1 maps"),
    "own_vectors.py": ([], "sound -> image recall@1 "),
    "sound_to_picture.py": (["--small"], "connected through text"),
    "who_knows_what.py": ([], "match: shared 0.00, only image 0.00, only audio 0.00, only together "),
}


NEEDS_ALL_WEIGHTS = {"official_heads.py"}
"""Run by test_recipes.py, on random checkpoints of full size."""


def test_every_example_is_tried():
    assert set(CASES) | NEEDS_ALL_WEIGHTS == {path.name for path in EXAMPLES.glob("*.py")}


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.toml")), ids=lambda path: path.name)
def test_a_recipe_is_that_of_its_method_as_published(path):
    method = {"many_spaces.toml": "ex-mcr", "text_anchor.toml": "text-anchor"}.get(path.name, "c-mcr")
    assert ConnectConfig.from_toml(path).method == method


@pytest.mark.parametrize("name", ["many_spaces.toml", "text_anchor.toml"])
def test_the_recipes_of_many_spaces_say_what_the_defaults_are(name):
    recipe = ConnectConfig.from_toml(EXAMPLES / name)
    given = {each.partition("=")[0].strip() for each in (EXAMPLES / name).read_text().splitlines() if "=" in each}
    default = ConnectConfig(recipe.method)
    assert len(given) > 8
    assert {key for key, value in recipe.to_dict().items() if default.to_dict()[key] != value} <= {"hidden"}


LONG = {"missing_modalities.py", "omnibind.py", "one_vector_for_both.py", "some_pairs.py", "sound_to_picture.py"}


@pytest.mark.parametrize("name", [pytest.param(each, marks=[pytest.mark.slow] * (each in LONG)) for each in CASES])
def test_example_runs(name, tmp_path):
    flags, said = CASES[name]
    command = [sys.executable, str(EXAMPLES / name), str(tmp_path / "out"), *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert said in done.stdout
    if "recall@1 " in done.stdout:
        assert float(done.stdout.split("recall@1 ")[1].split()[0]) > 0.5


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom(tmp_path):
    cells = json.loads((EXAMPLES / "first_minute.ipynb").read_text())["cells"]
    assert not [cell for cell in cells if cell.get("outputs")], "outputs belong to whoever runs it"
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split("recall@1 ")[1].split(",")[0]) > 0.3
