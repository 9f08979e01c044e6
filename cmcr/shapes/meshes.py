"""Read meshes of text and STL: a stranger's bytes in, polygons or an ItemError out. PLY has a module of its own.

What a file declares is compared with what it holds. Nothing that it names is opened.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from cmcr.decode import note, reserve
from cmcr.errors import ItemError
from cmcr.shapes.plain_text import count_of, plain_lines, positions
from cmcr.shapes.ply import read_ply
from cmcr.shapes.polygons import Polygons, sample

MESHES = frozenset({".ply", ".off", ".obj", ".stl"})

_OFF = re.compile(r"(ST)?(C)?(N)?(4)?(n)?OFF\b|(ST)?(C)?(N)?(4)?(n)?OFF(?=\d)", re.IGNORECASE)
_STL_NAMES = re.compile(r"(?:^ *|(?<=endfacet) +)(end)?solid\b.*?(?= facet +normal +[-+.\d]|$)", re.MULTILINE)
_STL_WORDS = re.compile(r"(?<! ) ++(?=(?:facet|outer|vertex|endloop|endfacet)\b)")
_STL_HEAD, _STL_TRIANGLE = 84, np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("more", "<u2")])


def read_mesh(data: bytes, suffix: str) -> np.ndarray:
    """Sample a mesh's surface, or take the vertices of one without faces.

    Args:
        data: The file's bytes.
        suffix: One of ``MESHES``.

    Returns:
        (N, 3) float64.

    Raises:
        ItemError: damaged, cut, without area, or trimesh is missing.
    """
    # A line's text and the lists of its words, while they are all there.
    reserve(5 * len(data) + 150 * (data.count(b"\n") + data.count(b"\r")))
    if suffix == ".ply":
        return sample(read_ply(data), suffix)
    if suffix == ".stl":
        return sample(_read_stl(data), suffix)
    text = plain_lines(data)
    return sample(_read_off(text) if suffix == ".off" else _read_obj(text), suffix)


def _read_obj(text: str) -> Polygons:
    vertices: list[str] = []
    faces: list[str] = []
    before: list[int] = []
    parts: list[int] = []
    materials: dict[str | None, int] = {}
    material: str | None = None
    for line in io.StringIO(text.replace("\\\n", " ")):
        word, _, rest = line.strip().partition(" ")
        if word in ("v", "V"):
            vertices.append(rest)
        elif word in ("f", "F"):
            faces.append(rest.partition("#")[0])
            before.append(len(vertices))
            parts.append(materials.setdefault(material, len(materials)))
        elif word == "usemtl":
            material = rest.strip()
        elif word in ("surf", "curv", "curv2"):
            raise ItemError("a mesh with free-form curves or surfaces; export it as polygons")
    sizes = [len(face.split()) for face in faces]
    named = np.array([int(corner.partition("/")[0]) for face in faces for corner in face.split()], np.int64)
    if (named == 0).any():
        raise ItemError("damaged point cloud: a face refers to vertex 0; they are counted from 1")
    # A negative number counts back from the vertices that stand above the face.
    corners = np.where(named > 0, named - 1, np.repeat(np.array(before, np.int64), sizes) + named)
    xyz = positions([vertex.partition("#")[0] for vertex in vertices])
    return replace(Polygons.of(xyz, corners, sizes), parts=np.array(parts, np.int64))


def _read_off(text: str) -> Polygons:
    lines = [line for line in (line.partition("#")[0].strip() for line in io.StringIO(text)) if line] or [""]
    magic = _OFF.match(lines[0])
    if magic is None:
        raise ItemError(f"damaged point cloud: begins with {lines[0][:20]!a}; expected OFF")
    prefix, rest = lines[0][: magic.end()], lines[0][magic.end() :].strip()
    if rest.upper().startswith("BINARY"):
        raise ItemError("a binary OFF file; convert to .ply")
    if "n" in prefix.removesuffix("off"):
        raise ItemError("an OFF file of another number of dimensions; expected three")
    counts, body = (rest.split(), lines[1:]) if rest else (" ".join(lines[1:2]).split(), lines[2:])
    if len(counts) < 2:
        raise ItemError("damaged point cloud: an OFF file without the numbers of its vertices and faces")
    count, face_count = map(count_of, counts[:2])
    if len(body) > count + face_count > count:
        body = body[:count] + _unwrapped(body[count:])
    refuse_cut(len(body), count + face_count)
    if len(body) > count + face_count:
        note(f"{len(body) - count - face_count} lines after the faces that it declares were left out")
    xyz = positions(body[:count], (0, 1, 2, 3) if "4" in prefix else (0, 1, 2))
    if "4" in prefix:  # homogeneous: the fourth coordinate divides the others
        xyz = xyz[:, :3] / xyz[:, 3:]
    return Polygons.of(xyz, *corners_of(body[count : count + face_count]))


def _unwrapped(lines: list[str]) -> list[str]:
    """Return faces on a line each, where a writer wrapped some; ``lines`` themselves where that does not come out."""
    faces: list[list[str]] = []
    missing = 0
    for line in lines:
        words = line.split()
        if missing:
            faces[-1].append(line)
            missing -= len(words)
        elif not words[0].isdecimal():
            return lines
        else:
            faces.append([line])
            missing = max(0, int(words[0]) + 1 - len(words))
        if missing < 0:
            return lines
    return [" ".join(face) for face in faces]


def corners_of(lines: Sequence[str]) -> tuple[list[int], list[int]]:
    """Return the corners and sizes of faces that are lines of a size and as many corners; what follows is a colour.

    Raises:
        ItemError: a line is cut.
    """
    corners: list[int] = []
    sizes: list[int] = []
    for line in lines:
        words = line.split()
        size = int(words[0])
        if not 0 <= size < len(words):
            raise ItemError(f"damaged point cloud: a face of {size} corners has {len(words) - 1}")
        corners += map(int, words[1 : size + 1])
        sizes.append(size)
    return corners, sizes


def refuse_cut(found: int, declared: int) -> None:
    """Refuse a file of fewer lines than it declares things.

    Raises:
        ItemError: there are fewer.
    """
    if found < declared:
        raise ItemError(f"truncated mesh: {found} of {declared} lines")


def _read_stl(data: bytes) -> Polygons:
    size = _STL_HEAD + _STL_TRIANGLE.itemsize * int.from_bytes(data[80:84], "little")
    # Triangles of a binary file hold bytes of zero, text does not; its header may well begin with "solid".
    if len(data) != size and (data[:2] in (b"\xff\xfe", b"\xfe\xff") or (b"\0" not in data.rstrip(b"\0"))):
        text = plain_lines(data).lower()
        if "facet" in text or "endsolid" in text:
            return _soup(_text_triangles(text))
    if len(data) < size:
        raise ItemError(f"truncated mesh: {len(data)} of {size} bytes")
    if len(data) > size == _STL_HEAD:
        raise ItemError(f"a mesh that declares no triangle, with {len(data) - size} bytes behind")
    if len(data) > size:
        note(f"{len(data) - size} bytes after the triangles that it declares were left out")
    return _soup(np.frombuffer(data[_STL_HEAD:size], _STL_TRIANGLE)["corners"].astype(np.float64))


def _text_triangles(text: str) -> np.ndarray:
    # A solid's name may hold any of the words: names go first.
    ends = [bool(name[1]) for name in _STL_NAMES.finditer(text)]
    lines = [line.strip() for line in io.StringIO(_STL_WORDS.sub("\n", _STL_NAMES.sub("\n", text)))]
    facets, whole = (sum(line.startswith(word) for line in lines) for word in ("facet", "endfacet"))
    vertices = [line for line in lines if line.startswith("vertex")]
    if facets > whole or not ends or not ends[-1]:
        raise ItemError(f"truncated mesh: {whole} of {facets} facets are whole, and its end is missing")
    if len(vertices) != 3 * facets:
        raise ItemError(f"damaged point cloud: {len(vertices)} vertices of {facets} facets; expected three each")
    return positions(vertices, (1, 2, 3)).reshape(-1, 3, 3)


def _soup(corners: np.ndarray) -> Polygons:
    """Return triangles that share no vertices: (T, 3, 3)."""
    return Polygons.of(corners.reshape(-1, 3), np.arange(3 * len(corners)), np.full(len(corners), 3))
