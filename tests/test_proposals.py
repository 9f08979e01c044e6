"""Grids, files of boxes, selective search, and what is cut out of a picture."""

import json
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cmcr.errors import InputError, ItemError, MissingExtraError
from cmcr.evaluate.localization import proposals
from cmcr.evaluate.localization.proposals import (
    CROP_SIDE,
    GRIDS,
    crop,
    grid,
    iou,
    open_proposals,
    read_boxes,
    selective_search,
)
from cmcr.items import Item
from cmcr.modality import Modality


def picture(name="a", path=None):
    return Item(name, Modality.IMAGE, f"{name}.png", path=path)


def striped(width, height):
    """A picture whose every pixel says where it is."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return Image.fromarray(np.stack([x % 256, y % 256, x // 256 * 16 + y // 256], axis=-1).astype(np.uint8))


@pytest.mark.parametrize(("name", "count"), [("grid", 100), ("fine-grid", 324)])
def test_a_grid_is_many_windows_of_a_few_sizes_from_edge_to_edge(name, count):
    boxes = open_proposals(name).boxes(picture())
    assert boxes.shape == (count, 4) and len(np.unique(boxes, axis=0)) == count
    assert (boxes[0] == [0, 0, 1, 1]).all() and boxes.min() == 0 and boxes.max() == 1
    widths, heights = (np.round(boxes[:, 2 + axis] - boxes[:, axis], 3) for axis in (0, 1))
    assert set(widths) == set(heights) == set(GRIDS[name])
    for side in GRIDS[name]:
        starts = np.unique(boxes[widths == side, 0])
        assert starts[0] == 0 and starts[-1] == pytest.approx(1 - side)
        assert (np.diff(starts) <= side / 2 + 1e-4).all()
    mirrored = np.round(1 - boxes[:, [2, 1, 0, 3]], 4)
    mirrored[:, [1, 3]] = boxes[:, [1, 3]]
    assert set(map(tuple, mirrored)) == set(map(tuple, boxes))


def test_no_box_of_a_third_or_more_is_far_from_the_grid():
    """The oracle over boxes with both sides between 0.3 and 1 of the picture's."""
    rng = np.random.default_rng(0)
    sides = rng.uniform(0.3, 1, (2000, 2))
    starts = rng.random((2000, 2)) * (1 - sides)
    truths = np.concatenate([starts, starts + sides], axis=1)
    best = {name: iou(truths, grid(GRIDS[name])).max(axis=1) for name in GRIDS}
    assert best["grid"].mean() > 0.6 and best["fine-grid"].mean() > 0.65
    assert np.mean(best["grid"] >= 0.5) > 0.8 and np.mean(best["fine-grid"] >= 0.5) > 0.95


@pytest.mark.parametrize("choice", ["gird", "no/such/file.json"])
def test_an_unknown_choice_names_the_known_ones(choice):
    with pytest.raises(InputError, match="expected grid, fine-grid, selective-search, or a JSON file"):
        open_proposals(choice)
    if choice == "gird":
        with pytest.raises(InputError, match="did you mean 'grid'"):
            open_proposals(choice)


