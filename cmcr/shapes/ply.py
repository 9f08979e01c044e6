"""Read PLY: a stranger's bytes in, polygons or an ItemError out.

trimesh, plyfile and meshio each lose something that others write: lists of several lengths in binary files, triangle
strips, or the end of a cut file. The format is small: elements of rows of properties, of which some are lists.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from cmcr.decode import note, reserve
from cmcr.errors import ItemError
from cmcr.shapes.plain_text import count_of, plain_lines, positions
from cmcr.shapes.polygons import Polygons

_TYPES = {"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4"}
_TYPES |= {"double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4"}
_TYPES |= {"int64": "i8", "uint64": "u8", "float16": "f2", "float32": "f4", "float64": "f8"}
_LENGTHS = {"i1": "b", "u1": "B", "i2": "h", "u2": "H", "i4": "i", "u4": "I", "i8": "q", "u8": "Q"}
_FORMATS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
_END = re.compile(rb"[\r\n][ \t]*end_header[ \t]*(\r\n|\r|\n)")
_CORNERS = ("vertex_indices", "vertex_index")
_BYTES_A_ROW = 200  # of Python's objects, where rows are walked one by one


@dataclass(frozen=True, slots=True)
class _Property:
    """A column: its numpy type, and that of the length before each list."""

    name: str
    dtype: np.dtype
    length: np.dtype | None = None


@dataclass(slots=True)
class _Element:
    name: str
    count: int
    properties: list[_Property] = field(default_factory=list)

    @property
    def has_lists(self) -> bool:
        return any(each.length is not None for each in self.properties)


@dataclass(frozen=True, slots=True)
class _Values:
    """What an element's rows hold of one property: all values one behind the other, and how many each row has."""

    flat: np.ndarray
    sizes: np.ndarray


_Table = dict[str, _Values]


def read_ply(data: bytes) -> Polygons:
    """Read polygons and triangle strips of a text or binary PLY file.

    Raises:
        ItemError: damaged, cut, without positions, or with faces whose corners are not found.
    """
    data = data.removeprefix(b"\xef\xbb\xbf").lstrip()
    end = _END.search(data)
    if not data[:3].lower() == b"ply" or end is None:
        raise ItemError("damaged point cloud: a PLY file without its header's " + ("first line" if end else "end"))
    order, elements = _header(plain_lines(data[: end.start()]))
    # Where the header's lines end with \r alone, a \n behind the last is the first byte of the body.
    start = end.end() - (end[1] == b"\r\n" and b"\n" not in data[: end.start()])
    tables = _text_tables(data[start:], elements) if not order else _binary_tables(data[start:], elements)
    return _polygons(tables)


def _header(text: str) -> tuple[str, list[_Element]]:
    order, elements = None, list[_Element]()
    for words in (line.split() for line in text.split("\n")):
        match words:
            case ["format", name, *_]:
                order = _FORMATS.get(name)
            case ["element", name, count]:
                elements.append(_Element(name, count_of(count)))
            case ["property", *_] if not elements:
                raise ItemError("damaged point cloud: a property before any element")
            case ["property", "list", length, dtype, name]:
                counted = _dtype(order, length)
                if counted.kind == "f":
                    raise ItemError(f"damaged point cloud: lists whose length is a {length}")
                elements[-1].properties.append(_Property(name, _dtype(order, dtype), counted))
            case ["property", dtype, name]:
                elements[-1].properties.append(_Property(name, _dtype(order, dtype)))
            case ["element" | "property", *_]:
                raise ItemError(f"damaged point cloud: header line {' '.join(words)[:60]!a}")
    if order is None:
        raise ItemError("damaged point cloud: a PLY header without a known format")
    return order, [each for each in elements if each.properties]


def _dtype(order: str | None, name: str) -> np.dtype:
    if name not in _TYPES:
        raise ItemError(f"damaged point cloud: property of type {name[:20]!a}; expected {', '.join(_TYPES)}")
    return np.dtype((order or "=") + _TYPES[name])


def _text_tables(body: bytes, elements: Sequence[_Element]) -> dict[str, _Table]:
    lines = [line for line in (line.partition("#")[0].strip() for line in plain_lines(body).split("\n")) if line]
    declared = sum(element.count for element in elements)
    if len(lines) < declared:
        raise ItemError(f"truncated mesh: {len(lines)} of {declared} lines")
    if len(lines) > declared:
        note(f"{len(lines) - declared} lines after those that it declares were left out")
    tables, at = {}, 0
    for element in elements:
        rows, at = lines[at : at + element.count], at + element.count
        tables[element.name] = _text_lists(element, rows) if element.has_lists else _text_columns(element, rows)
    return tables


def _text_columns(element: _Element, rows: list[str]) -> _Table:
    wanted = [index for index, each in enumerate(element.properties) if each.name in ("x", "y", "z")]
    columns = positions(rows, tuple(wanted)) if wanted else np.zeros((0, 0))
    ones = np.ones(len(rows), np.int64)
    return {
        element.properties[index].name: _Values(column.astype(element.properties[index].dtype), ones)
        for index, column in zip(wanted, columns.T, strict=True)
    }


def _text_lists(element: _Element, rows: list[str]) -> _Table:
    words: list[list[str]] = [[] for _ in element.properties]
    sizes: list[list[int]] = [[] for _ in element.properties]
    for row in rows:
        parts, at = row.split(), 0
        for index, each in enumerate(element.properties):
            size = 1
            if each.length is not None:
                size, at = int(parts[at]) if at < len(parts) else -1, at + 1
            if not 0 <= size <= len(parts) - at:
                raise ItemError(f"truncated mesh: a row of {element.name[:20]!a} ends too early")
            words[index] += parts[at : at + size]
            sizes[index].append(size)
            at += size
    return {
        each.name: _Values(np.array(words[index], np.float64).astype(each.dtype), np.array(sizes[index], np.int64))
        for index, each in enumerate(element.properties)
    }


