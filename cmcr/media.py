"""Decode untrusted bytes: pictures, sounds, point clouds. Whatever is wrong with them becomes an ItemError."""

from cmcr.decode.clouds import MAX_POINTS, MESHES, SURFACE_POINTS, TEXT_CLOUDS, read_point_cloud
from cmcr.decode.images import LONGEST, MAX_PIXELS, cut_ends, read_image
from cmcr.decode.sounds import MAX_SECONDS, read_audio

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
