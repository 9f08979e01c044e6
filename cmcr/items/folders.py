"""Find the files below a folder or of a pattern. Linked folders are followed; every real folder is entered once."""

from __future__ import annotations

import glob
import itertools
import os
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path


@dataclass(slots=True)
class FolderListing:
    """What was found, hidden files and folders left out.

    Attributes:
        files: Regular files, and links to such.
        folders: Those that were entered.
        unread: Folders that cannot be listed, with the reason.
        followed: Linked folders that were entered.
        again: Linked folders that were not entered, for they lead to one that was, or to one that holds them.
        broken: Links that lead nowhere.
        special: Pipes, sockets and devices.
    """

    files: list[Path] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    unread: list[tuple[Path, str]] = field(default_factory=list)
    followed: list[Path] = field(default_factory=list)
    again: list[Path] = field(default_factory=list)
    broken: list[Path] = field(default_factory=list)
    special: list[Path] = field(default_factory=list)

    def remarks(self) -> tuple[str, ...]:
        """Return what the user is to know of links and of what is no file."""
        told = (
            (self.followed, "followed linked folders: {}"),
            (self.again, "linked folders not entered, for they lead to one that is read anyway or holds them: {}"),
            (self.broken, "passed over links that lead nowhere: {}"),
            (self.special, "passed over what is no regular file: {}"),
        )
        return tuple(
            text.format(f"{len(set(paths))} ({min(paths).as_posix()}{', ...' if len(set(paths)) > 1 else ''})")
            for paths, text in told
            if paths
        )


def walk(folder: Path) -> FolderListing:
    """Find everything below ``folder``.

    Folders that really lie there come first, then linked ones, those nearer to ``folder`` before those further down. A
    link is not entered when its folder was, or when it leads to a folder that holds ``folder`` (as one to ``/`` does):
    so circles end, a file is found once however its folder is linked, and what has no link is named as ever.

    Raises:
        OSError: ``folder`` itself cannot be listed.
    """
    os.scandir(folder).close()
    found = FolderListing()
    entered = {_identity(parent) for parent in Path(os.path.realpath(folder)).parents}
    links = deque([folder])
    while links:
        link = links.popleft()
        if _identity(link) in entered:
            found.again.append(link)
            continue
        found.followed += [link] if link != folder else []
        links += sorted(_enter(link, found, entered))
    return found


def match(pattern: str) -> FolderListing:
    """Find the files that a pattern matches; ``**`` stands for any number of folders, walked as ``walk`` does."""
    parts, fixed = Path(pattern).parts, fixed_part(pattern)
    found, folders = FolderListing(), [fixed]
    *between, last = parts[len(fixed.parts) :]
    for part in between:
        folders = list(dict.fromkeys(each for folder in folders for each in _folders(folder, part, found)))
    if last == "**":
        folders = list(dict.fromkeys(each for folder in folders for each in _folders(folder, last, found)))
    for folder in folders:
        found.files += [path for path in _children(folder, "*" if last == "**" else last) if path.is_file()]
    return found


def fixed_part(pattern: str) -> Path:
    """Return the folder before the first part of a pattern that has a ``*``, ``?`` or ``[``."""
    return Path(*itertools.takewhile(lambda part: not glob.has_magic(part), Path(pattern).parts[:-1]))


def _enter(top: Path, found: FolderListing, entered: set[tuple[int, int]]) -> list[Path]:
    """Find what really lies below ``top``; return the linked folders."""
    links: list[Path] = []
    waiting = [top]
    while waiting:
        folder = waiting.pop()
        try:
            identity = _identity(folder)
            if identity in entered:  # a link led here before
                continue
            with os.scandir(folder) as entries:
                visible = [entry for entry in entries if not entry.name.startswith(".")]
        except OSError as error:
            found.unread.append((folder, error.strerror or str(error)))
            continue
        entered.add(identity)
        found.folders.append(folder)
        for entry in visible:
            _sort(entry, found, waiting, links)
    return links


def _sort(entry: os.DirEntry[str], found: FolderListing, folders: list[Path], links: list[Path]) -> None:
    path = Path(entry.path)
    if entry.is_dir(follow_symlinks=False):
        folders.append(path)
    elif entry.is_file(follow_symlinks=False):
        found.files.append(path)
    elif not entry.is_symlink():
        found.special.append(path)
    elif os.path.isdir(path):  # noqa: PTH112 - the method of Path raises where a name is too long
        links.append(path)
    elif os.path.isfile(path):  # noqa: PTH113
        found.files.append(path)
    else:
        (found.special if os.path.exists(path) else found.broken).append(path)  # noqa: PTH110


def _folders(folder: Path, part: str, found: FolderListing) -> Iterable[Path]:
    """Return the folders that a part of a pattern stands for; note what the walk of a ``**`` tells."""
    if part != "**":
        return (path for path in _children(folder, part) if path.is_dir())
    walked = walk(folder)
    for name in ("unread", "followed", "again", "broken", "special"):
        getattr(found, name).extend(getattr(walked, name))
    return sorted(walked.folders)


def _children(folder: Path, part: str) -> Iterator[Path]:
    if not glob.has_magic(part):
        yield from [folder / part] if os.path.lexists(folder / part) else []
        return
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208 - names, to be matched
    except OSError:
        return
    hidden = part.startswith(".")
    yield from (folder / name for name in names if fnmatchcase(name, part) and (hidden or not name.startswith(".")))


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino
