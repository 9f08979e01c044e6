"""The method to use where nothing speaks against it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cmcr.connect.methods.base import Method
from cmcr.connect.methods.ensemble import EnsembleSettings

if TYPE_CHECKING:
    from cmcr.connect.config import ConnectConfig
    from cmcr.memory.overlap import Side


class Auto(Method):
    """ensemble (one-sided where the base is kept), or route where rows are few (csa, given pairs or no overlap).

    It does not choose by ``agreement``: that favours whatever maps a row by the overlap rows near it, which is what it
    looks at itself, and on real vectors it took methods of lower recall.
    """

    Settings = EnsembleSettings
    tries = ("ensemble", "one-sided", "route", "csa")
    one_sided = True

    def resolve(self, config: ConnectConfig, sides: list[Side]) -> tuple[ConnectConfig, tuple[str, ...]]:
        """Return the recipe of one of them, and why."""
        from cmcr.connect.choose import why_routed
        from cmcr.connect.split import FEW

        best = "one-sided" if sides[0].frozen else "ensemble"
        if sides[0].overlap != sides[1].overlap and not sides[0].frozen:
            return config.replace(method="csa"), ("auto: csa, for known pairs are all that the memories share",)
        why = why_routed(sides)
        if why:
            return config.replace(method="route"), (f"auto: route, for {why} ({best} wants {FEW} of each)",)
        return config.replace(method=best), (f"auto: {best}, for there are rows enough to learn from",)
