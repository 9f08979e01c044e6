"""Evaluations of other installed packages: the one of docs/extending.md is installed and run, and those that fail."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import packages
import pytest
from browser import visit
from worlds import two_memories

from cmcr.ask import Subject, open_side
from cmcr.cli import main
from cmcr.connect import ConnectConfig, connect
from cmcr.errors import ArtifactError, InputError
from cmcr.evaluate import load_evaluation, measure
from cmcr.memory import Memory

ROOT = Path(__file__).parent.parent
GOOD = """
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
import numpy as np
from cmcr.evaluate import Evaluation, Result
from cmcr.report import Section, results_table
from cmcr.settings import setting
@dataclass(frozen=True)
class Mine(Evaluation):
    \"\"\"Count [red] rows.

    A second paragraph.

    Attributes:
        rows: For programmers.
    \"\"\"
    rows: int = setting(3, "Rows counted.", most=9)
    kind: Literal["all", "some"] = setting("all", "Which.")
    fast: bool = setting(True, "Whether it hurries.")
    table: Path | None = setting(None, "A file.", panel="Files")
    tags: list[str] | None = setting(None, "Tags.", metavar="TAG")
    def measure(self, subject, folder, progress):
        assert folder.name, "there is always a folder"
        progress(1, 1, "")
        one = {"share": np.float32(0.5), "n": np.int64(2)}
        return Result("other", {"asked": one}, np.int64(self.rows), 7, {"share": np.float64(0.25)}, {"kind": Path("x")},
                      expected=4, notes=("a note",))
    def sections(self, result):
        return [Section("Mine alone", body=results_table(["a"], [["b"]]))]
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    a, b, _ = two_memories(folder)
    connect(a, b, out=folder / "space", config=ConnectConfig(method="linear"))
    names = [name for memory, kind in ((a, "image"), (b, "audio")) for name in Memory.open(memory).ids(kind)]
    lines = [f"{name}\t{('even', 'odd')[number % 2]}\n" for number, name in enumerate(names)]
    (folder / "classes").write_text("".join(lines))
    return folder


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setenv("COLUMNS", "150")
    yield tmp_path / "site"
    for name in [name for name in sys.modules if name.startswith("plugged")]:
        del sys.modules[name]


def install(folder, code=GOOD, package="mine-all", name="mine", module="plugged", summary="Counts [rows]."):
    packages.install(folder, package, {"cmcr.evaluations": {name: f"{module}:Mine"}}, summary, **{module: code})


def run(*arguments):
    return main(["eval", *map(str, arguments)])


def one_line(capsys):
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line


def test_the_evaluation_of_the_page_works_as_a_package_of_its_own(tmp_path, world):
    site = packages.install_section(tmp_path / "site", "An evaluation")
    assert len((site / "cmcr_neighbours.py").read_text().splitlines()) <= 38
    asked = ["--queries", f"{world}/a:image", "--gallery", f"{world}/b:audio", "--labels", f"{world}/classes"]
    script = f"""
import sys
from cmcr.cli import main
assert main(["eval", "--help"]) == 0 and not {{"torch", "numpy", "cmcr_neighbours"}} & set(sys.modules)
assert main(["eval", "neighbours", "--help"]) == 0 and "torch" not in sys.modules
space, asked = {str(world / "space")!r}, {asked!r}
assert main(["eval", "neighbours", space, *asked, "--k", "5", "-o", "five", "--json"]) == 0
import cmcr.evaluate
choices = dict(zip(("queries", "gallery", "labels"), asked[1::2]))
again = cmcr.evaluate.measure("neighbours", space, k=5, **choices)
assert main(["eval", "compare", "five", "five/result.json", "-o", "both"]) == 0
again.save(__import__("pathlib").Path("again.json"))
"""
    surroundings = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{site}", "COLUMNS": "150"}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=surroundings, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "Are the neighbours of a query of its class? (cmcr-neighbours)" in done.stdout
    assert re.search(r"--queries +<str> +MEMORY:MODALITY, the rows that ask. \[required\]", done.stdout)
    printed = json.JSONDecoder().raw_decode(done.stdout[done.stdout.index('{\n  "name"') :])[0]
    written, again = (json.loads((tmp_path / path).read_text()) for path in ("five/result.json", "again.json"))
    assert printed == written == again | {"seconds": written["seconds"]}
    assert (written["name"], written["gallery"], written["n"]) == ("neighbours", 300, 300)
    assert written["settings"]["k"] == 5 and written["settings"]["method"] == "linear"
    assert written["chance"] == {"precision@5": 0.5} and 0.3 < written["values"]["image->audio"]["precision@5"] < 0.7
    assert written["versions"]["cmcr-neighbours"] == "1.0"
    assert written["fingerprints"]["subject"] == Subject.open(str(world / "space")).fingerprint


