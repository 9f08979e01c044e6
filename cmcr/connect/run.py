"""Connect memories into one space: two of them, or any number with a base; and the processes that train along."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cmcr.connect import train as training
from cmcr.connect.config import ConnectConfig
from cmcr.connect.link import Connection, Work, connect_two
from cmcr.connect.methods import BUILT_IN, load_method
from cmcr.connect.pairs import Pairs
from cmcr.connect.split import split
from cmcr.connect.star import connect_star, overlaps
from cmcr.devices import choose_device, choose_products
from cmcr.errors import ArtifactError, InputError
from cmcr.hooks import Log, Progress, silent, unlogged
from cmcr.memory import Memory
from cmcr.memory.known import read_pairs
from cmcr.modality import Modality
from cmcr.ranks import ALONE, Ranks
from cmcr.reading import open_npy, read_json
from cmcr.space.run import CHECKPOINT, run_folder

__all__ = ["Connection", "connect", "follow"]


def connect(
    base: Memory | str | Path,
    *others: Memory | str | Path | ConnectConfig | None,
    out: str | Path | None = None,
    config: ConnectConfig | None = None,
    via: Modality | Sequence[Modality] | None = None,
    outer_a: Modality | None = None,
    outer_b: Modality | None = None,
    pairs: str | Path | Sequence[tuple[str, str]] | None = None,
    freeze_base: bool = False,
    run: str | Path | None = None,
    overwrite: bool = False,
    device: str = "cpu",
    ranks: Ranks = ALONE,
    progress: Progress = silent,
    log: Log = unlogged,
) -> Connection:
    """Connect memories into a space folder, with no pair of their outer modalities.

    Two memories may both move. Of more, each is mapped into the space of the first, which stays as it is: what the
    base finds stays the same, each link is fitted alone, and spaces of one base can be joined.

    Args:
        base: First memory; its encoder is the base, into whose space one-sided methods (``linear``, ``route``) map.
        others: One or more memories of other encoders. ``out`` and ``config`` may follow them by position.
        out: The space folder to write.
        config: The recipe, of each link; C-MCR's defaults when left out.
        via: The overlap with the base, needed for memories that share several modalities with it; or one for each.
        outer_a: Of two memories, the modality to recall from the first, needed when it holds several and moves.
        outer_b: Likewise for the second.
        pairs: Of two memories, ids of rows that are known to belong together (a table of two columns, or a list): of
            their outer modalities, beside the overlap; or of any, where they share none.
        freeze_base: Keep the first memory's vectors as they are, not even centred, as of more than two they are, and
            by methods that always do.
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
    memories, out, config = _arguments([base, *others], out, config)
    several = len(memories) > 2
    frozen = freeze_base or several or load_method(config.method).keeps_base
    if frozen:
        _check_one_sided(config, "connect two memories" if several else "leave out --freeze-base")
    if several and (outer_a or outer_b):
        raise InputError("--outer-a and --outer-b are for two memories; leave them out")
    device = choose_device(device) if isinstance(device, str) and ":" not in device else device
    config = config.replace(precision=choose_products(device, config.precision))
    center, *leaves = (each if isinstance(each, Memory) else Memory.open(each) for each in memories)
    _check_encoders([memory.encoder.name for memory in (center, *leaves)], frozen)
    if several and pairs is not None:
        raise InputError("--pairs are of two memories; connect them two at a time, and cmcr join the spaces")
    known = read_pairs(Path(pairs)) if isinstance(pairs, str | Path) else pairs
    alone = known is not None and not set(center.modalities) & set(leaves[0].modalities)
    shared = [] if alone else overlaps(center, leaves, [via] if isinstance(via, str) else via or ())
    folder, work = run_folder(out, run), Work(overwrite, device, ranks, progress, log)
    if several:
        return connect_star(center, leaves, out, folder, config, shared, work)
    return connect_two(
        center, leaves[0], out, folder, config, shared[0] if shared else None, (outer_a, outer_b), frozen, work, known
    )


def _arguments(given: list[Any], out: Any, config: Any) -> tuple[list[Memory | str | Path], Path, ConnectConfig]:
    """Return the memories, the space folder and the recipe; the last two may stand among the memories, at the end."""
    if config is None and not isinstance(given[-1], Memory | str | Path):
        config = given.pop()
    if config is not None and not isinstance(config, ConnectConfig):
        raise InputError(f"config is a {type(config).__name__}; expected a ConnectConfig")
    if out is None:
        out = given.pop()
    if len(given) < 2:
        raise InputError(
            f"{len(given)} memories; give two or more, and the folder of the space: connect(a, b, out=...)"
        )
    if not isinstance(out, str | Path):
        raise InputError(f"out is a {type(out).__name__}; expected the folder of the space")
    return given, Path(out), config or ConnectConfig()


def _check_one_sided(config: ConnectConfig, instead: str) -> None:
    """Refuse a method under which the base cannot stay as it is."""
    if not load_method(config.method).one_sided:
        *names, last = (name for name in BUILT_IN if load_method(name).one_sided)
        fit = f"{', '.join(names)} or {last}"
        raise InputError(f"{config.method} moves both sides; choose --method {fit}, or {instead}")


def _check_encoders(names: list[str], frozen: bool) -> None:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice and frozen:
        raise InputError(f"two of the memories are of {twice}; a space takes each encoder once")
    if twice:
        raise InputError(f"both memories are of {twice}; connecting needs two encoders")


def follow(
    out: str | Path,
    config: ConnectConfig,
    ranks: Ranks,
    *,
    star: bool = False,
    run: str | Path | None = None,
    device: str = "cpu",
) -> None:
    """Train along with ``connect``, which rank 0 calls: what every other rank does; it writes and prints nothing.

    Of more than two memories (``star``) rank 0 fits the links alone.

    Raises:
        ArtifactError: this rank does not see the pairs that rank 0 made.
    """
    ranks.wait()
    along = load_method(config.method).along
    if along is None or star:
        return
    folder = run_folder(Path(out), run)
    try:
        # Rank 0 recalls nothing for a frozen base without another modality, whatever the recipe says.
        config = config.replace(pairing=read_json(folder / "config.json")["recipe"]["pairing"])
        parts = ("overlap_a", "overlap_b", "pseudo_a", "pseudo_b")[: 2 if config.pairing == "none" else 4]
        pairs = Pairs(*(open_npy(folder / "pairs" / f"{part}.npy") for part in parts))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(
            f"{folder}: rank {ranks.rank} cannot read the pairs; put the run where all see it"
        ) from error
    checkpoint = folder / CHECKPOINT
    train, held = split(len(pairs), config)
    if not len(held):  # so few rows that rank 0 trains alone
        return
    objective = along(pairs, config, device)
    training.fit(objective, train, config, lambda *maps: {}, checkpoint=checkpoint, device=device, ranks=ranks)
