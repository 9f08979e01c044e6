"""C-MCR: two projectors trained on recalled pairs (arXiv 2305.14381)."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from cmcr.connect import train as training
from cmcr.connect.config import ConnectConfig
from cmcr.connect.fitted import CHECKPOINT, Fitted, _recorded, _trained
from cmcr.connect.pairs import Rows
from cmcr.connect.recall import complete
from cmcr.connect.validation import Bench
from cmcr.hooks import Log, Progress
from cmcr.numbers import inter_loss, intra_loss
from cmcr.ranks import ALONE, Ranks
from cmcr.space import Projector


def _c_mcr(bench: Bench, folder: Path, progress: Progress, log: Log) -> Fitted:
    f_a, f_b, state = training.fit(
        bench.pairs,
        bench.train,
        bench.config,
        bench.known.by_epoch if bench.known else bench.measure,
        checkpoint=folder / CHECKPOINT,
        device=bench.device,
        ranks=bench.ranks,
        progress=progress,
        log=_recorded(folder, log),
    )
    return _trained(bench, (f_a, f_b), state)


def batch_loss(
    projectors: tuple[Projector, Projector],
    rows: Rows,
    config: ConnectConfig,
    noise: torch.Generator,
    ranks: Ranks = ALONE,
) -> Tensor:
    """Return the C-MCR loss of a batch: completion, projection, inter and intra loss.

    L = overlap_weight L_ttc + pseudo_weight L_avc + lambda L_intra

    With several ``ranks``, ``rows`` are this rank's part of the joint batch (parts lie in rank order), the value is the
    joint batch's, and the ranks' gradients add up to the joint one, provided BatchNorm is frozen or joint.
    """

    def completed(x: Tensor, recalled: bool = False) -> Tensor:
        if recalled and config.renormalize:
            x = torch.nn.functional.normalize(x, dim=1)
        return complete(x, config.noise, noise, ranks)

    sides = ((rows.overlap_a, rows.pseudo_a), (rows.overlap_b, rows.pseudo_b))
    overlap, pseudo = [], []
    for projector, (x, recalled) in zip(projectors, sides, strict=True):
        noisy = [completed(x)] if recalled is None else [completed(x), completed(recalled, recalled=True)]
        projected = _in_passes(projector, noisy, config.batch_norm == "joint")
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
    if not joint:
        return [projector(part) for part in parts]
    return list(projector(torch.cat(parts)).split([len(part) for part in parts]))
