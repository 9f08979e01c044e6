"""What the documentation says is so."""

import ast
import functools
import importlib.util
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
    groups = ("eval", "classify")
    listed, within = named.findall(help_of()), {name: named.findall(help_of(name)) for name in groups}
    assert len(listed) > 6 and len(within["eval"]) > 3
    alone = [(name,) for name in listed if name not in groups]
    return [*alone, *((group, name) for group, names in within.items() for name in names)]


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


def test_the_architecture_names_every_file_with_its_first_sentence():
    page = (ROOT / "docs" / "architecture.md").read_text()
    for path in sorted((ROOT / "cmcr").rglob("*.py")):
        room = path.relative_to(ROOT / "cmcr").parts[0]
        if path.name == "__init__.py" and path.parent != ROOT / "cmcr":
            continue
        name = path.relative_to(ROOT / "cmcr" / (room if path.parent != ROOT / "cmcr" else ""))
        doc = " ".join(ast.get_docstring(ast.parse(path.read_text())).split("\n\n")[0].split())
        assert f"| `{name}` | {doc} |" in page, f"docs/architecture.md: {name}"


def test_rooms_and_files_stay_small():
    lines = {path: len(path.read_text().splitlines()) for path in (ROOT / "cmcr").rglob("*.py")}
    assert max(lines.values()) <= 400, max(lines, key=lines.get)
    rooms = {}
    for path, count in lines.items():
        room = str(
            path.parent.relative_to(ROOT / "cmcr")
        )  # a folder within a room, as of the methods, has its own door
        rooms[room] = rooms.get(room, 0) + count
    assert max(rooms.values()) <= 2500, rooms


@pytest.mark.parametrize("script", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda path: path.name)
def test_what_a_benchmark_imports_of_cmcr_is_there(script):
    for node in ast.walk(ast.parse(script.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cmcr"):
            module = importlib.import_module(node.module)
            for name in node.names:
                assert hasattr(module, name.name) or importlib.util.find_spec(f"{node.module}.{name.name}")
