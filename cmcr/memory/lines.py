"""Rows of a memory: one JSON object a line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cmcr.errors import ArtifactError
from cmcr.files import read_lines
from cmcr.memory.manifest import CURE, Row
from cmcr.reading import reading

_HALF = re.compile("[\ud800-\udfff]")  # half a character, which nothing can store


def _json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with reading(path, CURE):
        for number, line in enumerate(read_lines(path), 1):
            value = json.loads(line)
            if not isinstance(value, dict):
                raise ValueError("not an object")
            yield number, value


def _row(value: Any, path: Path) -> Row:
    if not isinstance(value, dict):
        raise ArtifactError(f"{path}: damaged (not an object); {CURE}")
    cells: list[Any] = [value.get(name) for name in Row.__slots__]
    for name, cell in zip(Row.__slots__, cells, strict=True):
        text = isinstance(cell, str) and (cell.isascii() or not _HALF.search(cell))
        if not text and (cell is not None or name in ("id", "source")):
            raise ArtifactError(f"{path}: a row without {name} as text; {CURE}")
    return Row(*cells)
