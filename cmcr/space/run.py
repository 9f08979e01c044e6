"""The folder of a run of ``cmcr connect``: whose recipe lies in it, and who may write it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from cmcr.errors import ArtifactError, InputError
from cmcr.files import locked, remove_left_behind, write_json
from cmcr.memory import MANIFEST
from cmcr.reading import read_json

CHECKPOINT = "checkpoint.safetensors"
FOLDS, FOLD_DONE = "folds", "found.json"
"""Folder for the folds of a connection of few rows, and the file in which each leaves what it found."""


def run_folder(out: Path, run: str | Path | None) -> Path:
    """Return where the run of a space lies.

    Raises:
        InputError: the run and the space are to be one folder, or the space is to lie in a memory.
    """
    folder = Path(run) if run is not None else out.with_name(out.name + ".run")
    if folder.resolve() == out.resolve():
        raise InputError(f"{out} is to be both the run and the space; choose another folder with --run")
    refuse_memory(out)
    return folder


def refuse_memory(folder: Path) -> None:
    """Refuse to write a space into a memory.

    Raises:
        InputError: the folder is one.
    """
    if (folder / MANIFEST).exists():
        raise InputError(f"{folder} is a memory; choose another folder for the space")


@contextmanager
def claimed(folder: Path, out: Path, resolved: dict[str, Any], overwrite: bool) -> Iterator[None]:
    """Hold the locks of the run and of the space, neither of which may be written by two; the run is of this recipe.

    Raises:
        ArtifactError: another writes there, or another recipe's run is in the way.
    """
    with ExitStack() as stack:
        for each in (folder, out):
            stack.enter_context(locked(each))
        remove_left_behind(folder)
        _claim(folder, out, resolved, overwrite)
        yield


def _claim(folder: Path, out: Path, resolved: dict[str, Any], overwrite: bool) -> None:
    """Make ``folder`` the run of this recipe: go on with it, or refuse (or drop) another's."""
    path = folder / "config.json"
    if not path.exists() and not overwrite and (out / "config.json").exists():
        raise ArtifactError(f"{out} holds a space without its run; choose another folder or add --overwrite")
    if path.exists():
        try:
            found = read_json(path)
        except (OSError, ValueError):
            found = None
        if found == json.loads(json.dumps(resolved)):
            return
        # A run that failed before its first epoch has nothing to lose: correcting a flag must not need --overwrite.
        begun = any(folder.rglob(CHECKPOINT)) or any(folder.rglob(FOLD_DONE)) or (out / "config.json").exists()
        if begun and not overwrite:
            raise ArtifactError(
                f"{folder} is a run of {_difference(found, resolved)}; choose another folder or add --overwrite"
            )
        # The pairs stay: each names what it was made from, and is made anew if that differs.
        for stale in (*folder.rglob(CHECKPOINT), *folder.rglob("metrics.jsonl")):
            stale.unlink()
        shutil.rmtree(folder / FOLDS, ignore_errors=True)
    write_json(path, resolved)


def _difference(found: Any, wanted: dict[str, Any]) -> str:
    """Name the first setting in which two resolved recipes differ."""
    if not isinstance(found, dict) or not isinstance(found.get("recipe"), dict):
        return "something unreadable"
    for name, value in wanted["recipe"].items():
        if found["recipe"].get(name) != value:
            return f"another recipe ({name} {found['recipe'].get(name)!r}, now {value!r})"
    if found.get("frozen") != wanted.get("frozen"):
        return "another kind (its base was frozen, or now is)"
    if found.get("pairs") != wanted.get("pairs"):
        return "other known pairs"
    if found.get("memories") == wanted["memories"]:
        return "another way to hold rows out, of an earlier version"
    return "other memories"
