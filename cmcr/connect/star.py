"""Connect any number of memories to a base that stays as it is: a star of links, each fitted alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cmcr.connect import run as runs
from cmcr.connect.config import ConnectConfig
from cmcr.errors import InputError
from cmcr.files import remove_left_behind
from cmcr.hooks import Log, Progress, silent, unlogged
from cmcr.memory import Memory
from cmcr.memory.overlap import shared_modality
from cmcr.modality import Modality
from cmcr.ranks import ALONE, Ranks
from cmcr.space import join_spaces


def connect_star(
    base: Memory | str | Path,
    others: Sequence[Memory | str | Path],
    out: str | Path,
    config: ConnectConfig | None = None,
    *,
    via: Sequence[Modality] = (),
    run: str | Path | None = None,
    overwrite: bool = False,
    device: str = "cpu",
    ranks: Ranks = ALONE,
    progress: Progress = silent,
    log: Log = unlogged,
) -> runs.Connection:
    """Connect memories into the space of a frozen base, each through what it shares with the base.

    The base's vectors stay those of its encoder, so what it finds stays the same, and spaces of one base can be joined.

    Args:
        base: The memory whose encoder's space the others are mapped into.
        others: The memories of one or more other encoders.
        out: The space folder to write.
        config: The recipe of each link; its method is ``linear`` or ``route``.
        via: The overlap with each of the others; or one, for those that share several modalities with the base.
        run: Folder of each link's pairs and space; ``out`` with the suffix ``.run`` when left out.
        overwrite: Drop a run or space of another recipe at the same place.
        device: Where to pair.
        ranks: This process among others; rank 0 works alone.
        progress: Called as work proceeds.
        log: Called with what was measured of each link.

    Raises:
        InputError: a method that moves both sides, a base that shares nothing with another memory, two memories of
            one encoder, or overlaps that do not fit.
        ArtifactError: a damaged memory, or a run of another recipe in the way.
    """
    config, out, folder = config or ConnectConfig(), Path(out), runs.run_folder(Path(out), run)
    if not others:
        raise InputError("no memory beside the base; give one or more")
    runs.check_one_sided(config, "connect two memories" if len(others) > 1 else "leave out --freeze-base")
    center, *leaves = (each if isinstance(each, Memory) else Memory.open(each) for each in (base, *others))
    names = [memory.encoder.name for memory in (center, *leaves)]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise InputError(f"two of the memories are of {twice}; a space takes each encoder once")
    overlaps = _overlaps(center, leaves, via)
    with runs.hold(folder, out):
        remove_left_behind(folder)
        runs.claim(folder, out, _resolved(config, center, leaves, overlaps), overwrite)
        ranks.let_go()  # no method of a star trains
        links = [
            _link(center, leaf, folder, config, via, progress, overwrite=overwrite, device=device, log=log)
            for leaf, via in zip(leaves, overlaps, strict=True)
        ]
        space = join_spaces(*(link.space for link in links))
        space.save(out)
    notes, warnings = (
        tuple(f"{name}: {each}" for name, link in zip(names[1:], links, strict=True) for each in getattr(link, told))
        for told in ("notes", "warnings")
    )
    return replace(links[0], space=space, notes=notes, warnings=warnings, links=tuple(links))


def _overlaps(base: Memory, leaves: list[Memory], via: Sequence[Modality]) -> list[Modality]:
    if len(via) not in (0, 1, len(leaves)):
        raise InputError(f"{len(via)} overlaps for {len(leaves)} memories; give one --via for all, or one for each")
    shared = [sum(modality in base.modalities for modality in leaf.modalities) for leaf in leaves]
    chosen = via if len(via) == len(leaves) else [via[0] if via and count > 1 else None for count in shared]
    return [shared_modality(base, leaf, own) for leaf, own in zip(leaves, chosen, strict=True)]


def _link(
    base: Memory, leaf: Memory, folder: Path, config: ConnectConfig, via: Modality, progress: Progress, **options: Any
) -> runs.Connection:
    """Fit one leaf into the base, with a run and a space of its own under the folder of the star's run."""
    # What a link is measured by beside the overlap: the first other modality of each side, where both have one.
    outer = [next((m for m in memory.modalities if m != via), None) for memory in (base, leaf)]
    if None in outer:
        config = config.replace(pairing="none")
    name = leaf.encoder.name

    def told(done: int, total: int, note: str = "") -> None:
        progress(done, total, f"{name}: {note}")

    own = folder / "links" / re.sub(r"[^A-Za-z0-9-]+", "_", name)[:100]
    sides: dict[str, Any] = {"via": via, "outer_a": outer[0], "outer_b": outer[1], "freeze_base": True}
    return runs.connect(base, leaf, own, config, **sides, progress=told, **options)


def _resolved(config: ConnectConfig, base: Memory, leaves: list[Memory], overlaps: list[Modality]) -> dict[str, Any]:
    """Return what tells this run from another."""
    memories = [
        {
            "encoder": each.encoder.name,
            "overlap": via,
            "modalities": {str(m): each.fingerprint(m) for m in each.modalities},
        }
        for each, via in ((base, None), *zip(leaves, overlaps, strict=True))
    ]
    return {"recipe": config.to_dict(), "memories": memories, "frozen": True}
