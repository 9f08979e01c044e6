"""Whether there are rows enough to train on, and to choose a method by."""

from __future__ import annotations

from cmcr.connect.methods import load_method
from cmcr.connect.split import FEW
from cmcr.memory.overlap import Side


def counts(sides: list[Side]) -> dict[str, int]:
    """Return the rows there are to learn from: of each memory that is recalled, and of the overlap."""
    held = {f"{side.memory.path} ({side.outer})": side.memory.rows(side.outer) for side in sides if side.outer}
    return held | {"the overlap": len(sides[0].rows)}


def few(sides: list[Side]) -> str:
    """Name what has too few rows, or return an empty text."""
    return ", ".join(f"{name} has {rows} rows" for name, rows in counts(sides).items() if rows < FEW)


def why_routed(sides: list[Side]) -> str:
    """Return why there is too little to learn from, or an empty text."""
    return few(sides) or ("" if len(counts(sides)) > 2 else "nothing is recalled")


def too_few(method: str, sides: list[Side]) -> tuple[str, ...]:
    """Return a warning where measured spaces of so few rows were worse than what routing finds without training."""
    if not load_method(method).trains or not few(sides):
        return ()
    return (
        f"{few(sides)}: below {FEW}, {method} learns too little to rely on; --method route finds more there "
        "(--method auto takes it)",
    )