def test_flags_help_and_results_are_those_of_every_evaluation(site, world, capsys):
    install(site)
    assert run("--help") == 0
    shown = capsys.readouterr().out
    assert "Counts [rows]. (mine-all)" in shown and shown.index("retrieval") < shown.index("mine ")
    assert run("mine", "--help") == 0
    told = capsys.readouterr().out
    assert "Count [red] rows." in told and "A second paragraph." in told and "For programmers" not in told
    assert re.search(r"--kind +<all\|some> +Which. \[default: all\]", told)
    assert "--no-fast" in told and re.search(r"─ Files ─.*--table +<path>", told, re.DOTALL)
    assert re.search(r"--tags +TAG +Tags\.", told)
    flags = ["--rows", 4, "--kind", "some", "--no-fast", "--tags", "a", "--tags", "b", "--html", "--json"]
    assert run("mine", world / "space", *flags) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads(Path("results/mine/result.json").read_text())
    assert printed["name"] == "mine" and printed["values"] == {"asked": {"share": 0.5, "n": 2.0}}
    assert printed["settings"] | {"subject": ""} == {
        "subject": "", "method": "linear", "rows": 4, "kind": "x", "fast": False, "table": None,
        "tags": ["a", "b"],
    }  # fmt: skip
    page = Path("results/mine/index.html").read_text()
    assert all(text in page for text in ("Mine alone", "A note.", "chance", "7 candidates each"))
    assert run("mine", world / "space") == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[-2:] == ["asked\t3\t7\t0.500", "chance\t3\t7\t0.250"]
    assert "warning: measured over 3 of 4 items" in err and "next: cmcr eval compare results/mine" in err
    assert run("mine", world / "space", "--strict") == 1


def test_choices_are_checked_in_python_and_on_the_command_line(site, world, capsys):
    install(site)
    assert measure("mine", str(world / "space"), rows=2.0).n == 2
    for choices, message in (
        ({"rows": 10}, "rows 10; expected at most 9"),
        ({"kind": "al"}, "kind 'al'; expected one of all, some; did you mean 'all'?"),
        ({"table": 3}, "table 3; expected a path"),
        ({"tags": "a"}, "tags 'a'; expected a list"),
        ({"tags": ["a", 3]}, "tags 3; expected text"),
        (
            {"rwos": 3},
            "'mine' has no choice 'rwos'; expected one of rows, kind, fast, table, tags; did you mean 'rows'?",
        ),
    ):
        with pytest.raises(InputError, match=re.escape(message)):
            measure("mine", str(world / "space"), **choices)
    assert run("mine", world / "space", "--rows", 10) == 1
    assert "rows 10; expected at most 9" in one_line(capsys)
    assert run("mine", world / "space", "--kind", "al") == 2
    assert run("mnie", world / "space") == 2
    assert "Did you mean 'mine'?" in capsys.readouterr().err
    with pytest.raises(InputError, match="no installed package has it; did you mean 'mine'"):
        load_evaluation("mnie")


