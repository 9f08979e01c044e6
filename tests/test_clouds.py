"""Point clouds of text and arrays: the numbers that were meant, the shape that they have, the memory that they take."""

import io
import pickle
import time
import tracemalloc
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from checkpoints_ulip import write_ulip
from test_meshes import read, refused

from cmcr import media
from cmcr.encoders.point_bert import group_points
from cmcr.encoders.tiny import TinyEncoder
from cmcr.encoders.ulip import UlipEncoder
from cmcr.items import Item
from cmcr.modality import Modality

DECIMAL = "commas were read as decimal commas"
HALVES = np.array([[1.5, 2.5, -3.25], [0.25, 100, 7.5]])
SIX = np.hstack([HALVES, HALVES[::-1]])


def rows(values, separator=" ", end="\n"):
    return "".join(separator.join(f"{value:g}" for value in row) + end for row in values)


COLUMNS = {
    "semicolons": (rows(HALVES, ";").replace(".", ","), HALVES, [DECIMAL]),
    "semicolons and blanks": (rows(HALVES, " ; ").replace(".", ","), HALVES, [DECIMAL]),
    "a semicolon at the end": (rows(HALVES, ";", ";\n").replace(".", ","), HALVES, [DECIMAL]),
    "tabs": (rows(HALVES, "\t").replace(".", ","), HALVES, [DECIMAL]),
    "blanks": (rows(HALVES, "  ").replace(".", ","), HALVES, [DECIMAL]),
    "commas and blanks": (rows(HALVES, ", ").replace(".", ","), HALVES, [DECIMAL]),
    "six with decimal commas": (rows(SIX, ";").replace(".", ","), SIX, [DECIMAL]),
    "decimal commas under names": ("x;y;z\n" + rows(HALVES, ";").replace(".", ","), HALVES, [DECIMAL]),
    "decimal commas and exponents": ("1,5E+00\t25,D-1\t-,325e1\n,25 100 7,5\n", HALVES, [DECIMAL]),
    "decimal commas, points in a comment": ("# v1.0\n" + rows(HALVES, ";").replace(".", ","), HALVES, [DECIMAL]),
    "three decimals": ("0,125 1,250 2,500\n", [[0.125, 1.25, 2.5]], [DECIMAL]),
    "commas": (rows(HALVES, ","), HALVES, []),
    "commas and blanks, points": (rows(HALVES, ", "), HALVES, []),
    "whole numbers between commas": ("1,2,3\n4,5,6\n", [[1, 2, 3], [4, 5, 6]], []),
    "whole numbers between commas and blanks": ("1, 2, 3\n4,5, 6\n", [[1, 2, 3], [4, 5, 6]], []),
    "six whole numbers between commas": ("1,20,3,0,5,60\n", [[1, 20, 3, 0, 5, 60]], []),
    "two groups of three": ("0.5,0,1 2,3,4\n", [[0.5, 0, 1, 2, 3, 4]], []),
    "commas at the ends": ("1.5,2,3,\n", [[1.5, 2, 3]], []),
    "semicolons, points": (rows(HALVES, ";"), HALVES, []),
    "Fortran": ("1.5D+00 25.d-1 -3.25D0\n", HALVES[:1], []),
    "carriage returns": (rows(HALVES, end="\r"), HALVES, []),
    "utf-16": (rows(HALVES).encode("utf-16"), HALVES, []),
    "a comment in another encoding": (b"# caf\xe9\n" + rows(HALVES).encode(), HALVES, []),
    "comments": ("//x y z\n" + rows(HALVES, end=" # here\n"), HALVES, []),
    "names": ('"X","Y","Z"\n' + rows(HALVES, ","), HALVES, []),
    "names in another order": ("z y x\n" + rows(HALVES[:, ::-1]), HALVES, []),
    "normals first": ("nx ny nz x y z\n" + rows(np.hstack([SIX[:, 3:], HALVES])), SIX, []),
    "more columns with names": (
        "id x y z i\n" + rows(np.hstack([[[7], [8]], HALVES, [[9], [9]]])),
        HALVES,
        ["of 5 columns, those called x, y and z were taken"],
    ),
    "a count": ("2\n" + rows(HALVES), HALVES, []),
    "a count and names": ("2\nx y z\n" + rows(HALVES), HALVES, []),
}


@pytest.mark.parametrize(("text", "expected", "notes"), COLUMNS.values(), ids=COLUMNS)
def test_columns_hold_what_was_meant(text, expected, notes):
    points, said = read(text, ".csv")
    assert np.array_equal(points, np.array(expected, np.float32)) and said == notes


