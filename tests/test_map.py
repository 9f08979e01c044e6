"""Maps: every drawn row is one mark, groups are counted, texts are escaped, and a seed gives one page."""

import itertools
import json
import re
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from browser import visit
from spaces import make_memory, make_space, texts

from cmcr.cli import main
from cmcr.errors import ArtifactError, InputError
from cmcr.evaluate.map.page import COLOURS, GROUPS, SHAPES, draw_points, lay_out, scatter
from cmcr.memory import Memory
from cmcr.modality import Modality
from cmcr.numbers.plane import pca

TEXT, IMAGE, AUDIO = Modality.TEXT, Modality.IMAGE, Modality.AUDIO
EVIL = "<script>alert(1)</script>\"'&"


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_space().save("space")
    make_space(names=("hearer",)).save("heard-space")
    pictures = {f"x{n}": (f"../{'cats' if n % 3 else 'dogs'}/p{n}.png", None, b"%d" % n) for n in range(30)}
    make_memory(tmp_path / "seen", "seer", {IMAGE: pictures, TEXT: texts(10) | {"evil": ("t", EVIL, b"evil")}})
    make_memory(tmp_path / "heard", "hearer", {AUDIO: {f"x{n}": (f"s{n}.wav", None, b"%d" % n) for n in range(20)}})
    (tmp_path / "labels.txt").write_text("".join(f"x{n}\tkind {n % 4}\n" for n in range(29)))
    return tmp_path


def run(capsys, *argv):
    code = main(["map", *map(str, argv)])
    out, err = capsys.readouterr()
    return code, out, err


def marks(page):
    svg = re.search(r"<svg.*?</svg>", page, re.S).group()
    return [
        (use.get("href"), float(use.get("x")), float(use.get("y")), use.find("title").text)
        for use in ElementTree.fromstring(svg).iter("use")
    ]


def legend(page):
    items = re.findall(r"</svg>([^<]+) <b>([\d,]+)</b>", page)
    return {name: int(count.replace(",", "")) for name, count in items}


def test_every_row_is_one_mark_in_the_look_of_its_group(place, capsys):
    code, out, err = run(capsys, "seen", "-o", "map.html")
    assert code == 0, err
    page = Path("map.html").read_text()
    found = marks(page)
    assert Counter(look for look, *_ in found) == {"#g0": 30, "#g1": 11}
    assert legend(page) == {"image": 30, "text": 11}
    assert out == "group\tpoints\nimage\t30\ntext\t11\n"
    assert all(("(image)" in title) == (look == "#g0") for look, _, _, title in found)
    assert "wrote map.html" in err
    assert "next: cmcr map seen --space SPACE" in err


def test_nothing_in_a_text_gets_out_of_its_place(place, capsys):
    run(capsys, "seen", "-o", "map.html")
    page = Path("map.html").read_text()
    assert "<script" not in page
    assert any(title == f"evil: {EVIL} (text)" for *_, title in marks(page))
    run(capsys, "seen", "--labels", write_labels(place, {"x1": EVIL}), "-o", "map.html")
    assert "<script" not in Path("map.html").read_text()


def write_labels(place, labels):
    path = place / "given.txt"
    path.write_text("".join(f"{name}\t{label}\n" for name, label in labels.items()))
    return path


def test_marks_lie_where_the_components_say_with_one_scale(place):
    points = draw_points([(Memory.open("seen"), IMAGE)], None)
    layout = lay_out(points)
    xy, shares = pca(points.vectors)
    assert layout.explained == shares
    page = scatter(points, layout, "a map")
    placed = np.array([(x, -y) for _, x, y, _ in marks(page)])
    scale = np.ptp(placed, axis=0) / np.ptp(xy, axis=0)
    assert scale[0] == pytest.approx(scale[1], rel=0.01)
    assert np.allclose(placed - placed.mean(axis=0), (xy - xy.mean(axis=0)) * scale[0], atol=0.2)
    assert f"first component, {100 * shares[0]:.1f} % of the variance" in page


def test_groups_are_drawn_in_a_mixed_order_so_that_none_covers_the_others(place):
    groups = draw_points([(Memory.open("seen"), None)], None).groups
    changes = sum(one != other for one, other in itertools.pairwise(groups))
    assert changes > 5


def test_rows_in_a_space_are_its_projections(place):
    space = make_space()
    memories = [(Memory.open("seen"), None), (Memory.open("heard"), None)]
    points = draw_points(memories, space, by="encoder")
    assert points.counts == {"seer": 41, "hearer": 20}
    seen, heard = (memory for memory, _ in memories)
    expected = {
        (memory, name): vector
        for memory, modality in ((seen, IMAGE), (seen, TEXT), (heard, AUDIO))
        for name, vector in zip(memory.ids(modality), space.project(memory, modality=modality), strict=True)
    }
    for name, group, vector in zip(points.ids, points.groups, points.vectors, strict=True):
        assert np.allclose(vector, expected[seen if group == "seer" else heard, name], atol=1e-6)


