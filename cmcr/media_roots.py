"""Which files a memory may make us open: its rows name them, and the memory may be a stranger's."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from cmcr.errors import InputError, ItemError


class OutsideError(ItemError):
    """A file lies outside of the folders in which files may be opened."""


class MediaRoots:
    """The folders in which files that rows name may be opened: the working directory, and those the user names.

    The memory says nothing about it, for it could say anything. The working directory counts as the project that the
    user works on, unless it is the home folder or one above it, which holds much more than a project.
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


def _holds(folder: str, path: str) -> bool:
    """Tell whether one real path is, or is below, another."""
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)
