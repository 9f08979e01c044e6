"""What a setting is: a field whose metadata makes its flag, its help, its TOML key and the check of its value."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from cmcr.errors import InputError, nearest
from cmcr.schema import MAX_INT, shown


def setting(
    default: Any = dataclasses.MISSING,
    help: str = "",
    *,
    positive: bool = False,
    below: float | None = None,
    most: float | None = None,
    alias: str = "",
    panel: str | None = None,
    metavar: str | None = None,
    check: Callable[[Any], str] | None = None,
) -> Any:
    """Return a field of a dataclass of settings; the choices of a ``Literal`` are its annotation's.

    Args:
        default: Of the annotated type: bool, int, float, str, Path, a ``Literal`` of texts, a list of these, or any of
            that ``| None``; left out where a value must be given.
        help: What ``--help`` says of it.
        positive: Whether 0 is refused; numbers below 0 always are.
        below: A number that it must be below.
        most: The largest number it may be.
        alias: Another name of its flag and TOML key, for a name that Python forbids.
        panel: Where ``--help`` shows it, if not among the options of all.
        metavar: What ``--help`` shows for the value, if not its type.
        check: Returns what was expected instead of a value, or an empty text.
    """
    given = {"help": help, "positive": positive, "below": below, "most": most, "alias": alias}
    return dataclasses.field(default=default, metadata=given | {"panel": panel, "metavar": metavar, "check": check})


@dataclass(frozen=True)
class Setting:
    """One setting: what ``setting`` was given, and its name and type.

    >>> from cmcr.settings import Setting
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
    panel: str | None = None
    metavar: str | None = None
    check: Callable[[Any], str] | None = None

    @property
    def needed(self) -> bool:
        """Whether a value must be given."""
        return self.default is dataclasses.MISSING

    @property
    def plain(self) -> Any:
        """The type, without None where that is allowed beside it."""
        optional = type(None) in get_args(self.kind)
        return next(each for each in get_args(self.kind) if each is not type(None)) if optional else self.kind

    @property
    def known(self) -> bool:
        """Whether the type is one that can be checked and given as a flag."""
        if get_origin(self.plain) is list:
            return self._each.known
        texts = get_origin(self.plain) is Literal and all(isinstance(each, str) for each in get_args(self.plain))
        return texts or self.plain in (bool, int, float, str, Path)

    def checked(self, value: Any) -> Any:
        """Return a value as this setting's type.

        Raises:
            InputError: the wrong type, or outside of its choices or its range.
        """
        if value is None and self.plain is not self.kind:
            return None
        if get_origin(self.plain) is list and isinstance(value, list | tuple):
            return [self._each.checked(each) for each in value]
        if expected := self._expected(value):
            raise InputError(f"{self.name} {shown(value)}; expected {expected}")
        # 3.0 is a whole number, but no number of epochs to Python.
        return self.plain(value) if self.plain in (int, Path) else value

    @property
    def _each(self) -> Setting:
        """One value of several."""
        return dataclasses.replace(self, kind=get_args(self.plain)[0])

    def _expected(self, value: Any) -> str:
        if get_origin(self.plain) is list:
            return "a list"
        if get_origin(self.plain) is Literal:
            known = get_args(self.plain)
            return "" if value in known else f"one of {', '.join(known)}{nearest(shown(value), known)}"
        if self.plain in (bool, str, Path):
            names = {bool: "true or false", str: "text", Path: "a path"}
            fits = isinstance(value, (str, Path) if self.plain is Path else self.plain)
            return names[self.plain] if not fits else self.check(value) if self.check else ""
        return self._number(value)

    def _number(self, value: Any) -> str:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if number and not 0 <= value <= MAX_INT:
            return "a finite number of 0 or more, and of 64 bits"
        if not number or (self.plain is int and value != int(value)):
            return "a whole number" if self.plain is int else "a number"
        if self.most is not None and value > self.most:
            return f"at most {self.most}"
        if self.positive and not value:
            return "a number above 0"
        return f"a number below {self.below}" if self.below is not None and value >= self.below else ""


@dataclass(frozen=True)
class Checked:
    """A dataclass of settings whose values are checked when it is made.

    >>> from dataclasses import dataclass
    >>> from cmcr.settings import Checked, setting
    >>> @dataclass(frozen=True)
    ... class Few(Checked):
    ...     rows: int = setting(10, "Rows looked at.", positive=True)
    >>> Few(3)
    Few(rows=3)
    """

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            InputError: another type, or outside of its choices or its range.
        """
        for each in settings_of(type(self)):
            object.__setattr__(self, each.name, each.checked(getattr(self, each.name)))


def settings_of(kind: Any) -> list[Setting]:
    """Return the settings that a dataclass of them declares."""
    hints = get_type_hints(kind)
    return [
        Setting(field.name, hints[field.name], field.default, **{"help": "", **field.metadata})
        for field in dataclasses.fields(kind)
    ]
