"""The embedding memory: a folder of one encoder's vectors, read memory-mapped.

``manifest.json`` is the truth: a file it does not name does not belong to the memory. A shard is written to its end
before the manifest names it, so a run that dies leaves a smaller memory and never a damaged one. Nothing in the folder
depends on when, or in how many runs, it was written.
"""

from __future__ import annotations

import bisect
import contextlib
import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from cmcr.errors import ArtifactError
from cmcr.files import check_regular, is_file, is_partial, left_behind, open_file, read_lines, sha256_file
from cmcr.memory.lines import _json_lines, _row
from cmcr.memory.manifest import CURE, SKIPPED, EncoderInfo, Manifest, Row, Shard, Skip
from cmcr.memory.roots import MediaRoots, read_source
from cmcr.modality import OWN, Modality, in_order
from cmcr.reading import open_npy, parse_json, plainly, read_json, reading
from cmcr.schema import checked

__all__ = ["CHANGED", "EncoderInfo", "Memory", "Row", "Skip"]

CHANGED = "changed since it was embedded"
"""Begins the reason of the skip that keeps an old row: its file has other content now."""

_NPY_HEADER = 1 << 12
_NORM_TOLERANCE = {"float16": 2e-3, "float32": 1e-4}
_OWN_FILE = re.compile(r"([a-z][a-z0-9_]*?)(_emb)?_\d{4,}\.(npy|jsonl)")


