"""What a report draws: curves, heat maps, tables and point clouds, as markup without scripts.

Curves are inline SVG that takes its colours from the page's style, so they follow light and dark.
"""

from __future__ import annotations

import base64
import functools
import io
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from cmcr.printable import printable

if TYPE_CHECKING:
    import jinja2
    from PIL.Image import Image

# Dark blue, teal, sand, in sRGB: lightness grows along it, so it also reads in grey and to the colour-blind.
_RAMP = np.array([[24, 30, 62], [36, 74, 122], [42, 128, 140], [112, 178, 130], [214, 210, 132], [253, 246, 205]])
_PLOT = (640.0, 260.0)
_SERIES = 6
_DASHES = 0, 6, 2
# A number that is written already, perhaps with its deviation: it stands to the right as numbers do. Not 00012, an id.
_FIGURE = re.compile(r"[+-]?(0|[1-9][\d,]*)(\.\d+)?(e[+-]?\d+)?( %)?( ± .*)?")


@functools.cache
def _environment() -> jinja2.Environment:
    import jinja2

    loader = jinja2.PackageLoader("cmcr.report")
    return jinja2.Environment(
        loader=loader,
        autoescape=True,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )


def _shown(value: object) -> object:
    """Return what stands on a page for a value: of a text that may be anybody's, what is fit to be shown."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def render(template: str, **values: object) -> Markup:
    """Fill one of the package's templates; a value is made printable and escaped unless it is markup already."""
    return Markup(_environment().get_template(template).render(**values))  # noqa: S704 - autoescape is on


def data_uri(kind: str, data: bytes) -> str:
    """Return bytes as an address that a page can embed."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def image_uri(image: Image, kind: str = "PNG", **options: object) -> str:
    """Return a picture as an address that a page can embed."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return data_uri(f"image/{kind.lower()}", buffer.getvalue())


