"""Encoders of other installed packages: the one in docs/extending.md, and those that fail."""

import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import packages
import pytest
from PIL import Image

from cmcr.cli import main
from cmcr.encoders import known_encoders, load_encoder
from cmcr.errors import InputError, ItemError, UnknownEncoderError

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "extending.md").read_text().split("## An encoder")[1].split("\n## ")[0]
GOOD = """
from cmcr import Modality
class Tower:
    modalities, dim, fingerprint = (Modality.TEXT,), 2, "f"
    def __init__(self, model, *, device, weights, precision):
        self.name, self.settings = NAME.format(model), (device, weights, precision)
    def prepare(self, item, data): return data
    def encode(self, modality, prepared): return None
NAME = "{}"
"""


def install(folder, package, module, code, points):
    """Install a package of one module that announces these entry points."""
    packages.install(folder, package, {"cmcr.encoders": points}, **{module: code})


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    before = set(sys.modules)
    yield tmp_path / "site"
    for name in set(sys.modules) - before:
        if name.startswith("plugged"):
            del sys.modules[name]


def test_the_encoder_of_the_page_works_as_a_package_of_its_own(tmp_path):
    program, announced = (re.search(rf"```{kind}\n(.*?)```", PAGE, re.S)[1] for kind in ("python", "toml"))
    points = tomllib.loads(announced)["project"]["entry-points"]["cmcr.encoders"]
    install(tmp_path / "site", "colour-space", "colour_space", program, points)
    assert len(program.splitlines()) <= 36
    (tmp_path / "in").mkdir()
    for name in ("red", "green", "blue"):
        Image.new("RGB", (20, 10), name).save(tmp_path / "in" / f"{name}.png")
    (tmp_path / "t.txt").write_text("red\na green ball\nblue\nyellow\ngreen and blue\nred and blue\nnothing\n")
    script = """
from cmcr.cli import main
assert main(["encoders", "--json"]) == 0
for source, encoder in (("in", "colours"), ("t.txt", "colours"), ("t.txt", "tiny-clip"), ("in", "tiny-clip")):
    assert main(["embed", source, "-e", encoder, "-o", f"mem/{encoder}"]) == 0
assert main(["connect", "mem/colours", "mem/tiny-clip", "--via", "text", "--method", "linear", "-o", "space"]) == 0
assert main(["retrieve", "space", "a blue box", "--in", "mem/colours", "--modality", "image", "-k", "1"]) == 0
"""
    path = os.pathsep.join([str(tmp_path / "site"), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True, text=True, check=False, cwd=tmp_path, env=os.environ | {"PYTHONPATH": path},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    listed, end = json.JSONDecoder().raw_decode(done.stdout)
    (mine,) = [each for each in listed["encoders"] if each["name"] == "colours"]
    assert (mine["modalities"], mine["dim"], mine["library"]) == (["image", "text"], 3, "colour-space 1.0")
    assert "names no colour" in (tmp_path / "mem/colours/skipped.jsonl").read_text()
    assert "blue" in done.stdout[end:] and "green" not in done.stdout[end:]


def test_a_name_and_a_prefix_are_called_with_the_model_and_the_settings(site):
    install(site, "towers", "plugged_good", GOOD, {"tower": "plugged_good:Tower", "tower:": "plugged_good:prefixed"})
    (site / "plugged_good.py").write_text(
        GOOD + "def prefixed(model, **settings):\n    return Tower('tower:' + model, **settings)\n"
    )
    assert load_encoder("tower").name == "tower"
    made = load_encoder("tower:large/v1", "cuda", weights=[Path("w")], precision="bf16")
    assert made.name == "tower:large/v1" and made.settings == ("cuda", [Path("w")], "bf16")
    assert {"tower", "tower:"} <= set(known_encoders())
    with pytest.raises(UnknownEncoderError, match=r"tower:.*did you mean 'tower'"):
        load_encoder("towr")
    with pytest.raises(UnknownEncoderError):
        load_encoder("tower:")


FAILING = {
    "raises at import": ("1 / 0", "ZeroDivisionError: division by zero"),
    "exits at import": ("raise SystemExit(3)", "SystemExit: 3"),
    "lacks a library": ("import no_such_library", "No module named 'no_such_library'"),
    "has no such class": ("", "has no attribute 'Tower'"),
    "fails when made": (GOOD.replace("NAME.format", "1 / 0 or NAME.format"), "ZeroDivisionError: division by zero"),
    "takes no settings": ("class Tower:\n    def __init__(self): pass", "TypeError: .*unexpected keyword argument"),
    "is no encoder": ("def Tower(model, **settings): return 3", "int has no name"),
    "has no modality": (GOOD.replace("(Modality.TEXT,)", "['text']"), "modalities .'text'.; expected a tuple"),
    "has no dim": (GOOD.replace(", 2,", ", 0,"), "dim 0; expected a whole number above 0"),
    "has no fingerprint": (GOOD.replace('"f"', '""'), "fingerprint ''; expected texts"),
    "has another's name": (GOOD.replace('"{}"', '"clip"'), "its name is 'clip', which is not its own"),
}


@pytest.mark.parametrize("what", FAILING)
def test_a_plugin_that_fails_is_named_in_one_line(site, what, tmp_path, capsys):
    code, said = FAILING[what]
    install(site, "towers", "plugged", code, {"tower": "plugged:Tower"})
    with pytest.raises(InputError, match=f"'tower' of the package towers 1.0.*{said}") as error:
        load_encoder("tower")
    assert "\n" not in str(error.value)
    (tmp_path / "t.txt").write_text("a dog\n")
    assert main(["embed", str(tmp_path / "t.txt"), "-e", "tower", "-o", str(tmp_path / "mem")]) == 1
    shown = capsys.readouterr().err.strip().splitlines()
    assert len(shown) == 1 and shown[0].startswith("error: ")


def test_a_name_of_another_package_is_refused(site):
    install(site, "north", "plugged_n", GOOD, {"north": "plugged_n:Tower"})
    install(site, "south", "plugged_s", GOOD.replace('"{}"', '"north"'), {"south": "plugged_s:Tower"})
    with pytest.raises(InputError, match=r"package south 1\.0: its name is 'north', which is not its own"):
        load_encoder("south")


def test_what_a_plugin_says_itself_is_left_as_it_is(site):
    code = GOOD.replace(
        "NAME = ", "from cmcr.errors import ItemError\ndef prefixed(m, **s): raise ItemError('no')\nN = "
    )
    install(site, "towers", "plugged", code, {"tower:": "plugged:prefixed"})
    with pytest.raises(ItemError, match=r"^no$"):
        load_encoder("tower:x")


def test_two_that_claim_one_name_are_both_named_and_the_rest_works(site, capsys):
    install(site, "north", "plugged_n", GOOD, {"tower": "plugged_n:Tower", "clip": "plugged_n:Tower"})
    install(site, "south", "plugged_s", "1 / 0", {"tower": "plugged_s:Tower", "open_clip:": "x:Y", "a:b": "x:Y"})
    with pytest.raises(
        InputError,
        match=r"'tower' is claimed by the package north 1.0 and the package south 1.0; remove one: pip uninstall south",
    ):
        load_encoder("tower")
    assert load_encoder("tiny-clip").name == "tiny-clip"
    assert main(["encoders"]) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert len(said) == 4
    for line in (
        "'clip' of the package north 1.0 is not used: that name is cmcr's own",
        "'open_clip:' of the package south 1.0 is not used: that name is cmcr's own",
        "'tower' is claimed by the package north 1.0 and the package south 1.0",
        "'a:b' of the package south 1.0 cannot be asked for",
    ):
        assert any(line in each for each in said), line


def test_a_built_in_name_reads_no_list_of_packages(monkeypatch):
    real = importlib.metadata.entry_points

    def read(**settings):
        if settings.get("group", "").startswith("cmcr"):
            raise AssertionError("read")
        return real(**settings)  # torch has some of its own

    monkeypatch.setattr("importlib.metadata.entry_points", read)
    assert load_encoder("tiny-clip").name == "tiny-clip"
    with pytest.raises(InputError, match=r"missing\.pt"):
        load_encoder("ulip:missing.pt")
    with pytest.raises(InputError, match=r"entry points of the installed packages cannot be read \(AssertionError"):
        load_encoder("tower")
