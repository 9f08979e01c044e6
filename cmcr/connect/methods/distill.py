"""Projectors that also learn what routing knows of the memories."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cmcr.connect.methods.base import Objective, Trained
from cmcr.connect.settings import PairLosses, Routing
from cmcr.errors import InputError
from cmcr.settings import setting

if TYPE_CHECKING:
    from cmcr.connect.config import ConnectConfig
    from cmcr.connect.validation import Validation
    from cmcr.hooks import Progress
    from cmcr.memory.overlap import Side


@dataclass(frozen=True)
class DistillSettings(PairLosses, Routing):
    """Settings of distillation, and where its defaults differ from C-MCR's."""

    lr: float = setting(3e-3, "Peak learning rate of AdamW.", positive=True)
    weight_decay: float = setting(0.05, "Weight decay of AdamW.")
    tau: float = setting(0.1, "Temperature of the overlap loss.", positive=True)
    route_density: float = setting(0.5, "How much nearer an overlap row counts for lying among the memories' rows.")
    distill_tau: float = setting(0.05, "Temperature at which similarities are distilled.", positive=True)
    own_weight: float = setting(0.5, "Weight of what each space knows itself of its own rows.")
    shrink: float = setting(
        0.5, "How far directions of little variance count less: the power of the rows' covariance that the space is "
        "multiplied by after training, times what pairs do not count; 0: not at all.",
    )  # fmt: skip


class Distill(Trained):
    """projectors trained also on what routing knows of the memories' own rows: better on real vectors."""

    Settings = DistillSettings

    def resolve(self, config: ConnectConfig, sides: list[Side]) -> tuple[ConnectConfig, tuple[str, ...]]:
        """Refuse a recipe without memories."""
        if any(side.outer is None for side in sides):
            raise InputError("method 'distill' learns from both memories, but pairing is 'none'; choose --pairing full")
        return config, ()

    def recalls(self, validation: Validation) -> bool:
        """Tell whether recalled pairs have a weight."""
        from cmcr.connect.nearness import trust

        return (
            trust(
                validation.pairs,
                validation.train,
                (validation.sides[0], validation.sides[1]),
                validation.centers,
                validation.device,
            )[1]
            > 0
        )

    def objective(self, validation: Validation, folder: Path, progress: Progress) -> Objective:
        """Return the teacher of two memories, routed through the overlap."""
        from cmcr.connect.methods.teacher import Teacher

        sides = validation.sides[0], validation.sides[1]
        pairs, config = validation.pairs, validation.config
        return Teacher(
            pairs, validation.train, sides, validation.centers, config, folder / "pairs", validation.device, progress
        )
