"""Untrusted bytes: what decodes, and that everything else is an ItemError with a stable reason."""

import io
import itertools
import os
import pickle
import struct
import zipfile
import zlib

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cmcr import media
from cmcr.errors import ItemError


def png(size=(8, 6), mode="RGB", color=(200, 30, 40), **options):
    file = io.BytesIO()
    Image.new(mode, size, color).save(file, options.pop("format", "PNG"), **options)
    return file.getvalue()


def wav(samples, rate=16_000, subtype="PCM_16", kind="WAV"):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind, subtype=subtype)
    return file.getvalue()


def npy(array, **options):
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def npz(**arrays):
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def npy_header(shape, descr="<f8"):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
    return file.getvalue()


def bomb_png(side=40_000):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    )


def text(points, *more, separator=" "):
    """Lines of columns; ``more`` holds further columns of each line."""
    rows = [[*row, *further] for row, further in itertools.zip_longest(points, more, fillvalue=())]
    return "\n".join(separator.join(map(str, row)) for row in rows).encode()


def pickled(content=None, protocol=None):
    """What np.save writes for an object that is no array; it has used protocols 3 and 4."""
    array = np.array(content or {"a": 1}, dtype=object)
    if protocol is None:
        return npy(array, allow_pickle=True)
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
    pickle.dump(array, file, protocol)
    return file.getvalue()


TONE = np.sin(np.arange(16_000) * 0.1).astype(np.float32) * 0.5
POINTS = np.arange(30, dtype=np.float32).reshape(10, 3)


def test_image_is_rgb_whatever_its_mode():
    for data in (png(), png(mode="L", color=9), png(mode="P", color=1), png(mode="RGBA", color=(1, 2, 3, 0))):
        image = media.read_image(data)
        assert image.mode == "RGB" and image.size == (8, 6)


def test_image_is_turned_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    assert media.read_image(png(format="JPEG", exif=exif)).size == (6, 8)


def test_sixteen_bit_grey_keeps_its_contrast():
    file = io.BytesIO()
    Image.fromarray(np.array([[0, 256 * 100, 65_535]], dtype=np.uint16)).save(file, "PNG")
    assert np.asarray(media.read_image(file.getvalue()))[0, :, 0].tolist() == [0, 100, 255]


def test_audio_is_mono_at_the_rate_asked():
    stereo = np.stack([TONE, np.zeros_like(TONE)], axis=1)
    sound = media.read_audio(wav(stereo), 8_000)
    assert sound.dtype == np.float32 and sound.shape == (8_000,)
    assert 0.2 < np.abs(sound).max() < 0.3  # the mean of both channels
    assert len(media.read_audio(wav(TONE), 16_000, max_seconds=0.25)) == 4_000


