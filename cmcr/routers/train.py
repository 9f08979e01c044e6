"""Train routers on pseudo items: InfoNCE between all modalities of what they mix, and texts that prefer their family.

The shape of OmniBind's objective (arXiv 2407.11895); its exact equations and weights are not published.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from cmcr.hooks import Progress, silent
from cmcr.modality import Modality
from cmcr.numbers.losses import info_nce
from cmcr.routers.config import RouterConfig
from cmcr.routers.pseudo import PseudoItems
from cmcr.space import ConnectedSpace, Router

Routers = dict[Modality, Router]


@dataclass(frozen=True)
class Prepared:
    """Pseudo items as a router sees them.

    >>> import numpy as np
    >>> import torch
    >>> from cmcr import Modality
    >>> from cmcr.routers.train import Prepared
    >>> text = Modality.TEXT
    >>> items = Prepared({text: torch.ones(3, 7)}, {text: torch.ones(3, 2, 4)}, torch.tensor([0, 1, -1]))
    >>> items.take(np.array([0, 2])).family.tolist()
    [0, -1]

    Attributes:
        read: By modality with a router, (N, sum of dims) raw vectors side by side.
        placed: By modality, (N, ways, dim) where each encoder puts an item.
        family: (N,) the way that a text prefers; -1 where it is not known.
    """

    read: Mapping[Modality, Tensor]
    placed: Mapping[Modality, Tensor]
    family: Tensor

    def __len__(self) -> int:
        return len(self.family)

    def take(self, rows: np.ndarray) -> Prepared:
        """Return some of the items."""
        chosen = torch.from_numpy(rows)
        read, placed = ({m: x[chosen] for m, x in each.items()} for each in (self.read, self.placed))
        return Prepared(read, placed, self.family[chosen])


def prepare(space: ConnectedSpace, items: PseudoItems) -> Prepared:
    """Place each view in the space, and put side by side what routers read."""
    read, placed = {}, {}
    for modality, views in items.views.items():
        ways = [space.project(view, encoder=name, modality=modality) for name, view in views.items()]
        placed[modality] = torch.from_numpy(np.stack(ways, axis=1))
        if len(views) > 1:
            read[modality] = torch.from_numpy(np.concatenate(list(views.values()), axis=1))
    return Prepared(read, placed, torch.from_numpy(items.family))


def new_router(modality: Modality, names: tuple[str, ...], in_dim: int, config: RouterConfig) -> Router:
    """Return a router whose first weights are drawn by the config's seed (Xavier; no encoder is preferred at first)."""
    scale = config.text_scale if modality is Modality.TEXT else config.scale
    router = Router(modality, names, in_dim, hidden=config.layers, scale=scale)
    generator = torch.Generator().manual_seed(config.seed)
    for layer in router.modules():
        if isinstance(layer, torch.nn.Linear):
            limit = (6 / sum(layer.weight.shape)) ** 0.5
            with torch.no_grad():
                layer.weight.uniform_(-limit, limit, generator=generator)
                layer.bias.zero_()
    return router


def mixed(routers: Mapping[Modality, Router], items: Prepared) -> tuple[dict[Modality, Tensor], dict[Modality, Tensor]]:
    """Return by modality the (N, dim) unit vectors that the items have, and the (N, ways) weights of those routed.

    A modality without a router counts each way alike.
    """
    weights = {m: router(items.read[m]) for m, router in routers.items()}
    vectors = {
        m: F.normalize((placed * weights[m][:, :, None]).sum(dim=1) if m in weights else placed.mean(dim=1), dim=1)
        for m, placed in items.placed.items()
    }
    return vectors, weights


def alignment(vectors: Mapping[Modality, Tensor], tau: float) -> Tensor:
    """Return the mean over all pairs of modalities of their InfoNCE, row i of each being the same item."""
    pairs = [info_nce(vectors[a], vectors[b], tau) for a, b in itertools.combinations(vectors, 2)]
    return torch.stack(pairs).mean()


def preference(weights: Tensor, family: Tensor) -> Tensor:
    """Return the mean of -log of the weight that each text gives its family; 0 where none is known."""
    known = family >= 0
    if not bool(known.any()):
        return weights.sum() * 0
    return F.nll_loss(weights[known].clamp_min(1e-12).log(), family[known])


def fit(routers: Routers, items: Prepared, config: RouterConfig, progress: Progress = silent) -> None:
    """Train the routers on the items, in place; they end in eval mode."""
    model = torch.nn.ModuleList(routers.values()).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr)
    size = min(config.batch_size, len(items))
    steps = config.epochs * (len(items) // size)
    for step in range(steps):
        if step % (len(items) // size) == 0:
            order = np.random.default_rng([config.seed, step]).permutation(len(items))
        start = step % (len(items) // size) * size
        batch = items.take(order[start : start + size])
        optimizer.param_groups[0]["lr"] = config.lr * (1 + math.cos(math.pi * step / steps)) / 2
        vectors, weights = mixed(routers, batch)
        loss = alignment(vectors, config.tau)
        if Modality.TEXT in weights:
            loss = loss + config.language * preference(weights[Modality.TEXT], batch.family)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        progress(step + 1, steps, f"loss {loss.item():.3f}")
    model.eval()
