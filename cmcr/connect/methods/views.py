"""The views that ``ensemble`` puts side by side: routed both ways, likely descriptions, turned spaces, a student."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from cmcr.connect.methods.teacher import Teacher
from cmcr.connect.nearness import CROWD, apart, crowd_of, mean_made, memory_rows, told
from cmcr.numbers.routing import directions, likelihoods, likeness, likeness_error, rarity, spread_rows, turns
from cmcr.numbers.rows import spread
from cmcr.space import Projector, bridges
from cmcr.space.projector import Ensemble

if TYPE_CHECKING:
    from cmcr.connect.methods.base import Maps
    from cmcr.connect.validation import Figures

SKETCH = 1000
"""Rows of each memory that the directions are found from, and the views' spread."""
FAR, ALIKE, TRUSTED = torch.tensor(
    [[0.25, 1.0, 0.25, 0.25, 2.0], [1.75, 0.5, 1.75, 1.5, 0.0], [0.0, 0.0, 0.0, 0.0, 4.0]]
)
"""Weights of the segments (routed into the second space, likely descriptions, routed into the first, turned, student)
where the memories are of another kind than the overlap, where they are of its kind (routing is then all but exact, and
what is distilled of it only forgets), and where the student learned from trusted pairs, which know more."""


class _Side(NamedTuple):
    """What the views know of one side: (M, D) anchors, centred; their (M,) rarity; (n, D) rows of its memory."""

    keys: Tensor
    rarity: Tensor
    crowd: Tensor


class Views(Teacher):
    """The teacher of the student; its space holds the other views beside the student.

    Segments, in an order in which each side's routed ones are neighbours:

    ========  =========================  ==================
    segment   first side                 second side
    ========  =========================  ==================
    1         routed into the second     as it is
    2         likely descriptions        likely descriptions
    3         as it is                   routed into the first
    4         turned to the second       turned to the first
    5         student                    student
    ========  =========================  ==================

    Attributes:
        likeness: Of each side's memory to the overlap, and its standard ``errors``; known at the end.
    """

    likeness = errors = (0.0, 0.0)

    def finish(self, maps: Maps) -> Maps:
        """Return the students with the other views beside them, each as varied between the memories as the others."""
        students = super().finish(maps)
        sides = self._side(0), self._side(1)
        first, second = (likeness(spread_rows(side.crowd, SKETCH), side.keys) for side in sides)
        self.likeness = first, second
        errors = [likeness_error(spread_rows(side.crowd, SKETCH), side.keys) for side in sides]
        self.errors = errors[0], errors[1]
        sketches = [
            torch.cat(list(_described(side, spread_rows(side.crowd, SKETCH), self.config.likelihood_tau)))
            for side in sides
        ]
        common = directions((sketches[0], sketches[1]), self.config.directions)
        keys = [side.keys for side in sides]
        routes = [
            self._route(side, values)
            for side, values in zip(sides, ((keys[1], common), (common, keys[0])), strict=True)
        ]
        same = [bridges.identity(key.shape[1], {}) for key in keys]
        turned = [bridges.linear_bridge(turn, torch.zeros(len(turn)), {}) for turn in turns(*self.keys)]
        widths = (each.config.out_dim for each in (turned[0], students[0]))
        segments = (keys[1].shape[1], common.shape[1], keys[0].shape[1], *widths)
        joined = [
            self._recentred(bridges.ensemble(parts, segments, (1.0,) * len(segments), self.centers[number]), number)
            for number, parts in enumerate(
                ((routes[0], same[0], turned[0], students[0].cpu()), (same[1], routes[1], turned[1], students[1].cpu()))
            )
        ]
        weights = self._weights(joined, [spread_rows(side.crowd, SKETCH) for side in sides])
        return bridges.reweighted(joined[0], weights), bridges.reweighted(joined[1], weights)

    @torch.no_grad()
    def _weights(self, joined: list[Projector], rows: list[Tensor]) -> list[float]:
        """Return each view's weight over the standard deviation of its cosines between rows of the two memories."""
        segments = list(joined[0].config.segments)
        made = [
            _body(projector)(x, str(side.outer)).split(segments, dim=1)
            for projector, x, side in zip(joined, rows, self.sides, strict=True)
        ]
        spreads = [float((a @ b.T).std(correction=0)) * len(segments) for a, b in zip(*made, strict=True)]
        mixed = torch.lerp(torch.lerp(ALIKE, FAR, apart(self.likeness)), TRUSTED, self.trust).tolist()
        return [max(weight, 1e-3) / max(spread, 1e-6) for weight, spread in zip(mixed, spreads, strict=True)]

    def _side(self, number: int) -> _Side:
        side, center, keys = self.sides[number], self.centers[number], self.keys[number]
        keys = spread_rows(keys, self.config.anchors)
        crowd = memory_rows(side, spread(side.memory.rows(side.recalled), CROWD), center, self.device)
        return _Side(keys, rarity(crowd, keys, self.config.likelihood_tau), crowd)

    def _route(self, side: _Side, values: tuple[Tensor, Tensor]) -> Projector:
        """Return the route to (M, D) rows that stand beside each other, each as much as it is rare."""
        rare = side.rarity[:, None] * torch.cat(values, dim=1)
        return bridges.route_bridge(side.keys.cpu(), rare.cpu(), self.config.likelihood_tau, 0, {})

    @torch.no_grad()
    def _recentred(self, projector: Projector, number: int) -> Projector:
        """Set what is subtracted after the parts: of what is routed, the mean over each modality's rows."""
        body, side, center = _body(projector.to(self.device)), self.sides[number], self.centers[number]
        parts = projector.config.parts
        routed = torch.cat([torch.full((part.out_dim,), float(part.kind == "route")) for part in parts])
        for name in center:
            made = mean_made(body.raw, crowd_of(side, name, center, self.device))
            body.means[name].data.copy_(made * routed.to(self.device))
        return projector

    def figures(self) -> Figures:
        """Return what the weights follow from, too."""
        return super().figures() | {"likeness": math.prod(self.likeness)}

    def notes(self) -> tuple[str, ...]:
        """Tell what the space keeps of the overlap."""
        kept = min(len(self.keys[0]), self.config.anchors)
        floats = sum(2 * key.shape[1] + self.config.directions for key in self.keys)
        return (
            *super().notes(),
            told(self.likeness, self.errors),
            f"the space keeps {kept} overlap rows ({4e-6 * kept * floats:.0f} MB), which each row is compared with; "
            "--method distill keeps none",
        )


def _described(side: _Side, rows: Tensor, tau: float) -> Iterator[Tensor]:
    for block in likelihoods(rows, side.keys, tau):
        yield block * side.rarity


def _body(projector: Projector) -> Ensemble:
    assert isinstance(projector.body, Ensemble)  # noqa: S101  (it was made so)
    return projector.body
