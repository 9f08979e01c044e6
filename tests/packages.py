"""Packages that add to cmcr, as installed ones: a folder for ``sys.path`` with modules and their entry points."""

import re
import tomllib
from pathlib import Path

EXTENDING = Path(__file__).parent.parent / "docs" / "extending.md"


def install(folder, name, entry_points, summary="", **modules):
    """Write modules (name=source) and what pip would leave of a package with `entry_points` {group: {name: value}}."""
    about = Path(folder, f"{name.replace('-', '_')}-1.0.dist-info")
    about.mkdir(parents=True)
    told = f"Summary: {summary}\n" if summary else ""
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{told}")
    groups = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in each.items()) for group, each in entry_points.items()]
    (about / "entry_points.txt").write_text("\n".join(groups))
    for module, source in modules.items():
        Path(folder, f"{module}.py").write_text(source)
    return Path(folder)


def install_section(folder, heading):
    """Install the package that a section of docs/extending.md shows."""
    section = EXTENDING.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    name, source = re.search(r"`(\w+)\.py`.*?```python\n(.*?)```", section, re.DOTALL).groups()
    project = tomllib.loads(re.search(r"```toml\n(.*?)```", section, re.DOTALL)[1])["project"]
    return install(folder, project["name"], project["entry-points"], project.get("description", ""), **{name: source})
