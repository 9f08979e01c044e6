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
    QUERIES,
    anchors_of,
    centred_rows,
    memory_rows,
    overlap_anchors,
    trust,
)
from cmcr.connect.pairs import PairBatch
from cmcr.connect.train import new_projectors
from cmcr.connect.validation import Figures
from cmcr.devices import matrix_products
from cmcr.hooks import Progress, silent
from cmcr.memory.cached import reuse_or_write
from cmcr.memory.overlap import Side
from cmcr.numbers import info_nce, soft_info_nce
from cmcr.numbers.recall import as_values, complete, recall_through
from cmcr.numbers.rows import mean_row, read_rows, spread
from cmcr.ranks import ALONE, Ranks
from cmcr.space import with_centers

if TYPE_CHECKING:
    from cmcr.connect.methods.base import Maps
    from cmcr.connect.validation import Validation


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
        keys: Per side the (M, D) overlap rows that memories are routed through, centred.
        nearness: What ``trust`` follows from: the product of the two sides' mean cosine between an overlap row and the
            nearest of ``SAMPLE`` memory rows, centred.
    """

    keeps_last = True  # no measure without pairs that we know ranks its epochs

    def __init__(self, validation: Validation, folder: Path, progress: Progress = silent) -> None:
        """Route both memories through the overlap's training rows, into ``folder``, or reuse what is there.

        Args:
            validation: The pairs (with what the memories recall, unless ``trust`` is 0), their sides, each with an
                outer modality, and the recipe.
            folder: Where the coordinates are kept, as float16.
            progress: Called as rows are routed.
        """
        sides = validation.sides[0], validation.sides[1]
        self.pairs, self.sides, self.centers = validation.pairs, sides, validation.centers
        self.config, self.device = validation.config, validation.device
        self.nearness, self.trust = trust(validation)
        self.keys = texts = overlap_anchors(validation)
        self._coordinates, self._means = [], []
        for number, (side, own) in enumerate(zip(sides, texts, strict=True)):
            path = folder / f"routed_{'ab'[number]}.npy"
            shape = side.memory.rows(side.recalled), sum(text.shape[1] for text in texts)
            key = _key(sides, validation.train, number, self.config)
            blocks = self._routed(number, own, texts)
            coordinates = reuse_or_write(path, key, shape, lambda blocks=blocks: blocks, progress)  # type: ignore[misc]
            self._coordinates.append(coordinates)
            self._means.append(torch.from_numpy(mean_row(coordinates)).to(self.device))

    def maps(self) -> Maps:
        """Return two projectors, drawn from the seed, that centre what they project."""
        new = new_projectors(self.config, self.pairs.overlap_a.shape[1], self.pairs.overlap_b.shape[1])
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
            count = side.memory.rows(side.recalled)
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
            inputs = [drawn.vectors, centred_rows(overlap, center[str(side.overlap)].to(overlap.device))]
            if self.trust:
                assert recalled is not None  # noqa: S101  (pairs that count are whole)
                inputs.append(centred_rows(recalled, center[str(side.outer)].to(overlap.device)))
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

    def figures(self) -> Figures:
        """Return nearness and trust."""
        return {"nearness": self.nearness, "trust": self.trust}

    def notes(self) -> tuple[str, ...]:
        """Tell how much recalled pairs count."""
        return (
            f"nearness of the memories to the overlap {self.nearness:.2f}: recalled pairs have weight "
            f"{self.trust:.2f}, routed similarities {1 - self.trust:.2f}",
        )

    def _centred_rows(self, number: int, rows: np.ndarray) -> Tensor:
        return memory_rows(self.sides[number], rows, self.centers[number], self.device)

    def _routed(self, number: int, own: Tensor, texts: tuple[Tensor, ...]) -> Iterator[np.ndarray]:
        """Yield routed coordinates: what the anchors near a row look like in both spaces, side by side."""
        rows = self.sides[number].memory.rows(self.sides[number].recalled)
        both, widths = torch.cat(texts, dim=1), [text.shape[1] for text in texts]
        count, tau = anchors_of(self.config, len(own)), self.config.route_tau
        with matrix_products(self.device, self.config.precision):
            values = as_values(both)
        for start in range(0, rows, QUERIES):
            x = self._centred_rows(number, np.arange(start, min(start + QUERIES, rows)))
            with matrix_products(self.device, self.config.precision):
                found = recall_through(x, own, values, tau) if count == len(own) else _nearest(x, own, both, count, tau)
            yield torch.cat([F.normalize(half, dim=1) for half in found.split(widths, dim=1)], dim=1).cpu().numpy()


def _nearest(x: Tensor, keys: Tensor, values: Tensor, count: int, tau: float) -> Tensor:
    """Return the (n, K) mean of the values of those keys that are nearest to each row, weighted by a softmax."""
    scores, near = (x @ keys.T).topk(count, dim=1)
    weights = (scores / tau).softmax(dim=1)
    return F.embedding_bag(near, values, per_sample_weights=weights, mode="sum")


def _key(sides: tuple[Side, Side], train: np.ndarray, number: int, config: ConnectConfig) -> str:
    known = [side.memory.fingerprint(modality) for side in sides for modality in (side.overlap, side.outer) if modality]
    known += [hashlib.sha256(side.rows.astype("<i8").tobytes()).hexdigest() for side in sides]
    known += [hashlib.sha256(train.astype("<i8").tobytes()).hexdigest(), str(number)]
    known += [repr(config.route_tau), str(config.route_top_k), config.precision]
    return hashlib.sha256(" ".join(known).encode()).hexdigest()
