"""``cmcr info``: what lies in a memory or a space, and whether it is sound."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cmcr import console
from cmcr.reading import reading
from cmcr.space.describe import described, in_words, space_config, space_rows


def info(
    path: Annotated[Path, typer.Argument(help="A memory or a space.")],
    verify: Annotated[
        bool, typer.Option("--verify", help="Read all of a memory and check it; exit 1 on a problem.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what a memory or a space holds, or check it."""
    config = space_config(path)
    if config is not None:
        if verify:
            from cmcr.verify import space_problems

            problems = space_problems(path)
            _tell_problems("space", path, problems, " + ".join(each["name"] for each in config["encoders"]), as_json)
        elif as_json:
            console.show_json(config)
        else:
            with reading(path / "config.json", "connect anew", what="was edited by hand"):
                rows = list(space_rows(config | {"recipe": _own(config)}))
            console.show_table(["what", "value"], rows)
        return
    if verify:
        _verify(path, as_json)
        return
    from cmcr.memory import Memory

    _show(described(Memory.open(path)), as_json)


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


def _verify(path: Path, as_json: bool) -> None:
    from cmcr.memory import Memory
    from cmcr.search.verify import memory_problems
    from cmcr.verify import is_run, run_problems

    if is_run(path):
        _tell_problems("run", path, run_problems(path), "run", as_json)
        return
    memory = Memory.open(path)
    held = ", ".join(f"{memory.rows(kind)} {kind}" for kind in memory.modalities) or "empty"
    _tell_problems("memory", path, memory_problems(memory), held, as_json)


def _tell_problems(kind: str, path: Path, problems: list[str], held: str, as_json: bool) -> None:
    if as_json:
        console.show_json({kind: str(path), "problems": problems})
    elif problems:
        console.show_table(["problem"], [[problem] for problem in problems])
    if problems:
        console.say(f"{path}: {len(problems)} problems")
        raise typer.Exit(1)
    console.say(f"{path}: sound: {held}")


def _show(values: dict[str, Any], as_json: bool) -> None:
    if as_json:
        console.show_json(values)
        return
    console.show_table(["what", "value"], [[key, in_words(value)] for key, value in values.items()])
