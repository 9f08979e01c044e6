"""The method ``distill``: projectors learn from routing which rows of the two memories belong together.

For real vectors, C-MCR's recalled pairs are weak where the overlap's items and the memories' items are of different
kinds: most texts recall something far from them. Here the rows of the memories themselves are trained on. What is not
known of them, the similarity of a row of one memory to a row of the other, is estimated through the overlap rows near
both (the routed coordinates), and distilled. How much the recalled pairs count beside it follows from how near the
memories lie to the overlap (``trust``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from cmcr.connect.config import ConnectConfig
from cmcr.connect.methods.base import Objective
from cmcr.connect.nearness import (
    CROWD,
    LEAST,
    QUERIES,
    _anchors,
    _centred,
    _density,
    _memory_rows,
    _outer,
    anchors_of,
    trust,
)
from cmcr.connect.pairs import PairBatch, Pairs
from cmcr.connect.train import new_projectors
from cmcr.connect.validation import Figures
from cmcr.devices import matrix_products
from cmcr.hooks import Progress, silent
from cmcr.memory.cached import reuse_or_write
from cmcr.memory.overlap import Side
from cmcr.numbers import info_nce, soft_info_nce
from cmcr.numbers.recall import complete
from cmcr.numbers.rows import read_rows, spread
from cmcr.ranks import ALONE, Ranks
from cmcr.space import rotate_output, with_centers

if TYPE_CHECKING:
    from cmcr.connect.methods.base import Maps


class RoutedRows(NamedTuple):
    """Rows of one memory: (n, D) centred unit vectors and their (n, D_a + D_b) routed coordinates, unit as well."""

    vectors: Tensor
    coordinates: Tensor


@dataclass(frozen=True)
class Batch:
    """What a step sees: pairs as C-MCR's, and rows drawn from each memory independently."""

    rows: PairBatch
    drawn: tuple[RoutedRows, RoutedRows]


