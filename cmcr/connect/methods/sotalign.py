"""The method ``sotalign``: a linear teacher of known pairs, whose plan of unpaired rows both maps learn to follow."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cmcr.connect.methods import base
from cmcr.connect.settings import Steps
from cmcr.settings import setting

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from cmcr.connect.fitted import Fitted
    from cmcr.connect.validation import Validation
    from cmcr.hooks import Log, Progress


@dataclass(frozen=True)
class SotAlignSettings(Steps):
    """Settings of the student, and of the plans it follows."""

    unpaired_batch: int = setting(256, "Unpaired rows of either side a step.", positive=True, most=8192)
    klot_weight: float = setting(1.0, "Weight of the plans' divergence beside the known pairs' loss.")
    klot_epsilon: float = setting(0.05, "Entropy of the student's transport plan.", positive=True)
    teacher_epsilon: float = setting(0.005, "Entropy of the teacher's transport plan.", positive=True)
    tau_pairs: float = setting(0.05, "Temperature of the known pairs' loss.", positive=True)


class SotAlign(base.Method):
    """projectors of known pairs that also follow a linear teacher's transport plan of unpaired rows."""

    Settings = SotAlignSettings
    uses_pairs = True

    def fit(self, validation: Validation, folder: Path, progress: Progress, log: Log) -> Fitted:
        """Return the trained projectors, measured."""
        from cmcr.connect.fitted import measured
        from cmcr.connect.methods import few
        from cmcr.connect.train import new_projectors
        from cmcr.numbers import canonical, info_nce
        from cmcr.numbers.transport import klot
        from cmcr.space import with_centers

        config = validation.config
        x, y = few.paired_rows(validation)
        free = few.unpaired_rows(validation)
        known, other = x.cpu(), y.cpu()
        recipes = [each for each in canonical.RECIPES if not each.tau]
        folds = canonical.folds_of(len(known), config.seed)
        teacher = canonical.fit_canonical(known, other, canonical.pick(known, other, folds, recipes))
        targets = [side(rows.cpu()).to(rows.device) for side, rows in zip(teacher, free, strict=True)]
        maps = new_projectors(config, x.shape[1], y.shape[1])
        for each in maps:
            each.to(validation.device)

        def loss(generator: np.random.Generator) -> Tensor:
            chosen = few.draw(x, config.pair_batch, generator)
            value = info_nce(maps[0](x[chosen]), maps[1](y[chosen]), config.tau_pairs)
            a, b = (few.draw(rows, config.unpaired_batch, generator) for rows in free)
            if config.klot_weight and len(a) > 1 and len(b) > 1:
                student = maps[0](free[0][a]) @ maps[1](free[1][b]).T
                followed = klot(student, targets[0][a] @ targets[1][b].T, config.klot_epsilon, config.teacher_epsilon)
                value = value + config.klot_weight * followed
            return value

        losses = few.train_steps(maps, validation, loss, progress)
        own = tuple(with_centers(each, center).eval() for each, center in zip(maps, validation.centers, strict=True))
        told = {"pairs": len(x), "unpaired": [len(rows) for rows in free], "loss": losses[-1]}
        made = measured(validation, (own[0], own[1]), told, log)
        return replace(made, notes=(*made.notes, *few.fewer_than_components(len(x), [x.shape[1], y.shape[1]])))
