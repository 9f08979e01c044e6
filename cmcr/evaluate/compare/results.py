"""Compare methods, recipes and seeds from the results that evaluations wrote.

Several results of one group (by default a method) are taken for seeds: mean and deviation. What makes results not
comparable is said and not hidden.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cmcr.errors import InputError, nearest
from cmcr.evaluate.result import library_versions
from cmcr.files import write_json, write_text
from cmcr.reading import read_json

MAX_BYTES = 64 << 20
"""A results file above this is none of ours."""
SUBJECT = frozenset({"space", "encoder", "subject"})
"""Fingerprints of what is compared; all others are of the data, and should agree."""


@dataclass(frozen=True)
class PairedTest:
    """Two groups on the same queries.

    Attributes:
        asked: The direction.
        first: A group.
        second: Another.
        difference: Mean of the first less that of the second.
        low: Of the difference's 95 % paired bootstrap interval.
        high: Its other end.
        wins: Queries on which the first is better.
        losses: Queries on which the second is.
        test: ``McNemar, exact`` or ``permutation``.
        p: Two-sided.
        p_holm: Adjusted for all tests of the comparison.
    """

    asked: str
    first: str
    second: str
    difference: float
    low: float
    high: float
    wins: int
    losses: int
    test: str
    p: float
    p_holm: float


@dataclass(frozen=True)
class Comparison:
    """Groups of results side by side.

    Attributes:
        benchmark: What was measured.
        groups: By name, the results or spaces in it.
        values: By what was asked, group and measure, one number a result.
        n: Queries asked, in the first.
        gallery: Candidates each had, in the first.
        chance: By what was asked, the same measures for a guess; empty where a benchmark has none.
        differs: What stands in the way of comparing, a sentence each.
        tests: Of every two groups, in each direction.
        settings: What was chosen.
        fingerprints: Of the data and of each space.
        versions: Of the libraries.
        notes: What a reader must know, e.g. rows left out.
    """

    benchmark: str
    groups: Mapping[str, Sequence[str]]
    values: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]]
    n: int
    gallery: int
    chance: Mapping[str, Mapping[str, float]]
    differs: tuple[str, ...] = ()
    tests: tuple[PairedTest, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=library_versions)
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values; every list of numbers also has its mean and deviation."""
        values = {
            asked: {
                group: {name: {"mean": float(np.mean(v)), "deviation": _deviation(v), "each": list(v)}
                        for name, v in numbers.items()}
                for group, numbers in found.items()
            }
            for asked, found in self.values.items()
        }  # fmt: skip
        return asdict(self) | {"values": values}

    def write(self, folder: Path, page: str | None = None) -> None:
        """Write ``comparison.json``, as ``comparison.csv`` a row for each number, and a page as ``index.html``."""
        write_json(folder / "comparison.json", self.to_json())
        lines = io.StringIO()
        writer = csv.writer(lines, lineterminator="\n")
        writer.writerow(["asked", "group", "measure", "mean", "deviation", "results"])
        for asked, found in self.values.items():
            for group, numbers in found.items():
                for name, each in numbers.items():
                    writer.writerow([asked, group, name, float(np.mean(each)), _deviation(each), len(each)])
        write_text(folder / "comparison.csv", lines.getvalue())
        if page is not None:
            write_text(folder / "index.html", page)

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Return columns and rows for a person: a group a row, mean and deviation over its results."""
        names = _shown(self)
        rows = [
            [asked, group, str(len(self.groups[group])), *(spread(numbers.get(name, ()), name) for name in names)]
            for asked, found in self.values.items()
            for group, numbers in found.items()
        ]
        guesses = [(asked, chance) for asked, chance in self.chance.items() if asked in self.values]
        alike = len({tuple(sorted(chance.items())) for _, chance in guesses}) == 1
        for asked, chance in guesses[:1] if alike else guesses:
            shown = (spread([chance[name]] if name in chance else [], name) for name in names)
            rows.append(["chance" if alike else f"chance of {asked}", "", "", *shown])
        return ["", "group", "results", *names], rows

    def tests_table(self) -> tuple[list[str], list[list[str]]]:
        """Return columns and rows of the tests."""
        columns = ["", "first", "second", "difference", "95 % interval", "better", "worse", "test", "p", "p (Holm)"]
        rows = [
            [t.asked, t.first, t.second, f"{t.difference:+.3f}", f"{t.low:+.3f} to {t.high:+.3f}", str(t.wins),
             str(t.losses), t.test, f"{t.p:.2g}", f"{t.p_holm:.2g}"]
            for t in self.tests
        ]  # fmt: skip
        return columns, rows


def spread(values: Sequence[float], name: str = "") -> str:
    """Return mean and, of several numbers, their standard deviation."""
    if not len(values):
        return ""
    digits = 1 if "rank" in name else 3
    deviation = _deviation(values)
    return f"{np.mean(values):.{digits}f}" + ("" if deviation is None else f" ± {deviation:.{digits}f}")


def _deviation(values: Sequence[float]) -> float | None:
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def _shown(comparison: Comparison) -> list[str]:
    """Return the measures of a table: those that chance has, or all but sizes and the ends of intervals."""
    guessed = {name for chance in comparison.chance.values() for name in chance}
    if guessed:
        return sorted(guessed, key=_in_order)
    met = (name for found in comparison.values.values() for numbers in found.values() for name in numbers)
    return [n for n in dict.fromkeys(met) if n not in ("queries", "gallery") and not n.endswith((" low", " high"))]


def split_name(given: str) -> tuple[str | None, Path]:
    """Return group and path of ``NAME=PATH``; a path that exists as it stands has no name."""
    name, equals, path = given.partition("=")
    return (name, Path(path)) if equals and name and not Path(given).exists() else (None, Path(given))


def read_result(path: Path) -> dict[str, Any]:
    """Read a ``result.json``, or that of a folder.

    Raises:
        InputError: missing, or not the result of an evaluation.
    """
    file = path / "result.json" if path.is_dir() else path
    try:
        if file.stat().st_size > MAX_BYTES:
            raise InputError(f"{file}: {file.stat().st_size >> 20} MiB; expected a result.json of cmcr eval")
        found = read_json(file)
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}; expected a result.json that cmcr eval wrote") from None
    except ValueError as error:
        raise InputError(f"{file}: not JSON ({error}); expected a result.json of cmcr eval") from None
    if not _is_result(found):
        raise InputError(f"{file}: not the result of an evaluation; expected a result.json of cmcr eval")
    return dict(found)


def _is_result(found: object) -> bool:
    if not isinstance(found, dict) or not isinstance(found.get("name"), str):
        return False
    mappings = [found.get(key, {}) for key in ("values", "chance", "chances", "settings", "fingerprints", "versions")]
    if not all(isinstance(mapping, dict) for mapping in mappings) or not found.get("values"):
        return False
    numbers = [*found["values"].values(), *found.get("chances", {}).values(), mappings[1]]
    counts = [found.get(key) for key in ("n", "gallery")]
    return all(isinstance(row, dict) and all(map(_is_number, row.values())) for row in numbers) and all(
        isinstance(count, int) for count in counts
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def compare_results(given: Sequence[str], by: str = "method") -> Comparison:
    """Compare results that evaluations wrote.

    Args:
        given: Files or folders, each ``PATH`` or ``NAME=PATH`` with the name of its group.
        by: The setting that names the group of the others.

    Raises:
        InputError: fewer than two, results of different benchmarks, no common question, or no such setting.
    """
    named = {path: name for name, path in map(split_name, given)}
    if len(named) < 2:
        raise InputError(f"{len(named)} results; expected two or more result.json to compare")
    results = {str(path): read_result(path) for path in named}
    benchmarks = {found["name"]: path for path, found in results.items()}
    if len(benchmarks) > 1:
        listed = "; ".join(f"{path} is {name}" for name, path in benchmarks.items())
        raise InputError(f"results of different benchmarks ({listed}); compare those of one")
    groups: dict[str, list[str]] = {}
    for path, name in named.items():
        groups.setdefault(name or _group(results[str(path)], path, by), []).append(str(path))
    first = next(iter(results.values()))
    asked = [name for name in first["values"] if all(name in found["values"] for found in results.values())]
    asked.sort(key=_in_order)
    if not asked:
        raise InputError(f"no question is in all results; {next(iter(results))} has {', '.join(first['values'])}")
    values = {
        name: {group: columns([results[path]["values"][name] for path in paths]) for group, paths in groups.items()}
        for name in asked
    }
    data = {name: value for name, value in first.get("fingerprints", {}).items() if name not in SUBJECT}
    return Comparison(
        benchmark=first["name"],
        groups=groups,
        values=values,
        n=first["n"],
        gallery=first["gallery"],
        chance=first.get("chances") or {name: first["chance"] for name in asked if first.get("chance")},
        differs=(*_differences(results, {by, "method"}), *repeated(results, groups)),
        settings={"by": by} | {k: v for k, v in first.get("settings", {}).items() if k not in (by, "method")},
        fingerprints=data,
        versions=first.get("versions", {}),
    )


def _group(result: Mapping[str, Any], path: Path, by: str) -> str:
    settings = result.get("settings", {})
    if by not in settings:
        known = ", ".join(settings) or "none"
        raise InputError(
            f"{path}: no setting {by!r} to group by ({known}){nearest(by, settings)}; or give each a group: NAME={path}"
        )
    return str(settings[by])


def _in_order(name: str) -> list[tuple[bool, int | str]]:
    """Return a key that puts recall@5 before recall@10; a file holds names in the order of their letters."""
    return [(part.isdecimal(), int(part) if part.isdecimal() else part) for part in re.split(r"(\d+)", name)]


def columns(rows: Sequence[Mapping[str, float]]) -> dict[str, list[float]]:
    """Return by measure the numbers of several results, of those that have it."""
    names = sorted({name for row in rows for name in row}, key=_in_order)
    return {name: [float(row[name]) for row in rows if name in row] for name in names}


def _differences(results: Mapping[str, Mapping[str, Any]], free: set[str]) -> list[str]:
    """Return a sentence for everything in which results differ though it should be one thing."""
    kinds: dict[str, Callable[[Mapping[str, Any]], Mapping[str, Any]]] = {
        "": lambda found: {key: found.get(key) for key in ("n", "gallery", "expected")},
        "setting ": lambda found: {k: v for k, v in found.get("settings", {}).items() if k not in free},
        "data ": lambda found: {k: v for k, v in found.get("fingerprints", {}).items() if k not in SUBJECT},
        "version of ": lambda found: found.get("versions", {}),
    }
    sentences = []
    for kind, of in kinds.items():
        parts = {path: of(found) for path, found in results.items()}
        for key in dict.fromkeys(key for part in parts.values() for key in part):
            met: dict[str, list[str]] = {}
            for path, part in parts.items():
                met.setdefault(_brief(part.get(key, "missing")), []).append(path)
            if len(met) > 1:
                told = "; ".join(f"{value} in {', '.join(paths[:3])}" for value, paths in met.items())
                sentences.append(f"{kind}{key} differs: {told}")
    short = [path for path, found in results.items() if found.get("expected") not in (None, found["n"])]
    sentences += [f"{path} is over {results[path]['n']} of {results[path]['expected']} items" for path in short]
    questions = dict.fromkeys(name for found in results.values() for name in found["values"])
    for name in questions:
        without = [path for path, found in results.items() if name not in found["values"]]
        sentences += [f"{name} is missing in {', '.join(without[:3])} and left out"] if without else []
    return sentences


def _brief(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
    return text[:12] if len(text) == 64 else text[:60]


def repeated(results: Mapping[str, Mapping[str, Any]], groups: Mapping[str, Sequence[str]]) -> list[str]:
    """Return a sentence for each group in which one space was measured several times."""
    sentences = []
    for group, paths in groups.items():
        marks = [results[path].get("fingerprints", {}).get("space", path) for path in paths]
        if len(set(marks)) < len(marks):
            sentences.append(
                f"{group}: some of its {len(marks)} results are of one space, so their spread is no spread"
            )
    return sentences
