"""TextME (arXiv 2602.03098): leaves land in a base through what they share with it alone; nothing is recalled."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cmcr.connect.methods.base import Objective, Trained
from cmcr.connect.settings import Loop
from cmcr.errors import InputError
from cmcr.settings import setting

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

    from cmcr.connect.config import ConnectConfig
    from cmcr.connect.methods.base import Maps
    from cmcr.connect.pairs import PairBatch
    from cmcr.connect.validation import Validation
    from cmcr.hooks import Progress
    from cmcr.memory.overlap import Side
    from cmcr.ranks import Ranks

PUBLISHED_BATCH = 512


@dataclass(frozen=True)
class TextAnchorSettings(Loop):
    """Settings of the text anchor; the defaults are the published ones, but for the batch, which few rows shrink."""

    hidden: int = setting(0, "Hidden width of the projectors; 0: twice the components they take.", most=1 << 18)
    epochs: int = setting(50, "Passes over the overlap.", positive=True, most=1_000_000)
    batch_size: int = setting(0, "Rows a step; 0: 512, halved until --min-steps fit.")
    lr: float = setting(5e-4, "Peak learning rate of AdamW; a cosine takes it to 0.", positive=True)
    tau: float = setting(0.07, "Temperature of the overlap loss (tau2).", positive=True)
    center: bool = setting(True, "Subtract the mean of each modality's memory first.")
    negatives_above: float = setting(0.1, "Negatives are at least this share of the pair's similarity.", below=1)
    negatives_below: float = setting(0.9, "Negatives are at most this share of the pair's similarity.", positive=True)


class TextAnchor(Trained):
    """a projector into a base that stays, trained on the shared rows alone; the base may hold nothing else."""

    Settings = TextAnchorSettings
    one_sided = keeps_base = True

    def resolve(self, config: ConnectConfig, sides: list[Side]) -> tuple[ConnectConfig, tuple[str, ...]]:
        """Refuse a band without negatives, and choose the batch."""
        low, high = config.negatives_above, config.negatives_below
        if low >= high:
            raise InputError(f"negatives above {low} and below {high} of the pair's similarity: there are none")
        from cmcr.connect.split import split

        rows = len(split(len(sides[0].rows), config)[0])
        return config.replace(batch_size=config.batch_size or _batch(config, rows)), ()

    def recalls(self, validation: Validation) -> bool:
        """Tell that what the memories recall is not trained on."""
        return False

    def objective(self, validation: Validation, folder: Path, progress: Progress) -> Objective:
        """Return the objective for the overlap of a connection."""
        return TextAnchorObjective(validation)


def _batch(config: ConnectConfig, rows: int) -> int:
    """Return the published batch halved until the run has ``min_steps`` steps, or is too small to learn from."""
    from cmcr.connect.batches import SMALLEST_BATCH

    size = PUBLISHED_BATCH
    while size > SMALLEST_BATCH and (size > rows or config.epochs * (rows // size) < config.min_steps):
        size //= 2
    return min(size, max(2, rows))


class TextAnchorObjective(Objective):
    """TextME's loss: each projected overlap row finds itself among the base's, of negatives neither near nor far."""

    def __init__(self, validation: Validation) -> None:
        self.pairs, self.config, self.device = validation.pairs, validation.config, validation.device
        self.overlap = str(validation.sides[1].overlap)
        self.centers = validation.centers[1] if self.config.center else {}

    def maps(self) -> Maps:
        """Return the identity, and a projector drawn from the seed that centres what it projects."""
        import torch

        from cmcr.space import Projector, ProjectorConfig, bridges, initialise, with_centers

        out, dim = (x.shape[1] for x in (self.pairs.overlap_a, self.pairs.overlap_b))
        projector = Projector(ProjectorConfig("gelu-mlp", dim, out, hidden=self.config.hidden or 2 * dim))
        initialise(projector, "default", torch.Generator().manual_seed(self.config.seed))
        return bridges.identity(out, {}), with_centers(projector, self.centers)

    def batch(self, rows: np.ndarray, generator: np.random.Generator) -> PairBatch:
        """Return the overlap rows of both spaces."""
        return self.pairs.take(rows, self.device)

    def loss(self, maps: Maps, batch: PairBatch, noise: torch.Generator, ranks: Ranks) -> Tensor:
        """Return ``banded_info_nce`` of a batch."""
        band = self.config.negatives_above, self.config.negatives_below
        return banded_info_nce(maps[1](batch.overlap_b, self.overlap), batch.overlap_a, self.config.tau, band)


def banded_info_nce(x: Tensor, y: Tensor, tau: float, band: tuple[float, float]) -> Tensor:
    """InfoNCE of x among y alone, with the negatives whose similarity is a share of the pair's within ``band``.

    Where a pair's similarity is not above 0, a share of it says nothing, and all negatives count.

    Args:
        x: (B, D) unit rows that ask.
        y: (B, D) unit rows; row i is the partner of row i of ``x``.
        tau: Temperature.
        band: The least and the greatest share.

    >>> import torch
    >>> from cmcr.connect.methods.text_anchor import banded_info_nce
    >>> banded_info_nce(torch.eye(3), torch.eye(3), 0.1, (0.1, 0.9)).item()  # no negative is near enough to count
    0.0
    """
    import torch
    from torch.nn.functional import cross_entropy

    similar = x @ y.T
    pair = similar.detach().diagonal()[:, None]
    near = (similar >= band[0] * pair) & (similar <= band[1] * pair)
    kept = near | (pair <= 0) | torch.eye(len(x), dtype=torch.bool, device=x.device)
    return cross_entropy((similar / tau).masked_fill(~kept, float("-inf")), torch.arange(len(x), device=x.device))
