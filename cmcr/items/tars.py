"""Index webdataset tars. Members are only ever read in place, by offset; nothing is extracted."""

from __future__ import annotations

import errno
import io
import os
import re
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from cmcr.errors import InputError
from cmcr.modality import Modality, of_suffix

MAX_HEADER = 1 << 16
"""A header of names and attributes above this many bytes is damage: a path has 4096 at most."""
MAX_GLOBAL_FIELDS = 1000

_PACKED = ((b"\x1f\x8b", "gzip"), (b"BZh", "bzip2"), (b"\xfd7zXZ", "xz"), (b"\x28\xb5\x2f\xfd", "zstd"))
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Member:
    """One file inside a tar: its name, where its bytes lie, and why it cannot be used."""

    name: str
    offset: int
    size: int
    problem: str | None = None

    @property
    def key(self) -> str:
        """The name up to the first dot of its last part, as webdataset joins members."""
        path = PurePosixPath(self.name)
        return str(path.parent / (path.name.split(".", 1)[0] or path.name)) if path.name else self.name

    @property
    def field(self) -> str:
        """What tells members of one key apart: all from the first dot on (``.png``, ``.depth.png``), lower-case."""
        # What is said of the archive itself stands nowhere in it, and has no field.
        name = self.name.rstrip("/").rpartition("/")[2] if self.offset else ""
        return (PurePosixPath(name).suffix if name.startswith(".") else "".join(name.partition(".")[1:])).lower()


class _Headers(io.BufferedReader):
    """A tar of which only headers are read here, so that no size in it makes for a large read, or a slow one."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= MAX_HEADER:
            raise tarfile.ReadError(f"a header of {size} bytes")
        data = super().read(size)
        if size > tarfile.BLOCKSIZE and re.search(rb"[0-9]{100}", data):
            raise tarfile.ReadError("a header with a number of 100 digits")
        return data

    def seek(self, offset: int, whence: int = 0, /) -> int:
        try:
            return super().seek(offset, whence)
        except (OSError, ValueError, OverflowError):  # further than any file goes
            raise tarfile.ReadError("unexpected end of data") from None


def index_tar(path: Path) -> list[Member]:
    """Return the members of an uncompressed tar in its order; folders are passed over, links and devices are problems.

    Tars written one after another are read to the end. What breaks off is one more member that says so, and of two
    members of one name the later counts, as where a tar is unpacked.

    Raises:
        InputError: compressed, or not a tar.
    """
    with path.open("rb") as file:
        head = file.read(6)
    packed = next((name for magic, name in _PACKED if head.startswith(magic)), None)
    if packed:
        raise InputError(f"{path}: a tar compressed with {packed}; members are read in place: decompress it first")
    members: list[Member] = []
    damage = _read_all(path, members)
    if damage and not members:
        raise InputError(f"{path}: not a tar ({damage}); expected an uncompressed webdataset shard")
    last = {member.name: place for place, member in enumerate(members)}
    found = [
        member if last[member.name] == place else replace(member, problem="a later member of the tar has its name")
        for place, member in enumerate(members)
    ]
    if damage:
        name = members[-1].name
        why = f"damaged archive after {name}: {damage}; the rest is not read"
        found.append(Member(f"{members[-1].key} and after", 0, 0, why))
    return found


def item_fields(members: Iterable[Member]) -> frozenset[str]:
    """Return the fields that hold the items themselves, given all members of an input.

    A field of one suffix (``.png``) does; one of several (``.depth.png``) is another thing about the same key, unless
    no member of its modality has one suffix, and only one field has several.
    """
    fields = {member.field for member in members if member.problem is None}
    chosen = {field for field in fields if field.count(".") < 2}
    kinds: dict[Modality | None, set[str]] = {}
    for field in fields:
        kinds.setdefault(of_suffix("." + field.rpartition(".")[2]), set()).add(field)
    for kind, of_it in kinds.items():
        if kind is not None and len(of_it) == 1:
            chosen |= of_it
    return frozenset(chosen)


def by_suffix_within_keys(members: Sequence[Member]) -> list[Member]:
    """Return the members so that of one key and modality the first suffix by the alphabet comes first.

    Then ``.jpg`` is taken before ``.png`` whatever their order in the tar, as it is of files in a folder.
    """
    places: dict[tuple[str, Modality | None], list[int]] = {}
    for place, member in enumerate(members):
        if member.problem is None and (modality := of_suffix(member.field)):
            places.setdefault((member.key, modality), []).append(place)
    ordered = list(members)
    for group in places.values():
        best = sorted((members[place] for place in group), key=lambda member: (member.field, member.name))
        for place, member in zip(group, best, strict=True):
            ordered[place] = member
    return ordered


def _read_all(path: Path, members: list[Member]) -> str:
    """Append the members of every tar in a file, one after another; return what ended the reading before its end."""
    size, start, damage = path.stat().st_size, 0, "invalid header"
    with _Headers(io.FileIO(path)) as file:
        while True:
            file.seek(start)
            try:
                end = _read_one(file, members)
            except tarfile.TarError as error:
                return str(error)
            except (ValueError, OverflowError, RecursionError, MemoryError):  # tarfile believes what a header says
                return damage
            if end >= size:
                return "no end mark, as if it were cut off"
            following = _first_byte(path, end, size)
            if following is None:
                return ""
            if end > start:
                damage = "invalid header"
            start = following - following % tarfile.BLOCKSIZE
            if start <= end:
                return damage
            damage = "what follows its end mark is no tar"


def _read_one(file: _Headers, members: list[Member]) -> int:
    """Append the members of one tar; return where its end mark should stand."""
    with tarfile.open(fileobj=file, mode="r:") as tar:
        before = -1
        for info in tar:
            if info.size < 0 or not before < tar.offset:
                raise tarfile.ReadError("a size below zero")
            if len(tar.pax_headers) > MAX_GLOBAL_FIELDS:
                raise tarfile.ReadError("global headers without end")
            before = tar.offset
            if not info.isdir():
                members.append(Member(info.name.removeprefix("./"), info.offset_data, info.size, _problem(info)))
            tar.members.clear()  # type: ignore[attr-defined]  # else a long archive is kept in RAM twice
        return tar.offset


def _problem(info: tarfile.TarInfo) -> str | None:
    if info.islnk() or info.issym():
        return f"not a regular file: a link to {info.linkname[:200]!r}"
    return None if info.isreg() and not info.issparse() else "not a regular file"


def _first_byte(path: Path, start: int, size: int) -> int | None:
    """Return where the first byte stands that is not zero; holes of a sparse file are passed over."""
    with path.open("rb") as file:
        while start < size:
            start = _past_hole(file.fileno(), start, size)
            file.seek(start)
            chunk = file.read(_CHUNK)
            if stripped := chunk.lstrip(b"\0"):
                return start + len(chunk) - len(stripped)
            start += max(len(chunk), 1)
    return None


def _past_hole(file: int, start: int, size: int) -> int:
    try:
        return os.lseek(file, start, os.SEEK_DATA)
    except (OSError, AttributeError) as error:  # nothing but a hole; or a system that knows of none
        return size if getattr(error, "errno", None) == errno.ENXIO else start
