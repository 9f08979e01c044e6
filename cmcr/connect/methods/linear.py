"""Training-free methods: a ridge regression, and routing through the overlap."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cmcr.connect.methods import base
from cmcr.connect.settings import Routing
from cmcr.errors import InputError
from cmcr.settings import setting

if TYPE_CHECKING:
    from torch import Tensor

    from cmcr.connect.config import ConnectConfig
    from cmcr.connect.fitted import Fitted
    from cmcr.connect.pairs import PairBatch
    from cmcr.connect.validation import Validation
    from cmcr.hooks import Log, Progress
    from cmcr.memory.overlap import Side


@dataclass(frozen=True)
class Centring:
    """The setting of both."""

    center: bool = setting(True, "Subtract the mean of each modality's memory first.")


@dataclass(frozen=True)
class LinearSettings(Centring):
    """Settings of the regression."""

    on: Literal["overlap", "pseudo"] = setting("overlap", "Rows it is fitted on; pseudo: what is recalled for them.")
    ridge: float = setting(0.0, "Ridge relative to the mean eigenvalue; 0: picked on the held-out overlap.")


@dataclass(frozen=True)
class RouteSettings(Centring, Routing):
    """Settings of routing."""


class Linear(base.Method):
    """a ridge regression of the overlap into the first encoder's space; trains nothing."""

    Settings = LinearSettings
    one_sided = True

    def resolve(self, config: ConnectConfig, sides: list[Side]) -> tuple[ConnectConfig, tuple[str, ...]]:
        """Refuse to fit on what is not recalled."""
        if config.on == "pseudo" and any(side.outer is None for side in sides):
            raise InputError("--on pseudo needs what the memories recall, but pairing is 'none'; choose --pairing full")
        return config, ()

    def recalls(self, validation: Validation) -> bool:
        """Tell whether it is fitted on what is recalled."""
        return bool(validation.config.on == "pseudo")

    def fit(self, validation: Validation, folder: Path, progress: Progress, log: Log) -> Fitted:
        """Return the identity and the regression."""
        from cmcr.connect.fitted import measured
        from cmcr.numbers import ridge as ridges
        from cmcr.space import bridges

        config = validation.config
        centers = validation.centers if config.center else [{}, {}]
        x, y = _fit_rows(validation, validation.pairs.take(validation.train), centers, config.on)
        ridge = config.ridge or (validation.known and validation.known.ridge)
        if not ridge:
            held = _fit_rows(validation, validation.pairs.take(validation.held), centers, config.on)
            ridge = ridges.pick_ridge(x, y, *held)
        bridge = bridges.linear_bridge(*ridges.fit_ridge(x, y, ridge), centers[1])
        return measured(validation, (bridges.identity(y.shape[1], centers[0]), bridge), {"ridge": ridge}, log)


class Route(base.Method):
    """each vector becomes the mean of the overlap rows near it, as the first encoder sees them; trains nothing."""

    Settings = RouteSettings
    one_sided = True

    def fit(self, validation: Validation, folder: Path, progress: Progress, log: Log) -> Fitted:
        """Return the identity and the route."""
        from cmcr.connect.fitted import measured
        from cmcr.space import bridges

        config = validation.config
        centers = validation.centers if config.center else [{}, {}]
        keys, values = _fit_rows(validation, validation.pairs.take(validation.train), centers, "overlap")
        bridge = bridges.route_bridge(keys, values, config.route_tau, config.route_top_k, centers[1])
        return measured(validation, (bridges.identity(values.shape[1], centers[0]), bridge), {}, log)


def _fit_rows(
    validation: Validation, rows: PairBatch, centers: list[dict[str, Tensor]], part: str
) -> tuple[Tensor, Tensor]:
    """Return what the bridge maps from (second space) and to (first space), centred as its input will be."""
    from torch.nn.functional import normalize

    found = {"overlap": (rows.overlap_b, rows.overlap_a), "pseudo": (rows.pseudo_b, rows.pseudo_a)}[part]
    names = [side.overlap if part == "overlap" else side.outer for side in (validation.sides[1], validation.sides[0])]
    result = []
    for x, name, center in zip(found, names, (centers[1], centers[0]), strict=True):
        assert x is not None and name is not None  # noqa: S101  (refused before)
        x = normalize(x, dim=1)
        result.append(normalize(x - center[name], dim=1) if name in center else x)
    return result[0], result[1]
