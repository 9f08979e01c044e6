"""Check plain values (JSON, TOML) against the fields and types of a dataclass: the one schema of what is read."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable
from typing import Any, Literal, get_args, get_origin, get_type_hints

from cmcr.errors import nearest

MAX_INT = (1 << 63) - 1
"""A larger whole number fits no size and no index."""

_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def checked(kind: Any, value: Any, at: str = "") -> Any:
    """Return a plain value as ``kind``.

    Args:
        kind: A dataclass (of an object with its fields and no others; those with a default may be missing), a class
            of names (``Modality``), a ``Literal``, ``X | None``, ``tuple[X, ...]``, ``list[X]``, ``dict[str, X]``,
            ``int``, ``float``, ``bool``, ``str`` or ``Any``.
        value: As ``json`` gives it.
        at: Where it stands, for the message.

    Raises:
        ValueError: another type; the message says where, the value, and what was expected.
    """
    if kind is Any:
        return value
    if dataclasses.is_dataclass(kind):
        return _object(kind, value, at)
    if get_origin(kind) in (tuple, list, dict):
        return _several(kind, value, at)
    if get_origin(kind) is Literal:
        return _one_of(get_args(kind), value, at)
    if isinstance(kind, type) and issubclass(kind, str) and kind is not str:
        return _name(kind, value, at)
    if type(None) in get_args(kind):
        return None if value is None else checked(get_args(kind)[0], value, at)
    return _plain(kind, value, at)


@functools.cache
def _fields(kind: Any) -> dict[str, tuple[Any, bool]]:
    """Return type and necessity of each field."""
    hints, missing = get_type_hints(kind), dataclasses.MISSING
    return {
        each.name: (hints[each.name], each.default is missing and each.default_factory is missing)
        for each in dataclasses.fields(kind)
    }


def _object(kind: Any, value: Any, at: str) -> Any:
    fields = _fields(kind)
    if not isinstance(value, dict):
        raise _wrong(value, at, f"an object with {', '.join(fields)}")
    if unknown := [name for name in value if name not in fields]:
        raise ValueError(f"unknown {_join(at, unknown[0])}{nearest(str(unknown[0]), fields)}")
    if missing := [name for name, (_, needed) in fields.items() if needed and name not in value]:
        raise ValueError(f"no {_join(at, missing[0])!r}")
    return kind(**{name: checked(fields[name][0], each, _join(at, name)) for name, each in value.items()})


def _several(kind: Any, value: Any, at: str) -> Any:
    origin, inner = get_origin(kind), get_args(kind)
    if origin is dict:
        if not isinstance(value, dict):
            raise _wrong(value, at, "an object")
        return {checked(inner[0], k, f"name in {at}"): checked(inner[1], v, _join(at, k)) for k, v in value.items()}
    if not isinstance(value, list | tuple):
        raise _wrong(value, at, "a list")
    return origin(checked(inner[0], each, f"{at}[{number}]") for number, each in enumerate(value))


def _one_of(known: Iterable[Any], value: Any, at: str) -> Any:
    found = next((each for each in known if type(each) is type(value) and each == value), None)
    if found is None:
        raise _wrong(value, at, f"one of {', '.join(map(str, known))}{nearest(shown(value), map(str, known))}")
    return found


def _name(kind: Callable[[str], Any], value: Any, at: str) -> Any:
    try:
        return kind(_plain(str, value, at))
    except ValueError as error:
        raise ValueError(f"{at or 'it'}: {error}") from None


def _plain(kind: type, value: Any, at: str) -> Any:
    fits = type(value) is kind or (kind is float and type(value) is int)
    if not fits or value != value:
        raise _wrong(value, at, _NAMES[kind])
    if isinstance(value, int) and abs(value) > MAX_INT:
        raise _wrong(value, at, f"{_NAMES[kind]} of 64 bits")
    return kind(value)


def _join(at: str, name: Any) -> str:
    return f"{at}.{name}" if at else str(name)


def shown(value: Any) -> str:
    """Return a value for a message: at most 60 characters, whatever it is."""
    try:
        return repr(value)[:60]
    except (ValueError, RecursionError):  # a number of thousands of digits; lists in lists
        return f"a {type(value).__name__} too large to show"


def _wrong(value: Any, at: str, expected: str) -> ValueError:
    return ValueError(f"{at or 'it'} is {shown(value)}, expected {expected}")