REFUSED = {
    "commas alone, fractions": ("1,2739,0,5396,0,0819\n", "may be decimal ones or separate"),
    "other names": (
        "Easting;Northing;Height\n1,27;0,53;2,81\n",
        "'Easting;Northing;Height'; expected numbers, or names",
    ),
    "quoted": ('"1.5","2","3"\n', "could not convert"),
    "commas alone, a negative zero": ("1,27,-0,53,2,81\n", "may be decimal ones or separate"),
    "grouped thousands": ("1,234.5 2,345.6 3,456.7\n", "beside decimal points"),
    "grouped thousands, commas for points": ("1.234,5;2.345,6;3.456,7\n", "beside decimal points"),
    "thousands or decimals": ("999 1,234 2,345\n", "may group thousands"),
    "rows of both kinds": ("1,5;2,5;3,5\n1.5;2.5;3.5\n", "beside decimal points"),
    "rows of another number": ("1,5;2,5;3,5\n1,5;2,5\n", "both within and between"),
    "ragged": ("1 2 3\n4 5\n", "the number of columns changed from 3 to 2 at row 2"),
    "ragged to six": ("1 2 3\n4 5 6 7 8 9\n", "the number of columns changed"),
    "names of something else": ("a b c\n1 2 3\n", "'a b c'; expected numbers, or names with x, y and z"),
    "four columns": ("1 2 3 4\n", "(1, 4)"),
    "eight columns": ("1 2 3 4 5 6 7 8\n", "(1, 8)"),
    "cut": ("3\n1 2 3\n4 5 6\n", "truncated point cloud: 2 points where its first line declares 3"),
    "more than declared": ("1\n1 2 3\n4 5 6\n", "2 points where its first line declares 1"),
    "separators alone": (";;\n,,\n", "0 points"),
    "an endless count": ("9" * 5000 + "\n1 2 3\n", "where it should declare"),
    "half a number": ("1 2 3\n4 5 6e\n", "could not convert string '6e'"),
    "escapes": ("\x1b[31m 1 2\n", r"'\x1b[31m'"),
}


@pytest.mark.parametrize(("text", "reason"), REFUSED.values(), ids=REFUSED)
def test_columns_that_may_mean_something_else_are_refused(text, reason):
    assert reason in refused(text, ".xyz")


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def npz(array):
    file = io.BytesIO()
    np.savez_compressed(file, points=array)
    return file.getvalue()


def ply(points):
    names = "".join(f"property double {axis}\n" for axis in "xyz")
    head = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(points)}\n{names}end_header\n"
    return head.encode() + points.astype("<f8").tobytes()


def text_of(points, form="{!r} {!r} {!r}"):
    return "\n".join(form.format(*row) for row in points.tolist()).encode()


WRITERS = {
    ".npy": npy,
    ".npz": npz,
    ".ply": ply,
    ".xyz": text_of,
    ".obj": lambda points: text_of(points, "v {!r} {!r} {!r}"),
    ".off": lambda points: f"OFF\n{len(points)} 0 0\n".encode() + text_of(points),
}
AT_HOME = np.random.default_rng(0).uniform(-1, 1, (300, 3))
UTM = np.array([500_123.25, 5_400_321.75, 312.5])
FAR = "far from the origin for its size: put at the origin before it was cut to float32"


def apart(points):
    """The shape alone: float64 positions relative to the mean, in sizes of the whole."""
    points = points.astype(np.float64)
    return (points - points.mean(axis=0)) / np.ptp(points, axis=0).max()


@pytest.mark.parametrize(("suffix", "write"), WRITERS.items(), ids=WRITERS)
@pytest.mark.parametrize("offset", [UTM, np.array([60, -80, 0])], ids=["far", "near"])
def test_a_small_thing_far_away_keeps_its_shape(suffix, write, offset):
    points, notes = read(write(AT_HOME + offset), suffix)
    assert notes == [FAR] and points.dtype == np.float32
    np.testing.assert_allclose(apart(points), apart(AT_HOME + offset), atol=2e-7)
    assert np.abs(points).max() <= 1.001


@pytest.mark.parametrize("kind", ["off", "obj", "stl_ascii"])
def test_a_small_mesh_far_away_keeps_its_shape(kind):
    import trimesh

    box = trimesh.creation.box((2, 2, 2))
    box.apply_translation(UTM)
    points, notes = read(box.export(file_type=kind), f".{kind[:3]}")
    assert notes == [FAR]
    np.testing.assert_allclose(np.abs(points).max(axis=1), 1, atol=1e-5)  # every point is on the surface


STANDING = {
    "about the origin": AT_HOME,
    "beside the origin": AT_HOME + np.array([3, -2, 8]),
    "large": AT_HOME * 1e6,
    "whole millimetres": np.round(AT_HOME * 1000) + np.array([500_000, 4_000_000, 0]),
    "float32 far away": (AT_HOME + UTM).astype(np.float32),
    "float32 in float64": (AT_HOME + UTM).astype(np.float32).astype(np.float64),
    "one point": np.array([[0.1, 0.2, 0.3]]),
    "one place": np.full((5, 3), 0.1),
}


@pytest.mark.parametrize("points", STANDING.values(), ids=STANDING)
def test_what_float32_holds_is_left_where_it_stands(points):
    found, notes = read(npy(points), ".npy")
    assert np.array_equal(found, points.astype(np.float32)) and not notes


