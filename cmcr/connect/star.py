"""Connect several memories to a base that stays as it is: a star of links, each fitted alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from cmcr.connect.config import ConnectConfig
from cmcr.connect.link import Connection, Work, connect_two
from cmcr.errors import InputError
from cmcr.memory import Memory
from cmcr.memory.overlap import shared_modality
from cmcr.modality import Modality
from cmcr.ranks import ALONE
from cmcr.space import join_spaces
from cmcr.space.run import claimed


def connect_star(
    base: Memory, leaves: list[Memory], out: Path, folder: Path, config: ConnectConfig, via: list[Modality], work: Work
) -> Connection:
    """Connect memories into the frozen space of ``base``, each through its own of ``via``; see ``connect``."""
    names = [leaf.encoder.name for leaf in leaves]
    with claimed(folder, out, _resolved(config, base, leaves, via), work.overwrite):
        work.ranks.let_go()  # rank 0 fits the links alone
        links = [_link(base, leaf, own, folder, config, work) for leaf, own in zip(leaves, via, strict=True)]
        space = join_spaces(*(link.space for link in links))
        space.save(out)
    notes, warnings = (
        tuple(f"{name}: {each}" for name, link in zip(names, links, strict=True) for each in getattr(link, told))
        for told in ("notes", "warnings")
    )
    return replace(links[0], space=space, notes=notes, warnings=warnings, links=tuple(links))


def overlaps(base: Memory, leaves: Sequence[Memory], via: Sequence[Modality]) -> list[Modality]:
    """Return what each memory shares with the base.

    Args:
        base: The base.
        leaves: The other memories.
        via: One for each; or one, for those that share several modalities with the base; or none.

    Raises:
        InputError: a memory shares nothing with the base, or not what is said; or it is not said which of several.
    """
    if len(via) not in (0, 1, len(leaves)):
        if len(leaves) == 1:
            raise InputError(f"{len(via)} overlaps for two memories; give one --via")
        raise InputError(f"{len(via)} overlaps for {len(leaves)} memories; give one --via for all, or one for each")
    shared = [sum(modality in base.modalities for modality in leaf.modalities) for leaf in leaves]
    chosen = via if len(via) == len(leaves) else [via[0] if via and count > 1 else None for count in shared]
    return [shared_modality(base, leaf, own) for leaf, own in zip(leaves, chosen, strict=True)]


def _link(base: Memory, leaf: Memory, via: Modality, folder: Path, config: ConnectConfig, work: Work) -> Connection:
    """Fit one leaf into the base, with a run and a space of its own under the folder of the star's run."""
    name = leaf.encoder.name

    def told(done: int, total: int, note: str = "") -> None:
        work.progress(done, total, f"{name}: {note}")

    plain = re.sub(r"[^A-Za-z0-9-]+", "_", name)[:100]
    known = plain if plain == name else f"{plain}-{sha256(name.encode()).hexdigest()[:8]}"
    own = folder / "links" / known
    alone = replace(work, ranks=ALONE, progress=told)
    return connect_two(base, leaf, own, own.with_name(f"{own.name}.run"), config, via, (None, None), True, alone)


def _resolved(config: ConnectConfig, base: Memory, leaves: list[Memory], via: list[Modality]) -> dict[str, Any]:
    """Return what tells this run from another."""
    memories = [
        {
            "encoder": each.encoder.name,
            "overlap": own,
            "modalities": {str(m): each.fingerprint(m) for m in each.modalities},
        }
        for each, own in ((base, None), *zip(leaves, via, strict=True))
    ]
    return {"recipe": config.to_dict(), "memories": memories, "frozen": True}
