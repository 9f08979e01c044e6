"""The page of ``cmcr map``: rows of memories as points of a plane, by group."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Literal

import numpy as np
from markupsafe import Markup

from cmcr.errors import InputError
from cmcr.items import what_differs
from cmcr.memory import Memory
from cmcr.memory.memory import Row
from cmcr.modality import Modality
from cmcr.numbers import plane as layout2d
from cmcr.report import Section, readable_name, render
from cmcr.report.page import page
from cmcr.space import ConnectedSpace

By = Literal["modality", "encoder", "encoder+modality", "memory", "label", "folder"]

# Okabe and Ito's colours without black, chosen to be told apart by the colour-blind; the shape says it once more.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#b8a800")
SHAPES = (
    "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",  # disc
    "M-3.6-3.6h7.2v7.2h-7.2z",  # square
    "M0-4.6L4.4 3.4h-8.8z",  # triangle
    "M0-5L4.4 0L0 5L-4.4 0z",  # diamond
    "M-1.4-4.4h2.8v3h3v2.8h-3v3h-2.8v-3h-3v-2.8h3z",  # plus
    "M0 4.6L4.4-3.4h-8.8z",  # triangle on its tip
    "M-4.4-2.4L-2.4-4.4L0-2L2.4-4.4L4.4-2.4L2 0L4.4 2.4L2.4 4.4L0 2L-2.4 4.4L-4.4 2.4L-2 0z",  # saltire
)
OTHER = "other"
UNLABELLED = "no label"
GROUPS = 20
"""Groups with a look of their own; the smaller ones share that of ``OTHER``."""
WIDTH, HEIGHT, MARGIN = 760.0, 560.0, 12.0
TITLE = 120


@dataclass(frozen=True)
class Points:
    """Rows that were drawn from memories, in the order they are drawn in.

    Attributes:
        ids: (N,) ids.
        titles: (N,) ids again, with the text of rows that have one.
        groups: (N,) names.
        vectors: (N, D) unit vectors, of one encoder or one space.
        total: Rows there were to draw from.
        notes: What was left out.
        looks: By group, the numbers of its colour and of its shape; a group that is not here gets the next free look.
        by: What named the groups.
    """

    ids: Sequence[str]
    titles: Sequence[str]
    groups: Sequence[str]
    vectors: np.ndarray
    total: int
    notes: tuple[str, ...] = ()
    looks: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    by: By = "modality"

    @property
    def counts(self) -> dict[str, int]:
        """Points of each group, the largest first."""
        return dict(sorted(Counter(self.groups).items(), key=lambda item: (-item[1], item[0])))


@dataclass(frozen=True)
class Projection:
    """Where the points lie: (N, 2) coordinates, how they were found, and the variance each axis explains (PCA)."""

    method: layout2d.Method
    xy: np.ndarray
    explained: tuple[float, float] | None


def draw_points(
    memories: Sequence[tuple[Memory, Modality | None]],
    space: ConnectedSpace | None,
    *,
    by: By | None = None,
    labels: Mapping[str, str] | None = None,
    limit: int = 2000,
    seed: int = 0,
) -> Points:
    """Draw rows of memories at random and name their groups.

    Args:
        memories: Each with the modality wanted of it; None for all that the space has.
        space: Where they are projected; None for raw vectors, which must be of one encoder.
        by: What names a group: ``folder`` is the last folder of a row's source, ``label`` is looked up by id. Of
            ``encoder+modality`` the colour tells the encoder and the shape the modality. None: the label where there
            are labels, encoder and modality where there are several encoders, else the modality.
        labels: Class of each id, for ``label``.
        limit: Points at most.
        seed: Of the draw.

    Raises:
        InputError: nothing to draw, memories of several encoders without a space, or labels that no row has.
        ArtifactError: a memory that does not belong to the space.
    """
    parts, notes = _parts(memories, space)
    by = by or ("label" if labels else "encoder+modality" if len(_encoders(parts)) > 1 else "modality")
    rng = np.random.default_rng(seed)
    sizes = [memory.rows(modality) for memory, modality in parts]
    drawn = np.sort(rng.permutation(sum(sizes))[:limit])
    found: list[tuple[Row, str]] = []
    vectors, start = [], 0
    for (memory, modality), size in zip(parts, sizes, strict=True):
        here = drawn[(drawn >= start) & (drawn < start + size)] - start
        start += size
        if not len(here):
            continue
        raw, wanted = memory.vectors(modality, here), set(here.tolist())
        name = memory.encoder.name
        vectors.append(raw if space is None else space.project(raw, encoder=name, modality=modality))
        known = [row for number, row in enumerate(memory.metadata(modality)) if number in wanted]
        found += [(row, _group(by, memory, modality, row, labels or {})) for row in known]
    if by == "label" and all(group == UNLABELLED for _, group in found):
        raise InputError(
            f"none of the {len(found)} drawn rows has one of the {len(labels or ())} labels; ids must agree"
            f"{what_differs([row.id for row, _ in found], list(labels or ()))}"
        )
    order = rng.permutation(len(found))  # no group covers the others for coming last
    rows, groups = [found[i][0] for i in order], [found[i][1] for i in order]
    titles, shuffled = [_title(row) for row in rows], np.concatenate(vectors)[order]
    looks = _looks(parts) if by == "encoder+modality" else {}
    return Points([row.id for row in rows], titles, groups, shuffled, sum(sizes), tuple(notes), looks, by)


def _encoders(parts: Sequence[tuple[Memory, Modality]]) -> list[str]:
    return list(dict.fromkeys(memory.encoder.name for memory, _ in parts))


def _looks(parts: Sequence[tuple[Memory, Modality]]) -> dict[str, tuple[int, int]]:
    """Return by group the colour of its encoder and the shape of its modality, each numbered as it is first met."""
    encoders, modalities = _encoders(parts), list(dict.fromkeys(modality for _, modality in parts))
    return {
        _both(memory, modality): (encoders.index(memory.encoder.name), modalities.index(modality))
        for memory, modality in parts
    }


def _both(memory: Memory, modality: Modality) -> str:
    return f"{memory.encoder.name}: {readable_name(modality)}"


def _parts(
    memories: Sequence[tuple[Memory, Modality | None]], space: ConnectedSpace | None
) -> tuple[list[tuple[Memory, Modality]], list[str]]:
    encoders = {memory.encoder.fingerprint: memory for memory, _ in memories}
    if space is None and len(encoders) > 1:
        names = " and ".join(f"{memory.path} is of {memory.encoder.name}" for memory in encoders.values())
        raise InputError(f"{names}: vectors of several encoders share no space; give --space")
    parts: list[tuple[Memory, Modality]] = []
    notes = []
    for memory, modality in memories:
        if modality is not None and modality not in memory.modalities:
            raise InputError(f"{memory.path} holds {', '.join(memory.modalities) or 'nothing'}, no {modality}")
        for each in memory.modalities if modality is None else [modality]:
            if space is not None and modality is None and _lacks(space, memory, each):
                notes.append(f"{memory.rows(each)} {each} rows of {memory.path} were left out: the space has none")
                continue
            if space is not None:
                space.check_memory(memory, each)
            parts.append((memory, each))
    if not parts:
        raise InputError(f"no rows to draw; {'; '.join(notes) or 'the memories are empty'}")
    return parts, notes


def _lacks(space: ConnectedSpace, memory: Memory, modality: Modality) -> bool:
    entry = space.encoders.get(memory.encoder.name)
    return entry is not None and modality not in entry.modalities


def _title(row: Row) -> str:
    title = row.id if row.text is None else f"{row.id}: {row.text}"
    return title if len(title) <= TITLE else title[: TITLE - 1] + "…"


def _group(by: By, memory: Memory, modality: Modality, row: Row, labels: Mapping[str, str]) -> str:
    match by:
        case "modality":
            return readable_name(modality)
        case "encoder+modality":
            return _both(memory, modality)
        case "encoder":
            return memory.encoder.name
        case "memory":
            return str(memory.path)
        case "folder":
            return PurePosixPath(row.source).parent.name or UNLABELLED
        case "label":
            return labels.get(row.id, UNLABELLED)


def lay_out(points: Points, method: layout2d.Method = "pca", seed: int = 0) -> Projection:
    """Return where the points lie in two dimensions.

    Raises:
        MissingExtraError: UMAP is asked for and not installed.
    """
    if method == "umap":
        return Projection(method, layout2d.umap(points.vectors, seed), None)
    xy, explained = layout2d.pca(points.vectors)
    return Projection(method, xy, explained)


def map_page(points: Points, layout: Projection, title: str, facts: Mapping[str, object]) -> str:
    """Return the page of a map; ``facts`` are shown below its title."""
    if layout.explained is None:
        about = "UMAP keeps neighbourhoods: distances between far groups, and the axes, have no meaning."
    else:
        about = (
            f"The two directions of greatest variance hold {100 * sum(layout.explained):.1f} % of it; what lies close "
            "here may be far apart in the others."
        )
    shown = len(points.ids)
    drawn = "" if shown == points.total else f" {shown:,} of {points.total:,} rows, drawn at random."
    about += " Colour tells the encoder, shape the modality." if points.looks else ""
    lead = " ".join([about + drawn, *(f"{note}." for note in points.notes)])
    return page(title, [Section("", body=scatter(points, layout, title))], lead, facts)


def scatter(points: Points, layout: Projection, title: str) -> Markup:
    """Return the points as inline SVG with a legend; both axes have one scale, and a point's id is its tooltip."""
    counts = points.counts
    own = [name for name in counts if name != UNLABELLED][:GROUPS]
    looks = {name: number for number, name in enumerate(own)}
    legend = [
        _look(number, points.looks.get(name)) | {"name": name, "count": counts[name]} for name, number in looks.items()
    ]
    rest = len(points.ids) - sum(counts[name] for name in own)
    if rest:
        smaller = [name for name in counts if name not in looks]
        name = smaller[0] if len(smaller) == 1 else f"{OTHER} ({len(smaller)} groups)"
        legend.append(_look(None) | {"name": name, "count": rest})
    placed = _placed(layout.xy)
    marks = [
        {"x": x, "y": y, "look": looks.get(group, len(own)), "title": f"{name} ({group})"}
        for (x, y), name, group in zip(placed, points.titles, points.groups, strict=True)
    ]
    x_label, y_label = (
        ("first component", "second component")
        if layout.explained is None
        else (f"{order} component, {100 * share:.1f} % of the variance" for order, share in zip(("first", "second"),
              layout.explained, strict=True))
    )  # fmt: skip
    size = {"width": WIDTH, "height": HEIGHT}
    return render("scatter.html", title=title, marks=marks, legend=legend, x_label=x_label, y_label=y_label, **size)


def _look(number: int | None, known: tuple[int, int] | None = None) -> dict[str, object]:
    """Return the colour and shape of a group; the shapes shift when the colours start anew, so no look repeats."""
    if number is None:
        return {"colour": "#8a8f98", "shape": SHAPES[0]}
    colour, shape = known or (number, number + number // len(COLOURS))
    return {"colour": COLOURS[colour % len(COLOURS)], "shape": SHAPES[shape % len(SHAPES)]}


def _placed(xy: np.ndarray) -> list[tuple[float, float]]:
    """Return (N, 2) coordinates as places in the picture, y up, one scale for both axes."""
    low, high = xy.min(axis=0), xy.max(axis=0)
    room = np.array([WIDTH, HEIGHT]) - 2 * MARGIN
    scale = float(min(room / np.maximum(high - low, 1e-12)))
    offset = (xy - (low + high) / 2) * scale
    return [(round(WIDTH / 2 + x, 1), round(HEIGHT / 2 - y, 1)) for x, y in offset.tolist()]
