"""Which files a memory may make us open: its rows name them, and the memory may be a stranger's."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from cmcr.errors import InputError, ItemError
from cmcr.files import is_file, open_file
from cmcr.reading import plainly


class OutsideError(ItemError):
    """A file lies outside of the folders in which files may be opened.

    >>> from cmcr.memory import OutsideError
    >>> raise OutsideError("not opened: it lies outside of the working directory")
    Traceback (most recent call last):
    cmcr.memory.roots.OutsideError: not opened: it lies outside of the working directory
    """


class MediaRoots:
    """The folders in which files that rows name may be opened: the working directory, and those the user names.

    The memory says nothing about it, for it could say anything. The working directory counts as the project that the
    user works on, unless it is the home folder or one above it, which holds much more than a project.

    >>> from pathlib import Path
    >>> from cmcr.memory import MediaRoots
    >>> MediaRoots().resolve(Path("/etc/passwd"), own=Path("mem"))
    Traceback (most recent call last):
    cmcr.memory.roots.OutsideError: not opened: it lies outside of the working directory and of every --media-root
    """

    def __init__(self, named: Iterable[str | Path] = ()) -> None:
        """Allow the working directory and the folders ``named``.

        Raises:
            InputError: a named folder is none.
        """
        self.folders = [os.path.realpath(each) for each in named]
        for folder in self.folders:
            if not Path(folder).is_dir():
                raise InputError(f"--media-root {folder}: not a folder; name one that holds the files to show")
        here, home = os.path.realpath(os.curdir), os.path.realpath(os.path.expanduser("~"))  # noqa: PTH111
        if not _holds(here, home):
            self.folders.append(here)

    def resolve(self, path: Path, own: Path) -> Path:
        """Return the file behind ``path``, all links followed, if it lies in ``own`` (a memory's folder) or in a root.

        Raises:
            OutsideError: it does not.
        """
        real = os.path.realpath(path)
        if not any(_holds(folder, real) for folder in (os.path.realpath(own), *self.folders)):
            raise OutsideError("not opened: it lies outside of the working directory and of every --media-root")
        return Path(real)


def read_source(folder: Path, source: str, roots: MediaRoots, most: int | None = None) -> bytes | None:
    """Return the content of the file, or of the member ``x.tar!member``, that a memory in ``folder`` names as a source.

    Args:
        folder: The memory's.
        source: As its row tells it, relative to the folder.
        roots: Where files may be opened besides it.
        most: Bytes read at most.

    Returns:
        None: there is no such file or member.

    Raises:
        OutsideError: it lies elsewhere, be it through a link.
        ItemError: larger than ``most``.
        OSError: it cannot be read, or is no regular file.
    """
    archive, _, member = source.partition("!")
    whole = bool(source) and is_file(folder / source)
    path = folder / (source if whole else archive)
    if not whole and not (member and is_file(path)):
        return None
    with open_file(roots.resolve(path, folder)) as file:
        if whole:
            return _bounded(file, os.fstat(file.fileno()).st_size, most)
        try:
            with plainly(), tarfile.open(fileobj=file, mode="r:") as tar:
                found = tar.extractfile(member)
                return _bounded(found, tar.getmember(member).size, most) if found else None
        except ValueError:
            return None


def _bounded(file: IO[bytes], size: int, most: int | None) -> bytes:
    if most is not None and size > most:
        raise ItemError(f"above {most >> 20} MiB, not opened")
    return file.read()


def _holds(folder: str, path: str) -> bool:
    """Tell whether one real path is, or is below, another."""
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)
