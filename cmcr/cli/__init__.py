"""The ``cmcr`` command: parse, call, print. Loads no model library until a command needs one."""

from __future__ import annotations

import errno
import os
import sys
from typing import Annotated

import typer

from cmcr import console
from cmcr.cli import connect, demo, embed, encoders, evaluate, heads, map, retrieve, score
from cmcr.errors import CmcrError

INTERRUPTED = 130

app = typer.Typer(
    name="cmcr",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Connect pretrained contrastive spaces without paired data.",
)


def _version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        sys.stdout.write(f"cmcr {version('cmcr')}\n")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Connect pretrained contrastive spaces without paired data."""


# Each command is a plain function in its own module; they import their libraries when they run.
app.command("encoders")(encoders.encoders)
app.command("embed")(embed.embed)
app.command("info")(embed.info)
app.command("connect")(connect.connect)
app.command("import-heads")(heads.import_heads)
app.command("retrieve")(retrieve.retrieve)
app.add_typer(evaluate.app, name="eval")
app.command("score")(score.score)
app.command("index")(retrieve.index)
app.command("export")(retrieve.export)
app.command("map")(map.map_memory)
app.command("demo")(demo.demo)


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit code: 0 ok, 1 failure, 2 usage, 130 interrupted."""
    try:
        app(args=argv, prog_name="cmcr")
    except SystemExit as stop:
        if stop.code == INTERRUPTED:  # Typer turns Ctrl-C into this exit before we see it
            console.fail("interrupted; what was written is whole, and the same command goes on from there")
        return stop.code if isinstance(stop.code, int) else 0
    except CmcrError as error:
        console.fail(str(error))
        return 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        console.fail(_os_error(error))
        return 1
    return 0


def _os_error(error: OSError) -> str:
    cure = {
        errno.ENOSPC: "free some space and run the same command again",
        errno.EROFS: "choose a folder you can write to",
    }
    cure[errno.EACCES] = cure[errno.EPERM] = "check the permissions, or choose another folder"
    where = error.filename or "a file"
    return f"{where}: {error.strerror or error}; {cure.get(error.errno or 0, 'nothing half-written was left behind')}"
