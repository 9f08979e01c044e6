"""What ``manifest.json`` and the lines beside it say: the nouns of a memory, checked when they are read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cmcr.errors import ArtifactError
from cmcr.memory.translated import Translated
from cmcr.modality import Modality, in_order
from cmcr.reading import read_json, reading
from cmcr.schema import checked

FORMAT = "cmcr-memory"
VERSION = 2
"""The newest version. A memory that holds nothing new to it says 1, so that releases of before open it."""
DTYPES = ("float16", "float32", "int8")
MANIFEST = "manifest.json"
SKIPPED = "skipped.jsonl"
REMOVED = "removed"
"""The folder of the numbers of removed rows."""
CURE = "restore it, or embed into a new folder"


@dataclass(frozen=True, slots=True)
class EncoderInfo:
    """Which encoder made a memory: its name, fingerprint (hex) and number of components.

    >>> from cmcr.memory import EncoderInfo
    >>> print(EncoderInfo("tiny-clip", "9f2c0b7a", 64))
    'tiny-clip' (fingerprint 9f2c0b7a, 64 components)
    """

    name: str
    fingerprint: str
    dim: int

    def __str__(self) -> str:
        return f"{self.name!r} (fingerprint {self.fingerprint[:12]}, {self.dim} components)"


@dataclass(frozen=True, slots=True)
class Row:
    """What is known about one vector.

    >>> from cmcr.memory import Row
    >>> Row("dog", "../sounds/dog.wav", None, None, note="clipped").id
    'dog'

    Attributes:
        id: Joins rows of two memories; unique within a modality.
        source: Its file, relative to the memory's folder where possible; ``x.tar!member``; ``texts.txt:12``.
        hash: sha256 of the content, hex; None for imported vectors of unknown content.
        text: The text itself, for the text modality; captions that came with imported vectors.
        note: What its decoder told of it that the vector does not show: that it was clipped, say.
    """

    id: str
    source: str
    hash: str | None
    text: str | None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Skip:
    """One item that could not be embedded, and why; ``hash`` is None when its content could not be read.

    >>> from cmcr import Modality
    >>> from cmcr.memory import Skip
    >>> Skip("dog", Modality.AUDIO, "dog.wav", None, "not a regular file").reason
    'not a regular file'
    """

    id: str
    modality: Modality
    source: str
    hash: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Shard:
    """One shard as the manifest names it: two files, their number of rows and their sha256."""

    vectors: str
    metadata: str
    rows: int
    sha256: str
    metadata_sha256: str

    @staticmethod
    def names(modality: Modality, number: int) -> tuple[str, str]:
        """Return the vector and metadata file of a shard, relative to the memory."""
        folder = modality.folder
        return f"{folder}_emb/{folder}_emb_{number:04d}.npy", f"metadata/{folder}_{number:04d}.jsonl"

    @property
    def number(self) -> int:
        """The number in its names; -1: it has none."""
        return _number(self.vectors)


@dataclass(frozen=True, slots=True)
class Removed:
    """Rows that were taken out of a modality: the file of their stored numbers, how many they are, its sha256."""

    numbers: str
    rows: int
    sha256: str

    @staticmethod
    def name(modality: Modality, number: int) -> str:
        """Return the file of a removal, relative to the memory; each removal writes the next."""
        return f"{REMOVED}/{modality.folder}_{number:04d}.npy"

    @property
    def number(self) -> int:
        """The number in its name; -1: it has none."""
        return _number(self.numbers)


@dataclass(frozen=True, slots=True)
class ViewSpec:
    """How views are made: how many a row, and the seed beside the content's hash that they are drawn by.

    >>> from cmcr.memory import ViewSpec
    >>> ViewSpec(4)
    ViewSpec(count=4, seed=0)
    """

    count: int
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Views:
    """The views of a modality as the manifest names them: how they were made, and the sha256 of each shard's file.

    >>> from cmcr import Modality
    >>> from cmcr.memory import Views
    >>> Views.name(Modality.IMAGE, 0), Views(4, 0, ("9f2c",)).spec
    ('img_views/img_views_0000.npy', ViewSpec(count=4, seed=0))
    """

    count: int
    seed: int
    sha256: tuple[str, ...]

    @property
    def spec(self) -> ViewSpec:
        """How they were made."""
        return ViewSpec(self.count, self.seed)

    @staticmethod
    def name(modality: Modality, number: int) -> str:
        """Return the file of a shard's views, relative to the memory."""
        return f"{modality.folder}_views/{modality.folder}_views_{number:04d}.npy"