@pytest.mark.parametrize(
    ("kind", "subtype"), [("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("AIFF", "PCM_16"), ("MP3", None)]
)
def test_audio_formats(kind, subtype):
    np.testing.assert_allclose(
        media.read_audio(wav(TONE, kind=kind, subtype=subtype), 16_000)[4000:8000], TONE[4000:8000], atol=0.1
    )


def test_overdriven_audio_is_clipped():
    assert np.abs(media.read_audio(wav(TONE * 9, subtype="FLOAT"), 16_000)).max() == 1.0


@pytest.mark.parametrize(
    ("data", "suffix"),
    [
        (npy(POINTS), ".npy"),
        (npy(POINTS.astype(np.float64)), ".npy"),
        (npz(points=POINTS, labels=np.zeros(3)), ".npz"),
        (npz(anything=POINTS), ".npz"),
        ("\n".join(" ".join(map(str, row)) for row in POINTS).encode(), ".xyz"),
        (b"# x,y,z\n" + "\n".join(",".join(map(str, row)) for row in POINTS).encode(), ".txt"),
        (b"10\n" + "\n".join(" ".join(map(str, row)) for row in POINTS).encode(), ".pts"),
        (text(POINTS, *[[7]] * 10), ".pts"),
        (text(POINTS, *[[-7, 1, 2, 3]] * 10), ".pts"),
        (b"\xef\xbb\xbf" + text(POINTS, separator=";").replace(b"\n", b"\r\n"), ".xyz"),
        (pickled({"xyz": POINTS, "rgb": POINTS * 0}), ".npy"),
        (pickled({"text": "a", "points": POINTS.astype(np.float16)}), ".npy"),
        (pickled({"pc": POINTS.astype(np.float64)}, protocol=2), ".npy"),
        (npz(xyz=np.array({"xyz": POINTS}, object)), ".npz"),
    ],
)
def test_point_clouds_read(data, suffix):
    points = media.read_point_cloud(data, suffix)
    assert points.dtype == np.float32
    np.testing.assert_array_equal(points, POINTS)


def test_modelnets_resampled_text_is_read():
    both = np.random.default_rng(0).normal(size=(50, 6)).round(6)
    lines = "\n".join(",".join(f"{value:.6f}" for value in row) for row in both) + "\n"
    np.testing.assert_array_equal(media.read_point_cloud(lines.encode(), ".txt"), both.astype(np.float32))


def test_a_cloud_of_the_official_example_is_read():
    rng = np.random.default_rng(0)
    content = {
        "dataset": "Objaverse",
        "group": "000-000",
        "id": "0123456789abcdef",
        "text": ["a train"],
        "text_feat": [{"original": rng.normal(size=(1, 1280)), "prompt_avg": rng.normal(size=(1, 1280))}],
        "blip_caption": "a toy train",
        "blip_caption_feat": {"original": rng.normal(size=(1, 1280)).astype(np.float32)},
        "thumbnail_feat": rng.normal(size=1280),
        "retrieval_text": ["a red train"],
        "xyz": rng.normal(size=(10_000, 3)).astype(np.float16),
        "rgb": rng.uniform(size=(10_000, 3)).astype(np.float16),
        "image_feat": rng.normal(size=(12, 1280)).astype(np.float16),
    }
    points = media.read_point_cloud(npy(content, allow_pickle=True), ".npy")
    assert points.dtype == np.float32
    np.testing.assert_array_equal(points, content["xyz"])


def test_a_hostile_pickle_runs_nothing(tmp_path):
    data = pickled({"xyz": POINTS, "text": [Touch(tmp_path / "ran")]})
    with pytest.raises(ItemError, match=r"posix.system; only arrays, strings, numbers, lists and dicts are read"):
        media.read_point_cloud(data, ".npy")
    assert not (tmp_path / "ran").exists()
    np.load(io.BytesIO(data), allow_pickle=True)  # it is indeed what it seems
    assert (tmp_path / "ran").exists()


def test_a_pickle_of_absurd_size_is_not_read(monkeypatch):
    monkeypatch.setattr("cmcr.shapes.clouds._MAX_PICKLE", 300)
    with pytest.raises(ItemError, match="bytes; at most 300 are read"):
        media.read_point_cloud(pickled({"xyz": POINTS}), ".npy")


OFF = b"OFF\n4 4 6\n0 0 0\n1 0 0\n0 1 0\n0 0 1\n3 0 2 1\n3 0 1 3\n3 0 3 2\n3 1 2 3\n"
PLY = b"ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\nend_header\n"
SMALL_AND_LARGE = b"OFF\n6 2 0\n0 0 0\n1 0 0\n0 1 0\n0 0 5\n3 0 5\n0 3 5\n3 0 1 2\n3 3 4 5\n"


def test_mesh_is_sampled_the_same_way_each_time():
    first, second = media.read_point_cloud(OFF, ".off"), media.read_point_cloud(OFF, ".off")
    assert first.shape == (media.SURFACE_POINTS, 3)
    np.testing.assert_array_equal(first, second)
    np.random.seed(1)  # noqa: NPY002 - it is the global state that must not matter
    np.testing.assert_array_equal(media.read_point_cloud(OFF, ".off"), first)


def test_mesh_is_sampled_by_area():
    points = media.read_point_cloud(SMALL_AND_LARGE, ".off")
    assert 0.88 < (points[:, 2] == 5).mean() < 0.92  # a triangle of nine times the area of the other
    x, y = points[points[:, 2] == 5][:, :2].T / 3
    assert (x + y <= 1.001).all() and abs(x.mean() - 1 / 3) < 0.01 and abs((x + y < 0.5).mean() - 0.25) < 0.02


@pytest.mark.parametrize(
    "data",
    [
        OFF.replace(b"OFF\n", b"OFF"),
        OFF.replace(b"OFF\n", b"OFF "),
        OFF.replace(b"\n", b"\r\n"),
        b"# \xe9t\xe9\n\n" + OFF.replace(b"OFF\n", b"OFF # tetrahedron\n"),
    ],
    ids=["glued", "one line", "carriage returns", "comments"],
)
def test_off_headers_as_they_are_found(data):
    np.testing.assert_array_equal(media.read_point_cloud(data, ".off"), media.read_point_cloud(OFF, ".off"))


@pytest.mark.parametrize("kind", ["off", "obj", "ply", "stl"])
def test_every_mesh_format_gives_the_same_surface(kind):
    import trimesh

    box = trimesh.creation.box((2, 4, 6))
    data = box.export(file_type=kind)
    points = media.read_point_cloud(data.encode() if isinstance(data, str) else data, f".{kind}")
    assert points.shape == (media.SURFACE_POINTS, 3)
    np.testing.assert_allclose(np.abs(points / [1, 2, 3]).max(axis=1), 1, atol=1e-5)


def test_files_of_points_alone_are_taken_as_they_are():
    corners = b"0 0 0\n1 0 0\n0 2 0\n"
    expected = [[0, 0, 0], [1, 0, 0], [0, 2, 0]]
    assert media.read_point_cloud(PLY + corners, ".ply").tolist() == expected
    assert media.read_point_cloud(b"OFF\n3 0 0\n" + corners, ".off").tolist() == expected
    assert media.read_point_cloud(b"v " + corners[:-1].replace(b"\n", b"\nv "), ".obj").tolist() == expected


@pytest.mark.parametrize(
    ("kind", "place", "options"),
    [("stl_ascii", b"solid", {}), ("ply", b"comment", {}), ("ply", b"comment", {"encoding": "ascii"})],
    ids=["stl", "binary ply", "ply"],
)
def test_names_and_comments_may_be_in_any_encoding(kind, place, options):
    import trimesh

    data = trimesh.creation.box().export(file_type=kind, **options)
    data = data.encode() if isinstance(data, str) else data
    spoiled = data.replace(place, place + b" caf\xe9", 1)
    assert spoiled != data
    suffix = f".{kind[:3]}"
    np.testing.assert_array_equal(media.read_point_cloud(spoiled, suffix), media.read_point_cloud(data, suffix))


def test_an_obj_of_several_parts_in_another_encoding_is_one_surface():
    part = b"o caf\xe9\nv 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n"
    points = media.read_point_cloud(part + part.replace(b"0\n", b"7\n").replace(b"1 2 3", b"4 5 6"), ".obj")
    assert len(points) == media.SURFACE_POINTS and 0.4 < (points[:, 2] == 7).mean() < 0.6


def test_mesh_without_trimesh_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "trimesh", None)
    with pytest.raises(ItemError, match=r"pip install 'cmcr\[ulip\]'"):
        media.read_point_cloud(OFF, ".off")


def image(data):
    return media.read_image(data)


def audio(data):
    return media.read_audio(data, 16_000)


def cloud(suffix):
    return lambda data: media.read_point_cloud(data, suffix)


NOISE = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)


