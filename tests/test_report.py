"""Pages hold what they show, fetch nothing, escape every text and never fail on a source."""

import base64
import io
import re
import tarfile
import wave
from html.parser import HTMLParser

import numpy as np
import pytest
import soundfile
from browser import visit
from PIL import Image
from spaces import load_fake_encoder, make_memory, make_space

from cmcr.ask import ask, retrieval_page
from cmcr.ask import subject as subject_module
from cmcr.ask.retrieve import retrieve
from cmcr.decode.sounds import read_audio
from cmcr.items import Item
from cmcr.modality import Modality
from cmcr.report import (
    Answer,
    Card,
    Media,
    Previews,
    Section,
    beside,
    draw_point_cloud,
    gallery,
    heat_map,
    line_chart,
    results_table,
)
from cmcr.report import previews as shown_by
from cmcr.report.charts import colours, number
from cmcr.report.opus import encode_opus
from cmcr.report.page import page
from cmcr.report.previews import AUDIO_RATE, PAGE_BYTES, TEXT_CHARACTERS, THUMBNAIL, show_sound

TEXT, IMAGE, AUDIO, CLOUD = Modality.TEXT, Modality.IMAGE, Modality.AUDIO, Modality.POINT_CLOUD
EVIL = "<script>alert(1)</script>\"'&"


def png(size=(800, 400), colour=(200, 30, 30)):
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def wav(seconds=0.5, rate=8000, channels=2):
    buffer = io.BytesIO()
    tone = np.sin(np.arange(int(seconds * rate)) / 5)[:, None].repeat(channels, axis=1) * 0.5
    soundfile.write(buffer, tone, rate, format="WAV")
    return buffer.getvalue()


def npy(points=500, columns=3):
    buffer = io.BytesIO()
    np.save(buffer, np.random.default_rng(0).random((points, columns)).astype(np.float32))
    return buffer.getvalue()


def decoded(uri):
    kind, _, data = uri.partition(";base64,")
    return kind, base64.b64decode(data)


