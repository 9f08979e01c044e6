"""Sweep: recall against how much one encoder counts of those that see an item, and what its own space loses by that.

Protocol: retrieval over pairs as in ``retrieval/pairs.py``, once for each share of the encoder from 0 to 1; the other
encoders of the side have the rest, in proportion to their own weights. ``own`` are partners within the space of the
other encoders: what is lost there is told from share 0 on. A share chosen here is to be measured on other pairs.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from cmcr.ask import Subject
from cmcr.errors import InputError
from cmcr.evaluate.result import Result
from cmcr.evaluate.retrieval.pairs import CUTS, evaluate_memories
from cmcr.memory import Memory
from cmcr.modality import Modality
from cmcr.space import ConnectedSpace

STEPS = 10
"""Steps from share 0 to share 1."""

Side = tuple[Sequence[Memory], Modality]
"""One modality of one memory, or of several whose rows of one id are one item."""


@dataclass(frozen=True)
class Sweep(Result):
    """A result with a row for each share; ``values`` has ``DIRECTION at SHARE``.

    >>> from cmcr.evaluate.sweep.sweep import Sweep
    >>> Sweep("sweep", {}, 9, 9, {"recall@1": 0.1}, shares=(0.0, 1.0), curves={"text->audio": (0.2, 0.6)}).best()
    1

    Attributes:
        shares: From 0 to 1, of the encoder that is swept.
        curves: By direction, recall@1 at each share; those of the own space begin with ``own``.
        flags: What the command line says for each share.
    """

    shares: tuple[float, ...] = ()
    curves: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    flags: tuple[tuple[str, ...], ...] = ()

    def mean(self, own: bool = False) -> np.ndarray:
        """Return (shares,) the mean recall@1 of both directions; zeros where no own space was given."""
        curves = [points for name, points in self.curves.items() if name.startswith("own ") == own]
        return np.asarray(np.array(curves).mean(axis=0) if curves else np.zeros(len(self.shares)))

    def lost(self) -> np.ndarray:
        """Return (shares,) what the own space has lost of the recall@1 that it has at share 0."""
        mean = self.mean(own=True)
        return np.asarray(mean[0] - mean)

    def best(self) -> int:
        """Return the number of the share whose mean recall@1 is highest; of equal ones, that which loses least."""
        order = np.asarray(np.lexsort((self.lost(), -self.mean())))
        return int(order[0])

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Return columns and rows for a person: recall@1, a share a row."""
        columns = ["share", *self.curves, "mean", "own lost"]
        numbers: list[Sequence[float] | np.ndarray] = [*self.curves.values(), self.mean(), self.lost()]
        rows = [[f"{share:g}", *(f"{each[row]:.3f}" for each in numbers)] for row, share in enumerate(self.shares)]
        return columns, [*rows, ["chance", *(f"{self.chance['recall@1']:.3f}" for _ in self.curves), "", ""]]


def evaluate(
    space: ConnectedSpace,
    of: tuple[str, Modality],
    a: Side,
    b: Side,
    *,
    own: Sequence[Side] = (),
    weights: Mapping[str, float] | None = None,
    steps: int = STEPS,
) -> Sweep:
    """Ask each side for the other at each share of an encoder.

    Args:
        space: Where all lie.
        of: The encoder that is swept, and the modality whose items it sees beside others.
        a: One side of the pairs.
        b: The other; one of the two is of several memories, one of them that encoder's.
        own: Partners of that side within the space of the others, such as the base's own pictures of its texts.
        weights: Of the other encoders, by name; who is left out counts as its way says.
        steps: From share 0 to share 1.

    Raises:
        InputError: no side is seen by that encoder and another; or as ``evaluate_memories``.
        ArtifactError: a memory belongs to another encoder than the space.
    """
    start = time.perf_counter()
    mixed = _mixed_side(of, a, b)
    others = _others(space, of, mixed, weights or {})
    values: dict[str, Mapping[str, float]] = {}
    curves: dict[str, list[float]] = {}
    shares = [step / steps for step in range(steps + 1)]
    told = [{name: (1 - share) * weight for name, weight in others.items()} | {of[0]: share} for share in shares]
    for share, weighed in zip(shares, told, strict=True):
        subject = Subject("space", space, shares={of[1]: weighed})
        found = _measured(subject, (a, b), mixed, own)
        for whose, result in found:
            for direction, numbers in result.values.items():
                curves.setdefault(whose + direction, []).append(numbers["recall@1"])
                values[f"{whose}{direction} at {share:g}"] = {f"recall@{k}": numbers[f"recall@{k}"] for k in CUTS}
    first = found[0][1]
    return Sweep(
        name="sweep",
        values=values,
        n=first.n,
        gallery=first.gallery,
        chance=first.chance,
        settings={"method": space.method, "of": f"{of[0]}:{of[1]}", "others": ", ".join(others), "steps": steps},
        fingerprints=first.fingerprints,
        notes=first.notes,
        seconds=round(time.perf_counter() - start, 3),
        shares=tuple(shares),
        curves={name: tuple(points) for name, points in curves.items()},
        flags=tuple(tuple(f"{name}:{of[1]}={weight:.6g}" for name, weight in each.items()) for each in told),
    )


def _mixed_side(of: tuple[str, Modality], a: Side, b: Side) -> Side:
    """Return the side that the encoder sees beside another."""
    for memories, modality in (a, b):
        if modality == of[1] and len(memories) > 1 and of[0] in {memory.encoder.name for memory in memories}:
            return memories, modality
    held = "; ".join(f"{m}: {', '.join(each.encoder.name for each in memories)}" for memories, m in (a, b))
    raise InputError(
        f"{of[0]}:{of[1]} is not one of several that see a side ({held}); give one side a memory of it and of another"
    )


def _others(
    space: ConnectedSpace, of: tuple[str, Modality], mixed: Side, weights: Mapping[str, float]
) -> dict[str, float]:
    """Return the weights of the encoders beside the one that is swept, 1 in sum."""
    own = space.way_weights(of[1])
    names = [memory.encoder.name for memory in mixed[0] if memory.encoder.name != of[0]]
    if unknown := next((name for name in weights if name not in names), None):
        raise InputError(f"weight of {unknown}; expected one of {', '.join(names)}, which have what {of[0]} leaves")
    found = {name: weights.get(name, own.get(name, 1.0)) for name in names}
    if not (total := sum(found.values())):
        raise InputError(f"the weights of {', '.join(names)} sum to 0; expected one above 0")
    return {name: weight / total for name, weight in found.items()}


def _measured(subject: Subject, sides: tuple[Side, Side], mixed: Side, own: Sequence[Side]) -> list[tuple[str, Result]]:
    """Return what is measured at one share: the pairs, and those of the own space, whose names begin with ``own``."""
    opened = [(subject.gallery(memories, modality), modality) for memories, modality in sides]
    shared = opened[0] if sides[0] == mixed else opened[1]
    found: list[tuple[str, Result]] = [("", evaluate_memories(subject, *opened[0], *opened[1]).result)]
    for memories, modality in own:
        partner = subject.gallery(memories, modality)
        found.append(("own ", evaluate_memories(subject, *shared, partner, modality).result))
    return found
