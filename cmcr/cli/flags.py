"""Flags made from the fields of a dataclass, and given to a command's function in the place of one parameter."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Annotated, Any

import typer

from cmcr.settings import Setting, settings_of


def with_flags(command: Callable[..., Any], kind: type, *, leave: str = "", **defaults: Any) -> Callable[..., Any]:
    """Return a command whose parameter ``choices``, a dataclass of settings, is given by a flag a field.

    Args:
        command: A function that Typer can take, but for that parameter.
        kind: The dataclass.
        leave: A parameter that is no flag of this command.
        defaults: Of the function's other parameters, where they differ.
    """
    own = {each.name: flag_of(each) for each in settings_of(kind)}
    parameters: list[inspect.Parameter] = []
    for each in inspect.signature(command, eval_str=True).parameters.values():
        kept = [each.replace(kind=each.KEYWORD_ONLY, default=defaults.get(each.name, each.default))]
        parameters += own.values() if each.name == "choices" else kept if each.name != leave else []

    @functools.wraps(command)
    def called(**given: Any) -> None:
        choices = kind(**{name: given.pop(name) for name in own})
        command(choices=choices, **given)

    return with_parameters(called, parameters)


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
    option = typer.Option(flag, help=each.help, rich_help_panel=each.panel, show_default=not each.needed, min=least)
    return keyword(each.name, Annotated[each.kind, option], inspect.Parameter.empty if each.needed else each.default)


def keyword(name: str, annotation: Any, default: Any = None) -> inspect.Parameter:
    """Return a parameter that is given by its name."""
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
