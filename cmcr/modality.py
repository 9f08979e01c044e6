"""Modalities: a name each; those whose files can be read are registered with what that takes.

A memory of vectors takes any name (``eeg``, ``depth``) without registration. What a memory's folders are called and the
order of its manifest follow from the name alone, so that a memory is the same on a machine without the plug-in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import Any, ClassVar

from cmcr.errors import InputError, nearest
from cmcr.plugins import Plugins

PLUGINS = Plugins("cmcr.modalities")
"""An entry point is named as its modality and leads to a module whose import calls ``register_modality``."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
_SUFFIX = re.compile(r"\.[a-z0-9]{1,15}")
_FOLDERS = {"image": "img", "point_cloud": "point"}  # as clip-retrieval names them, and tools that read its folders
_RESERVED = {"metadata", "index", "staged", "manifest", "skipped"}

Decode = Callable[[bytes, str], Any]
"""The content of a file and its suffix (lower-case, with the dot) -> what the preview is made of."""
Preview = Callable[[Any], Any]
"""What ``Decode`` returned -> a PIL image, a text, or a ``cmcr.report.Media``."""


class ModalityError(InputError, ValueError):
    """A text that cannot name a modality, or a registration that contradicts another."""


@dataclass(frozen=True)
class Registration:
    """What a modality whose files can be read brings.

    Attributes:
        suffixes: Of its files, lower-case, with the dot.
        columns: Of a manifest, for the paths of its files.
        decode: How a file's content is decoded for its preview; a function, or ``module:function``.
        preview: How what was decoded is shown; likewise.

    Example:
        >>> from cmcr.modality import Modality
        >>> Modality.AUDIO.registration.columns
        ('audio', 'audio_path')
    """

    suffixes: frozenset[str]
    columns: tuple[str, ...]
    decode: Decode | str | None = None
    preview: Preview | str | None = None


_NAMES: dict[str, Modality] = {}
_REGISTERED: dict[Modality, Registration] = {}


class _Names(type):
    """Lets ``Modality`` be iterated over and asked, as a list of those that are registered."""

    def __iter__(cls) -> Iterator[Modality]:
        offered = {Modality(name) for name in PLUGINS.names() if is_modality(name)}
        return iter(in_order({*_REGISTERED, *offered}))

    def __len__(cls) -> int:
        return sum(1 for _ in cls)

    def __contains__(cls, name: object) -> bool:
        return name in list(cls)


