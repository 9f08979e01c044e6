"""Canonical similarity analysis: what two spaces agree on over known pairs; trains nothing."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cmcr.connect.methods import base
from cmcr.settings import setting

if TYPE_CHECKING:
    from torch import Tensor

    from cmcr.connect.config import ConnectConfig
    from cmcr.connect.fitted import Fitted
    from cmcr.connect.validation import Validation
    from cmcr.hooks import Log, Progress
    from cmcr.numbers.canonical import Canonical, Directions, Recipe
    from cmcr.space import Projector


@dataclass(frozen=True)
class CsaSettings:
    """The settings of canonical similarity analysis."""

    canonical_rows: Literal["auto", "plain", "described"] = setting(
        "auto", "Rows as they are, or as the known rows of their side describe them; auto: by held-out pairs."
    )
    canonical_ridge: float = setting(
        0.0, "Ridge of either side, relative to its mean eigenvalue; 0: the one under which held-out pairs rank best."
    )
    canonical_power: float = setting(
        0.0, "Power of its correlation that weighs a direction on either side, 0.5 as published; 0: by held-out pairs."
    )


class Csa(base.Method):
    """canonical directions of pairs (known ones, or the overlap), weighed by their correlation; trains nothing."""

    Settings = CsaSettings
    uses_pairs = True

    def fit(self, validation: Validation, folder: Path, progress: Progress, log: Log) -> Fitted:
        """Return both sides' maps onto the canonical directions."""
        from dataclasses import replace

        from cmcr.connect.fitted import measured
        from cmcr.connect.methods.few import fewer_than_components, paired_rows
        from cmcr.numbers import canonical

        x, y = (rows.cpu() for rows in paired_rows(validation))
        recipe = canonical.pick(x, y, canonical.folds_of(len(x), validation.config.seed), recipes(validation.config))
        maps = canonical_maps(canonical.fit_canonical(x, y, recipe), validation.centers)
        told = {"pairs": len(x), "ridge": recipe.ridge, "tau": recipe.tau, "power": recipe.power}
        made = measured(validation, maps, told, log)
        return replace(made, notes=(*made.notes, *fewer_than_components(len(x), [x.shape[1], y.shape[1]])))


def recipes(config: ConnectConfig) -> list[Recipe]:
    """Return the recipes to choose from: what the settings leave open."""
    from cmcr.numbers import canonical

    taus = {"auto": canonical.TAUS, "plain": (0.0,), "described": canonical.TAUS[1:]}[config.canonical_rows]
    ridges = [config.canonical_ridge] if config.canonical_ridge else canonical.RIDGES
    powers = [config.canonical_power] if config.canonical_power else canonical.POWERS
    return [canonical.Recipe(*each) for each in itertools.product(taus, ridges, powers)]


def canonical_maps(found: Canonical, centers: list[dict[str, Tensor]]) -> tuple[Projector, Projector]:
    """Return the projectors of canonical maps, each after the centring of its modality."""
    first, second = (_bridge(side, center) for side, center in zip(found, centers, strict=True))
    return first, second


def _bridge(side: Directions, center: dict[str, Tensor]) -> Projector:
    from cmcr.space import bridges

    if side.keys is None:
        return bridges.linear_bridge(side.weight.T, side.bias, center)
    # The weights of a description add up to 1, so that what is added to every value is added to their mean.
    return bridges.route_bridge(side.keys, side.weight + side.bias, side.tau, 0, center)
