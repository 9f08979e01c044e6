"""Join spaces that keep the vectors of the same base: each brings the ways it has found into it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from cmcr.errors import InputError
from cmcr.modality import Modality
from cmcr.space.parts import Link, Router, SpaceEncoder, Way
from cmcr.space.space import ConnectedSpace


def join_spaces(*spaces: ConnectedSpace, average: bool = False) -> ConnectedSpace:
    """Put spaces with the same frozen base into one: nothing is fitted, no vector of any of them moves.

    Args:
        spaces: Two or more.
        average: An encoder may be in several of them, connected by other data, and then enters through the mean of
            its maps there (FreeBind, arXiv 2405.04883); its vectors do move.

    Returns:
        A space with the base, the first space's other encoders, the second's, and so on.

    Raises:
        InputError: no space; one without a frozen base, or with another base; an encoder or router in two of them,
            unless its maps are averaged.
    """
    if not spaces:
        raise InputError("no space to join; expected two or more")
    base = _common_base(spaces)
    encoders = {base.name: base}
    links: list[Link] = []
    routers: list[Router] = []
    ways, maps = [_base_way(spaces, base)], {base.name: _base_map(spaces[0])}
    for space in spaces:
        for name, encoder in space.encoders.items():
            if name == base.name:
                continue
            if name in encoders and not (average and encoder == encoders[name]):
                again = "the mean of its maps: --average" if encoder == encoders[name] else "leave one out"
                raise InputError(f"encoder {name} is in two of the spaces; it enters a space once: {again}")
            encoders[name] = encoder
        fresh = {name: _unused(name, maps) for way in _leaf_ways(space, base) for name in way.maps}
        maps |= {new: space.maps[old] for old, new in fresh.items()}
        for way in _leaf_ways(space, base):
            _add_way(ways, replace(way, maps=tuple(fresh[name] for name in way.maps)))
        links += [link for link in space.links if link not in links]
        routers += space.routers.values()
    if len({router.modality for router in routers}) < len(routers):
        raise InputError("two of the spaces have a router of one modality, and a space has one: leave one space out")
    method = "+".join(dict.fromkeys(name for space in spaces for name in space.method.split("+")))
    recipe, metrics = _by_leaf((s, s.recipe) for s in spaces), _by_leaf((s, s.metrics) for s in spaces)
    return ConnectedSpace(
        encoders, maps, spaces[0].overlap, method, _merged(recipe, shared=True), _merged(metrics, shared=False),
        ways=ways, routers=routers, links=links, presets=_presets(spaces),
    )  # fmt: skip


def _add_way(ways: list[Way], way: Way) -> None:
    """Add a way, or its maps to those of the way that an encoder's vectors of these modalities have already."""
    for number, each in enumerate(ways):
        if each.encoder == way.encoder and set(each.modalities) & set(way.modalities):
            if each.modalities != way.modalities:
                parts = " and ".join("+".join(one.modalities) for one in (each, way))
                raise InputError(f"{way.encoder} enters the spaces by other ways ({parts}); their maps have no mean")
            ways[number] = replace(each, maps=each.maps + way.maps)
            return
    ways.append(way)


def _presets(spaces: Sequence[ConnectedSpace]) -> dict[str, dict[Modality, dict[str, float]]]:
    """Return the presets of all; of one name those of the first, with what the others say of other encoders."""
    found: dict[str, dict[Modality, dict[str, float]]] = {}
    for space in spaces:
        for name, preset in space.presets.items():
            for modality, weights in preset.items():
                own = found.setdefault(name, {}).setdefault(modality, {})
                own |= {encoder: weight for encoder, weight in weights.items() if encoder not in own}
    return found


def _common_base(spaces: Sequence[ConnectedSpace]) -> SpaceEncoder:
    """Return the one base of all spaces, with every modality that one of them holds of it."""
    for space in spaces:
        if space.base is None:
            names = " + ".join(space.encoders)
            raise InputError(f"space {names} has no frozen base, its vectors all move; connect with --freeze-base")
    bases = [space.encoders[space.base] for space in spaces if space.base]
    other = next((each for each in bases if not _same(each, bases[0])), None)
    if other is not None:
        told = " and ".join(f"{each.name} ({each.fingerprint[:12]})" for each in (bases[0], other))
        raise InputError(f"the spaces have different bases, {told}; join spaces connected to one frozen base")
    return replace(bases[0], modalities=tuple(dict.fromkeys(m for each in bases for m in each.modalities)))


def _same(one: SpaceEncoder, other: SpaceEncoder) -> bool:
    return (one.name, one.fingerprint, one.dim) == (other.name, other.fingerprint, other.dim)


def _base_map(space: ConnectedSpace) -> Any:
    return next(space.maps[way.maps[0]] for way in space.ways if way.encoder == space.base)


def _base_way(spaces: Sequence[ConnectedSpace], base: SpaceEncoder) -> Way:
    weight = next(way.weight for way in spaces[0].ways if way.encoder == base.name)
    return Way(base.name, base.modalities, (base.name,), weight)


def _leaf_ways(space: ConnectedSpace, base: SpaceEncoder) -> list[Way]:
    return [way for way in space.ways if way.encoder != base.name]


def _unused(name: str, taken: Iterable[str]) -> str:
    while name in taken:
        name += "'"
    return name


Told = dict[str, dict[str, Any]]
"""By the name of an encoder that was linked to the base: its recipe, or what was measured of it."""


def _by_leaf(told: Iterable[tuple[ConnectedSpace, dict[str, Any]]]) -> Told:
    """Take apart what ``_merged`` put together."""
    found: Told = {}
    for space, values in told:
        leaves = [link.b for link in space.links]
        of_one = {key for key in values for leaf in leaves if key.startswith(f"{leaf}.")}
        for leaf in leaves:
            own = {key.removeprefix(f"{leaf}."): values[key] for key in of_one if key.startswith(f"{leaf}.")}
            found[leaf] = {key: value for key, value in values.items() if key not in of_one} | own
    return found


def _merged(told: Told, *, shared: bool) -> dict[str, Any]:
    """Return one table of all leaves': ``LEAF.name``, or the plain name where asked to and all of them say the same."""
    if len(told) < 2:
        return dict(next(iter(told.values()), {}))
    tables = list(told.values())
    same = {k: v for k, v in tables[0].items() if shared and all(k in each and each[k] == v for each in tables)}
    return same | {f"{leaf}.{k}": v for leaf, values in told.items() for k, v in values.items() if k not in same}
