"""Data sets of clips as they are downloaded: what is read, what is left out, and why; on the tiny world's own."""

import json
import os
import shutil
import time

import numpy as np
import pytest

from cmcr import media
from cmcr.datasets import boxes, read_clips
from cmcr.datasets.boxes import Box, read_flickr, read_listing, read_vggss
from cmcr.datasets.clips import FrameChoice
from cmcr.decode import videos as video
from cmcr.errors import InputError, ItemError
from cmcr.modality import Modality
from cmcr.tiny import clips as tiny
from cmcr.tiny import world

IMAGE, AUDIO, TEXT, CLOUD = Modality.IMAGE, Modality.AUDIO, Modality.TEXT, Modality.POINT_CLOUD
SCENES = world.test_scenes(0)[:8]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The three data sets, which no test may change."""
    folder = tmp_path_factory.mktemp("clips")
    ids = {"ave": tiny.write_ave(folder / "ave", 0, SCENES, train=1)}
    ids["vggss"] = tiny.write_vggss(folder / "vggss", 0, count=8)
    ids["flickr"] = tiny.write_flickr(folder / "flickr", 0, count=8)
    return folder, ids


@pytest.fixture
def copied(made, tmp_path):
    """``copied("ave")`` is a copy to change."""

    def copy(name):
        shutil.copytree(made[0] / name, tmp_path / name)
        return tmp_path / name

    return copy


def problems(clips):
    return {clip.id: clip.problem for clip in clips.clips if clip.problem}


# Boxes


def test_a_box_is_a_rectangle_inside_the_picture():
    assert Box.checked(0, 0.25, 1, 0.5) == Box(0, 0.25, 1, 0.5)
    assert Box.checked(-0.05, 0.5, 0.5, 1.08) == Box(0, 0.5, 0.5, 1)
    for corners, why in (
        ((0.5, 0.1, 0.4, 0.2), "swapped"), ((0.1, 0.5, 0.2, 0.4), "swapped"), ((0.1, 0.1, 0.1, 0.2), "no area"),
        ((10, 20, 100, 200), "outside"), ((-0.2, 0, 0.5, 0.5), "outside"), ((1.0, 0, 1.05, 1), "no area"),
        ((0, 0, float("nan"), 1), "not finite"),
    ):  # fmt: skip
        with pytest.raises(ItemError, match=why):
            Box.checked(*corners)


def test_vggss_gives_all_boxes_of_a_picture_to_one_annotator(tmp_path):
    good, point = [0.1, 0.1, 0.5, 0.5], [0.2, 0.3, 0.2, 0.3]
    records = [
        {"file": "a", "class": "dog barking", "bbox": [good, [0.5, 0.5, 1, 1]]},
        {"file": "b", "class": "x", "bbox": [good, point]},
        {"file": "c", "class": "x", "bbox": [point]},
        {"file": "d", "class": "x", "bbox": [good, [0.9, 0.1, 0.5, 0.5]]},
        {"file": "e", "class": "x", "bbox": [[1, 2, 3]]},
        {"file": "f", "class": "x", "bbox": [["a", "b", "c", "d"]]},
        {"file": "g", "class": "x", "bbox": []},
        {"class": "x"},
        "no record",
    ]
    (tmp_path / "vggss.json").write_text(json.dumps(records))
    read = read_vggss(tmp_path / "vggss.json")
    assert read[0].boxes == ((Box(0.1, 0.1, 0.5, 0.5), Box(0.5, 0.5, 1, 1)),)
    assert (read[0].label, read[0].problem) == ("dog barking", None)
    assert (read[1].boxes, read[1].empty, read[1].problem) == (((Box(*good),),), 1, None)
    assert [each.problem for each in read[2:]] == [
        "box no area inside the picture",
        "box swapped corners",
        "box of other than four corners: expected x0, y0, x1, y1",
        "box of something else than numbers",
        "no box in its record",
        "no file in its record",
        "no file in its record",
    ]


@pytest.mark.parametrize("content", ["{", "{}", "[]", "[" * 100_000, "\0"])
def test_a_vggss_list_that_is_none_is_refused(tmp_path, content):
    (tmp_path / "vggss.json").write_text(content)
    with pytest.raises(InputError, match=r"vggss\.json: (not JSON|expected a list|byte 0 is NUL)"):
        read_vggss(tmp_path / "vggss.json")


def bbox(*values):
    return "<bbox>" + "".join(f"<c>{value}</c>" for value in values) + "</bbox>"


def test_flickr_gives_a_box_for_each_annotator_and_skips_its_first_child(tmp_path):
    path = tmp_path / "12.xml"
    path.write_text(f"<a><b>{bbox('who', 0, 64, 128, 256)}{bbox('else', 1, 64, 128, 192)}</b></a>")
    read = read_flickr(path)
    assert (read.id, read.problem) == ("12", None)
    assert read.boxes == ((Box(0, 0.25, 0.5, 1),), (Box(1 / 256, 0.25, 0.5, 0.75),))
    path.write_text(f"<a><b>{bbox('who', 0, 64, 128, 256)}{bbox('else', 5, 5, 5, 9)}</b></a>")
    assert (len(read_flickr(path).boxes), read_flickr(path).empty) == (1, 1)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (f"<a>{bbox('who', 9, 0, 3, 4)}</a>", "swapped"),
        (f"<a>{bbox('who', 0, 0, 300, 4)}</a>", "outside"),
        (f"<a>{bbox('who', 7, 7, 7, 7)}</a>", "no area"),
        (f"<a>{bbox(0, 0, 3, 4)}</a>", "other than five children"),
        (f"<a>{bbox('who', 'x', 0, 3, 4)}</a>", "something else than numbers"),
        ("<a><bbox/></a>", "other than five children"),
        ("<a></a>", "without a bbox"),
        ("<a>", "not XML"),
        ("", "not XML"),
        ("<?xml version='1.0' encoding='nonsense'?><a/>", "not XML"),
        ('<!DOCTYPE a [<!ENTITY e "x">]><a>&e;</a>', "entities"),
        (f"<!DOCTYPE a><a>{bbox('who', 1, 2, 3, 4)}</a>", "entities"),
        ("<a><!ENTITY e 'x'>&e;</a>", "not XML"),
        ("x" * 200, "not XML"),
    ],
)
def test_a_flickr_annotation_that_cannot_be_used_says_why(tmp_path, content, why):
    (tmp_path / "1.xml").write_text(content)
    read = read_flickr(tmp_path / "1.xml")
    assert not read.boxes
    assert why in read.problem


def test_entities_are_refused_in_any_encoding_and_size_is_bounded(tmp_path, monkeypatch):
    path = tmp_path / "1.xml"
    path.write_bytes('<?xml version="1.0" encoding="utf-16"?><!DOCTYPE a [<!ENTITY e "x">]><a>&e;</a>'.encode("utf-16"))
    assert "entities" in read_flickr(path).problem
    monkeypatch.setattr(boxes, "MAX_XML", 10)
    path.write_text(f"<a>{bbox('who', 1, 2, 3, 4)}</a>")
    assert "above a mebibyte" in read_flickr(path).problem


def test_lists_with_and_without_sounds(tmp_path):
    (tmp_path / "a.csv").write_text("video,audio,label\n1,1,sounding\n2,9,non-sounding\n\n3,,x\n")
    assert [(row.image, row.audio, row.sounding) for row in read_listing(tmp_path / "a.csv")] == [
        ("1", "1", True), ("2", "9", False), ("3", "3", True),
    ]  # fmt: skip
    (tmp_path / "b.csv").write_text("11\n12,dog\n")
    assert [(row.image, row.audio, row.sounding) for row in read_listing(tmp_path / "b.csv")] == [
        ("11", "11", True), ("12", "12", True),
    ]  # fmt: skip
    (tmp_path / "c.csv").write_text("video,audio,label\n")
    with pytest.raises(InputError, match="no row in it"):
        read_listing(tmp_path / "c.csv")
    with pytest.raises(InputError, match="no such file"):
        read_listing(tmp_path / "d.csv")


# The tiny world's data sets


def test_the_tiny_data_sets_are_the_same_bytes_for_the_same_seed(made, tmp_path, folder_bytes):
    tiny.write_ave(tmp_path / "ave", 0, SCENES, train=1)
    tiny.write_vggss(tmp_path / "vggss", 0, count=8)
    tiny.write_flickr(tmp_path / "flickr", 0, count=8)
    assert folder_bytes(tmp_path) == folder_bytes(made[0])


def test_a_composite_holds_its_thing_where_the_box_says():
    for copies in (1, 2):
        one = tiny.composite(SCENES[0], [3, 1], copies)
        assert len(one.boxes) == copies
        for x0, y0, x1, y1 in one.boxes:
            assert 0 <= x0 < x1 <= one.image.width
            assert 0 <= y0 < y1 <= one.image.height
            inside = np.asarray(one.image.crop((x0, y0, x1, y1)), float)
            # The shade of the backdrop only changes downwards, so a picture in it shows as change to the right.
            assert np.abs(np.diff(inside, axis=1)).mean() > 1
            edge = np.asarray(one.image, float)[y0:y1, max(x0 - 1, 0) : x0 + 1]
            assert edge.shape[1] < 2 or np.abs(np.diff(edge, axis=1)).mean() > 2


# AVE


def test_ave_gives_the_middle_frame_and_the_whole_sound(made, tmp_path):
    folder, ids = made
    clips = read_clips(folder / "ave", unpack=tmp_path)
    assert (clips.name, clips.expected) == ("ave", 8)
    assert [clip.id for clip in clips.usable] == ids["ave"]
    assert [clip.label for clip in clips.clips] == [scene.kind for scene in SCENES]
    assert clips.settings == {"layout": "ave", "split": "test", "frames": "middle", "audio": "whole"}
    assert clips.notes == ("rows that repeat an id were left out: 1",)
    clip = clips.clips[2]
    (naive,) = video.frames_at(folder / "ave/AVE_Dataset/AVE" / f"{clip.id}.mp4", [5.0])
    assert clip.image.id == f"{clip.id}@5.000"
    np.testing.assert_array_equal(media.read_image(clip.image.read()), naive)
    heard = media.read_audio(clip.audio.read(), 16_000)
    written, _ = video.samples(folder / "ave/AVE_Dataset/AVE" / f"{clip.id}.mp4")
    np.testing.assert_allclose(heard, written, atol=1 / 32000)
    assert len(heard) == pytest.approx(160_000, abs=1024)


def test_the_sound_survives_the_codec(made, tmp_path):
    clip = read_clips(made[0] / "ave", unpack=tmp_path).clips[0]
    _, spoken = tiny._film(SCENES[0], tiny.CLIP_SECONDS, np.random.default_rng([0, 0, 20]))
    heard = media.read_audio(clip.audio.read(), 16_000)
    assert np.corrcoef(heard[:32_000], spoken[:32_000])[0, 1] > 0.98  # all that tiny-clap reads


def test_the_frames_of_a_video_are_a_choice(made, tmp_path):
    folder, _ = made
    mean = read_clips(folder / "ave", unpack=tmp_path, frames="mean:4").clips[3]
    assert [item.id.partition("@")[2] for item in mean.parts[IMAGE]] == ["1.250", "3.750", "6.250", "8.750"]
    event = read_clips(folder / "ave", unpack=tmp_path, frames="event").clips[3]
    assert event.image.id.endswith("@2.000")  # its event lasts from 0 to 4
    middle = read_clips(folder / "ave", unpack=tmp_path).clips[3]
    at_event, at_middle = (np.asarray(media.read_image(clip.image.read()), float) for clip in (event, middle))
    # By then nothing is left but the empty place.
    assert at_event.std(axis=(0, 1)).min() > 10 > at_middle.std(axis=(0, 1)).max()


def test_frames_are_parsed():
    assert [str(FrameChoice.of(text)) for text in ("middle", "mean:1", "mean:12", "event")] == [
        "middle", "middle", "mean:12", "event",
    ]  # fmt: skip
    for text in ("mean:0", "mean:", "mean:1000", "first", ""):
        with pytest.raises(InputError, match="expected middle"):
            FrameChoice.of(text)


def test_an_event_without_length_has_no_middle(copied, tmp_path):
    folder = copied("ave")
    (folder / "AVE_Dataset/testSet.txt").write_text("dog&tiny0000000&good&0&10\ncat&tiny0000001&good&3&3\n")
    clips = read_clips(folder, unpack=tmp_path / "u", frames="event")
    assert problems(clips) == {"tiny0000001": "no event in its annotation: it ends where it starts"}
    assert not problems(read_clips(folder, unpack=tmp_path / "u"))


def test_splits_have_their_own_lists(made, tmp_path):
    folder, ids = made
    splits = {name: read_clips(folder / "ave", unpack=tmp_path, split=name) for name in ("test", "val", "train", "all")}
    assert [len(splits[name].usable) for name in splits] == [8, 1, 1, 10]
    assert splits["all"].expected == 10  # the header is no clip, and the repeated row none that is asked for
    assert {clip.id for clip in splits["all"].clips} > set(ids["ave"])


def test_a_second_run_decodes_nothing(made, tmp_path, monkeypatch, folder_bytes):
    first = read_clips(made[0] / "ave", unpack=tmp_path / "u", frames="mean:2")
    before = folder_bytes(tmp_path / "u")
    monkeypatch.setattr(video, "frames_at", None)
    monkeypatch.setattr(video, "samples", None)
    assert read_clips(made[0] / "ave", unpack=tmp_path / "u", frames="mean:2") == first
    assert folder_bytes(tmp_path / "u") == before


def test_what_is_wrong_with_a_clip_is_counted_and_the_number_asked_for_stays(copied, tmp_path):
    folder = copied("ave")
    videos = folder / "AVE_Dataset/AVE"
    (videos / "tiny0000001.mp4").write_bytes(b"")
    (videos / "tiny0000002.mp4").write_bytes(b"not a video" * 100)
    (videos / "tiny0000003.mp4").unlink()
    data = (videos / "tiny0000004.mp4").read_bytes()
    (videos / "tiny0000004.mp4").write_bytes(data[: len(data) // 2])
    with (folder / "AVE_Dataset/testSet.txt").open("a") as listed:
        listed.write("a line of something else\n")
    clips = read_clips(folder, unpack=tmp_path / "u")
    found = problems(clips)
    assert found.pop("tiny0000003") == "no video or picture of it"
    assert found.pop("testSet.txt:10").startswith("its line is not Category&VideoID")
    assert set(found) == {"tiny0000001", "tiny0000002", "tiny0000004"}
    assert all(reason.startswith("not a video, or damaged") for reason in found.values())
    assert (len(clips.usable), clips.expected) == (4, 9)
    assert sum(clips.reasons().values()) == 5


def test_an_official_list_asks_for_the_official_number(copied, tmp_path):
    folder = copied("ave")
    annotations = folder / "AVE_Dataset/Annotations.txt"
    more = (f"dog&other{number}&good&0&10" for number in range(4143 - 11))
    annotations.write_text(annotations.read_text() + "\n".join(more) + "\n")
    assert read_clips(folder, unpack=tmp_path / "u").expected == 402 - 1


def test_what_a_data_set_lacks_is_named_with_what_is_there(copied, tmp_path):
    folder = copied("ave")
    (folder / "AVE_Dataset/testSet.txt").unlink()
    with pytest.raises(InputError, match=r"no testSet\.txt in it \(lines of Category.*found AVE_Dataset/"):
        read_clips(folder, unpack=tmp_path / "u")
    (folder / "AVE_Dataset/Annotations.txt").unlink()
    with pytest.raises(InputError, match=r"looked for testSet\.txt \(AVE\), vggss\.json .* found AVE_Dataset/"):
        read_clips(folder, unpack=tmp_path / "u")
    with pytest.raises(InputError, match="found nothing there"):
        read_clips(tmp_path / "nowhere", unpack=tmp_path / "u")
    (folder / "AVE_Dataset/valSet.txt").write_text("\n")
    with pytest.raises(InputError, match="no line in it"):
        read_clips(folder, "ave", unpack=tmp_path / "u", split="val")


def test_choices_that_a_data_set_does_not_have_are_refused(made, tmp_path):
    folder, _ = made
    for name, options, why in (
        ("ave", {"split": "best"}, "AVE has train, val, test and all"),
        ("vggss", {"split": "val"}, "VGG-SS is one list"),
        ("flickr", {"split": "train"}, "has test and all"),
        ("vggss", {"frames": "event"}, "needs AVE's annotations"),
        ("vggss", {"layout": "imagenet"}, "expected one of ave, vggss, flickr, vggsound-av, pairs"),
        ("ave", {"listing": folder / "vggss/metadata/vggss_test_plus_silent.csv"}, "goes with vggss or flickr"),
        ("vggss", {"listing": folder / "flickr/metadata/flickr_test.csv"}, "no row labelled non-sounding"),
    ):
        with pytest.raises(InputError, match=why):
            read_clips(folder / name, unpack=tmp_path, **options)


# VGG-SS and Flickr-SoundNet


def test_vggss_gives_pictures_sounds_and_boxes(made, tmp_path):
    folder, ids = made
    clips = read_clips(folder / "vggss", unpack=tmp_path / "u")
    assert ([clip.id for clip in clips.usable], clips.expected) == (ids["vggss"], 8)
    clip = clips.clips[0]
    assert (clip.image.path.name, clip.audio.path.name) == (f"{clip.id}.jpg", f"{clip.id}.wav")
    assert (clip.image.id, clip.votes, clip.label) == (clip.id, 1, SCENES[0].kind)
    truth = tiny.composite(SCENES[0], [0, 0, 30]).boxes[0]
    box = clip.boxes[0][0]
    assert (320 * box.x0, 240 * box.y0, 320 * box.x1, 240 * box.y1) == pytest.approx(truth)
    assert [len(each.boxes[0]) for each in clips.clips] == [1] * 7 + [2]
    assert not (tmp_path / "u").exists()


def test_flickr_gives_a_box_of_each_annotator_and_two_votes(made, tmp_path):
    folder, ids = made
    clips = read_clips(folder / "flickr", unpack=tmp_path)
    assert ([clip.id for clip in clips.usable], clips.expected) == (ids["flickr"], 7)
    assert all((len(clip.boxes), clip.votes) == (3, 2) for clip in clips.clips)
    assert clips.clips[4].image.path.parts[-3:] == ("Data", "4", f"{ids['flickr'][4]}.jpg")
    assert read_clips(folder / "flickr", unpack=tmp_path, split="all").expected == 8


def test_a_box_that_cannot_be_used_leaves_the_pair_usable(copied, tmp_path):
    folder = copied("flickr")
    first, second, third = sorted((folder / "Annotations").iterdir())[:3]
    first.write_text(f"<a>{bbox('who', 9, 0, 3, 4)}</a>")
    second.unlink()
    third.write_text(third.read_text().replace("</observers>", bbox("x", 5, 5, 5, 9) + "</observers>"))
    clips = read_clips(folder, unpack=tmp_path / "u")
    assert [clip.box_problem for clip in clips.clips[:3]] == [
        "box swapped corners", "no annotation of it in Annotations/", None,
    ]  # fmt: skip
    assert len(clips.usable) == clips.expected == 7
    assert clips.notes == ("boxes without area, beside others, were left out: 1",)


def test_what_flickr_lacks_is_named(copied, tmp_path):
    folder = copied("flickr")
    (folder / "metadata/flickr_test.csv").unlink()
    with pytest.raises(InputError, match=r"no flickr_test\.csv in it \(the test list; or --split all\)"):
        read_clips(folder, unpack=tmp_path / "u")
    for path in (folder / "Annotations").iterdir():
        path.unlink()
    with pytest.raises(InputError, match=r"no <id>\.xml in it; found an empty folder"):
        read_clips(folder, unpack=tmp_path / "u")


@pytest.mark.parametrize("name", ["vggss", "flickr"])
def test_silent_rows_are_added_to_the_ordinary_ones(made, tmp_path, name):
    folder, ids = made
    listing = folder / name / "metadata" / f"{name}_test_plus_silent.csv"
    clips = read_clips(folder / name, unpack=tmp_path, listing=listing)
    count = len(ids[name])
    assert clips.expected == len(clips.usable) == 2 * count
    assert [clip.sounding for clip in clips.clips] == [True] * count + [False] * count
    assert clips.settings["list"] == listing.name
    silent = clips.clips[count + 1]
    assert (silent.id, silent.boxes) == (f"{ids[name][1]}+silence", ())
    assert silent.image == clips.clips[1].image  # one picture has one id, wherever it is listed
    mismatched = clips.clips[count]
    kinds = {clip.id: clip.label for clip in read_clips(folder / "vggss", unpack=tmp_path).clips}
    if name == "vggss":
        assert kinds[mismatched.audio.id] != kinds[mismatched.image.id]


def test_missing_pictures_and_sounds_are_counted(copied, tmp_path):
    folder = copied("vggss")
    names = sorted(path.stem for path in (folder / "data/frames").iterdir())
    (folder / "data/frames" / f"{names[0]}.jpg").unlink()
    (folder / "data/audio" / f"{names[1]}.wav").unlink()
    clips = read_clips(folder, unpack=tmp_path / "u")
    assert problems(clips) == {names[0]: "no video or picture of it", names[1]: "no video or sound of it"}
    assert clips.expected == 8
    mean = read_clips(folder, unpack=tmp_path / "u", frames="mean:3")
    assert mean.reasons()["only a picture, no video for --frames mean:3"] == 7


def test_a_video_stands_in_for_a_picture_and_a_sound_that_are_not_there(copied, made, tmp_path):
    folder = copied("vggss")
    name = made[1]["vggss"][0]
    (folder / "data/frames" / f"{name}.jpg").unlink()
    (folder / "data/audio" / f"{name}.wav").unlink()
    (folder / "data/videos").mkdir()
    shutil.copy(made[0] / "ave/AVE_Dataset/AVE/tiny0000000.mp4", folder / "data/videos" / f"{name}.mp4")
    listing = folder / "metadata/vggss_test_plus_silent.csv"
    clips = read_clips(folder, unpack=tmp_path / "u", listing=listing)  # some rows share the video
    clip = clips.clips[0]
    assert len(clips.usable) == 16
    assert (clip.image.id, clip.image.path.parent, clip.audio.path.parent) == (
        f"{name}@5.000", tmp_path / "u/frames", tmp_path / "u/audio",
    )  # fmt: skip


def test_ids_of_a_list_never_lead_out_of_the_folders(copied, tmp_path):
    folder = copied("ave")
    outside = tmp_path / "outside.mp4"
    shutil.copy(folder / "AVE_Dataset/AVE/tiny0000000.mp4", outside)
    relative = os.path.relpath(outside, folder / "AVE_Dataset/AVE").removesuffix(".mp4")
    lines = f"dog&{relative}&good&0&10\ndog&{outside.with_suffix('')}&good&0&10\ndog&tiny0000001&good&0&10\n"
    (folder / "AVE_Dataset/testSet.txt").write_text(lines)
    clips = read_clips(folder, unpack=tmp_path / "u")
    assert [clip.id for clip in clips.usable] == ["tiny0000001"]
    assert sorted(path.name for path in (tmp_path / "u").rglob("*.*")) == ["tiny0000001.wav", "tiny0000001@5.000.png"]


# Manifests of pairs


def write_manifest(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def texts(clip):
    return [item.text for item in clip.parts[TEXT]]


def test_a_manifest_pairs_any_columns(tmp_path):
    path = write_manifest(
        tmp_path / "pairs.jsonl",
        [
            {"id": 0, "image": "a.png", "audio": "b.wav"},
            {"image_path": "c.png", "points": "d.npy", "text": "a drum"},
            {"file": "e.wav", "captions": ["one", " two ", "one"]},
        ],
    )
    clips = read_clips(path, unpack=tmp_path)
    assert (clips.name, clips.expected, problems(clips)) == ("pairs", 3, {})
    assert [clip.id for clip in clips.clips] == ["0", "c.png+d.npy", "e.wav"]
    assert clips.clips[0].image.path == tmp_path / "a.png"
    assert set(clips.clips[1].parts) == {IMAGE, CLOUD, TEXT}
    assert texts(clips.clips[2]) == ["one", "two"]


def test_captions_come_in_lists_in_columns_and_in_repeated_rows(tmp_path):
    listed = write_manifest(tmp_path / "a.jsonl", [{"audio": "x.wav", "text": ["one", "two"]}])
    repeated = tmp_path / "b.csv"
    repeated.write_text("audio,caption\nx.wav,one\nx.wav,two\nx.wav,one\n")
    columns = tmp_path / "c.csv"
    columns.write_text("file_name,caption_1,caption_2,caption_3\nx.wav,one,two,\n")
    for path in (listed, repeated, columns):
        clips = read_clips(path, unpack=tmp_path)
        assert [(clip.id, texts(clip)) for clip in clips.clips] == [("x.wav", ["one", "two"])], path


def test_records_that_cannot_be_used_are_counted(tmp_path):
    path = tmp_path / "pairs.jsonl"
    write_manifest(path, [{"id": "a", "image": f"{name}.png", "audio": "a.wav"} for name in "ab"])
    path.write_text(path.read_text() + "not json\n[]\n")
    clips = read_clips(path, unpack=tmp_path)
    assert problems(clips) == {
        "a": "two records have its id, with other files",
        "pairs.jsonl:3": "its line is not a JSON object",
        "pairs.jsonl:4": "its line is not a JSON object",
    }
    assert clips.expected == 3
    odd = write_manifest(tmp_path / "odd.jsonl", [{"image": "\ud800.png", "audio": "a.wav"}])
    assert read_clips(odd, unpack=tmp_path).clips[0].image.problem == "its name is not UTF-8"


def test_a_manifest_of_one_modality_is_refused_with_what_was_found(tmp_path):
    path = write_manifest(tmp_path / "pairs.jsonl", [{"image": "a.png", "sound": "b"}])
    with pytest.raises(InputError, match=r"looked for the columns image, .* found image, sound"):
        read_clips(path, unpack=tmp_path)
    path.write_text("")
    with pytest.raises(InputError, match="found no record"):
        read_clips(path, unpack=tmp_path)
    with pytest.raises(InputError, match="no such file"):
        read_clips(tmp_path / "none.csv", unpack=tmp_path)


def test_the_order_of_files_on_disk_does_not_matter(copied, tmp_path, monkeypatch):
    folder = copied("flickr")
    for path in list((folder / "Data/0").iterdir()):
        shutil.copy(path, path.with_suffix(".png" if path.suffix == ".jpg" else ".flac"))

    def read(order):
        with monkeypatch.context() as patched:
            for name in ("iterdir", "glob"):
                listed = getattr(type(tmp_path), name)
                patched.setattr(type(tmp_path), name, lambda *a, listed=listed: iter(sorted(listed(*a), reverse=order)))
            return read_clips(folder, unpack=tmp_path / "u", split="all")

    assert read(True) == read(False)


def test_a_video_that_two_rows_name_is_unpacked_by_one_thread_at_a_time(copied, made, tmp_path, monkeypatch):
    folder = copied("vggss")
    name = made[1]["vggss"][0]
    (folder / "data/frames" / f"{name}.jpg").unlink()
    shutil.copy(made[0] / "ave/AVE_Dataset/AVE/tiny0000000.mp4", folder / f"{name}.mp4")
    sounds = [path.stem for path in (folder / "data/audio").iterdir()]
    rows = "".join(f"{name},{sound},non-sounding\n" for sound in sounds)
    (tmp_path / "list.csv").write_text(rows)
    busy, most = [], []

    def unpack(*_):
        busy.append(1)
        time.sleep(0.02)
        most.append(len(busy))
        busy.pop()

    monkeypatch.setattr(video, "unpack_frames", unpack)
    read_clips(folder, unpack=tmp_path / "u", listing=tmp_path / "list.csv")
    assert most == [1] * (len(sounds) + 1)
