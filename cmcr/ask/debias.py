"""Take from each row of a gallery what it owes to lying near everything that is asked."""

from __future__ import annotations

from dataclasses import dataclass

from cmcr.memory import Memory
from cmcr.modality import Modality
from cmcr.search import Bias, Blocks, hub_biases, with_biases
from cmcr.settings import Setting
from cmcr.space import ConnectedSpace

K = Setting("debias k", int, 128, "Reference rows that count for a row.", positive=True)
ALPHA = Setting("debias alpha", float, 0.75, "What a row loses of their mean cosine.", positive=True, most=1)


@dataclass(frozen=True)
class Debias:
    """Against which rows a gallery is debiased, and how much (arXiv 2410.24114).

    >>> import numpy as np
    >>> from cmcr import ArrayMemory, ConnectedSpace, Modality
    >>> from cmcr.ask import Debias
    >>> from cmcr.space import Projector, ProjectorConfig, SpaceEncoder
    >>> eye = Projector(ProjectorConfig("identity", 2, 2))
    >>> space = ConnectedSpace({"one": SpaceEncoder("one", "", 2, (Modality.TEXT,))}, {"one": eye}, "text", "linear")
    >>> references = ArrayMemory("one", {"text": [[1, 0], [1, 0]]})
    >>> blocks, bias = Debias(references, Modality.TEXT, alpha=0.5).extend(space, lambda: [np.eye(2, dtype=np.float32)])
    >>> next(iter(blocks())).tolist(), bias.rows
    ([[1.0, 0.0, -0.5], [0.0, 1.0, -0.0]], 2)

    Attributes:
        memory: Of one of the space's encoders; rows like the queries, held in RAM (4 bytes a component) while biases
            are made.
        modality: Of its rows.
        k: How many of them count for a row of the gallery: those nearest to it; of fewer all.
        alpha: What the mean of their cosines is multiplied with.
    """

    memory: Memory
    modality: Modality
    k: int = K.default
    alpha: float = ALPHA.default

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            InputError: ``k`` or ``alpha`` is not above 0, or no finite number; or ``alpha`` is above 1.
        """
        object.__setattr__(self, "k", K.checked(self.k))
        object.__setattr__(self, "alpha", ALPHA.checked(self.alpha))

    def extend(self, space: ConnectedSpace, gallery: Blocks) -> tuple[Blocks, Bias]:
        """Return a gallery of the space with one more component, the bias of each row, and what it was made of.

        Raises:
            InputError: the memory or the space lacks the modality.
            ArtifactError: the memory does not belong to the space.
        """
        references = space.project(self.memory, modality=self.modality)
        biases = hub_biases(gallery(), references, self.k, self.alpha)
        fingerprint = self.memory.fingerprint(self.modality)
        bias = Bias(str(self.memory.path), fingerprint, self.modality.value, len(references), self.k, self.alpha)
        return with_biases(gallery, biases), bias
