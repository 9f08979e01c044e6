"""Lines in a picture: a few named series on axes that are linear or logarithmic, as an SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

Series = Mapping[str, Sequence[tuple[float, float]]]
COLOURS = ("#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#ff8ab7", "#a463f2", "#97bbf5", "#9c6b4e", "#9498a0")
LEFT, RIGHT, TOP, BOTTOM = 70, 550, 30, 290


class Axis:
    """Where values lie between two ends of a picture."""

    def __init__(self, values: Sequence[float], ends: tuple[float, float], logarithmic: bool) -> None:
        self.logarithmic, self.ends = logarithmic, ends
        low, high = min(values), max(values)
        self.low: float
        self.high: float
        if logarithmic:
            self.low, self.high = math.floor(math.log10(low)), math.ceil(math.log10(high))
        else:
            self.low, self.high = math.floor(low * 20) / 20, math.ceil(high * 20) / 20
        self.high += self.high == self.low

    def place(self, value: float) -> float:
        """Return where a value lies."""
        at = math.log10(value) if self.logarithmic else value
        return self.ends[0] + (self.ends[1] - self.ends[0]) * (at - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """Return powers of ten, or at most eleven even steps."""
        if self.logarithmic:
            return [10.0**power for power in range(int(self.low), int(self.high) + 1)]
        step = 0.05 if self.high - self.low <= 0.5 else 0.1
        return [self.low + step * number for number in range(round((self.high - self.low) / step) + 1)]


def draw(path: Path, series: Series, across: str, up: str, logarithmic: tuple[bool, bool] = (True, True)) -> None:
    """Write a picture of named series of (x, y) points, with what both axes show."""
    points = [point for each in series.values() for point in each]
    x = Axis([point[0] for point in points], (LEFT, RIGHT), logarithmic[0])
    y = Axis([point[1] for point in points], (BOTTOM, TOP), logarithmic[1])
    out = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 780 340" font-family="sans-serif" font-size="12">']
    out.append('<rect width="780" height="340" fill="white"/>')
    for tick in y.ticks():
        at = y.place(tick)
        out.append(f'<path d="M{LEFT} {at:.0f}H{RIGHT}" stroke="#ddd"/>')
        out.append(f'<text x="{LEFT - 8}" y="{at + 4:.0f}" text-anchor="end">{tick:,g}</text>')
    for tick in x.ticks():
        out.append(f'<text x="{x.place(tick):.0f}" y="{BOTTOM + 16}" text-anchor="middle">{round(tick, 2):,g}</text>')
    out.append(f'<text x="{(LEFT + RIGHT) / 2:.0f}" y="{BOTTOM + 38}" text-anchor="middle">{across}</text>')
    out.append(f'<text x="{LEFT}" y="{TOP - 12}">{up}</text>')
    for number, (name, each) in enumerate(series.items()):
        colour, dashes = COLOURS[number % len(COLOURS)], ' stroke-dasharray="5 3"' * (number >= len(COLOURS))
        line = " ".join(f"{x.place(a):.1f},{y.place(b):.1f}" for a, b in each)
        out.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"{dashes}/>')
        out += [f'<circle cx="{x.place(a):.1f}" cy="{y.place(b):.1f}" r="3" fill="{colour}"/>' for a, b in each]
        out.append(f'<text x="{RIGHT + 12}" y="{TOP + 10 + 20 * number}" fill="{colour}">{name}</text>')
    path.write_text("\n".join([*out, "</svg>"]) + "\n", "utf-8")