def test_a_draw_is_the_seeds_and_says_of_how_many(place, capsys):
    pages = []
    for number, seed in enumerate((0, 0, 1)):
        _, _, err = run(capsys, "seen", "--limit", "12", "--seed", seed, "-o", f"{number}.html")
        assert "12 of 41 rows were drawn" in err
        pages.append(Path(f"{number}.html").read_text())
    assert pages[0] == pages[1] != pages[2]
    assert "12 of 41 rows, drawn at random" in pages[0]
    assert sum(legend(pages[0]).values()) == len(marks(pages[0])) == 12


def test_drawn_rows_carry_their_own_vectors(place):
    memory = Memory.open("seen")
    vector_of = dict(zip(memory.ids(IMAGE), memory.vectors(IMAGE), strict=True))
    points = draw_points([(memory, IMAGE)], None, limit=9, seed=4)
    assert len(set(points.ids)) == 9
    assert all(np.array_equal(v, vector_of[name]) for name, v in zip(points.ids, points.vectors, strict=True))


@pytest.mark.parametrize(
    ("options", "groups"),
    [
        (["seen:image", "--by", "folder"], {"cats": 20, "dogs": 10}),
        (["seen", "heard", "--space", "space", "--by", "memory"], {"seen": 41, "heard": 20}),
        (["seen:image", "--labels", "labels.txt"], {"kind 0": 8, "kind 1": 7, "kind 2": 7, "kind 3": 7, "no label": 1}),
    ],
)
def test_what_names_a_group(place, capsys, options, groups):
    code, out, err = run(capsys, *options, "-o", "map.html", "--json")
    assert code == 0, err
    shown = json.loads(out)
    assert shown["groups"] == groups
    assert legend(Path("map.html").read_text()) == groups
    assert len(shown["rows"]) == shown["points"] == sum(groups.values())
    assert set(shown["rows"][0]) == {"id", "group", "x", "y"}
    assert 0 < sum(shown["explained"]) <= 1


def test_many_groups_keep_their_own_look_and_the_rest_share_one(place):
    labels = {f"x{n}": f"kind {n:02d}" for n in range(30)}
    points = draw_points([(Memory.open("seen"), IMAGE)], None, by="label", labels=labels)
    page = scatter(points, lay_out(points), "a map")
    shown = legend(page)
    assert len(shown) == GROUPS + 1
    assert shown[f"other ({30 - GROUPS} groups)"] == 30 - GROUPS
    looks = re.findall(r'<path id="g\d+" class="mark" d="([^"]+)" fill="([^"]+)"', page)
    assert len(set(looks)) == GROUPS + 1
    assert len({shape for shape, _ in looks[: len(SHAPES)]}) == len(SHAPES)
    assert len({colour for _, colour in looks[: len(COLOURS)]}) == len(COLOURS)


def test_what_the_space_lacks_is_left_out_and_said(place, capsys):
    space = make_space()
    entry = space.encoders["seer"]
    space.encoders["seer"] = type(entry)(entry.name, entry.fingerprint, entry.dim, (IMAGE,))
    points = draw_points([(Memory.open("seen"), None)], space)
    assert points.counts == {"image": 30}
    assert points.notes == ("11 text rows of seen were left out: the space has none",)
    with pytest.raises(InputError, match="text"):
        draw_points([(Memory.open("seen"), TEXT)], space)


def test_refusals(place):
    seen, heard = Memory.open("seen"), Memory.open("heard")
    with pytest.raises(InputError, match="several encoders share no space; give --space"):
        draw_points([(seen, None), (heard, None)], None)
    with pytest.raises(InputError, match="heard holds audio, no image"):
        draw_points([(heard, IMAGE)], None)
    with pytest.raises(ArtifactError, match="made by seer"):
        draw_points([(seen, None)], make_space(names=("hearer",)))
    with pytest.raises(InputError, match="none of the 20 drawn rows has one of the 1 labels"):
        draw_points([(heard, None)], None, by="label", labels={"nobody": "x"})


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["seen", "--by", "label"], 2),
        (["seen", "--by", "folder", "--labels", "labels.txt"], 2),
        (["seen", "--label-field", "kind"], 2),
        (["none"], 1),
        (["seen", "heard"], 1),
    ],
)
def test_exit_codes(place, capsys, options, code):
    assert run(capsys, *options)[0] == code
    assert not Path("map.html").exists()


def test_umap_says_that_no_share_is_known(place, capsys, monkeypatch):
    monkeypatch.setattr("cmcr.numbers.plane.umap", lambda vectors, seed: vectors[:, :2].astype(float))
    code, out, _ = run(capsys, "seen", "--method", "umap", "--json")
    page = Path("map.html").read_text()
    assert code == 0
    assert json.loads(out)["explained"] is None
    assert "UMAP keeps neighbourhoods" in page
    assert "of the variance" not in page


@pytest.mark.slow
def test_the_page_opens(place, capsys):
    run(capsys, "seen", "-o", "map.html")
    assert visit(place / "map.html")["svg"] == 3
