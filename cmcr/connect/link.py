"""Fit one link: join two memories, pair, fit by a method, measure on held-out overlap, save the space of the two."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cmcr.connect.batches import batch_size_for
from cmcr.connect.choose import too_few
from cmcr.connect.config import ConnectConfig
from cmcr.connect.fitted import Fitted
from cmcr.connect.folds import cross_validate
from cmcr.connect.methods import BUILT_IN, load_method
from cmcr.connect.split import split
from cmcr.connect.validation import build_validation
from cmcr.errors import InputError
from cmcr.hooks import Log, Progress, silent, unlogged
from cmcr.memory import Memory, translation_notes
from cmcr.memory.known import KnownPairs, contradicting, join_pairs
from cmcr.memory.overlap import Overlap, Side, join, only_modality, outer_modality
from cmcr.modality import Modality
from cmcr.ranks import ALONE, Ranks
from cmcr.space import ConnectedSpace, Link
from cmcr.space.run import claimed
from cmcr.space.space import SpaceEncoder

Outers = tuple[Modality | None, Modality | None]
"""What each of two memories recalls beside the overlap; None: what there is."""


@dataclass(frozen=True)
class Work:
    """Where the work is done, by whom, and whom it is told.

    >>> from cmcr.connect.link import Work
    >>> Work(device="cuda").overwrite
    False
    """

    overwrite: bool = False
    device: str = "cpu"
    ranks: Ranks = ALONE
    progress: Progress = silent
    log: Log = unlogged


@dataclass(frozen=True)
class Connection:
    """What ``connect`` made.

    >>> import numpy as np
    >>> from cmcr import ArrayMemory, ConnectConfig, connect_memories
    >>> texts = np.random.default_rng(0).normal(size=(400, 6))
    >>> a, b = ArrayMemory("a", {"text": texts}), ArrayMemory("b", {"text": texts[:, ::-1]})
    >>> made = connect_memories(a, b, out="space", config=ConnectConfig("linear", pairing="none"))
    >>> made.rows, made.space.dim
    ((380, 20), 6)

    Attributes:
        space: The connected space.
        overlap: How the memories joined.
        rows: Overlap rows trained on and held out; of few rows, all are trained on, and each is held out by one fold.
        batch_size: Rows a step; 0 for a training-free method.
        notes: What the user should know about the run, one sentence each.
        warnings: What speaks against relying on it, likewise.
        links: Of more than two memories, the connection of each to the base; ``overlap`` and ``rows`` are the first's.
    """

    space: ConnectedSpace
    overlap: Overlap
    rows: tuple[int, int]
    batch_size: int
    notes: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    links: tuple[Connection, ...] = ()


def connect_two(
    a: Memory,
    b: Memory,
    out: Path,
    folder: Path,
    config: ConnectConfig,
    via: Modality | None,
    outer: Outers,
    frozen: bool,
    work: Work,
    pairs: Iterable[tuple[str, str]] | None = None,
) -> Connection:
    """Connect two memories into the space folder ``out``, with a run in ``folder``; see ``cmcr.connect.connect``."""
    if pairs is not None and not set(a.modalities) & set(b.modalities):
        overlap, unknown = _paired(a, b, outer, pairs)
        given, config, outer = None, config.replace(pairing="none"), (None, None)
    else:
        overlap = join(a, b, via)
        given = None if pairs is None else _known(a, b, overlap, outer, pairs)
        unknown = given.unknown if given else 0
    if frozen:
        config, outer = _measured_by(a, b, overlap.modality, outer, config)
    sides = _sides(a, b, overlap, outer, frozen, recalls=config.pairing != "none")
    config, chosen = load_method(config.method).resolve(config, sides)
    config, chosen = _taught(config, chosen, given)
    method = load_method(config.method)
    if given and not method.uses_pairs:
        *names, last = (name for name in BUILT_IN if load_method(name).uses_pairs)
        fit = f"{', '.join(names)} or {last}"
        raise InputError(f"{config.method} learns from no known pairs; choose --method {fit}, or leave out --pairs")
    if method.trains:  # a batch that cannot be is refused before hours of pairing
        batch_size_for(config, len(split(len(overlap.rows_a), config)[0]), work.ranks.size)
    for memory in (a, b):
        for modality in memory.modalities:  # seconds, of minutes
            memory.check_content(modality)
    with claimed(folder, out, _resolved(sides, config, given), work.overwrite):
        validation = build_validation(sides, folder, config, work.device, work.ranks, work.progress)
        validation.given = given
        work.ranks.let_go()
        if not len(validation.held):
            known = cross_validate(validation, method.fit, folder, work.progress)
            validation.known, validation.ranks = known, ALONE
        fitted = method.fit(validation, folder, work.progress, work.log)
        space = _space(sides, overlap, fitted)
        if frozen and space.base is None:
            raise InputError(f"{config.method} is said to be one-sided, and moved {a.encoder.name}: repair its package")
        space.save(out)
    against = contradicting(a, b, overlap.modality, given) if given else ""
    doubts = filter(None, [fitted.metrics.get("unmeasured"), against])
    warnings = (*too_few(fitted.config.method, sides), *doubts, *translation_notes(a, b))
    rows = len(validation.train), fitted.metrics["held_out"]
    left = (f"{unknown} listed pairs are not of rows of both memories: left out",) if unknown else ()
    return Connection(space, overlap, rows, fitted.batch_size, left + chosen + fitted.notes, warnings)


def _taught(
    config: ConnectConfig, chosen: tuple[str, ...], given: KnownPairs | None
) -> tuple[ConnectConfig, tuple[str, ...]]:
    """Return the recipe, or csa's where ``auto`` took a method that known pairs teach nothing (it says why it did)."""
    if given is None or not chosen or config.method != "route":
        return config, chosen
    return config.replace(method="csa"), (*chosen, "auto: csa instead, for route learns from no known pairs")


