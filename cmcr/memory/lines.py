"""Rows of a memory: one JSON object a line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, overload

from cmcr.errors import ArtifactError
from cmcr.files import read_lines
from cmcr.memory.manifest import Row
from cmcr.reading import plainly, why

_HALF = re.compile("[\ud800-\udfff]")  # half a character, which nothing can store


def _json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        with plainly():
            for number, line in enumerate(read_lines(path), 1):
                value = json.loads(line)
                if not isinstance(value, dict):
                    raise ValueError("not an object")
                yield number, value
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: {_why(error)}; restore it, or embed into a new folder") from None


def _row(value: Any, path: Path) -> Row:
    if not isinstance(value, dict):
        raise ArtifactError(f"{path}: damaged (not an object); restore it, or embed into a new folder")
    return Row(
        _text(value, "id", path),
        _text(value, "source", path),
        _text(value, "hash", path, False),
        _text(value, "text", path, False),
        _text(value, "note", path, False),
    )


@overload
def _text(value: dict[str, Any], key: str, path: Path) -> str: ...


@overload
def _text(value: dict[str, Any], key: str, path: Path, needed: Literal[False]) -> str | None: ...


def _text(value: dict[str, Any], key: str, path: Path, needed: bool = True) -> str | None:
    found = value.get(key)
    if isinstance(found, str) and (found.isascii() or not _HALF.search(found)):
        return found
    if found is None and not needed:
        return None
    raise ArtifactError(f"{path}: a row without {key} as text; restore the file, or embed into a new folder")


def _why(error: Exception) -> str:
    return why(error) if isinstance(error, OSError) else f"damaged ({why(error)})"
