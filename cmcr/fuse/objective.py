"""From two views of a batch to the loss of an objective: CoMM's, or one of those that it is set beside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

from cmcr.fuse.losses import comm_loss, cross_loss
from cmcr.fuse.network import Fusion
from cmcr.fuse.settings import FuseSettings


class Seen(NamedTuple):
    """What one view of a batch became: of each modality alone (None: fewer than two rows have it), and fused."""

    alone: list[Tensor | None]
    fused: Tensor | None


def loss_of(
    net: Fusion, head: nn.Module, views: Sequence[Sequence[Tensor]], present: Tensor, settings: FuseSettings
) -> Tensor:
    """Return the loss of a batch.

    Args:
        net: What is trained.
        head: From fused vectors to what is contrasted.
        views: Two views, of each modality (N, ...) in each.
        present: (N, M) bool, two or more True a row.
        settings: Objective, switches and temperature.
    """
    comm = settings.objective == "comm"
    one, two = (see(net, head, view, present, comm, settings.unimodal or not comm) for view in views)
    if comm and one.fused is not None and two.fused is not None:
        return comm_loss(one.alone, two.alone, (one.fused, two.fused), present, settings.tau, settings.fused)
    return cross_loss(one.alone, two.alone, present, settings.tau, settings.objective == "cross-self")


def see(
    net: Fusion, head: nn.Module, view: Sequence[Tensor], present: Tensor, with_fused: bool, with_alone: bool
) -> Seen:
    """Return what the head makes of a view: of each modality alone, and of all that a row has."""
    tokens = [net.tokens(m, rows) for m, rows in enumerate(view)]
    alone: list[Tensor | None] = [None] * len(tokens)
    for m, own in enumerate(present.T):
        if with_alone and int(own.sum()) > 1:
            alone[m] = head(net.alone(m, tokens[m][own]))
    return Seen(alone, head(net.fuse(tokens, present)) if with_fused else None)
