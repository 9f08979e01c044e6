"""Vectors that their encoder never made: which other encoder's they were, and what follows for whoever mixes them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cmcr.errors import ArtifactError

if TYPE_CHECKING:
    from cmcr.memory.manifest import Manifest
    from cmcr.memory.memory import Memory


@dataclass(frozen=True, slots=True)
class Translated:
    """How the rows of a modality came into the space of an encoder that never saw the items.

    >>> from cmcr.memory import Translated
    >>> print(Translated("old-clip", "9f2c0b7a", "5d31", "linear", 500, 0.96, 25))
    from old-clip (9f2c0b7a) by linear, fitted on 500 rows; recall@1 0.960 of 25 held out

    Attributes:
        encoder: Whose vectors they were.
        fingerprint: Of that encoder.
        space: Fingerprint of the space whose map was used.
        method: By which the map was fitted.
        fitted_on: Rows that both encoders had embedded.
        recall: Share of held-out ones whose translated vector is nearest to their own embedded one; None: not measured.
        held_out: How many were held out.
    """

    encoder: str
    fingerprint: str
    space: str
    method: str
    fitted_on: int
    recall: float | None = None
    held_out: int = 0

    def __str__(self) -> str:
        measured = "not measured" if self.recall is None else f"recall@1 {self.recall:.3f} of {self.held_out} held out"
        origin = f"from {self.encoder} ({self.fingerprint[:12]}) by {self.method}"
        fitted = f", fitted on {self.fitted_on} rows" if self.fitted_on else ""
        return f"{origin}{fitted}; {measured}"


def translation_notes(*memories: Memory) -> tuple[str, ...]:
    """Return a sentence for each modality of the memories whose vectors were translated."""
    return tuple(
        f"{memory.path}: {modality} vectors were translated from {each.encoder}, not embedded by {memory.encoder.name}"
        for memory in memories
        for modality, each in memory.manifest.translated.items()
    )


def refuse_embedded(folder: Path, manifest: Manifest) -> None:
    """Refuse to put embedded vectors beside translated ones, for nothing would tell them apart.

    Raises:
        ArtifactError: the memory holds translated vectors.
    """
    for modality, each in manifest.translated.items():
        raise ArtifactError(
            f"{folder}: its {modality} vectors were translated from {each.encoder}; what {manifest.encoder.name} "
            "embeds goes into a memory of its own: choose another folder"
        )
