"""ModelNet40 zero-shot, as ULIP measures it: 2,468 test shapes, 8,192 farthest points, xyz only, 40 classes.

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

import numpy as np

from cmcr.ask import Subject
from cmcr.datasets import MODELNET40, Labelled, read_labelled
from cmcr.encoders.point_bert import farthest_points
from cmcr.errors import InputError, ItemError
from cmcr.evaluate.zero_shot.classes import ORDERS, Order, Templates, class_labels, load_templates
from cmcr.evaluate.zero_shot.classify import Outcome
from cmcr.evaluate.zero_shot.classify import evaluate as classify
from cmcr.files import write_atomic
from cmcr.hooks import Progress, silent
from cmcr.items import Item, Up, state_up
from cmcr.modality import Modality
from cmcr.reading import open_npy
from cmcr.shapes.clouds import read_point_cloud

POINTS = 8192
"""Of ULIP's test script; C-MCR's own number is not published."""
LAYOUTS = ("modelnet40", "princeton", "ulip-dat", "h5", "manifest", "folders")
NAME = "modelnet40"

_OWN_POINTS = (("tiny-ulip", 1024), ("ulip:", 8192))
"""Encoders that draw points themselves, by the beginning of their names, and how many they keep."""


def evaluate(
    subject: Subject,
    path: Path,
    *,
    folder: Path,
    layout: str | None = None,
    split: str | None = None,
    names: Path | None = None,
    labels: Path | None = None,
    templates: Templates | None = None,
    points: int = POINTS,
    up: Up | None = None,
    orders: Sequence[Order] = ORDERS,
    encoder: str | None = None,
    text_encoder: str | None = None,
    ladder: bool = False,
    progress: Progress = silent,
) -> Outcome:
    """Classify the shapes of ModelNet40, or of a data set in one of its layouts.

    Args:
        subject: A space or an encoder.
        path: The data set; see ``datasets.labelled.LAYOUTS``.
        folder: Holds ``memories``, and ``unpacked`` clouds.
        layout: One of ``LAYOUTS``; None: seen from what is there.
        split: None for ``test``.
        names: A file of class names in the order of their numbers.
        labels: A file of what the classes are called; their names with blanks when left out.
        templates: Those of ImageNet when left out.
        points: Farthest points chosen of each cloud that has more; 0 leaves clouds as they are.
        up: The axis that points up in the files; None: as the layout has it, else as the encoder expects.
        orders: Which orders of averaging and projecting.
        encoder: Which of the space's encoders embeds the clouds.
        text_encoder: Which embeds the phrases.
        ladder: Also ask the clouds' encoder alone.
        progress: Told after every cloud.

    Raises:
        InputError: a file that the layout needs is not there, or another layout.
    """
    data = read_labelled(
        path,
        unpack=folder / "unpacked",
        layout=layout,
        modalities=[Modality.POINT_CLOUD],
        split=split,
        names=names,
        points=points,
    )
    if data.layout not in LAYOUTS:
        raise InputError(f"{path}: layout {data.layout}; expected {', '.join(LAYOUTS)}; see cmcr eval zero-shot")
    if set(data.classes) != MODELNET40:
        told = f"{len(data.classes)} classes: {', '.join(data.classes[:3])} ..."
        data = replace(data, notes=(*data.notes, f"not the classes of ModelNet40, but {told}"))
    ready = prepared(data, folder / "unpacked", points, up, progress)
    outcome = classify(
        subject,
        replace(ready, name=NAME),
        class_labels(data.classes, labels, NAME),
        templates or load_templates("imagenet"),
        folder=folder / "memories",
        orders=orders,
        encoder=encoder,
        text_encoder=text_encoder,
        ladder=ladder,
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
