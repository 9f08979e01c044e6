"""Train the routers of a space on memories of its encoders, and measure them on pseudo items held out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch

from cmcr.errors import InputError
from cmcr.hooks import Progress, silent
from cmcr.memory import Memory
from cmcr.modality import Modality
from cmcr.routers.config import RouterConfig
from cmcr.routers.pools import Pool, pools_of
from cmcr.routers.pseudo import pseudo_items
from cmcr.routers.train import Prepared, Routers, alignment, fit, mixed, new_router, prepare
from cmcr.space import ConnectedSpace

HELD_OUT = 0.1
"""Share of the pseudo items that nothing is trained on."""


@dataclass(frozen=True)
class Weighed:
    """A space with routers.

    >>> import numpy as np
    >>> from cmcr import ArrayMemory, ConnectedSpace, Modality
    >>> from cmcr.routers import RouterConfig, train_routers
    >>> from cmcr.space import Projector, ProjectorConfig, SpaceEncoder
    >>> eye, rows = Projector(ProjectorConfig("identity", 4, 4)), np.random.default_rng(0).normal(size=(30, 4))
    >>> seen = {"one": (Modality.TEXT, Modality.IMAGE), "two": (Modality.TEXT,)}
    >>> encoders = {name: SpaceEncoder(name, "", 4, held) for name, held in seen.items()}
    >>> space = ConnectedSpace(encoders, {"one": eye, "two": eye}, Modality.TEXT, "linear")
    >>> memories = [ArrayMemory(name, dict.fromkeys(held, rows)) for name, held in seen.items()]
    >>> made = train_routers(space, memories, RouterConfig(hidden=[8, 4], epochs=1))
    >>> list(made.space.routers)
    ['text']

    Attributes:
        space: The space that was given, with routers in the place of those it had of the same modalities.
        metrics: What was measured on held-out pseudo items.
        notes: What a user must know.
    """

    space: ConnectedSpace
    metrics: Mapping[str, float]
    notes: tuple[str, ...] = ()


def train_routers(
    space: ConnectedSpace, memories: Sequence[Memory], config: RouterConfig | None = None, progress: Progress = silent
) -> Weighed:
    """Give a space a router for each modality that several of the memories hold.

    Args:
        space: Its maps stay as they are.
        memories: At most one of each encoder; rows of one id are one item, and no pair of two modalities is needed.
        config: The recipe.
        progress: Called after each step.

    Returns:
        The space with routers; of the metrics ``routed_loss`` stands beside ``constant_loss``, which counts every view
        alike, ``MODALITY.weight.ENCODER`` is a mean weight, and ``text.prefers_family`` the share of texts whose
        greatest weight is that of the encoder they were written for, with that of the most frequent one as its chance.

    Raises:
        InputError: as ``pools_of`` and ``pseudo_items``; or no modality is held by several memories, or fewer than two.
        ArtifactError: a memory of another encoder than the space's.
    """
    config = config or RouterConfig()
    pools = {m: pool.draw(config.rows, config.seed) for m, pool in pools_of(space, memories).items()}
    routed = [modality for modality, pool in pools.items() if len(pool.views) > 1]
    if not routed or len(pools) < 2:
        held = "; ".join(f"{m}: {', '.join(pool.views)}" for m, pool in pools.items())
        raise InputError(f"nothing to weigh ({held}); expected a modality of several memories, and another one")
    items = prepare(space, pseudo_items(pools, config))
    order = np.random.default_rng([config.seed, 4]).permutation(len(items))
    kept = max(1, round(len(order) * HELD_OUT))
    routers = {m: new_router(m, tuple(pools[m].views), items.read[m].shape[1], config) for m in routed}
    fit(routers, items.take(order[kept:]), config, progress)
    metrics = _measured(routers, items.take(order[:kept]), pools, config)
    return Weighed(_with(space, routers, config, metrics), metrics, tuple(_notes(space, pools)))


def _measured(
    routers: Routers, items: Prepared, pools: Mapping[Modality, Pool], config: RouterConfig
) -> dict[str, float]:
    with torch.inference_mode():
        (vectors, weights), (constant, _) = mixed(routers, items), mixed({}, items)
        found = {
            "routed_loss": float(alignment(vectors, config.tau)),
            "constant_loss": float(alignment(constant, config.tau)),
        }
    for modality, share in weights.items():
        means = zip(pools[modality].views, share.mean(dim=0).tolist(), strict=True)
        found |= {f"{modality}.weight.{name}": weight for name, weight in means}
    known = items.family >= 0
    if Modality.TEXT in weights and bool(known.any()):
        family = items.family[known]
        right = weights[Modality.TEXT][known].argmax(dim=1) == family
        found["text.prefers_family"] = float(right.float().mean())
        found["text.prefers_family_chance"] = float(torch.bincount(family).max() / len(family))
    return found


def _with(
    space: ConnectedSpace, routers: Routers, config: RouterConfig, metrics: Mapping[str, float]
) -> ConnectedSpace:
    recipe = {f"router.{name}": value for name, value in asdict(config).items() if value is not None}
    kept = {**space.routers, **routers}
    return ConnectedSpace(
        space.encoders, space.maps, space.overlap, space.method, space.recipe | recipe,
        space.metrics | {f"router.{name}": value for name, value in metrics.items()},
        ways=space.ways, routers=list(kept.values()), links=space.links, presets=space.presets,
    )  # fmt: skip


def _notes(space: ConnectedSpace, pools: Mapping[Modality, Pool]) -> list[str]:
    notes = [f"{p.left_out} {m} rows are not in all memories and were left out" for m, p in pools.items() if p.left_out]
    for modality, pool in pools.items():
        missing = [e.name for e in space.encoders.values() if modality in e.modalities and e.name not in pool.views]
        if missing:
            notes.append(f"no memory has {modality} of {', '.join(missing)}, whose view no router weighs")
    return notes
