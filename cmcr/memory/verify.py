"""Is a memory sound? Everything is read and compared, one line a problem; and which files belong to no memory."""

from __future__ import annotations

import contextlib
import re

import numpy as np

from cmcr.errors import ArtifactError
from cmcr.files import is_partial, left_behind, sha256_file
from cmcr.memory.manifest import REMOVED, Shard
from cmcr.memory.memory import Memory
from cmcr.memory.views import view_files, view_problems
from cmcr.modality import OWN, Modality, in_order
from cmcr.reading import plainly, read_json

_NORM_TOLERANCE = {"float16": 2e-3, "float32": 1e-4}
_LARGEST = 127
_OWN_FILE = re.compile(r"([a-z][a-z0-9_]*?)(_emb|_views)?_\d{4,}\.(npy|jsonl)")
_BLOCK = 8192


def problems_of(memory: Memory) -> list[str]:
    """Read everything and return one line per problem; empty when the memory is sound."""
    problems: list[str] = []
    for modality, shards in memory.manifest.shards.items():
        for shard in shards:
            problems += _of_shard(memory, shard)
        problems += _of_ids(memory, modality)
    problems += [*view_problems(memory), *_of_indexes(memory)]
    try:
        list(memory.skip_records())
    except ArtifactError as error:
        problems.append(str(error))
    return problems + [f"{name}: left over, not named by the manifest" for name in leftovers_of(memory)]


def leftovers_of(memory: Memory) -> list[str]:
    """Return files of an interrupted run, relative to the memory; the next ``cmcr embed`` removes them."""
    manifest = memory.manifest
    named = {name for shards in manifest.shards.values() for s in shards for name in (s.vectors, s.metadata)}
    named |= {removed.numbers for removed in manifest.removed.values()}
    named.update(view_files(memory))
    own = _folders(memory)
    folders = [*(f"{name}_{kind}" for name in own for kind in ("emb", "views")), "metadata", REMOVED]
    found = [path for folder in folders for path in sorted((memory.path / folder).glob("*"))]
    found = [path for path in found if is_partial(path.name) or _folder_of(path.name) in own]
    kept = [path for path in found + left_behind(memory.path) if path.is_symlink() or not path.is_dir()]
    return [name for path in kept if (name := path.relative_to(memory.path).as_posix()) not in named]


def _folders(memory: Memory) -> list[str]:
    """Return the short names of the modalities that a run may have begun to write.

    Of a modality that the manifest does not name, a folder with a shard's file in it is what tells of it.
    """
    known = [modality.folder for modality in in_order({*OWN, *memory.manifest.shards})]
    begun = [path for path in sorted(memory.path.glob("*_emb")) if path.is_dir() and not path.is_symlink()]
    return known + [
        name
        for path in begun
        if (name := path.name.removesuffix("_emb")) not in known
        and any(is_partial(each.name) or _folder_of(each.name) == name for each in path.iterdir())
    ]


def _of_shard(memory: Memory, shard: Shard) -> list[str]:
    problems = []
    with contextlib.suppress(OSError):  # said below, by whoever reads it
        problems = [f"{name}: its sha256 is not the manifest's" for name in memory._changed(shard)]
    try:
        stored = memory._shard_vectors(shard)
    except ArtifactError as error:
        return [*problems, str(error)]
    if memory.dtype == "int8":
        largest = np.concatenate([np.abs(block.astype(np.int16)).max(axis=1) for block in _blocks(stored)])
        off = np.count_nonzero(largest != _LARGEST)
        return [*problems, *([f"{shard.vectors}: {off} rows whose largest number is not {_LARGEST}"] if off else [])]
    norms = np.concatenate([np.linalg.norm(block.astype(np.float32), axis=1) for block in _blocks(stored)])
    finite = np.isfinite(norms)
    if not finite.all():
        problems.append(f"{shard.vectors}: {np.count_nonzero(~finite)} rows are not finite")
    off = np.count_nonzero(np.abs(norms[finite] - 1) > _NORM_TOLERANCE[memory.dtype])
    if memory.normalized and off:
        problems.append(f"{shard.vectors}: {off} rows are not of norm 1")
    return problems


def _blocks(stored: np.ndarray) -> list[np.ndarray]:
    return [stored[start : start + _BLOCK] for start in range(0, len(stored), _BLOCK)]


def _of_indexes(memory: Memory) -> list[str]:
    """Return what is wrong with the files of the indexes kept beside the vectors; their makers name the sha256."""
    problems = []
    for path in sorted((memory.path / "index").glob("*.faiss")):
        name = path.relative_to(memory.path).as_posix()
        try:
            with plainly():
                expected = read_json(path.with_suffix(".json"))["sha256"]
        except (OSError, ValueError):
            problems.append(f"{name}: its .json is missing or damaged; run cmcr index again, or delete it")
            continue
        if sha256_file(path) != expected:
            problems.append(f"{name}: its sha256 is not the one in its .json; run cmcr index again, or delete it")
    left = left_behind(memory.path / "index")
    return problems + [
        f"index/{path.name}: left by a cmcr index that did not end; the next removes it" for path in left
    ]


def _of_ids(memory: Memory, modality: Modality) -> list[str]:
    if modality not in memory.modalities:
        return []
    try:
        ids = memory.ids(modality)
    except ArtifactError as error:
        return [str(error)]
    repeated = len(ids) - len(set(ids))
    return [f"{modality}: {repeated} ids are not unique"] if repeated else []


def _folder_of(name: str) -> str:
    """Return which modality's shard a file is named as, by its folder's short name; empty: none's."""
    found = _OWN_FILE.fullmatch(name)
    return found.group(1) if found else ""
