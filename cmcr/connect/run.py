"""Connect two memories: join, pair, fit by the chosen method, measure on held-out overlap, save the space."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cmcr.connect import train as training
from cmcr.connect.batches import batch_size_for
from cmcr.connect.choose import too_few
from cmcr.connect.config import ConnectConfig
from cmcr.connect.fitted import CHECKPOINT
from cmcr.connect.folds import DONE, FOLDER, cross_validate
from cmcr.connect.methods import load_method
from cmcr.connect.pairs import Pairs
from cmcr.connect.split import split
from cmcr.connect.validation import build_validation
from cmcr.devices import choose_device, choose_products
from cmcr.errors import ArtifactError, InputError
from cmcr.files import locked, remove_left_behind, write_json
from cmcr.hooks import Log, Progress, silent, unlogged
from cmcr.memory import Memory
from cmcr.memory.overlap import Overlap, Side, join, outer_modality
from cmcr.modality import Modality
from cmcr.ranks import ALONE, Ranks
from cmcr.reading import open_npy, read_json
from cmcr.space import ConnectedSpace, Link
from cmcr.space.space import SpaceEncoder

ONE_SIDED = ("linear", "route")
"""Methods that map the second side into the first, whose vectors may then stay as they are."""


@dataclass(frozen=True)
class Connection:
    """What ``connect`` made.

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


def connect(
    memory_a: Memory | str | Path,
    memory_b: Memory | str | Path,
    out: str | Path,
    config: ConnectConfig | None = None,
    *,
    via: Modality | None = None,
    outer_a: Modality | None = None,
    outer_b: Modality | None = None,
    freeze_base: bool = False,
    run: str | Path | None = None,
    overwrite: bool = False,
    device: str = "cpu",
    ranks: Ranks = ALONE,
    progress: Progress = silent,
    log: Log = unlogged,
) -> Connection:
    """Connect two memories into a space folder, with no pair of their outer modalities.

    Args:
        memory_a: First memory; its encoder is the base, into whose space ``linear`` and ``route`` map.
        memory_b: Second memory.
        out: The space folder to write.
        config: The recipe; C-MCR's defaults when left out.
        via: The overlap modality, needed when the memories share several.
        outer_a: The modality to recall from the first memory, needed when it holds several.
        outer_b: Likewise for the second.
        freeze_base: Keep the first memory's vectors as they are, not even centred (``linear`` and ``route`` only).
        run: Folder of pairs, metrics and checkpoint; ``out`` with the suffix ``.run`` when left out. The same call
            with the same recipe goes on where a stopped run was.
        overwrite: Drop a run or space of another recipe at the same place.
        device: Where to pair and train.
        ranks: This process among those that train together; it must be rank 0, the others call ``follow``.
        progress: Called as work proceeds.
        log: Called with each epoch's record.

    Raises:
        InputError: the memories cannot be connected, or the recipe does not fit them.
        ArtifactError: a damaged memory, or a run of another recipe in the way.
    """
    if config is not None and not isinstance(config, ConnectConfig):
        raise InputError(f"config is a {type(config).__name__}; expected a ConnectConfig")
    config = config or ConnectConfig()
    if freeze_base:
        check_one_sided(config, "leave out --freeze-base")
    device = choose_device(device) if isinstance(device, str) and ":" not in device else device
    config = config.replace(precision=choose_products(device, config.precision))
    a, b = (m if isinstance(m, Memory) else Memory.open(m) for m in (memory_a, memory_b))
    if a.encoder.name == b.encoder.name:
        raise InputError(f"both memories are of {a.encoder.name}; connecting needs two encoders")
    overlap = join(a, b, via)
    recalls = config.pairing != "none"
    out = Path(out)
    folder = run_folder(out, run)
    if folder.resolve() == out.resolve():
        raise InputError(f"{out} is to be both the run and the space; choose another folder with --run")
    sides = [
        Side(
            memory, overlap.modality, rows, outer_modality(memory, overlap.modality, wanted) if recalls else None, kept
        )
        for memory, rows, wanted, kept in (
            (a, overlap.rows_a, outer_a, freeze_base),
            (b, overlap.rows_b, outer_b, False),
        )
    ]
    config, chosen = load_method(config.method).resolve(config, sides)
    method = load_method(config.method)
    if method.trains:  # a batch that cannot be is refused before hours of pairing
        batch_size_for(config, len(split(len(overlap.rows_a), config)[0]), ranks.size)
    resolved: dict[str, Any] = {"recipe": config.to_dict(), "memories": [_identity(side) for side in sides]} | _spared(
        sides, config
    )
    resolved |= {"frozen": True} if freeze_base else {}
    with hold(folder, out):
        remove_left_behind(folder)
        for memory in (a, b):
            for modality in memory.modalities:  # seconds, of minutes
                memory.check_content(modality)
        claim(folder, out, resolved, overwrite)
        validation = build_validation(sides, folder, config, device, ranks, progress)
        ranks.let_go()
        if not len(validation.held):
            validation.known, validation.ranks = cross_validate(validation, method.fit, folder, progress), ALONE
        fitted = method.fit(validation, folder, progress, log)
        space = ConnectedSpace(
            {side.memory.encoder.name: _entry(side.memory) for side in sides},
            {side.memory.encoder.name: p for side, p in zip(sides, fitted.projectors, strict=True)},
            overlap.modality,
            fitted.config.method,
            fitted.config.to_dict() | {"batch_size": fitted.batch_size},
            fitted.metrics | {"overlap_rows": len(overlap.rows_a)},
            links=[Link(a.encoder.name, b.encoder.name, overlap.modality, *(side.outer for side in sides))],
        )
        space.save(out)
    warnings = (*too_few(fitted.config.method, sides), *filter(None, [fitted.metrics.get("unmeasured")]))
    rows = (len(validation.train), fitted.metrics["held_out"])
    return Connection(space, overlap, rows, fitted.batch_size, chosen + fitted.notes, warnings)


