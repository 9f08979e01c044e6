"""What the method ``one-sided`` trains by: a student that comes to the base's vectors, and the route beside it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cmcr.connect.methods.teacher import Teacher
from cmcr.connect.nearness import CROWD, apart, crowd_of, mean_made, memory_rows, told
from cmcr.numbers.routing import likeness, likeness_error, rarity, spread_rows
from cmcr.numbers.rows import spread
from cmcr.space import Projector, ProjectorConfig, bridges, initialise, with_centers
from cmcr.space.projector import Mean

if TYPE_CHECKING:
    from cmcr.connect.methods.base import Maps
    from cmcr.connect.validation import Figures

SKETCH = 1000
"""Rows of each memory that the views' spread is found from."""
FAR, ALIKE, TRUSTED = torch.tensor([[1.0, 2.0], [4.0, 0.0], [0.0, 4.0]])
"""Weights of route and student where the memories are of another kind than the overlap, where they are of its kind, and
where the student learned from trusted pairs; not tuned (``views.py`` tells why)."""
FLAT = 1e-4
"""Means shorter than this are no gap, nor are parts of one that the other means have not."""


class Anchored(Teacher):
    """The teacher of a student that alone moves; its space averages the student with the route.

    Attributes:
        likeness: Of each side's memory to the overlap, and its standard ``errors``; known at the end.
    """

    likeness = errors = (0.0, 0.0)

    def maps(self) -> Maps:
        """Return the identity of the base's centred rows, and a projector into them drawn from the seed."""
        config, dims = self.config, [own.shape[1] for own in self.keys]
        hidden = (config.hidden or 2 * dims[0]) if config.projector == "mlp" else 0
        student = Projector(ProjectorConfig(config.projector, dims[1], dims[0], hidden=hidden))
        initialise(student, config.init, torch.Generator().manual_seed(config.seed))
        return bridges.identity(dims[0], self.centers[0]), with_centers(student, self.centers[1])

    def finish(self, maps: Maps) -> Maps:
        """Return the base as it is, and the mean of route and student, without the base's gaps."""
        crowds = [
            memory_rows(side, spread(side.memory.rows(side.recalled), CROWD), center, self.device)
            for side, center in zip(self.sides, self.centers, strict=True)
        ]
        sketches = [spread_rows(crowd, SKETCH) for crowd in crowds]
        self.likeness = likeness(sketches[0], self.keys[0]), likeness(sketches[1], self.keys[1])
        self.errors = likeness_error(sketches[0], self.keys[0]), likeness_error(sketches[1], self.keys[1])
        keys = [spread_rows(own, self.config.anchors) for own in self.keys]
        values = rarity(crowds[1], keys[1], self.config.likelihood_tau)[:, None] * keys[0]
        route = bridges.route_bridge(keys[1].cpu(), values.cpu(), self.config.likelihood_tau, 0, {})
        joined = bridges.mean([route, maps[1].cpu()], gaps_of(self.centers[0]), self.centers[1]).to(self.device)
        self._recentre(joined)
        weights = self._weights(joined, sketches)
        return bridges.identity(keys[0].shape[1], {}), bridges.reweighted(joined.cpu(), weights)

    @torch.no_grad()
    def _recentre(self, projector: Projector) -> None:
        """Set what is subtracted of what each part makes: its mean over the rows of each modality of the leaf."""
        body, side, center = _body(projector), self.sides[1], self.centers[1]
        for name in center:
            body.means[name].data.copy_(mean_made(body.raw, crowd_of(side, name, center, self.device)))

    @torch.no_grad()
    def _weights(self, projector: Projector, sketches: list[Tensor]) -> list[float]:
        """Return each view's weight over the standard deviation of its cosines with the base's rows."""
        views = _body(projector).views(sketches[1], str(self.sides[1].outer)).unbind(1)
        spreads = [float((sketches[0] @ view.T).std(correction=0)) for view in views]
        mixed = torch.lerp(torch.lerp(ALIKE, FAR, apart(self.likeness)), TRUSTED, self.trust).tolist()
        return [max(weight, 1e-3) / max(spread, 1e-6) for weight, spread in zip(mixed, spreads, strict=True)]

    def figures(self) -> Figures:
        """Return what the weights follow from, too."""
        return super().figures() | {"likeness": math.prod(self.likeness)}

    def notes(self) -> tuple[str, ...]:
        """Tell what the space keeps of the overlap."""
        kept = min(len(self.keys[0]), self.config.anchors)
        floats = sum(key.shape[1] for key in self.keys)
        return (
            *super().notes(),
            told(self.likeness, self.errors),
            f"the space keeps {kept} overlap rows ({4e-6 * kept * floats:.0f} MB), which each row of the leaf is "
            "compared with",
        )


def gaps_of(centers: dict[str, Tensor]) -> Tensor:
    """Return (R, D) orthonormal directions of the (D,) means of a space's modalities."""
    means = torch.stack(list(centers.values())).double().cpu()
    _, lengths, directions = torch.linalg.svd(means, full_matrices=False)
    found: Tensor = directions[lengths > FLAT].float()
    return found


def _body(projector: Projector) -> Mean:
    assert isinstance(projector.body, Mean)  # noqa: S101  (it was made so)
    return projector.body
