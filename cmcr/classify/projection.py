"""The matrix P that keeps a head from forgetting: recursive least squares over the features it has seen."""

from __future__ import annotations

import torch


class Projection:
    """P of orthogonal weight modification (Zeng et al., 2019), as MLA (arXiv 2311.10707) uses it.

    With h a step's mean feature and P_0 = I:  q = P h / (alpha + h' P h),  P <- P - q h' P.
    The denominator is a scalar, so P = (I + sum of h h' / alpha)^-1: symmetric, positive definite, and small along
    what was seen. A head's gradient times P leaves what the head says of earlier features nearly as it is.

    >>> import torch
    >>> from cmcr.classify.projection import Projection
    >>> p = Projection(2, alpha=0.1)
    >>> p.update(torch.tensor([1.0, 0.0]))
    >>> p.apply(torch.tensor([[1.0, 1.0]]))
    tensor([[0.0909, 1.0000]])

    Attributes:
        matrix: (D, D) float64.
    """

    def __init__(self, dim: int, alpha: float) -> None:
        self.alpha = alpha
        self.matrix = torch.eye(dim, dtype=torch.float64)

    def update(self, feature: torch.Tensor) -> None:
        """Take in a mean feature, (D,)."""
        h = feature.detach().to(self.matrix)
        along = self.matrix @ h
        # The outer product of one vector: symmetric to the last bit, which P then stays.
        self.matrix -= torch.outer(along, along) / (self.alpha + h @ along)

    def apply(self, gradient: torch.Tensor) -> torch.Tensor:
        """Return the gradient (C, D) of a head's weight times P."""
        return gradient @ self.matrix.to(gradient)
