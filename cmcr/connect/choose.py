"""Which method: the one asked for, or the one that agrees best."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from cmcr.connect.config import ConnectConfig
from cmcr.connect.fitted import Fitted
from cmcr.connect.methods.c_mcr import _c_mcr
from cmcr.connect.methods.distill import _distill
from cmcr.connect.methods.linear import _linear, _route
from cmcr.connect.split import FEW
from cmcr.connect.validation import TRAINED, Bench
from cmcr.errors import InputError
from cmcr.hooks import Log, Progress
from cmcr.memory.overlap import Side


def _counts(sides: list[Side]) -> dict[str, int]:
    """Return the rows there are to learn from: of each memory that is recalled, and of the overlap."""
    held = {f"{side.memory.path} ({side.outer})": side.memory.rows(side.outer) for side in sides if side.outer}
    return held | {"the overlap": len(sides[0].rows)}


def _few(sides: list[Side]) -> str:
    return ", ".join(f"{name} has {rows} rows" for name, rows in _counts(sides).items() if rows < FEW)


def _too_few(method: str, sides: list[Side]) -> tuple[str, ...]:
    """Return a warning where measured spaces of so few rows were worse than what routing finds without training."""
    few = _few(sides)
    if method not in TRAINED or not few:
        return ()
    return (
        f"{few}: below {FEW}, {method} learns too little to rely on; --method route finds more there "
        "(--method auto takes it)",
    )


def _choose(config: ConnectConfig, sides: list[Side]) -> tuple[ConnectConfig, tuple[str, ...]]:
    """Return the recipe; instead of ``auto``, where there is too little to choose by, ``route`` and why."""
    if config.method == "distill" and any(side.outer is None for side in sides):
        raise InputError("method 'distill' learns from both memories, but pairing is 'none'; choose --pairing full")
    if config.method == "linear" and config.on == "pseudo" and any(side.outer is None for side in sides):
        raise InputError("--on pseudo needs what the memories recall, but pairing is 'none'; choose --pairing full")
    if config.method != "auto":
        return config, ()
    few = _few(sides)
    if few or len(_counts(sides)) < 3:
        why = few or "nothing is recalled"
        return config.replace(method="route"), (f"auto: route, for {why} (the choice wants {FEW} of each)",)
    return config, ()


def _auto(bench: Bench, folder: Path, progress: Progress, log: Log) -> Fitted:
    """Fit by each method and return the one whose space agrees best.

    Of methods within a standard error of the best, the one that was better wherever pairs could tell.
    Not by ``route``: it maps a row by the overlap rows near it, which is what agreement looks at, so that on real
    vectors it agreed better than ``distill`` while its recall was lower.
    """
    fitted: dict[str, Fitted] = {}
    for method in ("linear", "c-mcr", "distill"):
        own = folder / method
        own.mkdir(exist_ok=True)
        fitted[method] = _METHODS[method](bench.of(bench.config.replace(method=method)), own, progress, log)
    if bench.agreement is None:
        why = f"auto: distill, for {bench.unmeasured or 'nothing is recalled'}; nothing to compare"
        return replace(fitted["distill"], notes=(why, *fitted["distill"].notes))
    found = {method: each.metrics["agreement"] for method, each in fitted.items()}
    highest = max(found.values())
    # Rows that lie by the same overlap row stand or fall together.
    error = math.sqrt(highest * (1 - highest) / min(bench.agreement.rows, len(bench.rows.overlap_a)))
    best = next(method for method in ("distill", "c-mcr", "linear") if found[method] >= highest - error)
    others = ", ".join(f"{method} {found[method]:.3f}" for method in found if method != best)
    why = (
        f"auto: {best}, for its agreement of {found[best]:.3f} ({others}; standard error {error:.3f}, chance "
        f"{bench.agreement.chance:.3f}, {bench.agreement.rows} rows)"
    )
    return replace(fitted[best], notes=(why, *fitted[best].notes))


_METHODS: dict[str, Callable[[Bench, Path, Progress, Log], Fitted]] = {
    "auto": _auto,
    "c-mcr": _c_mcr,
    "distill": _distill,
    "linear": _linear,
    "route": _route,
}
