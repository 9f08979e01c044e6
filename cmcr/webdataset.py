"""Index webdataset tars. Members are only ever read in place, by offset; nothing is extracted."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from cmcr.errors import InputError

_PACKED = ((b"\x1f\x8b", "gzip"), (b"BZh", "bzip2"), (b"\xfd7zXZ", "xz"), (b"\x28\xb5\x2f\xfd", "zstd"))


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
        return str(path.with_name(path.name.split(".", 1)[0] or path.name))


def index_tar(path: Path) -> Iterator[Member]:
    """Yield the members of an uncompressed tar in its order; folders are passed over, links and devices are problems.

    Raises:
        InputError: compressed, or not a tar.
    """
    with path.open("rb") as file:
        head = file.read(6)
    packed = next((name for magic, name in _PACKED if head.startswith(magic)), None)
    if packed:
        raise InputError(f"{path}: a tar compressed with {packed}; members are read in place: decompress it first")
    last = None
    try:
        with tarfile.open(path, "r:") as tar:
            for info in tar:
                if not info.isdir():
                    problem = None if info.isreg() and not info.issparse() else "not a regular file"
                    last = Member(info.name.removeprefix("./"), info.offset_data, info.size, problem)
                    yield last
                tar.members.clear()  # type: ignore[attr-defined]  # else a long archive is kept in RAM twice
            end = tar.offset
        damage = _damage_at(path, end)
    except tarfile.TarError as error:
        if last is None:
            raise InputError(f"{path}: not a tar ({error}); expected an uncompressed webdataset shard") from None
        damage = str(error)
    if damage and last is not None:
        yield Member(
            f"{last.key} and after", 0, 0, f"damaged archive after {last.name}: {damage}; the rest is not read"
        )


def _damage_at(path: Path, end: int) -> str:
    # tarfile takes a bad header for the end of the archive; the true end is a block of zeros, or of the file.
    with path.open("rb") as file:
        file.seek(end)
        return "invalid header" if any(file.read(tarfile.BLOCKSIZE)) else ""
