"""Connected spaces: which encoder goes through which map, as a folder a person can open and share."""

from typing import TYPE_CHECKING

from cmcr.lazy import lazily

if TYPE_CHECKING:
    from cmcr.space.card import About, measured_table, shapes_of
    from cmcr.space.config import read_config
    from cmcr.space.heads.read import import_heads
    from cmcr.space.join import join_spaces
    from cmcr.space.parts import Link, Router, SpaceEncoder, Way
    from cmcr.space.projector import Projector, ProjectorConfig, Route, initialise, with_centers
    from cmcr.space.space import ConnectedSpace

__all__ = [
    "About",
    "ConnectedSpace",
    "Link",
    "Projector",
    "ProjectorConfig",
    "Route",
    "Router",
    "SpaceEncoder",
    "Way",
    "import_heads",
    "initialise",
    "join_spaces",
    "measured_table",
    "read_config",
    "shapes_of",
    "with_centers",
]

__getattr__ = lazily(
    __name__,
    {
        "card": ("About", "measured_table", "shapes_of"),
        "config": ("read_config",),
        "heads.read": ("import_heads",),
        "join": ("join_spaces",),
        "parts": ("Link", "Router", "SpaceEncoder", "Way"),
        "projector": ("Projector", "ProjectorConfig", "Route", "initialise", "with_centers"),
        "space": ("ConnectedSpace",),
    },
)
