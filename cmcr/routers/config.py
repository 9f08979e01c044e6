"""The recipe of routers: every setting as a keyword and a flag of the same name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cmcr.settings import Checked, setting

HIDDEN = (512, 100)
"""Widths of the hidden layers of OmniBind's routers (its published code)."""


@dataclass(frozen=True)
class RouterConfig(Checked):
    """How routers are trained. Sizes and scales are those of OmniBind's code; the rest is not published.

    >>> from cmcr.routers import RouterConfig
    >>> RouterConfig(epochs=5).layers
    (512, 100)
    """

    pseudo: Literal["items", "embeddings"] = setting(
        "items", "Pseudo pairs of whole rows that a specialist retrieves, or of means of rows."
    )
    hidden: list[int] | None = setting(None, "Width of a hidden layer; may be repeated. (default: 512, then 100)")
    scale: float = setting(1.0, "Of the gates before the softmax: how far weights can be apart.", positive=True)
    text_scale: float = setting(10.0, "Likewise, of the router of texts.", positive=True)
    language: float = setting(1.0, "Weight of the term by which a text prefers the encoder it was written for.")
    written_for: list[str] | None = setting(
        None, "Whom texts were written for: ENCODER=PATTERN of their sources, such as tiny-clap=*sounds*."
    )
    tau: float = setting(0.05, "Temperature of the contrastive loss.", positive=True)
    tau_memory: float = setting(0.01, "Temperature of the means, for --pseudo embeddings.", positive=True)
    rows: int = setting(5000, "Rows a modality that are looked at; more are sampled.", positive=True)
    epochs: int = setting(20, "Passes over the pseudo items.", positive=True)
    batch_size: int = setting(512, "Pseudo items a step.", positive=True)
    lr: float = setting(1e-3, "Learning rate, falling to 0 as a cosine.", positive=True)
    seed: int = setting(0, "Of the samples, the first weights and the batches.")

    @property
    def layers(self) -> tuple[int, ...]:
        """Widths of the hidden layers."""
        return HIDDEN if self.hidden is None else tuple(self.hidden)
