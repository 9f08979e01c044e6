"""Several inputs in one call, and what their ids begin with, so that two files of one name are told apart."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cmcr.errors import InputError
from cmcr.items import folders
from cmcr.items.ids import readable
from cmcr.items.item import Inputs, Up, unique_items
from cmcr.items.read import read_items
from cmcr.modality import Modality


def read_inputs(
    sources: Sequence[str],
    modality: Modality | None,
    allowed: Sequence[Modality],
    *,
    up: Up | None = None,
    id_prefix: str | None = None,
) -> Inputs:
    """List the items of one or several inputs, in their order, all of one modality.

    One input alone gives the ids of ``read_items``. Of several, the ids below each folder or glob begin with that
    folder's name (``A/DCIM`` where another one is named ``DCIM``, too), so that two files of one name are told apart;
    single files, lists and tars name their items as ever.

    Args:
        sources: As ``read_items`` takes them.
        modality: As there; None takes the only one of ``allowed`` that is in all of them.
        allowed: What the encoder embeds.
        up: As in ``read_items``.
        id_prefix: Begins every id, with a slash behind it.

    Raises:
        InputError: as ``read_items``; inputs of several modalities, a folder given twice, or an unusable prefix.
    """
    roots = _roots(sources) if len(sources) > 1 else [""]
    listed = [read_items(source, modality, allowed, up=up) for source in sources]
    kinds = {inputs.modality: source for source, inputs in zip(sources, listed, strict=True)}
    if len(kinds) > 1:
        held = " and ".join(f"{source} holds {kind}" for kind, source in kinds.items())
        raise InputError(f"{held}; choose one with --modality {next(iter(kinds))}, or embed them one after another")
    before = "" if id_prefix is None else _checked_prefix(id_prefix)
    if len(listed) == 1 and not before:
        return listed[0]
    items = [
        replace(item, id=before + root + item.id)
        for root, inputs in zip(roots, listed, strict=True)
        for item in inputs.items
    ]
    found = unique_items(listed[0].modality, items, dict(sum((Counter(each.ignored) for each in listed), Counter())))
    remarks = tuple(remark for inputs in listed for remark in inputs.remarks)
    return replace(found, duplicates=found.duplicates + sum(each.duplicates for each in listed), remarks=remarks)


def _roots(sources: Sequence[str]) -> list[str]:
    """Return what the ids of each of several inputs begin with: the name of its folder, behind others if need be.

    Folders of one name take those that they lie in, up to the first that differs: ``A/DCIM`` and ``B/DCIM``.
    """
    places = [_place(source) for source in sources]
    for source, place in zip(sources, places, strict=True):
        if Path(source).is_dir() and places.count(place) > 1:
            raise InputError(f"{source}: given twice among the inputs, as it is or by a pattern; give it once")
    depths = [1] * len(places)
    while alike := _tail_of_two(places, depths):
        depths = [depth + (_tail(place, depth) == alike) for place, depth in zip(places, depths, strict=True)]
    return [f"{readable(tail)}/" if (tail := _tail(*each)) else "" for each in zip(places, depths, strict=True)]


def _tail_of_two(places: Sequence[Path | None], depths: Sequence[int]) -> str:
    first: dict[str, Path | None] = {}
    tails = ((place, _tail(place, depth)) for place, depth in zip(places, depths, strict=True))
    return next((tail for place, tail in tails if tail and first.setdefault(tail, place) != place), "")


def _tail(place: Path | None, depth: int) -> str:
    return "/".join(place.parts[1:][-depth:]) if place else ""


def _place(source: str) -> Path | None:
    """Return the folder that stands for an input, a glob's fixed one; None of single files, lists and tars."""
    path = Path(source)
    if source == "-" or (not path.is_dir() and (path.exists() or path.suffix.lower() == ".tar")):
        return None
    return Path(os.path.abspath(path if path.is_dir() else folders.fixed_part(source)))  # noqa: PTH100 - keeps links


def _checked_prefix(prefix: str) -> str:
    name = readable(prefix).strip("/ ")
    if not name or not name.isprintable():
        raise InputError(f"--id-prefix {prefix!a}; expected a name that ids begin with, e.g. 2024")
    return f"{name}/"
