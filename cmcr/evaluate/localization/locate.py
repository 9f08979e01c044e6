"""Sound source localisation: which part of a picture sounds? VGG-SS and Flickr-SoundNet, cIoU@0.5 and AUC.

Protocol: boxes are proposed without listening; each is cut out of its picture and embedded as a picture, the sound as a
sound; the box of greatest cosine is the answer. Its mask (``box``), or the upper half of the map of mean cosines
(``heat``), is compared with the annotators' boxes on 224 x 224 pixels.
"""

from __future__ import annotations

import time
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from cmcr.ask import Subject
from cmcr.errors import InputError
from cmcr.evaluate.localization.crops import Pictures
from cmcr.evaluate.localization.proposals import CROP_SIDE, Proposals
from cmcr.evaluate.result import Result
from cmcr.hooks import Progress, silent
from cmcr.items import Inputs, Item
from cmcr.modality import Modality
from cmcr.numbers import bootstrap, cosine
from cmcr.numbers import localization as measured

if TYPE_CHECKING:
    from cmcr.datasets.clips import Clip, Clips

Shape = Literal["box", "heat"]
Confidence = Literal["best", "top-quarter"]

CENTRE = (*[(1 - 0.5**0.5) / 2] * 2, *[(1 + 0.5**0.5) / 2] * 2)
"""The box in the middle that covers half of the picture."""
WHOLE = (0.0, 0.0, 1.0, 1.0)
BOX_NOTE = (
    "a box is compared as it is; the field's tables binarise heat maps at their median, which makes half of every "
    "picture the answer (--map heat), so the two are not one scale"
)


@dataclass(frozen=True)
class Choices:
    """What the protocol leaves open.

    Attributes:
        proposals: Where in a picture to look.
        shape: What is taken for the source: the best ``box``, or the upper half of a ``heat`` map of mean cosines.
        confidence: That something sounds: the ``best`` cosine, or the mean over the ``top-quarter`` of that map.
        image_encoder: Embeds the pictures; the subject's first that can when left out.
        audio_encoder: Embeds the sounds.
    """

    proposals: Proposals
    shape: Shape = "box"
    confidence: Confidence = "best"
    image_encoder: str | None = None
    audio_encoder: str | None = None

    def __post_init__(self) -> None:
        """Refuse names that are not known."""
        for name, chosen, known in (("map", self.shape, Shape), ("confidence", self.confidence, Confidence)):
            if chosen not in get_args(known):
                raise InputError(f"{name} {chosen!r}; expected {' or '.join(get_args(known))}")


@dataclass(frozen=True)
class Located:
    """What was found for one clip.

    Attributes:
        clip: The clip.
        boxes: (P, 4) the proposals.
        cosines: (P,) of each crop with the sound.
        cious: (P,) of each proposal with the truth; 0 where nothing in the picture sounds.
        best: The proposal of greatest cosine; of equal ones the worst.
        ciou: Of the answer.
        confidence: That something in the picture sounds.
        guesses: (G,) cIoU of answers that do not listen, all equally likely.
    """

    clip: Clip
    boxes: np.ndarray
    cosines: np.ndarray
    cious: np.ndarray
    best: int
    ciou: float
    confidence: float
    guesses: np.ndarray

    @property
    def truth(self) -> np.ndarray:
        """The (224, 224) truth."""
        return truth_of(self.clip)

    def answer(self, shape: Shape) -> np.ndarray:
        """Return the (224, 224) pixels that are taken for the source."""
        if shape == "box":
            return np.asarray(measured.masks(self.boxes[self.best])[0])
        return measured.upper_half(measured.mean_map(self.boxes, self.cosines))


@dataclass(frozen=True)
class Outcome:
    """A result with what was found for each clip, in the order of the data set."""

    result: Result
    located: list[Located]


