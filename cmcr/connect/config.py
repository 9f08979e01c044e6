"""The recipe of a connection: every setting a frozen field, a flag and a TOML key of the same name."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, get_args, get_origin, get_type_hints

from cmcr.errors import InputError, nearest
from cmcr.reading import read_toml
from cmcr.schema import MAX_INT, shown

ALIASES = {"lambda": "intra_weight"}
"""TOML keys and flags whose name cannot be a Python name."""


_C_MCR = {"tau": 0.01, "lr": 1e-3, "weight_decay": 0.01}
_DISTILL = {"tau": 0.1, "lr": 3e-3, "weight_decay": 0.05}


@dataclass(frozen=True)
class ConnectConfig:
    """How two memories are connected. Defaults are C-MCR's (arXiv 2305.14381) where known.

    Attributes:
        method: ``c-mcr`` trains projectors on recalled pairs; ``distill`` also on what routing knows of the memories;
            ``linear`` and ``route`` are training-free; ``auto`` keeps the one of c-mcr, distill and linear that
            agrees best.
        projector: ``mlp``, ``half-mlp`` or ``linear`` (c-mcr).
        dim: Components of the connected space; 0 for the larger input's.
        hidden: Width of the MLP's hidden layer; 0 for twice ``dim`` (the paper's 1024 for 512; distill:
            three times).
        init: ``default`` (PyTorch's rule), ``xavier`` or ``identity``.
        epochs: Passes over the overlap rows.
        batch_size: Rows a step; 0 for the paper's 10,240, halved until a run has ``min_steps`` steps.
        min_steps: Steps below which the automatic batch shrinks.
        lr: Peak learning rate of AdamW, decayed by a cosine to 0; None for the method's own (0.001; distill 0.003).
        weight_decay: AdamW's; None for the method's own (0.01; distill 0.05).
        tau: Temperature of the overlap loss (tau2) and, unless ``tau_pseudo`` is set, of the pseudo loss (tau3); None
            for the method's own (0.01; distill 0.1).
        tau_pseudo: Temperature of the pseudo loss; 0 for ``tau``.
        tau_memory: Temperature of the softmax over a memory (tau1).
        noise: Variance per component of the Gaussian completion.
        overlap_weight: Weight of the overlap loss (L_ttc).
        pseudo_weight: Weight of the pseudo loss (L_avc).
        intra_weight: Weight lambda of the intra loss.
        intra: ``plain`` or ``squared`` distance in the intra loss.
        pairing: ``full`` softmax over the memory, ``topk:K``, or ``none`` (overlap pair only).
        renormalize: Normalise pseudo rows before the noise (their norm is below 1).
        batch_norm: ``joint``: overlap and pseudo rows in one pass; ``separate``: a pass each.
        val_fraction: Share of the overlap held out to pick the checkpoint.
        on: ``overlap`` rows or recalled ``pseudo`` rows are what ``linear`` is fitted on.
        center: Subtract the mean of each modality's memory first (linear, route).
        ridge: Ridge of ``linear`` relative to the mean eigenvalue; 0 picks it on the held-out overlap.
        route_tau: Temperature of routing (route, distill).
        route_top_k: Overlap rows a vector is routed through; 0 for all (distill: at most a tenth of them).
        route_density: How much nearer an overlap row counts for lying among the memories' rows (distill).
        distill_tau: Temperature at which routed and own similarities are distilled (distill).
        own_weight: Weight of what each space knows itself of its own rows (distill).
        shrink: How far directions in which the memories' rows vary less count less: power of their covariance that the
            space is multiplied by after training, times what pairs do not count (distill); 0: not at all.
        precision: ``bf16`` or ``fp32`` matrix products in pairing and training (sums and weights stay float32);
            ``auto``: bf16 where the hardware has it.
        seed: Seed of split, initialisation, order and noise.
    """

    method: Literal["auto", "c-mcr", "distill", "linear", "route"] = "c-mcr"
    projector: Literal["mlp", "half-mlp", "linear"] = "mlp"
    dim: int = 0
    hidden: int = 0
    init: Literal["default", "xavier", "identity"] = "default"
    epochs: int = 36
    batch_size: int = 0
    min_steps: int = 1000
    lr: float = None  # type: ignore[assignment]
    weight_decay: float = None  # type: ignore[assignment]
    tau: float = None  # type: ignore[assignment]
    tau_pseudo: float = 0.0
    tau_memory: float = 0.01
    noise: float = 0.004
    overlap_weight: float = 1.0
    pseudo_weight: float = 1.0
    intra_weight: float = 0.1
    intra: Literal["plain", "squared"] = "plain"
    pairing: str = "full"
    renormalize: bool = False
    batch_norm: Literal["joint", "separate"] = "joint"
    val_fraction: float = 0.05
    on: Literal["overlap", "pseudo"] = "overlap"
    center: bool = True
    ridge: float = 0.0
    route_tau: float = 0.1
    route_top_k: int = 300
    route_density: float = 0.5
    distill_tau: float = 0.05
    own_weight: float = 0.5
    shrink: float = 0.5
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value in self._own(self.method).items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        for field in dataclasses.fields(self):
            kind = get_type_hints(type(self))[field.name]
            _check(field.name, getattr(self, field.name), kind)
            if kind is int:  # 3.0 is a whole number, but no number of epochs to Python
                object.__setattr__(self, field.name, int(getattr(self, field.name)))
        if self.pairing not in ("full", "none") and self.top_k < 1:
            raise InputError(f"pairing {shown(self.pairing)}; expected full, none or topk:K with K of 1 or more")

    @staticmethod
    def _own(method: str) -> dict[str, float]:
        """Return the settings whose defaults are the method's own."""
        return _DISTILL if method in ("auto", "distill") else _C_MCR

    @property
    def top_k(self) -> int:
        """K of ``topk:K``, 0 for the full softmax."""
        prefix, _, count = self.pairing.partition(":")
        return int(count) if prefix == "topk" and count.isdecimal() and len(count) < 10 else 0

    def to_dict(self) -> dict[str, Any]:
        """Return every setting as JSON-ready values."""
        return dataclasses.asdict(self)

    def replace(self, **settings: Any) -> Self:
        """Return a copy with some settings changed; with another method, what was left to the method is that one's.

        Raises:
            InputError: an unknown name or an impossible value.
        """
        known = {field.name for field in dataclasses.fields(self)}
        for name in settings:
            if name not in known:
                raise InputError(f"unknown setting {name!r}{nearest(name, known)}; expected one of {_listed(known)}")
        own = self._own(self.method)
        left = {name: None for name, value in own.items() if getattr(self, name) == value}
        return dataclasses.replace(self, **left | settings)

    @classmethod
    def from_toml(cls, path: str | Path) -> Self:
        """Read a recipe: a flat TOML file whose keys are the names above (``lambda`` for ``intra_weight``).

        Raises:
            InputError: unreadable, not TOML, an unknown key (the nearest is named) or an impossible value.
        """
        try:
            table = read_toml(Path(path))
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}; expected a TOML recipe") from error
        except ValueError as error:
            raise InputError(f"{path}: not a TOML file ({error})") from error
        try:
            return cls().replace(
                **{ALIASES.get(key.replace("-", "_"), key.replace("-", "_")): table[key] for key in table}
            )
        except InputError as error:
            raise InputError(f"{path}: {error}") from error


