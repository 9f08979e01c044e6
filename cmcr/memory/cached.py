"""Arrays that are made of memories once, on disk: taken again while what they were made from is the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from cmcr.files import atomic, write_json
from cmcr.hooks import Progress, silent
from cmcr.reading import open_npy, plainly, read_json, reading


def reuse_or_write(
    path: Path,
    key: str,
    shape: tuple[int, int],
    blocks: Callable[[], Iterator[np.ndarray]],
    progress: Progress = silent,
    done: int = 0,
    total: int = 0,
) -> np.ndarray:
    """Return the (N, D) float16 array in ``path``, memory-mapped.

    It is written from ``blocks``, (n, D) each and N rows in all, unless ``key`` stands beside it.
    """
    if _stored_key(path) != key:
        _write(path, shape, blocks(), progress, done, total or shape[0])
        write_json(path.with_suffix(".json"), {"made_from": key})
    with reading(path, "delete it, and run the same command again"):
        return open_npy(path)


def _write(
    path: Path, shape: tuple[int, int], blocks: Iterator[np.ndarray], progress: Progress, done: int, total: int
) -> None:
    header = {"descr": "<f2", "fortran_order": False, "shape": shape}
    path.with_suffix(".json").unlink(missing_ok=True)
    with atomic(path) as file:
        np.lib.format.write_array_header_1_0(file, header)
        for block in blocks:
            file.write(np.ascontiguousarray(block, dtype="<f2").tobytes())
            done += len(block)
            progress(done, total, f"pairing: {path.stem}")


def _stored_key(path: Path) -> str | None:
    if not path.exists():
        return None
    try:
        with plainly():
            return str(read_json(path.with_suffix(".json"))["made_from"])
    except (OSError, ValueError):
        return None
