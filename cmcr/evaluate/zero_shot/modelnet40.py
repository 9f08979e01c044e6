"""ModelNet40 zero-shot, as ULIP measures it: 2,468 test shapes, 8,192 farthest points, xyz only, 40 classes.

It is a preset of the zero-shot classification of any labelled files, which is here too.

The text side is ``zero_shot_classification``. On the point side farthest points are chosen here, from a cloud's first
point on (ULIP begins at random); centring, scaling and turning are the encoder's own and part of its fingerprint.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cmcr.ask import Subject
from cmcr.datasets import MODELNET40, Labelled, read_labelled
from cmcr.encoders.point_bert import farthest_points
from cmcr.errors import InputError, ItemError
from cmcr.evaluate.zero_shot.choices import Choices, ModelNet40
from cmcr.evaluate.zero_shot.classes import ORDERS, Templates, class_labels, load_templates
from cmcr.evaluate.zero_shot.classify import Outcome
from cmcr.evaluate.zero_shot.classify import evaluate as classify
from cmcr.files import write_atomic
from cmcr.hooks import Progress, silent
from cmcr.items import Item, Up, state_up
from cmcr.modality import Modality
from cmcr.reading import open_npy
from cmcr.shapes.clouds import read_point_cloud

LAYOUTS = ("modelnet40", "princeton", "ulip-dat", "h5", "manifest", "folders")
NAME = ModelNet40.preset

_OWN_POINTS = (("tiny-ulip", 1024), ("ulip:", 8192))
"""Encoders that draw points themselves, by the beginning of their names, and how many they keep."""


def evaluate(
    subject: Subject,
    path: Path,
    *,
    folder: Path,
    templates: Templates | None = None,
    progress: Progress = silent,
    **choices: Any,
) -> Outcome:
    """Classify the shapes of ModelNet40, or of a data set in one of its layouts.

    Args:
        subject: A space or an encoder.
        path: The data set; see ``datasets.labelled.LAYOUTS``.
        folder: Holds ``memories``, and ``unpacked`` clouds.
        templates: Those of ImageNet when left out.
        progress: Told after every cloud.
        choices: Those of ``ModelNet40``.

    Raises:
        InputError: a file that the layout needs is not there, or another layout.
    """
    chosen = ModelNet40(**choices)
    return evaluate_data(subject, read_data(subject, path, chosen, folder), chosen, folder, templates, progress)


def read_data(
    subject: Subject, path: Path, choices: Choices, folder: Path, modality: Modality | None = None
) -> Labelled:
    """Return a labelled data set: of any modality of the subject, or of ModelNet40's preset its clouds.

    Raises:
        InputError: a file that the layout needs is not there, or a layout that ModelNet40 never has.
    """
    data = read_labelled(
        path,
        unpack=folder / "unpacked",
        layout=choices.layout,
        modalities=[modality] if modality else [Modality.POINT_CLOUD] if choices.preset else subject.modalities,
        split=choices.split,
        names=choices.names,
        points=choices.points,
    )
    if not choices.preset:
        return data
    if data.layout not in LAYOUTS:
        raise InputError(f"{path}: layout {data.layout}; expected {', '.join(LAYOUTS)}; see cmcr eval zero-shot")
    if set(data.classes) != MODELNET40:
        told = f"{len(data.classes)} classes: {', '.join(data.classes[:3])} ..."
        data = replace(data, notes=(*data.notes, f"not the classes of ModelNet40, but {told}"))
    return replace(data, name=choices.preset)


def evaluate_data(
    subject: Subject,
    data: Labelled,
    choices: Choices,
    folder: Path,
    templates: Templates | None = None,
    progress: Progress = silent,
) -> Outcome:
    """Classify what ``read_data`` returned; see ``classify.evaluate``.

    Raises:
        InputError: unknown templates, labels that do not fit, or nothing can be embedded.
    """
    kind = data.inputs.modality
    source = choices.templates or ("sound" if kind is Modality.AUDIO else "imagenet")
    phrases = templates or load_templates(source, data.name, choices.template_set)
    said = class_labels(data.classes, choices.labels, data.name)
    if kind is Modality.POINT_CLOUD:
        data = prepared(data, folder / "unpacked", choices.points, choices.up, progress)
    outcome = classify(
        subject,
        data,
        said,
        phrases,
        folder=folder / "memories",
        orders=ORDERS if choices.order == "both" else [choices.order],
        encoder=choices.encoder,
        text_encoder=choices.text_encoder,
        ladder=choices.ladder,
        progress=progress,
    )
    return with_own_sampling(outcome)


def prepared(data: Labelled, folder: Path, points: int, up: Up | None, progress: Progress = silent) -> Labelled:
    """Return point clouds as the encoder gets them: at most ``points`` farthest points (0: all), turned if so said."""
    if points < 0:
        raise InputError(f"{points} points; expected 1 or more, or 0 for clouds as they are")
    settings: dict[str, object] = {"points": "as the files have them"}
    if points:
        items, given = sampled(data.inputs.items, folder, points, progress)
        data = data.with_items(items)
        settings = {
            "points": f"{points} farthest, from a cloud's first point on; of fewer all",
            "points given": f"{min(given)}-{max(given)}" if given else "none",
        }
    axis = up or data.up
    settings |= {"columns": "xyz", "up": axis or "as the encoder expects", "centring and scale": "the encoder's own"}
    if up is None and data.up is not None:
        settings["up"] = f"{axis} (of layout {data.layout}, unconfirmed)"
    inputs = data.inputs if axis is None else state_up(data.inputs, axis)
    return replace(data, inputs=inputs, settings={**data.settings, **settings})


def sampled(
    items: Sequence[Item], folder: Path, points: int, progress: Progress = silent
) -> tuple[list[Item], set[int]]:
    """Return items whose clouds have at most ``points`` points, and the numbers of points that occur.

    The chosen points are written into ``folder`` once; a ``.npy`` that is small enough is taken as it is. A cloud that
    cannot be read gets a problem.
    """
    done: list[Item] = []
    given: set[int] = set()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for item, count in pool.map(lambda each: _sampled(each, folder, points), items):
            done.append(item)
            given |= {count} - {0}
            progress(len(done), len(items), "choosing points")
    return done, given


def _sampled(item: Item, folder: Path, points: int) -> tuple[Item, int]:
    if item.problem is not None or item.path is None:
        return item, 0
    held = _rows(item.path)
    if 0 < held <= points:
        return item, held
    try:
        status = item.path.stat()
        told = f"{item.path.resolve()} {status.st_size} {status.st_mtime_ns} {points}"
        target = folder / f"{points}-points" / f"{hashlib.sha256(told.encode()).hexdigest()[:24]}.npy"
        kept = _rows(target)
        if not kept:
            xyz = read_point_cloud(item.read(), item.suffix)[:, :3]
            xyz = xyz[farthest_points(xyz, points)] if len(xyz) > points else xyz
            buffer = io.BytesIO()
            np.save(buffer, np.ascontiguousarray(xyz))
            write_atomic(target, buffer.getvalue())
            kept = len(xyz)
    except ItemError as error:
        return replace(item, problem=str(error)), 0
    except OSError as error:
        return replace(item, problem=f"cannot be read: {error.strerror}"), 0
    return replace(item, path=target, source=target.as_posix()), kept


def _rows(path: Path) -> int:
    """Return the points in a ``.npy`` from its header; 0 where there is no such array."""
    if path.suffix != ".npy" or not path.is_file():
        return 0
    try:
        return len(open_npy(path))
    except (ValueError, OSError, TypeError):
        return 0


def with_own_sampling(outcome: Outcome) -> Outcome:
    """Return the outcome with a note if the encoder drew fewer points than it was given."""
    name, given = outcome.result.settings["item encoder"], outcome.result.settings.get("points given", "")
    own = next((count for prefix, count in _OWN_POINTS if name.startswith(prefix) and not name.endswith("#raw")), None)
    most = int(given.rpartition("-")[2]) if given[-1:].isdigit() else 0
    if own is None or most <= own:
        return outcome
    note = f"{name} itself keeps {own} of up to {most} points it was given, drawn at random with a fixed seed"
    return replace(outcome, result=replace(outcome.result, notes=(*outcome.result.notes, note)))
