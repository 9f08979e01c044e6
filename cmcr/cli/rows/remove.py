"""``cmcr remove``: take rows out of a memory. ``cmcr compact``: give back the room they took."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cmcr import console
from cmcr.cli.modalities import modality_option
from cmcr.cli.results import tell_next
from cmcr.modality import Modality

if TYPE_CHECKING:
    from cmcr.memory import Memory

_SHOWN = 10
"""Unknown ids that are told one by one."""
_MEMORY = typer.Argument(help="A memory.", show_default=False)


def remove(
    memory: Annotated[Path, _MEMORY],
    ids: Annotated[
        list[str] | None,
        typer.Option(metavar="ID[,ID...]", help="Of the rows; may be repeated.", show_default=False),
    ] = None,
    ids_from: Annotated[
        list[Path] | None, typer.Option(help="A text file, one id a line; may be repeated.", show_default=False)
    ] = None,
    modality: Annotated[
        Modality | None, modality_option(help="Only its rows. (default: every modality that has the id)")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 when an id is not there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Remove rows of a memory by their ids: no reader sees them from now on.

    Nothing is rewritten but a list of what is gone; cmcr compact takes the vectors off the disk. Indexes stay as they
    are and find removed rows no more. To embed a removed id again brings it back, so take its file away too.
    """
    if not ids and not ids_from:
        raise typer.BadParameter("expected --ids ID[,ID...] or --ids-from FILE", param_hint="--ids")
    from cmcr.embed import remove_rows
    from cmcr.memory import Memory

    wanted = [name for path in ids_from or () for name in _listed(path)]
    removal = remove_rows(memory, [*_given(ids or [], Memory.open(memory)), *wanted], modality)
    if as_json:
        removed, left = ({str(kind): count for kind, count in each.items()} for each in (removal.removed, removal.left))
        console.show_json({"memory": str(memory), "removed": removed, "rows": left, "unknown": list(removal.unknown)})
    else:
        rows = [(kind, count, removal.left[kind]) for kind, count in removal.removed.items()]
        console.show_table(("modality", "removed", "rows left"), rows)
    if removal.unknown:
        shown = ", ".join(map(repr, removal.unknown[:_SHOWN]))
        more = len(removal.unknown) - _SHOWN
        console.warn(
            f"{len(removal.unknown)} ids are not in {memory}: {shown}{f' and {more} more' if more > 0 else ''}"
        )
    if not removal.removed:
        console.fail(f"{memory}: nothing was removed: it has none of the ids; expected them as its metadata has them")
    if not removal.removed or (strict and removal.unknown):
        raise typer.Exit(1)
    tell_next("compact", memory, then=" takes the removed rows off the disk")


def _given(ids: list[str], memory: Memory) -> list[str]:
    """Return the ids of a command line: between commas, but for an id that has commas itself."""
    if not any("," in each for each in ids):
        return ids
    known = {name for kind in memory.modalities for name in memory.ids(kind)}
    return [name for each in ids for name in ([each] if each in known else each.split(",")) if name]


def _listed(path: Path) -> list[str]:
    from cmcr.errors import InputError
    from cmcr.items import lines_of, read_text

    if not path.is_file():
        raise InputError(f"{path}: no such file; expected one id a line")
    return [line for each in lines_of(read_text(path)) if (line := each.strip())]


def compact(
    memory: Annotated[Path, _MEMORY],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Rewrite a memory without its removed rows: only shards that hold some.

    It may be stopped at any moment: the memory then is as it was, or compacted. Indexes made before are stale.
    """
    from cmcr.embed import compact as rewrite
    from cmcr.memory import Memory
    from cmcr.search import stale_indexes

    done = rewrite(memory)
    stale = stale_indexes(Memory.open(memory)) if done.dropped else []
    if as_json:
        dropped = {str(kind): count for kind, count in done.dropped.items()}
        names = [str(path) for path in stale]
        console.show_json(
            {"memory": str(memory), "dropped": dropped, "before": done.before, "after": done.after, "stale": names}
        )
    elif done.dropped:
        told = ", ".join(f"{count} {kind}" for kind, count in done.dropped.items())
        console.say(f"{memory}: dropped {told}; {done.before} bytes before, {done.after} now")
    else:
        console.say(f"{memory}: no rows were removed since it was made or compacted: nothing to do")
    for path in stale:
        console.warn(f"{path} is stale: it holds rows that are gone; run cmcr index again, or delete it")
