"""ModelNet40 zero-shot on the tiny world, against a recomputation in plain loops and a second library."""

import json
import pickle
from collections import Counter

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, top_k_accuracy_score

from cmcr.ask import Subject
from cmcr.cli import main
from cmcr.connect import ConnectConfig, connect
from cmcr.embed import embed
from cmcr.encoders import load_encoder
from cmcr.encoders.tiny import TinyEncoder
from cmcr.errors import InputError
from cmcr.evaluate.zero_shot import modelnet40
from cmcr.evaluate.zero_shot.classes import Templates, load_templates
from cmcr.evaluate.zero_shot.modelnet40 import evaluate, prepared, sampled
from cmcr.items import Item, read_items
from cmcr.memory import Memory
from cmcr.modality import Modality
from cmcr.space import ConnectedSpace
from cmcr.tiny.folders import write_unpaired
from cmcr.tiny.modelnet import CLASSES, write_dat, write_h5, write_modelnet

TEXT, CLOUD = Modality.TEXT, Modality.POINT_CLOUD
PLAIN, TWO = load_templates("plain"), Templates("two", ("{}", "a drawing of {}"))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A small space of tiny-clip and tiny-ulip, joined through images by a linear map; 80 labelled clouds, and 40."""
    folder = tmp_path_factory.mktemp("tiny-modelnet")
    write_unpaired(folder, 0, {"texts": 200, "images": 200, "sounds": 0, "clouds": 40})
    for name, sources in (("clip", ("texts/of-pictures.txt", "images")), ("ulip", ("images", "clouds"))):
        encoder = load_encoder(f"tiny-{name}")
        for source in sources:
            embed(encoder, read_items(str(folder / source), None, encoder.modalities), folder / "mem" / name)
    memories = (Memory.open(folder / "mem" / name) for name in ("clip", "ulip"))
    connect(*memories, folder / "space", ConnectConfig(method="linear"))
    write_modelnet(folder / "data", 2, splits=["test"])
    write_modelnet(folder / "small", 1, splits=["test"])
    return folder


@pytest.fixture
def run(tiny, tmp_path, capsys):
    """``run("--templates", "plain")``: exit code, stdout, stderr of ``cmcr eval modelnet40`` on the tiny space."""

    def call(*options, data=tiny / "small", subject=tiny / "space"):
        command = ["eval", "modelnet40", str(subject), "--data", str(data), "-o", str(tmp_path / "out")]
        code = main([*command, *map(str, options)])
        return code, *capsys.readouterr()

    return call


def naive(folder, templates, order):
    """Return the (N, C) cosines, one cloud, one class and one phrase at a time."""
    space = ConnectedSpace.from_pretrained(folder / "space")
    clip, ulip = load_encoder("tiny-clip"), load_encoder("tiny-ulip")
    names = (folder / "data" / "modelnet40_shape_names.txt").read_text().split()
    truth, clouds, classes = [], [], []
    for line in (folder / "data" / "modelnet40_test.txt").read_text().split():
        name = line[: line.rindex("_")]
        points = np.loadtxt(folder / "data" / name / f"{line}.txt", delimiter=",")[:, :3]
        buffer = "\n".join(" ".join(map(str, row)) for row in points).encode()
        raw = ulip.encode(CLOUD, [ulip.prepare(Item("x", CLOUD, "x.txt", path=folder), buffer)])
        truth.append(names.index(name))
        clouds.append(space.project(raw, encoder="tiny-ulip", modality=CLOUD)[0])
    for name in names:
        vectors = []
        for template in templates:
            phrase = template.replace("{}", name.replace("_", " "))
            raw = clip.encode(TEXT, [clip.prepare(Item("x", TEXT, "x", text=phrase), phrase.encode())])
            late = order == "project-first"
            vectors.append((space.project(raw, encoder="tiny-clip", modality=TEXT) if late else raw)[0])
        mean = sum(vectors) / len(vectors)
        if order == "average-first":
            mean = space.project(mean[None] / np.linalg.norm(mean), encoder="tiny-clip", modality=TEXT)[0]
        classes.append(mean / np.linalg.norm(mean))
    scores = [[float(np.dot(cloud, each)) for each in classes] for cloud in clouds]
    return np.array(scores), np.array(truth)


def test_both_orders_agree_with_plain_loops_and_with_scikit_learn_far_above_chance(tiny, tmp_path):
    outcome = evaluate(Subject.open(str(tiny / "space")), tiny / "data", folder=tmp_path, templates=TWO)
    result = outcome.result
    assert (result.n, result.expected, result.gallery, result.shortfall) == (80, 80, 40, "")
    assert result.chance == {"top-1": 1 / 40, "top-3": 3 / 40, "top-5": 5 / 40, "mean per class": 1 / 40}
    assert list(result.values) == ["project-first", "average-first"]
    for order in result.values:
        scores, truth = naive(tiny, TWO.phrases, order)
        np.testing.assert_array_equal(outcome.truth, truth)
        np.testing.assert_allclose(outcome.scores[order], scores, atol=1e-4)
        values, predicted = result.values[order], scores.argmax(axis=1)
        for k in (1, 3, 5):
            hits = sum(truth[i] in np.argsort(-row)[:k] for i, row in enumerate(scores))
            assert values[f"top-{k}"] == hits / 80 == top_k_accuracy_score(truth, scores, k=k)
        assert values["mean per class"] == pytest.approx(balanced_accuracy_score(truth, predicted))
        np.testing.assert_array_equal(result.confusion[order], confusion_matrix(truth, predicted, labels=range(40)))
        shares = [float(np.mean(predicted[truth == number] == number)) for number in range(40)]
        assert result.per_class[order] == pytest.approx(shares)
        assert values["top-1 low"] <= values["top-1"] <= values["top-1 high"]
        assert values["top-1"] > 0.25
        assert values["top-5"] > 0.6
    assert result.counts == (2,) * 40
    assert result.labels == tuple(name.replace("_", " ") for name in sorted(CLASSES))


def test_the_settings_name_every_choice(tiny, tmp_path):
    result = evaluate(Subject.open(str(tiny / "space")), tiny / "small", folder=tmp_path, templates=PLAIN).result
    settings = result.settings
    assert settings["points"] == "8192 farthest, from a cloud's first point on; of fewer all"
    assert settings["points given"] == "1024-1024"
    assert (settings["up"], settings["columns"]) == ("as the encoder expects", "xyz")
    assert settings["centring and scale"] == "the encoder's own"
    assert settings["order"] == "project-first, average-first"
    assert (settings["item encoder"], settings["text encoder"], settings["method"]) == (
        "tiny-ulip",
        "tiny-clip",
        "linear",
    )
    assert settings["templates"].startswith("plain (1, sha256 ")
    assert set(result.fingerprints) == {"subject", "items"}
    assert result.notes == ("not the classes of ModelNet40, but 40 classes: four_bells, four_birds, four_cats ...",)


def test_a_second_run_embeds_nothing_and_changes_no_memory(run, tmp_path, folder_bytes, monkeypatch):
    code, first, _ = run("--templates", "plain", "--points", 512)
    assert code == 0
    before = {name: data for name, data in folder_bytes(tmp_path / "out").items() if name != "result.json"}
    assert any(name.startswith("unpacked/512-points/") for name in before)
    monkeypatch.setattr(TinyEncoder, "encode", lambda *_: pytest.fail("embedded again"))
    monkeypatch.setattr(modelnet40, "farthest_points", lambda *_: pytest.fail("sampled again"))
    assert run("--templates", "plain", "--points", 512)[:2] == (0, first)
    after = {name: data for name, data in folder_bytes(tmp_path / "out").items() if name != "result.json"}
    assert after == before


def test_every_form_of_the_data_gives_the_same_numbers(run, tmp_path, tiny):
    expected = run("--templates", "plain")[1]
    write_dat(tmp_path / "dat", 1)
    write_h5(tmp_path / "h5", 1)
    manifest = tmp_path / "set.csv"
    names = (tiny / "small" / "modelnet40_test.txt").read_text().split()
    labels = [name.rpartition("_")[0] for name in names]
    rows = [f"{tiny}/small/{label}/{name}.txt,{label}\n" for name, label in zip(names, labels, strict=True)]
    manifest.write_text("path,label\n" + "".join(rows))
    for data in (tmp_path / "dat", tmp_path / "h5", manifest):
        assert run("--templates", "plain", data=data)[1] == expected


def test_the_number_of_points_and_the_axis_act(run):
    whole = json.loads(run("--templates", "plain", "--json")[1])
    fewer = json.loads(run("--templates", "plain", "--json", "--points", 64)[1])
    fallen = json.loads(run("--templates", "plain", "--json", "--up", "y")[1])
    as_is = json.loads(run("--templates", "plain", "--json", "--points", 0)[1])
    assert fewer["settings"]["points given"] == "64-64"
    assert fewer["values"] != whole["values"]
    assert fallen["settings"]["up"] == "y"
    assert fallen["values"]["project-first"]["top-1"] < whole["values"]["project-first"]["top-1"]
    assert as_is["settings"]["points"] == "as the files have them"
    assert as_is["values"] == whole["values"]  # 1,024 points are fewer than 8,192


def test_the_farthest_points_are_chosen_and_what_cannot_be_read_becomes_a_problem(tmp_path):
    line = np.stack([np.arange(100.0), np.zeros(100), np.zeros(100)], axis=1)
    np.save(tmp_path / "line.npy", np.concatenate([line, line], axis=1))
    np.savetxt(tmp_path / "line.txt", line[:3])
    (tmp_path / "broken.txt").write_text("1 2 three\n")
    items = [
        Item(name, CLOUD, str(tmp_path / name), path=tmp_path / name)
        for name in ("line.npy", "line.txt", "broken.txt", "gone.txt")
    ]
    done, given = sampled(items, tmp_path / "out", 3)
    assert given == {3}
    assert sorted(np.load(done[0].path)[:, 0]) == [0, 49, 99]
    np.testing.assert_array_equal(np.load(done[1].path), line[:3])
    assert "damaged point cloud" in done[2].problem
    assert done[3].problem == "cannot be read: No such file or directory"
    assert sampled(items[:1], tmp_path / "out", 100)[0] == items[:1]  # few enough: the file itself


def test_a_changed_cloud_is_sampled_anew(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("0 0 0\n1 0 0\n")
    first, _ = sampled([Item("a", CLOUD, str(path), path=path)], tmp_path / "out", 1)
    path.write_text("5 0 0\n1 0 0\n6 0 0\n")
    second, _ = sampled([Item("a", CLOUD, str(path), path=path)], tmp_path / "out", 1)
    assert [np.load(each[0].path)[0, 0] for each in (first, second)] == [0, 5]


def test_what_is_missing_is_counted_and_strict_fails(run, tiny, tmp_path):
    data = tmp_path / "data"
    write_modelnet(data, 1, splits=["test"])
    one, two, three = sorted(data.glob("*/*.txt"))[:3]
    one.unlink()
    two.write_text("not a cloud")
    three.write_text("1,2,3\n" * 5)
    with (data / "modelnet40_test.txt").open("a") as file:
        file.write("five_bells_0001\n")
    code, out, err = run("--templates", "plain", "--json", data=data)
    result = json.loads(out)
    assert (code, result["n"], result["expected"]) == (0, 37, 41)
    assert "warning: measured over 37 of 41 items: " in err
    reasons = Counter(result["skipped"])
    assert reasons["listed, but its file is missing"] == 1
    assert reasons["unknown class 'five_bells'; not among the 40 names"] == 1
    assert reasons["5 points; at least 32 are needed"] == 1
    assert sum(reasons.values()) == 4
    assert run("--templates", "plain", "--strict", data=data)[0] == 1
    assert run("--templates", "plain", "--strict")[0] == 0


def test_what_was_mended_is_embedded_and_nothing_else(run, tmp_path, monkeypatch):
    data = tmp_path / "data"
    write_modelnet(data, 1, splits=["test"])
    path = sorted(data.glob("*/*.txt"))[0]
    whole = path.read_text()
    path.write_text("1,2,3\n" * 5)
    assert json.loads(run("--templates", "plain", "--json", data=data)[1])["n"] == 39
    path.write_text(whole)
    embedded, real = [], TinyEncoder.encode
    monkeypatch.setattr(
        TinyEncoder, "encode", lambda own, kind, items: embedded.extend(items) or real(own, kind, items)
    )
    assert json.loads(run("--templates", "plain", "--json", data=data)[1])["n"] == 40
    assert len(embedded) == 1


def test_nothing_left_is_an_error_and_not_a_result(run, tmp_path):
    data = tmp_path / "data"
    write_modelnet(data, 1, splits=["test"])
    for path in data.glob("*/*.txt"):
        path.write_text("not a cloud")
    code, out, err = run("--templates", "plain", data=data)
    assert (code, out) == (1, "")
    assert "none of 40 items could be embedded: 40 x damaged point cloud" in err


def test_a_pickle_that_wants_more_than_arrays_fails_in_one_line(run, tmp_path):
    path = write_dat(tmp_path / "dat", 1)
    path.write_bytes(pickle.dumps([[Counter()], [0]]))
    code, _, err = run("--templates", "plain", data=path)
    assert code == 1
    assert "only arrays, strings, numbers, lists and dicts are read" in err
    assert len(err.strip().splitlines()) == 1


def test_the_ladder_says_that_an_encoder_without_text_cannot_be_asked_alone(run):
    code, out, err = run("--templates", "plain", "--ladder")
    assert code == 0
    assert "ladder: tiny-ulip has no text tower, so it cannot be asked alone" in err
    assert [line.split("\t")[0] for line in out.splitlines()] == ["", "project-first", "average-first", "chance"]


def test_a_bare_encoder_without_text_cannot_be_the_subject(run):
    code, _, err = run("--templates", "plain", subject="tiny-ulip")
    assert code == 1
    assert "tiny-ulip embeds point_cloud and image, not text" in err


def test_a_phrase_that_cannot_be_embedded_fails_the_run(run, tmp_path):
    file = tmp_path / "labels.json"
    file.write_text(json.dumps({"one_bee": "xylograph"}))
    code, _, err = run("--templates", "plain", "--labels", file)
    assert code == 1
    assert "tiny-clip cannot embed 1 texts: no word that tiny-clip knows: 'xylograph'" in err


def test_one_order_another_list_and_each_class(run, tmp_path):
    file = tmp_path / "templates.json"
    file.write_text(json.dumps({"modelnet40_2": TWO.phrases, "other": ["{}"]}))
    code, out, err = run("--templates", file, "--order", "average-first", "--per-class")
    assert code == 0
    rows = [line.split("\t") for line in out.splitlines()]
    assert [row[0] for row in rows[:4]] == ["", "average-first", "chance", "class"]
    assert [row[0] for row in rows[4:]] == sorted(CLASSES)
    assert "templates.json: modelnet40_2 (2, sha256 " in err
    assert not (tmp_path / "out" / "index.html").exists()
    other = run("--html", "--templates", file, "--template-set", "other", "--order", "average-first")[1]
    assert other.splitlines()[1] != out.splitlines()[1]
    assert "average-first" in (tmp_path / "out" / "index.html").read_text()


def test_other_layouts_and_negative_points_are_refused(run, tmp_path, tiny):
    (tmp_path / "set" / "meta").mkdir(parents=True)
    (tmp_path / "set" / "audio").mkdir()
    (tmp_path / "set" / "meta" / "esc50.csv").write_text("filename,fold,category\na.wav,1,dog\n")
    code, _, err = run("--templates", "plain", data=tmp_path / "set")
    assert code == 1
    assert "layout esc50; expected modelnet40, princeton" in err
    assert "see cmcr eval zero-shot" in err
    assert run("--points", -1)[0] == 2
    from cmcr.datasets import read_labelled

    with pytest.raises(InputError, match="-1 points"):
        prepared(read_labelled(tiny / "data", unpack=tmp_path), tmp_path, -1, None)


def test_princeton_stands_z_up_unless_said_otherwise(tiny, tmp_path):
    import trimesh

    for name in ("one_car", "one_phone"):
        path = tmp_path / "set" / name / "test" / f"{name}_0001.off"
        path.parent.mkdir(parents=True)
        trimesh.creation.box((1, 2, 3)).export(path)
    subject = Subject.open(str(tiny / "space"))
    given = {}
    for up in (None, "y", "z"):
        result = evaluate(subject, tmp_path / "set", folder=tmp_path, templates=PLAIN, points=200, up=up).result
        given[up] = result.settings["up"], result.values["project-first"], result.n
    assert given[None][0] == "z (of layout princeton, unconfirmed)"
    assert given[None][1:] == given["z"][1:]
    assert (given["y"][0], given["y"][2]) == ("y", 2)


def test_an_encoder_that_draws_points_itself_is_named(tiny, tmp_path):
    dense = tmp_path / "set" / "one_car"
    dense.mkdir(parents=True)
    np.save(dense / "a.npy", np.random.default_rng(0).random((3000, 3)).astype(np.float32))
    subject = Subject.open(str(tiny / "space"))
    notes = evaluate(subject, tmp_path / "set", folder=tmp_path, templates=PLAIN, points=2000).result.notes
    assert notes[-1] == (
        "tiny-ulip itself keeps 1024 of up to 2000 points it was given, drawn at random with a fixed seed"
    )
