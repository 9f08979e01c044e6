"""What known pairs add to ``ensemble``: canonical directions beside its views, as much as held-out pairs say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from cmcr.connect.methods.csa import canonical_maps
from cmcr.connect.methods.few import fewer_than_components, paired_rows
from cmcr.connect.methods.views import Views
from cmcr.hooks import Progress
from cmcr.numbers import canonical
from cmcr.space import bridges

if TYPE_CHECKING:
    from cmcr.connect.methods.base import Maps
    from cmcr.connect.validation import Figures, Validation

SHARES = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
"""How much canonical cosines may count beside the ensemble's, both over their standard deviation."""
TILTS = (1.0, 4.0)
"""How much more than without pairs likely descriptions and the student may count among the ensemble's own segments."""
LEARNED = (1, 4)
"""Which segments of ``Views`` these are."""
EXPECTED = (0.5, 1.0)
"""The share and the tilt that are taken unless held-out pairs speak against them by more than the standard error."""
SCARCE = 20
"""Fewer pairs count nothing: a map fitted on ten adds noise to the views, and ten held out cannot tell how much."""


class Weighed(NamedTuple):
    """How much known pairs count.

    Attributes:
        share: Of the canonical directions, of ``SHARES``.
        tilt: Of ``TILTS``.
        unit: The spread of canonical cosines over that of the ensemble's: a share is told in it.
        recipe: How the directions are found.
    """

    share: float
    tilt: float
    unit: float
    recipe: canonical.Recipe


class Added(NamedTuple):
    """An ensemble with what known pairs tell beside it: the maps of the two sides, and how much the pairs count."""

    maps: Maps
    weighed: Weighed


class PairedViews(Views):
    """The views of an ensemble, and one more segment: canonical directions of the pairs that are known.

    The weights are chosen by pairs that the directions did not see. The other views rest on no pair, so of the known
    ones all may judge them.

    Attributes:
        added: What was chosen; known at the end.
    """

    added: Added | None = None

    def __init__(self, validation: Validation, folder: Path, progress: Progress) -> None:
        super().__init__(validation, folder, progress)
        self.validation = validation

    @torch.no_grad()
    def finish(self, maps: Maps) -> Maps:
        """Return the ensemble with the canonical directions beside it."""
        given = self.validation.given
        assert given is not None  # noqa: S101  (these views are taken for known pairs)
        x, y = (rows.cpu() for rows in paired_rows(self.validation))
        names = given.modality_a, given.modality_b
        self.added = add_pairs(super().finish(maps), (x, y), names, self.config.seed)
        return self.added.maps

    def figures(self) -> Figures:
        """Return how many pairs are known, and what was chosen by them, too."""
        assert self.added is not None  # noqa: S101  (asked for at the end)
        found = self.added.weighed
        chosen = {f"pairs_{name}": value for name, value in found.recipe._asdict().items()}
        return super().figures() | {
            "pairs": self._count(), "pairs_share": found.share, "pairs_tilt": found.tilt, **chosen,
        }  # fmt: skip

    def notes(self) -> tuple[str, ...]:
        """Tell how much the pairs count."""
        if self._count() < SCARCE:
            told = f"{self._count()} known pairs are too few to weigh and change nothing; {SCARCE} or more may"
            return (*super().notes(), told)
        share = self.added.weighed.share if self.added else 0.0
        told = f"{self._count()} known pairs count {share:g} to 1 beside the views that rest on none"
        few = fewer_than_components(self._count(), [key.shape[1] for key in self.keys])
        return (*super().notes(), f"{told} (chosen by {canonical.FOLDS} folds of them)", *few)

    def _count(self) -> int:
        return len(self.validation.given.rows_a) if self.validation.given else 0


@torch.no_grad()
def add_pairs(ensemble: Maps, rows: tuple[Tensor, Tensor], modalities: tuple[str, str], seed: int) -> Added:
    """Return an ensemble that rests on no pair with the canonical directions of known pairs beside it.

    Args:
        ensemble: The maps of ``Views``, on the processor.
        rows: (P, D_a) and (P, D_b) paired rows, centred as the ensemble centres them.
        modalities: Theirs.
        seed: Of the folds that choose.
    """
    a, b = (each.body(x, str(name)) for each, x, name in zip(ensemble, rows, modalities, strict=True))
    config = ensemble[0].config
    found = weigh_pairs((a, b), config.segments, config.weights, rows, seed)
    first, second = (bridges.reweighted(each, tilted(config.weights, found.tilt)) for each in ensemble)
    if found.share:
        new = canonical_maps(canonical.fit_canonical(*rows, found.recipe), [{}, {}])
        first, second = (
            bridges.beside(each, part, found.share / found.unit)
            for each, part in zip((first, second), new, strict=True)
        )
    return Added((first, second), found)


def weigh_pairs(
    projected: tuple[Tensor, Tensor],
    segments: Sequence[int],
    weights: Sequence[float],
    rows: tuple[Tensor, Tensor],
    seed: int,
) -> Weighed:
    """Return how canonical directions are found and weighed beside an ensemble: as held-out pairs rank best.

    Args:
        projected: (P, K) paired rows as each side's ensemble projects them.
        segments: Components of its segments.
        weights: Theirs.
        rows: (P, D_a) and (P, D_b), centred.
        seed: Of the folds.
    """
    folds = canonical.folds_of(len(rows[0]), seed)
    recipe = canonical.pick(*rows, folds)
    if len(rows[0]) < SCARCE:
        return Weighed(0.0, 1.0, 1.0, recipe)
    found = list(canonical.held_out(*rows, recipe, folds))
    scale = torch.tensor(weights)[:, None, None]
    views = []
    for fold in folds:
        sides = (each[fold].split(list(segments), dim=1) for each in projected)
        views.append(torch.stack([x @ y.T for x, y in zip(*sides, strict=True)]) / scale)
    return Weighed(*_chosen(found, views, weights), recipe)


def _chosen(found: list[Tensor], views: list[Tensor], weights: Sequence[float]) -> tuple[float, float, float]:
    """Return the share and the tilt under which held-out pairs rank best, and the spread that the share is told in."""
    logs, units = {}, {}
    for tilt in TILTS:
        own = torch.tensor(tilted(weights, tilt))[:, None, None]
        others = [(own * each).sum(dim=0) for each in views]
        units[tilt] = unit = _spread(found) / max(_spread(others), 1e-6)
        for share in SHARES:
            made = (other + share / unit * new for other, new in zip(others, found, strict=True))
            logs[share, tilt] = torch.cat([canonical.log_ranks(each) for each in made])
    share, tilt = canonical.chosen(logs, EXPECTED)
    return share, tilt, units[tilt]


def tilted(weights: Sequence[float], tilt: float) -> list[float]:
    """Return weights of sum 1 of which those of ``LEARNED`` are ``tilt`` times as large beside the others."""
    made = [weight * (tilt if number in LEARNED else 1.0) for number, weight in enumerate(weights)]
    return [weight / sum(made) for weight in made]


def _spread(parts: list[Tensor]) -> float:
    """Return the standard deviation of the similarities of rows that are not a pair."""
    return float(torch.cat([each[~torch.eye(len(each), dtype=torch.bool)] for each in parts]).std())
