"""Meshes as all kinds of programs write them: the same surface, or the true reason why not."""

import io
import logging
import struct

import numpy as np
import pytest

from cmcr import media
from cmcr.decode import decoding
from cmcr.errors import ItemError

VERTICES = [(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (1, 1, 1), (0, 1, 1)]
QUADS = [(0, 3, 2, 1), (4, 5, 6, 7), (0, 1, 5, 4), (2, 3, 7, 6), (1, 2, 6, 5), (0, 4, 7, 3)]
MIXED = [*QUADS[:4], (1, 2, 6), (1, 6, 5), QUADS[5]]
V = "".join("v {} {} {}\n".format(*vertex) for vertex in VERTICES)
F = "".join("f {} {} {} {}\n".format(*(corner + 1 for corner in face)) for face in QUADS)
OBJ = V + F
ROWS = "".join("{} {} {}\n".format(*vertex) for vertex in VERTICES)
FACES = "".join("4 {} {} {} {}\n".format(*face) for face in QUADS)
OFF = f"OFF\n8 6 12\n{ROWS}{FACES}"
NAME = "my facet vertex solid name"
FACET = "facet normal 0 0 1\nouter loop\nvertex {}\nvertex {}\nvertex {}\nendloop\nendfacet\n"
CORNERS = (("0 0 0", "1 0 0", "0 1e0 0"), ("1 0 0", "1 1 0", "0 1 0"))
STL = f"solid {NAME}\n{''.join(FACET.format(*corners) for corners in CORNERS)}endsolid {NAME}\n"


def read(data, suffix):
    """Return the points and the notes."""
    with decoding() as item:
        points = media.read_point_cloud(data.encode() if isinstance(data, str) else data, suffix)
    return points, item.notes


def refused(data, suffix):
    with pytest.raises(ItemError) as caught:
        read(data, suffix)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300
    return str(caught.value)


def interleaved(face, before=""):
    """Each polygon's own vertices right above it, referred to from its end."""
    return "".join(
        "".join("v {} {} {}\n".format(*VERTICES[corner]) + before for corner in quad) + face for quad in QUADS
    )


# What every format of text goes through.
WRITTEN = {
    "byte order mark": lambda text: b"\xef\xbb\xbf" + text.encode(),
    "utf-16": lambda text: text.encode("utf-16"),
    "carriage returns": lambda text: text.replace("\n", "\r"),
    "both line ends": lambda text: text.replace("\n", "\r\n"),
    "tabs": lambda text: text.replace(" ", "\t"),
    "blanks before and behind": lambda text: "   " + text.replace("\n", "  \n   "),
    "several blanks": lambda text: text.replace(" ", "   "),
    "empty lines": lambda text: text.replace("\n", "\n\n"),
    "no last line end": lambda text: text[:-1],
    "a zero at the end": lambda text: text + "\0\0",
}


@pytest.mark.parametrize("written", WRITTEN.values(), ids=WRITTEN)
@pytest.mark.parametrize(("text", "suffix"), [(OBJ, ".obj"), (OFF, ".off"), (STL, ".stl")])
def test_text_is_read_however_it_is_written(text, suffix, written):
    expected, _ = read(text, suffix)
    found, notes = read(written(text), suffix)
    assert np.array_equal(found, expected) and not notes


SAME_OBJ = {
    "counted from the end": V + "".join("f {} {} {} {}\n".format(*(c - 8 for c in face)) for face in QUADS),
    "counted from the end of those above": interleaved("f -4 -3 -2 -1\n"),
    "with textures and normals": interleaved("f -4/-4/-4 -3/-3/-3 -2/-2/-2 -1/-1/-1\n", "vt 0 0\nvn 0 0 1\n"),
    "with normals only": OBJ.replace("f 1 ", "f 1//1 ") + "vn 0 0 1\n",
    "faces first": F + V,
    "colours at one vertex": OBJ.replace("v 1 0 0\n", "v 1 0 0 .5 .5 .5\n"),
    "a weight": OBJ.replace("v 1 1 1\n", "v 1 1 1 1.0\n"),
    "continued lines": OBJ.replace("f 1 ", "f 1 \\\n ").replace("v 1 ", "v 1\\\n"),
    "continued lines of another system": OBJ.replace("f 1 ", "f 1 \\\n ").replace("\n", "\r\n"),
    "comments behind": OBJ.replace("\n", " # v 1 2 3\n"),
    "capitals": OBJ.upper(),
    "other words that begin with f": OBJ + "fo 1 2 3\nvp 1 2\n",
}


@pytest.mark.parametrize("text", SAME_OBJ.values(), ids=SAME_OBJ)
def test_objs_of_one_shape_are_one(text):
    found, notes = read(text, ".obj")
    assert np.array_equal(found, read(OBJ, ".obj")[0]) and not notes


def test_an_obj_of_many_groups_is_one_surface():
    """trimesh takes the square of their number."""
    many = "".join(f"g a{group}\no b{group}\nusemtl m{group}\n{F}" for group in range(3000))
    points, _ = read(V + many, ".obj")
    assert len(points) == media.SURFACE_POINTS and np.ptp(points, axis=0).round(3).tolist() == [1, 1, 1]


def test_nothing_that_a_mesh_names_is_opened(monkeypatch, tmp_path):
    opened = []
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.mtl").write_text("newmtl m\nmap_Kd a.png\n")
    import trimesh.sample  # noqa: F401 - modules are files too

    monkeypatch.setattr("builtins.open", lambda *given, **more: opened.append(given))
    monkeypatch.setattr(io, "open", lambda *given, **more: opened.append(given))
    read("mtllib a.mtl\nusemtl m\n" + OBJ, ".obj")
    read(ply().replace(b"comment x", b"comment TextureFile a.png"), ".ply")
    assert not opened


SAME_OFF = {
    "colours": "COFF\n8 6 0\n" + ROWS.replace("\n", " 255 0 0 255\n") + FACES.replace("\n", " 255 0 0\n"),
    "normals": "NOFF\n8 6 0\n" + ROWS.replace("\n", " 0 0 1\n") + FACES,
    "four coordinates": "4OFF\n8 6 0\n" + ROWS.replace("\n", " 1\n") + FACES,
    "all of them": "STCN4OFF 8 6 0\n" + ROWS.replace("\n", " 1 0 0 1 1 1 1 1 .5 .5\n") + FACES,
    "glued to the counts": OFF.replace("OFF\n", "COFF"),
    "small letters": OFF.replace("OFF", "off"),
    "wrapped faces": f"OFF\n8 6 12\n{ROWS}" + FACES.replace(" ", "\n", 2),
    "a face a number a line": f"OFF\n8 6 12\n{ROWS}" + FACES.replace(" ", "\n"),
}


@pytest.mark.parametrize("text", SAME_OFF.values(), ids=SAME_OFF)
def test_offs_of_one_shape_are_one(text):
    assert np.array_equal(read(text, ".off")[0], read(OFF, ".off")[0])


def test_the_fourth_coordinate_divides():
    points, _ = read("4OFF\n8 6 0\n" + ROWS.replace("\n", " 2\n") + FACES, ".off")
    np.testing.assert_allclose(points, read(OFF, ".off")[0] / 2, atol=1e-6)


def polygon(corners):
    """An OFF file of one polygon in a plane that is slanted."""
    rows = "".join(f"{x} {y} {x + 2 * y}\n" for x, y in corners)
    return f"OFF\n{len(corners)} 1 0\n{rows}{len(corners)} {' '.join(map(str, range(len(corners))))}\n"


def inside(point, corners):
    """Tell by counting crossed edges."""
    x, y = point
    crossed = 0
    for (ax, ay), (bx, by) in zip(corners, corners[1:] + corners[:1], strict=True):
        crossed += (ay > y) != (by > y) and x < ax + (y - ay) / (by - ay) * (bx - ax)
    return crossed % 2 == 1


TURNS = np.linspace(0, 2 * np.pi, 40, endpoint=False)
CONCAVE = {
    "a dart": [(0, 0), (2, 1), (0, 2), (0.6, 1)],
    "a notched square": [(0, 0), (2, 0), (2, 2), (1, 0.1), (0, 2)],
    "a frame, joined to its hole": [(0, 0), (3, 0), (3, 3), (0, 3), (0, 0), (1, 1), (1, 2), (2, 2), (2, 1), (1, 1)],
    "a star": [(np.cos(a) * (1 + a % 0.2 * 3), np.sin(a) * (1 + a % 0.2 * 3)) for a in TURNS.tolist()],
    "points on straight edges": [(0, 0), (1, 0), (2, 0), (2, 1), (2, 2), (1, 2), (1, 1), (0, 1)],
}


@pytest.mark.parametrize("turned", range(3))
@pytest.mark.parametrize("corners", CONCAVE.values(), ids=CONCAVE)
def test_concave_polygons_keep_their_shape(corners, turned):
    corners = corners[turned:] + corners[:turned]
    tried = np.random.default_rng(0).uniform(np.min(corners, axis=0), np.max(corners, axis=0), (1500, 2))
    expected = tried[[inside(point, corners) for point in tried.tolist()]]
    for order in (corners, corners[::-1]):
        points, notes = read(polygon(order), ".off")
        assert not notes and sum(not inside(point, corners) for point in points[::20, :2].tolist()) <= 2  # on an edge
        np.testing.assert_allclose(points[:, :2].mean(axis=0), expected.mean(axis=0), atol=0.05)
        np.testing.assert_allclose(points[:, :2].std(axis=0), expected.std(axis=0), atol=0.05)


def test_polygons_beyond_the_effort_are_split_as_fans_and_it_is_said(monkeypatch):
    monkeypatch.setattr("cmcr.shapes.polygons._MOST_EFFORT", 0)
    points, notes = read(polygon(CONCAVE["a notched square"]), ".off")
    assert len(points) == media.SURFACE_POINTS and notes == [
        "1 concave faces were split as fans, which reach beyond their edges"
    ]


@pytest.mark.parametrize("count", [3, 4, 5, 6, 9])
def test_a_convex_polygon_is_covered_evenly(count):
    turns = np.linspace(0, 2 * np.pi, count, endpoint=False)
    corners = np.stack([np.cos(turns), np.sin(turns)], axis=1)
    points, _ = read(polygon(corners.tolist()), ".off")
    np.testing.assert_allclose(points[:, :2].mean(axis=0), 0, atol=0.02)
    assert abs((np.linalg.norm(points[:, :2], axis=1) < 0.4).mean() - 0.16 * np.pi / area_of(corners)) < 0.02


def area_of(corners):
    x, y = np.asarray(corners).T
    return abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


CODES = {"char": "b", "uchar": "B", "short": "h", "ushort": "H", "int": "i", "uint": "I", "float": "f", "double": "d"}
CODES |= {"int8": "b", "uint8": "B", "int16": "h", "uint16": "H", "int32": "i", "uint32": "I"}
CODES |= {"float32": "f", "float64": "d"}
BINARY = ("binary_little_endian", "binary_big_endian")
FORMATS = ("ascii", *BINARY)


def values(kind, row):
    """What a further property holds: one value, or a list whose length depends on the row."""
    if not kind.startswith("list"):
        return [(kind, 5)]
    _, length, item = kind.split()
    return [(length, row % 3)] + [(item, 7)] * (row % 3)


def elements(name, rows, before, own, behind):
    """The lines of a header and the typed values of one element, with further properties around its own."""
    header = [f"element {name} {len(rows)}"]
    header += [f"property {kind} before{index}" for index, kind in enumerate(before)] + own
    header += [f"property {kind} behind{index}" for index, kind in enumerate(behind)]
    around = [
        [value for kind in kinds for value in values(kind, row)]
        for kinds in (before, behind)
        for row in range(len(rows))
    ]
    heads, tails = around[: len(rows)], around[len(rows) :]
    return header, [head + row + tail for head, row, tail in zip(heads, rows, tails, strict=True)]


def ply(
    kind="ascii",
    number="float",
    length="uchar",
    index="int",
    name="vertex_indices",
    around=((), ()),
    end="\n",
    faces=MIXED,
    element="face",
):
    """A PLY file of the cube."""
    header, rows = elements(
        "vertex",
        [[(number, value) for value in vertex] for vertex in VERTICES],
        around[0],
        [f"property {number} {axis}" for axis in "xyz"],
        around[1],
    )
    more, lists = elements(
        element,
        [[(length, len(face))] + [(index, corner) for corner in face] for face in faces],
        around[1],
        [f"property list {length} {index} {name}"],
        around[0],
    )
    lines = ["ply", f"format {kind} 1.0", "comment x", "obj_info y", *header, *more, "end_header", ""]
    head = end.join(lines).encode()
    if kind == "ascii":
        return head + end.join([*(" ".join(str(value) for _, value in row) for row in rows + lists), ""]).encode()
    order = "<" if "little" in kind else ">"
    return head + b"".join(struct.pack(order + CODES[code], value) for row in rows + lists for code, value in row)


SAME_PLY = {
    "double": {"number": "double", "length": "uint8", "index": "uint32", "name": "vertex_index"},
    "integers": {"number": "int16", "length": "ushort", "index": "int8"},
    "float64": {"number": "float64", "length": "int", "index": "int16"},
    "further properties": {"around": (("uchar", "double"), ("float", "int8"))},
    "further lists": {"around": (("uchar", "list uchar float"), ("float", "list int short", "int8"))},
    "another name": {"name": "corners"},
    "carriage returns": {"end": "\r"},
    "both line ends": {"end": "\r\n"},
    "an empty face": {"faces": [*MIXED, ()]},
}


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("changed", SAME_PLY.values(), ids=SAME_PLY)
def test_plys_of_one_shape_are_one(kind, changed):
    assert np.array_equal(read(ply(kind, **changed), ".ply")[0], read(ply(), ".ply")[0])


def test_a_binary_body_may_begin_with_a_line_feed():
    """Behind a header whose lines end with carriage returns alone."""
    vertices = struct.pack("<3f", 2.3510604481259484e-38, 0, 0)
    assert struct.pack("<f", struct.unpack("<f", b"\n\0\0\1")[0])[:1] == b"\n"
    vertices = b"\n\0\0\1" + vertices[4:]
    header = "ply\rformat binary_little_endian 1.0\relement vertex 1\r" + "".join(
        f"property float {a}\r" for a in "xyz"
    )
    assert len(read((header + "end_header\r").encode() + vertices, ".ply")[0]) == 1


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("index", ["int", "uint"])
def test_triangle_strips_are_their_surface(kind, index):
    restart = -1 if index == "int" else 2**32 - 1
    strips = [(0, 1, 3, 2, restart, 4, 5, 7, 6), (0, 4, 3, 7), (1, 5, 2, 6)]
    points, notes = read(ply(kind, index=index, faces=strips, element="tristrips"), ".ply")
    assert len(points) == media.SURFACE_POINTS and not notes
    on = [(np.isclose(points[:, axis], at)).mean() for axis, at in ((2, 0), (2, 1), (0, 0), (0, 1))]
    np.testing.assert_allclose(on, 0.25, atol=0.02)


def test_edges_alone_are_points_and_it_is_said():
    points, notes = read(ply(element="edge"), ".ply")
    assert len(points) == 8 and "edges without faces" in notes[0]


@pytest.mark.parametrize("kind", FORMATS)
def test_a_cut_ply_is_never_read(kind):
    whole = ply(kind, faces=[*MIXED, (0, 1, 2)])
    body = whole.index(b"end_header\n") + 11
    for length in (*range(0, body, 17), *range(body, len(whole) - 1 - 2 * (kind == "ascii"), 5)):
        assert "truncated mesh" in refused(whole[:length] or b"p", ".ply") or length < body


REFUSED = {
    "obj: a vertex that is not there": (OBJ + "f 1 2 99\n", ".obj", "vertices that are not there"),
    "obj: before the first": (OBJ + "f -1 -2 -99\n", ".obj", "vertices that are not there"),
    "obj: vertex zero": (OBJ + "f 0 1 2\n", ".obj", "vertex 0"),
    "obj: half a vertex": (OBJ.replace("v 0 1 1\n", "v 0 1\n"), ".obj", "damaged"),
    "obj: no vertex": (OBJ.replace("v 0 1 1\n", "v\nv 0 1 1\n"), ".obj", "a line without numbers"),
    "obj: no vertices": ("v\nv\n", ".obj", "a line without numbers"),
    "off: no counts": ("OFF\n", ".off", "without the numbers of its vertices"),
    "obj: not a number": (OBJ.replace("v 1 0 0", "v nan 0 0"), ".obj", "non-finite"),
    "obj: a word": (OBJ.replace("v 1 0 0", "v one 0 0"), ".obj", "could not convert"),
    "obj: part of a corner": (OBJ + "f 1.0 2 3\n", ".obj", "damaged"),
    "obj: an endless number": (OBJ + f"f {'9' * 50} 2 3\n", ".obj", "damaged"),
    "obj: free-form": (V + "cstype bspline\nsurf 0 1 0 1 1 2 3\n", ".obj", "free-form"),
    "obj: one line": (V + "f 1 1 2\n", ".obj", "without area"),
    "off: cut": (OFF[:-30], ".off", "truncated mesh: 11 of 14 lines"),
    "off: a short face": (OFF.replace("4 0 3 2 1", "4 0 3 2"), ".off", "a face of 4 corners has 3"),
    "off: a short face, more behind": (OFF.replace("4 0 3 2 1", "4 0 3 2") + "1 2\n", ".off", "has 3"),
    "off: a negative corner": (OFF.replace("4 0 3 2 1", "4 0 -3 2 1"), ".off", "not there"),
    "off: other dimensions": ("nOFF\n3\n8 6 0\n" + ROWS + FACES, ".off", "number of dimensions"),
    "off: binary": ("OFF BINARY\n\0\0", ".off", "binary OFF"),
    "off: negative": ("OFF\n-1 2 0\n1 2 3\n", ".off", "'-1' where it should declare"),
    "off: endless": (f"OFF\n{'9' * 4000} 1 0\n", ".off", "where it should declare"),
    "ply: a vertex that is not there": (ply(faces=[(0, 1, 99)]), ".ply", "not there"),
    "ply: a negative one": (ply(BINARY[0], faces=[(0, 1, -2)]), ".ply", "not there"),
    "ply: no end of the header": (ply().replace(b"end_h", b"end_j"), ".ply", "header's end"),
    "ply: no format": (ply().replace(b"format", b"fromat"), ".ply", "known format"),
    "ply: an unknown type": (ply().replace(b"uchar int", b"uchar foo"), ".ply", "type 'foo'"),
    "ply: lists of fractional length": (ply().replace(b"list uchar", b"list float"), ".ply", "length is a float"),
    "ply: no positions": (ply().replace(b"float x", b"float w"), ".ply", "no vertices with x, y and z"),
    "ply: a property of nothing": (b"ply\nformat ascii 1.0\nproperty float x\nend_header\n", ".ply", "before any"),
    "ply: many rows": (ply(BINARY[0]).replace(b"face 7", b"face 70000000"), ".ply", "truncated mesh"),
    "ply: a long list": (
        ply(BINARY[0], length="uint").replace(struct.pack("<I", 3), struct.pack("<I", 2**32 - 1)),
        ".ply",
        "truncated mesh",
    ),
    "ply: which list": (ply(name="a", around=((), ("list uchar int",))), ".ply", "faces without vertex_indices"),
    "stl: of four corners": (STL.replace("vertex 1 1 0\n", "vertex 1 1 0\nvertex 2 2 0\n"), ".stl", "7 vertices of 2"),
    "stl: a word": (STL.replace("1e0", "one"), ".stl", "could not convert"),
    "stl: not a number": (STL.replace("1e0", "nan"), ".stl", "non-finite"),
    "stl: the second solid cut": (STL + STL[:100], ".stl", "truncated mesh: 2 of 3"),
    "stl: no end": (STL[: STL.index("endsolid")], ".stl", "truncated mesh: 2 of 2 facets are whole, and its end"),
    "stl: nothing": ("solid a\nendsolid a\n", ".stl", "0 points"),
}


@pytest.mark.parametrize(("data", "suffix", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_is_left_is_refused_with_the_true_reason(data, suffix, reason):
    assert reason in refused(data, suffix)


def binary_stl(count, *, declared=None, head=b"solid facet of a binary file", more=b""):
    body = b"".join(struct.pack("<12fH", 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, row + 1, 0, 0) for row in range(count))
    return head.ljust(80) + struct.pack("<I", count if declared is None else declared) + body + more


def test_a_binary_stl_is_what_it_declares():
    whole, notes = read(binary_stl(3), ".stl")
    assert not notes
    for more in (b"x" * 16, b"\0", bytes(50)):
        found, notes = read(binary_stl(3, more=more), ".stl")
        assert np.array_equal(found, whole)
        assert notes == [f"{len(more)} bytes after the triangles that it declares were left out"]
    assert refused(binary_stl(3)[:-1], ".stl") == "truncated mesh: 233 of 234 bytes"
    assert refused(binary_stl(3, declared=4), ".stl") == "truncated mesh: 234 of 284 bytes"
    assert refused(binary_stl(3, declared=0), ".stl") == "a mesh that declares no triangle, with 150 bytes behind"


def test_a_text_stl_in_capitals_on_one_line_or_of_several_solids():
    expected, _ = read(STL, ".stl")
    assert np.array_equal(read(STL.upper(), ".stl")[0], expected)
    flat = STL.replace(f"{NAME}\n", "\n", 1).replace("\n", " ").rsplit("endsolid", 1)[0] + "endsolid"
    assert np.array_equal(read(flat, ".stl")[0], expected)
    both, _ = read(STL + STL.replace(" 0\n", " 5\n"), ".stl")
    assert 0.4 < (both[:, 2] == 5).mean() < 0.6


def test_no_part_of_a_text_stl_is_taken_for_the_whole():
    for length in range(6, STL.index("endsolid")):
        refused(STL[:length], ".stl")


@pytest.mark.parametrize(("text", "suffix"), [(OBJ, ".obj"), (STL, ".stl"), (OFF, ".off")])
def test_decimal_commas_and_fortrans_exponents(text, suffix):
    comma = text.replace("1 0 0\n", "1,0 0,0 0\n").replace("1e0", "1")
    found, notes = read(comma, suffix)
    assert notes == ["commas were read as decimal commas"]
    assert np.array_equal(found, read(text, suffix)[0])
    assert np.array_equal(read(text.replace("1 0 0\n", "0.1D+01 0 0\n"), suffix)[0], found)


def test_what_is_left_out_is_said():
    assert read(OFF + "1 2 3\n", ".off")[1] == ["1 lines after the faces that it declares were left out"]
    assert read(OBJ + "f 1 2\n", ".obj")[1] == ["1 faces of fewer than three corners were left out"]
    assert read(ply(BINARY[1]) + b"more", ".ply")[1] == ["4 bytes after what it declares were left out"]
    assert read(ply() + b"1 2\n", ".ply")[1] == ["1 lines after those that it declares were left out"]


def ordinary():
    """Meshes that trimesh reads rightly."""
    import trimesh

    for name, mesh in (("ball", trimesh.creation.icosphere(2)), ("tube", trimesh.creation.cylinder(1, 3))):
        mesh.apply_translation((3, -2, 1.5))
        for kind in ("off", "obj", "ply", "stl", "stl_ascii"):
            yield name, mesh.export(file_type=kind), f".{kind[:3]}"
        yield name, mesh.export(file_type="ply", encoding="ascii"), ".ply"
    yield "quads", OBJ, ".obj"
    mixed = [" ".join(str(corner + 1) for corner in face) for face in MIXED]
    yield "mixed", V + "".join(f"f {face}\n" for face in mixed), ".obj"
    materials = ("wood", "iron", "wood", "glass", "wood", "iron", "wood")
    used = "".join(f"usemtl {name}\nf {face}\n" for name, face in zip(materials, mixed, strict=True))
    yield "materials", V + used, ".obj"
    yield "quads", ply(BINARY[1], faces=QUADS), ".ply"
    yield "quads", OFF, ".off"
    yield "mixed", ply(), ".ply"
    yield "solids", STL.replace(NAME, "a") + STL.replace(NAME, "b").replace(" 0\n", " 5\n"), ".stl"


def test_ordinary_meshes_give_the_points_that_trimesh_gives():
    import trimesh

    for name, data, suffix in ordinary():
        data = data.encode() if isinstance(data, str) else data
        mesh = trimesh.load(io.BytesIO(data), file_type=suffix[1:], process=False)
        mesh = mesh.to_geometry() if hasattr(mesh, "to_geometry") else mesh
        expected, _ = trimesh.sample.sample_surface(mesh, media.SURFACE_POINTS, seed=0)
        assert np.array_equal(media.read_point_cloud(data, suffix), np.asarray(expected, np.float32)), (name, suffix)


def test_nothing_is_logged_or_printed(capfd, caplog):
    with caplog.at_level(logging.DEBUG):
        for data, suffix, _ in REFUSED.values():
            refused(data, suffix)
    assert capfd.readouterr() == ("", "") and not caplog.records


def test_a_mesh_is_refused_above_the_budget_before_it_is_parsed(monkeypatch):
    monkeypatch.setattr("cmcr.decode.common.BUDGET.total", 1000)
    monkeypatch.setattr("cmcr.shapes.meshes.plain_lines", lambda data: pytest.fail("parsed"))
    for data, suffix in ((OBJ, ".obj"), (OFF, ".off"), (STL, ".stl")):
        assert "CMCR_DECODE_BYTES" in refused(data, suffix)


def test_a_polygon_of_many_corners_is_refused_above_the_budget(monkeypatch):
    turns = np.linspace(0, 2 * np.pi, 5000, endpoint=False).tolist()
    data = polygon([(np.cos(turn), np.sin(turn)) for turn in turns])
    monkeypatch.setattr("cmcr.decode.common.BUDGET.total", 5 * len(data) + 150 * 5003 + 1_000_000)
    assert "CMCR_DECODE_BYTES" in refused(data, ".off")


def test_long_runs_of_blanks_and_words_are_passed_over_once():
    """The square of their length would not end."""
    assert "truncated mesh" in refused("solid a\nfacet" + " " * 1_000_000 + "x", ".stl")
    assert "truncated mesh" in refused("solid a\nfacet" + "  facet" * 100_000 + "x", ".stl")
    assert len(read("1,5" + " " * 1_000_000 + "2 3\n", ".xyz")[0]) == 1
