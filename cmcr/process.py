"""What a process gets from its surroundings: standard streams that may be closed, full or narrow, and Ctrl-C.

Imported before everything else, so it imports next to nothing itself.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from typing import IO, Any

INTERRUPTED = 130
"""The exit code after Ctrl-C: 128 and the signal's number, as shells count."""

_MESSAGE = "error: interrupted; what was written is whole, and the same command goes on from there\n"

_LOADED = 300_000
"""Objects; torch and what it loads make fewer."""

_pressed = False


def mend_streams() -> None:
    """Give the process three standard streams to which any text can be written.

    One that was closed when the process began leads nowhere: stdin is empty, what is written to stderr is lost, and
    writing to stdout fails, for data was asked for. Without that the next file opened would take its number, and
    whatever a library prints would be written into it. Characters that a stream cannot encode are escaped.
    """
    for number, mode in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)  # takes the lowest number that is free: this one
    if sys.stdin is None:
        sys.stdin = os.fdopen(0, "r", encoding="utf-8", closefd=False)
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w", encoding="utf-8", closefd=False))
        getattr(sys, name).reconfigure(errors="backslashreplace")


def drop(stream: IO[str]) -> None:
    """Let a stream that cannot be written lead nowhere from now on, or Python would complain of it at its end."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        stream.flush()
    except (OSError, ValueError, AttributeError):  # not a stream of the system's
        return


def take_interrupts() -> None:
    """End the process at once, with one line, at Ctrl-C: while the program is still loading there is nothing to save.

    An exception would not do: libraries that are being imported turn it into errors of theirs.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # ignored: so wished by nohup and the like
        signal.signal(signal.SIGINT, _leave)


def search_later() -> None:
    """Search for no garbage until more objects are there than all libraries make while they load, and never in those.

    They stay to the end, and looking at them again and again takes a sixth of the time in which torch is loaded.
    """
    usual = gc.get_threshold()

    def first(phase: str, info: dict[str, int]) -> None:
        gc.callbacks.remove(first)
        gc.freeze()
        gc.set_threshold(*usual)

    gc.callbacks.append(first)
    gc.set_threshold(_LOADED, *usual[1:])


def begin() -> None:
    """From now on Ctrl-C raises KeyboardInterrupt, once; a second one ends the process at once."""
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, _interrupt)


def end() -> None:
    """From now on Ctrl-C is the system's: the work is done, and Python is about to end.

    At its end Python searches for garbage too, among all that torch has made; what is frozen it leaves alone.
    """
    gc.freeze()
    if signal.getsignal(signal.SIGINT) in (_leave, _interrupt):
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def interrupted() -> bool:
    """Tell whether Ctrl-C was pressed since ``begin``: an error after it is most likely of its making."""
    return _pressed


def _interrupt(number: int, frame: Any) -> None:
    global _pressed
    _pressed = True
    signal.signal(signal.SIGINT, _leave)
    raise KeyboardInterrupt


def _leave(number: int, frame: Any) -> None:
    try:
        os.write(2, _MESSAGE.encode())
    finally:
        os._exit(INTERRUPTED)
