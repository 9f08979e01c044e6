"""Interactions: how much of what labels need is shared by two modalities, in one alone, or only in both together."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from cmcr.classify import Table, join_table
from cmcr.classify.run import notes_of
from cmcr.datasets import ClassList
from cmcr.errors import InputError
from cmcr.evaluate.interactions.choices import InteractionChoices
from cmcr.evaluate.interactions.measure import drawn, estimate, right
from cmcr.evaluate.interactions.probes import Fold, HeldOut, Numbers, hold_out
from cmcr.evaluate.interactions.rows import choose_rows
from cmcr.evaluate.result import Result
from cmcr.hooks import Progress, silent
from cmcr.memory import Memory
from cmcr.modality import Modality
from cmcr.numbers.decomposition import parts_of
from cmcr.numbers.gaussian_parts import gaussian_informations
from cmcr.numbers.products import Array, whiten
from cmcr.numbers.retrieval import bootstrap

Shares = dict[str, float]


@dataclass(frozen=True)
class LabelResult:
    """What was found of one label.

    >>> from cmcr.evaluate.interactions.interactions import LabelResult
    >>> share, low, high, floor = ({"shared": share} for share in (0.8, 0.7, 0.9, 0.0))
    >>> LabelResult(60, 2, 1.0, share, low, high, floor, floor, {}, {}).sure("shared")
    True

    Attributes:
        rows: That were measured, each held out.
        classes: How many.
        bits: Entropy of the label.
        shares: Of that entropy: shared, first, second, together, not found; they sum to 1.
        low: 95 % interval of each share, over the rows.
        high: See ``low``.
        shuffled: Mean shares with shuffled labels.
        floor: The largest share that any of these shuffles gave.
        accuracy: Of linear probes of first, second and both, and of all probes; each with its interval; and chance.
        gaussian: Bits of the four parts by the Gaussian estimate, less those of shuffled labels.
    """

    rows: int
    classes: int
    bits: float
    shares: Shares
    low: Shares
    high: Shares
    shuffled: Shares
    floor: Shares
    accuracy: Shares
    gaussian: Shares

    def sure(self, part: str) -> bool:
        """Tell whether a part is more than what shuffled labels give, by its interval."""
        return self.low[part] > self.floor[part]


@dataclass(frozen=True)
class InteractionsResult(Result):
    """What was measured; ``values`` has each label's shares with intervals, ``chance`` the largest of shuffled ones.

    Attributes:
        names: Of the first and the second modality.
        labels: By label.
    """

    names: tuple[str, str] = ("first", "second")
    labels: Mapping[str, LabelResult] = field(default_factory=dict)

    def title(self, part: str) -> str:
        """Return a part as a person reads it."""
        named = {"first": f"only {self.names[0]}", "second": f"only {self.names[1]}", "together": "only together"}
        return named.get(part, part)


def evaluate(
    sides: Sequence[tuple[Memory, Modality | str]],
    labels: Mapping[str, ClassList],
    choices: InteractionChoices,
    progress: Progress = silent,
) -> InteractionsResult:
    """Measure each label on the rows that have both modalities.

    Args:
        sides: Two memories, each with the modality that is taken of it; rows are joined by id.
        labels: By name, the class of each id, and the split where there is one.
        choices: How rows are held out, and how often all is done.
        progress: Told after every label.

    Raises:
        InputError: no id in both, too few rows, one class only, a class with one row, or a class that is only in the
            part that is measured on.
    """
    start = time.perf_counter()
    found, notes = {}, []
    for name, known in labels.items():
        table = join_table(sides, known.labels)
        notes += [*known.notes, *(f"{note}{' and were left out' * (' lack ' in note)}" for note in notes_of(table))]
        try:
            rows, folds, said = choose_rows(table, known.splits, choices)
            notes += said
            found[name] = _label(rows, folds, choices, name, notes)
        except InputError as error:
            raise InputError(f"labels {name!r}: {error}" if len(labels) > 1 else str(error)) from None
        progress(len(found), len(labels), name)
    parts = list(next(iter(found.values())).shares)
    return InteractionsResult(
        "interactions",
        {name: _flat(each) for name, each in found.items()},
        n=max(each.rows for each in found.values()),
        gallery=max(each.classes for each in found.values()),
        chance={part: max(each.floor[part] for each in found.values()) for part in parts},
        settings=asdict(choices) | {"split": any(known.splits for known in labels.values())},
        fingerprints={channel.name: channel.fingerprint for channel in table.channels},
        notes=tuple(dict.fromkeys(notes)),
        seconds=round(time.perf_counter() - start, 3),
        names=(table.channels[0].name, table.channels[1].name),
        labels=found,
    )


def _flat(label: LabelResult) -> Shares:
    ends = {f"{part} {end}": value for end in ("low", "high") for part, value in getattr(label, end).items()}
    return label.shares | ends | {"accuracy": label.accuracy["all"], "chance accuracy": label.accuracy["chance"]}


def _label(table: Table, folds: list[Fold], choices: InteractionChoices, name: str, notes: list[str]) -> LabelResult:
    rng = np.random.default_rng([choices.seed, 3])
    first, second = (np.asarray(each, np.float64) for each in table.vectors)
    shuffled = [rng.permutation(table.labels) for _ in range(choices.shuffles)]
    held, *floor = hold_out(first, second, [table.labels, *shuffled], len(table.classes), folds)
    found = estimate(held, choices.cells)
    if found.lost > 0.05 * found.entropy:
        notes.append(f"{name}: grouping predictions lost {found.lost:.2f} bits; what is shared may be more: --cells")
    draws = [drawn(held, found, rng).shares() for _ in range(choices.samples)]
    shares = found.shares()
    ends = {part: np.quantile([each[part] for each in draws], [0.025, 0.975]) for part in shares}
    floors = [estimate(each, choices.cells).shares() for each in floor]
    return LabelResult(
        rows=len(held.labels),
        classes=len(table.classes),
        bits=found.entropy,
        shares=shares,
        low={part: float(min(at[0], shares[part])) for part, at in ends.items()},
        high={part: float(max(at[1], shares[part])) for part, at in ends.items()},
        shuffled={part: float(np.mean([each[part] for each in floors])) for part in shares},
        floor={part: max(each[part] for each in floors) for part in shares},
        accuracy=_accuracies(held, choices),
        gaussian=_gaussian(first, second, [table.labels, *shuffled], len(table.classes), choices.components),
    )


def _accuracies(held: HeldOut, choices: InteractionChoices) -> Shares:
    found = {"chance": float(np.bincount(held.labels).max() / len(held.labels))}
    for name in ("first", "second", "both", "all"):
        hits = right(held, "both", True) if name == "all" else right(held, name, False)
        low, high = bootstrap(hits, samples=choices.samples, seed=choices.seed)
        found |= {name: float(hits.mean()), f"{name} low": low, f"{name} high": high}
    return found


def _gaussian(first: Array, second: Array, labels: Sequence[Numbers], classes: int, components: int) -> Shares:
    a, b = (whiten(each, components).of(each) for each in (first, second))
    true, *floor = (np.array(gaussian_informations(a, b, each, classes)) for each in labels)
    return parts_of(*(true - np.mean(floor, axis=0)).tolist())._asdict()
