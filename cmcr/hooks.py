"""The two callbacks through which work reports: progress for a person, records for a log. Both default to silence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

Progress = Callable[[int, int, str], None]
"""``progress(done, total, note)``; called from one thread, ``total`` may grow, ``note`` is a few words or empty."""

Log = Callable[[dict[str, Any], int], None]
"""``log(values, step)``: one record of named numbers."""


def silent(done: int, total: int, note: str = "") -> None:
    """Report nothing: the default ``Progress``."""


def unlogged(values: dict[str, Any], step: int) -> None:
    """Record nothing: the default ``Log``."""


def tensorboard_log(folder: Path) -> Log:
    """Return a log that writes TensorBoard scalars into ``folder``.

    Raises:
        MissingExtraError: TensorBoard is not installed.
    """
    from cmcr.errors import MissingExtraError

    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtraError("tensorboard", "tensorboard", "--tensorboard") from error
    writer = SummaryWriter(str(folder))

    def log(values: dict[str, Any], step: int) -> None:
        for name, value in values.items():
            if not isinstance(value, int | float):  # what is not known
                continue
            writer.add_scalar(name, value, step)
        writer.flush()

    return log
