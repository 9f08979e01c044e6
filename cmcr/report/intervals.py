"""Groups of numbers side by side: each one's mean with its deviation, and the single numbers, on one scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup

from cmcr.report.charts import number, render, ticks_around

NAME = 24
"""Characters of the longest name that stands beside its mark; what is longer goes on in a second line."""


def interval_chart(title: str, groups: Mapping[str, Sequence[float]], guess: float | None = None) -> Markup:
    """Return a row for each group: a mark at the mean, a bar of one standard deviation each way, a dot a number.

    Args:
        title: Caption.
        groups: Numbers by name; of a single one there is no deviation. Those that are not finite are left out.
        guess: What guessing scores, drawn as a line.

    >>> from cmcr.report import interval_chart
    >>> "0.600 ± 0.141" in interval_chart("recall@1", {"linear": [0.5, 0.7], "route": [0.65]})
    True
    """
    kept = {name: np.array([v for v in values if np.isfinite(v)], float) for name, values in groups.items()}
    kept = {name: values for name, values in kept.items() if len(values)}
    spreads = {name: (values.mean(), values.std(ddof=1) if len(values) > 1 else 0.0) for name, values in kept.items()}
    ends = [mean + side * deviation for mean, deviation in spreads.values() for side in (-1, 1)]
    zero = [0.0, *([] if guess is None else [guess])]  # lengths are to be compared, so the scale begins at nothing
    ticks = ticks_around(np.array([*ends, *(v for values in kept.values() for v in values), *zero]))

    def place(value: float) -> float:
        return round(100 * (value - ticks[0]) / (ticks[-1] - ticks[0]), 2)

    rows = [
        {"name": name, "mean": place(mean), "low": place(mean - deviation), "high": place(mean + deviation)}
        | {"each": [place(v) for v in kept[name]] if len(kept[name]) > 1 else [], "told": _told(kept[name])}
        for name, (mean, deviation) in spreads.items()
    ]
    note = ["Bars: one standard deviation each way; dots: single results."] if any(row["each"] for row in rows) else []
    note += [] if guess is None else [f"Line: chance, {number(guess)}."]
    room = min(max(map(len, kept), default=0), NAME)
    axis = [(place(tick), number(tick)) for tick in ticks]
    shown = {"axis": axis, "guess": None if guess is None else place(guess), "note": " ".join(note)}
    told = max((len(str(row["told"])) for row in rows), default=0)
    return render("intervals.html", title=title, rows=rows, room=room, told=told, **shown)


def _told(values: np.ndarray) -> str:
    return f"{values.mean():.3f}" + (f" ± {values.std(ddof=1):.3f}" if len(values) > 1 else "")