def _binary_tables(body: bytes, elements: Sequence[_Element]) -> dict[str, _Table]:
    tables, at = {}, 0
    for element in elements:
        tables[element.name], used = _equal_rows(element, body, at) or _walked(element, body, at)
        at += used
    if len(body) > at and body[at:].strip(b"\0\r\n "):
        note(f"{len(body) - at} bytes after what it declares were left out")
    return tables


def _equal_rows(element: _Element, body: bytes, at: int) -> tuple[_Table, int] | None:
    """Read rows whose lists are all as long as the first row's; None where they are not."""
    parts: list[tuple[str, np.dtype, int]] = []
    offset = at
    for index, each in enumerate(element.properties):
        size = 1
        if each.length is not None and element.count:
            size = _length(each.length, body, offset, element)
            parts.append((f"length {index}", each.length, 1))
        parts.append((f"value {index}", each.dtype, size))
        offset = at + sum(dtype.itemsize * count for _, dtype, count in parts)
        _refuse_end(element, offset if element.count else at, body)
    used = (offset - at) * element.count
    if element.has_lists and at + used > len(body):
        return None
    _refuse_end(element, at + used, body)
    rows = np.frombuffer(body[at : at + used], np.dtype([(name, dtype, (count,)) for name, dtype, count in parts]))
    table = {}
    for index, each in enumerate(element.properties):
        values = rows[f"value {index}"] if len(rows) else np.zeros((0, 1), each.dtype)
        if each.length is not None and len(rows) and (rows[f"length {index}"] != values.shape[1]).any():
            return None
        table[each.name] = _Values(values.reshape(-1), np.full(len(rows), values.shape[1], np.int64))
    return table, used


def _walked(element: _Element, body: bytes, start: int) -> tuple[_Table, int]:
    """Read rows one by one."""
    if element.count > len(body) - start:
        raise ItemError(f"truncated mesh: {len(body) - start} bytes for {element.count} rows of {element.name[:20]}")
    reserve(_BYTES_A_ROW * element.count)
    pieces: list[list[bytes]] = [[] for _ in element.properties]
    sizes: list[list[int]] = [[] for _ in element.properties]
    at = start
    for _ in range(element.count):
        for index, each in enumerate(element.properties):
            size = 1
            if each.length is not None:
                size = _length(each.length, body, at, element)
                at += each.length.itemsize
            end = at + size * each.dtype.itemsize
            pieces[index].append(body[at:end])
            sizes[index].append(size)
            at = end
        _refuse_end(element, at, body)
    return {
        each.name: _Values(np.frombuffer(b"".join(pieces[index]), each.dtype), np.array(sizes[index], np.int64))
        for index, each in enumerate(element.properties)
    }, at - start


def _length(dtype: np.dtype, body: bytes, at: int, element: _Element) -> int:
    _refuse_end(element, at + dtype.itemsize, body)
    order = ">" if dtype.byteorder == ">" else "<"
    size: int = struct.unpack_from(order + _LENGTHS[dtype.str[1:]], body, at)[0]
    if size < 0:
        raise ItemError(f"damaged point cloud: a list of {size} in {element.name[:20]!a}")
    return size


def _refuse_end(element: _Element, needed: int, body: bytes) -> None:
    if needed > len(body):
        raise ItemError(f"truncated mesh: ends within {element.name[:20]!a}, of which it declares {element.count}")


def _polygons(tables: dict[str, _Table]) -> Polygons:
    vertex = tables.get("vertex", {})
    if not {"x", "y", "z"} <= vertex.keys():
        raise ItemError("damaged point cloud: no vertices with x, y and z")
    xyz = np.stack([vertex[axis].flat for axis in "xyz"], axis=1).astype(np.float64)
    corners, sizes = _faces(tables["face"]) if "face" in tables else (np.zeros(0, np.int64),) * 2
    if "tristrips" in tables:
        strips = _strips(tables["tristrips"])
        corners, sizes = np.append(corners, strips), np.append(sizes, np.full(len(strips) // 3, 3))
    if not len(sizes) and "edge" in tables:
        note("a mesh of edges without faces: its vertices were taken as points")
    return Polygons.of(xyz, corners, sizes)


def _lists(table: _Table) -> _Values:
    names = [name for name in _CORNERS if name in table] or list(table)[: len(table) == 1]
    if not names:
        raise ItemError(f"damaged point cloud: faces without {' or '.join(_CORNERS)}")
    return table[names[0]]


def _faces(table: _Table) -> tuple[np.ndarray, np.ndarray]:
    found = _lists(table)
    return found.flat.astype(np.int64), found.sizes


def _strips(table: _Table) -> np.ndarray:
    """Return the corners of strips' triangles; which way round they go does not matter here."""
    found = _lists(table)
    flat = found.flat.astype(np.int64)
    if found.flat.dtype.kind == "u":  # -1, which begins another strip, in a type that has none
        flat[found.flat == np.iinfo(found.flat.dtype).max] = -1
    flat = np.insert(flat, np.cumsum(found.sizes), -1)
    rows = np.lib.stride_tricks.sliding_window_view(flat, 3) if len(flat) > 2 else np.zeros((0, 3), np.int64)
    made: np.ndarray = rows[(rows >= 0).all(axis=1)].reshape(-1)
    return made
