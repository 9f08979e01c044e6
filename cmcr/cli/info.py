"""``cmcr info``: what lies in a memory, a space or a classifier, and whether it is sound."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cmcr import console
from cmcr.reading import reading
from cmcr.space.describe import CLASSIFIER, SPACE, config_in, described, in_words, space_rows


def info(
    path: Annotated[Path, typer.Argument(help="A memory, a space or a classifier.")],
    verify: Annotated[bool, typer.Option("--verify", help="Read all of it and check it; exit 1 on a problem.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what a memory, a space or a classifier holds, or check it."""
    config = config_in(path, (SPACE, CLASSIFIER))
    if verify:
        from cmcr.verify import verified

        _tell_problems(path, *verified(path, config), as_json)
        return
    values, rows = _shown(path, config)
    if as_json:
        console.show_json(values)
    else:
        console.show_table(["what", "value"], rows)


def _shown(path: Path, config: dict[str, Any] | None) -> tuple[dict[str, Any], list[list[str]]]:
    """Return what a folder holds: as it is written, and as (what, value) for a table."""
    if config is None:
        from cmcr.memory import Memory

        values = described(Memory.open(path))
        return values, [[key, in_words(value)] for key, value in values.items()]
    if config["format"] == CLASSIFIER:
        from cmcr.classify.config import read_config
        from cmcr.classify.describe import classifier_rows

        return config, list(classifier_rows(read_config(path)))
    with reading(path / "config.json", "connect anew", what="was edited by hand"):
        return config, list(space_rows(config | {"recipe": _own(config)}))


def _own(config: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that a space's method has; all of them where it is no built-in one."""
    from cmcr.cli.panels import settings_for
    from cmcr.connect.methods import BUILT_IN

    recipe: dict[str, Any] = config.get("recipe", {})
    if config.get("method") not in BUILT_IN:
        return recipe
    own = settings_for(config["method"])
    every = {name for method in BUILT_IN for name in settings_for(method)}
    return {name: value for name, value in recipe.items() if name in own or name not in every}


def _tell_problems(path: Path, kind: str, problems: list[str], held: str, as_json: bool) -> None:
    if as_json:
        console.show_json({kind: str(path), "problems": problems})
    elif problems:
        console.show_table(["problem"], [[problem] for problem in problems])
    if problems:
        console.say(f"{path}: {len(problems)} problems")
        raise typer.Exit(1)
    console.say(f"{path}: sound: {held}")
