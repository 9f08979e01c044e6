"""The two callbacks through which work reports: progress for a person, records for a log. Both default to silence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Progress = Callable[[int, int, str], None]
"""``progress(done, total, note)``; called from one thread, ``total`` may grow, ``note`` is a few words or empty."""

Log = Callable[[dict[str, Any], int], None]
"""``log(values, step)``: one record of named numbers."""


def silent(done: int, total: int, note: str = "") -> None:
    """Report nothing: the default ``Progress``."""


def unlogged(values: dict[str, Any], step: int) -> None:
    """Record nothing: the default ``Log``."""
