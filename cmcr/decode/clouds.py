"""Decode point clouds and meshes: untrusted bytes in, points or an ItemError out."""

from __future__ import annotations

import io
import re
import zipfile
from typing import IO, Any

import numpy as np

from cmcr import unpickle
from cmcr.decode.common import one_line, refuse_empty
from cmcr.errors import ItemError, MissingExtraError

MAX_POINTS = 50_000_000
SURFACE_POINTS = 10_000
"""Points sampled from a mesh, whose bare vertices say little about its shape."""
TEXT_CLOUDS = frozenset({".xyz", ".pts", ".txt", ".csv", ".asc"})
MESHES = frozenset({".ply", ".off", ".obj", ".stl"})

_POSITIONS = ("points", "xyz", "pc", "arr_0")
_MAX_PICKLE = 1 << 28  # bytes; a cloud of OpenShape with all its features has half a million


def read_point_cloud(data: bytes, suffix: str) -> np.ndarray:
    """Decode a point cloud, or sample ``SURFACE_POINTS`` points evenly from a mesh's surface (seed 0).

    A ``.npy`` may hold a pickled dict with the positions under ``xyz``, ``points`` or ``pc``, as OpenShape's clouds and
    those of the official C-MCR example do; it is read by ``unpickle.load``, which runs no code.

    Args:
        data: The file's bytes.
        suffix: Its lower-case suffix: ``.npy .npz``, columns of text ``.xyz .pts .txt`` (separated by blanks, commas or
            semicolons; in ``.pts`` the fourth of four or seven is an intensity), and with trimesh ``.ply`` etc.

    Returns:
        (N, 3) positions or (N, 6) positions with normals or colours, float32, finite, N >= 1.

    Raises:
        ItemError: empty, not a point cloud, damaged, above ``MAX_POINTS``, non-finite, or of another shape.
    """
    refuse_empty(data)
    try:
        if suffix in MESHES:
            points = _read_mesh(data, suffix)
        elif suffix in TEXT_CLOUDS:
            points = _read_columns(data, suffix)
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
    with np.errstate(over="ignore"):
        points = np.ascontiguousarray(points, dtype=np.float32)
    if not np.isfinite(points).all():
        raise ItemError("non-finite points")
    return points


def _read_npy(file: IO[bytes], size: int) -> np.ndarray:
    # The header is checked first: numpy allocates what it declares before it reads.
    start = file.tell()
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ItemError(f"unknown .npy version {version}")
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = reader(file)
    if dtype.hasobject:
        return _unpickle_points(file, size)
    if dtype.kind not in "fiu":
        raise ItemError(f"array of {dtype.kind!r} (dtype {dtype}); expected numbers")
    _refuse_shape(shape)
    if shape[0] * shape[1] * dtype.itemsize > size - (file.tell() - start):
        raise ItemError(f"truncated array: its header declares the shape {shape}")
    file.seek(start)
    array: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
    return array


def _unpickle_points(file: IO[bytes], size: int) -> np.ndarray:
    if size > _MAX_PICKLE:
        raise ItemError(f"pickle of {size} bytes; at most {_MAX_PICKLE} are read")
    found = unpickle.load(file.read())
    if isinstance(found, np.ndarray) and found.shape == ():  # numpy wraps what is no array into one without axes
        found = found[()]
    if isinstance(found, dict):
        name = next((name for name in _POSITIONS if name in found), None)
        if name is None:
            keys = ", ".join(ascii(key)[:20] for key in list(found)[:8]) or "nothing"
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
            raise ItemError(f"arrays {', '.join(sorted(members)[:5])}; expected one called {' or '.join(_POSITIONS)}")
        info = members[named[0] if named else next(iter(members))]
        with archive.open(info) as file:
            return _read_npy(file, info.file_size)


def _read_columns(data: bytes, suffix: str) -> np.ndarray:
    if data.count(b"\n") > MAX_POINTS:
        raise ItemError(f"more than {MAX_POINTS} lines")
    lines = [line.strip() for line in data.decode("utf-8-sig").replace(",", " ").replace(";", " ").splitlines()]
    lines = [line for line in lines if line and not line.startswith(("#", "//"))]
    if lines and lines[0].isdigit():  # .pts may begin with the number of points
        del lines[0]
    columns = np.loadtxt(lines, ndmin=2) if lines else np.zeros((0, 3))
    with_intensity = suffix == ".pts" and columns.shape[1] in (4, 7)
    return columns[:, :3] if with_intensity else columns


def _read_mesh(data: bytes, suffix: str) -> np.ndarray:
    try:
        import trimesh  # type: ignore[import-untyped, import-not-found, unused-ignore]
    except ImportError:
        raise ItemError(str(MissingExtraError("trimesh", "ulip", f"reading {suffix}"))) from None
    _refuse_cut_mesh(data, suffix)
    loaded: Any = trimesh.load(io.BytesIO(_as_utf8(data, suffix)), file_type=suffix[1:], process=False)
    if hasattr(loaded, "to_geometry"):
        loaded = loaded.to_geometry()
    if not len(getattr(loaded, "faces", ())):
        return np.asarray(loaded.vertices)
    if not loaded.area > 0:
        raise ItemError("a mesh without area")
    points, _ = trimesh.sample.sample_surface(loaded, SURFACE_POINTS, seed=0)
    return np.asarray(points)


def _as_utf8(data: bytes, suffix: str) -> bytes:
    # Names and comments come in any encoding; trimesh would guess it with another library, or fail.
    if suffix == ".stl" and len(data) == _stl_size(data):
        return data
    if suffix == ".ply":
        header, end, body = data.partition(b"end_header")
        return header.decode("latin-1").encode() + end + body
    return data.decode("latin-1").encode()


def _stl_size(data: bytes) -> int:
    """Return how long a binary STL says it is: a header, and fifty bytes for each triangle."""
    return 84 + 50 * int.from_bytes(data[80:84], "little")


def _refuse_cut_mesh(data: bytes, suffix: str) -> None:
    if suffix == ".stl" and b"facet" not in data and len(data) != _stl_size(data):
        raise ItemError(f"truncated mesh: {len(data)} of {_stl_size(data)} bytes")
    # trimesh reads a cut text mesh as a smaller one, without a word. It has a line for each thing it declares.
    if suffix != ".off" and not (suffix == ".ply" and b"format ascii" in data[:1000]):
        return
    lines = [line for line in (line.partition(b"#")[0].strip() for line in data.splitlines()) if line]
    if suffix == ".off":  # the counts may stand behind the magic word, even without a blank between
        header = lines[: 1 if re.match(rb"\w*OFF\s*\d", lines[0]) else 2]
        counts = b" ".join(header).partition(b"OFF")[2].split()[:2]
    else:
        header = lines[: lines.index(b"end_header") + 1]
        counts = [line.split()[2] for line in header if line.startswith(b"element ")]
    found, declared = len(lines) - len(header), sum(map(int, counts))
    if found < declared:
        raise ItemError(f"truncated mesh: {found} of {declared} lines")


def _refuse_shape(shape: tuple[int, ...]) -> None:
    if len(shape) != 2 or shape[1] not in (3, 6):
        raise ItemError(f"array of shape {shape}; expected (N, 3) or (N, 6)")
    if not 1 <= shape[0] <= MAX_POINTS:
        raise ItemError(f"{shape[0]} points; expected 1 to {MAX_POINTS}")
