"""Counterfactual recognition on the tiny world's extended lists, end to end and against counts one pair at a time."""

import json
import re
import shutil

import numpy as np
import pytest
from browser import visit
from listening import write_listening_space
from PIL import Image
from sklearn.metrics import roc_auc_score
from spaces import FakeEncoder, make_space

from cmcr.ask import Subject
from cmcr.ask import subject as subject_module
from cmcr.cli import main
from cmcr.datasets.boxes import Box
from cmcr.datasets.clips import Clip, Clips
from cmcr.errors import InputError
from cmcr.evaluate.localization.counterfactual import evaluate, measures, table_of
from cmcr.evaluate.localization.locate import Choices
from cmcr.evaluate.localization.page import counterfactual_page
from cmcr.evaluate.localization.proposals import open_proposals
from cmcr.items import Item
from cmcr.modality import Modality
from cmcr.numbers import localization as measured
from cmcr.tiny.clips import write_flickr, write_vggss

IMAGE, AUDIO = Modality.IMAGE, Modality.AUDIO


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A small space, and extended lists of two dozen pairs in the layouts of VGG-SS and Flickr-SoundNet."""
    folder = tmp_path_factory.mktemp("counterfactual")
    write_listening_space(folder)
    write_vggss(folder / "vggss", 0, 12)
    write_flickr(folder / "flickr", 0, 12)
    return folder


@pytest.fixture
def run(tiny, tmp_path, capsys):
    """``run("--map", "heat")``: exit code, stdout and stderr of ``cmcr eval counterfactual`` on the tiny space."""

    def call(*options, data=tiny / "vggss"):
        shared = ["-o", str(tmp_path / "out"), "--memories", str(tiny / "memories")]
        code = main(["eval", "counterfactual", str(tiny / "space"), "--data", str(data), *shared, *map(str, options)])
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def fakes(monkeypatch, tmp_path):
    """``fakes(6)``: six sounding pairs of fake content and six that pair a picture with the next one's sound."""
    monkeypatch.setattr(subject_module, "load_encoder", lambda name, *rest, **more: FakeEncoder(name))

    def make(count):
        pictures, sounds = [], []
        for n in range(count):
            path = tmp_path / f"{n}.png"
            Image.fromarray(np.random.default_rng(n).integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(path)
            (tmp_path / f"{n}.wav").write_bytes(b"sound %d" % n)
            pictures.append(Item(str(n), IMAGE, str(path), path=path))
            sounds.append(Item(str(n), AUDIO, f"{n}.wav", path=tmp_path / f"{n}.wav"))
        pairs = [
            Clip(picture.id, {IMAGE: (picture,), AUDIO: (sound,)}, boxes=((Box(0, 0, 0.7, 0.7),),))
            for picture, sound in zip(pictures, sounds, strict=True)
        ]
        pairs += [
            Clip(f"{picture.id}+{sound.id}", {IMAGE: (picture,), AUDIO: (sound,)}, sounding=False)
            for picture, sound in zip(pictures, sounds[1:] + sounds[:1], strict=True)
        ]
        return Clips("fake", tuple(pairs), 2 * count)

    return make


def look(clips, folder, shape="box", confidence="best"):
    """Evaluate fake pairs in the fake space over the grid."""
    choices = Choices(open_proposals("grid"), shape, confidence)
    return evaluate(Subject("space", make_space()), clips, choices, folder=folder)


def one_box(data, file):
    """Write a proposals file of the whole of each picture and return the options that choose it: quick to embed."""
    names = [record["file"] for record in json.loads((data / "vggss.json").read_text())]
    file.write_text(json.dumps({name: [[0, 0, 1, 1]] for name in names}))
    return ["--proposals", file, "--memories", file.parent / "m"]


def outcome(folder):
    answers = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    return json.loads((folder / "result.json").read_text()), answers


def naive(answers):
    """AP, max-F1 and LocAcc in the words of the specification, one threshold and one pair at a time."""

    def at(threshold):
        sure = [answer for answer in answers if answer["confidence"] >= threshold]
        right = sum(answer["sounding"] and answer["ciou"] >= 0.5 for answer in sure)
        missed = sum(answer["sounding"] and answer["confidence"] < threshold for answer in answers)
        precision = right / len(sure) if sure else 1.0
        return precision, right / (right + missed) if right + missed else 1.0

    falling = sorted((answer["confidence"] for answer in answers), reverse=True)
    points = [at(threshold) for threshold in falling[1:]]
    to_come = [max(precision for precision, _ in points[n:]) for n in range(len(points))]
    ap = sum(best * (after[1] - now[1]) for best, now, after in zip(to_come, points, points[1:], strict=False))
    quantiles = [at(threshold) for threshold in falling[::-1][:: max(1, len(answers) // 10)]]
    f1 = max(2 * p * r / (p + r) if p + r else 0.0 for p, r in quantiles)
    located = [answer["ciou"] > 0.5 for answer in answers if answer["sounding"]]
    return {"AP": ap, "max-F1": f1, "LocAcc": sum(located) / len(located)}


@pytest.mark.parametrize(("data", "count"), [("vggss", 24), ("flickr", 22)])
def test_extended_lists_end_to_end_agree_with_the_words_of_the_protocol(run, tiny, tmp_path, data, count):
    code, table, said = run(data=tiny / data)
    result, answers = outcome(tmp_path / "out")
    assert code == 0 and (result["n"], result["expected"], result["skipped"]) == (count, count, {})
    own, chance = result["values"]["best cosine"], result["chance"]
    for name, value in naive(answers).items():
        assert own[name] == pytest.approx(value)
        assert own[f"{name} low"] <= own[name] <= own[f"{name} high"]
    assert own["AP"] > 0.15 > 5 * chance["AP"] and own["max-F1"] > 0.25 > 5 * chance["max-F1"]
    sure = [answer["confidence"] for answer in answers]
    assert roc_auc_score([answer["sounding"] for answer in answers], sure) > 0.6
    assert result["values"]["its answers, confidence at random"]["AP"] < own["AP"]
    assert own["AP every step"] < result["values"]["oracle: best proposal, confidence knows"]["AP every step"] <= 1
    assert result["settings"]["list"].endswith("_test_plus_silent.csv")
    assert f"{count // 2} pairs with an object that sounds, {count // 2} without" in said
    assert "no false negative" in said and said.splitlines()[-1].startswith("next: cmcr eval counterfactual")
    assert [line.split("\t")[0] for line in table.splitlines()] == ["", *result["values"], "chance"]
    assert all(answer["ciou"] == 0 for answer in answers if not answer["sounding"])


def test_slavc_s_confidence_is_the_mean_over_the_upper_quarter(fakes, tmp_path):
    best, quarter = (look(fakes(3), tmp_path / "m", confidence=name) for name in ("best", "top-quarter"))
    assert quarter.result.settings["confidence"] == "top-quarter"
    for one, other in zip(best.located, quarter.located, strict=True):
        assert one.confidence == one.cosines.max() and one.ciou == other.ciou
        values = np.sort(measured.mean_map(one.boxes, one.cosines), axis=None)
        assert other.confidence == pytest.approx(values[-(224 * 224 // 4) :].mean()) != one.confidence


def test_chance_is_what_random_answers_with_random_confidences_score(fakes, tmp_path):
    done = look(fakes(8), tmp_path / "m")
    _, present, _ = table_of(done.located)
    rng, seen = np.random.default_rng(7), []
    for _ in range(1500):
        cious = np.array([rng.choice(each.cious) for each in done.located])
        seen.append(list(measures(rng.random(len(present)), present, cious).values()))
    expected = np.mean(seen, axis=0)
    np.testing.assert_allclose(list(done.result.chance.values()), expected, atol=0.03)
    exact = np.mean([np.mean(each.cious > 0.5) for each in done.located if each.clip.sounding])
    assert done.result.chance["LocAcc"] == pytest.approx(exact, abs=0.02)


def test_what_was_embedded_for_localisation_serves_again(fakes, tmp_path, monkeypatch):
    first, encoded, encode = look(fakes(3), tmp_path / "m"), [], FakeEncoder.encode
    monkeypatch.setattr(FakeEncoder, "encode", lambda self, *rest: encoded.append(rest) or encode(self, *rest))
    again = look(fakes(3), tmp_path / "m")
    assert not encoded and again.result.values == first.result.values and again.result.chance == first.result.chance
    look(fakes(3), tmp_path / "m", shape="heat")
    assert not encoded


def test_what_is_missing_is_said_and_strict_fails(run, tiny, tmp_path):
    data = shutil.copytree(tiny / "vggss", tmp_path / "vggss")
    (data / "data" / "audio" / "silence.wav").unlink()
    code, _, said = run("--strict", *one_box(data, tmp_path / "one.json"), data=data)
    result, _ = outcome(tmp_path / "out")
    assert code == 1 and (result["n"], result["expected"]) == (18, 24)
    assert "warning: measured over 18 of 24 items: 6 x" in said


def test_the_list_is_found_or_asked_for(run, tiny, tmp_path):
    data = shutil.copytree(tiny / "vggss", tmp_path / "vggss")
    listed = data / "metadata" / "vggss_test_plus_silent.csv"
    shutil.copy(listed, data / "another_test_plus_silent.csv")
    code, _, said = run(data=data)
    assert code == 1 and "2 lists named *_test_plus_silent.csv" in said and "--list FILE" in said
    assert run("--list", listed, *one_box(data, tmp_path / "one.json"), data=data)[0] == 0
    (data / "another_test_plus_silent.csv").unlink()
    listed.write_text("video,audio,label\nx,x,sounding\n")
    code, _, said = run(data=data)
    assert code == 1 and "non-sounding" in said
    listed.unlink()
    assert "0 lists named" in run(data=data)[2]


def test_pairs_of_one_kind_alone_are_refused(fakes, tmp_path):
    clips = fakes(2)
    with pytest.raises(InputError, match="every row sounds"):
        look(Clips("fake", clips.clips[:2], 2), tmp_path / "m")
    with pytest.raises(InputError, match="no pair with a sounding object can be used: none left out"):
        look(Clips("fake", clips.clips[2:], 2), tmp_path / "m")
    broken = Clip("x", {}, sounding=False)
    with pytest.raises(InputError, match="no pair with no sounding object can be used: 1 x no picture or no sound"):
        look(Clips("fake", (*clips.clips[:2], broken), 3), tmp_path / "m")


def test_the_page_shows_the_surest_of_each_kind(fakes, tmp_path):
    done = look(fakes(16), tmp_path / "m")
    html = counterfactual_page(done, "my <space>", "box")
    assert html == counterfactual_page(done, "my <space>", "box")
    assert "<script" not in html and "my &lt;space&gt;" in html
    fooled = sorted((each.confidence for each in done.located if not each.clip.sounding), reverse=True)[:6]
    assert re.findall(r"nothing here sounds, confidence (-?\d\.\d{3})", html) == [f"{value:.3f}" for value in fooled]
    for heading in ("Precision over recall", "How sure", "The surest answers in the wrong place"):
        assert heading in html


@pytest.mark.slow
def test_the_page_in_a_browser(run, tmp_path):
    assert run("--html")[0] == 0
    counts = visit(tmp_path / "out" / "index.html")
    assert counts["svg"] == 2 and counts["audio"] == counts["img"] >= 12


def test_the_page_is_written_on_request(run, tmp_path):
    code, out, said = run("--html", "--json")
    assert code == 0 and json.loads(out)["name"] == "counterfactual" and "next: cmcr eval localization" in said
    assert "Heard, and seen?" in (tmp_path / "out" / "index.html").read_text()
