"""Classify rows of several memories by their labels, where some lack a modality: MLA, and what it is set beside."""

from typing import TYPE_CHECKING

from cmcr.lazy import lazily

if TYPE_CHECKING:
    from cmcr.classify.model import Classifier, Predictions
    from cmcr.classify.settings import ClassifySettings
    from cmcr.classify.table import Channel, Table, join_table

__all__ = ["Channel", "Classifier", "ClassifySettings", "Predictions", "Table", "join_table"]

__getattr__ = lazily(
    __name__,
    {
        "model": ("Classifier", "Predictions"),
        "settings": ("ClassifySettings",),
        "table": ("Channel", "Table", "join_table"),
    },
)
