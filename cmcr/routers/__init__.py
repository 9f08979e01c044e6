"""Routers: how much each encoder's view of an item counts, learned from memories that hold no pair (OmniBind)."""

from typing import TYPE_CHECKING

from cmcr.lazy import lazily

if TYPE_CHECKING:
    from cmcr.routers.config import RouterConfig
    from cmcr.routers.run import Weighed, train_routers

__all__ = ["RouterConfig", "Weighed", "train_routers"]

__getattr__ = lazily(__name__, {"config": ("RouterConfig",), "run": ("Weighed", "train_routers")})
