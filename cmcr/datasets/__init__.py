"""Layouts of data sets: items, labels and boxes as their users have them."""

from typing import TYPE_CHECKING

from cmcr.lazy import lazily

if TYPE_CHECKING:
    from cmcr.datasets.class_lists import ClassList, read_class_list
    from cmcr.datasets.clips import read_clips
    from cmcr.datasets.labelled import Labelled, read_labelled
    from cmcr.datasets.labels import read_labels
    from cmcr.datasets.modelnet import MODELNET40

__all__ = [
    "MODELNET40",
    "ClassList",
    "Labelled",
    "read_class_list",
    "read_clips",
    "read_labelled",
    "read_labels",
]

__getattr__ = lazily(
    __name__,
    {
        "class_lists": ("ClassList", "read_class_list"),
        "clips": ("read_clips",),
        "labelled": ("Labelled", "read_labelled"),
        "labels": ("read_labels",),
        "modelnet": ("MODELNET40",),
    },
)
