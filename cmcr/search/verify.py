"""What ``cmcr info --verify`` looks at in a memory: its files, and the indexes beside it, one line a problem."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cmcr.errors import ArtifactError
from cmcr.memory import Memory
from cmcr.modality import Modality
from cmcr.search.faiss import IndexInfo, index_path, opening_digest, read_info


def memory_problems(memory: Memory) -> list[str]:
    """Return what is wrong with a memory and the indexes beside it."""
    problems = memory.verify()
    for path in sorted((memory.path / "index").glob("*.faiss")):
        name = path.relative_to(memory.path).as_posix()
        if not any(problem.startswith(f"{name}:") for problem in problems):
            problems += [
                f"{name}: {problem}; run cmcr index again, or delete it" for problem in _of_index(memory, path)
            ]
    return problems


def _of_index(memory: Memory, path: Path) -> Iterator[str]:
    """Compare every field of an index's .json with the file, its name and the memory."""
    try:
        info = read_info(path, "cmcr index")
        modality = Modality(info.modality)
    except (ArtifactError, ValueError) as error:
        yield str(error)
        return
    size = path.stat().st_size
    if index_path(memory.path, info.space, modality, info.kind) != path:
        yield f"its .json is that of a {info.kind} of {info.modality} in space {info.space[:12]}"
    if info.bytes != size:
        yield f"{size} bytes, its .json says {info.bytes}"
    elif not 0 <= info.structure <= size or opening_digest(path, info.structure) != info.opening:
        yield "its beginning and end are not those its .json names"
    if info.bias and not (info.bias.rows > 0 and info.bias.k > 0 and info.bias.alpha > 0):
        yield f"its .json says biases of {info.bias}"
    if info.dim < 1 or not _fits(memory, modality, info):
        yield f"its .json says {info.rows} rows of {info.dim} components"


def _fits(memory: Memory, modality: Modality, info: IndexInfo) -> bool:
    """Tell whether an index has as many rows as its memory; one of the memory as it was before is stale, not wrong."""
    every = memory.with_removed()
    current = modality in every.modalities and every.fingerprint(modality) == info.memory
    return info.rows == every.rows(modality) if current else info.rows > 0


def stale_indexes(memory: Memory) -> list[Path]:
    """Return the indexes beside a memory that are not of its rows, or cannot be read."""
    every = memory.with_removed()
    now = {str(modality): every.fingerprint(modality) for modality in every.modalities}
    return [path for path in sorted((memory.path / "index").glob("*.faiss")) if not _is_of(path, now)]


def _is_of(path: Path, fingerprints: dict[str, str]) -> bool:
    try:
        info = read_info(path, "cmcr index")
    except ArtifactError:
        return False
    return fingerprints.get(info.modality) == info.memory
