"""Which share of the work is this process's: as the user, torchrun or Slurm says."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Self

from cmcr.errors import InputError

_VARIABLES = (
    ("RANK", "WORLD_SIZE"),
    ("SLURM_PROCID", "SLURM_NTASKS"),
    ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT"),
)


@dataclass(frozen=True, slots=True)
class Part:
    """One of ``size`` processes that share a run; it takes shard ``rank``, ``rank + size`` and so on.

    >>> from cmcr.embed import Part
    >>> part = Part.parse("2/4")
    >>> str(part), list(range(part.rank, 10, part.size))
    ('part 2 of 4 (--part 2/4)', [1, 5, 9])

    Attributes:
        rank: Which one, from 0.
        size: How many there are.
        origin: Who said so, for messages.
    """

    rank: int = 0
    size: int = 1
    origin: str = "--part"

    def __str__(self) -> str:
        return f"part {self.rank + 1} of {self.size} ({self.origin})"

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.size:
            raise InputError(f"{self.origin}: no part of a whole; give --part K/N, K from 1 to N")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``K/N``, K from 1 to N.

        Raises:
            InputError: anything else.
        """
        first, _, second = text.partition("/")
        if not (first.isdecimal() and second.isdecimal()):
            raise InputError(f"--part {text!r}; expected K/N, as in --part 2/4")
        return cls(int(first) - 1, int(second), f"--part {text}")

    @classmethod
    def from_environment(cls) -> Self | None:
        """Return the part that torchrun, srun or a Slurm job array gave to this process; None: it is alone.

        Raises:
            InputError: the variables are no such numbers, or those of an array with gaps.
        """
        for name, count in _VARIABLES:
            if name not in os.environ or count not in os.environ:
                continue
            origin = f"{name}={os.environ[name]}, {count}={os.environ[count]}"
            first, step = 0, 1
            if name == "SLURM_ARRAY_TASK_ID":  # --array=1-9:2 counts from 1 in twos
                first, step = _number("SLURM_ARRAY_TASK_MIN", "0"), _number("SLURM_ARRAY_TASK_STEP", "1") or 1
            rank, rest = divmod(_number(name) - first, step)
            part = cls(-1 if rest else rank, _number(count), origin)
            if part.size > 1:
                return part
        return None


def _number(name: str, default: str = "") -> int:
    text = os.environ.get(name, default)
    if not text.isdecimal():
        raise InputError(f"{name}={text}; expected a whole number: mend it, or give --part K/N")
    return int(text)
