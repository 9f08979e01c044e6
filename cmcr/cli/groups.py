"""Groups of commands that are known by name: a command's module is loaded when the command is called."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from cmcr import console
from cmcr.errors import CmcrError


class LazyGroup(TyperGroup):
    """A group whose help, completion and complaints need no more than a table of its commands.

    Attributes:
        table: Name: (``module:attribute`` inside ``cmcr.cli``, a function or a ``typer.Typer``; its help's first
            paragraph). What is listed are commands that stand in for these.
    """

    table: Mapping[str, tuple[str, str]] = {}

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._loaded: dict[str, Any] = {}
        self._listing = self._asked = False
        for name, (_, line) in self.table.items():
            self.add_command(TyperCommand(name, help=line, rich_markup_mode=self.rich_markup_mode))

    def get_params(self, ctx: Any) -> Any:
        """Return the group's own options.

        Typer's flags, ``--help`` and those of completion, are None when they are not given, and Typer loads Pydantic
        to convert a None: a third of the time in which a wrong name is refused. False it takes as it is.
        """
        found = super().get_params(ctx)
        for option in found:
            if getattr(option, "is_flag", False) and option.default is None:
                option.default = False
        return found

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command, loaded; while the commands are only listed, what stands in for it."""
        if cmd_name not in self.table:
            self._add_others()
        if self._listing or cmd_name not in self.commands:
            return super().get_command(ctx, cmd_name)
        if cmd_name not in self._loaded:
            own = cmd_name in self.table
            found = command_at(self.table[cmd_name][0]) if own else self.load_other(cmd_name)
            self._loaded[cmd_name] = loaded(cmd_name, found)
        return self._loaded[cmd_name]

    def others(self) -> Mapping[str, str]:
        """Return the commands that installed packages add, each with a line of help; asked for once, when needed."""
        return {}

    def load_other(self, name: str) -> Any:
        """Return what one of them is: a function, or a ``typer.Typer``."""
        raise NotImplementedError

    def _add_others(self) -> None:
        if not self._asked:
            for name, line in self.others().items():
                self.add_command(TyperCommand(name, help=line, rich_markup_mode=self.rich_markup_mode))
            self._asked = True

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help, from the table."""
        self._by_name(super().format_help, ctx, formatter)

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """Return the completions of a name, from the table."""
        return self._by_name(super().shell_complete, ctx, incomplete)

    def _by_name(self, method: Callable[..., Any], *arguments: Any) -> Any:
        self._listing = True
        try:
            self._add_others()
        except CmcrError as error:  # of a package: no reason to say nothing of the others
            console.warn(str(error))
        try:
            return method(*arguments)
        finally:
            self._listing = False


def command_at(target: str) -> Any:
    """Return what ``module:attribute`` of ``cmcr.cli`` is: a function, or a ``typer.Typer``."""
    module, _, attribute = target.partition(":")
    return getattr(import_module(f"cmcr.cli.{module}"), attribute)


def loaded(name: str, found: Any) -> Any:
    """Return the command that a function or a ``typer.Typer`` makes."""
    if not isinstance(found, typer.Typer):
        alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")
        alone.command(name)(found)
        found = alone
    command = get_command(found)
    command.name = name
    return command
