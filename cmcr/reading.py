"""Reading a file that somebody else made: whatever a library raises over it becomes an error that says what is wrong.

Parsers raise what they like on damaged bytes: RecursionError, OverflowError, AssertionError, MemoryError, errors of
their own, even a panic of Rust that is no ``Exception``. All of it passes through ``plainly`` here, and nothing else in
the package lists what a library may raise.
"""

from __future__ import annotations

import json
import os
import re
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmcr.errors import ArtifactError, CmcrError
from cmcr.files import open_file

if TYPE_CHECKING:
    import numpy as np

MAX_SETTINGS = 1 << 28
"""Bytes of a JSON or TOML file; the largest that is written here is the manifest of millions of shards."""

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


class DamagedError(ValueError):
    """A file's content is not what its kind asks for; the message is the reason, on one line."""


def why(error: BaseException) -> str:
    """Return on one line why something cannot be read."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, MemoryError):
        return "it asks for more memory than there is"
    text = " ".join(str(error).split())[:200]
    if isinstance(error, KeyError):
        return f"no {text}"
    return text or type(error).__name__


@contextmanager
def plainly() -> Iterator[None]:
    """Turn what a library raises over a file's content into ``DamagedError``; our own errors and OSError pass."""
    try:
        yield
    except (CmcrError, OSError, DamagedError):
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise  # Ctrl-C, or the end of the process
        raise DamagedError(why(error)) from error


@contextmanager
def reading(where: object, cure: str, kind: type[CmcrError] = ArtifactError, what: str = "damaged") -> Iterator[None]:
    """Turn everything that reading the file ``where`` may raise into an error of ours: file, reason, cure.

    Raises:
        CmcrError: of ``kind``: ``WHERE: WHAT (REASON); CURE``, or of a file that cannot be opened ``FILE: REASON;
            CURE``; errors of ours pass as they are.
    """
    try:
        with plainly():
            yield
    except (DamagedError, OSError) as error:
        missing = getattr(error, "filename", None)
        said = f"{missing}: {why(error)}" if missing else f"{where}: {what} ({why(error)})"
        raise kind(f"{said}; {cure}") from error


def read_bytes(path: Path, limit: int) -> bytes:
    """Return the content of a regular file of at most ``limit`` bytes.

    Raises:
        OSError: missing, unreadable, or not a regular file: a pipe would be waited for without end.
        DamagedError: larger, or a path that no file can have.
    """
    with plainly(), open_file(path) as file:
        if os.fstat(file.fileno()).st_size > limit:  # not read first: it may be a hole of any size
            raise DamagedError(f"more than {limit} bytes")
        data = file.read(limit + 1)
    if len(data) > limit:
        raise DamagedError(f"more than {limit} bytes")
    return data


def parse_json(data: bytes | str, strict: bool = False) -> Any:
    """Return what a JSON text holds.

    Args:
        data: The text, in UTF-8.
        strict: Refuse an object that has a key twice, of which one would be dropped without a word, and a text that is
            half a character (a lone surrogate), which nothing can store.

    Raises:
        DamagedError: not UTF-8, not JSON, nested too deeply, or a number of thousands of digits.
    """
    with plainly():
        text = data if isinstance(data, str) else data.decode("utf-8-sig")
        value = json.loads(text, object_pairs_hook=_unique if strict else None)
        if strict and _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()
        return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise DamagedError(f"{next(name for name in names if names.count(name) > 1)!r} stands there twice")
    return found


def read_json(path: Path, limit: int = MAX_SETTINGS) -> Any:
    """Return what a JSON file holds; strictly, as ``parse_json`` says.

    Raises:
        OSError: missing or unreadable.
        DamagedError: as ``read_bytes`` and ``parse_json``.
    """
    return parse_json(read_bytes(path, limit), strict=True)


def read_toml(path: Path) -> dict[str, Any]:
    """Return what a TOML file holds.

    Raises:
        OSError: missing or unreadable.
        DamagedError: as ``read_bytes``; not UTF-8, not TOML, or nested too deeply.
    """
    with plainly():
        return tomllib.loads(read_bytes(path, MAX_SETTINGS).decode("utf-8-sig"))


PARSING = threading.Lock()
"""Held while a ``.npy`` header is read: numpy parses it as Python, which threads of CPython 3.11 cannot do at once (now
and then one gets a SystemError, "AST constructor recursion depth mismatch")."""


def open_npy(path: Path) -> np.ndarray:
    """Return the array of a ``.npy`` file, memory-mapped; never unpickles.

    Raises:
        OSError: missing or unreadable.
        DamagedError: not a regular file, not a ``.npy``, or one that is shorter than its header says.
    """
    import numpy as np

    with plainly(), open_file(path), PARSING:
        array: np.ndarray = np.lib.format.open_memmap(path, mode="r")
        return array
