"""The laboratory: recipes on beds of vectors, seed by seed, with intervals, and choices that never saw the judged bed.

    make bench-quality BED="folder folder"      # or: python benchmarks/beds.py folder folder --seeds 5 --derived
    python benchmarks/beds.py folder folder --methods linear,route,distill,distill,own_weight=0.2 -o results.jsonl

``lab_bed.py`` tells what lies in a folder. A recipe is a method and settings: ``distill,own_weight=0.2``; the list is
split by commas, and a ``setting=value`` belongs to the method before it. Each result is written to the results file
as it is found, under the recipe's settings (defaults too) and a digest of the bed's rows: the same command again goes
on where a stopped one was, and measures anew what is another recipe or another bed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from lab_bed import Bed, cut, read_bed
from lab_derived import DERIVED, derive
from lab_judge import Judged
from lab_measure import Asked, Recipe, Result, Results, complete, judged, names_of, recipe
from lab_report import report
from lab_tiny import FAMILY, tiny_beds
from quality import README, replace

from cmcr.errors import CmcrError, InputError

RECIPES = "linear,route,c-mcr,distill,ensemble"
AGAINST = "linear,route,c-mcr"
CRITERIA = "agreement,selection,overlap_r1,pseudo_r1"


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    """Return what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER", help="beds")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--methods", help=f"recipes, comma-separated; default: {RECIPES}, as far as cmcr has them")
    parser.add_argument("--against", default=AGAINST, help=f"baselines, comma-separated; default: {AGAINST}")
    parser.add_argument(
        "--criteria", default=CRITERIA, metavar="NAMES",
        help="numbers of a connection to judge as ways to choose without pairs; default: %(default)s",
    )  # fmt: skip
    parser.add_argument(
        "--derived", nargs="?", const=",".join([*DERIVED, FAMILY]), default="", metavar="NAMES",
        help=f"also beds made of each given one, all or some of {', '.join(DERIVED)}, and {FAMILY}: the tiny world's",
    )  # fmt: skip
    parser.add_argument("--rows", type=int, default=0, help="use so many texts and rows of each memory of given beds")
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("beds.jsonl"), help="results file; default: %(default)s"
    )
    parser.add_argument("--anew", default="", metavar="RECIPES", help="measure again what other code of cmcr measured")
    parser.add_argument("--jobs", type=int, default=1, help="measurements at once, one thread each")
    parser.add_argument("--readme", action="store_true", help="write the report into benchmarks/README.md too")
    asked = parser.parse_args(arguments)
    asked.derived = names_of(asked.derived)
    if unknown := [name for name in asked.derived if name not in (*DERIVED, FAMILY)]:
        parser.error(f"--derived {unknown[0]}; expected some of {', '.join([*DERIVED, FAMILY])}")
    if not asked.folders and FAMILY not in asked.derived:
        parser.error(f"no FOLDER of a bed; give some, or --derived {FAMILY}")
    if asked.seeds < 1:
        parser.error(f"--seeds {asked.seeds}; expected 1 or more")
    return asked


def beds(asked: argparse.Namespace) -> Iterator[Bed]:
    """Yield the given beds, then those made of them, one at a time; the tiny world's last."""

    def given(folder: Path) -> Bed:
        bed = read_bed(folder)
        return cut(bed, lambda _: asked.rows, bed.name) if asked.rows else bed

    yield from map(given, asked.folders)
    for folder in asked.folders:
        for name in asked.derived:
            if name != FAMILY and (made := derive(given(folder), name)):
                yield made
    if FAMILY in asked.derived:
        yield from tiny_beds(asked.output.with_suffix(".tiny"))


def recipes_of(asked: argparse.Namespace) -> list[Recipe]:
    """Return the recipes asked for, and the baselines; of the default list, those that this cmcr has."""
    found: dict[str, Recipe] = {}
    for name in names_of(asked.methods or RECIPES) + names_of(asked.against):
        try:
            found.setdefault(name, recipe(name))
        except InputError as error:
            if asked.methods or name in names_of(asked.against):
                raise
            say(f"left out: {error}")
    return list(found.values())


def say(line: str) -> None:
    """Tell how it goes."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def told(result: Result) -> str:
    """Return a line about a result."""
    found = result.get("failed") or f"R@10 {100 * share(result):.1f}, {result['seconds']:.1f} s"
    return f"{result['bed']}  {result['recipe']}  seed {result['seed']}: {found}"


def share(result: Result) -> float:
    """Return R@10, from 0 to 1."""
    both = [rank <= 10 for ranks in result["ranks"] for rank in ranks]
    return sum(both) / len(both)


def laboratory(asked: argparse.Namespace) -> tuple[list[Judged], list[str]]:
    """Measure what the results file lacks; return what is known of every bed, and the recipes' names."""
    recipes, results = recipes_of(asked), Results(asked.output)
    wanted = Asked(recipes, asked.seeds, asked.jobs, frozenset(names_of(asked.anew)))
    found: dict[str, Judged] = {}
    for bed in beds(asked):
        if bed.name in found:
            raise InputError(
                f"{bed.name}: two beds are called so; give each folder once, and another name to the other"
            )
        for result in complete(bed, wanted, results):
            say(told(result))
        found[bed.name] = judged(bed, wanted, results)
    return list(found.values()), [each.name for each in recipes]


def main(arguments: list[str] | None = None) -> int:
    """Measure, and write the report to stdout."""
    asked = parsed(arguments)
    try:
        found, recipes = laboratory(asked)
    except CmcrError as error:
        say(f"error: {error}")
        return 1
    names = [folder.resolve().name for folder in asked.folders]
    options = {"seeds": asked.seeds, "rows": asked.rows, "derived": ",".join(asked.derived)}
    words = [*names, *(f"--{name} {value}" for name, value in options.items() if value)]
    command = f"python benchmarks/beds.py {' '.join(words)}"
    text = report(found, recipes, names_of(asked.against), names_of(asked.criteria), command)
    sys.stdout.write(text + "\n")
    if asked.readme:
        replace(README, "beds", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