def _measured_by(
    a: Memory, b: Memory, via: Modality, outer: Outers, config: ConnectConfig
) -> tuple[ConnectConfig, Outers]:
    """Return what a link into a frozen base is measured by beside the overlap, which it does not depend on.

    That is the first other modality of each side, unless one is named; nothing where a side has none.
    """
    first = [next((m for m in memory.modalities if m != via), None) for memory in (a, b)]
    if None in first:
        return config.replace(pairing="none"), outer
    return config, (outer[0] or first[0], outer[1] or first[1])


def _sides(a: Memory, b: Memory, overlap: Overlap, outer: Outers, frozen: bool, *, recalls: bool) -> list[Side]:
    return [
        Side(memory, shared, rows, outer_modality(memory, shared, own) if recalls else None, kept)
        for memory, shared, rows, own, kept in (
            (a, overlap.modality, overlap.rows_a, outer[0], frozen),
            (b, overlap.of_second, overlap.rows_b, outer[1], False),
        )
    ]


def _paired(a: Memory, b: Memory, outer: Outers, pairs: Iterable[tuple[str, str]]) -> tuple[Overlap, int]:
    """Return pairs as the overlap of two memories that share no modality, and how many were left out."""
    modality_a, modality_b = (only_modality(memory, own) for memory, own in ((a, outer[0]), (b, outer[1])))
    known = join_pairs(a, b, modality_a, modality_b, pairs)
    only_a = a.rows(modality_a) - len(np.unique(known.rows_a))
    only_b = b.rows(modality_b) - len(np.unique(known.rows_b))
    return Overlap(modality_a, known.rows_a, known.rows_b, only_a, only_b, 0, modality_b), known.unknown


def _known(a: Memory, b: Memory, overlap: Overlap, outer: Outers, pairs: Iterable[tuple[str, str]]) -> KnownPairs:
    modality_a, modality_b = (outer_modality(m, overlap.modality, own) for m, own in ((a, outer[0]), (b, outer[1])))
    return join_pairs(a, b, modality_a, modality_b, pairs)


def _resolved(sides: list[Side], config: ConnectConfig, given: KnownPairs | None) -> dict[str, Any]:
    """Return what tells a run from another."""
    resolved: dict[str, Any] = {"recipe": config.to_dict(), "memories": [_identity(side) for side in sides]}
    rows = len(sides[0].rows)
    held = len(split(rows, config)[1])
    if not held or held != round(rows * config.val_fraction):  # too small for the fraction: other rows are trained on
        resolved["held_out"] = f"{held} rows" if held else "by folds"
    if given:
        resolved["pairs"] = given.digest()
    return resolved | ({"frozen": True} if sides[0].frozen else {})


def _identity(side: Side) -> dict[str, Any]:
    memory = side.memory
    held = {str(modality): memory.fingerprint(modality) for modality in memory.modalities}
    return {"encoder": memory.encoder.name, "overlap": side.overlap, "outer": side.outer, "modalities": held}


def _link(sides: list[Side], overlap: Overlap) -> Link:
    a, b = (side.memory.encoder.name for side in sides)
    return Link(a, b, overlap.modality, sides[0].outer, sides[1].outer, overlap.other)


def _space(sides: list[Side], overlap: Overlap, fitted: Fitted) -> ConnectedSpace:
    encoders = [(side.memory.encoder, side.memory.modalities) for side in sides]
    return ConnectedSpace(
        {each.name: SpaceEncoder(each.name, each.fingerprint, each.dim, held) for each, held in encoders},
        {side.memory.encoder.name: made for side, made in zip(sides, fitted.projectors, strict=True)},
        overlap.modality,
        fitted.config.method,
        fitted.config.to_dict() | {"batch_size": fitted.batch_size},
        fitted.metrics | {"overlap_rows": len(overlap.rows_a)},
        links=[_link(sides, overlap)],
    )