def noisy_jpeg():
    file = io.BytesIO()
    Image.fromarray(NOISE).save(file, "JPEG")
    return file.getvalue()


class Touch:
    """Pickles as a call that would create a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def npz_lying():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("points.npy", npy_header((10**9, 3)))
    return file.getvalue()


BAD = [
    (image, b"", "empty file"),
    (image, b"not a picture", "not a picture"),
    (image, noisy_jpeg()[:-200], "damaged picture: .*truncated"),
    (image, png()[:40], "picture"),
    (image, bomb_png(), "decompression bomb"),
    (image, wav(TONE), "not a picture"),
    (audio, b"", "empty file"),
    (audio, b"not a sound at all", "unknown sound"),
    (audio, png(), "unknown sound"),
    (audio, wav(TONE)[:9_000], "truncated sound: 9000 of 32044 bytes"),
    (audio, wav(TONE, kind="FLAC")[:4_000], "truncated sound: 8192 of 16000 samples"),
    (audio, wav(TONE[:0]), "no samples"),
    (audio, wav(np.array([0, np.nan, 1], np.float32), subtype="FLOAT"), "non-finite"),
    (audio, wav(np.array([0, np.inf, 1], np.float32), subtype="FLOAT"), "non-finite"),
    (audio, wav(np.zeros(3601 * 1000, np.float32), rate=1000, subtype="PCM_U8"), "3601 seconds; at most 3600"),
    (audio, wav(TONE, rate=10), "10 samples a second"),
    (cloud(".npy"), b"", "empty file"),
    (cloud(".npy"), b"\x93NUMPY", "damaged point cloud"),
    (cloud(".npy"), npy(POINTS)[:-1], "truncated array"),
    (cloud(".npy"), npy_header((10**12, 3)), "expected 1 to 50000000"),
    (cloud(".npy"), npy_header((10**7, 3)), "truncated array"),
    (cloud(".npy"), pickled({"a": 1, "b": 2}), "pickled dict of 'a', 'b'; expected one of points, xyz, pc"),
    (cloud(".npy"), pickled({"xyz": [1, 2, 3]}), "pickled list; expected an array"),
    (cloud(".npy"), pickled({"xyz": np.array(["a"])}), "pickled ndarray; expected an array of numbers"),
    (cloud(".npy"), pickled({"xyz": np.zeros((5, 4))}), r"shape \(5, 4\)"),
    (cloud(".npy"), pickled({"xyz": np.full((5, 3), np.inf)}), "non-finite"),
    (cloud(".npy"), pickled([POINTS]), r"pickled ndarray; expected an array of numbers"),
    (cloud(".npy"), pickled({"xyz": POINTS})[:-9], "damaged pickle|takes more"),
    (cloud(".npy"), pickled({"xyz": Touch("/nowhere")}), "pickle that wants posix.system"),
    (cloud(".npz"), npz(xyz=np.array(Touch("/nowhere"), object)), "pickle that wants posix.system"),
    (cloud(".npy"), npy(np.zeros((0, 3))), "0 points"),
    (cloud(".npy"), npy(np.zeros((4, 2))), r"shape \(4, 2\)"),
    (cloud(".npy"), npy(np.zeros(3)), r"expected \(N, 3\)"),
    (cloud(".npy"), npy(np.full((4, 3), np.nan)), "non-finite"),
    (cloud(".npy"), npy(np.full((4, 3), 1e300)), "non-finite"),
    (cloud(".npy"), npy(np.array([["a", "b", "c"]])), "expected numbers"),
    (cloud(".npz"), b"PK\x03\x04 no zip", "damaged point cloud"),
    (cloud(".npz"), npz_lying(), "expected 1 to 50000000"),
    (cloud(".npz"), npz(a=POINTS, b=POINTS), "expected one called points"),
    (cloud(".xyz"), b"1 2 3\n4 5\n", "damaged point cloud"),
    (cloud(".xyz"), b"a b c\n", "damaged point cloud"),
    (cloud(".xyz"), b"1 2 3 4\n", r"shape \(1, 4\)"),
    (cloud(".pts"), b"1 2 3 4 5\n", r"shape \(1, 5\)"),
    (cloud(".xyz"), b"# nothing\n", "0 points"),
    (cloud(".xyz"), b"\xff\xfe\x00", "damaged point cloud"),
    (cloud(".las"), b"LASF", "convert to .npy"),
    (cloud(".off"), OFF[:-9], "truncated mesh: 7 of 8 lines"),
    (cloud(".off"), OFF.replace(b"OFF\n", b"OFF")[:-20], "truncated mesh: 6 of 8 lines"),
    (cloud(".off"), OFF[:40], "truncated mesh: 5 of 8 lines"),
    (cloud(".off"), b"OFF\n3 1 0\n0 0 0\n1 0 0\n2 0 0\n3 0 1 2\n", "a mesh without area"),
    (cloud(".off"), OFF.replace(b"0 0 1\n", b"0 0 nan\n"), "non-finite vertices"),
    (cloud(".off"), b" \n", "damaged point cloud"),
    (cloud(".off"), b"OFF\n", "damaged point cloud"),
    (cloud(".off"), OFF.replace(b"3 1 2 3", b"3 1 2 9"), "damaged point cloud"),
    (cloud(".ply"), PLY + b"0 0 0\n", "truncated mesh: 1 of 3 lines"),
    (cloud(".ply"), PLY.replace(b"vertex 3", b"vertex 1000000000000"), "truncated mesh: 0 of 1000000000000"),
    (cloud(".ply"), b"ply\n", "damaged point cloud"),
    (cloud(".stl"), bytes(80) + b"\xff\xff\xff\x7f" + bytes(range(200)), "truncated mesh: 284 of 107374182434 bytes"),
    (cloud(".stl"), b"solid", "truncated mesh: 5 of 84 bytes"),
    (cloud(".stl"), b"solid a\nfacet normal 0 0 1\n", "truncated mesh: 0 of 1 facets"),
    (cloud(".obj"), b"# nothing\n", "0 points"),
]


@pytest.mark.parametrize(("read", "data", "reason"), BAD, ids=[reason for *_, reason in BAD])
def test_bad_bytes_are_an_item_error_with_a_stable_one_line_reason(read, data, reason):
    reasons = set()
    for _ in range(2):
        with pytest.raises(ItemError, match=reason) as caught:
            read(data)
        reasons.add(str(caught.value))
    assert len(reasons) == 1 and "\n" not in reasons.pop()


PICKLE_HEAD = npy_header((), "|O")


@given(
    st.binary(max_size=200),
    st.sampled_from(
        [b"", b"RIFF", b"\x93NUMPY\x01\x00", b"PK\x03\x04", b"\x89PNG\r\n\x1a\n", b"BM", b"GIF89a", PICKLE_HEAD, b"OFF"]
    ),
)
def test_any_bytes_are_decoded_or_refused(data, magic):
    for read in (image, audio, *map(cloud, (".npy", ".npz", ".xyz", ".pts", ".off", ".ply", ".obj", ".stl"))):
        try:
            assert read(magic + data) is not None
        except ItemError as error:
            assert " at 0x" not in str(error)


def test_bombs_are_refused_where_another_library_switched_pillows_guard_off(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with pytest.raises(ItemError, match="40000 x 40000 pixels; at most"):
        media.read_image(bomb_png())
