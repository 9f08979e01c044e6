"""Point clouds and meshes: bytes of a stranger -> points; what is wrong becomes an ItemError."""

from typing import TYPE_CHECKING

from cmcr.lazy import lazily

if TYPE_CHECKING:
    from cmcr.shapes.clouds import MAX_POINTS, read_point_cloud

__all__ = [
    "MAX_POINTS",
    "read_point_cloud",
]

__getattr__ = lazily(
    __name__,
    {
        "clouds": ("MAX_POINTS", "read_point_cloud"),
    },
)