@dataclass(frozen=True)
class LocatedClips:
    """What became of a data set's clips, and what of it is the same in every result."""

    subject: Subject
    clips: Clips
    choices: Choices
    located: list[Located] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    encoders: dict[str, str] = field(default_factory=dict)
    fingerprints: dict[str, str] = field(default_factory=dict)
    start: float = field(default_factory=time.perf_counter)

    @property
    def reasons(self) -> str:
        """The most frequent reasons of the clips that were left out."""
        return "; ".join(f"{count} x {reason}" for reason, count in self.skipped.most_common(3)) or "none left out"

    @property
    def row(self) -> str:
        """What the answers are called."""
        return "best cosine" if self.choices.shape == "box" else "heat map"

    def outcome(
        self,
        name: str,
        values: Mapping[str, Mapping[str, float]],
        chance: Mapping[str, float],
        notes: Sequence[str] = (),
        **settings: Any,
    ) -> Outcome:
        """Return the result of some measures over what was found."""
        result = Result(
            name=name,
            values=values,
            n=len(self.located),
            gallery=round(float(np.mean([len(each.boxes) for each in self.located]))),
            chance=chance,
            settings=self._settings() | settings,
            fingerprints={"subject": self.subject.fingerprint} | self.fingerprints,
            notes=(*self.clips.notes, *notes, *([BOX_NOTE] if self.choices.shape == "box" else [])),
            seconds=round(time.perf_counter() - self.start, 3),
            expected=self.clips.expected,
            skipped=dict(self.skipped.most_common()),
        )
        return Outcome(result, self.located)

    def _settings(self) -> dict[str, Any]:
        proposals = self.choices.proposals
        return {
            "data": self.clips.name,
            **self.clips.settings,
            "subject": self.subject.name,
            "method": self.subject.method,
            "encoders": dict(self.encoders),
            "proposals": {"name": proposals.name, **proposals.settings},
            "map": self.choices.shape,
            "map side": measured.SIDE,
            "least crop": f"{CROP_SIDE} pixels",
            "ties": "against",
        }


def truth_of(clip: Clip) -> np.ndarray:
    """Return the (224, 224) truth about a clip; zero where nothing in the picture sounds."""
    annotators = [[(box.x0, box.y0, box.x1, box.y1) for box in boxes] for boxes in clip.boxes if boxes]
    return measured.truth_map(annotators if clip.sounding else [], clip.votes)


def evaluate(
    subject: Subject,
    clips: Clips,
    choices: Choices,
    *,
    folder: Path,
    progress: Progress = silent,
) -> Outcome:
    """Find the source of each clip's sound in its picture.

    Args:
        subject: Embeds pictures and sounds into one space.
        clips: What to look at; those without a usable truth are counted.
        choices: What the protocol leaves open.
        folder: Keeps the memories of sounds and crops, so that a second run embeds nothing.
        progress: Told after every batch.

    Returns:
        cIoU@0.5 with its 95 % bootstrap interval, AUC and mean cIoU: of the answers, of the best proposal there was
        (the oracle, which bounds a box), of the middle and of the whole of the picture. Chance is the expectation over
        the proposals, or for a heat map one whose cosines are dealt out at random (seeded by the clip's id).

    Raises:
        InputError: no clip can be used, or the subject lacks pictures or sounds.
    """
    found = locate(subject, clips, choices, folder, progress, among=[clip for clip in clips.clips if clip.sounding])
    located = found.located
    answers = [each.ciou for each in located]
    low, high = bootstrap(np.array(answers) >= measured.HALF)
    middle, whole, half = np.transpose([_without_listening(each.truth) for each in located])
    values = {
        found.row: measures(answers) | {"cIoU@0.5 low": low, "cIoU@0.5 high": high},
        "oracle: best proposal": measures([each.cious.max() for each in located]),
        **({"oracle: best half": measures(half)} if choices.shape == "heat" else {}),
        "the middle, half of it": measures(middle),
        "the whole picture": measures(whole),
    }
    guesses = [measures(each.guesses) for each in located]
    chance = {name: float(np.mean([guess[name] for guess in guesses])) for name in guesses[0]}
    return found.outcome("localization", values, chance)


def _without_listening(truth: np.ndarray) -> tuple[float, float, float]:
    """Return the cIoU of the middle and of the whole of a picture, and of the best half of its pixels."""
    middle, whole = measured.ciou_of_boxes([CENTRE, WHOLE], truth)
    return float(middle), float(whole), measured.best_half(truth)