@dataclass(frozen=True, slots=True)
class Manifest:
    """The content of ``manifest.json``.

    ``skipped`` counts the lines of ``skipped.jsonl`` that belong to the memory; ``written`` how many shards of a
    modality were ever written, where ``cmcr compact`` has dropped or rewritten some.

    ``translated`` says of which modalities the vectors were another encoder's.

    >>> from cmcr.memory import EncoderInfo, Manifest
    >>> Manifest(EncoderInfo("tiny-clip", "9f2c", 64), "float16", True, {}, skipped=0).to_json()["encoder"]
    {'name': 'tiny-clip', 'fingerprint': '9f2c', 'dim': 64}
    """

    encoder: EncoderInfo
    dtype: str
    normalized: bool
    shards: dict[Modality, tuple[Shard, ...]]
    skipped: int
    translated: dict[Modality, Translated] = field(default_factory=dict)
    removed: dict[Modality, Removed] = field(default_factory=dict)
    written: dict[Modality, int] = field(default_factory=dict)
    views: dict[Modality, Views] = field(default_factory=dict)

    def stored(self, modality: Modality) -> int:
        """Return how many rows the shards of a modality hold, removed ones too."""
        return sum(shard.rows for shard in self.shards.get(modality, ()))

    def next_number(self, modality: Modality) -> int:
        """Return the number of the next shard; no name is ever used again for other content."""
        return self.written.get(modality, len(self.shards.get(modality, ())))

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        translated = {str(m): asdict(each) for m, each in self.translated.items()}
        removed = {str(m): asdict(each) for m, each in self.removed.items()}
        written = {str(m): count for m, count in self.written.items()}
        views = {str(m): asdict(each) for m, each in self.views.items()}
        # A release that knows nothing of one of these would add rows without it, or show what is gone.
        said = (("translated", translated), ("removed", removed), ("written", written), ("views", views))
        new = {name: value for name, value in said if value}
        return {
            "format": FORMAT,
            "version": VERSION if new or self.dtype == "int8" else 1,
            "encoder": asdict(self.encoder),
            "dtype": self.dtype,
            "normalized": self.normalized,
            "modalities": {str(m): [asdict(shard) for shard in shards] for m, shards in self.shards.items()},
            "skipped": self.skipped,
            **new,
        }

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read and check ``folder/manifest.json``.

        Raises:
            ArtifactError: the folder or file is missing, another format or version, or damaged.
        """
        path = folder / MANIFEST
        with reading(path, CURE, what="not JSON"):
            if not path.exists():
                what = "holds no manifest.json" if folder.is_dir() else "does not exist"
                raise ArtifactError(f"{folder}: {what}; expected a memory made by cmcr embed")
            value = read_json(path)
        if not isinstance(value, dict) or value.get("format") != FORMAT:
            raise ArtifactError(f"{path}: not the manifest of a memory; expected a folder made by cmcr embed")
        if value.get("version") not in (1, VERSION):
            raise ArtifactError(f"{path}: memory version {value.get('version')!r}; this cmcr reads versions 1 and 2")
        with reading(path, CURE):
            return cls._checked(value)

    @classmethod
    def _checked(cls, value: dict[str, Any]) -> Manifest:
        encoder: EncoderInfo = checked(EncoderInfo, value["encoder"], "encoder")
        skipped: int = checked(int, value["skipped"], "skipped")
        _expect(encoder.dim > 0, f"dim {encoder.dim}")
        _expect(value["dtype"] in DTYPES, f"dtype {value['dtype']!r}, expected {' or '.join(DTYPES)}")
        _expect(skipped >= 0, f"skipped {skipped}")
        found: dict[Modality, tuple[Shard, ...]] = checked(
            dict[Modality, tuple[Shard, ...]], value["modalities"], "modalities"
        )
        removed: dict[Modality, Removed] = checked(dict[Modality, Removed], value.get("removed", {}), "removed")
        written: dict[Modality, int] = checked(dict[Modality, int], value.get("written", {}), "written")
        for modality, shards in found.items():
            _check_shards(modality, shards, written.get(modality))
        translated: dict[Modality, Translated] = checked(
            dict[Modality, Translated], value.get("translated", {}), "translated"
        )
        ordered = {modality: found[modality] for modality in in_order(found) if found[modality]}
        normalized: bool = checked(bool, value["normalized"], "normalized")
        views = _checked_views(value.get("views", {}), ordered)
        manifest = cls(encoder, value["dtype"], normalized, ordered, skipped, translated, removed, written, views)
        for modality, each in removed.items():
            _expect(each.numbers == Removed.name(modality, each.number), f"file {each.numbers!r}")
            _expect(0 < each.rows <= manifest.stored(modality), f"{each.rows} removed rows in {each.numbers}")
        return manifest


# Only the names we give ourselves are believed: a manifest must not lead a reader out of its folder.
def _check_shards(modality: Modality, shards: tuple[Shard, ...], written: int | None) -> None:
    numbers = [shard.number for shard in shards]
    if written is None:
        numbers = list(range(len(shards)))
    for number, shard in zip(numbers, shards, strict=True):
        _expect((shard.vectors, shard.metadata) == Shard.names(modality, number), f"file {shard.vectors!r}")
        _expect(shard.rows > 0, f"{shard.rows} rows in {shard.vectors}")
    if written is not None:
        _expect(len(set(numbers)) == len(numbers) and max(numbers, default=-1) < written, f"shards {numbers}")


def _number(name: str) -> int:
    found = re.search(r"_(\d{4,9})\.npy$", name)
    return int(found[1]) if found else -1


def _checked_views(value: Any, shards: Mapping[Modality, tuple[Shard, ...]]) -> dict[Modality, Views]:
    found: dict[Modality, Views] = checked(dict[Modality, Views], value, "views")
    for modality, views in found.items():
        _expect(views.count > 0, f"{views.count} views of {modality}")
        rows, held = len(shards.get(modality, ())), len(views.sha256)
        _expect(rows == held, f"views of {held} of {rows} shards of {modality}; every row has as many")
    return {modality: found[modality] for modality in in_order(found)}


def _expect(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(what)
