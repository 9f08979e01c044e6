"""Two dimensions out of many: principal components, or UMAP (extra ``plot``)."""

from __future__ import annotations

from typing import Literal

import numpy as np

from cmcr.errors import InputError, MissingExtraError

Method = Literal["pca", "umap"]
NEIGHBOURS = 15


def pca(vectors: np.ndarray) -> tuple[np.ndarray, tuple[float, float]]:
    """Return the first two principal components of (N, D) rows.

    Returns:
        (N, 2) coordinates, and the share of the variance that each explains. A component's sign is chosen so that its
        largest weight is positive; dimensions that are not there are 0.
    """
    rows = np.asarray(vectors, np.float64)
    centred = rows - rows.mean(axis=0)
    _, values, axes = np.linalg.svd(centred, full_matrices=False)
    signs = np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])
    variances = values**2
    # What is left of equal rows after centring is rounding, and no direction.
    kept = np.flatnonzero(variances[:2] > len(rows) * 1e-24)
    coordinates, shares = np.zeros((len(rows), 2)), np.zeros(2)
    coordinates[:, kept] = (centred @ axes[kept].T) * signs[kept]
    shares[kept] = variances[kept] / variances.sum()
    return coordinates, (float(shares[0]), float(shares[1]))


def umap(vectors: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return (N, 2) coordinates by UMAP (McInnes et al., 2018) of (N, D) unit vectors, cosine, one thread.

    Raises:
        InputError: fewer than five rows.
        MissingExtraError: umap-learn is not installed.
    """
    if len(vectors) < 5:
        raise InputError(f"{len(vectors)} rows; UMAP needs five or more: use --method pca")
    try:
        from umap import UMAP
    except ImportError as error:
        raise MissingExtraError("umap-learn", "plot", "a UMAP map") from error
    neighbours = min(NEIGHBOURS, len(vectors) - 1)
    # A seed makes UMAP run on one thread; saying so keeps it from warning.
    model = UMAP(n_components=2, metric="cosine", n_neighbors=neighbours, random_state=seed, n_jobs=1)
    return np.asarray(model.fit_transform(vectors), np.float64)
