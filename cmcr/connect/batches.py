"""How many rows a step takes."""

from __future__ import annotations

from cmcr.connect.config import ConnectConfig
from cmcr.errors import InputError

PAPER_BATCH, SMALLEST_BATCH = 10_240, 80
"""The automatic batch lies between; below about 80 rows InfoNCE has too few negatives (measured on small memories)."""


def batch_size_for(config: ConnectConfig, rows: int, ranks: int = 1) -> int:
    """Return the batch size: the one asked for, or the paper's halved until the run has ``min_steps`` steps.

    Raises:
        InputError: an explicit batch above the training rows, fewer than 2 rows (BatchNorm and InfoNCE need 2), or a
            batch that ``ranks`` processes cannot share equally.
    """
    if rows < 2:
        raise InputError(
            f"{rows} overlap row(s) to train on; at least 2 are needed: embed more of it, or lower --val-fraction"
        )
    if config.batch_size > rows:
        raise InputError(f"batch size {config.batch_size} is above the {rows} training rows; lower it, or leave it out")
    if config.batch_size == 1:
        raise InputError("batch size 1 has no negatives; expected 2 or more")
    if config.batch_size % ranks:
        raise InputError(
            f"batch size {config.batch_size} cannot be shared equally by {ranks} processes; use a multiple"
        )
    if rows < ranks:
        raise InputError(f"{rows} overlap rows to train on are too few for {ranks} processes; start fewer")
    if config.batch_size:
        return int(config.batch_size)
    size = PAPER_BATCH
    while size > SMALLEST_BATCH and (size > rows or config.epochs * (rows // size) < config.min_steps):
        size //= 2
    size = min(size, rows)
    return size - size % ranks