class Modality(str, metaclass=_Names):
    """A kind of data that an encoder embeds: a text that is safe as the name of a folder, and one object a name.

    Example:
        >>> from cmcr.modality import Modality
        >>> Modality("image") is Modality.IMAGE, f"{Modality('eeg')}_emb", list(Modality)[:2]
        (True, 'eeg_emb', ['image', 'text'])
    """

    __slots__ = ()

    IMAGE: ClassVar[Modality]
    TEXT: ClassVar[Modality]
    AUDIO: ClassVar[Modality]
    POINT_CLOUD: ClassVar[Modality]

    def __new__(cls, name: str) -> Modality:
        """Return the modality of this name.

        Raises:
            ModalityError: it cannot be the name of a folder, or is that of another folder of a memory.
        """
        known = _NAMES.get(name) if isinstance(name, str) else None
        if known is not None:
            return known
        if refusal := _refusal(name):
            raise ModalityError(f"modality {str(name)[:60] if isinstance(name, str) else name!r:.60}: {refusal}")
        return _NAMES.setdefault(str(name), str.__new__(cls, name))

    def __reduce__(self) -> tuple[type[Modality], tuple[str]]:
        return Modality, (str(self),)

    @property
    def value(self) -> str:
        """The name as a plain text."""
        return str(self)

    @property
    def folder(self) -> str:
        """The short name used for folders of a memory (clip-retrieval's: ``img``, ``text``)."""
        return _FOLDERS.get(self, str(self))

    @property
    def registration(self) -> Registration | None:
        """What is registered for it; None: it has vectors only.

        Raises:
            InputError: the package that offers it cannot be imported, or does not register it.
        """
        if self not in _REGISTERED and self in PLUGINS.names():
            PLUGINS.load(self)
            if self not in _REGISTERED:
                raise ModalityError(
                    f"the package that offers {str(self)!r} in {PLUGINS.group} registers no modality of that name; "
                    f"call register_modality({str(self)!r}, ...) when it is imported"
                )
        return _REGISTERED.get(self)

    @property
    def suffixes(self) -> frozenset[str]:
        """Lower-case file suffixes, with the dot, that are read as this modality."""
        found = self.registration
        return found.suffixes if found else frozenset()

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of a manifest that hold its files (of text: the texts)."""
        found = self.registration
        return found.columns if found else (str(self), f"{self}_path")


def register_modality(
    name: str,
    *,
    suffixes: Iterable[str],
    columns: Iterable[str] = (),
    decode: Decode | str | None = None,
    preview: Preview | str | None = None,
) -> Modality:
    """Let files of a modality be read, listed and shown.

    Args:
        name: Its name, as ``--modality`` takes it.
        suffixes: Of its files, with the dot. One that a modality registered before has too (``.png``) is read as that
            one, unless this one is asked for or is the only one that an encoder embeds.
        columns: Of a manifest, for paths of its files; none: its name, and its name with ``_path``.
        decode: (content, suffix) -> anything; raises ``ItemError`` for what cannot be. ``module:function`` is imported
            when it is first needed.
        preview: What ``decode`` returned -> a PIL image, or a text; likewise.

    Raises:
        ModalityError: no name, no suffix, or a name that is registered already.

    docs/extending.md has an example that runs.
    """
    modality = Modality(name)
    made = Registration(frozenset(suffixes), tuple(columns) or (name, f"{name}_path"), decode, preview)
    if wrong := sorted(each for each in made.suffixes if not _SUFFIX.fullmatch(each)):
        raise ModalityError(f"suffix {wrong[0]!r} of {name}; expected lower-case letters and digits after a dot")
    if not made.suffixes:
        raise ModalityError(f"{name} has no suffix; give one, or leave it unregistered: vectors need none")
    if _REGISTERED.setdefault(modality, made) != made:
        raise ModalityError(f"modality {name!r} is registered already; choose another name")
    of_suffix.cache_clear()
    of_column.cache_clear()
    return modality


def is_modality(name: object) -> bool:
    """Tell whether a name may be that of a modality."""
    return _refusal(name) is None


@lru_cache(1024)
def of_suffix(suffix: str) -> Modality | None:
    """Return the first modality whose files carry ``suffix`` (any case, with the dot), or None."""
    lowered = suffix.lower()
    return next((each for each in Modality if lowered in each.suffixes), None) if lowered else None


@lru_cache(1024)
def of_column(name: str) -> Modality | None:
    """Return the first registered modality that a column of a manifest of this name holds, or None."""
    return next((each for each in Modality if name in each.columns), None)


def in_order(modalities: Iterable[Modality]) -> list[Modality]:
    """Return modalities in the order of manifests and lists: cmcr's own first, others by name."""
    return sorted(modalities, key=lambda each: (OWN.index(each), "") if each in OWN else (len(OWN), str(each)))


def resolved(function: Callable[..., Any] | str) -> Callable[..., Any]:
    """Return a function of a ``Registration``, imported if it is ``module:function``."""
    if not isinstance(function, str):
        return function
    module, _, name = function.partition(":")
    found: Callable[..., Any] = getattr(import_module(module), name)
    return found


def _refusal(name: object) -> str | None:
    """Return why something is not the name of a modality."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        close = nearest(name, OWN) if isinstance(name, str) else ""
        return (
            f"expected {', '.join(OWN)}, or a name of your own of up to 32 letters a-z, digits and _, "
            f"a letter first{close}"
        )
    short = next((long for long, folder in _FOLDERS.items() if folder == name), None)
    if short:
        return f"that is the folder of {short}; expected {short}, or another name"
    return "a memory has a file or folder of that name; choose another" if name in _RESERVED else None


OWN: list[Modality] = []
"""The modalities that cmcr itself registers, in the order of manifests and lists."""
Modality.IMAGE = register_modality(
    "image",
    suffixes=[".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"],
    columns=["image", "image_path"],
    decode="cmcr.report.previews:decode_picture",
    preview="cmcr.report.previews:show_picture",
)
Modality.TEXT = register_modality("text", suffixes=[".txt"], columns=["text", "caption"])
Modality.AUDIO = register_modality(
    "audio",
    suffixes=[".wav", ".flac", ".mp3", ".ogg", ".opus", ".aiff", ".aif"],
    columns=["audio", "audio_path"],
    decode="cmcr.report.previews:decode_sound",
    preview="cmcr.report.previews:show_sound",
)
Modality.POINT_CLOUD = register_modality(
    "point_cloud",
    suffixes=[".npy", ".npz", ".xyz", ".pts", ".ply", ".off", ".obj", ".stl"],
    columns=["point_cloud", "points", "point_cloud_path"],
    decode="cmcr.shapes.clouds:read_point_cloud",
    preview="cmcr.report.previews:show_cloud",
)
OWN += _REGISTERED
