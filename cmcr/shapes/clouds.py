"""Decode point clouds and meshes: untrusted bytes in, points or an ItemError out."""

from __future__ import annotations

import io
import warnings
import zipfile
from typing import IO

import numpy as np

from cmcr.decode import note, one_line, refuse_empty, reserve
from cmcr.decode import pickles as unpickle
from cmcr.errors import ItemError
from cmcr.reading import PARSING
from cmcr.shapes.columns import TEXT_CLOUDS, read_columns
from cmcr.shapes.meshes import MESHES, read_mesh
from cmcr.shapes.polygons import SURFACE_POINTS

__all__ = ["MAX_POINTS", "MESHES", "SURFACE_POINTS", "TEXT_CLOUDS", "read_point_cloud"]

MAX_POINTS = 50_000_000

# Files of Python 2 are read like others; a warning in the middle of a batch helps nobody.
warnings.filterwarnings("ignore", "Reading `.npy` or `.npz` file required additional", UserWarning)

_POSITIONS = ("points", "xyz", "pc", "arr_0")
_MAX_PICKLE = 1 << 28  # bytes; a cloud of OpenShape with all its features has half a million
_MAX_INSTRUCTIONS = 500_000
_BYTES_AN_INSTRUCTION = 250  # the largest thing that one byte of a pickle makes is an empty set
_ROUNDING = 2.0**-20
"""Of a cloud's extent: where float32 would move a point by more, the cloud is put at the origin first."""


def read_point_cloud(data: bytes, suffix: str, *, centre: bool = True) -> np.ndarray:
    """Decode a point cloud, or sample ``SURFACE_POINTS`` points evenly from a mesh's surface (seed 0).

    A ``.npy`` may hold a pickled dict with the positions under ``xyz``, ``points`` or ``pc``, as OpenShape's clouds and
    those of the official C-MCR example do; it is read by ``unpickle.load``, which runs no code.

    Args:
        data: The file's bytes.
        suffix: Its lower-case suffix: ``.npy .npz``, columns of text ``.xyz .pts .txt .csv .asc``, and ``.ply .off .obj
            .stl``, which need trimesh where they have faces.
        centre: Put a cloud whose shape float32 would spoil where it stands, far from the origin, at the origin, and
            note that. Clouds that float32 holds are left where they are.

    Returns:
        (N, 3) positions or (N, 6) positions with normals or colours, float32, finite, N >= 1.

    Raises:
        ItemError: empty, not a point cloud, damaged, above ``MAX_POINTS``, non-finite, or of another shape.
    """
    with np.errstate(all="ignore"):  # what overflows or is no number is found out here, and said once
        return _as_float32(_decoded(data, suffix), centre)


def _decoded(data: bytes, suffix: str) -> np.ndarray:
    refuse_empty(data)
    try:
        if suffix in MESHES:
            points = read_mesh(data, suffix)
        elif suffix in TEXT_CLOUDS:
            points = read_columns(data, suffix, MAX_POINTS)
        elif suffix == ".npz":
            points = _read_npz(data)
        elif suffix == ".npy":
            points = _read_npy(io.BytesIO(data), len(data))
        else:
            raise ItemError(f"point clouds with suffix {suffix!r} are not read; convert to .npy of shape (N, 3)")
    except ItemError:
        raise
    except Exception as error:  # numpy, zipfile and trimesh raise whatever they like on damaged bytes
        raise ItemError(f"damaged point cloud: {one_line(error)}") from error
    _refuse_shape(points.shape)
    return points


def _as_float32(points: np.ndarray, centre: bool) -> np.ndarray:
    exact = np.can_cast(points.dtype, np.float32)
    reserve(points.shape[0] * (4 * points.shape[1] + (0 if exact else 50)))
    cut = np.ascontiguousarray(points, dtype=np.float32)
    if not np.isfinite(cut).all():
        raise ItemError("non-finite points")
    if centre and not exact:
        _centre(points[:, :3].astype(np.float64, copy=False), cut)
    return cut


def _centre(xyz: np.ndarray, cut: np.ndarray) -> None:
    """Put float32 positions at the origin where they lie so far from it that rounding spoils their shape."""
    low, high = xyz.min(axis=0), xyz.max(axis=0)
    moved = max(np.abs(xyz[:, axis] - cut[:, axis]).max() for axis in range(3))
    if 0 < _ROUNDING * (high - low).max() < moved:
        note("far from the origin for its size: put at the origin before it was cut to float32")
        for axis, middle in enumerate((low + high) / 2):
            cut[:, axis] = xyz[:, axis] - middle


def _read_npy(file: IO[bytes], size: int) -> np.ndarray:
    # The header is checked first: numpy allocates what it declares before it reads.
    start = file.tell()
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ItemError(f"unknown .npy version {version}")
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    with PARSING:
        shape, _, dtype = reader(file)
    if dtype.hasobject:
        return _unpickle_points(file, size)
    if dtype.kind not in "fiu":
        raise ItemError(f"array of {dtype.kind!r} (dtype {dtype}); expected numbers")
    _refuse_shape(shape)
    declared = shape[0] * shape[1] * dtype.itemsize
    if declared > size - (file.tell() - start):
        raise ItemError(f"truncated array: its header declares the shape {shape}")
    reserve(declared)
    file.seek(start)
    with PARSING:
        array: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
    return array


def _unpickle_points(file: IO[bytes], size: int) -> np.ndarray:
    if size > _MAX_PICKLE:
        raise ItemError(f"pickle of {size} bytes; at most {_MAX_PICKLE} are read")
    reserve(2 * size + _BYTES_AN_INSTRUCTION * min(size, _MAX_INSTRUCTIONS))
    # Without a size, an archive's member would be unpacked whole, however small its entry says that it is.
    found = unpickle.load(file.read(size), instructions=_MAX_INSTRUCTIONS)
    if isinstance(found, np.ndarray) and found.shape == ():  # numpy wraps what is no array into one without axes
        found = found[()]
    if isinstance(found, dict):
        name = next((name for name in _POSITIONS if name in found), None)
        if name is None:
            keys = ", ".join(ascii(key if type(key) is not str else key[:20]) for key in list(found)[:8]) or "nothing"
            raise ItemError(f"pickled dict of {keys}; expected one of {', '.join(_POSITIONS)}")
        found = found[name]
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "fiu":
        raise ItemError(f"pickled {type(found).__name__}; expected an array of numbers, or a dict with one")
    return found


def _read_npz(data: bytes) -> np.ndarray:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        named = [name for name in _POSITIONS if name in members]
        if not named and len(members) != 1:
            shown = ", ".join(ascii(name[:40])[1:-1] for name in sorted(members)[:5]) or "none"
            raise ItemError(f"arrays {shown}; expected one called {' or '.join(_POSITIONS)}")
        info = members[named[0] if named else next(iter(members))]
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ItemError(f"an archive compressed by method {info.compress_type}; expected what numpy writes")
        with archive.open(info) as file:
            return _read_npy(file, info.file_size)


def _refuse_shape(shape: tuple[int, ...]) -> None:
    if len(shape) != 2 or shape[1] not in (3, 6):
        raise ItemError(f"array of shape {shape}; expected (N, 3) or (N, 6)")
    if not 1 <= shape[0] <= MAX_POINTS:
        raise ItemError(f"{shape[0]} points; expected 1 to {MAX_POINTS}")
