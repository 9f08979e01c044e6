"""``cmcr fuse`` without the command line: join, train, write the fused rows as a memory; or fuse by what is trained."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cmcr.errors import ArtifactError
from cmcr.files import locked, remove_left_behind, write_atomic, write_json
from cmcr.fuse.config import read_config
from cmcr.fuse.model import Fuser
from cmcr.fuse.rows import Rows, Side, check_rows, join_rows
from cmcr.fuse.settings import FuseSettings
from cmcr.fuse.train import train
from cmcr.hooks import Log, Progress, silent
from cmcr.memory import MANIFEST, Memory, MemoryWriter, view_count, views_fingerprint
from cmcr.modality import Modality
from cmcr.reading import read_json
from cmcr.space.run import CHECKPOINT

FUSION = "fusion"
"""The folder of a memory in which the weights lie that made it."""
SHARD_SIZE = 10_000


@dataclass(frozen=True)
class Fused:
    """What a run did.

    >>> import numpy as np
    >>> from cmcr.fuse import FuseSettings, fuse
    >>> from cmcr.memory import ArrayMemory
    >>> see = ArrayMemory("see", {"image": np.eye(4)}, {"image": ["a", "b", "c", "d"]})
    >>> hear = ArrayMemory("hear", {"audio": np.eye(3)}, {"audio": ["a", "b", "e"]})
    >>> done = fuse([(see, "image"), (hear, "audio")], "fused", FuseSettings(epochs=2, width=16))
    >>> done.added, done.trained, done.memory.encoder.name
    (5, 2, 'cmcr:fuse/comm/image+audio')

    Attributes:
        fuser: What fused the rows.
        memory: Where they lie.
        added: Rows added.
        already: Rows that were there.
        trained: Rows it was trained on in this run; 0 where it was trained before.
        notes: What a user must know: rows that lack a modality, views that noise stands for.
    """

    fuser: Fuser
    memory: Memory
    added: int
    already: int
    trained: int
    notes: tuple[str, ...]


def fuse(
    sides: Sequence[tuple[Memory, Modality | str]],
    out: str | Path,
    settings: FuseSettings | None = None,
    *,
    modality: Modality | str = "fused",
    dtype: str | None = None,
    device: str = "cpu",
    progress: Progress = silent,
) -> Fused:
    """Train a fusion on the rows that have two or more modalities, and write every row as a memory.

    The weights lie in the memory's folder ``fusion``; checkpoint and metrics in ``OUT.run``, where the same call goes
    on after it was stopped.

    Args:
        sides: Two or more memories, each with the modality that is taken of it.
        out: The memory's folder.
        settings: CoMM's defaults when left out.
        modality: What the fused rows are called.
        dtype: As in ``embed``.
        device: Where to train.
        progress: Called after each step.

    Raises:
        InputError: what cannot be fused, as ``check_rows`` says.
        ArtifactError: a damaged memory, or something else in the way.
    """
    rows, folder, chosen = join_rows(sides), Path(out), settings or FuseSettings()
    check_rows(rows)
    fuser, trained = _trained(rows, folder, chosen, device, progress)
    notes = (*_views_told(rows, chosen), *_missing_told(rows))
    done = _write(fuser, rows, folder, Modality(modality), dtype)
    return replace(done, trained=trained, notes=(*notes, *done.notes))


def fuse_with(
    model: str | Path,
    sides: Sequence[tuple[Memory, Modality | str]],
    out: str | Path,
    *,
    modality: Modality | str = "fused",
    dtype: str | None = None,
) -> Fused:
    """Fuse rows by what another call of ``fuse`` trained; into its memory, or a new one.

    Args:
        model: A memory that ``fuse`` wrote.
        sides: One or more of the modalities it was trained on.
        out: The memory's folder; rows whose ids it holds stay as they are.
        modality: As in ``fuse``.
        dtype: As in ``embed``.

    Raises:
        InputError: a modality it was not trained on.
        ArtifactError: no such model, or damaged.
    """
    rows = join_rows(sides)
    fuser = Fuser.from_pretrained(Path(model) / FUSION)
    done = _write(fuser, rows, Path(out), Modality(modality), dtype)
    return replace(done, notes=(*_missing_told(rows, fuser), *done.notes))


def _trained(rows: Rows, out: Path, settings: FuseSettings, device: str, progress: Progress) -> tuple[Fuser, int]:
    """Return what fuses: that which lies there if it is of this recipe, else a new one."""
    learnt, channels = rows.take(rows.trained), rows.table.channels
    recipe = _recipe(learnt, settings)
    if (out / MANIFEST).exists():
        if not (out / FUSION).exists() and not _is_begun(out, recipe):
            raise ArtifactError(f"{out} is a memory that cmcr fuse has not made; choose another folder")
        if (out / FUSION / "config.json").exists():
            found = read_config(out / FUSION).metrics.get("recipe")
            if found != recipe:
                raise ArtifactError(
                    f"{out} holds what another recipe fused ({_difference(found, recipe)}); choose another folder, or "
                    f"add rows to it with --model {out}"
                )
            return Fuser.from_pretrained(out / FUSION), 0
    if settings.objective == "concatenation":
        return Fuser(channels, settings, None, {"recipe": recipe}), 0
    with _claimed(_run_of(out), recipe) as folder:
        network, history = train(
            learnt, settings, checkpoint=folder / CHECKPOINT, device=device, progress=progress, log=_recorded(folder)
        )
    facts = {"recipe": recipe, "rows": len(learnt.table), "loss": history[-1]["loss"]}
    return Fuser(channels, settings, network, facts), len(learnt.table)


def _write(fuser: Fuser, rows: Rows, out: Path, modality: Modality, dtype: str | None) -> Fused:
    """Write the rows that are not there, shard by shard, and the weights before the first."""
    with MemoryWriter(out, fuser.encoder, dtype) as writer:
        if not (out / FUSION / "config.json").exists():
            fuser.save(out / FUSION)
        known = rows.metadata(out)
        held = {}
        if modality in writer.memory.modalities:
            held = {row.id: row.hash for row in writer.memory.metadata(modality)}
        new = np.array([row.id not in held for row in known], dtype=bool)
        changed = sum(row.id in held and held[row.id] != row.hash for row in known)
        order = np.flatnonzero(new)
        for start in range(0, len(order), SHARD_SIZE):
            part = order[start : start + SHARD_SIZE]
            writer.append(modality, fuser.fuse(rows.table.rows(part)), [known[number] for number in part])
        memory = writer.memory
    notes = (
        f"{changed} rows were fused from other content, and stay as they are; fuse into a new folder to renew them",
    )
    return Fused(fuser, memory, len(order), len(known) - len(order), 0, notes if changed else ())


def _views_told(rows: Rows, settings: FuseSettings) -> Iterator[str]:
    if settings.objective == "concatenation":
        return
    names = [channel.name for channel in rows.table.channels]
    noised = [m for m, side in enumerate(rows.sides) if settings.views == "noise" or not _view_count(side)]
    for m, side in enumerate(rows.sides):
        if m not in noised:
            yield f"{names[m]}: {_view_count(side)} views a row, beside its own vector"
    if noised:
        which = ", ".join(names[m] for m in noised)
        size = f"{settings.noise:g} of the vector's length"
        yield f"{which}: noise stands for views ({size}); cmcr embed --views K makes some"


def _view_count(side: Side) -> int:
    return view_count(*side)


def _missing_told(rows: Rows, fuser: Fuser | None = None) -> Iterator[str]:
    channels = rows.table.channels
    wanted = len(fuser.channels) if fuser else len(channels)
    lacking = int((rows.table.present.sum(axis=1) < wanted).sum())
    if lacking:
        yield f"{lacking} of {len(rows.table)} rows lack a modality and are fused from what they have"


def _recipe(rows: Rows, settings: FuseSettings) -> dict[str, Any]:
    """Return what decides of the weights, as JSON reads it."""
    sides = [f"{memory.encoder.name}:{modality} {memory.fingerprint(modality)}" for memory, modality in rows.sides]
    views = [views_fingerprint(memory, modality) for memory, modality in rows.sides]
    found: dict[str, Any] = json.loads(json.dumps({"settings": asdict(settings), "memories": sides, "views": views}))
    return found


def _difference(found: Any, wanted: dict[str, Any]) -> str:
    """Name the first setting in which two recipes differ."""
    if not isinstance(found, dict) or not isinstance(found.get("settings"), dict):
        return "something unreadable"
    for name, value in wanted["settings"].items():
        if found["settings"].get(name) != value:
            return f"{name} {found['settings'].get(name)!r}, now {value!r}"
    return "other rows" if found.get("memories") != wanted["memories"] else "other views"


def _run_of(out: Path) -> Path:
    return out.with_name(out.name + ".run")


def _is_begun(out: Path, recipe: dict[str, Any]) -> bool:
    """Tell whether a run of this recipe was stopped after it made the memory and before its weights were there."""
    try:
        return bool(read_json(_run_of(out) / "config.json") == recipe)
    except (OSError, ValueError):
        return False


@contextmanager
def _claimed(folder: Path, recipe: dict[str, Any]) -> Iterator[Path]:
    """Hold the lock of a run's folder; it is this recipe's, or nothing is lost by making it so.

    Raises:
        ArtifactError: another writes there, or another recipe's run has trained there.
    """
    with locked(folder):
        remove_left_behind(folder)
        path = folder / "config.json"
        try:
            found = read_json(path) if path.exists() else None
        except (OSError, ValueError):
            found = {}
        if found not in (None, recipe) and (folder / CHECKPOINT).exists():
            raise ArtifactError(
                f"{folder} is a run of another recipe ({_difference(found, recipe)}); choose another, or delete it"
            )
        write_json(path, recipe)
        yield folder


def _recorded(folder: Path) -> Log:
    records: list[str] = []

    def record(values: dict[str, Any], step: int) -> None:
        records.append(json.dumps(values) + "\n")
        write_atomic(folder / "metrics.jsonl", "".join(records).encode())

    return record
