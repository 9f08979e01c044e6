"""Connect two memories: join, pair, fit by the chosen method, measure on held-out overlap, save the space."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cmcr import baselines, training
from cmcr.bench import FEW, TRAINED, Bench, Figures, build_bench, split
from cmcr.config import ConnectConfig
from cmcr.devices import choose_device, choose_products
from cmcr.distillation import Teacher
from cmcr.errors import ArtifactError, InputError
from cmcr.files import locked, remove_left_behind, write_atomic, write_json
from cmcr.folds import DONE, FOLDER, Fitted, cross_validate
from cmcr.hooks import Log, Progress, silent, unlogged
from cmcr.memory import Memory
from cmcr.modality import Modality
from cmcr.pairing import Overlap, Pairs, Rows, Side, join, outer_modality
from cmcr.projector import Projector
from cmcr.ranks import ALONE, Ranks
from cmcr.reading import open_npy, read_json
from cmcr.space import ConnectedSpace, SpaceEncoder

CHECKPOINT = "checkpoint.safetensors"


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
    """

    space: ConnectedSpace
    overlap: Overlap
    rows: tuple[int, int]
    batch_size: int
    notes: tuple[str, ...]
    warnings: tuple[str, ...] = ()


def connect(
    memory_a: Memory | str | Path,
    memory_b: Memory | str | Path,
    out: str | Path,
    config: ConnectConfig | None = None,
    *,
    via: Modality | None = None,
    outer_a: Modality | None = None,
    outer_b: Modality | None = None,
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
    device = choose_device(device) if isinstance(device, str) and ":" not in device else device
    config = config.replace(precision=choose_products(device, config.precision))
    a, b = (m if isinstance(m, Memory) else Memory.open(m) for m in (memory_a, memory_b))
    if a.encoder.name == b.encoder.name:
        raise InputError(f"both memories are of {a.encoder.name}; connecting needs two encoders")
    overlap = join(a, b, via)
    recalls = config.pairing != "none"
    out = Path(out)
    folder = _run_folder(out, run)
    if folder.resolve() == out.resolve():
        raise InputError(f"{out} is to be both the run and the space; choose another folder with --run")
    sides = [
        Side(memory, overlap.modality, rows, outer_modality(memory, overlap.modality, wanted) if recalls else None)
        for memory, rows, wanted in ((a, overlap.rows_a, outer_a), (b, overlap.rows_b, outer_b))
    ]
    config, chosen = _choose(config, sides)
    if config.method in TRAINED:  # a batch that cannot be is refused before hours of pairing
        training.batch_size_for(config, len(split(len(overlap.rows_a), config)[0]), ranks.size)
    resolved = {"recipe": config.to_dict(), "memories": [_identity(side) for side in sides]} | _spared(sides, config)
    with _held(folder, out):
        remove_left_behind(folder)
        for memory in (a, b):
            for modality in memory.modalities:  # seconds, of minutes
                memory.check_content(modality)
        _claim(folder, out, resolved, overwrite)
        bench = build_bench(sides, folder, config, device, ranks, progress)
        ranks.let_go()
        if not len(bench.held):
            bench.known, bench.ranks = cross_validate(bench, _METHODS[config.method], folder, progress), ALONE
        fitted = _METHODS[config.method](bench, folder, progress, log)
        space = ConnectedSpace(
            {side.memory.encoder.name: _entry(side.memory) for side in sides},
            {side.memory.encoder.name: p for side, p in zip(sides, fitted.projectors, strict=True)},
            overlap.modality,
            fitted.config.method,
            fitted.config.to_dict() | {"batch_size": fitted.batch_size},
            fitted.metrics | {"overlap_rows": len(overlap.rows_a)},
        )
        space.save(out)
    warnings = (*_too_few(fitted.config.method, sides), *filter(None, [fitted.metrics.get("unmeasured")]))
    rows = (len(bench.train), fitted.metrics["held_out"])
    return Connection(space, overlap, rows, fitted.batch_size, chosen + fitted.notes, warnings)


def _spared(sides: list[Side], config: ConnectConfig) -> dict[str, str]:
    """Return what tells a run apart whose overlap was too small for ``val_fraction``: other rows are trained on."""
    rows = len(sides[0].rows)
    held = len(split(rows, config)[1])
    if held and held == round(rows * config.val_fraction):
        return {}
    return {"held_out": f"{held} rows" if held else "by folds"}


@contextmanager
def _held(*folders: Path) -> Iterator[None]:
    """Hold the locks of the run and of the space: neither may be written by two."""
    with ExitStack() as stack:
        for folder in folders:
            stack.enter_context(locked(folder))
        yield


def _counts(sides: list[Side]) -> dict[str, int]:
    """Return the rows there are to learn from: of each memory that is recalled, and of the overlap."""
    held = {f"{side.memory.path} ({side.outer})": side.memory.rows(side.outer) for side in sides if side.outer}
    return held | {"the overlap": len(sides[0].rows)}


def _few(sides: list[Side]) -> str:
    return ", ".join(f"{name} has {rows} rows" for name, rows in _counts(sides).items() if rows < FEW)


def _too_few(method: str, sides: list[Side]) -> tuple[str, ...]:
    """Return a warning where measured spaces of so few rows were worse than what routing finds without training."""
    few = _few(sides)
    if method not in TRAINED or not few:
        return ()
    return (
        f"{few}: below {FEW}, {method} learns too little to rely on; --method route finds more there "
        "(--method auto takes it)",
    )


def _choose(config: ConnectConfig, sides: list[Side]) -> tuple[ConnectConfig, tuple[str, ...]]:
    """Return the recipe; instead of ``auto``, where there is too little to choose by, ``route`` and why."""
    if config.method == "distill" and any(side.outer is None for side in sides):
        raise InputError("method 'distill' learns from both memories, but pairing is 'none'; choose --pairing full")
    if config.method == "linear" and config.on == "pseudo" and any(side.outer is None for side in sides):
        raise InputError("--on pseudo needs what the memories recall, but pairing is 'none'; choose --pairing full")
    if config.method != "auto":
        return config, ()
    few = _few(sides)
    if few or len(_counts(sides)) < 3:
        why = few or "nothing is recalled"
        return config.replace(method="route"), (f"auto: route, for {why} (the choice wants {FEW} of each)",)
    return config, ()


def follow(
    out: str | Path, config: ConnectConfig, ranks: Ranks, *, run: str | Path | None = None, device: str = "cpu"
) -> None:
    """Train along with ``connect``, which rank 0 calls: what every other rank does; it writes and prints nothing.

    Raises:
        ArtifactError: this rank does not see the pairs that rank 0 made.
    """
    ranks.wait()
    if config.method != "c-mcr":
        return
    folder = _run_folder(Path(out), run)
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
    training.fit(pairs, train, config, lambda *projectors: {}, checkpoint=checkpoint, device=device, ranks=ranks)


def _run_folder(out: Path, run: str | Path | None) -> Path:
    return Path(run) if run is not None else out.with_name(out.name + ".run")


def _c_mcr(bench: Bench, folder: Path, progress: Progress, log: Log) -> Fitted:
    f_a, f_b, state = training.fit(
        bench.pairs,
        bench.train,
        bench.config,
        bench.known.by_epoch if bench.known else bench.measure,
        checkpoint=folder / CHECKPOINT,
        device=bench.device,
        ranks=bench.ranks,
        progress=progress,
        log=_recorded(folder, log),
    )
    return _trained(bench, (f_a, f_b), state)


def _distill(bench: Bench, folder: Path, progress: Progress, log: Log) -> Fitted:
    config = bench.config
    teacher = Teacher(
        bench.pairs, bench.train, (bench.sides[0], bench.sides[1]), bench.centers, config, folder / "pairs",
        bench.device, progress,
    )  # fmt: skip
    f_a, f_b, state = training.fit(
        bench.pairs,
        bench.train,
        config,
        bench.known.by_epoch if bench.known else bench.measure,
        teacher=teacher,
        checkpoint=folder / CHECKPOINT,
        device=bench.device,
        progress=progress,
        log=_recorded(folder, log),
    )
    fitted = _trained(bench, teacher.shrink((f_a, f_b)), state)
    note = (
        f"nearness of the memories to the overlap {teacher.nearness:.2f}: recalled pairs have weight "
        f"{teacher.trust:.2f}, routed similarities {1 - teacher.trust:.2f}"
    )
    measured = _measured_on(bench, fitted.projectors) | {"nearness": teacher.nearness, "trust": teacher.trust}
    return replace(fitted, metrics=fitted.metrics | measured, notes=(note, *fitted.notes))


def _recorded(folder: Path, log: Log) -> Log:
    """Return a log that also keeps each record as a line of ``metrics.jsonl``."""
    records: list[dict[str, Any]] = []

    def record(values: dict[str, Any], step: int) -> None:
        records.append(values)
        write_atomic(folder / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in records).encode())
        log(values, step)

    return record


