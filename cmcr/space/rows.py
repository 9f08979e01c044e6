"""What is given to be projected, checked: modality names, rows and weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from cmcr.errors import InputError, nearest
from cmcr.space.parts import Router, SpaceEncoder


def unit_rows(vectors: np.ndarray, encoder: SpaceEncoder) -> np.ndarray:
    """Return float32 unit rows, or say what is wrong with the array."""
    expected = f"{encoder.name} has numbers of shape (N, {encoder.dim})"
    try:
        rows = np.asarray(vectors)
    except (TypeError, ValueError, RuntimeError) as error:  # ragged lists; tensors of a GPU or with gradients
        raise InputError(f"{type(vectors).__name__} is no array ({str(error).splitlines()[0]}); {expected}") from error
    if rows.ndim != 2 or rows.shape[1] != encoder.dim or rows.dtype.kind not in "fiu":
        raise InputError(f"array {rows.dtype} {rows.shape}; {expected}")
    with np.errstate(over="ignore", under="ignore"):  # what is too large or small for float32 is told below
        rows = rows.astype(np.float32)
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
    bad = ~np.isfinite(norms[:, 0]) | (norms[:, 0] == 0)
    if bad.any():
        raise InputError(f"row {int(bad.argmax())} of the array is zero or not finite as float32; remove it")
    unit: np.ndarray = rows / norms
    return unit


def checked_weights(weights: Mapping[str, float], names: Sequence[str]) -> dict[str, float]:
    """Return the weights, if each names an encoder of the call and is a finite number of 0 or more.

    Raises:
        InputError: one does not, or is not.
    """
    for name, weight in weights.items():
        if name not in names:
            raise InputError(
                f"weight of {name!r}, but the call has vectors of {', '.join(names)}{nearest(str(name), names)}"
            )
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < math.inf:
            raise InputError(f"weight {weight!r} of {name}; expected a finite number of 0 or more")
    return dict(weights)


def route(router: Router, raw: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return by encoder the (N, 1) weights that a router gives its view of (N, D) raw rows.

    Raises:
        InputError: rows of an encoder that it reads are not there, or it does not weigh the view of one that is.
    """
    what, here = f"the router of {router.modality}", ", ".join(raw)
    if lacking := [name for name in router.reads if name not in raw]:
        raise InputError(
            f"{what} reads {', '.join(router.reads)}, and here are vectors of {here}; add {lacking[0]}, or give weights"
        )
    if other := [name for name in raw if name not in router.weighs]:
        raise InputError(
            f"{what} weighs {', '.join(router.weighs)}, and here are vectors of {here}; leave {other[0]} out, or give "
            "weights"
        )
    with torch.inference_mode():
        found = router(torch.from_numpy(np.concatenate([raw[name] for name in router.reads], axis=1))).numpy()
    return {name: found[:, [number]] for number, name in enumerate(router.weighs) if name in raw}


def weighted_mean(projected: Sequence[np.ndarray], shares: Sequence[np.ndarray]) -> np.ndarray:
    """Return (N, dim) float32 unit rows: the normalised sum of each (N, dim) array times its (N, 1) shares.

    Raises:
        InputError: the rows of an item cancel each other.
    """
    total = sum((rows * share for rows, share in zip(projected, shares, strict=True)), np.zeros((1, 1), np.float32))
    norms = np.linalg.norm(total, axis=1, keepdims=True)
    if not (norms > 0).all():
        raise InputError(f"row {int((norms == 0).argmax())}: what the encoders see cancels out; give other weights")
    unit: np.ndarray = (total / norms).astype(np.float32)
    return unit
