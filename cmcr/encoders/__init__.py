"""Find an encoder by its name, loading only its own library."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from cmcr.devices import Precision
from cmcr.encoders.base import Encoder
from cmcr.errors import UnknownEncoderError, nearest

TINY = ("tiny-clip", "tiny-clap", "tiny-ulip")
ALIASES = {
    "clip": "open_clip:ViT-B-32-quickgelu/openai",
    "clap": "laion_clap:HTSAT-tiny-fusion/630k-fusion-best.pt",
    "ulip": "ulip:pointbert_ULIP-2.pt",
}
"""Short names of the encoders that the paper connects."""

_CLASSES = {
    "open_clip": ("cmcr.encoders.open_clip", "OpenClipEncoder"),
    "laion_clap": ("cmcr.encoders.laion_clap", "LaionClapEncoder"),
    "hf_clap": ("cmcr.encoders.hf_clap", "HfClapEncoder"),
    "ulip": ("cmcr.encoders.ulip", "UlipEncoder"),
    "sentence-transformers": ("cmcr.encoders.texts.sentence", "SentenceEncoder"),
}

__all__ = ["ALIASES", "Encoder", "built_in_encoders", "known_encoders", "load_encoder"]


def built_in_encoders() -> tuple[str, ...]:
    """Return the names, aliases and ``library:`` prefixes of the encoders that come with cmcr."""
    return (*TINY, *ALIASES, *(f"{library}:" for library in _CLASSES))


def known_encoders() -> tuple[str, ...]:
    """Return all that ``load_encoder`` understands: the built-in ones, and those of other installed packages."""
    from cmcr.encoders.plugins import GROUP
    from cmcr.plugins import Plugins

    return tuple(dict.fromkeys((*built_in_encoders(), *Plugins(GROUP).names())))


def load_encoder(
    name: str, device: str = "cpu", *, weights: Sequence[Path] = (), precision: Precision = "fp32"
) -> Encoder:
    """Load an encoder.

    Args:
        name: One of ``TINY``, an alias, or ``library:model``: ``open_clip:MODEL/PRETRAINED``,
            ``open_clip:hf-hub:ORG/NAME``, ``laion_clap:AMODEL[-fusion]/FILE``, ``hf_clap:FOLDER-OR-ORG/NAME``,
            ``ulip:FILE``, ``sentence-transformers:FOLDER-OR-ORG/NAME``; or what another package registers (entry
            points ``cmcr.encoders``).
        device: A torch device.
        weights: Files and folders where its weights are looked for first; a single file is taken whatever its name.
        precision: Of the matrix products; the weights and the vectors stay float32.

    Raises:
        UnknownEncoderError: no encoder has the name; the message holds the nearest known one.
        InputError: the model or its weights are not found; a registered encoder fails, or two have the name.
        ArtifactError: the weights are damaged or belong to another architecture.
        MissingExtraError: the library is not installed.
    """
    if name in TINY:
        from cmcr.encoders.tiny import TinyEncoder

        return TinyEncoder(name, device=device, precision=precision)
    library, _, model = ALIASES.get(name, name).partition(":")
    if library not in _CLASSES:  # only now: reading what is installed takes time
        from cmcr.encoders import plugins

        if found := plugins.find(name):
            return plugins.make(found[0], name, found[1], device=device, weights=weights, precision=precision)
    if library not in _CLASSES or not model:
        known = known_encoders()
        raise UnknownEncoderError(f"unknown encoder {name!r}; expected one of {', '.join(known)}{nearest(name, known)}")
    module, encoder = _CLASSES[library]
    loaded: Encoder = getattr(import_module(module), encoder)(
        model, device=device, precision=precision, weights=weights
    )
    return loaded