class Page(HTMLParser):
    """Collects tags, and fails on what is not well nested."""

    VOID = frozenset({"meta", "link", "img", "line"})

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.text = [], [], ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data

    def of(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def check_page(text):
    read = Page(text)
    assert read.of("html") == [{"lang": "en"}]
    assert "<title>" in text.partition("<body>")[0]
    assert not read.of("script")
    for _, attributes in read.tags:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href"):
            where = attributes.get(name, "data:")
            assert where.startswith(("data:", "#part-")) or re.fullmatch(r"[a-z]+\.[a-z]+", where)  # or beside the page
    assert "http://" not in text
    assert "https://" not in text
    assert all(attributes.get("alt") for attributes in read.of("img"))
    assert all(attributes.get("aria-label") for attributes in read.of("audio"))
    return read


def test_a_picture_is_a_thumbnail_a_sound_is_mono_opus_a_cloud_is_drawn_a_text_is_itself():
    previews = Previews()
    kind, data = decoded(previews.of(IMAGE, png()).uri)
    assert kind == "data:image/jpeg"
    assert Image.open(io.BytesIO(data)).size == (THUMBNAIL, THUMBNAIL // 2)
    kind, data = decoded(previews.of(AUDIO, wav()).uri)
    assert kind == "data:audio/ogg"
    sound = soundfile.info(io.BytesIO(data))
    assert (sound.subtype, sound.channels) == ("OPUS", 1)
    assert sound.duration == pytest.approx(0.5, abs=0.03)
    kind, data = decoded(previews.of(CLOUD, npy(), ".npy").uri)
    assert kind == "data:image/png"
    assert np.ptp(np.asarray(Image.open(io.BytesIO(data)))) > 100
    assert previews.of(TEXT, b"a bell", ".txt") == Media("text", text="a bell")


def test_a_long_sound_is_cut_and_says_so_and_a_long_text_is_shortened():
    media = Previews().of(AUDIO, wav(seconds=12))
    assert media.note == "its first ten seconds"
    assert len(media.uri) < 60_000
    assert len(Previews().of(TEXT, None, text="x" * 9999).text) == TEXT_CHARACTERS


def test_a_sound_is_what_it_was_and_the_same_bytes_again():
    tone = np.sin(np.arange(AUDIO_RATE) / 9).astype(np.float32) * 0.5
    (_, data), again = decoded(show_sound(tone).uri), show_sound(tone)
    heard = read_audio(data, AUDIO_RATE)
    assert len(heard) == len(tone)
    assert np.corrcoef(heard, tone)[0, 1] > 0.95
    assert decoded(again.uri)[1] == data


def test_without_an_encoder_of_opus_a_sound_is_wav_and_that_is_said(monkeypatch):
    monkeypatch.setattr(shown_by, "encode_opus", lambda samples, rate: None)
    media = Previews().of(AUDIO, wav(seconds=12))
    assert media.note == "its first ten seconds, as WAV: this FFmpeg encodes no Opus"
    kind, data = decoded(media.uri)
    assert kind == "data:audio/wav"
    with wave.open(io.BytesIO(data)) as sound:
        assert (sound.getnchannels(), sound.getframerate(), sound.getnframes()) == (1, AUDIO_RATE, 10 * AUDIO_RATE)


def test_an_ffmpeg_without_opus_encodes_nothing(monkeypatch):
    monkeypatch.setattr("cmcr.report.opus.CODEC", "no_such_codec")
    assert encode_opus(np.zeros(9), AUDIO_RATE) is None


@pytest.mark.parametrize(
    ("modality", "data", "suffix", "words"),
    [
        (IMAGE, None, ".png", "file not found"),
        (IMAGE, b"no picture", ".png", ""),
        (AUDIO, b"RIFF", ".wav", ""),
        (CLOUD, b"\x93NUMPY", ".npy", ""),
        (TEXT, None, "", "text not kept"),
    ],
)
def test_a_source_that_is_gone_or_broken_leaves_a_note(modality, data, suffix, words):
    media = Previews().of(modality, data, suffix)
    assert (media.kind, media.uri) == ("none", "")
    assert media.note
    assert words in media.note


def test_the_page_stays_within_its_budget_and_says_what_it_left_out():
    previews = Previews(budget=3000)
    shown = [previews.of(IMAGE, png()) for _ in range(9)]
    kinds = [media.kind for media in shown]
    assert kinds[0] == "image"
    assert kinds[-1] == "none"
    assert shown[-1].note == "left out to keep the page small"
    assert sum(len(media.uri) for media in shown) < 3000 + len(shown[0].uri)
    assert previews.of(TEXT, None, text="still shown").text == "still shown"
    assert PAGE_BYTES <= 64 << 20


def test_every_text_is_escaped():
    card = Card(EVIL, Media("image", "data:,", note=EVIL), rank=1, score=0.5, mark="right")
    text = Card(EVIL, Media("text", text=EVIL))
    parts = [
        gallery([Answer(text, [card, card], heading=EVIL)]),
        line_chart(EVIL, {EVIL: [(0, 1), (1, 2)]}, EVIL, EVIL),
    ]
    parts += [heat_map(EVIL, np.eye(2), row_label=EVIL, column_label=EVIL), results_table([EVIL], [[EVIL]])]
    read = check_page(page(EVIL, [Section(EVIL, EVIL, part) for part in parts], lead=EVIL, facts={EVIL: EVIL}))
    assert read.text.count("<script>alert(1)</script>") > 10
    assert read.of("img")[0]["alt"] == EVIL


def test_an_answer_shows_ranks_scores_and_whether_they_are_right():
    hits = [Card("a", Media("none"), 1, 0.75, "right"), Card("b", Media("none"), 2, -0.2, "wrong")]
    hits.insert(1, Card("c", Media("none"), 2, 0.6))
    text = str(gallery([Answer(Card("q", Media("text", text="a query")), hits), Answer(Card("p", Media("none")), [])]))
    assert re.findall(r"width:(\d+)%", text) == ["100", "80", "0"]  # of the highest score of the row
    assert "0.750" in text
    assert "-0.200" in text
    assert text.count("✓") == text.count("✗") == 1
    assert "nothing found" in text


def test_a_line_chart_places_its_points_inside_and_leaves_out_what_is_not_finite():
    chart = str(
        line_chart("loss", {"a": [(0, 1.0), (1, 0.5), (2, np.nan)], "b": [(0, 3.0), (2, np.inf)], "c": []}, "epoch")
    )
    lines = re.findall(r'<polyline[^>]*points="([^"]*)"', chart)
    assert [len(line.split()) for line in lines] == [2, 2, 0]  # a single point is a dash
    (x0, y0), (x1, y1) = (map(float, point.split(",")) for point in lines[0].split())
    assert x0 < x1
    assert y0 < y1  # smaller values lie lower
    assert min(x0, y0) >= 0
    assert max(x1, y1) <= 640
    assert "var(--c1)" in chart


@pytest.mark.parametrize("values", [[], [0.3], [2, 2, 2], [-1e-9, 1e-9], [0, 1e6], [0.31, 0.97]])
def test_ticks_are_round_and_enclose_the_values(values):
    from cmcr.report.charts import ticks_around

    ticks = ticks_around(np.array(values, float))
    assert 2 <= len(ticks) <= 12
    assert sorted(set(ticks)) == ticks
    if values:
        assert ticks[0] <= min(values)
        assert max(values) <= ticks[-1]


def test_a_heat_map_is_a_picture_of_its_numbers_on_the_given_scale():
    values = np.array([[0.0, 1.0, np.nan], [0.5, -9.0, 9.0]])
    text = str(heat_map("similarity", values, low=0, high=1))
    _, data = decoded(re.search(r'src="([^"]*)"', text)[1])
    pixels = np.asarray(Image.open(io.BytesIO(data)))
    dark, light = colours(np.array([0.0, 1.0]))
    assert pixels.shape == (2, 3, 3)
    for cell, colour in (((0, 0), dark), ((0, 1), light), ((0, 2), dark), ((1, 1), dark), ((1, 2), light)):
        assert (pixels[cell] == colour).all()
    both = str(beside(heat_map("one number only", np.ones((3, 3))), heat_map("none", np.full((2, 2), np.nan))))
    assert both.count("<figure") == 2


def test_the_colours_grow_lighter():
    light = colours(np.linspace(0, 1, 50)) @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(light) > 0).all()


def test_a_table_has_bars_for_shares_only_and_sets_off_its_strong_rows():
    text = str(
        results_table(
            ["method", "n", "recall@1", "rank"], [["chance", 1200, 0.01, 600.5], ["ours", 1200, 0.5, 2.0]], [1]
        )
    )
    assert re.findall(r"width:([\d.]+)%", text) == ["1.0", "50.0"]
    assert text.count('class="strong"') == 1
    assert "1,200" in text


@pytest.mark.parametrize(
    "points", [np.zeros((1, 3)), np.ones((40, 6)) * 200, np.eye(3), np.random.default_rng(0).random((50_000, 3))]
)
def test_any_cloud_can_be_drawn(points):
    image = draw_point_cloud(points.astype(np.float32), size=64)
    assert image.size == (64, 64)
    assert np.ptp(np.asarray(image)) > 0


def test_a_cloud_is_drawn_upright_with_near_points_on_top():
    column = np.stack([np.zeros(200), np.linspace(0, 1, 200), np.zeros(200)], axis=1)
    drawn = np.asarray(draw_point_cloud(column))[..., 3] > 0
    rows, columns = np.nonzero(drawn)
    assert np.ptp(rows) > 5 * np.ptp(columns)
    two = np.array([[0, 0, -1, 1, 0, 0], [0, 0, 1, 0, 1, 0]], np.float32)  # red behind, green in front
    pixels = np.asarray(draw_point_cloud(np.repeat(two, 3, axis=0))).reshape(-1, 4).astype(int)
    assert (pixels[:, 1] - pixels[:, 0]).max() > (pixels[:, 0] - pixels[:, 1]).max()  # and the nearer is lighter


def test_the_page_of_a_retrieval(tmp_path, monkeypatch):
    monkeypatch.setattr(subject_module, "load_encoder", load_fake_encoder)
    monkeypatch.chdir(tmp_path)
    files = tmp_path / "files"
    files.mkdir()
    (files / "a.png").write_bytes(png())
    (files / "dog.wav").write_bytes(wav())
    rows = {"a": ("../files/a.png", None, b"1"), "gone": ("../files/gone.png", None, b"2"), EVIL: ("x.png", None, b"3")}
    memory = make_memory(tmp_path / "mem", "seer", {IMAGE: rows, TEXT: {"t": ("texts.txt:1", EVIL, b"4")}})
    space = make_space()
    queries = [ask(space, str(files / "dog.wav")), ask(space, EVIL), ask(space, f"{memory.path}#a")]
    hits = retrieve(space, queries, memory, IMAGE, k=10)
    read = check_page(retrieval_page(queries, hits, memory, IMAGE, {"space": "spaces/x", "gallery": 3}))
    assert len(read.of("audio")) == 1
    assert len(read.of("img")) == 4  # the one file that is there, three times as a hit and once as a query
    assert read.text.count("file not found") == 6
    assert "spaces/x" in read.text
    (found,) = retrieve(space, queries[:1], memory, TEXT, k=1)
    assert EVIL in check_page(retrieval_page(queries[:1], [found], memory, TEXT)).text


def test_a_hit_inside_a_tar_is_shown_and_an_enormous_file_is_not_opened(tmp_path, monkeypatch):
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        member = tarfile.TarInfo("a/1.png")
        member.size = len(png())
        tar.addfile(member, io.BytesIO(png()))
        member = tarfile.TarInfo("a/3.png")
        member.size = len(png()) + 1
        tar.addfile(member, io.BytesIO(png() + b"."))
    (tmp_path / "big.png").write_bytes(png() + b".")
    rows = {
        "1": ("../x.tar!a/1.png", None, b"1"),
        "2": ("../x.tar!a/2.png", None, b"2"),
        "3": ("../big.png", None, b"3"),
        "4": ("../x.tar!a/3.png", None, b"4"),
    }
    memory = make_memory(tmp_path / "mem", "seer", {IMAGE: rows})
    monkeypatch.setattr(shown_by, "FILE_BYTES", len(png()))
    monkeypatch.chdir(tmp_path)
    shown = [Previews().of_row(memory, IMAGE, row) for row in memory.metadata(IMAGE)]
    assert [media.kind for media in shown] == ["image", "none", "none", "none"]
    assert [media.note for media in shown[1:]] == ["file not found", *["above 0 MiB, not opened"] * 2]


def test_a_query_whose_file_has_gone_meanwhile_leaves_a_note(tmp_path):
    item = Item("x", AUDIO, str(tmp_path / "x.wav"), path=tmp_path / "x.wav")
    assert Previews().of_item(item).note


@pytest.mark.slow
def test_a_browser_shows_the_page_with_nothing_to_complain_about(tmp_path):
    """Every picture and player loads, nothing is fetched, and nothing runs over the edge of a phone."""
    previews = Previews()
    hits = [
        Card(EVIL * 3, previews.of(IMAGE, png()), 1, 0.9),
        Card("x" * 99, previews.of(CLOUD, npy(), ".npy"), 2, 0.1),
    ]
    drawn = [
        line_chart("loss", {"a": [(0, 1), (5, 0.1)]}),
        heat_map("map", np.eye(9)),
        results_table(["a", "b"], [["x", 0.5]]),
    ]
    body = gallery([Answer(Card("q", previews.of(AUDIO, wav())), hits)]) + beside(*drawn)
    (tmp_path / "page.html").write_text(page("Title", [Section("Part", "text", body)], facts={"gallery": 3}))
    for width in (1200, 390):
        assert visit(tmp_path / "page.html", width)["audio"] == 1


@pytest.mark.parametrize(
    ("value", "told"), [(0.1234, "0.123"), (999, "999"), (1000, "1,000"), (-1250, "-1,250"), (3e8, "3e+08")]
)
def test_numbers_on_an_axis_are_such_as_people_write(value, told):
    assert number(value) == told
