"""The modalities and the file suffixes of each."""

from __future__ import annotations

from enum import StrEnum


class Modality(StrEnum):
    """A kind of data that an encoder embeds."""

    IMAGE = "image"
    TEXT = "text"
    AUDIO = "audio"
    POINT_CLOUD = "point_cloud"

    @property
    def folder(self) -> str:
        """The short name used for folders of a memory (clip-retrieval's: ``img``, ``text``)."""
        return {"image": "img", "point_cloud": "point"}.get(self.value, self.value)

    @property
    def suffixes(self) -> frozenset[str]:
        """Lower-case file suffixes, with the dot, that are read as this modality."""
        return SUFFIXES[self]


SUFFIXES: dict[Modality, frozenset[str]] = {
    Modality.IMAGE: frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"}),
    Modality.TEXT: frozenset({".txt"}),
    Modality.AUDIO: frozenset({".wav", ".flac", ".mp3", ".ogg", ".opus", ".aiff", ".aif"}),
    Modality.POINT_CLOUD: frozenset({".npy", ".npz", ".xyz", ".pts", ".ply", ".off", ".obj", ".stl"}),
}


def of_suffix(suffix: str) -> Modality | None:
    """Return the modality whose files carry ``suffix`` (any case, with the dot), or None."""
    lowered = suffix.lower()
    return next((modality for modality, known in SUFFIXES.items() if lowered in known), None)
