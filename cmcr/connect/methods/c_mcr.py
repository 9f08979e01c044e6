"""C-MCR: two projectors trained on recalled pairs (arXiv 2305.14381)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cmcr.connect.methods.base import Objective, Trained
from cmcr.connect.settings import PairLosses
from cmcr.settings import setting

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

    from cmcr.connect.config import ConnectConfig
    from cmcr.connect.methods.base import Maps
    from cmcr.connect.pairs import PairBatch, Pairs
    from cmcr.connect.train import Validate
    from cmcr.connect.validation import Validation
    from cmcr.hooks import Progress
    from cmcr.ranks import Ranks
    from cmcr.space import Projector
    from cmcr.space.checkpoint import Progressed


@dataclass(frozen=True)
class CMcrSettings(PairLosses):
    """Settings of C-MCR; the defaults are the paper's where it tells them."""

    intra_weight: float = setting(0.1, "Weight of the intra loss.", alias="lambda")
    intra: Literal["plain", "squared"] = setting("plain", "Distance of the intra loss.")
    renormalize: bool = setting(False, "Normalise recalled rows before the noise; their norm is below 1.")
    batch_norm: Literal["joint", "separate"] = setting("joint", "Overlap and pseudo rows in one BatchNorm pass or two.")


class CMcrObjective(Objective):
    """C-MCR's loss of batches of overlap rows and what is recalled for them; of several processes too."""

    def __init__(self, pairs: Pairs, config: ConnectConfig, device: str = "cpu") -> None:
        self.pairs, self.config, self.device = pairs, config, device

    def maps(self) -> Maps:
        """Return two projectors, drawn from the seed."""
        from cmcr.connect.train import new_projectors

        return new_projectors(self.config, self.pairs.overlap_a.shape[1], self.pairs.overlap_b.shape[1])

    def batch(self, rows: np.ndarray, generator: np.random.Generator) -> PairBatch:
        """Return the rows of the four arrays."""
        return self.pairs.take(rows, self.device)

    def loss(self, maps: Maps, batch: PairBatch, noise: torch.Generator, ranks: Ranks) -> Tensor:
        """Return ``batch_loss``."""
        return batch_loss(maps, batch, self.config, noise, ranks)


class CMcr(Trained):
    """projectors trained on pairs that the memories recall."""

    Settings = CMcrSettings
    along = CMcrObjective

    def objective(self, validation: Validation, folder: Path, progress: Progress) -> Objective:
        """Return C-MCR's objective for the pairs of a connection."""
        return CMcrObjective(validation.pairs, validation.config, validation.device)


def fit(
    pairs: Pairs, train_rows: np.ndarray, config: ConnectConfig, validate: Validate | Sequence[dict[str, Any]],
    *, device: str = "cpu", **hooks: Any,
) -> tuple[Projector, Projector, Progressed]:  # fmt: skip
    """Train two projectors on pairs by C-MCR's objective; see ``cmcr.connect.train.fit``, which takes the rest."""
    from cmcr.connect import train

    maps, state = train.fit(CMcrObjective(pairs, config, device), train_rows, config, validate, device=device, **hooks)
    return *maps, state


def batch_loss(
    projectors: tuple[Projector, Projector],
    rows: PairBatch,
    config: ConnectConfig,
    noise: torch.Generator,
    ranks: Ranks | None = None,
) -> Tensor:
    """Return the C-MCR loss of a batch: completion, projection, inter and intra loss.

    L = overlap_weight L_ttc + pseudo_weight L_avc + lambda L_intra

    With several ``ranks``, ``rows`` are this rank's part of the joint batch (parts lie in rank order), the value is the
    joint batch's, and the ranks' gradients add up to the joint one, provided BatchNorm is frozen or joint.
    """
    from torch.nn.functional import normalize

    from cmcr.numbers import inter_loss, intra_loss
    from cmcr.numbers.recall import complete
    from cmcr.ranks import ALONE

    ranks = ranks or ALONE

    def completed(x: Tensor, recalled: bool = False) -> Tensor:
        return complete(normalize(x, dim=1) if recalled and config.renormalize else x, config.noise, noise, ranks)

    sides = ((rows.overlap_a, rows.pseudo_a), (rows.overlap_b, rows.pseudo_b))
    overlap, pseudo = [], []
    for projector, (x, recalled) in zip(projectors, sides, strict=True):
        parts = [(x, False)] if recalled is None else [(x, False), (recalled, True)]
        projected = _in_passes(projector, [completed(*part) for part in parts], config.batch_norm == "joint")
        overlap.append(projected[0])
        pseudo += projected[1:]
    pair = (pseudo[0], pseudo[1]) if len(pseudo) == 2 else None
    loss = inter_loss(
        (overlap[0], overlap[1]),
        pair,
        config.tau,
        config.tau_pseudo or config.tau,
        config.overlap_weight,
        config.pseudo_weight,
        ranks,
    )
    if pair is not None and config.intra_weight:
        squared = config.intra == "squared"
        pull = intra_loss(overlap[0], pair[0], squared, ranks) + intra_loss(overlap[1], pair[1], squared, ranks)
        loss = loss + config.intra_weight * pull
    return loss


def _in_passes(projector: Projector, parts: list[Tensor], joint: bool) -> list[Tensor]:
    """Project parts of a batch in one BatchNorm pass or in one each."""
    import torch

    if not joint:
        return [projector(part) for part in parts]
    return list(projector(torch.cat(parts)).split([len(part) for part in parts]))
