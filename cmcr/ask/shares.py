"""How much each encoder counts that sees an item: ``ENCODER:MODALITY=WEIGHT``, as the command line says it."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

from cmcr.errors import InputError, nearest
from cmcr.modality import Modality
from cmcr.space import ConnectedSpace
from cmcr.space.config import ROUTED

Shares = Mapping[Modality, Mapping[str, float]]
"""By modality and encoder, how much its vectors count: a finite number of 0 or more."""


def read_shares(given: Sequence[str], space: ConnectedSpace | None) -> dict[Modality, dict[str, float]]:
    """Return what ``ENCODER:MODALITY=WEIGHT`` say, each of an encoder of the space that has the modality.

    >>> from cmcr.ask.shares import read_shares
    >>> read_shares([], None)
    {}

    Raises:
        InputError: another form, a weight that is no finite number of 0 or more, one said twice, or one of nobody.
    """
    found: dict[Modality, dict[str, float]] = {}
    for text in given:
        who, _, number = text.rpartition("=")
        name, _, kind = who.rpartition(":")
        if not name or not kind:
            raise InputError(f"--weight {text!r}; expected ENCODER:MODALITY=WEIGHT, such as tiny-clap:text=0.5")
        if space is None:
            raise InputError(f"--weight {text!r}: it is for the encoders of a space, and here is one alone")
        try:
            modality = Modality(kind)
            space.encoder_for(modality, name)
        except InputError as error:
            raise InputError(f"--weight {text!r}: {error}") from None
        if name in found.setdefault(modality, {}):
            raise InputError(f"--weight {text!r}: {name} has a weight for {modality} already; say one")
        found[modality][name] = _number(number, text)
    return found


def with_preset(shares: Shares, preset: str | None, space: ConnectedSpace | None) -> Shares:
    """Return the weights that a space stores under a name, those of ``shares`` in the place of its own.

    Raises:
        InputError: the space has no preset of that name, or none of routers where these are asked for.
    """
    if preset is None:
        return shares
    if space is None:
        raise InputError(f"--preset {preset!r}: it is of a space, and here is an encoder alone")
    if preset == ROUTED:
        if not space.routers:
            raise InputError("--preset routed: the space has no router; train one with cmcr weigh")
        return shares
    if preset not in space.presets:
        known = ", ".join(space.presets) or "none"
        close = nearest(preset, space.presets)
        raise InputError(f"--preset {preset!r} is not in this space (presets: {known}){close}; store one: cmcr preset")
    stored = space.presets[preset]
    return {m: {**stored.get(m, {}), **shares.get(m, {})} for m in dict.fromkeys((*stored, *shares))}


def _number(number: str, text: str) -> float:
    try:
        weight = float(number)
    except ValueError:
        weight = math.nan
    if not 0 <= weight < math.inf:
        raise InputError(f"--weight {text!r}: {number!r}; expected a finite number of 0 or more")
    return weight


def check_used(shares: Shares, seen: Mapping[Modality, Collection[str]]) -> None:
    """Refuse a weight of an encoder that sees nothing of what is asked.

    Args:
        shares: The weights.
        seen: By modality, the encoders whose views are mixed.

    Raises:
        InputError: there is one.
    """
    for modality, own in shares.items():
        for name in own:
            if name not in seen.get(modality, ()):
                raise InputError(f"--weight {name}:{modality}={own[name]:g}: no {modality} is mixed with its view here")
