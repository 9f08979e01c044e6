"""Turn items into memories: alone, shared by several processes, on a cluster, or from vectors made elsewhere."""

from typing import TYPE_CHECKING

from cmcr.lazy import lazily

if TYPE_CHECKING:
    from cmcr.embed.part import Part
    from cmcr.embed.ray import embed_on_ray
    from cmcr.embed.removal import Compaction, Removal, compact, remove_rows
    from cmcr.embed.run import EmbedReport, embed, kind_of
    from cmcr.embed.vectors import import_clip_retrieval, import_vectors

__all__ = [
    "Compaction",
    "EmbedReport",
    "Part",
    "Removal",
    "compact",
    "embed",
    "embed_on_ray",
    "import_clip_retrieval",
    "import_vectors",
    "kind_of",
    "remove_rows",
]

__getattr__ = lazily(
    __name__,
    {
        "part": ("Part",),
        "ray": ("embed_on_ray",),
        "removal": ("Compaction", "Removal", "compact", "remove_rows"),
        "run": ("EmbedReport", "embed", "kind_of"),
        "vectors": ("import_clip_retrieval", "import_vectors"),
    },
)
