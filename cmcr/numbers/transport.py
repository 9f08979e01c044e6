"""Entropic optimal transport between rows of two kinds, and how a student's plan follows a teacher's (KLOT)."""

from __future__ import annotations

import torch
from torch import Tensor


def transport_plan(similarities: Tensor, epsilon: float, iterations: int = 100) -> Tensor:
    """Return the plan of uniform marginals that maximises sum P K + epsilon H(P), by Sinkhorn's iterations.

    The last row potential is averaged with the one before it, so that neither marginal is favoured.

    >>> import torch
    >>> from cmcr.numbers.transport import transport_plan
    >>> transport_plan(torch.eye(3), 0.05).diagonal().sum().round(decimals=3)
    tensor(1., dtype=torch.float64)

    Args:
        similarities: (N, M), of any float type; the plan is float64, for which epsilon may be a hundredth of them.
        epsilon: Weight of the entropy H.
        iterations: Of Sinkhorn.

    Returns:
        (N, M), with the sum 1.
    """
    scaled = similarities.detach().double() / epsilon
    scaled = scaled - scaled.amax(dim=1, keepdim=True)
    kernel = scaled.exp()
    rows, columns = kernel.shape
    u, v = kernel.new_full((rows,), 1 / rows), kernel.new_ones(columns)
    for _ in range(iterations):
        v = 1 / (columns * (kernel.T @ u)).clamp_min(1e-300)
        u = 1 / (rows * (kernel @ v)).clamp_min(1e-300)
    again = 1 / (columns * (kernel.T @ u)).clamp_min(1e-300)
    plan = u[:, None] * kernel * (v * again).sqrt()
    return plan / plan.sum()


def klot(student: Tensor, teacher: Tensor, epsilon: float = 0.05, teacher_epsilon: float = 0.005) -> Tensor:
    """Return KL(P* || P) of the teacher's plan and the student's (SOTAlign, arXiv 2602.23353).

    The gradient with respect to the student's similarities is (P - P*) / epsilon, exact for plans that have converged;
    nothing is differentiated through the iterations.

    Args:
        student: (N, M) similarities with a gradient.
        teacher: (N, M) similarities.
        epsilon: Of the student's plan.
        teacher_epsilon: Of the teacher's: smaller, so that it is sharper.
    """
    plan, target = transport_plan(student, epsilon), transport_plan(teacher, teacher_epsilon)
    value = torch.xlogy(target, target / plan.clamp_min(1e-300)).sum()
    slope = ((plan - target) / epsilon).to(student.dtype)
    surrogate = (student * slope).sum()
    return value.to(student.dtype) + surrogate - surrogate.detach()
