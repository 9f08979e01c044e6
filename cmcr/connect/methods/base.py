"""What a method is, and what one that trains gives the training loop. Both may come from another package."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    import numpy as np
    import torch

    from cmcr.connect.config import ConnectConfig
    from cmcr.connect.fitted import Fitted
    from cmcr.connect.pairs import Pairs
    from cmcr.connect.validation import Figures, Validation
    from cmcr.hooks import Log, Progress
    from cmcr.memory.overlap import Side
    from cmcr.ranks import Ranks
    from cmcr.space import Projector

    Maps = tuple[Projector, Projector]


class Objective(Protocol):
    """What a method that trains gives the loop, which knows nothing else of it.

    >>> import numpy as np
    >>> from cmcr import ConnectConfig
    >>> from cmcr.connect.methods.c_mcr import CMcrObjective
    >>> from cmcr.connect.pairs import Pairs
    >>> objective = CMcrObjective(Pairs(np.eye(8), np.eye(8)), ConnectConfig(), "cpu")
    >>> objective.batch(np.array([1, 5]), np.random.default_rng(0)).overlap_a.shape
    torch.Size([2, 8])

    Attributes:
        keeps_last: The last epoch is kept, instead of the one that measures best on held-out overlap.

    docs/extending.md has one of a package's own, run by the tests.
    """

    keeps_last: bool = False

    def maps(self) -> Maps:
        """Return new maps, one a side, the same at each call; one without weights (``identity``) stays as it is."""
        ...

    def batch(self, rows: np.ndarray, generator: np.random.Generator) -> Any:
        """Return what a step sees of some overlap rows; called in a thread of its own, ahead of the step.

        Args:
            rows: (B,) ascending row numbers of the pairs; with several processes this one's share.
            generator: Where further draws come from: seeded by the recipe and the step.
        """
        ...

    def loss(self, maps: Maps, batch: Any, noise: torch.Generator, ranks: Ranks) -> torch.Tensor:
        """Return the loss of a batch, a scalar with a gradient; noise is drawn from ``noise`` alone."""
        ...

    def finish(self, maps: Maps) -> Maps:
        """Return the maps of the space, made of the trained ones (on the CPU, in eval mode)."""
        return maps

    def figures(self) -> Figures:
        """Return what is told of the run beside its measures."""
        return {}

    def notes(self) -> tuple[str, ...]:
        """Return what the user should know of the run, one sentence each."""
        return ()


@dataclass(frozen=True)
class NoSettings:
    """The settings of a method without any of its own."""


class Method:
    """One way to connect; the first line of its docstring is what ``--help`` says of it.

    Attributes:
        Settings: The dataclass of its settings, each a ``cmcr.connect.settings.setting``.
        trains: Whether it trains in batches of the overlap.
        tries: Methods it chooses from.
        one_sided: Whether it maps the second side into the space of the first alone, whose vectors may then stay as
            they are (``--freeze-base``): its first map is the identity where ``validation.sides[0].frozen``.
        uses_pairs: Whether it learns from pairs of rows that are known to belong together (``validation.given``).
        keeps_base: Whether the first side's vectors always stay as they are, asked for or not.
        along: Makes the objective of the processes that train along with rank 0; None where that trains alone.

    >>> from cmcr.connect import Method
    >>> class Nothing(Method):
    ...     "fits nothing."
    >>> Nothing().summary(), Nothing().trains
    ('fits nothing', False)
    """

    Settings: ClassVar[type] = NoSettings
    trains: ClassVar[bool] = False
    tries: ClassVar[tuple[str, ...]] = ()
    one_sided: ClassVar[bool] = False
    uses_pairs: ClassVar[bool] = False
    keeps_base: ClassVar[bool] = False
    along: Callable[[Pairs, ConnectConfig, str], Objective] | None = None

    def summary(self) -> str:
        """Return what ``--help`` says of it."""
        return (self.__doc__ or "").strip().split("\n")[0].rstrip(".")

    def resolve(self, config: ConnectConfig, sides: list[Side]) -> tuple[ConnectConfig, tuple[str, ...]]:
        """Return the recipe that these memories are connected by, and notes on it.

        Raises:
            InputError: the recipe does not fit the memories.
        """
        return config, ()

    def recalls(self, validation: Validation) -> bool:
        """Tell whether what the memories recall is needed for all overlap rows, and not only for measured ones."""
        return self.trains

    def fit(self, validation: Validation, folder: Path, progress: Progress, log: Log) -> Fitted:
        """Fit maps to the training rows of a connection; ``fitted.measured`` measures them.

        Args:
            validation: The pairs, the memories and the recipe.
            folder: For what a stopped run goes on from.
            progress: Called as work proceeds.
            log: Called with each record.
        """
        raise NotImplementedError


class Trained(Method):
    """A method that trains by the loop: it gives its objective.

    >>> from cmcr.connect import Trained
    >>> from cmcr.connect.methods import load_method
    >>> [isinstance(load_method(name), Trained) for name in ("c-mcr", "linear")]
    [True, False]
    """

    trains = True

    def objective(self, validation: Validation, folder: Path, progress: Progress) -> Objective:
        """Return what is trained by; what takes long to make is kept in ``folder``."""
        raise NotImplementedError

    def fit(self, validation: Validation, folder: Path, progress: Progress, log: Log) -> Fitted:
        """Train by the objective, and measure what it made of the maps."""
        from cmcr.connect.fitted import train

        return train(self, validation, folder, progress, log)
