"""Flags made from the settings that methods declare; the help groups them by method, or shows one method's alone."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Annotated, Any, Optional

import typer
from typer.core import TyperCommand

from cmcr.cli.flags import keyword, with_parameters
from cmcr.cli.panels import EVERY, added_by, by_panel, default_told, method_of, settings_for
from cmcr.connect.methods import BUILT_IN, known_methods, known_settings, load_method
from cmcr.settings import Setting


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Give a function the flags of every built-in method instead of its ``**settings``."""
    fixed = inspect.signature(command, eval_str=True)
    parameters = [each for each in fixed.parameters.values() if each.kind is not each.VAR_KEYWORD]
    return with_parameters(command, [*parameters, _method(), *(_parameter(panel, each) for panel, each in by_panel())])


class SettingsCommand(TyperCommand):
    """A command whose method decides which flags its help shows, and which an installed package adds.

    The method is that of ``--method``, or of the recipe of ``--config``.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Look for the method before the flags are parsed."""
        if ctx.resilient_parsing:  # of a shell that completes a name
            return super().parse_args(ctx, args)
        if method := _last(args, "--method"):
            if method not in BUILT_IN and method not in known_methods():
                known = ", ".join(known_methods())
                raise typer.BadParameter(f"{method!r} is not one of {known}.", ctx=ctx, param_hint="'--method'")
        elif recipe := _last(args, "--config"):
            method = method_of(recipe)
        ctx.meta["method"] = method
        return super().parse_args(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help: of the chosen method's settings, or of all."""
        ctx.meta["help"] = True
        super().format_help(ctx, formatter)

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters: those of an installed package's method too; for the help without other methods'."""
        params = super().get_params(ctx)
        if not (method := ctx.meta.get("method")):
            return params
        own = settings_for(method)
        if method not in BUILT_IN:
            added = _params(_parameter(method, own[name]) for name in added_by(method))
            params = [*(each for each in params if each.name not in added_by(method)), *added]
        if ctx.meta.get("help"):
            params = [each for each in params if each.name in own or each.name not in known_settings(method)]
        return params

    def invoke(self, ctx: Any) -> Any:
        """Lay aside what the command's function has no parameter for; it finds it as ``ctx.meta["added"]``."""
        names = added_by(ctx.meta.get("method", ""))
        ctx.meta["added"] = {name: ctx.params.pop(name) for name in names if name in ctx.params}
        return super().invoke(ctx)


def _last(args: list[str], flag: str) -> str:
    """Return what a command line says last for a flag, or an empty text."""
    after = [value for before, value in pairwise(args) if before == flag]
    joined = [each.removeprefix(f"{flag}=") for each in args if each.startswith(f"{flag}=")]
    return next(reversed([*after, *joined]), "")


def _method() -> inspect.Parameter:
    known = sorted(BUILT_IN)
    words = "; ".join(f"{name}: {load_method(name).summary()}" for name in known)
    option = typer.Option(
        "--method",
        metavar=f"<{'|'.join(known)}>",
        help=f"{words[0]}{words[1:]} (default: c-mcr). With --help: only its own settings.",
        rich_help_panel=EVERY,
        show_default=False,
    )
    return keyword("method", Annotated[Optional[str], option])  # noqa: UP045  (read as it runs)


def _parameter(panel: str, setting: Setting) -> inspect.Parameter:
    flag = f"--{(setting.alias or setting.name).replace('_', '-')}"
    if setting.kind is bool:
        flag += f"/--no-{flag[2:]}"
    told = f"{setting.help} (default: {default_told(setting, panel)})"
    option = typer.Option(flag, help=told, rich_help_panel=panel, show_default=False)
    return keyword(setting.name, Annotated[Optional[setting.kind], option])  # noqa: UP045


def _params(parameters: Iterable[inspect.Parameter]) -> list[Any]:
    """Return parameters as Typer's command line has them."""

    def only(**settings: Any) -> None: ...

    app = typer.Typer(add_completion=False)
    app.command()(with_parameters(only, parameters))
    return list(typer.main.get_command(app).params)
