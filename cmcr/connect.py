"""Connect two memories: join, pair, fit by the chosen method, measure on held-out overlap, save the space."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cmcr import baselines, training
from cmcr.agreement import Agreement
from cmcr.config import ConnectConfig
from cmcr.devices import choose_products
from cmcr.distillation import Teacher, spread, trust
from cmcr.errors import ArtifactError, InputError
from cmcr.files import locked, remove_left_behind, write_atomic, write_json
from cmcr.hooks import Log, Progress, silent, unlogged
from cmcr.memory import Memory
from cmcr.metrics import modality_gap, ranks, recall_at
from cmcr.modality import Modality
from cmcr.pairing import Overlap, Pairs, Rows, Side, build_pairs, join, outer_modality
from cmcr.projector import Projector
from cmcr.ranks import ALONE, Ranks
from cmcr.reading import open_npy, read_json
from cmcr.space import ConnectedSpace, SpaceEncoder

CHECKPOINT = "checkpoint.safetensors"
TRAINED = ("c-mcr", "distill", "auto")
"""Methods that train in batches of the overlap."""
FEW = 64
"""Fewer rows than this in a memory or the overlap teach projectors nothing: ``auto`` routes."""
CENTRED = 65_536
"""Overlap rows held at a time for their mean."""
SAMPLE = 2048
"""At most this many rows enter a validation measure: the gallery of its recalls."""


@dataclass(frozen=True)
class Connection:
    """What ``connect`` made.

    Attributes:
        space: The connected space.
        overlap: How the memories joined.
        rows: Overlap rows trained on and held out.
        batch_size: Rows a step; 0 for a training-free method.
        notes: What the user should know about the run, one sentence each.
    """

    space: ConnectedSpace
    overlap: Overlap
    rows: tuple[int, int]
    batch_size: int
    notes: tuple[str, ...]


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
    config = config or ConnectConfig()
    config = config.replace(precision=choose_products(device, config.precision))
    a, b = (m if isinstance(m, Memory) else Memory.open(m) for m in (memory_a, memory_b))
    if a.encoder.name == b.encoder.name:
        raise InputError(f"both memories are of {a.encoder.name}; connecting needs two encoders")
    overlap = join(a, b, via)
    recalls = config.pairing != "none"
    out = Path(out)
    folder = _run_folder(out, run)
    sides = [
        Side(memory, overlap.modality, rows, outer_modality(memory, overlap.modality, wanted) if recalls else None)
        for memory, rows, wanted in ((a, overlap.rows_a, outer_a), (b, overlap.rows_b, outer_b))
    ]
    config, chosen = _choose(config, sides)
    if config.method in TRAINED:  # a batch that cannot be is refused before hours of pairing
        training.batch_size_for(config, len(split(len(overlap.rows_a), config)[0]), ranks.size)
    resolved = {"recipe": config.to_dict(), "memories": [_identity(side) for side in sides]}
    with locked(folder):
        remove_left_behind(folder)
        for memory in (a, b):
            for modality in memory.modalities:  # seconds, of minutes
                memory.check_content(modality)
        _claim(folder, out, resolved, overwrite)
        bench = _bench(sides, folder, config, device, ranks, progress)
        ranks.let_go()
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
    rows = (len(bench.train), len(bench.held))
    return Connection(space, overlap, rows, fitted.batch_size, chosen + fitted.notes)


def _choose(config: ConnectConfig, sides: list[Side]) -> tuple[ConnectConfig, tuple[str, ...]]:
    """Return the recipe; instead of ``auto``, where there is too little to choose by, ``route`` and why."""
    if config.method == "distill" and any(side.outer is None for side in sides):
        raise InputError("method 'distill' learns from both memories, but pairing is 'none'; choose --pairing full")
    if config.method != "auto":
        return config, ()
    held = {f"{side.memory.path} ({side.outer})": side.memory.rows(side.outer) for side in sides if side.outer}
    held["the overlap"] = len(sides[0].rows)
    few = [f"{name} has {rows} rows" for name, rows in held.items() if rows < FEW]
    if few or len(held) < 3:
        why = ", ".join(few) or "nothing is recalled"
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
    train, _ = split(len(pairs), config)
    training.fit(pairs, train, config, lambda *projectors: {}, checkpoint=checkpoint, device=device, ranks=ranks)


def _run_folder(out: Path, run: str | Path | None) -> Path:
    return Path(run) if run is not None else out.with_name(out.name + ".run")


@dataclass(frozen=True)
class Fitted:
    """What a method returns: its two projectors, the recipe that made them and what was measured."""

    projectors: tuple[Projector, Projector]
    config: ConnectConfig
    metrics: dict[str, Any]
    batch_size: int = 0
    notes: tuple[str, ...] = ()


class Bench:
    """The pairs of a connection, split into training and held-out rows, and the measures on the latter.

    No measure uses a pair of outer modalities, so any of them may choose a model.
    """

    def __init__(
        self,
        pairs: Pairs,
        sides: list[Side],
        config: ConnectConfig,
        device: str = "cpu",
        ranks: Ranks = ALONE,
    ) -> None:
        self.pairs, self.sides, self.config, self.device, self.ranks = pairs, sides, config, device, ranks
        self.train, self.held = split(len(pairs), config)
        self.rows = pairs.take(self.held[:SAMPLE], device)
        self.outer = [None if side.outer is None else _sample(side.memory, side.outer).to(device) for side in sides]
        self.agreement = None
        if self.outer[0] is not None and self.outer[1] is not None:
            overlap = self.rows.overlap_a.to(device), self.rows.overlap_b.to(device)
            agreement = Agreement(overlap, (self.outer[0], self.outer[1]))
            self.agreement = agreement if agreement.rows else None

    @cached_property
    def centers(self) -> list[dict[str, Tensor]]:
        """Per side the (D,) mean of each modality: the overlap's over the training rows, others' over their memory."""
        totals = [np.zeros(dim) for dim in (self.pairs.overlap_a.shape[1], self.pairs.overlap_b.shape[1])]
        for start in range(0, len(self.train), CENTRED):
            part = self.pairs.take(self.train[start : start + CENTRED])
            for total, x in zip(totals, (part.overlap_a, part.overlap_b), strict=True):
                total += x.double().sum(dim=0).numpy()
        centers = []
        for side, total in zip(self.sides, totals, strict=True):
            overlap = torch.from_numpy((total / len(self.train)).astype(np.float32))
            others = [modality for modality in side.memory.modalities if modality != side.overlap]
            means = {str(modality): _mean(side.memory, modality) for modality in others}
            centers.append({str(side.overlap): overlap, **means})
        return centers

    def measure(self, f_a: Projector, f_b: Projector) -> dict[str, float]:
        """Return measures on held-out overlap rows; ``selection`` is what C-MCR's epochs are chosen by.

        They are recall@1 of the overlap and of the pairs it recalls (mean of both directions; their mean is the
        selection), agreement of the memories (``cmcr.agreement``; what methods are chosen by), and modality gaps.
        """
        f_a.eval()
        f_b.eval()
        rows, modality = self.rows, self.sides[0].overlap
        with torch.inference_mode():
            overlap = [f(x.to(self.device), modality) for f, x in ((f_a, rows.overlap_a), (f_b, rows.overlap_b))]
            measured = {"overlap_r1": _both_ways(overlap[0], overlap[1])}
            if rows.pseudo_a is None or rows.pseudo_b is None:
                return measured | {"selection": measured["overlap_r1"]}
            pseudo = [
                f(torch.nn.functional.normalize(x, dim=1), side.outer)
                for f, x, side in zip((f_a, f_b), (rows.pseudo_a, rows.pseudo_b), self.sides, strict=True)
            ]
            measured["pseudo_r1"] = _both_ways(pseudo[0], pseudo[1])
            outer = [f(x, side.outer) for f, x, side in zip((f_a, f_b), self.outer, self.sides, strict=True)]
        raw = ((rows.overlap_a, self.outer[0]), (rows.overlap_b, self.outer[1]))
        measured["gap_before"] = float(np.mean([_gap(x, y) for x, y in raw if y is not None]))
        measured["gap_after"] = float(np.mean([_gap(x, y) for x, y in zip(overlap, outer, strict=True)]))
        measured["outer_gap_after"] = _gap(outer[0], outer[1])
        if self.agreement is not None:
            measured["agreement"] = self.agreement(outer[0], outer[1])
        return measured | {"selection": (measured["overlap_r1"] + measured["pseudo_r1"]) / 2}

    def facts(self) -> dict[str, float]:
        """Return what the measures rest on: held-out rows; rows that can agree, and their agreement by chance."""
        facts: dict[str, float] = {"held_out": len(self.rows.overlap_a)}
        if self.agreement is not None:
            facts |= {"agreement_rows": self.agreement.rows, "agreement_chance": self.agreement.chance}
        return facts

    def of(self, config: ConnectConfig) -> Bench:
        """Return this bench for another recipe with the same split, on this process alone."""
        other = copy.copy(self)
        other.config, other.ranks = config, ALONE
        return other


def _bench(
    sides: list[Side], folder: Path, config: ConnectConfig, device: str, ranks: Ranks, progress: Progress
) -> Bench:
    """Build the pairs. Methods that do not train on what is recalled recall only what is measured."""

    def build(sides: list[Side], name: str, top_k: int = config.top_k) -> Pairs:
        return build_pairs(
            sides[0], sides[1], folder / name, config.tau_memory, top_k, device, config.precision, progress
        )

    bench = Bench(build([replace(side, outer=None) for side in sides], "pairs"), sides, config, device, ranks)
    sample = bench.held[:SAMPLE]
    recalled = config.method in TRAINED or (config.method == "linear" and config.on == "pseudo")
    if config.method == "distill":
        recalled = trust(bench.pairs, bench.train, (sides[0], sides[1]), bench.centers, device)[1] > 0
    if recalled:
        bench.pairs = build(sides, "pairs")
        bench.rows = bench.pairs.take(sample, device)
        return bench
    # For so few rows the whole softmax takes less time than the graphs that spare it.
    measured = build([replace(side, rows=side.rows[sample]) for side in sides], "held-out", top_k=0)
    bench.rows = measured.take(np.arange(len(measured)), device)
    return bench


def split(rows: int, config: ConnectConfig) -> tuple[np.ndarray, np.ndarray]:
    """Return (training, held-out) row numbers; at least 1 row is held out and 1 trained on."""
    order = np.random.default_rng([config.seed, 1 << 20]).permutation(rows)
    held = min(max(1, round(rows * config.val_fraction)), rows - 1)
    return np.sort(order[held:]), order[:held]


def _c_mcr(bench: Bench, folder: Path, progress: Progress, log: Log) -> Fitted:
    f_a, f_b, state = training.fit(
        bench.pairs,
        bench.train,
        bench.config,
        bench.measure,
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
        bench.measure,
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
    train, held = bench.pairs.take(bench.train), bench.pairs.take(bench.held)
    centers = bench.centers if config.center else [{}, {}]
    modality = "overlap" if config.on == "overlap" else "pseudo"
    x, y = _fit_rows(bench, train, centers, modality)
    held_x, held_y = _fit_rows(bench, held, centers, modality)
    ridge = config.ridge or baselines.pick_ridge(x, y, held_x, held_y)
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
        why = "auto: distill, for no rows of the two memories lie by the same held-out overlap row; nothing to compare"
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


def _measured_on(bench: Bench, projectors: tuple[Projector, Projector]) -> dict[str, float]:
    """Return the bench's measures of projectors that lie on the processor, and stay there."""
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
        if x is None or name is None:
            raise InputError("--on pseudo needs what the memories recall, but pairing is 'none'; choose --pairing full")
        x = torch.nn.functional.normalize(x, dim=1)
        result.append(torch.nn.functional.normalize(x - center[name], dim=1) if name in center else x)
    return result[0], result[1]


