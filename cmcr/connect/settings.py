"""Settings that several methods have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cmcr.settings import setting


def top_k(pairing: str) -> int:
    """Return K of ``topk:K``, 0 for another pairing."""
    prefix, _, count = pairing.partition(":")
    return int(count) if prefix == "topk" and count.isdecimal() and len(count) < 10 else 0


def _pairing(value: str) -> str:
    return "" if value in ("full", "none") or top_k(value) else "full, none or topk:K with K of 1 or more"


@dataclass(frozen=True)
class Shared:
    """Settings of every method."""

    precision: Literal["auto", "bf16", "fp32"] = setting(
        "auto", "Matrix products of pairing and training; sums and weights stay float32. auto: bf16 where the hardware "
        "has it.",
    )  # fmt: skip
    seed: int = setting(0, "Seed of split, initialisation, order and noise.", most=1 << 43)
    val_fraction: float = setting(
        0.05, "Share of the overlap held out to measure on, and to pick the checkpoint.", positive=True, below=1
    )
    pairing: str = setting(
        "full", "Recall by the full softmax over a memory, by its nearest rows (topk:K), or none.", check=_pairing
    )
    tau_memory: float = setting(0.01, "Temperature of the softmax over a memory (tau1).", positive=True)


@dataclass(frozen=True)
class Loop:
    """Settings of every method that trains by batches: the loop's."""

    hidden: int = setting(0, "Hidden width of the projectors; 0: twice the components they make.", most=1 << 18)
    epochs: int = setting(36, "Passes over the overlap.", positive=True, most=1_000_000)
    batch_size: int = setting(0, "Rows a step; 0: 10240, halved until --min-steps fit.")
    min_steps: int = setting(1000, "Fewest steps of the automatic batch.", positive=True)
    lr: float = setting(1e-3, "Peak learning rate of AdamW; a cosine takes it to 0.", positive=True)
    weight_decay: float = setting(0.01, "Weight decay of AdamW.")


@dataclass(frozen=True)
class Training(Loop):
    """Settings of methods that train a projector a side: the loop's, and its projectors'.

    >>> from cmcr.connect import Training
    >>> Training().epochs, Training().lr
    (36, 0.001)
    """

    projector: Literal["mlp", "half-mlp", "linear"] = setting("mlp", "Layers of the projectors.")
    dim: int = setting(0, "Components of the space; 0: the larger input's.", most=1 << 16)
    init: Literal["default", "xavier", "identity"] = setting("default", "Initial weights; default: PyTorch's rule.")


@dataclass(frozen=True)
class PairLosses(Training):
    """Settings of methods that train on overlap rows and on what the memories recall for them."""

    tau: float = setting(0.01, "Temperature of the overlap loss (tau2).", positive=True)
    tau_pseudo: float = setting(0.0, "Temperature of the pseudo loss (tau3); 0: --tau.")
    noise: float = setting(0.004, "Variance per component of the Gaussian completion.")
    overlap_weight: float = setting(1.0, "Weight of the overlap loss (L_ttc).")
    pseudo_weight: float = setting(1.0, "Weight of the pseudo loss (L_avc).")


@dataclass(frozen=True)
class Routing:
    """Settings of methods that route vectors through the overlap rows near them."""

    route_tau: float = setting(0.1, "Temperature of routing.", positive=True)
    route_top_k: int = setting(300, "Overlap rows a vector is routed through; 0: all.")


@dataclass(frozen=True)
class Steps:
    """Settings of methods that train on a few pairs by steps.

    >>> from cmcr.connect.settings import Steps
    >>> Steps().steps
    300
    """

    projector: Literal["mlp", "half-mlp", "linear"] = setting("linear", "Layers of the projectors.")
    dim: int = setting(256, "Components of the space; 0: the larger input's.", most=1 << 16)
    steps: int = setting(300, "Steps of training.", positive=True, most=1_000_000)
    pair_batch: int = setting(256, "Known pairs a step, at most.", positive=True, most=1 << 16)
    lr: float = setting(1e-3, "Peak learning rate of AdamW; a cosine takes it to 0.", positive=True)
    weight_decay: float = setting(0.05, "Weight decay of AdamW.")
