"""Connect memories through what they share: join, pair, fit by a method, measure, save a space."""

from typing import TYPE_CHECKING

from cmcr.lazy import lazily

if TYPE_CHECKING:
    from cmcr.connect.config import ConnectConfig
    from cmcr.connect.fitted import Fitted, measured
    from cmcr.connect.link import Connection
    from cmcr.connect.methods.base import Method, Objective, Trained
    from cmcr.connect.run import connect, follow
    from cmcr.connect.settings import Training
    from cmcr.connect.train import new_projectors

__all__ = [
    "ConnectConfig",
    "Connection",
    "Fitted",
    "Method",
    "Objective",
    "Trained",
    "Training",
    "connect",
    "follow",
    "measured",
    "new_projectors",
]

__getattr__ = lazily(
    __name__,
    {
        "config": ("ConnectConfig",),
        "fitted": ("Fitted", "measured"),
        "methods.base": ("Method", "Objective", "Trained"),
        "link": ("Connection",),
        "run": ("connect", "follow"),
        "settings": ("Training",),
        "train": ("new_projectors",),
    },
)
