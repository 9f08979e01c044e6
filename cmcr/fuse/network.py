"""The networks of CoMM: tokens of each modality, a pre-LN transformer with [CLS] over them, and a projection head."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from cmcr.fuse.settings import HEADS

HIDDEN, OUT = 512, 256
"""Of the projection head."""


class Adapter(nn.Module):
    """One vector, standardised by training rows, as one token: (N, D) -> (N, 1, width)."""

    mean: Tensor
    scale: Tensor

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(1))
        self.linear = nn.Linear(dim, width)

    def fit_scale(self, rows: Tensor) -> None:
        """Let the rows (N, D) have mean 0 and components of variance 1 on average."""
        self.mean.copy_(rows.mean(dim=0))
        self.scale.fill_(float((rows - self.mean).square().mean().sqrt().clamp(min=1e-6)))

    def forward(self, rows: Tensor) -> Tensor:
        """Return the token."""
        token: Tensor = self.linear((rows - self.mean) / self.scale)
        return token[:, None]


class Block(nn.Module):
    """One pre-LN transformer layer: attention, then an MLP four times as wide with QuickGELU; no dropout."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.merge = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, tokens: Tensor, present: Tensor) -> Tensor:
        """Return (N, T, width) tokens; what is not ``present`` (N, T) is attended by none."""
        n, t, width = tokens.shape
        q, k, v = self.qkv(self.norm_1(tokens)).view(n, t, 3, HEADS, width // HEADS).permute(2, 0, 3, 1, 4)
        found = scaled_dot_product_attention(q, k, v, attn_mask=present[:, None, None, :])
        tokens = tokens + self.merge(found.transpose(1, 2).reshape(n, t, width))
        hidden = self.widen(self.norm_2(tokens))
        out: Tensor = tokens + self.narrow(hidden * torch.sigmoid(1.702 * hidden))
        return out


class Fusion(nn.Module):
    """Adapters of M modalities and the transformer that all of them share.

    Attributes:
        adapters: M modules, each (N, ...) -> (N, T, width) tokens of its modality.
    """

    def __init__(self, adapters: Sequence[nn.Module], width: int, layers: int = 1) -> None:
        """Draw the weights from torch's generator."""
        super().__init__()
        self.adapters = nn.ModuleList(adapters)
        self.start = nn.Parameter(torch.randn(width) * width**-0.5)
        self.blocks = nn.ModuleList(Block(width) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def tokens(self, m: int, rows: Tensor) -> Tensor:
        """Return the tokens of modality ``m``, (N, T, width)."""
        found: Tensor = self.adapters[m](rows)
        return found

    def fuse(self, tokens: Sequence[Tensor], present: Tensor) -> Tensor:
        """Return the fused vectors, (N, width): what [CLS] has become after the tokens that are there were attended.

        Args:
            tokens: Of each modality (N, T_m, width); of a row that lacks it, anything finite.
            present: (N, M) bool.
        """
        n = len(present)
        every = torch.cat([self.start.expand(n, 1, -1), *tokens], dim=1)
        counts = torch.tensor([each.shape[1] for each in tokens], device=present.device)
        seen = torch.cat([present.new_ones(n, 1), present.repeat_interleave(counts, dim=1)], dim=1)
        for block in self.blocks:
            every = block(every, seen)
        fused: Tensor = self.norm(every[:, 0])
        return fused

    def alone(self, m: int, tokens: Tensor) -> Tensor:
        """Return the fused vectors of rows of which only modality ``m`` is seen, (N, width)."""
        return self.fuse([tokens], torch.ones(len(tokens), 1, dtype=torch.bool, device=tokens.device))


def projection_head(width: int) -> nn.Sequential:
    """Return the head that losses see, and nobody else: Linear-BN-ReLU, twice, then Linear; (N, width) -> (N, 256)."""
    return nn.Sequential(
        nn.Linear(width, HIDDEN), nn.BatchNorm1d(HIDDEN), nn.ReLU(),
        nn.Linear(HIDDEN, HIDDEN), nn.BatchNorm1d(HIDDEN), nn.ReLU(),
        nn.Linear(HIDDEN, OUT),
    )  # fmt: skip
