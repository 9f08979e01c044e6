"""What an evaluation of interactions leaves open: how rows are held out, and how often they are drawn anew."""

from __future__ import annotations

from dataclasses import dataclass

from cmcr.settings import Checked, setting


@dataclass(frozen=True)
class InteractionChoices(Checked):
    """The choices of ``cmcr eval interactions``.

    >>> from cmcr.evaluate.interactions.choices import InteractionChoices
    >>> InteractionChoices().folds
    5
    """

    folds: int = setting(5, "Parts of the rows, each held out once, where the labels have no split.", positive=True)
    shuffles: int = setting(3, "How often all of it is done with shuffled labels: what chance finds.", positive=True)
    samples: int = setting(100, "Draws of rows for the 95 % intervals.", positive=True)
    cells: int = setting(48, "Groups that each modality's rows are put into where sharing is computed.", positive=True)
    components: int = setting(16, "Components of each modality in the Gaussian estimate.", positive=True)
    rows: int = setting(5000, "Most rows that are used, drawn at random.", positive=True)
    seed: int = setting(0, "Of all that is drawn.")
