"""What localisation and counterfactual recognition leave open: which pairs, where to look, and what the answer is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cmcr.errors import InputError
from cmcr.settings import Checked, setting

if TYPE_CHECKING:
    from cmcr.datasets.clips import Clips
    from cmcr.evaluate.localization.locate import Choices
    from cmcr.hooks import Progress

PROTOCOL = "What the protocol leaves open"
"""A panel of the help."""


@dataclass(frozen=True)
class Protocol(Checked):
    """How a data set is read, where in its pictures to look, and what is taken for the answer.

    >>> from cmcr.evaluate.localization.choices import Protocol
    >>> Protocol(shape="heat").proposals
    'grid'
    """

    listing: Path | None = setting(
        None, "SLAVC's *_test_plus_silent.csv. (default: the one in --data or its metadata/)", alias="list"
    )
    layout: Literal["vggss", "flickr"] | None = setting(
        None, "How the data set lies. (default: seen from what is there)"
    )
    split: Literal["test", "all"] = setting("test", "The test list, or of Flickr-SoundNet all that is annotated.")
    proposals: str = setting(
        "grid",
        "Where to look: grid (100 windows), fine-grid (324), selective-search (OpenCV), or a JSON file that gives "
        "each picture's id a list of boxes, x0 y0 x1 y1 in fractions.",
        panel=PROTOCOL,
    )
    limit: int = setting(200, "Boxes kept of a selective search, the largest.", positive=True, panel=PROTOCOL)
    shape: Literal["box", "heat"] = setting(
        "box",
        "The answer: the best box, or the upper half of the map of mean cosines, as the field's tables have it.",
        alias="map",
        panel=PROTOCOL,
    )
    confidence: Literal["best", "top-quarter"] = setting(
        "best",
        "That something sounds: the best cosine, or as SLAVC the mean over the greatest quarter of the map.",
        panel=PROTOCOL,
    )
    image_encoder: str | None = setting(
        None, "Embeds the pictures. (default: the space's first that can)", panel=PROTOCOL
    )
    audio_encoder: str | None = setting(
        None, "Embeds the sounds. (default: the space's first that can)", panel=PROTOCOL
    )

    def opened(self, folder: Path) -> Choices:
        """Return the choices with the proposals opened; found boxes are kept in ``folder``.

        Raises:
            InputError: unknown proposals, or a file of them that cannot be read.
        """
        from cmcr.evaluate.localization.locate import Choices
        from cmcr.evaluate.localization.proposals import open_proposals

        proposals = open_proposals(self.proposals, self.limit, keep=folder / "proposals")
        return Choices(proposals, self.shape, self.confidence, self.image_encoder, self.audio_encoder)

    def read(self, data: Path, unpack: Path, progress: Progress, *, extended: bool = False) -> Clips:
        """Return the clips of a data set; ``extended``: of SLAVC's list, in which half the pairs do not sound.

        Raises:
            InputError: the data set cannot be read, or there is no one extended list.
        """
        from cmcr.datasets import read_clips

        listing = (self.listing or _extended_list(data)) if extended else None
        return read_clips(data, self.layout, unpack=unpack, split=self.split, listing=listing, progress=progress)


def _extended_list(data: Path) -> Path:
    folders = (data, data / "metadata", data / "data")
    found = [path for folder in folders for path in sorted(folder.glob("*_test_plus_silent.csv"))]
    if len(found) != 1:
        looked = f"{data}: {len(found)} lists named *_test_plus_silent.csv in it, its metadata/ and data/"
        raise InputError(f"{looked}; give the one to use with --list FILE")
    return found[0]
