"""From the ids of a list to files: pictures and sounds as they lie there, or taken out of videos once."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock

from cmcr.datasets.clip import Clip
from cmcr.decode import videos as video
from cmcr.errors import InputError, ItemError
from cmcr.hooks import Progress, silent
from cmcr.items import Item, joining_form
from cmcr.modality import Modality


@dataclass(frozen=True, slots=True)
class FrameChoice:
    """Which frames stand for a video: ``count`` evenly spaced ones, or the middle of its event."""

    count: int = 1
    event: bool = False

    @classmethod
    def of(cls, text: str) -> FrameChoice:
        """Parse ``middle``, ``mean:N`` or ``event``.

        Raises:
            InputError: something else.
        """
        if text in ("middle", "event"):
            return cls(1, text == "event")
        found = re.fullmatch(r"mean:([1-9][0-9]{0,2})", text)
        if found is None:
            raise InputError(f"--frames {text!r}; expected middle, mean:N with N from 1 to 999, or event")
        return cls(int(found[1]))

    def __str__(self) -> str:
        return "event" if self.event else "middle" if self.count == 1 else f"mean:{self.count}"


@dataclass(frozen=True, slots=True)
class ClipEntry:
    """One clip as a list names it, before its files are looked for."""

    clip: Clip
    image: str
    audio: str
    event: tuple[float, float] | None = None


class Media:
    """The pictures, sounds and videos of a data set by their stem; each folder is listed once."""

    def __init__(self, folders: Iterable[Path]) -> None:
        self.found: dict[str, dict[str, Path]] = {"image": {}, "audio": {}, "video": {}}
        suffixes = {"image": Modality.IMAGE.suffixes, "audio": Modality.AUDIO.suffixes, "video": video.SUFFIXES}
        for folder in filter(Path.is_dir, folders):
            for path in sorted(folder.iterdir()):
                for kind, known in suffixes.items():
                    if path.suffix.lower() in known:
                        self.found[kind].setdefault(path.stem, path)

    def of(self, kind: str, name: str) -> Path | None:
        """Return the first file of that stem, or of that stem in another Unicode form."""
        files = self.found[kind]
        if name in files or name.isascii():
            return files.get(name)
        return next((path for stem, path in files.items() if joining_form(stem) == joining_form(name)), None)


def filled(
    listed: Sequence[ClipEntry], media: Media, frames: FrameChoice, unpack: Path, progress: Progress = silent
) -> list[Clip]:
    """Give every clip of a list its files, in the order of the list; videos are unpacked by several threads.

    Args:
        listed: What the list names.
        media: The files that are there.
        frames: Which frames of a video.
        unpack: Folder for frames and sounds of videos.
        progress: Told after every clip.
    """
    # Two rows of a list may name one video: it is unpacked by one thread at a time.
    locks = {name: Lock() for each in listed for name in (each.image, each.audio)}

    def fill(each: ClipEntry) -> Clip:
        if each.clip.problem:
            return each.clip
        try:
            with locks[each.image]:
                pictures = _frames(each, media, frames, unpack)
            with locks[each.audio]:
                sound = _sound(each, media, unpack)
        except ItemError as error:
            return replace(each.clip, problem=str(error))
        return replace(each.clip, parts={Modality.IMAGE: pictures, Modality.AUDIO: (sound,)})

    clips: list[Clip] = []
    with ThreadPoolExecutor(min(8, 2 * (os.cpu_count() or 1))) as pool:
        for clip in pool.map(fill, listed):
            clips.append(clip)
            progress(len(clips), len(listed), "")
    return clips


def _frames(each: ClipEntry, media: Media, frames: FrameChoice, unpack: Path) -> tuple[Item, ...]:
    still, moving = media.of("image", each.image), media.of("video", each.image)
    if still and str(frames) == "middle":
        return (_item(each.image, Modality.IMAGE, still),)
    if moving is None:
        raise ItemError(f"only a picture, no video for --frames {frames}" if still else "no video or picture of it")
    seconds = video.duration(moving)
    start, end = each.event or (0.0, 0.0)
    if frames.event and not start < end:
        raise ItemError("no event in its annotation: it ends where it starts")
    times = [(start + end) / 2] if frames.event else video.evenly(seconds, frames.count)
    names = [f"{each.image}@{time:.3f}" for time in times]
    targets = [unpack / "frames" / f"{name}.png" for name in names]
    video.unpack_frames(moving, times, targets)
    return tuple(_item(name, Modality.IMAGE, path) for name, path in zip(names, targets, strict=True))


def _sound(each: ClipEntry, media: Media, unpack: Path) -> Item:
    path, moving = media.of("audio", each.audio), media.of("video", each.audio)
    if path is None:
        if moving is None:
            raise ItemError("no video or sound of it")
        path = unpack / "audio" / f"{each.audio}.wav"
        video.unpack_sound(moving, path)
    return _item(each.audio, Modality.AUDIO, path)


def _item(name: str, modality: Modality, path: Path) -> Item:
    return Item(name, modality, path.as_posix(), path=path)
