"""The method that agrees best, of several that are fitted."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cmcr.connect.methods import load_method
from cmcr.connect.methods.base import Method
from cmcr.connect.methods.distill import DistillSettings

if TYPE_CHECKING:
    from cmcr.connect.config import ConnectConfig
    from cmcr.connect.fitted import Fitted
    from cmcr.connect.validation import Validation
    from cmcr.hooks import Log, Progress
    from cmcr.memory.overlap import Side

PREFERRED = ("distill", "c-mcr", "linear")
"""Of methods within a standard error of the best, the one that was better wherever pairs could tell."""


class Auto(Method):
    """the one of c-mcr, distill and linear whose memories agree best; route where there is too little to choose by.

    Never ``route`` by agreement: it maps a row by the overlap rows near it, which is what agreement looks at, so that
    on real vectors it agreed better than ``distill`` while its recall was lower.
    """

    Settings = DistillSettings
    trains = True
    tries = ("linear", "c-mcr", "distill")

    def resolve(self, config: ConnectConfig, sides: list[Side]) -> tuple[ConnectConfig, tuple[str, ...]]:
        """Return ``route``, and why, where there is too little to choose by."""
        from cmcr.connect.choose import why_not_chosen
        from cmcr.connect.split import FEW

        why = why_not_chosen(sides)
        if not why:
            return config, ()
        return config.replace(method="route"), (f"auto: route, for {why} (the choice wants {FEW} of each)",)

    def fit(self, validation: Validation, folder: Path, progress: Progress, log: Log) -> Fitted:
        """Fit by each method and return the one whose space agrees best."""
        fitted: dict[str, Fitted] = {}
        for method in self.tries:
            own = folder / method
            own.mkdir(exist_ok=True)
            fitted[method] = load_method(method).fit(
                validation.of(validation.config.replace(method=method)), own, progress, log
            )
        if validation.agreement is None:
            why = f"auto: distill, for {validation.unmeasured or 'nothing is recalled'}; nothing to compare"
            return replace(fitted["distill"], notes=(why, *fitted["distill"].notes))
        found = {method: each.metrics["agreement"] for method, each in fitted.items()}
        highest = max(found.values())
        # Rows that lie by the same overlap row stand or fall together.
        error = math.sqrt(highest * (1 - highest) / min(validation.agreement.rows, len(validation.rows.overlap_a)))
        best = next(method for method in PREFERRED if found[method] >= highest - error)
        others = ", ".join(f"{method} {found[method]:.3f}" for method in found if method != best)
        why = (
            f"auto: {best}, for its agreement of {found[best]:.3f} ({others}; standard error {error:.3f}, chance "
            f"{validation.agreement.chance:.3f}, {validation.agreement.rows} rows)"
        )
        return replace(fitted[best], notes=(why, *fitted[best].notes))
