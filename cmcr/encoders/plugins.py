"""Encoders of other installed packages: entry points of the group ``cmcr.encoders``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cmcr.encoders.base import Encoder
from cmcr.errors import CmcrError, InputError
from cmcr.modality import Modality
from cmcr.plugins import Plugin, Plugins, failure

GROUP = "cmcr.encoders"


def find(name: str) -> tuple[Plugin, str] | None:
    """Return who embeds as ``name``, and the model asked of it; None: nobody.

    An entry point ``tower`` stands for that name alone, one called ``tower:`` for every ``tower:MODEL``.

    Raises:
        InputError: several packages claim the name.
    """
    library, _, model = name.partition(":")
    found = None if name.endswith(":") else Plugins(GROUP).find(f"{library}:" if model else name)
    return (found, model or name) if found else None


def make(plugin: Plugin, name: str, model: str, **settings: Any) -> Encoder:
    """Call a plugin's class or function with the model and ``device=``, ``weights=``, ``precision=``.

    Raises:
        InputError: it cannot be imported, fails, or makes no ``Encoder``.
        CmcrError: whatever it raises itself.
    """
    factory = plugin.load()
    try:
        encoder = factory(model, **settings)
        wrong = _lacks(encoder)
        known_as = None if wrong else find(encoder.name)
    except CmcrError:
        raise
    except Exception as error:
        raise InputError(
            f"encoder {name!r} of {plugin.origin} failed ({failure(error)}); see what that package needs"
        ) from error
    if not wrong and (known_as is None or known_as[0].package != plugin.package):
        wrong = f"its name is {encoder.name!r}, which is not its own; a space would not find it again by that"
    if wrong:
        raise InputError(f"encoder {name!r} of {plugin.origin}: {wrong}; repair that package")
    made: Encoder = encoder
    return made


def _lacks(encoder: Any) -> str:
    """Return what an encoder lacks of ``Encoder``, or an empty string."""
    for attribute in ("name", "modalities", "dim", "fingerprint", "prepare", "encode"):
        if not hasattr(encoder, attribute):
            return f"{type(encoder).__name__} has no {attribute}"
    if not modalities_of(encoder):
        return f"modalities {encoder.modalities!r}; expected a tuple of Modality"
    if not isinstance(encoder.dim, int) or encoder.dim < 1:
        return f"dim {encoder.dim!r}; expected a whole number above 0"
    if not all(isinstance(each, str) and each for each in (encoder.name, encoder.fingerprint)):
        return f"name {encoder.name!r}, fingerprint {encoder.fingerprint!r}; expected texts"
    return ""


def modalities_of(encoder: Any) -> tuple[Modality, ...]:
    """Return the modalities that a plugin's class or encoder names; empty where it names none, or something else."""
    named: Sequence[Any] = getattr(encoder, "modalities", ())
    return named if isinstance(named, tuple) and all(isinstance(each, Modality) for each in named) else ()
