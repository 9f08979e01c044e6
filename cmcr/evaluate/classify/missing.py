"""Classification with missing modalities: accuracy against their share, for MLA and all that it is set beside."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import fmean, pstdev
from typing import Any

import numpy as np

from cmcr.classify import ClassifySettings, Table
from cmcr.classify.forgetting import forgetting
from cmcr.classify.joint import fit_concatenation, fit_sum
from cmcr.classify.masks import random_mask
from cmcr.classify.methods import Fitted, fit_baselines, fit_switches
from cmcr.classify.mla import fit_mla
from cmcr.classify.network import Batch, Towers, new_towers
from cmcr.classify.run import notes_of
from cmcr.classify.splits import split_rows
from cmcr.evaluate.classify.choices import MissingChoices
from cmcr.evaluate.result import Result
from cmcr.hooks import Progress, silent
from cmcr.numbers.classification import accuracy, class_accuracies, expected_calibration_error
from cmcr.numbers.retrieval import modality_gap

Numbers = dict[str, float]


@dataclass(frozen=True)
class MissingResult(Result):
    """What was measured; ``values`` is without missing modalities, or at the least share asked for.

    Attributes:
        curves: By method, for each share: mean and deviation of accuracy and ECE over the seeds, and the share of
            entries that were missing.
        per_class: By method, the accuracy of each class at each share, mean over seeds; None where no row is.
        classes: Names of the classes.
        gaps: By pair of modalities, the distance of their mean features: untrained, and after each way of training.
        forgotten: By pair of modalities, with P and without: accuracy of the first, before and after the second.
    """

    curves: Mapping[str, Sequence[Numbers]] = field(default_factory=dict)
    per_class: Mapping[str, Sequence[Sequence[float | None]]] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    gaps: Mapping[str, Numbers] = field(default_factory=dict)
    forgotten: Mapping[str, Numbers] = field(default_factory=dict)


def evaluate(
    table: Table,
    settings: ClassifySettings,
    choices: MissingChoices,
    listed: Mapping[str, str] | None = None,
    progress: Progress = silent,
) -> MissingResult:
    """Fit and measure everything for each share and seed.

    Entries go missing at random so that every row keeps one: in both parts, or with ``complete`` in the measured rows
    only. A row that lacks a modality of its own keeps lacking it.

    Args:
        table: Rows with labels.
        settings: Of the training; ``seed`` is the first of the seeds.
        choices: Shares and seeds.
        listed: The split of each id; None: a quarter of each class is held out, drawn by the seed.
        progress: Told after every fit.

    Raises:
        InputError: as ``split_rows``; or rows are left without any modality.
    """
    start = time.perf_counter()
    seeds = [replace(settings, seed=settings.seed + number) for number in range(choices.seeds)]
    runs: list[list[dict[str, dict[str, Any]]]] = []
    for share in choices.shares:
        runs.append([])
        for each in seeds:
            runs[-1].append(_measured(table, each, share, choices.complete, listed))
            progress(sum(map(len, runs)), len(choices.shares) * len(seeds), f"{share} % missing")
    names = list(runs[0][0])
    curves = {name: [_mean([run[name] for run in at]) for at in runs] for name in names}
    test = split_rows(table, listed, settings.seed)[1]
    return MissingResult(
        "classify",
        {name: {key: curve[0][key] for key in ("accuracy", "deviation", "ECE")} for name, curve in curves.items()},
        n=len(test),
        gallery=len(table.classes),
        chance={"accuracy": float(np.bincount(test.labels).max() / len(test))},
        settings=asdict(settings) | {"seeds": choices.seeds, "missing": list(choices.shares)}
        | {"modalities": [channel.name for channel in table.channels], "missing in training": not choices.complete},
        fingerprints={channel.name: channel.fingerprint for channel in table.channels},
        notes=(*notes_of(table), *_limits(table, choices)),
        seconds=round(time.perf_counter() - start, 3),
        curves=curves,
        per_class={name: [_class_means([run[name]["classes"] for run in at]) for at in runs] for name in names},
        classes=table.classes,
        gaps=_gaps(table, seeds, listed),
        forgotten=_forgotten(table, seeds, listed),
    )  # fmt: skip


def _measured(
    table: Table, settings: ClassifySettings, share: int, complete: bool, listed: Mapping[str, str] | None
) -> dict[str, dict[str, Any]]:
    """Return what every method reaches with one share and seed."""
    train, test = split_rows(_thinned(table, share, settings.seed), listed, settings.seed)
    if complete:
        train, _ = split_rows(table, listed, settings.seed)
    mla = fit_mla(train, settings)
    methods: dict[str, Fitted] = {"MLA": mla, **fit_switches(train, settings, mla), **fit_baselines(train, settings)}
    missing = 1 - float(test.present.mean())
    return {name: _numbers(method, test) | {"missing": missing} for name, method in methods.items()}


def _thinned(table: Table, share: int, seed: int) -> Table:
    """Return a table of which entries went missing; what a row would lose wholly, it keeps."""
    kept = random_mask(len(table), len(table.channels), share / 100, seed)
    bare = ~(table.present & kept).any(axis=1)
    return table.masked(kept | bare[:, None])


def _numbers(method: Fitted, test: Table) -> dict[str, Any]:
    said = method.probabilities(test).numpy()
    return {
        "accuracy": accuracy(said, test.labels),
        "ECE": expected_calibration_error(said, test.labels),
        "classes": class_accuracies(said, test.labels),
    }


def _mean(runs: Sequence[Mapping[str, Any]]) -> Numbers:
    found = {name: fmean(run[name] for run in runs) for name in ("accuracy", "ECE", "missing")}
    return found | {"deviation": pstdev([run["accuracy"] for run in runs])}


def _class_means(runs: Sequence[Sequence[float | None]]) -> list[float | None]:
    known = [[value for value in values if value is not None] for values in zip(*runs, strict=True)]
    return [fmean(values) if values else None for values in known]


def _limits(table: Table, choices: MissingChoices) -> list[str]:
    most = 100 - 100 / len(table.channels)
    if choices.shares[-1] <= most:
        return []
    return [f"every row keeps one of {len(table.channels)} modalities, so at most {most:.0f} % can be missing"]


def _pairs(table: Table) -> list[tuple[int, int]]:
    return [(a, b) for a in range(len(table.channels)) for b in range(len(table.channels)) if a != b]


def _gaps(table: Table, seeds: Sequence[ClassifySettings], listed: Mapping[str, str] | None) -> dict[str, Numbers]:
    """Return the modality gap of the features of the rows that are measured on, mean over seeds."""
    found: dict[str, list[Numbers]] = {}
    for settings in seeds:
        train, test = split_rows(table, listed, settings.seed)
        untrained, after = new_towers(train, settings), fit_mla(train, settings).towers
        stages = {"untrained": untrained, "MLA": after, "sum": fit_sum(train, settings).towers}
        stages["concatenation"] = fit_concatenation(train, settings).towers
        for a, b in _pairs(table):
            if a < b:
                name = f"{table.channels[a].name}, {table.channels[b].name}"
                found.setdefault(name, []).append({stage: _gap(each, test, a, b) for stage, each in stages.items()})
    return {name: {stage: fmean(run[stage] for run in runs) for stage in runs[0]} for name, runs in found.items()}


def _gap(towers: Towers, test: Table, a: int, b: int) -> float:
    """Return the distance between the means of the unit features of two modalities."""
    features = []
    for m in (a, b):
        own = towers.feature(m, Batch.of(test.rows(test.present[:, m]))).detach().numpy()
        features.append(own / np.linalg.norm(own, axis=1, keepdims=True).clip(1e-12))
    return float(modality_gap(features[0], features[1]))


def _forgotten(table: Table, seeds: Sequence[ClassifySettings], listed: Mapping[str, str] | None) -> dict[str, Numbers]:
    """Return what is left of each modality after each other was learnt, with P and without, mean over seeds."""
    found = {}
    for a, b in _pairs(table):
        for project in (True, False):
            runs = []
            for settings in seeds:
                train, test = split_rows(table, listed, settings.seed)
                runs.append(asdict(forgetting(train, test, replace(settings, project=project), a, b)))
            name = f"{table.channels[a].name}, then {table.channels[b].name}, {'with' if project else 'without'} P"
            found[name] = {key: fmean(run[key] for run in runs) for key in runs[0]}
    return found