def _mean(memory: Memory, modality: Modality) -> Tensor:
    total = sum((block.astype(np.float64).sum(axis=0) for block in memory.blocks(modality)), np.zeros(1))
    return torch.from_numpy((total / memory.rows(modality)).astype(np.float32))


def _sample(memory: Memory, modality: Modality) -> Tensor:
    """Return up to ``SAMPLE`` rows spread evenly over a memory."""
    return torch.from_numpy(memory.vectors(modality, spread(memory.rows(modality), SAMPLE)))


def _both_ways(x: Tensor, y: Tensor) -> float:
    rows, columns = x.cpu().numpy(), y.cpu().numpy()
    return (recall_at(ranks(rows, columns), 1) + recall_at(ranks(columns, rows), 1)) / 2


def _gap(x: Tensor, y: Tensor) -> float:
    return modality_gap(x.cpu().numpy(), y.cpu().numpy())


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
        begun = any(folder.rglob(CHECKPOINT)) or (out / "config.json").exists()
        if begun and not overwrite:
            raise ArtifactError(
                f"{folder} is a run of {_difference(found, resolved)}; choose another folder or add --overwrite"
            )
        # The pairs stay: each names what it was made from, and is made anew if that differs.
        for stale in (*folder.rglob(CHECKPOINT), *folder.rglob("metrics.jsonl")):
            stale.unlink()
    write_json(path, resolved)


def _difference(found: Any, wanted: dict[str, Any]) -> str:
    """Name the first setting in which two resolved recipes differ."""
    if not isinstance(found, dict) or not isinstance(found.get("recipe"), dict):
        return "something unreadable"
    for name, value in wanted["recipe"].items():
        if found["recipe"].get(name) != value:
            return f"another recipe ({name} {found['recipe'].get(name)!r}, now {value!r})"
    return "other memories"
