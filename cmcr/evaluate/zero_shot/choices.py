"""What a zero-shot classification leaves open, and the preset of ModelNet40 as ULIP measures it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from cmcr.settings import Checked, setting

DATA, PROTOCOL = "The data set", "What the protocol leaves open"
"""Panels of the help."""


@dataclass(frozen=True)
class Choices(Checked):
    """How a data set is read, what its classes are called, and who embeds what.

    Attributes:
        preset: The data set that is measured whatever its folder is called; empty: any.

    >>> from cmcr.evaluate.zero_shot.choices import Choices, ModelNet40
    >>> Choices(points=1024).order, ModelNet40().points
    ('both', 8192)
    """

    preset: ClassVar[str] = ""

    layout: str | None = setting(
        None,
        "modelnet40, modelnet10, princeton, ulip-dat, h5, esc50, manifest or folders. (default: as recognised)",
        panel=DATA,
    )
    split: str | None = setting(None, "Which part. (default: test where there are parts)", panel=DATA)
    names: Path | None = setting(None, "Class names in the order of their numbers, one a line.", panel=DATA)
    points: int = setting(0, "Farthest points kept of each cloud; 0: as it is.", panel=PROTOCOL)
    up: Literal["y", "z"] | None = setting(
        None,
        "The axis that points up in the clouds. (default: z for Princeton's meshes, else as the encoder expects)",
        panel=PROTOCOL,
    )
    templates: str | None = setting(
        None,
        "imagenet (open_clip's), sound, plain, or a file: lines, or JSON as ULIP's. "
        "(default: sound for sounds, else imagenet)",
        panel=PROTOCOL,
    )
    template_set: str | None = setting(
        None, "Which list of a JSON file. (default: the one named after the data)", panel=PROTOCOL
    )
    labels: Path | None = setting(
        None, "What the classes are called: lines, or JSON as ULIP's labels.json.", panel=PROTOCOL
    )
    order: Literal["both", "project-first", "average-first"] = setting(
        "both", "Whether phrases are projected or averaged first.", panel=PROTOCOL
    )
    encoder: str | None = setting(None, "Embeds the items. (default: the space's first that can)", panel=PROTOCOL)
    text_encoder: str | None = setting(
        None, "Embeds the phrases. (default: the space's first that can)", panel=PROTOCOL
    )
    ladder: bool = setting(False, "Also ask the items' encoder alone, with its own text tower.")


@dataclass(frozen=True)
class ModelNet40(Choices):
    """ModelNet40 as ULIP measures it: 8,192 points, a number of its test script; C-MCR's own is not published."""

    preset = "modelnet40"

    points: int = setting(8192, "Farthest points kept of each cloud; 0: as it is.", panel=PROTOCOL)
    templates: str | None = setting(
        "imagenet", "imagenet (open_clip's), plain, or a file: lines, or JSON as ULIP's.", panel=PROTOCOL
    )
