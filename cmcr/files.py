"""Files that are either whole or absent: write to a temporary name, fsync, rename."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from cmcr.errors import ArtifactError

_HALF = re.compile("[\ud800-\udfff]")  # a byte of a path that is not UTF-8
LOCK = ".lock"
"""The name of the lock in a folder that is being written."""


@contextmanager
def atomic(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file beside ``path``; on a clean exit it is fsynced and takes the name, on an error it goes.

    Raises:
        OSError: the disk is full or the folder read-only; ``path`` is then as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename in (None, str(partial)):
            error.filename, error.filename2 = str(path), None  # a full disk does not say which file it was
        raise


def write_atomic(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path``, whole or not at all."""
    with atomic(path) as file:
        file.write(data)


def write_text(path: Path, text: str) -> None:
    """Write a text in UTF-8; bytes of a path that are not UTF-8 are escaped, as they are wherever they are shown."""
    write_atomic(path, text.encode("utf-8", "backslashreplace"))


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as JSON with sorted keys, so that equal values are equal bytes; texts as ``write_text`` does."""
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    write_text(path, _HALF.sub(lambda half: f"\\\\u{ord(half[0]):04x}", text))


def sha256_file(path: Path) -> str:
    """Return the hex sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold ``folder/.lock`` while the body runs; the system lets go of it when the process ends, however it ends.

    Raises:
        ArtifactError: another process holds it.
    """
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / LOCK, timeout=0):
            yield
    except Timeout:
        raise ArtifactError(f"{folder}: another run is writing to it; wait until it ends") from None
