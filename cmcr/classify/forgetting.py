"""What P does: one modality is learnt after the other, and the first is asked again."""

from __future__ import annotations

from dataclasses import dataclass, replace

from cmcr.classify.mla import Alternating, Mla
from cmcr.classify.network import Batch, Towers, new_towers
from cmcr.classify.settings import ClassifySettings
from cmcr.classify.table import Table
from cmcr.numbers.classification import accuracy


@dataclass(frozen=True)
class Forgetting:
    """Accuracies of the first modality before and after the second was learnt, and of the second."""

    before: float
    after: float
    second: float


def forgetting(train: Table, test: Table, settings: ClassifySettings, first: int, second: int) -> Forgetting:
    """Train all epochs on one modality, then all on another, with one head; P as the settings say.

    Args:
        train: Rows to learn from.
        test: Rows to measure on; each modality on those that have it.
        settings: Of the training.
        first: The channel that is learnt first.
        second: The channel that is learnt then.
    """
    towers = new_towers(train, settings)
    state, data = Alternating(towers, settings), Batch.of(train)
    state.train(data, [first])
    before = _alone(towers, test, first)
    state.train(data, [second])
    return Forgetting(before, _alone(towers, test, first), _alone(towers, test, second))


def _alone(towers: Towers, test: Table, m: int) -> float:
    """Return the accuracy of one modality through the shared head."""
    own = test.rows(test.present[:, m])
    present = own.present.copy()
    present[:] = False
    present[:, m] = True
    found = Mla(towers, dynamic=False).probabilities(replace(own, present=present))
    return accuracy(found.numpy(), own.labels)