_ABOVE_ZERO = {"epochs", "min_steps", "lr", "tau", "tau_memory", "route_tau", "distill_tau", "val_fraction"}
_BELOW_ONE = {"val_fraction"}
_MOST = {"dim": 1 << 16, "hidden": 1 << 18, "epochs": 1_000_000, "seed": 1 << 43}
"""Above, torch has no memory or its generators no seed."""


def _check(name: str, value: Any, kind: Any) -> None:
    """Refuse a value of the wrong type, outside its choices, or outside its range."""
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            known = get_args(kind)
            raise InputError(f"{name} {shown(value)}; expected one of {', '.join(known)}{nearest(shown(value), known)}")
        return
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and not 0 <= value <= MAX_INT:
        raise InputError(f"{name} {shown(value)}; expected a finite number of 0 or more, and of 64 bits")
    if number and value > _MOST.get(name, value):
        raise InputError(f"{name} {shown(value)}; expected at most {_MOST[name]}")
    if kind in (int, float) and (not number or (kind is int and value != int(value))):
        raise InputError(f"{name} {shown(value)}; expected {'a whole number' if kind is int else 'a number'}")
    if kind in (bool, str) and not isinstance(value, kind):
        raise InputError(f"{name} {shown(value)}; expected {'true or false' if kind is bool else 'text'}")
    if name in _ABOVE_ZERO and not value > 0:
        raise InputError(f"{name} {value}; expected a number above 0")
    if name in _BELOW_ONE and not value < 1:
        raise InputError(f"{name} {value}; expected a number below 1")


def _listed(names: set[str]) -> str:
    return ", ".join(sorted({*names, *ALIASES} - set(ALIASES.values())))
