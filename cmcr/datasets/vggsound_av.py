"""VGGSound's audio-visual test pairs as the Hub's data set ``mteb/VGGSound_AV_RETRIEVAL`` has them: parquet files.

Row i's video and row i's sound belong together, and every other row is wrong, as in mteb's tasks VGGSoundAVA2VRetrieval
and VGGSoundAVV2ARetrieval: 696 pairs. The files are read where they lie; nothing is fetched.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cmcr.datasets.clip import Clip, Clips
from cmcr.datasets.clip_files import ClipEntry, FrameChoice, Media, filled
from cmcr.decode.videos import SUFFIXES
from cmcr.errors import InputError, MissingExtraError
from cmcr.files import open_file, write_atomic
from cmcr.hooks import Progress, silent
from cmcr.modality import Modality
from cmcr.reading import reading

PAIRS = 696
COLUMNS = ("video", "audio")
MOST_BYTES = 1 << 28
"""Of one video or sound."""
_SUFFIXES = {"video": (".mp4", frozenset(SUFFIXES)), "audio": (".wav", Modality.AUDIO.suffixes)}


def read_vggsound_av(
    data: Path, *, unpack: Path, split: str = "test", frames: FrameChoice | None = None, progress: Progress = silent
) -> Clips:
    """Read the pairs of ``test-*.parquet`` in a folder, or in its folder ``data``.

    Args:
        data: The data set's folder.
        unpack: Folder for videos, sounds and frames taken out of the tables; a second run finds them there.
        split: ``test`` or ``all``, which is the same.
        frames: Which frames of a video: the middle one unless said. mteb leaves that to the model.
        progress: Told after every clip.

    Raises:
        InputError: no such file, or one that cannot be read or lacks a column.
        MissingExtraError: pyarrow is not installed.
    """
    if split not in ("test", "all"):
        raise InputError(f"--split {split!r}; VGGSound's audio-visual pairs are one list: test")
    tables = find_tables(data)
    if not tables:
        raise InputError(f"{data}: no test-*.parquet in it, nor in its folder data; expected the data set's own files")
    choice, media = frames or FrameChoice(), unpack / "media"
    listed = [_entry(number, row, media) for number, row in enumerate(_rows(tables))]
    clips = filled(listed, Media([media]), choice, unpack, progress)
    official = PAIRS if len(listed) == PAIRS else len(listed)
    notes = () if len(listed) == PAIRS else (f"{len(listed)} rows, where the protocol has {PAIRS}: a part of it",)
    settings = {"layout": "vggsound-av", "split": "test", "frames": str(choice), "audio": "whole"}
    return Clips("vggsound-av", tuple(clips), official, settings, notes)


def find_tables(data: Path) -> list[Path]:
    """Return the parquet files of the test split in the order of their rows; none where there are none."""
    return next((found for root in (data, data / "data") if (found := sorted(root.glob("test-*.parquet")))), [])


def _rows(tables: list[Path]) -> Iterator[dict[str, Any]]:
    try:
        from pyarrow import parquet
    except ImportError:
        raise MissingExtraError("pyarrow", "parquet", f"reading {tables[0]}") from None
    for table in tables:
        with (
            reading(table, "fetch it anew", InputError, "cannot be read as parquet"),
            open_file(table) as file,
            parquet.ParquetFile(file) as opened,
        ):
            if lacking := [name for name in COLUMNS if name not in opened.schema_arrow.names]:
                raise InputError(f"{table}: no column {lacking[0]!r}; expected {' and '.join(COLUMNS)}")
            for batch in opened.iter_batches(batch_size=4, columns=list(COLUMNS)):
                yield from batch.to_pylist()


def _entry(number: int, row: dict[str, Any], media: Path) -> ClipEntry:
    """Return a row as a clip, its video and sound written where ``Media`` finds them."""
    name = f"{number:05d}"
    problem = next(filter(None, (_written(row[column], column, media, name) for column in COLUMNS)), None)
    return ClipEntry(Clip(name, problem=problem), name, name)


def _written(cell: Any, column: str, media: Path, name: str) -> str | None:
    """Write the content of a cell; return why it cannot be, if so."""
    data = cell.get("bytes") if isinstance(cell, dict) else None
    if not isinstance(data, bytes) or not data:
        return f"no {column} in its row"
    if len(data) > MOST_BYTES:
        return f"its {column} is larger than {MOST_BYTES >> 20} MB"
    usual, known = _SUFFIXES[column]
    told = Path(str(cell.get("path") or "")).suffix.lower()
    path = media / f"{name}{told if told in known else usual}"
    if not path.exists() or path.stat().st_size != len(data):
        write_atomic(path, data)
    return None
