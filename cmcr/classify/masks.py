"""Which modalities of which rows are missing, drawn at random so that every row keeps one."""

from __future__ import annotations

import numpy as np


def random_mask(rows: int, modalities: int, share: float, seed: int) -> np.ndarray:
    """Return what stays when a share of all entries goes missing (after CPM-Nets, as MLA takes its masks).

    Each row keeps one modality, drawn at random. Of the other entries as many stay as the share asks for, exactly; so
    at most 1 - 1/M of the entries can be missing, and a larger share means that.

    Args:
        rows: N.
        modalities: M.
        share: Of the N * M entries, 0 to 1.
        seed: Of the draw.

    Returns:
        (N, M) bool, True where a row keeps the modality.
    """
    rng = np.random.default_rng([seed, 5])
    kept = np.zeros((rows, modalities), dtype=bool)
    kept[np.arange(rows), rng.integers(modalities, size=rows)] = True
    others = np.flatnonzero(~kept)
    more = max(0, round(rows * modalities * (1 - share)) - rows)
    kept.flat[rng.permutation(others)[:more]] = True
    return kept
