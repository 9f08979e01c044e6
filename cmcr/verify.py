"""What ``cmcr info --verify`` looks at: everything in a space, a run, a memory or a classifier, one line a problem."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open

from cmcr.classify.describe import classifier_problems
from cmcr.connect import ConnectConfig
from cmcr.decode import memory_bytes
from cmcr.errors import CmcrError
from cmcr.files import check_regular, left_behind, read_lines
from cmcr.memory import Memory
from cmcr.printable import printable
from cmcr.reading import open_npy, parse_json, plainly, read_bytes, read_json, why
from cmcr.search.verify import memory_problems
from cmcr.space import ConnectedSpace, read_config
from cmcr.space.card import card
from cmcr.space.describe import CLASSIFIER

CARD_BYTES = 1 << 20
_BLOCK = 8192


def verified(folder: Path, config: dict[str, Any] | None) -> tuple[str, list[str], str]:
    """Return what lies in a folder, what is wrong with it, and what it holds if nothing is.

    Args:
        folder: Of a memory, a space, a classifier or a run.
        config: As ``config_in`` finds it.

    Raises:
        ArtifactError: it does not open.
    """
    if config is not None and config["format"] == CLASSIFIER:
        return "classifier", classifier_problems(folder), " + ".join(each["name"] for each in config["channels"])
    if config is not None:
        return "space", space_problems(folder), " + ".join(each["name"] for each in config["encoders"])
    if is_run(folder):
        return "run", run_problems(folder), "run"
    memory = Memory.open(folder)
    held = ", ".join(f"{memory.rows(kind)} {kind}" for kind in memory.modalities) or "empty"
    return "memory", memory_problems(memory), held


def space_problems(folder: Path) -> list[str]:
    """Return what is wrong with a space that opens, its card and its run.

    Raises:
        ArtifactError: it does not open.
    """
    space = ConnectedSpace.from_pretrained(folder)
    config = read_config(folder)
    values = {f"{group}.{name}": value for group in ("recipe", "metrics") for name, value in config[group].items()}
    odd = {name: value for name, value in values.items() if not _plain(value)}
    problems = [f"config.json: {name} is {str(value)[:60]}, expected what is finite" for name, value in odd.items()]
    for name, projector in space.maps.items():
        weights = {key: tensor for key, tensor in projector.state_dict().items() if tensor.ndim == 2}
        problems += [f"model.safetensors: {key} of {name!r} is all zeros" for key, t in weights.items() if not t.any()]
    if not problems:
        problems += _of_card(folder / "README.md", config)
    problems += [f"{path.name}: left over" for path in left_behind(folder)]
    run = folder.with_name(folder.name + ".run")
    return problems + ([f"{run.name}/{problem}" for problem in run_problems(run)] if run.is_dir() else [])


def _plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_plain, value.values()))
    if isinstance(value, list):
        return all(map(_plain, value))
    return not isinstance(value, float) or math.isfinite(value)


def _of_card(path: Path, config: dict[str, Any]) -> list[str]:
    try:
        with plainly():
            text = read_bytes(path, CARD_BYTES).decode()
    except FileNotFoundError:
        return ["README.md: no card; the space itself is whole"]
    except (OSError, ValueError) as error:
        return [f"README.md: {why(error)}"]
    unfit = [line for line in text.split("\n") if printable(line) != line]
    # Cards of version 1 were written before today's tables.
    rows = [line for line in card(config).split("\n") if line.startswith("| ") and config["version"] != 1]
    missing = [line for line in rows if line not in text.split("\n")]
    problems = ["README.md: holds characters that a terminal would obey"] if unfit else []
    return problems + ([f"README.md: is not the card of config.json, it lacks {missing[0]!r}"] if missing else [])


def is_run(folder: Path) -> bool:
    """Tell whether a folder is the run of a connection."""
    try:
        config = read_json(folder / "config.json")
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and {"recipe", "memories"} <= config.keys()


def run_problems(folder: Path) -> list[str]:
    """Return what is wrong with the files of a run."""
    problems = []
    for path in sorted(folder.rglob("*")):
        check = _CHECKS.get(path.name, _CHECKS.get(path.suffix))
        if path.is_dir() or check is None:
            continue
        try:
            with plainly():
                check(path)
        except (OSError, ValueError, CmcrError) as error:
            problems.append(f"{path.relative_to(folder).as_posix()}: {why(error)}")
    left = [path for parent in (folder, *(p for p in folder.rglob("*") if p.is_dir())) for path in left_behind(parent)]
    return problems + [
        f"{path.relative_to(folder).as_posix()}: left over; the next cmcr connect removes it" for path in left
    ]


def _check_config(path: Path) -> None:
    ConnectConfig().replace(**read_json(path)["recipe"])


def _check_lines(path: Path) -> None:
    for number, line in enumerate(read_lines(path), 1):
        if not isinstance(parse_json(line), dict):
            raise ValueError(f"line {number} is no object")


def _check_array(path: Path) -> None:
    array = open_npy(path)
    if array.ndim != 2 or array.dtype != np.float16:
        raise ValueError(f"{array.dtype} of shape {array.shape}, expected float16 rows")
    for start in range(0, len(array), _BLOCK):
        if not np.isfinite(array[start : start + _BLOCK]).all():
            raise ValueError(f"rows {start} to {start + _BLOCK} hold values that are not finite")


def _check_tensors(path: Path) -> None:
    if check_regular(path).st_size > memory_bytes() // 2:
        raise ValueError("larger than half of memory")
    with safe_open(path, framework="pt") as file:
        for key in file.keys():  # noqa: SIM118  (not a dict)
            if not torch.isfinite(file.get_tensor(key)).all():
                raise ValueError(f"{key} holds values that are not finite")


_CHECKS = {
    "config.json": _check_config,
    ".json": read_json,
    ".jsonl": _check_lines,
    ".npy": _check_array,
    ".safetensors": _check_tensors,
}
