"""Decode pictures, sounds and point clouds: another name of ``cmcr.decode``."""

from cmcr.decode import LONGEST, MAX_PIXELS, MAX_SECONDS, cut_ends, read_audio, read_image
from cmcr.shapes import MAX_POINTS, read_point_cloud
from cmcr.shapes.clouds import MESHES, SURFACE_POINTS, TEXT_CLOUDS

__all__ = [
    "LONGEST",
    "MAX_PIXELS",
    "MAX_POINTS",
    "MAX_SECONDS",
    "MESHES",
    "SURFACE_POINTS",
    "TEXT_CLOUDS",
    "cut_ends",
    "read_audio",
    "read_image",
    "read_point_cloud",
]
