"""``cmcr classify``: fit and predict from the command line, what they refuse, and a folder that may be a stranger's."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from labelled import world
from safetensors.numpy import load_file, save_file
from worlds import rows, write

from cmcr.classify import Classifier
from cmcr.cli import main
from cmcr.errors import ArtifactError
from cmcr.files import sha256_file
from cmcr.memory import Memory
from cmcr.modality import Modality

SIDES = ["--memory", "see:image", "--memory", "hear:audio"]
QUICK = ["--epochs", "8", "--width", "16"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two memories that share most ids, labels, and a classifier fitted to them."""
    place = tmp_path_factory.mktemp("classify")
    memories, labels = world(rows=120)
    for name, memory in memories.items():
        encoder, modality = name.split(":")
        kept = slice(0, 100) if encoder == "see" else slice(20, 120)
        part = memory.vectors(Modality(modality))[kept], rows("r", 120)[kept]
        write(place / encoder, encoder, {Modality(modality): part})
    lines = [f"r{int(name[1:])},{label}\n" for name, label in labels.items()]
    (place / "labels.csv").write_text("id,label\n" + "".join(lines[:110]) + "nobody,drum\nno,bell\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert main(["classify", "fit", *SIDES, "--labels", "labels.csv", "-o", "model", *QUICK]) == 0
    return place


@pytest.fixture
def place(made, tmp_path, monkeypatch):
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(capsys, *argv):
    code = main(["classify", *map(str, argv)])
    out, err = capsys.readouterr()
    return code, out, err


def test_fit_prints_every_baseline_beside_it(place, capsys):
    code, out, err = run(capsys, "fit", *SIDES, "--labels", "labels.csv", "-o", "again", *QUICK)
    assert code == 0, err
    lines = [line.split("\t") for line in out.splitlines()]
    names = ["MLA", "image alone", "audio alone", "concatenation", "sum", "late fusion", "OGM-GE", "QMF"]
    assert [line[0] for line in lines] == ["method", *names]
    assert lines[0][1:] == ["accuracy", "ECE"] and float(lines[1][1]) > 0.9
    assert "2 labels are of ids that no memory holds" in err
    assert "10 of 120 rows have no label and were left out" in err
    assert "20 of 110 labelled rows lack audio" in err
    assert "next: cmcr classify predict again --memory see:image --memory hear:audio" in err
    files = [sorted(path.name for path in Path(each).iterdir()) for each in ("model", "again")]
    assert files[0] == files[1] and {"config.json", "model.safetensors"} <= set(files[0])
    weights = [Path(each, "model.safetensors").read_bytes() for each in ("model", "again")]
    assert weights[0] == weights[1]


def test_predict_says_a_class_of_every_row_whatever_it_has(place, capsys):
    code, out, err = run(capsys, "predict", "model", *SIDES, "-o", "said.csv")
    assert code == 0, err
    with open("said.csv", newline="") as file:
        said = list(csv.DictReader(file))
    assert len(said) == 120 == sum(int(line.split("\t")[1]) for line in out.splitlines()[1:])
    labels = {f"r{int(name[1:])}": label for name, label in world(rows=120)[1].items()}
    assert sum(labels[row["id"]] == row["label"] for row in said) > 108
    for row in said:
        shares = float(row["weight of image"]), float(row["weight of audio"])
        assert sum(shares) == pytest.approx(1, abs=1e-5) and 1 / 3 <= float(row["probability"]) <= 1
        if int(row["id"][1:]) < 20:
            assert shares == (1, 0)
    assert "40 of 120 rows lack a modality and were predicted from the others" in err
    code, _, err = run(capsys, "predict", "model", "--memory", "hear:audio", "-o", "heard.csv")
    assert code == 0 and "100 of 100 rows lack a modality" in err


def test_settings_are_kept_and_a_split_is_obeyed(place, capsys):
    known = Path("labels.csv").read_text().splitlines()[1:]
    listed = [f"{line},{'test' if number % 5 == 0 else 'train'}\n" for number, line in enumerate(known)]
    Path("listed.csv").write_text("id,label,split\n" + "".join(listed))
    code, out, _ = run(capsys, "fit", *SIDES, "--labels", "listed.csv", "-o", "other", *QUICK, "--no-project", "--json")
    found = json.loads(out)
    assert code == 0 and found["held out"] == 22 and found["rows"] == 88
    model = Classifier.from_pretrained("other")
    assert not model.settings.project and model.metrics["MLA"] == found["MLA"]


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ("id,label\nr1,bell\nr2,bell\n", "one class only ('bell')"),
        ("id,label\nr1,bell\nr2,bell\nr3,drum\n", "1 of 2 classes have one row ('drum')"),
        ("id,label\nx,bell\ny,drum\n", "none of 2 labels is of an id that the memories hold"),
        ("id,label,split\nr1,bell,train\nr2,drum,train\nr3,bell,train\nr4,drum,train\n", "in the split 'test'"),
        ("", "no label in it"),
    ],
)
def test_labels_that_cannot_be_used_are_one_line(place, capsys, labels, said):
    Path("bad.csv").write_text(labels)
    code, out, err = run(capsys, "fit", *SIDES, "--labels", "bad.csv", "-o", "none")
    assert code == 1 and not out and said in err and err.count("\n") == 1
    assert not Path("none").exists()


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (["predict", "see", "--memory", "see:image"], 1, "not a classifier (no config.json)"),
        (["predict", "model", "--memory", "see:audio"], 1, "holds no audio"),
        (["predict", "model", "--memory", "see"], 2, "expected MEMORY:MODALITY"),
        (["predict", "model", "--memory", "else:text"], 1, "text of else (fp-else): not what this model was fitted on"),
        (["fit", *SIDES, "--labels", "labels.csv", "-o", "see"], 1, "see is a memory; choose another folder"),
        (["fit", *SIDES, "--labels", "labels.csv", "-o", "held"], 1, "config.json that is no classifier's"),
        (["fit", *SIDES, "--labels", "labels.csv", "--alpha", "0"], 1, "alpha 0"),
        (["fit", "--memory", "see:image", "--memory", "see:image", "--labels", "labels.csv"], 1, "stands there twice"),
    ],
)
def test_what_is_refused_is_one_line(place, capsys, argv, code, said):
    Path("held").mkdir()
    Path("held/config.json").write_text('{"format": "cmcr-space"}')
    write(place / "else", "else", {Modality.TEXT: (np.eye(3, dtype=np.float32), rows("t", 3))})
    found, _, err = run(capsys, *argv)
    assert found == code and said in err and err.count("\n") == 1


