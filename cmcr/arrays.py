"""Connect arrays that were never files: vectors of any encoders in, a connected space out."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmcr import console
from cmcr.connect import ConnectConfig, connect
from cmcr.errors import InputError, nearest
from cmcr.hooks import Log, Progress, unlogged
from cmcr.memory import ArrayMemory
from cmcr.memory.arrays import check_same_rows, modality_named
from cmcr.modality import Modality
from cmcr.space import ConnectedSpace

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

_OPTIONS = ("via", "method", "config", "ids", "outer", "device", "progress", "log")


def connect_arrays(
    *,
    via: str | Mapping[str, str],
    method: str | None = None,
    config: ConnectConfig | None = None,
    ids: Mapping[str, Sequence[object] | Mapping[str, Sequence[object]]] | None = None,
    outer: Mapping[str, str] | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
    log: Log = unlogged,
    **encoders: Mapping[str, ArrayLike],
) -> ConnectedSpace:
    """Connect the arrays of encoders through modalities that they share; no folder is needed.

    Of more than two, each is mapped into the space of the first, the base, which stays as it is (``linear``, ``route``
    and other one-sided methods).

    Args:
        via: The modality shared with the base; or by encoder, what each of the others shares with it.
        method: How, as in ``ConnectConfig``; None: what ``config`` says.
        config: The recipe; C-MCR's defaults when left out.
        ids: By encoder, the ids of its shared rows, or these by modality: rows of one id are paired. None: row i is
            paired with row i.
        outer: By encoder, the modality to recall, where it has several beside ``via`` (of two encoders).
        device: Where to pair and train.
        progress: Called as work proceeds; None: a bar on a terminal.
        log: Called with each epoch's record.
        encoders: By name, (N, D) arrays by modality (NumPy, or what NumPy makes an array of). The first is the base.

    Returns:
        The space; ``save`` keeps it. What speaks against relying on it is given as a ``UserWarning``.

    Raises:
        InputError: an array, id, name or setting cannot be used.

    Example:
        >>> import numpy as np
        >>> import cmcr
        >>> rng = np.random.default_rng(0)
        >>> texts, images, sounds = (rng.normal(size=(rows, 8)) for rows in (200, 50, 60))
        >>> see, hear = rng.normal(size=(8, 32)), rng.normal(size=(8, 24))
        >>> a, b = {"text": texts @ see, "image": images @ see}, {"text": texts @ hear, "audio": sounds @ hear}
        >>> space = cmcr.connect_arrays(a=a, b=b, via="text", method="linear")
        >>> space.project(sounds @ hear, encoder="b", modality="audio").shape
        (60, 32)
    """
    config = ConnectConfig() if config is None else config
    if not isinstance(config, ConnectConfig):
        raise InputError(f"config is a {type(config).__name__}; expected a ConnectConfig")
    _check_names(encoders, ids=ids or {}, outer=outer or {})
    base, *others = encoders
    overlaps = _overlaps(via, others)
    shared = {base: set(overlaps.values())} | {name: {overlaps[name]} for name in others}
    held = [_memory(name, arrays, shared[name], (ids or {}).get(name)) for name, arrays in encoders.items()]
    for leaf in () if ids else held[1:]:
        check_same_rows(held[0], leaf, overlaps[leaf.encoder.name])
    chosen = [modality_named(each, "outer") if (each := (outer or {}).get(name)) else None for name in encoders]
    recipe = config if method is None else config.replace(method=method)
    bar = console.progress("connecting") if progress is None else nullcontext(progress)
    with tempfile.TemporaryDirectory(prefix="cmcr-") as folder, bar as told:
        made = connect(
            *held, out=Path(folder) / "space", config=recipe, via=list(overlaps.values()),
            outer_a=chosen[0], outer_b=chosen[1], device=device, progress=told, log=log,
        )  # fmt: skip
    for warning in made.warnings:
        warnings.warn(warning, stacklevel=2)
    return made.space


def _check_names(encoders: Mapping[str, object], **by_encoder: Mapping[str, object]) -> None:
    """Refuse a setting that is misspelt (it would pass for an encoder), and settings of unknown encoders."""
    for name, arrays in encoders.items():
        if not isinstance(arrays, Mapping):
            raise InputError(
                f"{name} is a {type(arrays).__name__}; expected the arrays of an encoder by modality, or a setting "
                f"({', '.join(_OPTIONS)}){nearest(name, _OPTIONS)}"
            )
    if len(encoders) < 2:
        raise InputError(f"{len(encoders)} encoders ({', '.join(encoders) or 'none'}); expected two or more")
    for setting, given in by_encoder.items():
        if not isinstance(given, Mapping) or given.keys() - encoders.keys():
            shown = ", ".join(map(str, given)) if isinstance(given, Mapping) else type(given).__name__
            raise InputError(f"{setting} of {shown}; expected them by encoder ({', '.join(encoders)})")
    if by_encoder["outer"] and len(encoders) > 2:
        raise InputError(f"outer of {', '.join(by_encoder['outer'])}; it is for two encoders, here are {len(encoders)}")
    given = by_encoder["ids"]
    if missing := [name for name in encoders if given and name not in given]:
        raise InputError(f"ids of {', '.join(given)} and none of {missing[0]}; rows are joined by ids of both")


def _overlaps(via: str | Mapping[str, str], others: Sequence[str]) -> dict[str, Modality]:
    """Return what each encoder beside the base shares with it."""
    given = via if isinstance(via, Mapping) else dict.fromkeys(others, via)
    if given.keys() != set(others):
        raise InputError(f"via of {', '.join(map(str, given)) or 'none'}; expected that of {', '.join(others)}")
    return {name: modality_named(given[name], "via") for name in others}


def _memory(name: str, arrays: Mapping[str, ArrayLike], shared: set[Modality], ids: Any) -> ArrayMemory:
    """Return an encoder's arrays as a memory; its ``ids`` are a list for the one modality it shares, or by modality."""
    if missing := sorted(shared - arrays.keys()):
        held = ", ".join(map(str, arrays)) or "nothing"
        raise InputError(f"via {str(missing[0])!r}: {name} has {held}; give it the same {missing[0]} rows, too")
    if ids is not None and not isinstance(ids, Mapping):
        if len(shared) > 1:
            raise InputError(f"ids of {name}: it shares {' and '.join(sorted(shared))}; give them by modality")
        ids = {str(next(iter(shared))): ids}
    return ArrayMemory(name, arrays, ids)
