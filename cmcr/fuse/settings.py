"""What fusing leaves open: every setting a keyword and a flag of the same name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cmcr.errors import InputError
from cmcr.settings import Checked, setting

TRAINING, VIEWS = "How it is trained", "Views"
"""Panels of the help."""

Objective = Literal["comm", "cross", "cross-self", "concatenation"]


HEADS = 8
"""Of the attention."""


@dataclass(frozen=True)
class FuseSettings(Checked):
    """The settings of CoMM (arXiv 2409.07402) and of what it is compared with.

    >>> from cmcr.fuse import FuseSettings
    >>> FuseSettings(epochs=5, unimodal=False).tau
    0.1
    """

    objective: Objective = setting(
        "comm",
        "comm: two views of the fused vector; cross: between modalities; cross-self: and between views of each; "
        "concatenation: side by side, trains nothing.",
        panel=TRAINING,
    )
    epochs: int = setting(50, "Passes over the rows that have two or more modalities.", positive=True, panel=TRAINING)
    batch: int = setting(64, "Rows of a step.", positive=True, panel=TRAINING)
    width: int = setting(
        256, "Components of tokens and of the fused vector; a multiple of 8.", positive=True, panel=TRAINING
    )
    layers: int = setting(1, "Of the transformer.", positive=True, panel=TRAINING)
    lr: float = setting(1e-3, "Learning rate of AdamW, falling to 0 along a cosine.", positive=True, panel=TRAINING)
    weight_decay: float = setting(1e-2, "Of AdamW.", panel=TRAINING)
    tau: float = setting(0.1, "Temperature.", positive=True, panel=TRAINING)
    unimodal: bool = setting(True, "Of comm: contrast each modality alone with all, too.", panel=TRAINING)
    fused: bool = setting(True, "Of comm: contrast two views of all modalities.", panel=TRAINING)
    seed: int = setting(0, "Of initial weights, batches and views.", panel=TRAINING)
    views: Literal["auto", "noise"] = setting(
        "auto", "auto: those that the memories hold, and noise where they hold none; noise: noise alone.", panel=VIEWS
    )
    noise: float = setting(0.3, "Length of the noise that makes a view, over that of the vector.", panel=VIEWS)
    drop: float = setting(0.2, "Share of components that such a view has lost.", below=1, panel=VIEWS)

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            InputError: another type, or outside of its choices or its range; or nothing is left to contrast.
        """
        super().__post_init__()
        if self.width % HEADS:
            raise InputError(f"width {self.width}; expected a multiple of {HEADS}")
        if self.objective == "comm" and not (self.unimodal or self.fused):
            raise InputError("neither unimodal nor fused; expected one of the two, for nothing else is contrasted")
