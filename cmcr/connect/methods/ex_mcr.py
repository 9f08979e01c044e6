"""Ex-MCR: one projector into a base that stays as it is, trained on tuples that every modality asks for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cmcr.connect.methods.base import Objective, Trained
from cmcr.connect.settings import Loop
from cmcr.errors import InputError
from cmcr.settings import setting

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

    from cmcr.connect.config import ConnectConfig
    from cmcr.connect.fitted import Fitted
    from cmcr.connect.methods.base import Maps
    from cmcr.connect.pairs import PairBatch
    from cmcr.connect.tuples import Tuples
    from cmcr.connect.validation import Validation
    from cmcr.hooks import Log, Progress
    from cmcr.memory.overlap import Side
    from cmcr.ranks import Ranks

ASKING = ("overlap", "base", "leaf")
TERMS = ("outer-outer", "outer-overlap", "overlap-outer", "overlap-overlap")


def _asking(value: str) -> str:
    names = value.split(",")
    fits = set(names) <= set(ASKING) and len(set(names)) == len(names)
    return "" if fits else f"some of {', '.join(ASKING)}, with commas between"


@dataclass(frozen=True)
class ExMcrSettings(Loop):
    """Settings of Ex-MCR; the defaults are the paper's as far as they are known."""

    init: Literal["default", "xavier", "identity"] = setting("xavier", "Initial weights; default: PyTorch's rule.")
    tau: float = setting(0.02, "Temperature of the alignment.", positive=True)
    noise: float = setting(0.004, "Variance per component of the Gaussian completion.")
    asking: str = setting("overlap,base,leaf", "Whose rows ask for the tuples trained on.", check=_asking)
    decoupled: bool = setting(True, "A linear head before the projector for all but the shared modality.")
    alignment: Literal["dense", "outer-outer", "outer-overlap", "overlap-outer", "overlap-overlap"] = setting(
        "dense", "Which modality of the leaf is aligned with which of the base; dense: each with each."
    )
    intra_weight: float = setting(0.1, "Weight of the intra loss.", alias="lambda")
    intra: Literal["plain", "squared"] = setting("plain", "Distance of the intra loss.")


class ExMcr(Trained):
    """one projector into a base that stays as it is, trained on what every modality recalls."""

    Settings = ExMcrSettings
    one_sided = keeps_base = True

    def resolve(self, config: ConnectConfig, sides: list[Side]) -> tuple[ConnectConfig, tuple[str, ...]]:
        """Refuse memories that recall nothing."""
        for side in sides:
            if side.outer is None:
                raise InputError(
                    f"ex-mcr learns from what both memories recall beside the {side.overlap}, and {side.memory.path} "
                    f"holds {', '.join(side.memory.modalities)} (pairing: {config.pairing}); choose --method "
                    "text-anchor or linear, or --pairing full"
                )
        return config, ()

    def objective(self, validation: Validation, folder: Path, progress: Progress) -> Objective:
        """Return Ex-MCR's objective for the tuples of a connection."""
        return ExMcrObjective(validation)

    def fit(self, validation: Validation, folder: Path, progress: Progress, log: Log) -> Fitted:
        """Make the tuples, and train on them."""
        from cmcr.connect.tuples import build_tuples

        own = validation.of(validation.config)
        asking = own.config.asking.split(",")
        own.pairs, own.train = build_tuples(validation, asking, folder / "pairs", progress)  # type: ignore[assignment]  # it takes rows alike
        return super().fit(own, folder, progress, log)


class ExMcrObjective(Objective):
    """Ex-MCR's loss: the leaf's rows of a tuple drawn to the base's, and to each other before they are projected.

    L = mean over the terms of InfoNCE(f x, y; tau) + lambda mean |f_l(a) - t|

    with x one of the leaf's rows of the tuple (outer a, overlap t), y one of the base's, f_l the linear head. The four
    terms of ``dense`` have a weight of 1/4 each.
    """

    def __init__(self, validation: Validation) -> None:
        self.config, self.device = validation.config, validation.device
        self.tuples: Tuples = validation.pairs  # type: ignore[assignment]
        self.base, self.leaf = validation.sides

    def maps(self) -> Maps:
        """Return the identity, and the projector drawn from the seed, whose head is the identity at first."""
        import torch

        from cmcr.space import Projector, ProjectorConfig, bridges, initialise
        from cmcr.space.decoupled import Decoupled

        dim, out = self.leaf.memory.encoder.dim, self.base.memory.encoder.dim
        outer = [str(m) for m in self.leaf.memory.modalities if m != self.leaf.overlap and self.config.decoupled]
        hidden = self.config.hidden or 2 * out
        projector = Projector(ProjectorConfig("decoupled", dim, out, hidden=hidden, outer=tuple(outer)))
        initialise(projector, self.config.init, torch.Generator().manual_seed(self.config.seed))
        head = projector.body.head if isinstance(projector.body, Decoupled) else None
        if isinstance(head, torch.nn.Linear):
            torch.nn.init.eye_(head.weight)
            torch.nn.init.zeros_(head.bias)
        return bridges.identity(out, {}), projector

    def batch(self, rows: np.ndarray, generator: np.random.Generator) -> PairBatch:
        """Return the rows of the four arrays."""
        return self.tuples.take(rows, self.device)

    def loss(self, maps: Maps, batch: PairBatch, noise: torch.Generator, ranks: Ranks) -> Tensor:
        """Return the loss of a batch of tuples."""
        import torch
        from torch.nn.functional import normalize

        from cmcr.numbers import info_nce, intra_loss
        from cmcr.numbers.recall import complete
        from cmcr.space.decoupled import Decoupled

        body, config = maps[1].body, self.config
        assert isinstance(body, Decoupled)  # noqa: S101  (``maps`` makes it so)
        drawn = (batch.pseudo_b, batch.overlap_b, batch.pseudo_a, batch.overlap_a)
        outer, overlap, *base = (complete(x, config.noise, noise) for x in drawn if x is not None)
        lifted = body.lifted(outer, self.leaf.outer)
        leaf = normalize(body.blocks(torch.cat([lifted, overlap])), dim=1).split(len(outer))
        pairs = [(x, y) for x in leaf for y in base]
        chosen = pairs if config.alignment == "dense" else [pairs[TERMS.index(config.alignment)]]
        loss: Tensor = torch.stack([info_nce(x, y, config.tau) for x, y in chosen]).mean()
        if config.intra_weight:
            # Half the mean distance is what the function returns.
            loss = loss + 2 * config.intra_weight * intra_loss(lifted, overlap, config.intra == "squared")
        return loss