class Memory:
    """A memory opened for reading: what stood in the manifest when it was opened.

    >>> from cmcr import Memory, Modality, embed_items, load_encoder
    >>> from cmcr.items import text_item, unique_items
    >>> inputs = unique_items(Modality.TEXT, [text_item("a red drum", "texts.txt:1")])
    >>> report = embed_items(load_encoder("tiny-clip"), inputs, "mem/clip")
    >>> memory = Memory.open("mem/clip")
    >>> memory.encoder.name, memory.modalities, memory.vectors(Modality.TEXT).shape
    ('tiny-clip', ('text',), (1, 64))

    Attributes:
        path: The folder.
        encoder: Which encoder made it.
        dtype: How vectors lie on disk; they are always read as float32 unit vectors.
        normalized: Whether they were normalised before they were stored.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest
        self.encoder = manifest.encoder
        self.dtype = manifest.dtype
        self.normalized = manifest.normalized
        self._line_ends: dict[str, np.ndarray] = {}
        self._checked: set[Modality] = set()

    @classmethod
    def open(cls, path: str | Path) -> Memory:
        """Open the memory in the folder ``path``.

        Raises:
            ArtifactError: missing, not a memory, of another version, or with a damaged manifest.
        """
        return cls(Path(path), Manifest.read(Path(path)))

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """The modalities it holds rows of, cmcr's own first and others by name."""
        return tuple(self.manifest.shards)

    def rows(self, modality: Modality) -> int:
        """Return the number of rows of a modality; 0 when it holds none."""
        return sum(shard.rows for shard in self.manifest.shards.get(modality, ()))

    def shards(self, modality: Modality) -> tuple[Shard, ...]:
        """Return the shards of a modality, in row order.

        Raises:
            ArtifactError: it holds no rows of this modality.
        """
        if modality not in self.manifest.shards:
            held = ", ".join(self.modalities) or "nothing"
            raise ArtifactError(
                f"{self.path}: holds no {modality}; it holds {held}: embed some, or choose another memory"
            )
        return self.manifest.shards[modality]

    def fingerprint(self, modality: Modality) -> str:
        """Return a hex sha256 that changes whenever the encoder, a row or their order does."""
        parts = [self.encoder.fingerprint]
        parts += [text for shard in self.shards(modality) for text in (shard.sha256, shard.metadata_sha256)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def metadata(self, modality: Modality) -> Iterator[Row]:
        """Yield what is known about each row, in row order.

        Raises:
            ArtifactError: a metadata file is missing, damaged, or of another length than the manifest says.
        """
        for shard in self.shards(modality):
            yield from self._shard_metadata(shard)

    def ids(self, modality: Modality) -> list[str]:
        """Return the ids in row order."""
        return [row.id for row in self.metadata(modality)]

    def blocks(self, modality: Modality, size: int = 8192) -> Iterator[np.ndarray]:
        """Yield (n, D) float32 unit vectors, 1 <= n <= ``size``, in row order; only one block is held in RAM.

        Raises:
            ArtifactError: a shard is missing, damaged, not of the shape the manifest says, or holds no unit vectors.
        """
        for shard in self.shards(modality):
            stored = self._shard_vectors(shard)
            for start in range(0, shard.rows, size):
                yield self._unit(stored[start : start + size], shard)

    def vectors(self, modality: Modality, indices: Sequence[int] | np.ndarray | None = None) -> np.ndarray:
        """Return all vectors of a modality, or the rows ``indices`` in that order.

        Returns:
            (N, D) float32 unit vectors.

        Raises:
            ArtifactError: as ``blocks``.
            IndexError: an index is not in [0, rows).
        """
        shards, total = self.shards(modality), self.rows(modality)
        if indices is None:
            return np.concatenate(list(self.blocks(modality)))
        wanted = np.asarray(indices, dtype=np.int64)
        if wanted.size and (wanted.min() < 0 or wanted.max() >= total):
            raise IndexError(f"row {wanted.min()} to {wanted.max()}; {self.path} holds {total} {modality} rows")
        ends = list(itertools.accumulate(shard.rows for shard in shards))
        owner = np.searchsorted(ends, wanted, side="right")
        found = np.empty((len(wanted), self.encoder.dim), dtype=np.float32)
        for number in np.unique(owner):
            here = owner == number
            first = ends[number] - shards[number].rows
            found[here] = self._unit(self._shard_vectors(shards[number])[wanted[here] - first], shards[number])
        return found

    def row(self, modality: Modality, index: int) -> Row:
        """Return what is known about one row, reading only its line; where lines end is learnt once a shard.

        Raises:
            ArtifactError: as ``metadata``.
            IndexError: ``index`` is not in [0, rows).
        """
        shards = self.shards(modality)
        ends = list(itertools.accumulate(shard.rows for shard in shards))
        if not 0 <= index < ends[-1]:
            raise IndexError(f"row {index}; {self.path} holds {ends[-1]} {modality} rows")
        number = bisect.bisect_right(ends, index)
        return self._shard_row(shards[number], index - ends[number] + shards[number].rows)

    def skip_records(self) -> Iterator[Skip]:
        """Yield every skip ever committed, in order.

        Raises:
            ArtifactError: ``skipped.jsonl`` is missing, damaged, or shorter than the manifest says.
        """
        path, count = self.path / SKIPPED, 0
        if not self.manifest.skipped:
            return
        for count, value in itertools.islice(_json_lines(path), self.manifest.skipped):
            try:
                yield checked(Skip, value)
            except ValueError as error:
                raise ArtifactError(f"{path}:{count}: not a skip record ({error}); restore the file") from None
        if count != self.manifest.skipped:
            raise ArtifactError(f"{path}: {count} lines; the manifest says {self.manifest.skipped}")

    def skipped(self) -> list[Skip]:
        """Return what could not be embedded and still is not: the last word on each item, in the order written."""
        last = {(skip.modality, skip.id, skip.source): skip for skip in self.skip_records()}
        asked = {m: {skip.id for skip in last.values() if skip.modality is m} for m in self.modalities} if last else {}
        held = {modality: self.sources(modality, ids) for modality, ids in asked.items()}
        return [
            s for s in last.values() if s.reason.startswith(CHANGED) or held.get(s.modality, {}).get(s.id) != s.source
        ]

    def sources(self, modality: Modality, ids: set[str]) -> dict[str, str]:
        """Return where the rows of ``ids`` came from; other lines are not parsed, for there may be millions."""
        wanted = {b'{"id": ' + json.dumps(each, ensure_ascii=False).encode("utf-8", "backslashreplace") for each in ids}
        found: dict[str, str] = {}
        for path in (self.path / shard.metadata for shard in self.shards(modality)):
            with reading(path, CURE):
                lines = (line for line in read_lines(path) if line[: line.find(b', "source": ')] in wanted)
                rows = [_row(json.loads(line), path) for line in lines]
                found |= {row.id: row.source for row in rows}
        return found

    def source_path(self, row: Row) -> Path | None:
        """Return the file a row was made from, or None: a text line, a tar member, or a file that is gone."""
        path = self.path / row.source
        return path if row.source and is_file(path) else None

    def source_bytes(self, row: Row, roots: MediaRoots | None = None, most: int | None = None) -> bytes | None:
        """Return the content a row was made from (also a tar member's), or None when it is gone.

        Args:
            row: Of this memory; where its file lies is not believed.
            roots: Where files may be opened besides the memory's own folder; None: the working directory.
            most: Bytes read at most.

        Raises:
            OutsideError: the file lies elsewhere, be it through a link.
            ItemError: it is no regular file, or larger than ``most``.
            OSError: it cannot be read.
        """
        found = read_source(self.path, row.source, roots or MediaRoots(), most)
        return row.text.encode() if found is None and row.text is not None else found

    def check_content(self, modality: Modality, most: int | None = None) -> bool:
        """Compare the files of a modality with the sha256 that the manifest names, once.

        Args:
            modality: Whose files.
            most: Bytes read at most for it.

        Returns:
            False when they are larger than ``most``, and nothing was compared.

        Raises:
            ArtifactError: a file is missing, or not the one that was written.
        """
        if modality in self._checked:
            return True
        shards = self.shards(modality)
        with reading(self.path, CURE):
            sizes = [check_regular(self.path / name).st_size for s in shards for name in (s.vectors, s.metadata)]
            if most is not None and sum(sizes) > most:
                return False
            wrong = [name for shard in shards for name in self._changed(shard)]
        if wrong:
            path = self.path / wrong[0]
            raise ArtifactError(f"{path}: its sha256 is not the manifest's; see cmcr info --verify {self.path}")
        self._checked.add(modality)
        return True

    def _changed(self, shard: Shard) -> list[str]:
        """Return the files of a shard whose sha256 is not the manifest's; no size is believed on the way."""
        digest, whole = hashlib.sha256(), self.path / shard.vectors
        for line in read_lines(self.path / shard.metadata):
            digest.update(line)
        most = shard.rows * self.encoder.dim * np.dtype(self.dtype).itemsize + _NPY_HEADER
        changed = [] if digest.hexdigest() == shard.metadata_sha256 else [shard.metadata]
        if check_regular(whole).st_size > most or sha256_file(whole) != shard.sha256:
            changed.insert(0, shard.vectors)
        return changed

    def verify(self) -> list[str]:
        """Read everything and return one line per problem; empty when the memory is sound."""
        problems: list[str] = []
        for modality in self.modalities:
            for shard in self.shards(modality):
                problems += self._shard_problems(shard)
            problems += self._id_problems(modality)
        problems += self._index_problems()
        try:
            list(self.skip_records())
        except ArtifactError as error:
            problems.append(str(error))
        return problems + [f"{name}: left over, not named by the manifest" for name in self.leftovers()]

    def leftovers(self) -> list[str]:
        """Return files of an interrupted run, relative to the memory; the next ``cmcr embed`` removes them."""
        named = {name for shards in self.manifest.shards.values() for s in shards for name in (s.vectors, s.metadata)}
        own = self._folders()
        folders = [*(f"{name}_emb" for name in own), "metadata"]
        found = [path for folder in folders for path in sorted((self.path / folder).glob("*"))]
        found = [path for path in found if is_partial(path.name) or _folder_of(path.name) in own]
        kept = [path for path in found + left_behind(self.path) if path.is_symlink() or not path.is_dir()]
        return [name for path in kept if (name := path.relative_to(self.path).as_posix()) not in named]

    def _folders(self) -> list[str]:
        """Return the short names of the modalities that a run may have begun to write.

        Of a modality that the manifest does not name, a folder with a shard's file in it is what tells of it.
        """
        known = [modality.folder for modality in in_order({*OWN, *self.manifest.shards})]
        begun = [path for path in sorted(self.path.glob("*_emb")) if path.is_dir() and not path.is_symlink()]
        return known + [
            name
            for path in begun
            if (name := path.name.removesuffix("_emb")) not in known
            and any(is_partial(each.name) or _folder_of(each.name) == name for each in path.iterdir())
        ]

    def _shard_vectors(self, shard: Shard) -> np.ndarray:
        path = self.path / shard.vectors
        with reading(path, CURE):
            stored = open_npy(path)
        expected = (shard.rows, self.encoder.dim)
        if stored.shape != expected or stored.dtype != self.dtype:
            raise ArtifactError(
                f"{path}: {stored.dtype} of shape {stored.shape}; the manifest says {self.dtype} of {expected}"
            )
        return stored

    def _unit(self, stored: np.ndarray, shard: Shard) -> np.ndarray:
        block = np.array(stored, dtype=np.float32)
        norms = np.sqrt(np.einsum("nd,nd->n", block, block))[:, None]  # six times faster than numpy's norm
        if not (np.isfinite(norms).all() and norms.all()):
            path = self.path / shard.vectors
            raise ArtifactError(f"{path}: holds non-finite or zero vectors; see cmcr info --verify {self.path}")
        block /= norms
        return block

    def _shard_metadata(self, shard: Shard) -> Iterator[Row]:
        path, count = self.path / shard.metadata, 0
        for count, value in _json_lines(path):  # noqa: B007 - the last count is compared after the loop
            yield _row(value, path)
        if count != shard.rows:
            raise ArtifactError(f"{path}: {count} lines; the manifest says {shard.rows} rows")

    def _shard_row(self, shard: Shard, number: int) -> Row:
        path = self.path / shard.metadata
        with reading(path, CURE):
            if shard.metadata not in self._line_ends:
                self._line_ends[shard.metadata] = np.fromiter(map(len, read_lines(path)), np.int64).cumsum()
            ends = self._line_ends[shard.metadata]
            if len(ends) != shard.rows:
                raise ArtifactError(f"{path}: {len(ends)} lines; the manifest says {shard.rows} rows")
            with open_file(path) as file:
                file.seek(int(ends[number - 1]) if number else 0)
                return _row(parse_json(file.readline()), path)

    def _shard_problems(self, shard: Shard) -> list[str]:
        problems = []
        with contextlib.suppress(OSError):  # said below, by whoever reads it
            problems = [f"{name}: its sha256 is not the manifest's" for name in self._changed(shard)]
        try:
            stored = self._shard_vectors(shard)
        except ArtifactError as error:
            return [*problems, str(error)]
        norms = np.concatenate(
            [np.linalg.norm(stored[i : i + 8192].astype(np.float32), axis=1) for i in range(0, shard.rows, 8192)]
        )
        finite = np.isfinite(norms)
        if not finite.all():
            problems.append(f"{shard.vectors}: {np.count_nonzero(~finite)} rows are not finite")
        off = np.count_nonzero(np.abs(norms[finite] - 1) > _NORM_TOLERANCE[self.dtype])
        if self.normalized and off:
            problems.append(f"{shard.vectors}: {off} rows are not of norm 1")
        return problems

    def _index_problems(self) -> list[str]:
        """Return what is wrong with the files of the indexes kept beside the vectors; their makers name the sha256."""
        problems = []
        for path in sorted((self.path / "index").glob("*.faiss")):
            name = path.relative_to(self.path).as_posix()
            try:
                with plainly():
                    expected = read_json(path.with_suffix(".json"))["sha256"]
            except (OSError, ValueError):
                problems.append(f"{name}: its .json is missing or damaged; run cmcr index again, or delete it")
                continue
            if sha256_file(path) != expected:
                problems.append(f"{name}: its sha256 is not the one in its .json; run cmcr index again, or delete it")
        left = left_behind(self.path / "index")
        return problems + [
            f"index/{path.name}: left by a cmcr index that did not end; the next removes it" for path in left
        ]

    def _id_problems(self, modality: Modality) -> list[str]:
        try:
            ids = self.ids(modality)
        except ArtifactError as error:
            return [str(error)]
        repeated = len(ids) - len(set(ids))
        return [f"{modality}: {repeated} ids are not unique"] if repeated else []


def _folder_of(name: str) -> str:
    """Return which modality's shard a file is named as, by its folder's short name; empty: none's."""
    found = _OWN_FILE.fullmatch(name)
    return found.group(1) if found else ""
