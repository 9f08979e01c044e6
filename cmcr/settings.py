"""What a setting is: a field whose metadata makes its flag, its help, its TOML key and the check of its value."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

from cmcr.errors import InputError, nearest
from cmcr.schema import MAX_INT, shown


def setting(
    default: Any,
    help: str,
    *,
    positive: bool = False,
    below: float | None = None,
    most: float | None = None,
    alias: str = "",
    check: Callable[[Any], str] | None = None,
) -> Any:
    """Return a field of a dataclass of settings; the choices of a ``Literal`` are its annotation's.

    Args:
        default: The method's own, of the annotated type: bool, int, float, str or a ``Literal`` of texts.
        help: What ``--help`` says of it.
        positive: Whether 0 is refused; numbers below 0 always are.
        below: A number that it must be below.
        most: The largest number it may be.
        alias: Another name of its flag and TOML key, for a name that Python forbids.
        check: Returns what was expected instead of a value, or an empty text.
    """
    return dataclasses.field(
        default=default,
        metadata={"help": help, "positive": positive, "below": below, "most": most, "alias": alias, "check": check},
    )


@dataclass(frozen=True)
class Setting:
    """One setting: what ``setting`` was given, and its name and type.

    >>> Setting("rank", int, 3, "Directions kept.", most=9).checked(4.0)
    4
    """

    name: str
    kind: Any
    default: Any
    help: str
    positive: bool = False
    below: float | None = None
    most: float | None = None
    alias: str = ""
    check: Callable[[Any], str] | None = None

    def checked(self, value: Any) -> Any:
        """Return a value as this setting's type.

        Raises:
            InputError: the wrong type, or outside of its choices or its range.
        """
        if expected := self._expected(value):
            raise InputError(f"{self.name} {shown(value)}; expected {expected}")
        return int(value) if self.kind is int else value  # 3.0 is a whole number, but no number of epochs to Python

    def _expected(self, value: Any) -> str:
        if get_origin(self.kind) is Literal:
            known = get_args(self.kind)
            return "" if value in known else f"one of {', '.join(known)}{nearest(shown(value), known)}"
        if self.kind in (bool, str):
            names = {bool: "true or false", str: "text"}
            return names[self.kind] if not isinstance(value, self.kind) else self.check(value) if self.check else ""
        return self._number(value)

    def _number(self, value: Any) -> str:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if number and not 0 <= value <= MAX_INT:
            return "a finite number of 0 or more, and of 64 bits"
        if not number or (self.kind is int and value != int(value)):
            return "a whole number" if self.kind is int else "a number"
        if self.most is not None and value > self.most:
            return f"at most {self.most}"
        if self.positive and not value:
            return "a number above 0"
        return f"a number below {self.below}" if self.below is not None and value >= self.below else ""


def settings_of(kind: Any) -> list[Setting]:
    """Return the settings that a dataclass of them declares."""
    hints = get_type_hints(kind)
    return [
        Setting(field.name, hints[field.name], field.default, **{"help": "", **field.metadata})
        for field in dataclasses.fields(kind)
    ]
