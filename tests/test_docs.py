"""What the documentation says is so."""

import functools
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "benchmarks/README.md",
]


@functools.cache
def help_of(*command):
    done = subprocess.run(
        [sys.executable, "-m", "cmcr", *command, "--help"],
        capture_output=True, text=True, check=True, env={"PATH": "", "COLUMNS": "400", "NO_COLOR": "1", "TERM": "dumb"},
    )  # fmt: skip
    return done.stdout


def commands():
    named = re.compile(r"^│ ([a-z][a-z0-9-]+)  ", re.M)
    listed, measured = named.findall(help_of()), named.findall(help_of("eval"))
    assert len(listed) > 6 and len(measured) > 3
    return [(name,) for name in listed if name != "eval"] + [("eval", name) for name in measured]


def test_the_reference_names_every_command_and_option():
    reference = (ROOT / "docs" / "cli.md").read_text()
    for command in commands():
        section = reference.split(f"`cmcr {' '.join(command)}`")[1].split("\n## `")[0]
        for option in set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", help_of(*command).split("Options")[1])):
            assert option in section, f"run `make docs`: {' '.join(command)} {option}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_commands_in_the_readme_parse():
    """Each `cmcr ...` line of the README names a command, and only options that it has."""
    lines = re.findall(r"^cmcr ([^#\n]+)", (ROOT / "README.md").read_text().replace("\\\n", " "), re.M)
    assert len(lines) > 8
    known = {" ".join(command): help_of(*command) for command in commands()}
    for line in lines:
        name = next((name for name in known if line.startswith(name)), None)
        assert name, line
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", line):
            assert option in known[name], line
