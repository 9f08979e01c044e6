"""Fuse rows of several memories into one vector each: CoMM, and what it is set beside."""

from typing import TYPE_CHECKING

from cmcr.lazy import lazily

if TYPE_CHECKING:
    from cmcr.fuse.model import Fuser
    from cmcr.fuse.rows import Rows, join_rows
    from cmcr.fuse.run import Fused, fuse, fuse_with
    from cmcr.fuse.settings import FuseSettings

__all__ = ["FuseSettings", "Fused", "Fuser", "Rows", "fuse", "fuse_with", "join_rows"]

__getattr__ = lazily(
    __name__,
    {
        "model": ("Fuser",),
        "rows": ("Rows", "join_rows"),
        "run": ("Fused", "fuse", "fuse_with"),
        "settings": ("FuseSettings",),
    },
)