def check_one_sided(config: ConnectConfig, instead: str) -> None:
    """Refuse a method under which the base cannot stay as it is.

    Raises:
        InputError: the method moves both sides.
    """
    if config.method not in ONE_SIDED:
        moves = "may move" if config.method == "auto" else "moves"
        raise InputError(f"{config.method} {moves} both sides; choose --method linear or route, or {instead}")


def _spared(sides: list[Side], config: ConnectConfig) -> dict[str, str]:
    """Return what tells a run apart whose overlap was too small for ``val_fraction``: other rows are trained on."""
    rows = len(sides[0].rows)
    held = len(split(rows, config)[1])
    if held and held == round(rows * config.val_fraction):
        return {}
    return {"held_out": f"{held} rows" if held else "by folds"}


@contextmanager
def hold(*folders: Path) -> Iterator[None]:
    """Hold the locks of the run and of the space: neither may be written by two."""
    with ExitStack() as stack:
        for folder in folders:
            stack.enter_context(locked(folder))
        yield


def follow(
    out: str | Path, config: ConnectConfig, ranks: Ranks, *, run: str | Path | None = None, device: str = "cpu"
) -> None:
    """Train along with ``connect``, which rank 0 calls: what every other rank does; it writes and prints nothing.

    Raises:
        ArtifactError: this rank does not see the pairs that rank 0 made.
    """
    ranks.wait()
    along = load_method(config.method).along
    if along is None:
        return
    folder = run_folder(Path(out), run)
    parts = (
        ("overlap_a", "overlap_b") if config.pairing == "none" else ("overlap_a", "overlap_b", "pseudo_a", "pseudo_b")
    )
    try:
        pairs = Pairs(*(open_npy(folder / "pairs" / f"{part}.npy") for part in parts))
    except (OSError, ValueError) as error:
        raise ArtifactError(
            f"{folder}: rank {ranks.rank} cannot read the pairs; put the run where all see it"
        ) from error
    checkpoint = folder / CHECKPOINT
    train, held = split(len(pairs), config)
    if not len(held):  # so few rows that rank 0 trains alone
        return
    objective = along(pairs, config, device)
    training.fit(objective, train, config, lambda *maps: {}, checkpoint=checkpoint, device=device, ranks=ranks)


def run_folder(out: Path, run: str | Path | None) -> Path:
    """Return where the run of a space lies."""
    return Path(run) if run is not None else out.with_name(out.name + ".run")


def _entry(memory: Memory) -> SpaceEncoder:
    encoder = memory.encoder
    return SpaceEncoder(encoder.name, encoder.fingerprint, encoder.dim, memory.modalities)


def _identity(side: Side) -> dict[str, Any]:
    memory = side.memory
    held = {str(modality): memory.fingerprint(modality) for modality in memory.modalities}
    return {"encoder": memory.encoder.name, "overlap": side.overlap, "outer": side.outer, "modalities": held}


def claim(folder: Path, out: Path, resolved: dict[str, Any], overwrite: bool) -> None:
    """Make ``folder`` the run of this recipe: go on with it, or refuse (or drop) another's."""
    path = folder / "config.json"
    if not path.exists() and not overwrite and (out / "config.json").exists():
        raise ArtifactError(f"{out} holds a space without its run; choose another folder or add --overwrite")
    if path.exists():
        try:
            found = read_json(path)
        except (OSError, ValueError):
            found = None
        if found == json.loads(json.dumps(resolved)):
            return
        # A run that failed before its first epoch has nothing to lose: correcting a flag must not need --overwrite.
        begun = any(folder.rglob(CHECKPOINT)) or any(folder.rglob(DONE)) or (out / "config.json").exists()
        if begun and not overwrite:
            raise ArtifactError(
                f"{folder} is a run of {_difference(found, resolved)}; choose another folder or add --overwrite"
            )
        # The pairs stay: each names what it was made from, and is made anew if that differs.
        for stale in (*folder.rglob(CHECKPOINT), *folder.rglob("metrics.jsonl")):
            stale.unlink()
        shutil.rmtree(folder / FOLDER, ignore_errors=True)
    write_json(path, resolved)


def _difference(found: Any, wanted: dict[str, Any]) -> str:
    """Name the first setting in which two resolved recipes differ."""
    if not isinstance(found, dict) or not isinstance(found.get("recipe"), dict):
        return "something unreadable"
    for name, value in wanted["recipe"].items():
        if found["recipe"].get(name) != value:
            return f"another recipe ({name} {found['recipe'].get(name)!r}, now {value!r})"
    if found.get("frozen") != wanted.get("frozen"):
        return "another kind (its base was frozen, or now is)"
    if found.get("held_out") != wanted.get("held_out"):
        return "another way to hold rows out, of an earlier version"
    return "other memories"
