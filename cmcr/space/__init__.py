"""Connected spaces: which encoder goes through which map, as a folder a person can open and share."""

from typing import TYPE_CHECKING

from cmcr.lazy import lazily

if TYPE_CHECKING:
    from cmcr.space.card import measured_table
    from cmcr.space.config import read_config
    from cmcr.space.heads import import_heads
    from cmcr.space.projector import Projector, ProjectorConfig, Route, initialise, turned, with_centers
    from cmcr.space.space import ConnectedSpace

__all__ = [
    "ConnectedSpace",
    "Projector",
    "ProjectorConfig",
    "Route",
    "import_heads",
    "initialise",
    "measured_table",
    "read_config",
    "turned",
    "with_centers",
]

__getattr__ = lazily(
    __name__,
    {
        "card": ("measured_table",),
        "config": ("read_config",),
        "heads": ("import_heads",),
        "projector": ("Projector", "ProjectorConfig", "Route", "initialise", "turned", "with_centers"),
        "space": ("ConnectedSpace",),
    },
)