def test_info_says_what_a_classifier_reads_and_tells_apart(place, capsys):
    assert main(["info", "model"]) == 0
    said = dict(line.split("\t") for line in capsys.readouterr().out.splitlines())
    assert said["classifier"] == "MLA, a step each of image, audio"
    assert said["reads image"] == "image of see; 12 -> 16; fp-see" and said["classes"] == "3: bell, drum, horn"
    assert said["metrics.rows"] == "82" and said["metrics.MLA"].startswith("accuracy 0.9")
    assert said["settings.epochs"] == "8" and said["settings.anneal_alpha"] == "False"
    assert main(["info", "model", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(Path("model/config.json").read_text())


def test_info_verifies_a_classifier(place, capsys):
    assert main(["info", "model", "--verify"]) == 0
    assert "model: sound: image + audio" in capsys.readouterr().err
    Path("model/.config.json.0123456789abcdef.partial").touch()
    Path("model/model.safetensors").write_bytes(Path("model/model.safetensors").read_bytes()[:-1] + b"x")
    assert main(["info", "model", "--verify"]) == 1
    assert "is not the file config.json names; fit anew" in capsys.readouterr().err
    edit(lambda c: c.update(version=2))
    assert main(["info", "model"]) == 1
    assert "version 2, expected 'cmcr-classifier' version 1" in capsys.readouterr().err


def edit(change):
    path = Path("model/config.json")
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c.update(version=2), "version 2"),
        (lambda c: c.update(extra=1), "unknown extra"),
        (lambda c: c["settings"].update(width=1 << 40), "above half of memory"),
        (lambda c: c["settings"].update(alpha=0), "alpha 0.0; expected a number above 0"),
        (lambda c: c.update(classes=["bell"]), "1 classes, expected two or more"),
        (lambda c: c.update(classes=["bell", "drum", "bell"]), "two classes have one name"),
        (lambda c: c.update(classes=["bell", "drum"]), "config.json says"),
        (lambda c: c["channels"].append(c["channels"][0]), "stands there twice"),
        (lambda c: c["channels"][0].update(modality="Nonsense!"), "Nonsense!"),
        (lambda c: c["channels"][0].update(dim=0), "0 components"),
        (lambda c: c.update(model_sha256="0" * 64), "is not the file config.json names"),
    ],
)
def test_a_config_is_checked_before_anything_is_made_of_it(place, change, said):
    edit(change)
    with pytest.raises(ArtifactError, match=said) as caught:
        Classifier.from_pretrained("model")
    assert "model" in str(caught.value) and "fit anew" in str(caught.value)


@pytest.mark.parametrize(("spoil", "said"), [(np.nan, "not finite"), (None, "has not the tensors")])
def test_weights_are_checked_too(place, spoil, said):
    path = Path("model/model.safetensors")
    tensors = load_file(path)
    key = next(iter(tensors))
    if spoil is None:
        tensors["more"] = tensors.pop(key)
    else:
        tensors[key][...] = spoil
    save_file(tensors, path)
    edit(lambda c: c.update(model_sha256=sha256_file(path)))
    with pytest.raises(ArtifactError, match=said):
        Classifier.from_pretrained("model")
    path.write_bytes(b"x")
    with pytest.raises(ArtifactError, match="is not the file"):
        Classifier.from_pretrained("model")
    path.unlink()
    with pytest.raises(ArtifactError, match="No such file"):
        Classifier.from_pretrained("model")


def test_opened_again_it_says_the_same(place):
    from cmcr.classify import join_table

    model = Classifier.from_pretrained("model")
    of = join_table([(Memory.open("see"), "image"), (Memory.open("hear"), "audio")])
    model.save("copy")
    again = Classifier.from_pretrained("copy").predict(of)
    assert np.array_equal(again.probabilities, model.predict(of).probabilities)
    assert again.ids == of.ids and again.channels == ("image", "audio")
