"""What every page has: words for what is drawn, tables that can be reached, where it comes from; and the extremes."""

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from spaces import make_memory, make_space, texts
from test_report import EVIL, Page, check_page, decoded, png

from cmcr.ask import ask, retrieval_page
from cmcr.ask import subject as subject_module
from cmcr.ask.retrieve import retrieve
from cmcr.demo import run as demo
from cmcr.evaluate.compare.page import compare_page
from cmcr.evaluate.compare.results import compare_results
from cmcr.evaluate.map.page import draw_points, lay_out, map_page, scatter
from cmcr.evaluate.result import Result
from cmcr.evaluate.retrieval.page import own_cosines, paired_page
from cmcr.evaluate.retrieval.pairs import PairedSide, measured
from cmcr.items import Item
from cmcr.memory import Memory
from cmcr.modality import Modality
from cmcr.report import Answer, Card, Media, Section, gallery, heat_map, heat_maps, interval_chart, line_chart
from cmcr.report import results_table as table
from cmcr.report.page import page, readable_path

TEXT, IMAGE, AUDIO = Modality.TEXT, Modality.IMAGE, Modality.AUDIO


def widths(markup):
    return [float(width) for width in re.findall(r"width:([\d.]+)%", str(markup))]


def test_a_page_says_by_what_and_when_it_was_made(monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    text = page("T", [])
    assert 'Made by cmcr 0.1.0 on <time datetime="1970-01-02">1970-01-02</time>.' in text
    assert text == page("T", [])
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    assert "Made by cmcr 0.1.0. " in page("T", [])
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    assert re.search(r"on <time datetime=\"20\d\d-\d\d-\d\d\">", page("T", []))


def test_a_long_page_begins_with_its_contents_and_links_lead_to_parts_and_to_files():
    sections = [Section(name) for name in ("one", "", "two", "three", "four", EVIL)]
    read = check_page(page("T", sections, links={EVIL: "result.json"}))
    targets = [link["href"] for link in read.of("a")]
    assert targets == ["#part-1", "#part-3", "#part-4", "#part-5", "#part-6", "result.json"]
    assert [section["id"] for section in read.of("section")] == [f"part-{n}" for n in range(1, 7)]
    assert not Page(page("T", sections[:4])).of("a")


def test_a_table_can_be_reached_and_scrolled_by_keyboard_and_has_a_name():
    read = Page(str(table(["", "n"], [["x", 1]], label=EVIL)) + str(table(["a", "b"], [["x", "y"]])))
    shown = [each for each in read.of("div") if each.get("role") == "region"]
    assert [each["aria-label"] for each in shown] == [EVIL, "table of a, b"]
    assert all(each["tabindex"] == "0" for each in shown)
    assert [each["scope"] for each in read.of("th")] == ["col"] * 3  # and no empty heading


def test_numbers_that_are_written_already_stand_to_the_right_and_ids_do_not():
    cells = ["0.731 ± 0.010", "+0.021", "1.1e-16", "12", "100.0 %", "00012", "+0.1 to +0.2", "c-mcr", ""]
    found = re.findall(r'<td( class="number")?>', str(table([*"abcdefghi"], [cells])))
    assert [bool(each) for each in found] == [True] * 5 + [False] * 4


def test_bars_of_a_row_are_shares_of_its_highest_score():
    def row(*scores):
        return widths(gallery([Answer(Card("q", Media("none")), [Card("h", Media("none"), 1, s) for s in scores])]))

    assert row(0.2, 0.1) == [100, 50]
    assert row(0.9, 0.45, -0.1) == [100, 50, 0]
    assert row(-0.1, -0.2) == [0, 0]
    assert Card("alone", Media("none"), 1, 0.2).bar == 20


def test_a_picture_is_told_by_its_caption_and_without_one_by_its_id():
    picture, sound = Media("image", "data:,"), Media("audio", "data:,")
    cards = [
        Card("i1", picture, 1, 0.5, says=EVIL),
        Card("i2", picture, 2, 0.4),
        Card("s", sound, 3, 0.3, says="a dog"),
    ]
    read = check_page(page("T", [Section("", body=gallery([Answer(Card("q", Media("text", text="q")), cards)]))]))
    assert [image["alt"] for image in read.of("img")] == [EVIL, "i2"]
    assert [audio["aria-label"] for audio in read.of("audio")] == ["a dog"]
    assert "a dog" in read.text


def test_a_curve_of_one_point_is_a_dash_that_can_be_seen():
    drawn = str(line_chart("recall", {"alone": [(0, 2)], "curve": [(0, 1), (4, 3)]}))
    (left, level), (right, other) = (
        map(float, point.split(",")) for point in re.findall(r'points="([^"]*)"', drawn)[0].split()
    )
    assert 0 <= left < right and level == other


def test_charts_say_what_is_seen_in_words():
    chart = Page(str(line_chart("loss", {"a": [(0, 2), (1, 0.5)], "none": []})))
    assert [each["aria-label"] for each in chart.of("div") if each.get("role") == "img"] == [
        "loss: a from 2 to 0.5; none without a point"
    ]
    alts = [image["alt"] for image in Page(str(heat_map("cosine", np.eye(3)))).of("img")]
    assert alts[0] == "cosine: 3 rows by 3 columns, from 0 to 1; on the diagonal 1 on average, elsewhere 0"


def test_words_of_a_chart_are_not_in_the_drawing_which_is_stretched():
    drawn = str(line_chart("loss", {"a": [(0, 2), (1, 0.5)]}, "epoch", "loss"))
    assert "<text" not in drawn and 'preserveAspectRatio="none"' in drawn


def test_maps_side_by_side_have_the_colours_of_one_scale():
    low, high = np.array([[0.0, 0.5]]), np.array([[0.5, 1.0]])
    pixels = []
    for uri in re.findall(r'<img src="([^"]*)" alt="[ab]:', str(heat_maps({"a": low, "b": high}))):
        from io import BytesIO

        from PIL import Image

        pixels.append(np.asarray(Image.open(BytesIO(decoded(uri)[1])))[0])
    assert (pixels[0][1] == pixels[1][0]).all()  # one half is one colour, wherever it stands
    assert (pixels[0][0] != pixels[1][1]).any()
    assert str(heat_maps({"a": low, "b": high})).count('class="scale"') == 1


def test_a_chart_of_groups_places_means_deviations_single_numbers_and_chance():
    drawn = str(interval_chart("recall@1", {"a": [0.2, 0.6], "b": [1.0], "none": [np.nan]}, guess=0.1))
    assert "0.400 ± 0.283" in drawn and ">1.000<" in drawn and "none" not in drawn
    assert [float(x) for x in re.findall(r'"mean" style="left:([\d.]+)%', drawn)] == [40, 100]
    assert [float(x) for x in re.findall(r'"one" style="left:([\d.]+)%', drawn)] == [20, 60]
    assert [float(x) for x in re.findall(r'"guess" style="left:([\d.]+)%', drawn)] == [10, 10]
    assert widths(drawn) == pytest.approx([2 * 28.28, 0], abs=0.1)
    assert "Line: chance, 0.1." in drawn
    assert "script>" not in str(interval_chart(EVIL, {EVIL: [1.0]})).replace("script&gt;", "")
    assert "<figure" in str(interval_chart("empty", {}))


def test_a_title_does_not_say_where_files_lie(tmp_path, monkeypatch):
    from spaces import load_fake_encoder

    monkeypatch.setattr(subject_module, "load_encoder", load_fake_encoder)
    memory = make_memory(tmp_path / "mem", "seer", {IMAGE: {"a": ("a.png", "a red drum", b"1")}, TEXT: texts(3)})
    space = make_space()
    (tmp_path / "dog.png").write_bytes(png())
    for asked, name in (
        (str(tmp_path / "dog.png"), "dog.png"),
        (f"{memory.path}#a", "mem#a"),
        ("and/or in a text", "and/or in a text"),
    ):
        query = ask(space, asked)
        text = retrieval_page([query], retrieve(space, [query], memory, IMAGE, k=1), memory, IMAGE)
        assert f"<h1>Nearest image to “{name}”</h1>" in text and str(tmp_path) not in text
        assert "a red drum" in text
    assert [readable_path(name) for name in ("/a/b", "b", "hf_clap:laion/x", "/a/b:c", ".")] == [
        "b", "b", "hf_clap:laion/x", "b:c", ".",
    ]  # fmt: skip


def test_a_result_is_written_as_json_and_csv(tmp_path):
    result = Result("retrieval", {'a, "b"': {"recall@1": 1 / 3}, "c": {"mAP": 0.5}}, 3, 3, {"recall@1": 0.25})
    result.write(tmp_path, "<html>")
    assert list(csv.reader((tmp_path / "result.csv").read_text().splitlines())) == [
        ["asked", "recall@1", "mAP"], ['a, "b"', repr(1 / 3), ""], ["c", "", "0.5"], ["chance", "0.25", ""],
    ]  # fmt: skip
    assert json.loads((tmp_path / "result.json").read_text())["n"] == 3
    assert (tmp_path / "index.html").read_text() == "<html>"


def paired(count=9, captions=1, seed=0):
    """Return texts and texts, of which the first side's rows lie near their partners, at very different distances."""
    rng = np.random.default_rng(seed)
    first = rng.normal(size=(count, 6))
    owners = np.repeat(np.arange(count), captions)
    second = first[owners] + rng.normal(size=(len(owners), 6)) * np.linspace(0.1, 3, len(owners))[:, None]
    sides = []
    for name, vectors, who in (("one", first, np.arange(count)), ("other", second, owners)):
        unit = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
        shown = [Item(f"{name}-{n}", TEXT, "x", text=f"{name} of {owner}") for n, owner in enumerate(who)]
        sides.append(PairedSide(name, TEXT, who, unit, shown))
    return measured((sides[0], sides[1]), [f"p{n}" for n in range(count)], settings={}, fingerprints={}, start=0.0)


@pytest.mark.parametrize("captions", [1, 3])
def test_own_cosines_are_those_of_the_nearest_partner(captions):
    found = paired(captions=captions)
    for queries, searched in found.directions().values():
        every = queries.vectors.astype(float) @ searched.vectors.T.astype(float)
        own = np.where(queries.owners[:, None] == searched.owners, every, -1).max(axis=1)
        assert np.allclose(own_cosines(queries, searched), own, atol=1e-6)


def test_the_worst_failures_stand_beside_the_best_hits():
    found = paired()
    text = paired_page(found, "/somewhere/space")
    assert "<h1>Retrieval in space</h1>" in text
    best, worst = re.search(r"<h3>Best hits</h3>(.*?)<h3>Worst failures</h3>(.*?)</section>", text, re.S).groups()
    ranks = found.ranks["one->other"]
    assert ranks.max() > 1, "there is something to fail"
    assert set(re.findall(r"<h4>rank (\d+) of 9</h4>", best)) == {"1"}
    shown = [int(rank) for rank in re.findall(r"<h4>rank (\d+) of 9</h4>", worst)]
    assert shown == sorted(ranks[ranks > 1].tolist(), reverse=True)[:3]
    assert 'aria-label="right"' in worst, "the right answer is shown where it lies"
    own = own_cosines(*found.sides)
    first = max(np.flatnonzero(ranks == 1), key=lambda row: own[row])
    assert best.index(f"one of {first}") < min(
        best.find(f"<blockquote>one of {n}<") % len(best) for n in range(9) if n != first
    )
    perfect = replace(found, ranks={name: np.ones(9, int) for name in found.ranks})
    assert "Worst failures" not in paired_page(perfect, "space")


def write_results(folder, numbers):
    for pair in demo.PAIRS:
        for method in pair.methods:
            value = numbers.get(method, 0.1)
            values = {name: dict.fromkeys(("recall@1", "recall@5", "recall@10"), value) for name in ("a->b", "b->a")}
            path = folder / "results" / f"{demo.name_of(pair, method)}.json"
            Result("x", values, 9, 9, dict.fromkeys(("recall@1", "recall@5", "recall@10"), 0.01)).save(path)


@pytest.mark.parametrize("winner", ["c-mcr", "linear", "route"])
def test_the_demo_sets_off_whoever_wins(tmp_path, winner):
    write_results(tmp_path, {winner: 0.9})
    rows = re.findall(r'<tr class="strong"><td>[^<]*</td><td>([^<]*)</td>', demo._results(tmp_path).body)
    among = [pair for pair in demo.PAIRS if winner in pair.methods]
    assert rows.count(winner) == 2 * len(among)
    others = sum(len(pair.methods) for pair in demo.PAIRS if winner not in pair.methods)
    assert len(rows) == 2 * (len(among) + others)  # where it takes no part all are equal, and all are set off


def test_the_demo_links_to_the_pages_that_are_there(tmp_path):
    assert demo._links(tmp_path) == {}
    (tmp_path / "map.html").write_text("")
    assert list(demo._links(tmp_path).values()) == ["map.html"]
    written = [step[step.index("--html" if "--html" in step else "-o") + 1] for _, steps in demo.commands(tmp_path)
               for step in steps if step[0] in ("retrieve", "map")]  # fmt: skip
    assert sorted(Path(each).name for each in written) == ["hits.html", "map.html"]


def test_a_comparison_draws_means_and_deviations_of_its_groups(tmp_path):
    for name, method, value in (("a0", "linear", 0.5), ("a1", "linear", 0.7), ("b0", "route", 0.9)):
        settings, chance = {"method": method}, {"mAP": 0.2, "recall@1": 0.1}
        values = {"x->y": {"recall@1": value, "mAP": 1.0}}
        Result("retrieval", values, 9, 9, chance, settings).save(tmp_path / name / "result.json")
    found = compare_results([str(tmp_path / name) for name in ("a0", "a1", "b0")])
    found.write(tmp_path / "out", compare_page(found))
    text = (tmp_path / "out" / "index.html").read_text()
    assert "x → y: recall@1" in text and "0.600 ± 0.141" in text
    assert [float(x) for x in re.findall(r'"mean" style="left:([\d.]+)%', text)] == [60, 90]
    rows = list(csv.reader((tmp_path / "out" / "comparison.csv").read_text().splitlines()))
    assert ["x->y", "route", "recall@1", "0.9", "", "1"] in rows and len(rows) == 5
    assert json.loads((tmp_path / "out" / "comparison.json").read_text())["benchmark"] == "retrieval"


def test_in_a_map_of_several_encoders_colour_tells_the_encoder_and_shape_the_modality(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pictures = {f"x{n}": (f"p{n}.png", None, b"%d" % n) for n in range(9)}
    seen = make_memory(tmp_path / "seen", "seer", {IMAGE: pictures, TEXT: texts(8)})
    heard = make_memory(tmp_path / "heard", "hearer", {AUDIO: pictures, TEXT: texts(7)})
    points = draw_points([(seen, None), (heard, None)], make_space())
    assert points.by == "encoder+modality"
    assert points.counts == {"hearer: audio": 9, "seer: image": 9, "seer: text": 8, "hearer: text": 7}
    drawn = map_page(points, lay_out(points), "a map", {})
    assert "Colour tells the encoder, shape the modality." in drawn
    looks = re.findall(
        r'<path d="([^"]+)" fill="([^"]+)"/></svg>([^<]+) <b>', scatter(points, lay_out(points), "a map")
    )
    look = {name: (shape, colour) for shape, colour, name in looks}
    assert look["seer: text"][0] == look["hearer: text"][0] != look["seer: image"][0]
    assert look["seer: text"][1] == look["seer: image"][1] != look["hearer: text"][1]
    assert len(set(look.values())) == 4
    alone = draw_points([(Memory.open("seen"), None)], make_space())
    assert alone.by == "modality" and alone.counts == {"image": 9, "text": 8}
