"""The ``cmcr`` command: parse, call, print. Loads a command when it is called, and a library when one needs it."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from cmcr import console, process
from cmcr.cli.groups import LazyGroup
from cmcr.commands import COMMANDS
from cmcr.errors import CmcrError, InputError

TRACEBACK = "CMCR_TRACEBACK"
"""The environment variable that lets an unforeseen error show where it arose."""


GENERAL = ("-q", "--quiet", "-v", "--verbose")
"""What may stand anywhere in a command line, for no command has a flag or takes a value of that name."""


class _Commands(LazyGroup):
    """The commands; what is wrong with a command line is told as every other error is, in one printable line.

    Typer's own way loads what draws its boxes, which takes longer than all else until there.
    """

    table = COMMANDS

    def make_context(self, *args: Any, **extra: Any) -> Any:
        with _complaints():
            return super().make_context(*args, **extra)

    def invoke(self, *args: Any) -> Any:
        with _complaints():
            return super().invoke(*args)


@contextmanager
def _complaints() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        told = getattr(error, "format_message", None)  # of Typer's parser; empty where it has shown the help
        if told is None or not told():
            raise
        context = getattr(error, "ctx", None)
        where = f"{context.command_path}: " if context else ""
        cure = f"; see: {context.command_path} --help" if context else ""
        console.fail(f"{where}{told().rstrip('.')}{cure}")
        raise typer.Exit(getattr(error, "exit_code", 2)) from error


app = typer.Typer(
    name="cmcr",
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Connect pretrained contrastive spaces without paired data.",
)


def _version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        console.write(f"cmcr {version('cmcr')}\n")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Tell only results, warnings and errors. May stand anywhere.")
    ] = False,
    verbose: Annotated[
        bool,
        typer.Option("--verbose", "-v", help="Tell versions, threads, time and memory too. May stand anywhere."),
    ] = False,
) -> None:
    """Connect pretrained contrastive spaces without paired data."""
    console.be_quiet(quiet)
    if verbose:
        from cmcr.cli.verbose import tell_surroundings

        context.call_on_close(tell_surroundings())


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit code: 0 ok, 1 failure, 2 usage, 130 interrupted."""
    code = call(argv)
    if code == process.INTERRUPTED:  # here, and not in ``call``: it is told once
        console.fail("interrupted; what was written is whole, and the same command goes on from there")
    return code


def call(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code, as ``main`` does, but say nothing of an interruption."""
    try:
        try:
            app(args=_arguments(argv), prog_name="cmcr")
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 0
        console.flush()
    except KeyboardInterrupt:
        code = process.INTERRUPTED
    except BrokenPipeError:  # whoever read us has enough
        process.drop(sys.stdout)
        code = 1
    except Exception as error:
        code = _failed(error)
    return code


def _arguments(argv: list[str] | None) -> list[str]:
    arguments = sys.argv[1:] if argv is None else argv
    if bad := next((each for each in arguments if "\0" in each), None):
        raise InputError(f"argument {bad[:60]!r} holds a NUL, which no name may; leave it out")
    end = arguments.index("--") if "--" in arguments else len(arguments)
    # These two belong to the program, and people write them behind the command.
    general = [each for each in arguments[:end] if each in GENERAL]
    return general + [each for each in arguments[:end] if each not in GENERAL] + arguments[end:]


def _failed(error: Exception) -> int:
    """Tell in one line what stopped the command, and return the exit code."""
    if process.interrupted():
        return process.INTERRUPTED
    if isinstance(error, CmcrError):
        console.fail(str(error))
    elif isinstance(error, OSError):
        console.fail(_os_error(error if error.filename else _of_stdout(error)))
    elif isinstance(error, MemoryError):
        console.fail("there is not enough memory; give less at once, or use a machine with more")
    elif os.environ.get(TRACEBACK):
        raise error
    else:
        from cmcr.reading import why

        what = f"{type(error).__name__}: {why(error)}"
        console.fail(f"{what}; this is a fault of cmcr: please report it with what {TRACEBACK}=1 shows")
    return 1


def _of_stdout(error: OSError) -> OSError:
    """Return what writing to stdout raises, where that is what failed; else the error itself."""
    try:
        console.flush()
    except OSError as own:
        return own
    return error


def _os_error(error: OSError) -> str:
    from cmcr.reading import why

    cure = {
        errno.ENOSPC: "free some space and run the same command again",
        errno.EBADF: "it is closed: give it somewhere to go",
        errno.EROFS: "choose a folder you can write to",
        errno.EEXIST: "it is in the way: choose another name",
        errno.ENOTDIR: "a file is in the way: choose another folder",
        errno.EISDIR: "it is a folder: name a file",
        errno.ENAMETOOLONG: "choose a shorter name",
    }
    cure[errno.EACCES] = cure[errno.EPERM] = "check the permissions, or choose another folder"
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{why(error)}; {cure.get(error.errno or 0, 'nothing half-written was left behind')}"
