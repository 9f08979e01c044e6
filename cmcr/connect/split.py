"""Which overlap rows are trained on and which are held out."""

from __future__ import annotations

import numpy as np

from cmcr.connect.config import ConnectConfig

FEW = 200
"""Of fewer overlap rows none can be spared: all are trained on, and folds tell what is known of the result."""
LEAST = 20
"""At least so many rows are held out; of fewer, no figure is told."""
FOLDS = 5
Split = tuple[np.ndarray, np.ndarray]
"""(training, held-out) row numbers."""


def split(rows: int, config: ConnectConfig) -> Split:
    """Return (training, held-out) row numbers: ``val_fraction`` held out, at least ``LEAST``; of few rows none."""
    wanted = min(max(1, round(rows * config.val_fraction)), rows - 1)
    held = wanted if wanted >= LEAST else LEAST if rows >= FEW else 0
    order = _order(rows, config)
    return np.sort(order[held:]), order[:held]


def folds(rows: int, config: ConnectConfig) -> list[Split]:
    """Return ``FOLDS`` times (training, held-out) row numbers; every row is held out once. Too few: no folds."""
    order = _order(rows, config)
    parts = [order[number::FOLDS] for number in range(FOLDS)] if rows >= LEAST else []
    return [(np.setdiff1d(order, held), held) for held in parts]


def _order(rows: int, config: ConnectConfig) -> np.ndarray:
    return np.random.default_rng([config.seed, 1 << 20]).permutation(rows)
