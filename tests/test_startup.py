"""What a command loads before it begins: itself, and nothing of the others."""

import os
import subprocess
import sys

import pytest

from cmcr.cli import main
from cmcr.cli.groups import LazyGroup

HEAVY = ("torch", "numpy", "PIL", "soundfile", "faiss", "safetensors", "jinja2", "filelock", "pydantic")
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
        (["--help"], 0, []),
        (["conect"], 2, []),
        (["--nothing"], 2, []),
        ([], 2, []),
        (["eval", "--help"], 0, ["evaluate"]),
        (["eval", "compar"], 2, ["evaluate"]),
        (["info", "--nothing"], 2, ["info"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_help_and_refusals_load_no_other_command_and_no_library(arguments, code, names):
    assert loaded_by(*arguments) == (code, sorted(["groups", *names]))


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
