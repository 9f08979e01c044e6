"""``cmcr map``: a memory as a picture of points."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from cmcr import console
from cmcr.cli.modalities import memory_side, names_side
from cmcr.cli.results import tell_next
from cmcr.modality import Modality


def map_memory(
    memories: Annotated[
        list[str],
        typer.Argument(metavar="MEMORY[:MODALITY]...", help="Memories, whole or one modality.", show_default=False),
    ],
    space: Annotated[
        Path | None, typer.Option("--space", "-s", help="Project into this space; default: raw vectors of one encoder.")
    ] = None,
    by: Annotated[
        Literal["modality", "encoder", "encoder+modality", "memory", "label", "folder"] | None,
        typer.Option(help="What a mark tells; folder: of its file. (default: label, encoder+modality or modality)"),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="Classes: lines id<TAB>class, or a table with id and a class column.")
    ] = None,
    label_field: Annotated[
        str | None, typer.Option(help="The table's column; default: class, label or category.")
    ] = None,
    method: Annotated[Literal["pca", "umap"], typer.Option(help="umap needs the extra plot.")] = "pca",
    limit: Annotated[int, typer.Option(min=2, help="Points at most, drawn at random.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Of the draw, and of UMAP.")] = 0,
    out: Annotated[Path, typer.Option("--out", "-o", help="The page to write.")] = Path("map.html"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the points as one JSON document.")] = False,
) -> None:
    """Draw memories as points of a plane, coloured by modality, label or another group, as an HTML page."""
    if by and (by == "label") != (labels is not None):
        raise typer.BadParameter("--by label and --labels go together", param_hint="--labels")
    if label_field and labels is None:
        raise typer.BadParameter("needs --labels", param_hint="--label-field")
    from cmcr.datasets import read_labels
    from cmcr.evaluate.map.page import draw_points, lay_out, map_page
    from cmcr.files import write_text
    from cmcr.memory import Memory
    from cmcr.report.page import readable_path
    from cmcr.space import ConnectedSpace

    opened = [(Memory.open(path), modality) for path, modality in map(_part, memories)]
    target = None if space is None else ConnectedSpace.from_pretrained(space)
    known = None if labels is None else read_labels(labels, label_field)
    points = draw_points(opened, target, by=by, labels=known, limit=limit, seed=seed)
    layout = lay_out(points, method, seed)
    where = str(space) if space else opened[0][0].encoder.name
    explained = {} if layout.explained is None else {"variance shown": f"{100 * sum(layout.explained):.1f} %"}
    facts = {"in": where, "points": len(points.ids), "of rows": points.total, "marks by": points.by, "layout": method}
    title = f"Map of {', '.join(map(readable_path, memories))}"
    write_text(out, map_page(points, layout, title, facts | explained | {"seed": seed}))
    for note in points.notes:
        console.say(note)
    if len(points.ids) < points.total:
        console.say(f"{len(points.ids)} of {points.total} rows were drawn; see --limit")
    if as_json:
        drawn = zip(points.ids, points.groups, layout.xy.tolist(), strict=True)
        console.show_json(
            facts
            | {"seed": seed, "explained": layout.explained, "groups": points.counts}
            | {"rows": [{"id": name, "group": group, "x": x, "y": y} for name, group, (x, y) in drawn]}
        )
    else:
        console.show_table(["group", "points"], list(points.counts.items()), title=title)
    console.say(f"wrote {out}: open it in a browser")
    if space is None:
        tell_next("map", *memories, then=" --space SPACE, for how they lie once connected")
    else:
        tell_next("eval", "retention", where, then=" --pairs ...: what projecting them cost")


def _part(given: str) -> tuple[Path, Modality | None]:
    return memory_side(given, "MEMORY") if names_side(given) and not Path(given).exists() else (Path(given), None)
