"""The pairs of a connection, what of them is held out, and what is measured on that."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cmcr.connect.config import ConnectConfig
from cmcr.connect.methods import load_method
from cmcr.connect.pairs import Pairs, build_pairs
from cmcr.connect.split import LEAST, Split, split
from cmcr.hooks import Progress
from cmcr.memory import Memory
from cmcr.memory.known import KnownPairs
from cmcr.memory.overlap import Side
from cmcr.modality import Modality
from cmcr.numbers import chance_recall, modality_gap, ranks, recall_at
from cmcr.numbers.agreement import Agreement
from cmcr.numbers.rows import spread
from cmcr.ranks import ALONE, Ranks
from cmcr.space import Projector

CENTRED = 65_536
"""Overlap rows held at a time for their mean."""
SAMPLE = 2048
"""At most this many rows enter a validation measure: the gallery of its recalls."""

Figures = dict[str, Any]
"""Named figures; None where too little was held out to know. NAME_chance is what guessing reaches."""


@dataclass(frozen=True)
class Known:
    """What folds found out of a connection whose rows are all trained on.

    Attributes:
        by_epoch: Figures after each epoch; empty for a method without epochs.
        final: Figures of what each fold ended with.
        facts: What they rest on.
        ridge: The median of the ridges that folds picked; None where none did.
    """

    by_epoch: list[Figures]
    final: Figures
    facts: Figures
    ridge: float | None = None


class Validation:
    """The pairs of a connection, split into training and held-out rows, and the measures on the latter.

    No measure uses a pair of outer modalities, so any of them may choose a model.

    Attributes:
        known: Set where all rows are trained on: what is told instead of a measure.
        given: Pairs of the two outer modalities that are known beside the overlap; None: no such.
    """

    known: Known | None = None
    given: KnownPairs | None = None

    def __init__(
        self,
        pairs: Pairs,
        sides: list[Side],
        config: ConnectConfig,
        device: str = "cpu",
        ranks: Ranks = ALONE,
        rows: Split | None = None,
    ) -> None:
        """Split the pairs by ``config``, or take the ``rows`` of one fold."""
        self.pairs, self.sides, self.config, self.device, self.ranks = pairs, sides, config, device, ranks
        self.train, self.held = rows or split(len(pairs), config)
        self.rows = pairs.take(self.held[:SAMPLE], device)
        self.outer = [None if side.outer is None else _sample(side.memory, side.outer).to(device) for side in sides]
        self.agreement, self.unmeasured = None, ""
        if len(self.held) and self.outer[0] is not None and self.outer[1] is not None:
            overlap = self.rows.overlap_a.to(device), self.rows.overlap_b.to(device)
            agreement = Agreement(overlap, (self.outer[0], self.outer[1]))
            # Of a fold, what its rows tell together with the other folds' is judged, not what they tell alone.
            self.unmeasured = "" if rows else untold(agreement.chance, agreement.rows, len(self.rows.overlap_a))
            self.agreement = agreement if agreement.rows and not self.unmeasured else None

    @cached_property
    def centers(self) -> list[dict[str, Tensor]]:
        """Per side the (D,) mean of each modality: the overlap's over the training rows, others' over their memory."""
        totals = [np.zeros(dim) for dim in (self.pairs.overlap_a.shape[1], self.pairs.overlap_b.shape[1])]
        for start in range(0, len(self.train), CENTRED):
            part = self.pairs.take(self.train[start : start + CENTRED])
            for total, x in zip(totals, (part.overlap_a, part.overlap_b), strict=True):
                total += x.double().sum(dim=0).numpy()
        centers = []
        for side, total in zip(self.sides, totals, strict=True):
            overlap = torch.from_numpy((total / len(self.train)).astype(np.float32))
            others = [modality for modality in side.memory.modalities if modality != side.overlap]
            means = {str(modality): _mean(side.memory, modality) for modality in others}
            centers.append({} if side.frozen else {str(side.overlap): overlap, **means})
        return centers

    def measure(self, f_a: Projector, f_b: Projector) -> Figures:
        """Return measures on held-out overlap rows; ``selection`` is what C-MCR's epochs are chosen by.

        They are recall@1 of the overlap and of the pairs it recalls (mean of both directions; their mean is the
        selection), agreement of the memories (``cmcr.numbers.agreement``; what methods are chosen by), and modality
        gaps. Beside each share stands what guessing reaches.
        """
        f_a.eval()
        f_b.eval()
        rows = self.rows
        with torch.inference_mode():
            overlap = [
                f(x.to(self.device), side.overlap)
                for f, x, side in zip((f_a, f_b), (rows.overlap_a, rows.overlap_b), self.sides, strict=True)
            ]
            chance = chance_recall(len(overlap[0]), 1)
            measured: Figures = {"overlap_r1": _both_ways(overlap[0], overlap[1]), "overlap_r1_chance": chance}
            if rows.pseudo_a is None or rows.pseudo_b is None:
                return measured | {"selection": measured["overlap_r1"]}
            pseudo = [
                f(torch.nn.functional.normalize(x, dim=1), side.outer)
                for f, x, side in zip((f_a, f_b), (rows.pseudo_a, rows.pseudo_b), self.sides, strict=True)
            ]
            measured |= {"pseudo_r1": _both_ways(pseudo[0], pseudo[1]), "pseudo_r1_chance": chance}
            outer = [f(x, side.outer) for f, x, side in zip((f_a, f_b), self.outer, self.sides, strict=True)]
        raw = ((rows.overlap_a, self.outer[0]), (rows.overlap_b, self.outer[1]))
        measured["gap_before"] = float(np.mean([_gap(x, y) for x, y in raw if y is not None]))
        measured["gap_after"] = float(np.mean([_gap(x, y) for x, y in zip(overlap, outer, strict=True)]))
        measured["outer_gap_after"] = _gap(outer[0], outer[1])
        if self.agreement is not None:
            found = self.agreement(outer[0], outer[1])
            measured |= {"agreement": found, "agreement_chance": self.agreement.chance}
        return measured | {"selection": (measured["overlap_r1"] + measured["pseudo_r1"]) / 2}

    def facts(self) -> Figures:
        """Return what the measures rest on: rows held out, rows that can agree; and why a measure is unknown."""
        if self.known:
            return dict(self.known.facts)
        facts: Figures = {"held_out": len(self.rows.overlap_a)}
        if self.agreement is not None:
            facts["agreement_rows"] = self.agreement.rows
        return facts | ({"agreement": None, "unmeasured": self.unmeasured} if self.unmeasured else {})

    def of(self, config: ConnectConfig) -> Validation:
        """Return this validation for another recipe with the same split, on this process alone."""
        other = copy.copy(self)
        other.config, other.ranks = config, ALONE
        return other


def build_validation(
    sides: list[Side], folder: Path, config: ConnectConfig, device: str, ranks: Ranks, progress: Progress
) -> Validation:
    """Build the pairs. Methods that do not train on what is recalled recall only what is measured."""

    def build(sides: list[Side], name: str, top_k: int = config.top_k) -> Pairs:
        return build_pairs(
            sides[0], sides[1], folder / name, config.tau_memory, top_k, device, config.precision, progress
        )

    validation = Validation(build([replace(side, outer=None) for side in sides], "pairs"), sides, config, device, ranks)
    sample = validation.held[:SAMPLE]
    # Each of few rows is held out by one of the folds: all are recalled.
    if not len(sample) or load_method(config.method).recalls(validation):
        validation.pairs = build(sides, "pairs")
        validation.rows = validation.pairs.take(sample, device)
        return validation
    # For so few rows the whole softmax takes less time than the graphs that spare it.
    measured = build([replace(side, rows=side.rows[sample]) for side in sides], "held-out", top_k=0)
    validation.rows = measured.take(np.arange(len(measured)), device)
    return validation


def untold(chance: float, rows: int, held: int) -> str:
    """Return why an agreement would tell nothing, or an empty string.

    Args:
        chance: What a random order reaches.
        rows: Outer rows with a match.
        held: Held-out overlap rows; outer rows that lie by the same one stand or fall together.
    """
    if not rows:
        return "agreement is unknown: no rows of the two memories lie by the same held-out overlap row"
    # A perfect score would be told from guessing by less than two standard errors.
    few = min(rows, held)
    if few >= LEAST and (1 - chance) * few > 4 * chance:
        return ""
    return f"agreement is unknown: {few} rows that can agree, where guessing reaches {chance:.2f}, tell too little"


def _mean(memory: Memory, modality: Modality) -> Tensor:
    total = sum((block.astype(np.float64).sum(axis=0) for block in memory.blocks(modality)), np.zeros(1))
    return torch.from_numpy((total / memory.rows(modality)).astype(np.float32))


def _sample(memory: Memory, modality: Modality) -> Tensor:
    """Return up to ``SAMPLE`` rows spread evenly over a memory."""
    return torch.from_numpy(memory.vectors(modality, spread(memory.rows(modality), SAMPLE)))


def _both_ways(x: Tensor, y: Tensor) -> float:
    rows, columns = x.cpu().numpy(), y.cpu().numpy()
    return (recall_at(ranks(rows, columns), 1) + recall_at(ranks(columns, rows), 1)) / 2


def _gap(x: Tensor, y: Tensor) -> float:
    return modality_gap(x.cpu().numpy(), y.cpu().numpy())
