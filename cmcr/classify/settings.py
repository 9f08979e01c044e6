"""What a classifier of several modalities leaves open: every setting a keyword and a flag of the same name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cmcr.settings import Checked, setting

TRAINING = "How it is trained"
"""A panel of the help."""


@dataclass(frozen=True)
class ClassifySettings(Checked):
    """The settings of MLA and of what it is compared with.

    >>> from cmcr.classify import ClassifySettings
    >>> ClassifySettings(epochs=5, project=False).width
    128
    """

    epochs: int = setting(40, "Passes over the training rows.", positive=True, panel=TRAINING)
    batch: int = setting(64, "Rows of a step.", positive=True, panel=TRAINING)
    width: int = setting(128, "Components of the features that all modalities share.", positive=True, panel=TRAINING)
    lr: float = setting(0.05, "Learning rate of SGD; a tenth of it for the last 30 % of the epochs.", panel=TRAINING)
    momentum: float = setting(0.9, "Of SGD.", below=1, panel=TRAINING)
    weight_decay: float = setting(1e-4, "Of everything but the shared head.", panel=TRAINING)
    alpha: float = setting(0.1, "Keeps the denominator of P's update above 0.", positive=True, panel=TRAINING)
    anneal_alpha: bool = setting(
        False, "Let alpha fall to a tenth of itself in each epoch, as the authors' code does.", panel=TRAINING
    )
    project: bool = setting(True, "Multiply the head's gradient by P.", panel=TRAINING)
    dynamic: bool = setting(True, "Weigh modalities by the entropy of their predictions, else equally.", panel=TRAINING)
    order: Literal["given", "reversed"] = setting(
        "given", "In which the modalities of a batch are trained.", panel=TRAINING
    )
    seed: int = setting(0, "Of initial weights, of batches, and of the rows held out.", panel=TRAINING)