def test_boxes_from_a_file(tmp_path):
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps({"a": [[0.5, 0, 1, 1], [0, 0, 0.25, 1.00001], [0.5, 0, 1, 1]], "b": [[0, 0, 1, 1]]}))
    given_boxes = open_proposals(str(path))
    np.testing.assert_array_equal(given_boxes.boxes(picture("a")), [[0.5, 0, 1, 1], [0, 0, 0.25, 1]])
    with pytest.raises(ItemError, match="no proposals in"):
        given_boxes.boxes(picture("c"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[", "not JSON"),
        ("[1]", "no object with entries"),
        ("{}", "no object with entries"),
        ('{"a": []}', "'a': expected a list of boxes"),
        ('{"a": [[0, 0, 1]]}', "'a': expected a list of boxes"),
        ('{"a": [[0, 0, 1, "x"]]}', "'a': expected a list of boxes"),
        ('{"a": [[0, 0, 1, 1], 3]}', "'a': expected a list of boxes"),
        ('{"a": [[0.5, 0, 0.2, 1]]}', r"'a': box \[0.5, 0.0, 0.2, 1.0\]; expected fractions"),
        ('{"a": [[0, 0, 1, NaN]]}', "expected fractions"),
        ('{"a": [[1.2, 0, 1.9, 1]]}', "expected fractions"),
        ('{"a": [[30, 40, 200, 220]]}', "expected fractions"),
    ],
)
def test_a_bad_file_of_boxes_is_refused_with_the_place(tmp_path, content, said):
    path = tmp_path / "boxes.json"
    path.write_text(content)
    with pytest.raises(InputError, match=said):
        read_boxes(path)


def test_selective_search_says_what_to_install(monkeypatch):
    for module in (None, ModuleType("cv2")):  # not there at all, or without the contributed modules
        monkeypatch.setitem(sys.modules, "cv2", module)
        with pytest.raises(MissingExtraError, match=r"pip install 'cmcr\[opencv\]'"):
            open_proposals("selective-search")
    with pytest.raises(InputError, match="--limit 0"):
        open_proposals("selective-search", limit=0)


@pytest.fixture
def fake_opencv(monkeypatch):
    """Let OpenCV find these rectangles (x, y, width, height); counts the searches and keeps the last picture."""
    seen = SimpleNamespace(rectangles=[], pictures=[])

    class Search:
        def setBaseImage(self, image):  # noqa: N802 - OpenCV's name
            seen.pictures.append(image)

        def switchToSelectiveSearchFast(self):  # noqa: N802
            pass

        def process(self):
            return np.array(seen.rectangles, np.int32)

    module = ModuleType("cv2")
    module.__version__ = "5.fake"
    module.ximgproc = SimpleNamespace(segmentation=SimpleNamespace(createSelectiveSearchSegmentation=Search))
    monkeypatch.setitem(sys.modules, "cv2", module)
    return seen


def test_what_a_selective_search_finds_is_sorted_thinned_and_limited(fake_opencv):
    fake_opencv.rectangles = [(0, 0, 10, 10), (20, 20, 50, 50), (20, 20, 50, 52), (0, 0, 5, 5), (40, 0, 60, 30)]
    image = Image.new("RGB", (100, 100), (250, 0, 0))
    expected = [[0, 0, 1, 1], [0.2, 0.2, 0.7, 0.72], [0.4, 0, 1, 0.3], [0, 0, 0.1, 0.1]]  # nearly equal, and tiny: out
    np.testing.assert_allclose(selective_search(image), expected)
    np.testing.assert_allclose(selective_search(image, limit=2), expected[:2])
    fake_opencv.rectangles.reverse()
    np.testing.assert_allclose(selective_search(image), expected)
    assert fake_opencv.pictures[0][0, 0].tolist() == [0, 0, 250]  # blue first, as OpenCV has it
    selective_search(Image.new("RGB", (1000, 500)))
    assert fake_opencv.pictures[-1].shape == (100, 200, 3)


def test_a_selective_search_is_kept_by_content_and_settings(fake_opencv, tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGB", (60, 60)).save(path)
    fake_opencv.rectangles = [(0, 0, 30, 60)]
    boxes = [open_proposals("selective-search", keep=tmp_path / "kept").boxes(picture(path=path)) for _ in range(2)]
    np.testing.assert_array_equal(boxes[0], boxes[1])
    assert len(fake_opencv.pictures) == 1
    open_proposals("selective-search", limit=3, keep=tmp_path / "kept").boxes(picture(path=path))
    assert len(fake_opencv.pictures) == 2
    Image.new("RGB", (60, 60), "red").save(path)
    open_proposals("selective-search", keep=tmp_path / "kept").boxes(picture(path=path))
    assert len(fake_opencv.pictures) == 3
    path.write_bytes(b"no picture")
    with pytest.raises(ItemError, match="not a picture"):
        open_proposals("selective-search").boxes(picture(path=path))


def test_opencv_itself_finds_what_stands_out():
    cv2 = pytest.importorskip("cv2", reason="opencv-contrib-python-headless is not installed")
    if not hasattr(cv2, "ximgproc"):
        pytest.skip("this OpenCV has no ximgproc: opencv-contrib-python-headless is not installed")
    pixels = np.full((120, 160, 3), 220, np.uint8)
    pixels[30:90, 40:100] = (200, 30, 30)
    found = selective_search(Image.fromarray(pixels))
    assert (found[0] == [0, 0, 1, 1]).all()
    assert iou(np.array([[40 / 160, 30 / 120, 100 / 160, 90 / 120]]), found).max() > 0.85
    for _ in range(2):  # OpenCV deals its boxes out in random order
        np.testing.assert_array_equal(selective_search(Image.fromarray(pixels)), found)
    assert open_proposals("selective-search").settings["opencv"] == cv2.__version__


def test_overlaps_of_many_boxes_agree_with_one_at_a_time():
    rng = np.random.default_rng(0)
    first, second = (np.sort(rng.random((n, 2, 2)), axis=1).reshape(n, 4) for n in (5, 7))
    for a, row in zip(first, iou(first, second), strict=True):
        for b, value in zip(second, row, strict=True):
            shared = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
            areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
            assert value == pytest.approx(shared / (areas - shared))


def test_a_crop_is_the_pixels_of_the_box():
    image = striped(200, 100)
    assert np.array_equal(crop(image, np.array([0.0, 0, 1, 1])), image)
    part = np.asarray(crop(image, np.array([0.25, 0.5, 0.75, 1.0])))
    np.testing.assert_array_equal(part, np.asarray(image)[50:100, 50:150])


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.lists(st.floats(0, 1), min_size=4, max_size=4))
def test_a_crop_holds_its_box_and_is_never_smaller_than_the_least(width, height, corners):
    (x0, x1), (y0, y1) = sorted(corners[:2]), sorted(corners[2:])
    cut = np.asarray(crop(striped(width, height), np.array([x0, y0, x1, y1])))
    assert cut.shape[0] >= min(CROP_SIDE, height) and cut.shape[1] >= min(CROP_SIDE, width)
    assert cut[0, 0, 0] <= x0 * width and cut[0, 0, 1] <= y0 * height
    assert cut[-1, -1, 0] + 1 >= x1 * width - 1e-9 and cut[-1, -1, 1] + 1 >= y1 * height - 1e-9
    assert cut[-1, -1, 0] < width and cut[-1, -1, 1] < height
    assert cut.shape == (cut[-1, 0, 1] - cut[0, 0, 1] + 1, cut[0, -1, 0] - cut[0, 0, 0] + 1, 3)


def test_every_choice_of_the_module_is_offered():
    assert {*proposals.GRIDS, proposals.SELECTIVE_SEARCH} == {"grid", "fine-grid", "selective-search"}
