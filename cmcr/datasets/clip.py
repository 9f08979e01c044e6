"""What a data set of clips is made of: things that belong together, and the set of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cmcr.datasets.boxes import Box
from cmcr.items import Item
from cmcr.modality import Modality


@dataclass(frozen=True, slots=True)
class Clip:
    """Things that belong together.

    Attributes:
        id: Unique within a data set; ``picture+sound`` where a list pairs two ids.
        parts: The items of each modality: one picture or the frames to average, one sound, one or several captions.
        label: Its class, or empty.
        boxes: Where the sound comes from, a tuple of boxes for each annotator.
        votes: Annotators that must agree on a pixel for it to count in full: the truth is
            min(1, sum over annotators of their mask / votes). One for VGG-SS, two for Flickr-SoundNet.
        sounding: Whether what sounds is said to be in the picture.
        problem: Why it cannot be used; a few reasons, the same for many clips, so that they can be counted.
        box_problem: Why its boxes cannot be used; the rest can.
    """

    id: str
    parts: Mapping[Modality, tuple[Item, ...]] = field(default_factory=dict)
    label: str = ""
    boxes: tuple[tuple[Box, ...], ...] = ()
    votes: int = 1
    sounding: bool = True
    problem: str | None = None
    box_problem: str | None = None

    @property
    def image(self) -> Item | None:
        """The picture; of several frames the middle one."""
        frames = self.parts.get(Modality.IMAGE, ())
        return frames[len(frames) // 2] if frames else None

    @property
    def audio(self) -> Item | None:
        """The sound."""
        return next(iter(self.parts.get(Modality.AUDIO, ())), None)


@dataclass(frozen=True, slots=True)
class Clips:
    """A data set.

    Attributes:
        name: Of its layout.
        clips: Usable and not, in the order of its list.
        expected: Clips that the protocol asks for.
        settings: What was chosen where the protocol leaves it open.
        notes: What a reader of a result must know.
    """

    name: str
    clips: tuple[Clip, ...]
    expected: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def usable(self) -> list[Clip]:
        """The clips without a problem."""
        return [clip for clip in self.clips if clip.problem is None]

    def reasons(self) -> dict[str, int]:
        """Return the problems with their counts, the most frequent first."""
        return dict(Counter(clip.problem for clip in self.clips if clip.problem).most_common())
