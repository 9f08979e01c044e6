"""Files that are either whole or absent, and files of unknown origin: opened only where nothing else can happen.

A file is written under a name that nobody can have foreseen, which must not exist yet, fsynced and renamed. So no link
that lies in a folder leads a write elsewhere: not the temporary file, which is new, and not the final name, for a
rename replaces a link and not what it points to.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import IO, Any

from cmcr.errors import ArtifactError

_HALF = re.compile("[\ud800-\udfff]")  # a byte of a path that is not UTF-8
LOCK = ".lock"
"""The name of the lock in a folder that is being written."""
LINE_BYTES = 16 << 20
"""Bytes of a line that are read at most."""

_LEFT = re.compile(r"\..+\.partial")


@contextmanager
def atomic(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file beside ``path``; on a clean exit it is fsynced and takes the name, on an error it goes.

    It is new and its name is random: no link is followed, and several may write to one ``path``, the last one wins.
    A process that is killed leaves it behind: see ``left_behind``.

    Raises:
        OSError: the disk is full or the folder read-only; ``path`` is then as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Only the beginning of a long name, for file systems limit the whole.
    partial = path.with_name(f".{path.name[:32]}.{secrets.token_hex(8)}.partial")
    try:
        with partial.open("xb") as file:  # fails where anything has the name, be it a link to nowhere
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


def left_behind(folder: Path) -> list[Path]:
    """Return what killed runs left in ``folder`` itself, sorted; links count, and are not followed."""
    try:
        with os.scandir(folder) as entries:
            found = [each.path for each in entries if is_partial(each.name) and not each.is_dir(follow_symlinks=False)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(map(Path, found))


def is_partial(name: str) -> bool:
    """Tell whether a file's name is one that ``atomic`` gives while it writes."""
    return _LEFT.fullmatch(name) is not None


def remove_left_behind(folder: Path) -> None:
    """Remove what killed runs left in ``folder`` and below; a link goes, and not what it points to."""
    for parent, _, _ in os.walk(folder):  # follows no link itself
        for path in left_behind(Path(parent)):
            path.unlink(missing_ok=True)


def refuse_linked_folders(folder: Path) -> None:
    """Refuse an artifact one of whose sub-folders is a link: what is written there would land outside of it.

    Raises:
        ArtifactError: there is one, at any depth.
    """
    for parent, names, _ in os.walk(folder):  # follows no link itself
        linked = next((name for name in names if os.path.islink(os.path.join(parent, name))), None)  # noqa: PTH114, PTH118
        if linked is not None:
            raise ArtifactError(
                f"{Path(parent, linked)}: a link to another folder, where nothing is written; put a folder in its place"
            )


def check_regular(path: Path) -> os.stat_result:
    """Return what is known about the file behind ``path``, without opening it.

    Raises:
        OSError: there is none, or it is a folder, pipe, socket or device (which may wait for ever, or act).
    """
    return _regular(path.stat(), path)


def is_file(path: Path) -> bool:
    """Tell whether a regular file is behind ``path``, which may be any text: no path at all, or not for us to see."""
    return os.path.isfile(path)  # noqa: PTH113 (Path.is_file raises on names that no file can have)


def open_file(path: Path) -> BufferedReader:
    """Open a regular file for reading; links are followed. A pipe or device is refused and never waited for.

    Raises:
        OSError: there is no such file, or it is not regular.
    """
    check_regular(path)
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        _regular(os.fstat(descriptor), path)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a regular file with their ends, one at a time.

    Raises:
        OSError: there is no such file, or it is not regular, or has a line above ``LINE_BYTES``.
    """
    with open_file(path) as file:
        for line in iter(lambda: file.readline(LINE_BYTES), b""):
            if len(line) == LINE_BYTES:
                raise OSError(errno.EFBIG, f"a line of {LINE_BYTES} bytes or more", str(path))
            yield line


def sha256_file(path: Path) -> str:
    """Return the hex sha256 of a regular file's bytes.

    Raises:
        OSError: there is no such file, or it is not regular.
    """
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def locked(folder: Path, wait: float = 0) -> Iterator[None]:
    """Hold ``folder/.lock`` while the body runs; the system lets go of it when the process ends, however it ends.

    Raises:
        ArtifactError: another process holds it, and still does after ``wait`` seconds; or a sub-folder is a link
            (``refuse_linked_folders``).
    """
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    refuse_linked_folders(folder)
    _mend_lock(folder / LOCK)
    try:
        with FileLock(folder / LOCK, timeout=wait):
            yield
    except Timeout:
        raise ArtifactError(f"{folder}: another run is writing to it; wait until it ends") from None


def _mend_lock(path: Path) -> None:
    """Remove a lock that is no file of its own: a lock is emptied when it is opened, and so would be its target."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(found.st_mode) and (not stat.S_ISREG(found.st_mode) or found.st_nlink > 1):
        path.unlink(missing_ok=True)


def _regular(found: os.stat_result, path: Path) -> os.stat_result:
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return found
