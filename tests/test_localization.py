"""Sound source localisation on the tiny world, end to end and against a recomputation one crop at a time."""

import io
import json
import re
import shutil
from collections import Counter

import numpy as np
import pytest
from browser import visit
from listening import write_listening_space
from PIL import Image
from sklearn.metrics import auc
from spaces import FakeEncoder, make_space

from cmcr.ask import Subject
from cmcr.ask import subject as subject_module
from cmcr.cli import main
from cmcr.datasets.boxes import Box
from cmcr.datasets.clips import Clip, Clips
from cmcr.encoders import load_encoder
from cmcr.errors import ArtifactError, InputError
from cmcr.evaluate.localization.crops import Crops, box_of, crop_id
from cmcr.evaluate.localization.locate import Choices, evaluate, truth_of
from cmcr.evaluate.localization.page import localization_page, marked
from cmcr.evaluate.localization.proposals import GRIDS, Proposals, grid, open_proposals
from cmcr.items import Item
from cmcr.modality import Modality
from cmcr.numbers import localization as measured
from cmcr.space import ConnectedSpace
from cmcr.tiny.clips import write_flickr, write_vggss

IMAGE, AUDIO = Modality.IMAGE, Modality.AUDIO


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A small space, and a dozen clips in the layout of VGG-SS and of Flickr-SoundNet each."""
    folder = tmp_path_factory.mktemp("localization")
    write_listening_space(folder)
    write_vggss(folder / "vggss", 0, 12)
    write_flickr(folder / "flickr", 0, 12)
    return folder


@pytest.fixture
def run(tiny, tmp_path, capsys):
    """``run("--map", "heat")``: exit code, stdout and stderr of ``cmcr eval localization`` on the tiny space."""

    def call(*options, data=tiny / "vggss", subject=tiny / "space", out=tmp_path / "out"):
        command = ["eval", "localization", str(subject), "--data", str(data), "-o", str(out)]
        code = main([*command, *map(str, options)])
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def vggss(tiny, tmp_path):
    """A copy of the tiny VGG-SS that a test may damage."""
    return shutil.copytree(tiny / "vggss", tmp_path / "vggss")


def look(clips, folder, choices=None):
    """Evaluate fake clips in the fake space, over the grid unless chosen otherwise."""
    return evaluate(Subject("space", make_space()), clips, choices or Choices(open_proposals("grid")), folder=folder)


def result_in(folder):
    return json.loads((folder / "result.json").read_text())


def predictions_in(folder):
    return [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]


def naive(folder, space, boxes, count):
    """Return the cosines of the crops and the true boxes of the first clips, each crop a picture of its own."""
    space, clip, clap = ConnectedSpace.from_pretrained(space), load_encoder("tiny-clip"), load_encoder("tiny-clap")

    def vectors(encoder, modality, contents):
        items = [Item("x", modality, "x", path=folder)] * len(contents)
        raw = encoder.encode(modality, [encoder.prepare(*pair) for pair in zip(items, contents, strict=True)])
        return space.project(raw, encoder=encoder.name, modality=modality)

    found = []
    for record in json.loads((folder / "vggss.json").read_text())[:count]:
        heard = vectors(clap, AUDIO, [(folder / "data" / "audio" / f"{record['file']}.wav").read_bytes()])[0]
        picture = Image.open(folder / "data" / "frames" / f"{record['file']}.jpg").convert("RGB")
        width, height = picture.size
        crops = []
        for x0, y0, x1, y1 in boxes:
            file = io.BytesIO()
            corners = (np.floor(x0 * width), np.floor(y0 * height), np.ceil(x1 * width), np.ceil(y1 * height))
            picture.crop(tuple(map(int, corners))).save(file, "PNG")
            crops.append(file.getvalue())
        found.append((vectors(clip, IMAGE, crops) @ heard, record["bbox"]))
    return found


def overlap(box, truth):
    """The cIoU of a box with the union of true boxes: sets of pixels."""

    def inside(b):
        x0, y0, x1, y1 = (int(224 * value) for value in b)
        return {(x, y) for x in range(x0, x1) for y in range(y0, y1)}

    union = set().union(*map(inside, truth))
    return len(inside(box) & union) / len(inside(box) | union)


def test_vggss_end_to_end_agrees_with_one_crop_at_a_time(run, tiny, tmp_path):
    code, table, said = run("--memories", tiny / "memories")
    answers, result = predictions_in(tmp_path / "out"), result_in(tmp_path / "out")
    assert code == 0
    boxes = grid(GRIDS["grid"])
    for answer, (cosines, truth) in zip(answers, naive(tiny / "vggss", tiny / "space", boxes, 4), strict=False):
        best = boxes[np.argmax(cosines)]
        np.testing.assert_allclose(answer["best box"], best)
        assert answer["cosine"] == pytest.approx(cosines.max(), abs=1e-5) == answer["confidence"]
        assert answer["ciou"] == pytest.approx(overlap(best, truth))
    own, bound, chance = result["values"]["best cosine"], result["values"]["oracle: best proposal"], result["chance"]
    truths = [
        measured.truth_map([record["bbox"]]) for record in json.loads((tiny / "vggss" / "vggss.json").read_text())
    ]
    masks = measured.masks(boxes)
    guesses = np.array([[measured.ciou(mask, truth) for mask in masks[::9]] for truth in truths])
    exact = np.array([measured.ciou_of_boxes(boxes, truth) for truth in truths])
    np.testing.assert_allclose(guesses, exact[:, ::9])
    for numbers, cious in ((own, [each["ciou"] for each in answers]), (bound, exact.max(axis=1)), (chance, exact)):
        assert numbers["cIoU@0.5"] == pytest.approx(np.mean(np.array(cious) >= 0.5))
        assert numbers["mean cIoU"] == pytest.approx(np.mean(cious))
        curve = [np.mean(np.array(cious) >= t / 20) for t in range(21)]
        assert numbers["AUC"] == pytest.approx(auc(np.arange(21) / 20, curve))
    assert (result["n"], result["expected"], result["gallery"], result["skipped"]) == (12, 12, 100, {})
    assert own["cIoU@0.5"] > 0.25 > 10 * chance["cIoU@0.5"] and own["AUC"] > 2.5 * chance["AUC"]
    assert own["cIoU@0.5 low"] <= own["cIoU@0.5"] <= own["cIoU@0.5 high"] < bound["cIoU@0.5"] + 0.1
    assert result["settings"]["proposals"]["name"] == "grid" and result["settings"]["map"] == "box"
    assert result["settings"]["encoders"] == {"image": "tiny-clip", "audio": "tiny-clap"}
    assert all(result["fingerprints"].values()) and set(result["fingerprints"]) == {"subject", "sounds", "crops"}
    assert [line.split("\t")[0] for line in table.splitlines()] == ["", *result["values"], "chance"]
    assert "not one scale" in said and said.splitlines()[-1].startswith("next: cmcr eval localization")


def test_a_second_run_embeds_nothing_and_says_the_same(fakes, tmp_path, encoded):
    first = look(fakes(3), tmp_path / "m")
    assert encoded == {AUDIO: 3, IMAGE: 300}
    again = look(fakes(3), tmp_path / "m")
    assert encoded == {AUDIO: 3, IMAGE: 300}
    assert again.result.to_json() | {"seconds": 0} == first.result.to_json() | {"seconds": 0}
    np.testing.assert_array_equal([each.cosines for each in again.located], [each.cosines for each in first.located])


def test_flickr_end_to_end(run, tiny, tmp_path):
    code, out, _ = run("--json", data=tiny / "flickr")
    result = json.loads(out)
    assert code == 0 and (result["settings"]["data"], result["n"], result["expected"]) == ("flickr", 11, 11)
    assert result["values"]["best cosine"]["cIoU@0.5"] > 0.25 > 5 * result["chance"]["cIoU@0.5"]
    code = run("--split", "all", "--memories", tmp_path / "out" / "memories", data=tiny / "flickr")[0]
    assert code == 0 and result_in(tmp_path / "out")["n"] == 12


def test_the_truth_of_flickr_weighs_its_annotators():
    whole, right = Box(0, 0, 1, 1), Box(0.5, 0, 1, 1)
    two = truth_of(Clip("x", boxes=((whole,), (right,)), votes=2))
    one = truth_of(Clip("x", boxes=((right, Box(0, 0, 0.25, 1)),)))
    assert [two[0, column] for column in (0, 111, 112, 223)] == [0.5, 0.5, 1, 1]
    assert [one[0, column] for column in (0, 111, 112, 223)] == [1, 0, 1, 1]
    assert not truth_of(Clip("x", boxes=((whole,),), sounding=False)).any()


def test_a_heat_map_is_the_upper_half_of_mean_cosines(run, tiny, tmp_path):
    assert run("--map", "heat", "--memories", tiny / "memories")[0] == 0
    boxes = grid(GRIDS["grid"])
    masks = measured.masks(boxes).astype(np.float32)
    answers, result = predictions_in(tmp_path / "out"), result_in(tmp_path / "out")
    for answer, (cosines, truth) in zip(answers, naive(tiny / "vggss", tiny / "space", boxes, 2), strict=False):
        mean = np.tensordot(cosines, masks, 1) / masks.sum(axis=0)
        upper = mean > np.sort(mean, axis=None)[mean.size // 2]
        assert answer["ciou"] == pytest.approx(measured.ciou(upper, measured.truth_map([truth])), abs=0.01)
    own, bound = result["values"]["heat map"], result["values"]["oracle: best half"]
    assert result["chance"]["mean cIoU"] < own["mean cIoU"] <= bound["mean cIoU"]
    assert own["AUC"] > 1.3 * result["chance"]["AUC"]


def test_proposals_from_a_file_bound_what_can_be_found(run, vggss, tmp_path):
    records = json.loads((vggss / "vggss.json").read_text())
    boxes = {record["file"]: [[0, 0, 0.1, 0.1], record["bbox"][0]] for record in records[1:]}
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    code, _, said = run("--proposals", tmp_path / "boxes.json", "--strict", data=vggss)
    result = result_in(tmp_path / "out")
    assert code == 1 and "measured over 11 of 12 items: 1 x picture: no proposals in" in said
    assert result["gallery"] == 2
    single = [len(record["bbox"]) == 1 for record in records[1:]]
    assert result["values"]["oracle: best proposal"]["mean cIoU"] >= np.mean(single) > 0.8
    assert result["values"]["best cosine"]["cIoU@0.5"] > 0.8 > 0.5 > result["chance"]["cIoU@0.5"] - 0.05
    code, _, said = run("--proposals", "gird")
    assert code == 1 and "did you mean 'grid'" in said


def test_what_is_broken_is_counted_and_left_out(run, vggss, tmp_path):
    records = json.loads((vggss / "vggss.json").read_text())
    names = [record["file"] for record in records]
    (vggss / "data" / "frames" / f"{names[0]}.jpg").write_bytes(b"no picture")
    (vggss / "data" / "frames" / f"{names[1]}.jpg").unlink()
    (vggss / "data" / "audio" / f"{names[2]}.wav").write_bytes(b"no sound")
    records[3]["bbox"], records[4]["bbox"] = [[0.9, 0.1, 0.2, 0.5]], [[0.3, 0.4, 0.3, 0.4]]
    (vggss / "vggss.json").write_text(json.dumps(records))
    code, _, said = run(data=vggss)
    result = result_in(tmp_path / "out")
    assert code == 0 and (result["n"], result["expected"]) == (7, 12)
    assert sum(result["skipped"].values()) == 5
    reasons = " | ".join(result["skipped"])
    for expected in ("picture: not a picture", "sound: damaged or unknown", "swapped corners", "no area"):
        assert expected in reasons
    assert "warning: measured over 7 of 12 items" in said
    assert [answer["id"] for answer in predictions_in(tmp_path / "out")] == names[5:]
    assert run("--strict", data=vggss)[0] == 1
    records = [record | {"bbox": [[0.9, 0, 0.1, 1]]} for record in records]
    (vggss / "vggss.json").write_text(json.dumps(records))
    code, out, said = run(data=vggss)
    assert (code, out) == (1, "") and "none of 12 clips can be used" in said


def test_a_subject_that_does_not_hear_is_refused(run, tmp_path):
    code, _, said = run(subject="tiny-clip")
    assert code == 1 and "tiny-clip embeds image and text, not audio" in said
    code, _, said = run(data=tmp_path)
    assert code == 1 and "looked for" in said
    code, _, said = run("--image-encoder", "tiny-clap")
    assert code == 1 and "tiny-clap" in said


@pytest.fixture
def fakes(monkeypatch, tmp_path):
    """Clips of fake content, and a space of encoders that hash it: ``clips(3)``."""
    monkeypatch.setattr(subject_module, "load_encoder", lambda name, *rest, **more: FakeEncoder(name))

    def make(count):
        found = []
        for n in range(count):
            path = tmp_path / f"{n}.png"
            Image.fromarray(np.random.default_rng(n).integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(path)
            (tmp_path / f"{n}.wav").write_bytes(b"sound %d" % n)
            parts = {
                IMAGE: (Item(str(n), IMAGE, str(path), path=path),),
                AUDIO: (Item(str(n), AUDIO, f"{n}.wav", path=tmp_path / f"{n}.wav"),),
            }
            found.append(Clip(str(n), parts, label=f"<b>{n}</b>", boxes=((Box(0, 0, 0.5, 0.5),),)))
        return Clips("fake", tuple(found), count + 1)

    return make


@pytest.fixture
def encoded(monkeypatch):
    """Count what fake encoders encode, by modality."""
    counted, encode = Counter(), FakeEncoder.encode

    def counting(self, modality, prepared):
        counted[modality] += len(prepared)
        return encode(self, modality, prepared)

    monkeypatch.setattr(FakeEncoder, "encode", counting)
    return counted


def test_ties_count_against_it(fakes, tmp_path, monkeypatch):
    spread = look(fakes(6), tmp_path / "spread")

    def alike(self, modality, prepared):
        return np.eye(1, self.dim, dtype=np.float32).repeat(len(prepared), 0)

    monkeypatch.setattr(FakeEncoder, "encode", alike)
    collapsed = look(fakes(6), tmp_path / "collapsed")
    assert collapsed.result.values["best cosine"]["mean cIoU"] == 0 < spread.result.values["best cosine"]["mean cIoU"]
    heat = look(fakes(6), tmp_path / "collapsed", Choices(open_proposals("grid"), "heat"))
    assert heat.result.values["heat map"]["mean cIoU"] == 0


def test_a_crop_is_embedded_as_a_picture_and_not_as_its_whole(tmp_path):
    encoder = load_encoder("tiny-clip")
    pixels = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    file, part = io.BytesIO(), io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    Image.fromarray(pixels[30:60, 20:60]).save(part, "PNG")
    crops, name = Crops(encoder), crop_id("a#b", np.array([0.25, 0.5, 0.75, 1]))
    assert name == "a#b#0.2500,0.5000,0.7500,1.0000" and box_of(name).tolist() == [0.25, 0.5, 0.75, 1]
    item = Item(name, IMAGE, "a.png", path=tmp_path)
    np.testing.assert_array_equal(crops.prepare(item, file.getvalue()), encoder.prepare(item, part.getvalue()))
    assert (crops.name, crops.dim) == (encoder.name, encoder.dim)
    assert crops.fingerprint != encoder.fingerprint  # else a memory of crops would pass for one of pictures


def test_one_picture_in_several_clips_is_embedded_once(fakes, tmp_path, encoded):
    first, second = fakes(2).clips
    twice = Clip("again", first.parts | {AUDIO: second.parts[AUDIO]}, boxes=first.boxes)
    assert look(Clips("fake", (first, second, twice), 3), tmp_path / "m").result.n == 3
    assert encoded == {AUDIO: 2, IMAGE: 200}


def test_choices_are_checked():
    with pytest.raises(InputError, match="map 'circle'; expected box or heat"):
        Choices(open_proposals("grid"), "circle")
    with pytest.raises(InputError, match="confidence 'none'; expected best or top-quarter"):
        Choices(open_proposals("grid"), confidence="none")


def test_memories_of_another_encoder_are_refused(fakes, tmp_path, monkeypatch):
    choices = Choices(Proposals("two", lambda item: np.array([[0, 0, 1, 1], [0, 0, 0.5, 0.5]])))
    look(fakes(2), tmp_path / "m", choices)
    other = Crops(FakeEncoder("seer", "another"))
    monkeypatch.setattr("cmcr.evaluate.localization.crops.Crops", lambda encoder: other)
    with pytest.raises(ArtifactError, match="choose another folder"):
        look(fakes(2), tmp_path / "m", choices)


def test_the_page_shows_the_best_and_the_worst(fakes, tmp_path):
    done = look(fakes(20), tmp_path / "m")
    html = localization_page(done, "my <space>", "box")
    assert html == localization_page(done, "my <space>", "box")
    assert "<script" not in html and "<b>19" not in html and "&lt;b&gt;" in html and "my &lt;space&gt;" in html
    shown = re.findall(r"cIoU (\d\.\d\d), confidence", html)
    reached = sorted((each.ciou for each in done.located), reverse=True)
    assert shown == [f"{value:.2f}" for value in [*reached[:6], *reached[::-1][:6]]]
    assert html.count('<img src="data:image/jpeg') == 12 and "measured over 20 of 21 items" in html
    assert "The worst answers" not in localization_page(look(fakes(3), tmp_path / "m"), "s", "box")


@pytest.mark.parametrize("shape", ["box", "heat"])
def test_truth_and_answer_are_drawn_where_they_are(fakes, tmp_path, shape):
    each = look(fakes(1), tmp_path / "m", Choices(open_proposals("grid"), shape)).located[0]
    drawn = np.asarray(marked(Image.new("RGB", (225, 225), (200, 200, 200)), each, shape)).astype(int)
    assert drawn[40, 0].tolist() == [30, 136, 229]  # the left edge of the true box
    rows, columns = np.nonzero((drawn == [245, 124, 0]).all(axis=-1))
    if shape == "box":
        _, _, right, bottom = (each.boxes[each.best] * 224).round()
        assert abs(columns.max() - right) <= 1 and abs(rows.max() - bottom) <= 1
    else:
        away = np.ones((224, 224), bool)
        away[:120, :120] = False  # from the true box
        lit = drawn[:224, :224].min(axis=-1) > 150
        assert not len(rows) and (lit == each.answer("heat"))[away].mean() > 0.97


@pytest.mark.slow
def test_the_page_in_a_browser(run, tiny, tmp_path):
    assert run("--html", "--memories", tiny / "memories")[0] == 0
    assert visit(tmp_path / "out" / "index.html") == {"img": 12, "audio": 12, "svg": 1}


def test_the_page_is_written_on_request(run, tiny, tmp_path):
    code, _, said = run("--html", "--memories", tiny / "memories")
    assert code == 0 and "wrote" in said and "next: cmcr eval counterfactual" in said
    assert "Where does the sound come from?" in (tmp_path / "out" / "index.html").read_text()


def test_an_answer_is_a_mask(fakes, tmp_path):
    for shape in ("box", "heat"):
        each = look(fakes(1), tmp_path / "m", Choices(open_proposals("grid"), shape)).located[0]
        assert each.ciou == pytest.approx(measured.ciou(each.answer(shape), each.truth))
    np.testing.assert_array_equal(each.answer("box"), measured.masks(each.boxes[each.best])[0])