def _trained(bench: Bench, projectors: tuple[Projector, Projector], state: training.Progressed) -> Fitted:
    config, best = bench.config, next(line for line in state.history if line["epoch"] == state.best_epoch)
    size = training.batch_size_for(config, len(bench.train), bench.ranks.size)
    notes = () if config.batch_size or size == training.PAPER_BATCH else (_shrunk(size, len(bench.train), config),)
    return Fitted(projectors, config, {**best, "epoch": state.best_epoch, **bench.facts()}, size, notes)


def _shrunk(size: int, rows: int, config: ConnectConfig) -> str:
    steps = config.epochs * (rows // size)
    return (
        f"batch size {size} instead of the paper's {training.PAPER_BATCH}: {rows} overlap rows would give "
        f"too few steps (now {steps}); --batch-size sets it"
    )


def _linear(bench: Bench, folder: Path, progress: Progress, log: Log) -> Fitted:
    config = bench.config
    train = bench.pairs.take(bench.train)
    centers = bench.centers if config.center else [{}, {}]
    modality = "overlap" if config.on == "overlap" else "pseudo"
    x, y = _fit_rows(bench, train, centers, modality)
    ridge = config.ridge or (bench.known and bench.known.ridge)
    if not ridge:
        held = _fit_rows(bench, bench.pairs.take(bench.held), centers, modality)
        ridge = baselines.pick_ridge(x, y, *held)
    bridge = baselines.linear_bridge(*baselines.fit_ridge(x, y, ridge), centers[1])
    projectors = baselines.identity(y.shape[1], centers[0]), bridge
    return _measured(bench, projectors, {"ridge": ridge}, log)


def _route(bench: Bench, folder: Path, progress: Progress, log: Log) -> Fitted:
    config = bench.config
    train = bench.pairs.take(bench.train)
    centers = bench.centers if config.center else [{}, {}]
    keys, values = _fit_rows(bench, train, centers, "overlap")
    bridge = baselines.route_bridge(keys, values, config.route_tau, config.route_top_k, centers[1])
    return _measured(bench, (baselines.identity(values.shape[1], centers[0]), bridge), {}, log)


def _auto(bench: Bench, folder: Path, progress: Progress, log: Log) -> Fitted:
    """Fit by each method and return the one whose space agrees best.

    Of methods within a standard error of the best, the one that was better wherever pairs could tell.
    Not by ``route``: it maps a row by the overlap rows near it, which is what agreement looks at, so that on real
    vectors it agreed better than ``distill`` while its recall was lower.
    """
    fitted: dict[str, Fitted] = {}
    for method in ("linear", "c-mcr", "distill"):
        own = folder / method
        own.mkdir(exist_ok=True)
        fitted[method] = _METHODS[method](bench.of(bench.config.replace(method=method)), own, progress, log)
    if bench.agreement is None:
        why = f"auto: distill, for {bench.unmeasured or 'nothing is recalled'}; nothing to compare"
        return replace(fitted["distill"], notes=(why, *fitted["distill"].notes))
    found = {method: each.metrics["agreement"] for method, each in fitted.items()}
    highest = max(found.values())
    # Rows that lie by the same overlap row stand or fall together.
    error = math.sqrt(highest * (1 - highest) / min(bench.agreement.rows, len(bench.rows.overlap_a)))
    best = next(method for method in ("distill", "c-mcr", "linear") if found[method] >= highest - error)
    others = ", ".join(f"{method} {found[method]:.3f}" for method in found if method != best)
    why = (
        f"auto: {best}, for its agreement of {found[best]:.3f} ({others}; standard error {error:.3f}, chance "
        f"{bench.agreement.chance:.3f}, {bench.agreement.rows} rows)"
    )
    return replace(fitted[best], notes=(why, *fitted[best].notes))


_METHODS: dict[str, Callable[[Bench, Path, Progress, Log], Fitted]] = {
    "auto": _auto,
    "c-mcr": _c_mcr,
    "distill": _distill,
    "linear": _linear,
    "route": _route,
}


def _measured(bench: Bench, projectors: tuple[Projector, Projector], extra: dict[str, float], log: Log) -> Fitted:
    metrics = _measured_on(bench, projectors) | extra
    log(metrics, 0)
    return Fitted(projectors, bench.config, metrics | bench.facts())


def _measured_on(bench: Bench, projectors: tuple[Projector, Projector]) -> Figures:
    """Return the bench's measures of projectors that lie on the processor, and stay there; or what is known of them."""
    if bench.known:
        return dict(bench.known.final)
    f_a, f_b = (projector.to(bench.device) for projector in projectors)
    measured = bench.measure(f_a, f_b)
    f_a.cpu()
    f_b.cpu()
    return measured


def _fit_rows(bench: Bench, rows: Rows, centers: list[dict[str, Tensor]], part: str) -> tuple[Tensor, Tensor]:
    """Return what the bridge maps from (second space) and to (first space), centred as its input will be."""
    found = {"overlap": (rows.overlap_b, rows.overlap_a), "pseudo": (rows.pseudo_b, rows.pseudo_a)}[part]
    names = [side.overlap if part == "overlap" else side.outer for side in (bench.sides[1], bench.sides[0])]
    result = []
    for x, name, center in zip(found, names, (centers[1], centers[0]), strict=True):
        assert x is not None and name is not None  # noqa: S101  (refused before)
        x = torch.nn.functional.normalize(x, dim=1)
        result.append(torch.nn.functional.normalize(x - center[name], dim=1) if name in center else x)
    return result[0], result[1]


def _entry(memory: Memory) -> SpaceEncoder:
    encoder = memory.encoder
    return SpaceEncoder(encoder.name, encoder.fingerprint, encoder.dim, memory.modalities)


def _identity(side: Side) -> dict[str, Any]:
    memory = side.memory
    held = {str(modality): memory.fingerprint(modality) for modality in memory.modalities}
    return {"encoder": memory.encoder.name, "overlap": side.overlap, "outer": side.outer, "modalities": held}


def _claim(folder: Path, out: Path, resolved: dict[str, Any], overwrite: bool) -> None:
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
    if found.get("held_out") != wanted.get("held_out"):
        return "another way to hold rows out, of an earlier version"
    return "other memories"