def measures(cious: Sequence[float] | np.ndarray) -> dict[str, float]:
    """Return the numbers of (N,) cIoU; each is a mean over samples, so it may be averaged again."""
    return {
        "cIoU@0.5": measured.localized(cious),
        "AUC": measured.success_area(cious),
        "mean cIoU": float(np.mean(cious)),
    }


def locate(
    subject: Subject,
    clips: Clips,
    choices: Choices,
    folder: Path,
    progress: Progress = silent,
    among: Sequence[Clip] | None = None,
) -> LocatedClips:
    """Find the source in each clip (of ``among``, where given) that can be used, and count why the others cannot.

    Raises:
        InputError: no clip can be used, or the subject lacks pictures or sounds.
    """
    found, asked = LocatedClips(subject, clips, choices), clips.clips if among is None else among
    found.skipped.update(reason for clip in asked if (reason := _problem(clip)))
    usable = [clip for clip in asked if _problem(clip) is None]
    pictures = Pictures(subject, choices.image_encoder, choices.proposals, folder)
    pictures.propose([_picture(clip) for clip in usable], progress)
    sounds = {_sound(clip).id: _sound(clip) for clip in usable}
    heard = subject.embed(
        Inputs(Modality.AUDIO, list(sounds.values())), folder, encoder=choices.audio_encoder, progress=progress
    )
    vector_of = {item.id: vector for item, vector in zip(heard.items, heard.vectors, strict=True)}
    silent_for = {skip.id: skip.reason for skip in heard.skips}
    pictures.embed([_picture(clip) for clip in usable if _sound(clip).id in vector_of], progress)
    for clip in usable:
        sound, picture = _sound(clip).id, _picture(clip).id
        if sound not in vector_of:
            found.skipped[f"sound: {silent_for.get(sound, 'not embedded')}"] += 1
            continue
        boxes, vectors = pictures.seen(picture)
        if len(boxes):
            cosines = cosine(vectors, vector_of[sound][None])[:, 0]
            found.located.append(_located(clip, boxes, cosines, choices))
        else:
            found.skipped[pictures.reason(picture)] += 1
    if not found.located:
        raise InputError(f"none of {len(asked)} clips can be used: {found.reasons}")
    found.encoders.update(image=pictures.encoder, audio=heard.encoder)
    found.fingerprints.update(sounds=heard.fingerprint, crops=pictures.fingerprint)
    return found


def records(located: Sequence[Located]) -> Iterator[dict[str, Any]]:
    """Yield what was found for each clip, as JSON-ready values."""
    for each in located:
        box = [float(value) for value in each.boxes[each.best]]
        found = {"best box": box, "cosine": float(each.cosines[each.best]), "confidence": each.confidence}
        yield {"id": each.clip.id, "sounding": each.clip.sounding, "ciou": each.ciou, **found}


def _problem(clip: Clip) -> str | None:
    """Return why a clip cannot be used."""
    if clip.problem or not (clip.parts.get(Modality.IMAGE) and clip.parts.get(Modality.AUDIO)):
        return clip.problem or "no picture or no sound"
    if clip.sounding and (clip.box_problem or not any(clip.boxes)):
        return clip.box_problem or "no box says where the sound comes from"
    return None


def _picture(clip: Clip) -> Item:
    return clip.parts[Modality.IMAGE][0]


def _sound(clip: Clip) -> Item:
    return clip.parts[Modality.AUDIO][0]


def _located(clip: Clip, boxes: np.ndarray, cosines: np.ndarray, choices: Choices) -> Located:
    truth = truth_of(clip)
    cious = measured.ciou_of_boxes(boxes, truth)
    best = int(np.argmin(np.where(cosines == cosines.max(), cious, np.inf)))
    score, answer, guesses = float(cosines[best]), float(cious[best]), cious
    if choices.confidence == "top-quarter":
        score = measured.upper_quarter(measured.mean_map(boxes, cosines))
    if choices.shape == "heat":
        dealt = np.random.default_rng(zlib.crc32(clip.id.encode())).permutation(cosines)
        drawn = [measured.ciou(measured.upper_half(measured.mean_map(boxes, x)), truth) for x in (cosines, dealt)]
        answer, guesses = drawn[0], np.array(drawn[1:])
    return Located(clip, boxes, cosines, cious, best, answer, score, guesses)