def line_chart(
    title: str, curves: Mapping[str, Sequence[tuple[float, float]]], x_label: str = "", y_label: str = ""
) -> Markup:
    """Return named curves of (x, y) points over one pair of axes; points that are not finite are left out.

    More than six curves repeat the colours, the seventh to twelfth dashed and further ones dotted; a single point is a
    short dash. The words stand beside the drawing, not in it, so that they keep their size while it is stretched to the
    width of the page.
    """
    kept = {name: [p for p in points if np.isfinite(p).all()] for name, points in curves.items()}
    everything = np.array([p for points in kept.values() for p in points], float).reshape(-1, 2)
    x_ticks, y_ticks = (ticks_around(everything[:, axis]) for axis in (0, 1))
    width, height = _PLOT

    def place(value: float, ticks: Sequence[float], length: float) -> float:
        return round((value - ticks[0]) / (ticks[-1] - ticks[0]) * length, 1)

    drawn = [
        {
            "name": name,
            "colour": order % _SERIES,
            "dash": _DASHES[min(order // _SERIES, 2)],
            "points": _visible(
                [(place(x, x_ticks, width), height - place(y, y_ticks, height)) for x, y in points], width
            ),
            "last": number(points[-1][1]) if points else "",
        }
        for order, (name, points) in enumerate(kept.items())
    ]
    x_axis = [(place(tick, x_ticks, 100), number(tick)) for tick in x_ticks]
    y_axis = [(100 - place(tick, y_ticks, 100), number(tick)) for tick in y_ticks]
    room = max(len(label) for _, label in y_axis)
    axes = {"x_axis": x_axis, "y_axis": y_axis, "x_label": x_label, "y_label": y_label, "room": room}
    seen = _curves_seen(title, kept)
    return render("line_chart.html", title=title, curves=drawn, seen=seen, width=width, height=height, **axes)


def _visible(points: list[tuple[float, float]], width: float) -> list[tuple[float, float]]:
    """Return the points of a curve; of a single one two, for a line of no length is not drawn."""
    if len(points) != 1:
        return points
    ((x, y),) = points
    return [(max(0.0, x - 6), y), (min(float(width), x + 6), y)]


def stacked_bars(
    title: str, parts: Sequence[str], bars: Sequence[tuple[str, Sequence[tuple[float, float, float]], Sequence[float]]]
) -> Markup:
    """Return a bar a line, each cut into the same named parts; the last part is drawn as what is empty.

    Args:
        title: Caption.
        parts: Their names, seven at most.
        bars: For each a name, (share, low, high) of every part, drawn with its interval, and the shares of a thinner
            bar below, such as what chance gives; shares of a bar sum to 1.
    """
    width, drawn = _PLOT[0], []
    for name, measured, below in bars:
        segments, thin = [], []
        start = 0.0
        for order, (share, low, high) in enumerate(measured):
            ends = [round(width * min(max(start + end, 0.0), 1.0), 1) for end in (low, high)]
            segments.append(
                {"x": round(width * start, 1), "width": round(width * share, 1), "colour": order, "low": ends[0],
                 "high": ends[1], "text": f"{parts[order]}: {share:.0%} ({low:.0%} to {high:.0%})",
                 "label": f"{share:.0%}" if share >= 0.06 else ""}
            )  # fmt: skip
            start += share
        start = 0.0
        for order, share in enumerate(below):
            thin.append({"x": round(width * start, 1), "width": round(width * share, 1), "colour": order})
            start += share
        drawn.append({"name": name, "segments": segments, "thin": thin})
    return render("stacked_bars.html", title=title, parts=parts, bars=drawn, width=width, height=64 * len(drawn))


def _curves_seen(title: str, curves: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Return what a chart shows, for those who do not see it: where each curve begins and ends."""
    ways = [
        f"{name} from {number(points[0][1])} to {number(points[-1][1])}" if points else f"{name} without a point"
        for name, points in curves.items()
    ]
    return f"{title}: {'; '.join(ways)}"


def ticks_around(values: np.ndarray, wanted: int = 5) -> list[float]:
    """Return round numbers that enclose ``values``, about ``wanted`` of them."""
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    if low == high:
        low, high = low - 0.5, high + 0.5
    rough = (high - low) / (wanted - 1)
    power = 10.0 ** np.floor(np.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
    first, last = np.floor(low / step + 1e-9), np.ceil(high / step - 1e-9)
    return [float(round(i * step, 12)) for i in range(int(first), int(last) + 1)]


def number(value: float) -> str:
    """Return a number as the axes and scales of a page say it."""
    if 1e3 <= abs(value) < 1e7:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 1e3 else f"{value:.2g}"


def heat_map(
    title: str,
    values: np.ndarray,
    low: float | None = None,
    high: float | None = None,
    row_label: str = "",
    column_label: str = "",
) -> Markup:
    """Return an (R, C) table of numbers as a coloured picture with its scale.

    Args:
        title: Caption.
        values: (R, C); what is not finite is drawn in the lowest colour.
        low: Number of the darkest colour; the least value when left out. Give both to compare two maps.
        high: Number of the lightest colour.
        row_label: What a row is.
        column_label: What a column is.
    """
    ends = _ends([values], low, high)
    return _heat_map(title, values, ends, (row_label, column_label), _scale(ends))


def heat_maps(
    maps: Mapping[str, np.ndarray],
    low: float | None = None,
    high: float | None = None,
    labels: Mapping[str, tuple[str, str]] | None = None,
) -> Markup:
    """Return tables of numbers, two a line (say, before and after), in the colours of one scale, which is below them.

    Args:
        maps: By title, each (R, C), as ``heat_map`` takes it.
        low: Number of the darkest colour; the least value of all maps when left out.
        high: Number of the lightest colour.
        labels: By title, what a row and a column is.
    """
    ends = _ends(list(maps.values()), low, high)
    told = labels or {}
    drawn = [_heat_map(name, values, ends, told.get(name, ("", "")), Markup()) for name, values in maps.items()]
    return Markup('<div class="maps two">{}</div>{}').format(Markup("").join(drawn), _scale(ends))


def _ends(maps: Sequence[np.ndarray], low: float | None, high: float | None) -> tuple[float, float]:
    everything = np.concatenate([np.asarray(values, float).ravel() for values in maps])
    finite = everything[np.isfinite(everything)]
    bottom = low if low is not None else float(finite.min()) if finite.size else 0.0
    return bottom, high if high is not None else float(finite.max()) if finite.size else 1.0


def _heat_map(
    title: str, values: np.ndarray, ends: tuple[float, float], labels: tuple[str, str], scale: Markup
) -> Markup:
    from PIL import Image

    table = np.asarray(values, float)
    share = np.nan_to_num((table - ends[0]) / max(ends[1] - ends[0], 1e-12), nan=0.0)
    context = {"title": title, "row_label": labels[0], "column_label": labels[1], "seen": _table_seen(table)}
    return render("heat_map.html", uri=image_uri(Image.fromarray(colours(share))), scale=scale, **context)


def _table_seen(table: np.ndarray) -> str:
    """Return what a heat map shows in words: its size and range, and whether its diagonal stands out."""
    finite = table[np.isfinite(table)]
    told = f"{table.shape[0]} rows by {table.shape[1]} columns"
    if not finite.size:
        return f"{told}, without a number"
    told += f", from {number(float(finite.min()))} to {number(float(finite.max()))}"
    if table.shape[0] != table.shape[1] or len(table) < 2 or finite.size < table.size:
        return told
    on, off = float(np.diag(table).mean()), float(table[~np.eye(len(table), dtype=bool)].mean())
    return f"{told}; on the diagonal {number(on)} on average, elsewhere {number(off)}"


def _scale(ends: tuple[float, float]) -> Markup:
    from PIL import Image

    ramp = image_uri(Image.fromarray(colours(np.linspace(0, 1, 128))[None]))
    return render("scale.html", uri=ramp, ends=tuple(map(number, ends)))


def colours(share: np.ndarray) -> np.ndarray:
    """Return RGB bytes, (..., 3), of numbers between 0 (dark blue) and 1 (sand); others are clipped."""
    place = np.clip(share, 0, 1) * (len(_RAMP) - 1)
    index = np.minimum(place.astype(int), len(_RAMP) - 2)
    part = (place - index)[..., None]
    return np.asarray((_RAMP[index] * (1 - part) + _RAMP[index + 1] * part).round(), np.uint8)


def results_table(
    columns: Sequence[str], rows: Sequence[Sequence[object]], strong: Sequence[int] = (), label: str = ""
) -> Markup:
    """Return a table, which can be scrolled sideways where the page is narrow.

    Args:
        columns: Their names.
        rows: Of each the cells; a number between 0 and 1 gets a bar.
        strong: Numbers of the rows that are set off.
        label: What the table is, for those who hear the page; by default its columns are named.
    """
    cells = [[_cell(value) for value in row] for row in rows]
    label = label or f"table of {', '.join(filter(None, columns))}"
    return render("table.html", columns=columns, rows=cells, strong=set(strong), label=label)


def _cell(value: object) -> tuple[str, float | None]:
    """Return a cell's text and, for a share, the length of its bar in percent: 0 for other numbers, None for words."""
    if isinstance(value, bool | str) or not isinstance(value, int | float | np.floating | np.integer):
        return str(value), 0.0 if _FIGURE.fullmatch(str(value)) else None
    if isinstance(value, int | np.integer):
        return f"{value:,}", 0.0
    return (f"{value:.3f}", round(100 * float(value), 1)) if 0 <= value <= 1 else (number(float(value)), 0.0)


def draw_point_cloud(points: np.ndarray, size: int = 240) -> Image:
    """Draw (N, 3) points, or (N, 6) with colours, y up, seen from the front right and a little above.

    Nearer points are lighter and on top.
    """
    from PIL import Image

    points = points[:: max(1, len(points) // 20_000)].astype(np.float64)
    across, up, near = _seen(points[:, :3])
    light = 0.4 + 0.6 * (near - near.min()) / max(float(np.ptp(near)), 1e-9)
    order = np.argsort(near, kind="stable")
    shades = np.full((len(points), 4), 255, np.uint8)
    shades[:, :3] = np.clip(_tints(points) * light[:, None] * 255, 0, 255)[order]
    large = 2 * size  # halved at the end, which smooths the discs
    column = np.round((0.5 + 0.46 * across[order]) * (large - 1)).astype(int)
    line = np.round((0.5 - 0.46 * up[order]) * (large - 1)).astype(int)
    canvas = np.zeros((large, large, 4), np.uint8)  # nothing behind, so that it stands on light and dark pages
    radius = int(np.clip(size / np.sqrt(len(points)), 3, 8))
    for dy in range(-radius, radius + 1):
        for dx in range(-radius, radius + 1):
            if dx * dx + dy * dy <= radius * radius:
                canvas[np.clip(line + dy, 0, large - 1), np.clip(column + dx, 0, large - 1)] = shades
    return Image.fromarray(canvas).resize((size, size), Image.Resampling.BOX)


def _seen(xyz: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return how far right, up and near each point is, in the unit ball."""
    centred = xyz - (xyz.min(axis=0) + xyz.max(axis=0)) / 2
    x, y, z = (centred / max(float(np.linalg.norm(centred, axis=1).max()), 1e-9)).T
    yaw, pitch = np.radians(35), np.radians(22)
    across, depth = x * np.cos(yaw) - z * np.sin(yaw), x * np.sin(yaw) + z * np.cos(yaw)
    return across, y * np.cos(pitch) - depth * np.sin(pitch), y * np.sin(pitch) + depth * np.cos(pitch)


def _tints(points: np.ndarray) -> np.ndarray:
    if points.shape[1] < 6:
        return np.broadcast_to(np.array([0.30, 0.56, 0.82]), (len(points), 3))
    colour = points[:, 3:6]
    return np.clip(colour / 255 if colour.max() > 1 else colour, 0, 1)
