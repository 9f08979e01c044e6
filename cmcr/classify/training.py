"""Training by steps: batches in a seeded order, SGD, and its schedule; for all methods the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn

from cmcr.classify.network import Batch
from cmcr.classify.settings import ClassifySettings

DROP, TO = 0.7, 0.1
"""After this share of the epochs, the learning rate is this much of what it was."""


def batches(data: Batch, settings: ClassifySettings) -> Iterator[tuple[float, float, Batch]]:
    """Yield the steps of all epochs, each epoch in another order, drawn by the seed.

    Yields:
        The learning rate, the share of the epoch that is over (0 at its first batch, never 1), and a batch.
    """
    generator = torch.Generator().manual_seed(settings.seed)
    for epoch in range(settings.epochs):
        rate = settings.lr * (TO if epoch >= DROP * settings.epochs else 1)
        order = torch.randperm(len(data), generator=generator)
        for start in range(0, len(order), settings.batch):
            yield rate, start / len(order), data.take(order[start : start + settings.batch])


def sgd(parameters: Iterable[nn.Parameter], settings: ClassifySettings, decay: bool = True) -> torch.optim.SGD:
    """Return the optimiser of some parameters; one without a gradient does not move."""
    weight_decay = settings.weight_decay if decay else 0.0
    return torch.optim.SGD(parameters, lr=settings.lr, momentum=settings.momentum, weight_decay=weight_decay)


def set_rate(optimiser: torch.optim.SGD, rate: float) -> None:
    """Set the learning rate of an optimiser."""
    for group in optimiser.param_groups:
        group["lr"] = rate


def train_jointly(
    net: nn.Module,
    data: Batch,
    settings: ClassifySettings,
    loss: Callable[[Batch], Tensor],
    after: Callable[[Batch], None] | None = None,
) -> None:
    """Train all parameters at once.

    Args:
        net: What is trained.
        data: All rows.
        settings: Epochs, batch, rate.
        loss: Of a batch, a scalar.
        after: Called with the batch when gradients are there, and may change them.
    """
    optimiser = sgd(net.parameters(), settings)
    for rate, _, batch in batches(data, settings):
        set_rate(optimiser, rate)
        optimiser.zero_grad()
        loss(batch).backward()
        if after is not None:
            after(batch)
        optimiser.step()
