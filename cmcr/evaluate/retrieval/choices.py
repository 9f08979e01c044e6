"""What retrieval over a data set leaves open: which part of it, which two modalities, and who embeds them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cmcr.settings import Checked, setting

DATA = "A data set"
"""A panel of the help."""


@dataclass(frozen=True)
class Choices(Checked):
    """How a data set of pairs is read and asked.

    >>> from cmcr.evaluate.retrieval.choices import Choices
    >>> Choices(split="val").frames
    'middle'
    """

    layout: Literal["ave", "vggss", "flickr", "vggsound-av", "pairs"] | None = setting(
        None, "How the data set lies. (default: seen from what is there)", panel=DATA
    )
    split: Literal["test", "val", "train", "all"] = setting("test", "Which part of it.", panel=DATA)
    frames: str = setting(
        "middle",
        "Which frame of a video: middle; mean:N, the mean of N evenly spaced ones; event, the middle of what "
        "AVE annotates.",
        panel=DATA,
    )
    modalities: str | None = setting(None, "Which two, e.g. image,text. (default: the only two there are)", panel=DATA)
    encoder: list[str] | None = setting(
        None, "Who embeds what several encoders of the space can. (default: the first)", panel=DATA
    )
    up: Literal["y", "z"] | None = setting(
        None, "The axis that points up in point clouds. (default: as the encoder expects)", panel=DATA
    )
