"""``cmcr eval retrieval`` on the tiny world's own data sets, against everything worked out anew without it."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from browser import visit
from listening import write_listening_space

from cmcr.ask import Subject
from cmcr.cli import main
from cmcr.datasets import read_clips
from cmcr.decode import videos as video
from cmcr.encoders import load_encoder
from cmcr.encoders.tiny import TinyEncoder
from cmcr.errors import InputError
from cmcr.evaluate.retrieval import clips as clip_retrieval
from cmcr.evaluate.retrieval.clips import evaluate
from cmcr.memory import Memory
from cmcr.modality import Modality
from cmcr.space import ConnectedSpace
from cmcr.tiny import clips as tiny
from cmcr.tiny import prepare, world

IMAGE, AUDIO, TEXT = Modality.IMAGE, Modality.AUDIO, Modality.TEXT
COUNT = 24


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    return write_listening_space(tmp_path_factory.mktemp("listening"))


@pytest.fixture(scope="module")
def ave(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ave")
    tiny.write_ave(folder, 3, world.test_scenes(3)[:COUNT], train=1)
    return folder


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    return tmp_path_factory.mktemp("unpacked")


@pytest.fixture
def pairs(tmp_path):
    """Pictures of the tiny world with their sounds, and two captions of each: tmp_path/pairs.jsonl."""
    scenes = world.test_scenes(4)[:12]
    images = world.write_images(tmp_path / "images", scenes, 1)
    sounds = world.write_sounds(tmp_path / "sounds", scenes, 2)
    records = [
        {"image": str(image), "audio": str(sound), "text": [world.picture_caption(scene, rng, 0.0) for _ in range(2)]}
        for image, sound, scene, rng in zip(images, sounds, scenes, map(np.random.default_rng, range(12)), strict=True)
    ]
    return records


def write(path, records, *columns):
    lines = [json.dumps({name: record[name] for name in columns or record}) + "\n" for record in records]
    path.write_text("".join(lines))
    return path


def run(capsys, *arguments, code=0):
    """Run the command; return stdout and stderr."""
    capsys.readouterr()
    assert main(["eval", "retrieval", *map(str, arguments)]) == code
    return capsys.readouterr()


def naive_recall(queries, gallery, k):
    scores = queries.astype(float) @ gallery.astype(float).T
    return np.mean([sum(row >= row[i]) <= k for i, row in enumerate(scores)])


def embedded_anew(space, ave, times):
    """Return the pictures and sounds of the test split in the space, by the encoders alone."""
    space, clip, clap = ConnectedSpace.from_pretrained(space), load_encoder("tiny-clip"), load_encoder("tiny-clap")
    videos = [ave / "AVE_Dataset/AVE" / f"tiny{number:07d}.mp4" for number in range(COUNT)]
    pictures = [prepare.pixels(image) for path in videos for image in video.frames_at(path, times)]
    projected = space.project(clip.encode(IMAGE, pictures), encoder="tiny-clip", modality=IMAGE)
    means = projected.reshape(COUNT, len(times), -1).mean(axis=1)
    heard = [np.round(video.samples(path)[0] * 32767).clip(-32768, 32767) / 32768 for path in videos]  # as in a WAV
    sounds = [prepare.log_mel(each[:32_000].astype(np.float32)) for each in heard]
    unit = means / np.linalg.norm(means, axis=1, keepdims=True)
    return unit, space.project(clap.encode(AUDIO, sounds), encoder="tiny-clap", modality=AUDIO)


@pytest.mark.parametrize(("frames", "times"), [("middle", [5.0]), ("mean:3", [5 / 3, 5.0, 25 / 3])])
def test_ave_is_measured_both_ways_and_agrees_with_a_count_made_anew(space, ave, unpacked, tmp_path, frames, times):
    clips = read_clips(ave, unpack=unpacked, frames=frames)
    result = evaluate(Subject.open(str(space)), clips, folder=tmp_path).result
    pictures, sounds = embedded_anew(space, ave, times)
    for direction, queries, gallery in (("image->audio", pictures, sounds), ("audio->image", sounds, pictures)):
        for k in (1, 5, 10):
            assert result.values[direction][f"recall@{k}"] == pytest.approx(naive_recall(queries, gallery, k), abs=1e-9)
        assert result.values[direction]["recall@5"] > 2.4 * result.chance["recall@5"]
    assert (result.n, result.gallery, result.expected, result.shortfall) == (COUNT, COUNT, COUNT, "")
    assert result.chance["recall@1"] == pytest.approx(1 / COUNT)
    assert result.settings["frames"] == frames
    assert ("frames averaged" in result.settings) == (frames != "middle")


def test_more_frames_and_the_event_find_what_the_middle_frame_misses(space, ave, unpacked, tmp_path):
    """A quarter of the clips shows an empty place in its middle."""

    def recall(frames):
        clips = read_clips(ave, unpack=unpacked, frames=frames)
        values = evaluate(Subject.open(str(space)), clips, folder=tmp_path / "memories").result.values
        return np.mean([numbers["recall@5"] for numbers in values.values()])

    assert recall("event") > recall("middle") + 0.05
    assert recall("mean:5") > recall("middle") + 0.05


def test_a_second_run_embeds_nothing(space, ave, tmp_path, capsys, monkeypatch):
    first = json.loads(run(capsys, space, "--data", ave, "-o", tmp_path, "--json").out)
    monkeypatch.setattr(TinyEncoder, "encode", None)
    monkeypatch.setattr(video, "frames_at", None)
    monkeypatch.setattr(video, "samples", None)
    second = json.loads(run(capsys, space, "--data", ave, "-o", tmp_path, "--json").out)
    assert first["values"] == second["values"]
    assert first["fingerprints"] == second["fingerprints"]


def test_the_command_writes_what_it_says(space, ave, tmp_path, capsys):
    out = tmp_path / "out"
    captured = run(capsys, space, "--data", ave, "-o", out)
    lines = captured.out.splitlines()
    assert lines[0].split("\t")[:4] == ["", "queries", "gallery", "recall@1"]
    assert [line.split("\t")[0] for line in lines[1:]] == ["image->audio", "audio->image", "chance"]
    assert "rows that repeat an id were left out: 1" in captured.err
    assert "next: cmcr eval retrieval" in captured.err
    assert not (out / "skipped.jsonl").exists()
    result = json.loads((out / "result.json").read_text())
    assert result["settings"] == {
        "subject": str(space), "method": "route", "layout": "ave", "split": "test", "frames": "middle",
        "audio": "whole", "encoders": {"image": "tiny-clip", "audio": "tiny-clap"}, "duplicates": "removed",
        "ties": "against", "recall": "hit rate per query, one relevant",
    }  # fmt: skip
    assert set(result["fingerprints"]) == {"subject", "image", "audio"}
    assert result["expected"] == result["n"] == COUNT
    assert {"cmcr", "numpy"} <= set(result["versions"])


def test_missing_clips_are_told_counted_and_fail_when_strict(space, ave, tmp_path, capsys):
    folder = tmp_path / "ave"
    shutil.copytree(ave, folder)
    videos = folder / "AVE_Dataset/AVE"
    (videos / "tiny0000001.mp4").write_bytes(b"no video")
    (videos / "tiny0000002.mp4").unlink()
    captured = run(capsys, space, "--data", folder, "-o", tmp_path / "out", "--strict", code=1)
    assert f"warning: measured over {COUNT - 2} of {COUNT} items: 1 x not a video, or damaged" in captured.err
    result = json.loads((tmp_path / "out/result.json").read_text())
    assert (result["n"], result["gallery"], result["expected"]) == (COUNT - 2, COUNT - 2, COUNT)
    assert result["chance"]["recall@1"] == pytest.approx(1 / (COUNT - 2))
    assert sum(result["skipped"].values()) == 2
    listed = [json.loads(line) for line in (tmp_path / "out/skipped.jsonl").read_text().splitlines()]
    assert listed[1] == {"id": "tiny0000002", "reason": "no video or picture of it"}
    run(capsys, space, "--data", folder, "-o", tmp_path / "out")
    for path in (folder / "AVE_Dataset/AVE").iterdir():
        path.write_bytes(b"")
    captured = run(capsys, space, "--data", folder, "-o", tmp_path / "none", code=1)
    assert captured.err.count("error: ") == 1
    assert f"ave: none of {COUNT} clips is usable: {COUNT - 1} x not a video" in captured.err


def test_what_cannot_be_embedded_is_missing_with_its_reason(space, pairs, tmp_path):
    (tmp_path / "sounds/00003.wav").write_bytes(b"noise")
    (tmp_path / "images/00005.png").unlink()
    path = write(tmp_path / "pairs.jsonl", pairs, "image", "audio")
    path.write_text(path.read_text() + json.dumps({"id": "alone", "image": pairs[0]["image"]}) + "\n")
    subject = Subject.open(str(space))
    paired = evaluate(subject, read_clips(path, unpack=tmp_path), folder=tmp_path / "m")
    assert (paired.result.n, paired.result.expected) == (10, 13)
    reasons = dict(paired.missing)
    assert reasons["alone"] == "no audio in its record"
    assert [reason.partition(":")[0] for reason in reasons.values()] == ["audio", "image", "no audio in its record"]
    assert sum(paired.result.skipped.values()) == 3
    assert "measured over 10 of 13 items" in paired.result.shortfall
    write(path, [pairs[3], pairs[5]], "image", "audio")
    with pytest.raises(InputError, match="pairs: no usable pair of image and audio among 2: 1 x "):
        evaluate(subject, read_clips(path, unpack=tmp_path), folder=tmp_path / "m")


def test_pairs_with_the_same_content_on_both_sides_are_one(space, pairs, tmp_path):
    for name in ("images/00000.png", "sounds/00000.wav"):
        shutil.copy(tmp_path / name, tmp_path / name.replace("00000", "copy"))
    double = {"image": str(tmp_path / "images/copy.png"), "audio": str(tmp_path / "sounds/copy.wav")}
    half = {"image": double["image"], "audio": pairs[1]["audio"]}
    path = write(tmp_path / "pairs.jsonl", [*pairs, double, half], "image", "audio")
    paired = evaluate(Subject.open(str(space)), read_clips(path, unpack=tmp_path), folder=tmp_path / "m")
    assert paired.result.notes == ("pairs that repeat the content of another on both sides were left out: 1",)
    assert (paired.result.n, paired.result.expected) == (13, 13)
    # The half copy stays: its picture ties with the first one's, which counts against both.
    first, last = paired.ranks["audio->image"][[0, 12]]
    assert min(first, last) >= 2


def test_files_are_only_compared_where_their_sizes_are_equal(pairs, tmp_path, monkeypatch):
    path = write(tmp_path / "pairs.jsonl", pairs, "image", "text")
    monkeypatch.setattr(clip_retrieval, "hashlib", None)
    assert evaluate(Subject.open("tiny-clip"), read_clips(path, unpack=tmp_path), folder=tmp_path / "m").result.n == 12


def test_captions_of_a_bare_encoder_are_measured_as_the_field_does(pairs, tmp_path, capsys):
    path = write(tmp_path / "pairs.jsonl", pairs, "image", "text")
    out = json.loads(run(capsys, "tiny-clip", "--data", path, "-o", tmp_path / "out", "--json").out)
    encoder = load_encoder("tiny-clip")

    def encode(modality, items):
        return encoder.encode(modality, [encoder.prepare(item, item.read()) for item in items])

    clips = read_clips(path, unpack=tmp_path).clips
    pictures = encode(IMAGE, [item for clip in clips for item in clip.parts[IMAGE]])
    owners = np.repeat(np.arange(12), [len(clip.parts[TEXT]) for clip in clips])
    texts = encode(TEXT, [item for clip in clips for item in clip.parts[TEXT]])
    scores = pictures @ texts.T
    found = {k: np.mean([n in owners[np.argsort(-row)[:k]] for n, row in enumerate(scores)]) for k in (1, 5)}
    asked = {k: np.mean([n in np.argsort(-row)[:k] for n, row in zip(owners, scores.T, strict=True)]) for k in (1, 5)}
    for k in (1, 5):
        assert out["values"]["image->text"][f"recall@{k}"] == pytest.approx(found[k])
        assert out["values"]["text->image"][f"recall@{k}"] == pytest.approx(asked[k])
    assert out["sizes"] == {"image->text": [12, len(texts)], "text->image": [len(texts), 12]}
    assert out["values"]["text->image"]["recall@1"] > 5 / 12
    assert out["settings"]["method"] == "encoder"


def test_a_caption_that_cannot_be_embedded_only_leaves_with_the_last_of_its_item(pairs, tmp_path):
    pairs[0]["text"] = ["", "xyzzy", pairs[0]["text"][0]]
    pairs[1]["text"] = ["xyzzy"]
    path = write(tmp_path / "pairs.jsonl", pairs, "image", "text")
    paired = evaluate(Subject.open("tiny-clip"), read_clips(path, unpack=tmp_path), folder=tmp_path / "m")
    assert paired.result.notes == (
        "captions that could not be embedded, of items that have others, were left out: 2",
    )  # fmt: skip
    assert [name for name, _ in paired.missing] == [pairs[1]["image"]]
    assert paired.missing[0][1].startswith("text: no word that tiny-clip knows")
    assert paired.result.n == 11


def test_of_three_modalities_two_are_chosen_and_who_embeds_the_text(space, pairs, tmp_path, capsys):
    path = write(tmp_path / "pairs.jsonl", pairs)
    captured = run(capsys, space, "--data", path, "-o", tmp_path / "out", code=1)
    assert "the data holds image, text, audio; choose two with --modalities" in captured.err
    asked = ("--data", path, "-o", tmp_path / "out", "--modalities", "text,audio", "--json")
    through = json.loads(run(capsys, space, *asked).out)
    within = json.loads(run(capsys, space, *asked, "--encoder", "tiny-clap").out)
    assert list(through["values"]) == ["text->audio", "audio->text"]
    assert through["settings"]["encoders"] == {"text": "tiny-clip", "audio": "tiny-clap"}
    assert within["settings"]["encoders"] == {"text": "tiny-clap", "audio": "tiny-clap"}
    assert through["values"] != within["values"]
    alone = json.loads(run(capsys, "tiny-clip", "--data", path, "-o", tmp_path / "out", "--json").out)
    assert list(alone["values"]) == ["image->text", "text->image"]  # the only two that tiny-clip embeds
    assert "not in" in run(capsys, space, *asked, "--encoder", "tiny-ulip", code=1).err
    captured = run(capsys, "tiny-clap", "--data", write(path, pairs, "image", "audio"), "-o", tmp_path / "out", code=1)
    assert "tiny-clap embeds audio, text, and the data holds image, audio; expected two in common" in captured.err


def test_clouds_are_turned_when_their_file_has_another_axis_up(tmp_path):
    scenes = world.test_scenes(4)[:12]
    images, clouds = world.write_images(tmp_path / "i", scenes, 1), world.write_clouds(tmp_path / "c", scenes, 2)
    for cloud in clouds:
        x, y, z = np.load(cloud).T
        np.save(tmp_path / f"turned-{cloud.name}", np.stack([x, z, -y], axis=1))  # from z up to y up
    straight = [{"image": str(i), "points": str(c)} for i, c in zip(images, clouds, strict=True)]
    turned = [each | {"points": str(tmp_path / f"turned-{c.name}")} for each, c in zip(straight, clouds, strict=True)]

    def values(records, folder, up=None):
        clips = read_clips(write(tmp_path / "pairs.jsonl", records), unpack=tmp_path)
        return evaluate(Subject.open("tiny-ulip"), clips, folder=tmp_path / folder, up=up).result.values

    expected = values(straight, "a")
    assert values(turned, "b", "y") == expected
    assert values(turned, "c") != expected


def test_the_page_shows_queries_their_hits_and_the_truth(space, ave, tmp_path, capsys):
    folder = tmp_path / "ave"
    shutil.copytree(ave, folder)
    (folder / "AVE_Dataset/AVE/tiny0000001.mp4").unlink()
    run(capsys, space, "--data", folder, "-o", tmp_path / "out", "--html")
    page = (tmp_path / "out/index.html").read_text()
    assert page.count('class="answer"') > 8
    assert page.count('aria-label="right"') == page.count('class="answer"')
    for said in (
        f"measured over {COUNT - 1} of {COUNT} items", "What is missing",
        "no video or picture of it", "image → audio", "Ties count",
        "data:audio/ogg", "data:image/", "Ranks of the right answers", "95 % bootstrap",
    ):  # fmt: skip
        assert said in page, said
    assert "<script" not in page


def test_names_from_files_are_escaped_on_the_page(pairs, tmp_path, capsys):
    pairs[0] = pairs[0] | {"id": "<script>alert(1)</script>", "text": ["two red bells <img src=x>"]}
    path = write(tmp_path / "pairs.jsonl", pairs, "image", "text")
    path.write_text(json.dumps({"id": "<script>alert(1)</script>"} | pairs[0]) + "\n" + path.read_text())
    run(capsys, "tiny-clip", "--data", path, "-o", tmp_path / "out", "--html")
    page = (tmp_path / "out/index.html").read_text()
    assert "&lt;script&gt;" in page
    assert "<script" not in page
    assert "<img src=x" not in page


def test_two_memories_are_joined_by_id_without_an_encoder(space, pairs, tmp_path, capsys, monkeypatch):
    for encoder, name in (("tiny-clip", "images"), ("tiny-clap", "sounds")):
        assert main(["embed", str(tmp_path / name), "-e", encoder, "-o", str(tmp_path / "mem" / name)]) == 0
    monkeypatch.setattr(TinyEncoder, "__init__", None)
    sides = ("--a", f"{tmp_path}/mem/sounds:audio", "--b", f"{tmp_path}/mem/images:image")
    captured = run(capsys, space, *sides, "-o", tmp_path / "one.json")
    assert [line.split("\t")[:3] for line in captured.out.splitlines()[1:]] == [
        ["audio->image", "12", "12"], ["image->audio", "12", "12"], ["chance", "12", "12"],
    ]  # fmt: skip
    assert json.loads((tmp_path / "one.json").read_text())["n"] == 12
    assert "next: cmcr retrieve" in captured.err
    run(capsys, space, *sides, "-o", tmp_path / "out", "--html", "--media-root", tmp_path)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["index.html", "result.csv", "result.json"]
    assert "data:audio/ogg" in (tmp_path / "out/index.html").read_text()


def test_two_data_sets_with_the_same_ids_do_not_meet_in_one_folder(space, pairs, tmp_path, capsys):
    for number, folder in enumerate(("one", "two")):
        (tmp_path / folder).mkdir()
        shutil.copy(pairs[number]["image"], tmp_path / folder / "x.png")
        shutil.copy(pairs[number]["audio"], tmp_path / folder / "x.wav")
        path = write(tmp_path / folder / "pairs.jsonl", [{"image": "x.png", "audio": "x.wav"}])
        assert "warning" not in run(capsys, space, "--data", path, "-o", tmp_path / "out", "--strict").err


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ([], "expected --data, or both --a and --b"),
        (["--a", "m:audio"], "expected --data, or both --a and --b"),
        (["--data", "x", "--a", "m:audio", "--b", "m:image"], "expected --data, or both"),
        (["--a", "m:adio", "--b", "m:image"], "did you mean"),
        (["--data", "x", "--frames", "mean:0"], "expected middle, mean:N"),
        (["--data", "x", "--modalities", "image"], "expected two of image, text, audio, point_cloud"),
        (["--data", "x", "--modalities", "image,image"], "expected two of"),
        (["--data", "x", "-o", "result.json"], "expected a folder"),
        (["--data", "x", "--layout", "imagenet"], "imagenet"),
    ],
)
def test_usage(arguments, why, capsys):
    assert why in " ".join(run(capsys, "space", *arguments, code=2).err.replace("│", " ").split())


def test_a_missing_data_set_is_one_line(space, tmp_path, capsys):
    captured = run(capsys, space, "--data", tmp_path / "nowhere", "-o", tmp_path / "out", code=1)
    assert captured.err.startswith("error: ")
    assert "found nothing there" in captured.err
    assert not (tmp_path / "out").exists()


def test_a_clip_whose_frame_fails_is_not_averaged_over_the_rest(space, ave, unpacked, tmp_path):
    clips = read_clips(ave, unpack=unpacked, frames="mean:3")
    frames = list(clips.clips[0].parts[IMAGE])
    frames[1] = replace(frames[1], id="gone", path=tmp_path / "gone.png")
    first = replace(clips.clips[0], parts={**clips.clips[0].parts, IMAGE: tuple(frames)})
    paired = evaluate(
        Subject.open(str(space)), replace(clips, clips=(first, *clips.clips[1:])), folder=tmp_path / "memories"
    )
    assert paired.missing == [("tiny0000000", "image: cannot be read: No such file or directory")]


def test_two_memories_of_a_bare_encoder_are_measured_without_a_space(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    scenes = world.test_scenes(0)[:20]
    world.write_images(tmp_path / "images", scenes, 0)
    captions = [world.picture_caption(scene, np.random.default_rng(0), omit=0.0) for scene in scenes]
    lines = [json.dumps({"id": f"{number:05d} ", "text": text}) + "\n" for number, text in enumerate(captions)]
    (tmp_path / "captions.jsonl").write_text("".join(lines))
    for source, memory in (("images", "x"), ("captions.jsonl", "y")):
        assert main(["embed", source, "-e", "tiny-clip", "-o", memory]) == 0
    found = run(capsys, "tiny-clip", "--a", "x:image", "--b", "y:text", "--json")
    shown, encoder = json.loads(found.out), load_encoder("tiny-clip")
    pictures, texts = (Memory.open(name).vectors(modality) for name, modality in (("x", IMAGE), ("y", Modality.TEXT)))
    for k in (1, 5, 10):
        assert shown["values"]["image->text"][f"recall@{k}"] == pytest.approx(naive_recall(pictures, texts, k))
    assert (shown["n"], shown["fingerprints"]["space"]) == (20, encoder.fingerprint)
    assert "20 pairs whose ids differ in how" in found.err and "next: cmcr connect" in found.err
    assert "y was made by tiny-clip" not in run(capsys, "tiny-clap", "--a", "x:image", "--b", "y:text", code=1).out
    assert (
        "gone: does not exist; expected a memory"
        in run(capsys, "tiny-clip", "--a", "gone:image", "--b", "y:text", code=1).err
    )


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
def test_everybody_can_read_the_page(space, ave, tmp_path, capsys, width):
    run(capsys, space, "--data", ave, "-o", tmp_path / "out", "--html")
    assert visit(tmp_path / "out/index.html", width)["audio"] > 0
