"""``cmcr eval retention`` and ``cmcr eval compare``: what connecting costs, and which connection is better."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cmcr import console
from cmcr.cli.flags import with_flags
from cmcr.cli.modalities import memory_side, names_side
from cmcr.cli.options import Run
from cmcr.cli.results import tell_next
from cmcr.modality import Modality

if TYPE_CHECKING:
    from cmcr.evaluate.compare.results import Comparison


@functools.partial(with_flags, last=["weights"])
def retention(
    subject: Annotated[str, typer.Argument(help="A space folder.", metavar="SPACE", show_default=False)],
    pairs: Annotated[
        list[str] | None,
        typer.Option(
            help="MEMORY:MODALITY,MEMORY:MODALITY of one source encoder, rows joined by id; repeat for each encoder.",
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Instead of memories: a manifest with id and a column a modality.", show_default=False),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="Classes: lines id<TAB>class, or a table with id and a class column.")
    ] = None,
    label_field: Annotated[
        str | None, typer.Option(help="The table's column; default: class, label or category.")
    ] = None,
    template: Annotated[
        list[str] | None,
        typer.Option(help="Prompt with {} for the class, repeatable; default: class means of the other modality."),
    ] = None,
    rows: Annotated[int, typer.Option(min=12, help="Rows a modality for uniformity, rank and hubness.")] = 5000,
    seed: Annotated[int, typer.Option(min=0, help="Of the sample of those rows.")] = 0,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of result.json, index.html and memories.")] = Path(
        "results/retention"
    ),
    html: Annotated[bool, typer.Option("--html", help="Also write index.html.")] = False,
    *,
    run: Run,
) -> None:
    """What connecting costs each source space: its own retrieval, classification and geometry, before and after.

    Kept is after over before; queries, gallery and ties are those of cmcr eval retrieval.
    """
    if (pairs is None) == (data is None):
        raise typer.BadParameter("expected --pairs or --data, and not both", param_hint="--pairs")
    sides = [_two(each) for each in pairs or ()]
    if (template or label_field) and labels is None:
        raise typer.BadParameter("needs --labels", param_hint="--template" if template else "--label-field")
    from cmcr.datasets import read_labels
    from cmcr.evaluate.retention.page import retention_page
    from cmcr.evaluate.retention.pairs import pair_of_memories, pairs_of_manifest
    from cmcr.evaluate.retention.retention import evaluate
    from cmcr.memory import Memory

    known = None if labels is None else read_labels(labels, label_field)
    opened = run.open(subject)
    if data is not None:
        with console.progress("embed") as progress:
            found = pairs_of_manifest(opened, data, out / "memories", progress)
    else:
        memories = [tuple((Memory.open(path), modality) for path, modality in both) for both in sides]
        found = [pair_of_memories(opened, first, second) for first, second in memories]
    result = evaluate(opened, found, folder=out, labels=known, templates=template or (), rows=rows, seed=seed)
    page = retention_page(result, subject) if html else None
    title = f"{result.name} of {subject} ({opened.method})"
    run.present(result, title, out, page)
    tell_next("eval", "compare", out, then=" OTHER_RESULTS, to set another space beside it")


def compare(
    given: Annotated[
        list[str],
        typer.Argument(
            metavar="RESULT|SPACE...",
            help="result.json files or their folders; or, with --a and --b, space folders. NAME=PATH names its group.",
            show_default=False,
        ),
    ],
    a: Annotated[str | None, typer.Option("--a", help="MEMORY:MODALITY: measure the spaces on these.")] = None,
    b: Annotated[str | None, typer.Option("--b", help="MEMORY:MODALITY of the partners.")] = None,
    by: Annotated[str, typer.Option(help="The setting that groups results.")] = "method",
    measure: Annotated[
        Literal["recall@1", "recall@5", "recall@10", "mAP"], typer.Option(help="What is tested on spaces.")
    ] = "recall@1",
    samples: Annotated[int, typer.Option(min=1, help="Exchanges of a permutation test.")] = 10_000,
    seed: Annotated[int, typer.Option(min=0, help="Of permutations and bootstrap.")] = 0,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of comparison.json and index.html.")] = Path(
        "results/compare"
    ),
    html: Annotated[bool, typer.Option("--html", help="Also write index.html.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 when results are not comparable.")] = False,
) -> None:
    """Set methods, recipes and seeds side by side: mean and deviation, and a paired test where spaces are given.

    Results of one group are its seeds. Given spaces with --a and --b, retrieval over those pairs is measured in each,
    and every two groups are tested on the same queries, p adjusted by Holm for all of them.
    """
    if (a is None) != (b is None):
        raise typer.BadParameter("--a and --b go together", param_hint="--a" if a is None else "--b")
    from cmcr.evaluate.compare.page import compare_page
    from cmcr.evaluate.compare.results import compare_results, split_name
    from cmcr.evaluate.compare.spaces import compare_spaces
    from cmcr.memory import Memory

    if a is None or b is None:
        found = compare_results(given, by)
    else:
        (path_a, modality_a), (path_b, modality_b) = memory_side(a, "--a"), memory_side(b, "--b")
        sides = (Memory.open(path_a), modality_a), (Memory.open(path_b), modality_b)
        found = compare_spaces(
            [split_name(each) for each in given], *sides, measure=measure, samples=samples, seed=seed
        )
    found.write(out, compare_page(found) if html else None)
    for note in found.notes:
        console.say(note)
    for sentence in found.differs:
        console.warn(sentence)
    _show(found, as_json)
    console.say(f"wrote {out / ('index.html' if html else 'comparison.json')}")
    if a is None:
        tell_next("eval", "compare", then=" SPACE SPACE --a MEMORY:MODALITY --b MEMORY:MODALITY, for a paired test")
    else:
        tell_next("eval", "retention", split_name(given[0])[1], then=" --pairs ...: what it cost")
    if strict and found.differs:
        raise typer.Exit(1)


def _show(found: Comparison, as_json: bool) -> None:
    if as_json:
        console.show_json(found.to_json())
        return
    columns, rows = found.table()
    console.show_table(columns, rows, title=f"{found.benchmark}: {found.n} queries, gallery {found.gallery}")
    if found.tests:
        columns, rows = found.tests_table()
        console.show_table(columns, rows, title=f"{found.settings['tested']}, on the same queries")


def _two(given: str) -> tuple[tuple[Path, Modality], tuple[Path, Modality]]:
    """Return the two sides of MEMORY:MODALITY,MEMORY:MODALITY; a comma may also stand in a path."""
    places = [i for i, letter in enumerate(given) if letter == ","]
    cuts = [i for i in places if names_side(given[:i])]
    if len(cuts) != 1:
        raise typer.BadParameter(f"{given!r}: expected MEMORY:MODALITY,MEMORY:MODALITY", param_hint="--pairs")
    return memory_side(given[: cuts[0]], "--pairs"), memory_side(given[cuts[0] + 1 :], "--pairs")
