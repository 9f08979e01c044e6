"""Measure recipes on beds, and keep every result: a line of JSON each, which a stopped run goes on from."""

from __future__ import annotations

import functools
import hashlib
import json
import math
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lab_bed import OUTER, SIDES, Bed, figures, memory, ranks_within, recall_10
from lab_judge import Judged

import cmcr
from cmcr import ConnectConfig, ConnectedSpace, Modality
from cmcr.connect import connect
from cmcr.connect.methods import load_method
from cmcr.connect.settings import Shared
from cmcr.errors import CmcrError
from cmcr.settings import settings_of

Result = dict[str, Any]
CODE = ("connect", "numbers", "space")
"""What of the package decides on a result."""


@dataclass(frozen=True)
class Recipe:
    """A method with settings, named as it was asked for: ``distill,own_weight=0.2``."""

    name: str
    config: ConnectConfig

    @property
    def key(self) -> str:
        """sha256 (hex) over the method and its settings but the seed, defaults too: a changed one is another recipe."""
        method = load_method(self.config.method)
        kinds = (Shared, method.Settings, *(load_method(name).Settings for name in method.tries))
        names = {each.name for kind in kinds for each in settings_of(kind)} - {"seed"} | {"method"}
        settings = {name: value for name, value in self.config.to_dict().items() if name in names}
        return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()


def recipe(name: str) -> Recipe:
    """Return the recipe ``METHOD,setting=value,...``.

    Raises:
        InputError: an unknown method or setting, or an impossible value.
    """
    method, *settings = name.split(",")
    given = dict(each.split("=", 1) for each in settings)
    return Recipe(name, ConnectConfig(method, **{key.replace("-", "_"): _value(text) for key, text in given.items()}))


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def names_of(listed: str) -> list[str]:
    """Split a list by commas; a ``setting=value`` belongs to the method before it."""
    names: list[str] = []
    for part in filter(None, (each.strip() for each in listed.split(","))):
        if "=" in part and names:
            names[-1] += f",{part}"
        else:
            names.append(part)
    return list(dict.fromkeys(names))


@functools.cache
def code_digest() -> str:
    """sha256 (hex) over the files that decide on a result, as they were when this process first asked."""
    package, total = Path(cmcr.__file__).parent, hashlib.sha256()
    for path in sorted(file for part in CODE for file in (package / part).rglob("*.py")):
        total.update(str(path.relative_to(package)).encode() + path.read_bytes())
    return total.hexdigest()


def measure(space: ConnectedSpace, bed: Bed) -> Result:
    """Return the ranks of the pairs, R@10 of texts against the other side, and of R@10 what each side keeps (%)."""
    outer = {side: space.project(bed.side(side).eval, modality=OUTER[side], encoder=side) for side in SIDES}
    found: Result = {"ranks": ranks_within(bed.galleries, outer["left"], outer["right"]).tolist()}
    for side, other in (SIDES, SIDES[::-1]):
        texts = bed.side(side).eval_text
        if texts is None:
            continue
        projected = space.project(texts, modality=Modality.TEXT, encoder=side)
        raw = recall_10(bed, bed.side(side).eval, texts)
        found[f"kept {side}"] = 100 * recall_10(bed, outer[side], projected) / raw if raw else math.nan
        found[f"text {side}"] = recall_10(bed, projected, outer[other])
    return found


def run(bed: Bed, sides: tuple[Path, Path], asked: Recipe, seed: int) -> Result:
    """Connect a bed's memories by a recipe and measure the space; what cannot be connected ranks every pair last."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        start = time.perf_counter()
        try:
            space = connect(*sides, out=Path(scratch) / "space", config=asked.config.replace(seed=seed)).space
        except CmcrError as error:
            return {"ranks": [bed.sizes.tolist()] * 2, "failed": str(error)}
        seconds = time.perf_counter() - start
        return measure(space, bed) | {
            "seconds": seconds,
            "metrics": {name: value for name, value in space.metrics.items() if isinstance(value, int | float)},
        }


class Results:
    """The results file: a line each, found by bed, recipe and seed; the last line of a key counts."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._found: dict[tuple[str, str, int], Result] = {}
        whole, text = 0, path.read_bytes() if path.exists() else b""
        for line in text.splitlines(keepends=True):
            if not line.endswith(b"\n"):
                break  # the process was stopped while it wrote this one
            self._keep(json.loads(line))
            whole += len(line)
        if whole < len(text):
            with path.open("r+b") as file:
                file.truncate(whole)

    def _keep(self, result: Result) -> None:
        self._found[result["digest"], result["key"], result["seed"]] = result

    def get(self, bed: str, asked: Recipe, seed: int) -> Result | None:
        """Return the result on the bed of this digest."""
        return self._found.get((bed, asked.key, seed))

    def add(self, result: Result) -> None:
        """Write a result at the end of the file."""
        self._keep(result)
        with self.path.open("ab") as file:
            file.write(json.dumps(result).encode() + b"\n")


@dataclass(frozen=True)
class Asked:
    """What is to be measured of every bed."""

    recipes: list[Recipe]
    seeds: int
    jobs: int = 1
    anew: frozenset[str] = frozenset()
    """Names of recipes whose results are not taken from the file where other code made them."""


def complete(bed: Bed, asked: Asked, results: Results) -> Iterator[Result]:
    """Measure what the file lacks of a bed, and yield each new result once it is written."""
    digest, code = bed.digest, code_digest()

    def lacks(each: Recipe, seed: int) -> bool:
        found = results.get(digest, each, seed)
        return found is None or (each.name in asked.anew and found["code"] != code)

    todo = [(each, seed) for each in asked.recipes for seed in range(asked.seeds) if lacks(each, seed)]
    if not todo:
        return
    with tempfile.TemporaryDirectory() as scratch:
        sides = tuple(memory(bed, side, Path(scratch) / side).path for side in SIDES)
        for (each, seed), found in zip(todo, _measured(bed, sides, todo, asked.jobs), strict=True):
            labels = {"bed": bed.name, "recipe": each.name, "seed": seed}
            result = labels | {"digest": digest, "key": each.key, "code": code} | found
            results.add(result)
            yield result


def _measured(bed: Bed, sides: Any, todo: list[tuple[Recipe, int]], jobs: int) -> Iterator[Result]:
    if jobs < 2:
        yield from (run(bed, sides, *each) for each in todo)
        return
    yield from _pool(jobs).map(run, [bed] * len(todo), [sides] * len(todo), *zip(*todo, strict=True))


@functools.cache
def _pool(jobs: int) -> ProcessPoolExecutor:
    """Return the processes that measure; they load the library once, not for every bed."""
    return ProcessPoolExecutor(jobs, mp_context=get_context("spawn"))


def judged(bed: Bed, asked: Asked, results: Results) -> Judged:
    """Return what is known of every recipe on a bed, all its seeds measured."""
    digest, code = bed.digest, code_digest()
    found = {
        each.name: [results.get(digest, each, seed) or {} for seed in range(asked.seeds)] for each in asked.recipes
    }
    return Judged(
        bed.name,
        bed.family,
        bed.sizes,
        {name: figures(np.array([each["ranks"] for each in rows]), bed.sizes) for name, rows in found.items()},
        found,
        sum(each["code"] != code for rows in found.values() for each in rows),
        f"; {len(bed.left.text):,} texts, {len(bed.left.memory):,} and {len(bed.right.memory):,} outer rows",
    )
