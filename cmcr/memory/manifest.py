"""What ``manifest.json`` and the lines beside it say: the nouns of a memory, checked when they are read."""

from __future__ import annotations

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
DTYPES = ("float16", "float32")
MANIFEST = "manifest.json"
SKIPPED = "skipped.jsonl"
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


@dataclass(frozen=True, slots=True)
class Manifest:
    """The content of ``manifest.json``; ``skipped`` counts the lines of ``skipped.jsonl`` that belong to the memory.

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

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        translated = {str(m): asdict(each) for m, each in self.translated.items()}
        new = {name: value for name, value in (("translated", translated),) if value}
        return {
            "format": FORMAT,
            "version": VERSION if new else 1,
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
        _expect(value["dtype"] in DTYPES, f"dtype {value['dtype']!r}, expected float16 or float32")
        _expect(skipped >= 0, f"skipped {skipped}")
        found: dict[Modality, tuple[Shard, ...]] = checked(
            dict[Modality, tuple[Shard, ...]], value["modalities"], "modalities"
        )
        for modality, shards in found.items():
            for number, shard in enumerate(shards):
                # Only the names we give ourselves: a manifest must not lead a reader out of its folder.
                _expect((shard.vectors, shard.metadata) == Shard.names(modality, number), f"file {shard.vectors!r}")
                _expect(shard.rows > 0, f"{shard.rows} rows in {shard.vectors}")
        translated: dict[Modality, Translated] = checked(
            dict[Modality, Translated], value.get("translated", {}), "translated"
        )
        ordered = {modality: found[modality] for modality in in_order(found) if found[modality]}
        normalized: bool = checked(bool, value["normalized"], "normalized")
        return cls(encoder, value["dtype"], normalized, ordered, skipped, translated=translated)


def _expect(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(what)
