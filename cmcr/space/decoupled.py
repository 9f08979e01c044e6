"""The layers of Ex-MCR's projector (arXiv 2310.08884): a linear head for some modalities, two MLP blocks for all."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class Decoupled(nn.Module):
    """Close the gap between an encoder's own modalities by a linear head, then map all of them by the same blocks.

    Attributes:
        outer: Modalities that go through the head; the shared one does not.
        head: (D_in, D_in), the identity at first; nothing where no modality goes through it.
        blocks: Twice Linear-BatchNorm-ReLU-Linear-BatchNorm, D_in -> D_out -> D_out.

    >>> import torch
    >>> from cmcr.space.decoupled import Decoupled
    >>> body = Decoupled(in_dim=4, out_dim=3, hidden=8, outer=("audio",)).eval()
    >>> body(torch.ones(2, 4), "audio").shape, torch.equal(body.lifted(torch.ones(2, 4), "text"), torch.ones(2, 4))
    (torch.Size([2, 3]), True)
    """

    def __init__(self, in_dim: int, out_dim: int, hidden: int, outer: Sequence[str]) -> None:
        super().__init__()
        self.outer = tuple(outer)
        self.head: nn.Module = nn.Linear(in_dim, in_dim) if self.outer else nn.Identity()
        self.blocks = nn.Sequential(*_block(in_dim, hidden, out_dim), *_block(out_dim, hidden, out_dim))

    def lifted(self, x: Tensor, modality: str | None) -> Tensor:
        """Return (N, D_in) rows of one modality as the blocks take them; they are not normalised again."""
        found: Tensor = self.head(x) if modality in self.outer else x
        return found

    def forward(self, x: Tensor, modality: str | None = None) -> Tensor:
        """Map (N, D_in) rows of one modality to (N, D_out), not normalised."""
        mapped: Tensor = self.blocks(self.lifted(x, modality))
        return mapped


def _block(in_dim: int, hidden: int, out_dim: int) -> tuple[nn.Module, ...]:
    first = (nn.Linear(in_dim, hidden), nn.BatchNorm1d(hidden), nn.ReLU())
    return (*first, nn.Linear(hidden, out_dim), nn.BatchNorm1d(out_dim))