def test_normals_and_colours_are_not_moved():
    normals = np.random.default_rng(1).normal(size=(300, 3))
    points, _ = read(npy(np.hstack([AT_HOME + UTM, normals])), ".npy")
    assert np.array_equal(points[:, 3:], normals.astype(np.float32)) and np.abs(points[:, :3]).max() < 1.001


def test_a_thing_far_away_gets_the_vector_that_it_gets_at_home(tmp_path):
    write_ulip(tmp_path / "ulip.pt")
    item = Item("a", Modality.POINT_CLOUD, "a.npy", path=Path("a.npy"))
    for encoder in (TinyEncoder("tiny-ulip"), UlipEncoder(str(tmp_path / "ulip.pt"))):
        vectors = [
            encoder.encode(item.modality, [encoder.prepare(item, npy(AT_HOME + offset))])[0] for offset in (0, UTM)
        ]
        assert vectors[0] @ vectors[1] > 0.9999


def test_clouds_taken_as_they_stand_are_never_moved(tmp_path):
    write_ulip(tmp_path / "ulip.pt")
    encoder = UlipEncoder(f"{tmp_path / 'ulip.pt'}#raw")
    item = Item("a", Modality.POINT_CLOUD, "a.npy", path=Path("a.npy"))
    there = AT_HOME + np.array([500, -500, 0])
    assert np.array_equal(encoder.prepare(item, npy(there)), group_points(there.astype(np.float32)))


def peak(data, suffix):
    tracemalloc.start()
    try:
        reason = refused(data, suffix)
        return reason, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def zipped(name, content, **more):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content, **more)
    return file.getvalue()


def test_a_bomb_is_refused_by_its_header(monkeypatch):
    bomb = npz(np.zeros((500_000, 3)))
    assert len(bomb) < 20_000
    monkeypatch.setattr("cmcr.decode.common.BUDGET.total", 5_000_000)
    reason, most = peak(bomb, ".npz")
    assert "CMCR_DECODE_BYTES" in reason and most < 1_000_000


def test_a_bomb_that_says_it_is_small_is_unpacked_no_further():
    """The archive's entry says a hundred thousand bytes; what is packed are forty million."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "|O", "fortran_order": False, "shape": ()})
    honest = zipped("points.npy", head.getvalue() + bytes(40_000_000))
    size, said = (length.to_bytes(4, "little") for length in (40_000_000 + len(head.getvalue()), 100_000))
    assert honest.count(size) == 2
    _, most = peak(honest.replace(size, said), ".npz")
    assert most < 4_000_000


def test_a_pickle_of_many_small_things_is_refused(monkeypatch):
    monkeypatch.setattr("cmcr.shapes.clouds._MAX_INSTRUCTIONS", 100)
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "|O", "fortran_order": False, "shape": ()})
    assert "more than 100 instructions" in refused(head.getvalue() + pickle.dumps(list(range(200))), ".npy")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_only_what_numpy_writes_is_unpacked(method):
    assert "compressed by method" in refused(zipped("points.npy", npy(AT_HOME), compress_type=method), ".npz")


def test_names_of_arrays_are_printable():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a\x1b[31m\n.npy", b"")
        archive.writestr("b.npy", b"")
    assert r"arrays a\x1b[31m\n, b; expected" in refused(file.getvalue(), ".npz")


@pytest.mark.parametrize(("suffix", "write"), WRITERS.items(), ids=WRITERS)
def test_every_kind_of_cloud_keeps_to_the_budget(suffix, write, monkeypatch):
    monkeypatch.setattr("cmcr.decode.common.BUDGET.total", 1000)
    assert "CMCR_DECODE_BYTES" in refused(write(AT_HOME), suffix)


def test_positions_alone_need_no_trimesh(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "trimesh", None)
    for suffix in (".ply", ".obj", ".off"):
        assert np.array_equal(media.read_point_cloud(WRITERS[suffix](AT_HOME), suffix), AT_HOME.astype(np.float32))


def test_no_two_threads_parse_an_npy_header_at_once(monkeypatch):
    # CPython 3.11 parses Python, which such a header is, in one thread at a time; else a sound file may seem damaged.
    data, parsing, seen = io.BytesIO(), [], []
    np.save(data, np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32))

    def watch(name):
        original = getattr(np.lib.format, name)

        def watched(*args, **options):
            parsing.append(1)
            seen.append(len(parsing))
            time.sleep(0.001)  # so that another thread would come in between
            try:
                return original(*args, **options)
            finally:
                parsing.pop()

        monkeypatch.setattr(np.lib.format, name, watched)

    watch("read_array_header_1_0")
    watch("read_array")
    with ThreadPoolExecutor(8) as pool:
        assert all(
            len(cloud) for cloud in pool.map(lambda _: media.read_point_cloud(data.getvalue(), ".npy"), range(40))
        )
    assert len(seen) == 80 and max(seen) == 1