class Teacher(Objective):
    """What is known of two memories before training, and how projectors learn it.

    Attributes:
        trust: Weight of the recalled and overlap pairs against the routed similarities, in [0, 1].
        nearness: What ``trust`` follows from: the product of the two sides' mean cosine between an overlap row and the
            nearest of ``SAMPLE`` memory rows, centred.
    """

    keeps_last = True  # no measure without pairs that we know ranks its epochs

    def __init__(
        self,
        pairs: Pairs,
        train: np.ndarray,
        sides: tuple[Side, Side],
        centers: list[dict[str, Tensor]],
        config: ConnectConfig,
        folder: Path,
        device: str = "cpu",
        progress: Progress = silent,
    ) -> None:
        """Route both memories through the overlap, into ``folder``, or reuse what is there.

        Args:
            pairs: Overlap rows and, unless ``trust`` is 0, what the memories recall for them.
            train: Rows of ``pairs`` to learn from.
            sides: Both memories; each with an outer modality.
            centers: Per side the (D,) mean of each modality, subtracted from every vector.
            config: Temperature and width of the routing.
            folder: Where the coordinates are kept, as float16.
            device: Where to compute.
            progress: Called as rows are routed.
        """
        self.pairs, self.sides, self.centers, self.config, self.device = pairs, sides, centers, config, device
        self.nearness, self.trust = trust(pairs, train, sides, centers, device)
        texts = _anchors(pairs, train, sides, centers, device)
        self._coordinates, self._means = [], []
        crowds = [
            _memory_rows(side, spread(side.memory.rows(_outer(side)), CROWD), center, device)
            for side, center in zip(sides, centers, strict=True)
        ]
        near = [_density(own, crowd) for own, crowd in zip(texts, crowds, strict=True)]
        prior = config.route_density * (near[0] + near[1])
        for number, (side, own) in enumerate(zip(sides, texts, strict=True)):
            path = folder / f"routed_{'ab'[number]}.npy"
            shape = side.memory.rows(_outer(side)), sum(text.shape[1] for text in texts)
            key = _key(sides, train, number, config)
            blocks = self._routed(number, own, prior, texts)
            coordinates = reuse_or_write(path, key, shape, lambda blocks=blocks: blocks, progress)  # type: ignore[misc]
            self._coordinates.append(coordinates)
            self._means.append(_mean(coordinates).to(device))

    def maps(self) -> Maps:
        """Return two projectors, drawn from the seed, that centre what they project.

        What they learn from has the components of both inputs: they gained from a wider hidden layer.
        """
        new = new_projectors(self.config, self.pairs.overlap_a.shape[1], self.pairs.overlap_b.shape[1], widening=3)
        return with_centers(new[0], self.centers[0]), with_centers(new[1], self.centers[1])

    def batch(self, rows: np.ndarray, generator: np.random.Generator) -> Batch:
        """Return (n, D) of the overlap's rows and (m, D) of each memory's (all, if it has fewer), for (B,) ``rows``.

        From a quarter as many of the overlap and as many of each memory, where pairs do not count, to three quarters
        and a quarter, where only they do.
        """
        size = len(rows)
        rows = rows[spread(size, max(2, round(size * (1 + 2 * self.trust) / 4)))]
        wanted = max(2, round(size * (4 - 3 * self.trust) / 4))
        drawn = []
        for number, side in enumerate(self.sides):
            count = side.memory.rows(_outer(side))
            chosen = np.sort(generator.choice(count, size=min(count, wanted), replace=False))
            coordinates = torch.from_numpy(read_rows(self._coordinates[number], chosen)).to(self.device)
            drawn.append(
                RoutedRows(self._centred_rows(number, chosen), F.normalize(coordinates - self._means[number], dim=1))
            )
        return Batch(self.pairs.take(rows, self.device), (drawn[0], drawn[1]))

    def loss(self, maps: Maps, batch: Batch, noise: torch.Generator, ranks: Ranks = ALONE) -> Tensor:
        """Return the loss of a batch.

        L = (1 - trust) (L_routed + own_weight (L_own,a + L_own,b)) + trust (L_ttc + L_avc)

        ``L_routed`` draws the projected similarities of the two memories' rows to the routed ones; ``L_ttc`` and
        ``L_avc`` are C-MCR's; ``L_own`` keeps what each space knows itself of its memory's and its overlap's rows;
        where pairs are trusted, they place the overlap well enough.
        """
        config = self.config
        texts, pseudo, outer, own = [], [], [], []
        parts = ((batch.rows.overlap_a, batch.rows.pseudo_a), (batch.rows.overlap_b, batch.rows.pseudo_b))
        for projector, (overlap, recalled), drawn, center, side in zip(
            maps, parts, batch.drawn, self.centers, self.sides, strict=True
        ):
            inputs = [drawn.vectors, _centred(overlap, center[str(side.overlap)].to(overlap.device))]
            if self.trust:
                assert recalled is not None  # noqa: S101  (pairs that count are whole)
                inputs.append(_centred(recalled, center[str(side.outer)].to(overlap.device)))
            noisy = [complete(rows, config.noise, noise) for rows in inputs]
            projected = projector(torch.cat(noisy)).split([len(rows) for rows in noisy])
            outer.append(projected[0])
            texts.append(projected[1])
            pseudo += projected[2:]
            own.append(soft_info_nce(outer[-1], texts[-1], drawn.vectors @ inputs[1].T, config.distill_tau))
        routed = batch.drawn[0].coordinates @ batch.drawn[1].coordinates.T
        known: Tensor = soft_info_nce(outer[0], outer[1], routed, config.distill_tau) + config.own_weight * (
            own[0] + own[1]
        )
        if not self.trust:
            return known
        pairs: Tensor = config.overlap_weight * info_nce(texts[0], texts[1], config.tau)
        pairs = pairs + config.pseudo_weight * info_nce(pseudo[0], pseudo[1], config.tau_pseudo or config.tau)
        return (1 - self.trust) * known + self.trust * pairs

    def finish(self, maps: Maps) -> Maps:
        """Return the projectors, shrunk."""
        return self.shrink(maps)

    def figures(self) -> Figures:
        """Return nearness and trust."""
        return {"nearness": self.nearness, "trust": self.trust}

    def notes(self) -> tuple[str, ...]:
        """Tell how much recalled pairs count."""
        return (
            f"nearness of the memories to the overlap {self.nearness:.2f}: recalled pairs have weight "
            f"{self.trust:.2f}, routed similarities {1 - self.trust:.2f}",
        )

    @torch.no_grad()
    def shrink(self, projectors: Maps) -> Maps:
        """Return the projectors with the space's directions scaled by how much the memories' rows vary along them.

        What the routed similarities tell is coarse; along directions of little variance, the projectors have mostly
        learned its errors. With C the mean covariance of the two memories' projected rows, eigenvalues relative to the
        largest, vectors are multiplied by C^(shrink (1 - trust)).
        """
        power = self.config.shrink * (1 - self.trust)
        if not power:
            return projectors
        covariance = torch.zeros((), dtype=torch.double)
        for number, (projector, side) in enumerate(zip(projectors, self.sides, strict=True)):
            rows = spread(side.memory.rows(_outer(side)), CROWD)
            projected = projector.to(self.device)(self._centred_rows(number, rows))
            covariance = covariance + torch.cov(projected.T.cpu().double(), correction=0) / 2
        variances, directions = torch.linalg.eigh(covariance)
        # Rows that are all the same vary along no direction: then all count the same.
        scale = (variances / variances[-1].clamp_min(1e-12)).clamp_min(LEAST) ** power
        matrix = ((directions * scale) @ directions.T).float()
        return rotate_output(projectors[0].cpu(), matrix), rotate_output(projectors[1].cpu(), matrix)

    def _centred_rows(self, number: int, rows: np.ndarray) -> Tensor:
        return _memory_rows(self.sides[number], rows, self.centers[number], self.device)

    def _routed(self, number: int, own: Tensor, prior: Tensor, texts: tuple[Tensor, ...]) -> Iterator[np.ndarray]:
        """Yield routed coordinates: what the anchors near a row look like in both spaces, side by side.

        Near is a cosine plus ``prior``: of anchors as near, those that lie among the memories' rows say more.
        """
        rows = self.sides[number].memory.rows(_outer(self.sides[number]))
        for start in range(0, rows, QUERIES):
            x = self._centred_rows(number, np.arange(start, min(start + QUERIES, rows)))
            with matrix_products(self.device, self.config.precision):
                scores, near = torch.addmm(prior, x, own.T).topk(anchors_of(self.config, len(own)), dim=1)
            weights = (scores / self.config.route_tau).softmax(dim=1)
            halves = [
                F.normalize(F.embedding_bag(near, text, per_sample_weights=weights, mode="sum"), dim=1)
                for text in texts
            ]
            yield torch.cat(halves, dim=1).cpu().numpy()


def _mean(coordinates: np.ndarray) -> Tensor:
    total = np.zeros(coordinates.shape[1])
    for start in range(0, len(coordinates), QUERIES):
        total += read_rows(coordinates, np.arange(start, min(start + QUERIES, len(coordinates)))).sum(axis=0)
    return torch.from_numpy((total / len(coordinates)).astype(np.float32))


def _key(sides: tuple[Side, Side], train: np.ndarray, number: int, config: ConnectConfig) -> str:
    known = [side.memory.fingerprint(modality) for side in sides for modality in (side.overlap, side.outer) if modality]
    known += [hashlib.sha256(side.rows.astype("<i8").tobytes()).hexdigest() for side in sides]
    known += [hashlib.sha256(train.astype("<i8").tobytes()).hexdigest(), str(number)]
    known += [repr(config.route_tau), str(config.route_top_k), repr(config.route_density), config.precision]
    return hashlib.sha256(" ".join(known).encode()).hexdigest()
