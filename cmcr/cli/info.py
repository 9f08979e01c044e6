"""``cmcr info``: what lies in a memory or a space, and whether it is sound."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cmcr import console
from cmcr.errors import ArtifactError
from cmcr.reading import read_json, reading

if TYPE_CHECKING:
    from cmcr.memory import Memory


def info(
    path: Annotated[Path, typer.Argument(help="A memory or a space.")],
    verify: Annotated[
        bool, typer.Option("--verify", help="Read all of a memory and check it; exit 1 on a problem.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what a memory or a space holds, or check it."""
    config = _space_config(path)
    if config is not None:
        if verify:
            from cmcr.verify import space_problems

            problems = space_problems(path)
            _tell_problems("space", path, problems, " + ".join(each["name"] for each in config["encoders"]), as_json)
        elif as_json:
            console.show_json(config)
        else:
            with reading(path / "config.json", "connect anew", what="was edited by hand"):
                rows = list(_space_rows(config))
            console.show_table(["what", "value"], rows)
        return
    if verify:
        _verify(path, as_json)
        return
    from cmcr.memory import Memory

    _show(_described(Memory.open(path)), as_json)


def _verify(path: Path, as_json: bool) -> None:
    from cmcr.memory import Memory
    from cmcr.verify import is_run, memory_problems, run_problems

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


def _described(memory: Memory) -> dict[str, Any]:
    shards = {kind: memory.shards(kind) for kind in memory.modalities}
    files = [
        memory.path / name for each in shards.values() for shard in each for name in (shard.vectors, shard.metadata)
    ]
    reasons: dict[str, int] = {}
    skipped = memory.skipped()
    for skip in skipped:
        reasons[skip.reason] = reasons.get(skip.reason, 0) + 1
    return {
        "memory": str(memory.path),
        "encoder": memory.encoder.name,
        "fingerprint": memory.encoder.fingerprint,
        "dim": memory.encoder.dim,
        "dtype": memory.dtype,
        "rows": {str(kind): memory.rows(kind) for kind in shards},
        "shards": {str(kind): len(each) for kind, each in shards.items()},
        "bytes": sum(file.stat().st_size for file in files),
        "skipped": len(skipped),
        "reasons": dict(sorted(reasons.items(), key=lambda pair: -pair[1])[:5]),
    }


def _space_config(path: Path) -> dict[str, Any] | None:
    try:
        config = read_json(path / "config.json")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise ArtifactError(f"{path / 'config.json'}: not JSON ({error}); restore it") from None
    return config if isinstance(config, dict) and config.get("format") == "cmcr-space" else None


def _space_rows(config: dict[str, Any]) -> Iterator[list[str]]:
    """Yield (what, value) of a space: method, encoders, then what was measured and how it was made."""
    yield from ([name, _cell(config.get(name))] for name in ("method", "overlap", "dim"))
    for encoder in config.get("encoders", []):
        shape = encoder["projector"]
        about = f"{_cell(encoder['modalities'])}; {shape['in_dim']} -> {shape['out_dim']}, {shape['kind']}"
        yield [f"encoder {encoder['name']}", f"{about}; {encoder['fingerprint'][:12]}"]
    for group in ("metrics", "recipe"):
        yield from ([f"{group}.{name}", _cell(value)] for name, value in config.get(group, {}).items())


def _show(values: dict[str, Any], as_json: bool) -> None:
    if as_json:
        console.show_json(values)
        return
    console.show_table(["what", "value"], [[key, _cell(value)] for key, value in values.items()])


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_cell(each)}" for key, each in value.items()) or "none"
    return ", ".join(map(_cell, value)) if isinstance(value, list) else "-" if value is None else str(value)
