"""Benchmarks: each is one module with a function ``evaluate`` that returns a ``Result``."""

from __future__ import annotations

import csv
import io
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cmcr.files import write_json, write_text


def library_versions() -> dict[str, str]:
    """Return the versions that a measured number may depend on."""
    return {"python": platform.python_version()} | {name: version(name) for name in ("cmcr", "numpy", "torch")}


@dataclass(frozen=True)
class Result:
    """What was measured, with all that is needed to read it and to measure it again.

    >>> from cmcr.evaluate.result import Result
    >>> result = Result("retrieval", {"audio->image": {"recall@1": 0.5}}, n=60, gallery=60, chance={"recall@1": 1 / 60})
    >>> result.table()[1]
    [['audio->image', '60', '60', '0.500'], ['chance', '60', '60', '0.017']]

    Attributes:
        name: Of the benchmark.
        values: By what was asked (e.g. ``audio->image``), the named numbers.
        n: Queries asked in each.
        gallery: Candidates each query had.
        chance: The same numbers for a guess.
        settings: What was chosen.
        fingerprints: Of the space and the memories.
        notes: What a reader must know, e.g. items left out.
        seconds: Time taken.
        expected: Items that the protocol asks for, where ``n`` may fall short of them; None where nothing is fixed.
        skipped: Reasons why items are missing, each with its count.
        versions: Of what a number may depend on.
    """

    name: str
    values: Mapping[str, Mapping[str, float]]
    n: int
    gallery: int
    chance: Mapping[str, float]
    settings: Mapping[str, Any] = field(default_factory=dict)
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    expected: int | None = None
    skipped: Mapping[str, int] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=library_versions)

    @property
    def shortfall(self) -> str:
        """Return a sentence on the items that are missing; empty when all were used."""
        if self.expected is None or self.n == self.expected:
            return ""
        reasons = "; ".join(f"{count} x {reason}" for reason, count in list(self.skipped.items())[:5])
        return f"measured over {self.n} of {self.expected} items" + (f": {reasons}" if reasons else "")

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON-ready values."""
        return asdict(self)

    def save(self, path: Path) -> None:
        """Write the result as JSON, whole or not at all."""
        write_json(path, self.to_json())

    def write(self, folder: Path, page: str | None = None) -> None:
        """Write ``result.json``, as ``result.csv`` a row for everything asked and chance, a page as ``index.html``."""
        self.save(folder / "result.json")
        names = list(dict.fromkeys(name for row in self.values.values() for name in row))
        lines = io.StringIO()
        writer = csv.writer(lines, lineterminator="\n")
        writer.writerow(["asked", *names])
        asked = {**self.values, **self.guesses()}
        writer.writerows([name, *(row.get(measure, "") for measure in names)] for name, row in asked.items())
        write_text(folder / "result.csv", lines.getvalue())
        if page is not None:
            write_text(folder / "index.html", page)

    def guesses(self) -> Mapping[str, Mapping[str, float]]:
        """Return what guessing scores, by its title in a table; empty where chance has no meaning."""
        return {"chance": self.chance} if self.chance else {}

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Return columns and rows for a person: a row for everything asked, and chance below."""
        measures = list(self.chance)
        rows = [[asked, *(_figure(numbers, name) for name in measures)] for asked, numbers in self.values.items()]
        rows.append(["chance", *(_figure(self.chance, name) for name in measures)])
        size = [[str(self.n), str(self.gallery)]] * len(rows)
        return ["", "queries", "gallery", *measures], [[r[0], *s, *r[1:]] for r, s in zip(rows, size, strict=True)]


def _figure(numbers: Mapping[str, float], name: str) -> str:
    value = numbers.get(name)
    return "" if value is None else f"{value:.1f}" if "rank" in name else f"{value:.3f}"
