"""Arrays in, numbers out: recall, localisation, geometry and significance."""

from typing import TYPE_CHECKING

from cmcr.lazy import lazily

if TYPE_CHECKING:
    from cmcr.numbers.geometry import alignment, effective_rank, hubness, uniformity
    from cmcr.numbers.losses import info_nce, inter_loss, intra_loss, soft_info_nce
    from cmcr.numbers.retrieval import Array, Rows, bootstrap, chance_recall, cosine, modality_gap, ranks, recall_at
    from cmcr.numbers.significance import difference_interval, holm, mcnemar, permutation_test

__all__ = [
    "Array",
    "Rows",
    "alignment",
    "bootstrap",
    "chance_recall",
    "cosine",
    "difference_interval",
    "effective_rank",
    "holm",
    "hubness",
    "info_nce",
    "inter_loss",
    "intra_loss",
    "mcnemar",
    "modality_gap",
    "permutation_test",
    "ranks",
    "recall_at",
    "soft_info_nce",
    "uniformity",
]

__getattr__ = lazily(
    __name__,
    {
        "geometry": ("alignment", "effective_rank", "hubness", "uniformity"),
        "losses": ("info_nce", "inter_loss", "intra_loss", "soft_info_nce"),
        "retrieval": ("Array", "Rows", "bootstrap", "chance_recall", "cosine", "modality_gap", "ranks", "recall_at"),
        "significance": ("difference_interval", "holm", "mcnemar", "permutation_test"),
    },
)
