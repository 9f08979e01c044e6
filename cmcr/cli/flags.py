"""Flags made from the fields of a dataclass, and given to a command's function in the place of one parameter."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any

import typer

from cmcr.settings import Checked, Setting, settings_of


def with_flags(
    command: Callable[..., Any],
    choices: type | None = None,
    *,
    leave: Sequence[str] = (),
    last: Sequence[str] = (),
    **defaults: Any,
) -> Callable[..., Any]:
    """Return a command that takes a flag for every field of its parameters that are dataclasses of settings.

    Args:
        command: A function that Typer can take, but for those parameters.
        choices: The dataclass of the parameter ``choices``, where the function leaves that open.
        leave: Parameters and fields that are no flags of this command; they keep their default.
        last: Those that the help shows last.
        defaults: Of the function's other parameters, where they differ.
    """
    parameters: list[inspect.Parameter] = []
    parts: dict[str, tuple[type, list[str]]] = {}
    for each in inspect.signature(command, eval_str=True).parameters.values():
        kind = choices if choices and each.name == "choices" else each.annotation
        if isinstance(kind, type) and issubclass(kind, Checked):
            own = [field for field in settings_of(kind) if field.name not in leave]
            parts[each.name] = kind, [field.name for field in own]
            parameters += map(flag_of, own)
        elif each.name not in leave:
            default = defaults.get(each.name, each.default)
            parameters.append(each.replace(kind=each.KEYWORD_ONLY, default=default))

    @functools.wraps(command)
    def called(**given: Any) -> None:
        for name, (kind, fields) in parts.items():
            given[name] = kind(**{field: given.pop(field) for field in fields})
        command(**given)

    return with_parameters(called, sorted(parameters, key=lambda each: each.name in last))


def with_parameters(command: Callable[..., Any], parameters: Iterable[inspect.Parameter]) -> Callable[..., Any]:
    """Let a function say that it has these parameters: what Typer makes its command line from."""
    kept = list(parameters)
    command.__signature__ = inspect.Signature(kept)  # type: ignore[attr-defined]
    command.__annotations__ = {each.name: each.annotation for each in kept} | {"return": None}
    return command


def flag_of(each: Setting) -> inspect.Parameter:
    """Return the parameter of a setting; what Typer cannot check is checked where the dataclass is made."""
    flag = f"--{(each.alias or each.name).replace('_', '-')}"
    if each.plain is bool and each.default:
        flag += f"/--no-{flag[2:]}"
    least = int(each.positive) if each.plain is int else None
    shown = {"help": each.help, "rich_help_panel": each.panel, "metavar": each.metavar}
    option = typer.Option(flag, min=least, show_default=not each.needed, **shown)  # type: ignore[arg-type]
    return keyword(each.name, Annotated[each.kind, option], inspect.Parameter.empty if each.needed else each.default)


def keyword(name: str, annotation: Any, default: Any = None) -> inspect.Parameter:
    """Return a parameter that is given by its name."""
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