FAILING = {
    "raises at import": ("1 / 0", "cannot be imported from plugged:Mine (ZeroDivisionError: division by zero)"),
    "leaves": ("raise SystemExit(3)", "cannot be imported from plugged:Mine (SystemExit: 3)"),
    "is no evaluation": ("class Mine: pass", "expected a dataclass that is a subclass of cmcr.evaluate.Evaluation"),
    "is no dataclass": (GOOD.replace("@dataclass(frozen=True)\n", ""), "expected a dataclass that is a subclass"),
    "takes a list": (GOOD.replace("rows: int", "rows: list"), "has a choice rows of no type of a flag"),
    "takes a list of no type": (GOOD.replace("list[str]", "list[dict]"), "has a choice tags of no type of a flag"),
    "takes an alias": (GOOD.replace('metavar="TAG"', 'alias="json"'), "names a choice json, a flag that every"),
    "takes a name": (GOOD.replace("rows: int", "out: int"), "names a choice out, a flag that every evaluation has"),
    "fails": (GOOD.replace("progress(1, 1", "progress(1 / 0"), "'mine' of the package mine-all 1.0 failed (ZeroDiv"),
    "returns nothing": (GOOD.replace("return Result(", "return dict("), "failed (TypeError: "),
    "fails at its page": (GOOD.replace("return [Section(", "return 1 / 0 or [Section("), "failed (ZeroDivisionError: "),
    "measures texts": (GOOD.replace("np.float32(0.5)", '"high"'), "failed (ValueError: could not convert string"),
}


@pytest.mark.parametrize("what", FAILING)
def test_a_package_that_fails_is_named_in_one_line_and_the_others_go_on(site, world, what, capsys):
    code, said = FAILING[what]
    install(site, code)
    assert run("mine", world / "space", "--html") == 1
    line = one_line(capsys)
    assert "'mine' of the package mine-all 1.0" in line and said in line
    assert not Path("results").exists(), "nothing half-written"
    assert run("--help") == 0 and run("retrieval", "--help") == 0 and run("mine") in (1, 2)


def test_names_that_two_claim_that_are_ours_or_that_are_none(site, capsys):
    for number in (1, 2):
        install(site, package=f"mine-{number}", module=f"plugged{number}")
    install(site, package="false", name="retrieval", module="plugged3")
    install(site, package="odd", name="../x", module="plugged4")
    assert run("--help") == 0
    shown = capsys.readouterr().out
    assert "(mine-1) and " in shown and "(false)" not in shown and "../x" not in shown
    assert run("mine", "x") == 1
    assert "'mine' is claimed by the package mine-1 1.0 and the package mine-2 1.0; remove one" in one_line(capsys)
    assert run("retrieval", "--help") == 0 and run("../x") == 2
    with pytest.raises(InputError, match="'retrieval' is cmcr's own, and no package's"):
        measure("retrieval", "x")


def test_a_name_of_ours_reads_no_list_and_a_damaged_list_stops_nothing_else(monkeypatch, capsys):
    def read(**settings):
        raise RuntimeError("damaged")

    monkeypatch.setattr("importlib.metadata.entry_points", read)
    assert run("retention", "--help") == 0 and "damaged" not in capsys.readouterr().err
    assert run("--help") == 0
    out, err = capsys.readouterr()
    assert (
        "retention" in out
        and err == "warning: entry points of the installed packages cannot be read (RuntimeError: damaged)\n"
    )
    assert run("mine") == 1
    assert "cannot be read (RuntimeError: damaged)" in one_line(capsys)


def test_a_side_is_a_memory_and_a_modality_it_holds(world):
    memory, modality = open_side(f"{world}/a:image")
    assert (memory.encoder.name, modality) == ("enc-a", "image")
    with pytest.raises(ArtifactError, match="holds no audio"):
        open_side(f"{world}/a:audio")
    with pytest.raises(InputError, match=r"expected MEMORY:MODALITY with one of .*; did you mean 'image'\?"):
        open_side(f"{world}/a:imag")


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
def test_everybody_can_read_the_page(site, world, capsys, width):
    install(site)
    assert run("mine", world / "space", "--rows", 4, "--html") == 0
    visit(Path("results/mine/index.html").resolve(), width)
