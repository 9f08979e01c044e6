"""``cmcr dedup``: rows of a memory that are nearly the same, listed, and all but one of each removed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cmcr import console
from cmcr.cli.modalities import modality_option
from cmcr.cli.results import tell_next
from cmcr.modality import Modality

if TYPE_CHECKING:
    from cmcr.memory import Memory
    from cmcr.search import Duplicates

_SHOWN = 20
"""Groups that are printed; --csv and --json have all."""


def dedup(
    memory: Annotated[Path, typer.Argument(help="A memory.", show_default=False)],
    above: Annotated[
        float, typer.Option(min=-1, max=1, help="The least cosine of two rows that count as the same.")
    ] = 0.98,
    modality: Annotated[
        Modality | None, modality_option(help="Of the memory; may be left out where it holds one.", show_default=False)
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Remove all rows of a group but the one to --keep.")] = False,
    keep: Annotated[
        Literal["first"] | None, typer.Option(help="Which row of a group stays: the first of the memory.")
    ] = None,
    csv: Annotated[Path | None, typer.Option(help="Also write all groups, a line for each row.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """List groups of rows of a memory that are nearly the same, and remove all but one of each.

    Rows are compared as their encoder made them, each with every other. What is near to what is near belongs to one
    group, so the ends of a long one may be further apart than --above says.
    """
    if remove != (keep is not None):
        raise typer.BadParameter("--remove and --keep first go together", param_hint="--keep" if keep else "--remove")
    from cmcr.cli.retrieve import modality_of
    from cmcr.memory import Memory
    from cmcr.search import duplicates_of

    opened = Memory.open(memory)
    wanted = modality_of(opened, modality)
    with console.progress("comparing rows") as progress:
        groups = duplicates_of(opened, wanted, above, progress)
    lines = list(_lines(opened, wanted, groups))
    if csv is not None:
        _write(csv, lines)
    extra = sum(len(group.rows) - 1 for group in groups)
    if as_json:
        console.show_json(_as_json(memory, wanted, above, lines))
    else:
        shown = [line for line in lines if line["group"] <= _SHOWN]
        console.show_table(_COLUMNS, [[line[name] for name in _COLUMNS] for line in shown])
        if len(groups) > _SHOWN:
            console.say(f"the first {_SHOWN} of {len(groups)} groups; --csv FILE writes all")
    console.say(
        f"{memory}: {len(groups)} groups at {above:g} or above; {extra} of {opened.rows(wanted)} rows are extra"
    )
    if remove:
        _remove(memory, wanted, [line["id"] for line in lines if not line["first"]])
    elif groups:
        tell_next("dedup", memory, "--above", f"{above:g}", "--modality", wanted, "--keep", "first", "--remove")


_COLUMNS = ("group", "id", "cosine", "source")


def _lines(memory: Memory, modality: Modality, groups: list[Duplicates]) -> Iterator[dict[str, Any]]:
    for number, group in enumerate(groups, 1):
        for row, cosine in zip(group.rows.tolist(), group.cosines.tolist(), strict=True):
            known = memory.row(modality, row)
            first = row == group.rows[0]
            told = {"group": number, "id": known.id, "cosine": round(cosine, 4), "source": known.source}
            yield told | {"first": bool(first)}


def _as_json(memory: Path, modality: Modality, above: float, lines: list[dict[str, Any]]) -> dict[str, Any]:
    groups: dict[int, list[dict[str, Any]]] = {}
    for line in lines:
        groups.setdefault(line["group"], []).append({name: line[name] for name in ("id", "cosine", "source")})
    return {"memory": str(memory), "modality": str(modality), "above": above, "groups": list(groups.values())}


def _write(path: Path, lines: list[dict[str, Any]]) -> None:
    import csv
    import io

    from cmcr.files import write_text

    text = io.StringIO(newline="")
    table = csv.DictWriter(text, _COLUMNS, extrasaction="ignore", lineterminator="\n")
    table.writeheader()
    table.writerows(lines)
    write_text(path, text.getvalue())


def _remove(memory: Path, modality: Modality, ids: list[str]) -> None:
    if not ids:
        return
    from cmcr.embed import remove_rows

    removal = remove_rows(memory, ids, modality)
    console.say(f"{memory}: {removal.removed.get(modality, 0)} removed, {removal.left.get(modality, 0)} left")
    tell_next("compact", memory, then=" takes the removed rows off the disk")
