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

    dim: int = setting(512, "Components of the space.", most=1 << 16)
    epochs: int = setting(20, "Passes over the overlap.", positive=True, most=1_000_000)
    min_steps: int = setting(300, "Fewest steps of the automatic batch.", positive=True)
    weight_decay: float = setting(0.05, "Weight decay of AdamW.")
    tau: float = setting(0.1, "Temperature of the overlap loss.", positive=True)
    route_tau: float = setting(0.05, "Temperature of routing.", positive=True)
    route_top_k: int = setting(0, "Overlap rows a vector is routed through; 0: all.")
    distill_tau: float = setting(0.05, "Temperature at which similarities are distilled.", positive=True)
    own_weight: float = setting(0.5, "Weight of what each space knows itself of its own rows.")


class Distill(Trained):
    """projectors that learn what routing knows of the memories' own rows; the space keeps no overlap rows."""

    Settings = DistillSettings

    def resolve(self, config: ConnectConfig, sides: list[Side]) -> tuple[ConnectConfig, tuple[str, ...]]:
        """Refuse a recipe without memories."""
        if any(side.outer is None for side in sides):
            raise InputError(f"{config.method} learns from both memories, but pairing is 'none'; choose --pairing full")
        return config, ()

    def recalls(self, validation: Validation) -> bool:
        """Tell whether recalled pairs have a weight."""
        from cmcr.connect.nearness import trust

        return trust(validation)[1] > 0

    def objective(self, validation: Validation, folder: Path, progress: Progress) -> Objective:
        """Return the teacher of two memories, routed through the overlap."""
        from cmcr.connect.methods.teacher import Teacher

        return Teacher(validation, folder / "pairs", progress)
