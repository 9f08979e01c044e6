"""``cmcr eval interactions``: labels made so that their parts are known, the page, the command, and bad input."""

import json
from dataclasses import replace

import numpy as np
import pytest
from browser import visit
from worlds import rows, write

from cmcr.cli import main
from cmcr.datasets import ClassList
from cmcr.evaluate.interactions import probes
from cmcr.evaluate.interactions.choices import InteractionChoices
from cmcr.evaluate.interactions.interactions import evaluate
from cmcr.evaluate.interactions.page import interactions_page, words
from cmcr.items import ById
from cmcr.memory import ArrayMemory
from cmcr.modality import Modality

QUICK = InteractionChoices(shuffles=1, samples=4, folds=2)
N = 240


def made(count=N, seed=0):
    """Two vectors of signs, of which the first is in both, and labels by name."""
    rng = np.random.default_rng(seed)
    signs = rng.choice([-1.0, 1.0], (count, 3))
    both, one, two = signs.T
    see = np.stack([both, one], axis=1) @ rng.normal(size=(2, 8)) + 0.2 * rng.normal(size=(count, 8))
    hear = np.stack([both, two], axis=1) @ rng.normal(size=(2, 6)) + 0.2 * rng.normal(size=(count, 6))
    values = {"both": both, "see": one, "hear": two, "together": one * two, "none": rng.choice([-1, 1], count)}
    return see, hear, {name: np.where(value > 0, "yes", "no") for name, value in values.items()}


def sides(see, hear, kept=slice(None)):
    ids = [f"r{number}" for number in range(len(see))]
    return [
        (ArrayMemory("e", {"image": see}, {"image": ids}), "image"),
        (ArrayMemory("f", {"audio": hear[kept]}, {"audio": ids[kept]}), "audio"),
    ]


def listed(labels, splits=None):
    ids = [f"r{number}" for number in range(len(labels))]
    of = ById(dict(zip(ids, splits, strict=True)), "labels") if splits is not None else None
    return ClassList(ById(dict(zip(ids, map(str, labels), strict=True)), "labels"), of, "table")


@pytest.fixture(scope="module")
def result():
    see, hear, labels = made()
    return evaluate(sides(see, hear), {name: listed(each) for name, each in labels.items()}, QUICK)


@pytest.mark.parametrize(
    ("label", "part", "least"),
    [("both", "shared", 0.9), ("see", "first", 0.9), ("hear", "second", 0.9), ("together", "together", 0.7),
     ("none", "not found", 0.9)],
)  # fmt: skip
def test_a_label_is_found_where_it_was_put(result, label, part, least):
    found = result.labels[label]
    assert found.shares[part] > least
    assert sum(found.shares.values()) == pytest.approx(1) and min(found.shares.values()) >= 0
    assert found.low[part] <= found.shares[part] <= found.high[part]
    assert found.rows == N and found.classes == 2 and found.bits == pytest.approx(1, abs=0.02)
    assert found.shuffled["not found"] > 0.9 and (part == "not found" or found.sure(part))


def test_accuracies_stand_beside_chance(result):
    at = {name: each.accuracy for name, each in result.labels.items()}
    assert at["see"]["first"] > 0.95 and at["see"]["second"] < 0.6 and at["see"]["both"] > 0.95
    assert at["together"]["both"] < 0.6 < 0.9 < at["together"]["all"]
    assert all(0.5 <= each["chance"] < 0.6 for each in at.values())
    assert all(each["both low"] <= each["both"] <= each["both high"] for each in at.values())


def test_the_gaussian_estimate_agrees_and_sees_no_exclusive_or(result):
    parts = {name: each.gaussian for name, each in result.labels.items()}
    assert max(parts["see"], key=parts["see"].get) == "first" and max(parts["hear"], key=parts["hear"].get) == "second"
    assert parts["both"]["shared"] > 1 and sum(parts["together"].values()) < 0.05 > sum(parts["none"].values())


def test_the_page_shows_bars_and_says_what_they_mean(result):
    page = interactions_page(result)
    assert page.count("<svg") == 5 and "only image" in page and "<script" not in page
    assert "either of image and audio can stand in" in words(result, "both")[1]
    assert words(result, "see")[1] == "Keep image: audio cannot replace it."
    assert "let them be read jointly" in words(result, "together")[1]
    linear = replace(result.labels["together"], accuracy=result.labels["together"].accuracy | {"both": 0.9})
    assert "a linear model of both side by side tells" in words(replace(result, labels={"x": linear}), "x")[1]
    assert "try others" in words(result, "none")[1]


def test_the_same_seed_gives_the_same_numbers():
    see, hear, labels = made(80)
    first, again = (evaluate(sides(see, hear), {"x": listed(labels["both"])}, QUICK) for _ in range(2))
    assert first.labels == again.labels
    assert first.settings == again.settings and first.settings["samples"] == 4


def test_without_products_nothing_is_found_together(monkeypatch):
    see, hear, labels = made()
    monkeypatch.setattr(probes, "SOURCES", {"first": [0], "second": [1], "both": [0, 1, 2]})
    found = evaluate(sides(see, hear), {"x": listed(labels["together"])}, QUICK).labels["x"]
    assert found.shares["together"] < 0.05


@pytest.mark.slow
def test_what_one_modality_hides_from_linear_probes_is_not_called_together(monkeypatch):
    """The product of two signs of the first, of which the second has one as well: the first alone knows it."""
    rng = np.random.default_rng(0)
    signs = rng.choice([-1.0, 1.0], (N, 2))
    see = signs @ rng.normal(size=(2, 6)) + 0.2 * rng.normal(size=(N, 6))
    hear = signs[:, :1] @ rng.normal(size=(1, 6)) + 0.2 * rng.normal(size=(N, 6))
    known = {"x": listed(np.where(signs.prod(axis=1) > 0, "a", "b"))}
    found = evaluate(sides(see, hear), known, QUICK).labels["x"].shares
    assert found["first"] > 0.6 and found["together"] < 0.3
    monkeypatch.setattr(probes, "SOURCES", probes.SOURCES | {"first": [0], "second": [1]})
    assert evaluate(sides(see, hear), known, QUICK).labels["x"].shares["together"] > 0.6


def test_a_split_is_kept():
    see, hear, labels = made(120)
    splits = np.where(np.arange(120) < 80, "train", "test")
    flipped = np.where(np.arange(120) < 80, labels["both"], np.where(labels["both"] == "yes", "no", "yes"))
    found = evaluate(sides(see, hear), {"x": listed(flipped, splits)}, QUICK)
    assert found.labels["x"].rows == 40 and found.settings["split"]
    assert found.labels["x"].accuracy["first"] <= found.labels["x"].accuracy["chance"]  # it learnt from train alone


def test_rows_that_lack_a_modality_are_left_out_and_counted():
    see, hear, labels = made(120)
    known = {
        name: str(label) for name, label in zip([f"r{n}" for n in range(10, 120)], labels["both"][10:], strict=True)
    }
    known |= {"nobody": "yes"}
    found = evaluate(sides(see, hear, slice(0, 90)), {"x": ClassList(ById(known, "labels"), None, "table")}, QUICK)
    assert found.labels["x"].rows == 80
    assert found.notes == (
        "1 labels are of ids that no memory holds",
        "10 of 120 rows have no label and were left out",
        "30 of 110 labelled rows lack audio and were left out",
    )


def test_no_more_rows_than_asked_for():
    see, hear, labels = made(200)
    found = evaluate(sides(see, hear), {"x": listed(labels["see"])}, InteractionChoices(rows=60, shuffles=1, samples=2))
    assert found.labels["x"].rows == 60 and found.notes == ("60 of 200 rows were drawn; --rows takes more",)
    rare = [*np.where(np.arange(196) % 2, "a", "b"), "c", "c", "d", "d"]
    found = evaluate(sides(see, hear), {"x": listed(rare)}, InteractionChoices(rows=50, shuffles=1, samples=2))
    assert found.labels["x"].classes == 2 and "2 of 4 classes have fewer than two" in found.notes[1]


def test_vectors_that_say_nothing_are_no_reason_to_stop():
    labels = listed(np.where(np.arange(40) % 2, "a", "b"))
    hear = np.random.default_rng(0).normal(size=(40, 1))
    found = evaluate(sides(np.ones((40, 3)), hear), {"x": labels}, QUICK).labels["x"]
    assert found.shares["first"] == found.shares["shared"] == 0 and sum(found.shares.values()) == pytest.approx(1)


@pytest.mark.slow
def test_many_certain_classes_with_few_groups_are_told():
    rng = np.random.default_rng(0)
    names = np.arange(96) % 12
    see, hear = (np.eye(12)[names] + 0.01 * rng.normal(size=(96, 12)) for _ in range(2))
    choices = InteractionChoices(cells=6, shuffles=1, samples=2, folds=2)
    few = evaluate(sides(see, hear), {"x": listed(names)}, choices)
    assert "grouping predictions lost" in few.notes[0] and "--cells" in few.notes[0]
    enough = evaluate(sides(see, hear), {"x": listed(names)}, InteractionChoices(shuffles=1, samples=2, folds=2))
    assert enough.labels["x"].shares["shared"] > 0.95 and not enough.notes


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    see, hear, labels = made(100)
    for name, encoder, modality, x in (("a", "e", Modality.IMAGE, see), ("b", "f", Modality.AUDIO, hear)):
        unit = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
        write(tmp_path / name, encoder, {modality: (unit, rows("r", 100))})
    lines = ["id,both,see,rare,one,number"]
    lines += [f"r{n},{labels['both'][n]},{labels['see'][n]},{'odd' if n == 7 else 'even'},same,{n}" for n in range(100)]
    (tmp_path / "labels.csv").write_text("\n".join([*lines, "stranger,yes,yes,even,same,0"]) + "\n")
    (tmp_path / "few.csv").write_text("\n".join(["id,class", *(f"r{n},{'ab'[n % 2]}" for n in range(12))]) + "\n")
    for name, count in (("split", 30), ("short", 10)):
        said = [f"r{n},{'ab'[n % 2 * (n < 100 - count)]},{'train' if n < 100 - count else 'test'}" for n in range(100)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["id,class,split", *said]) + "\n")
    return tmp_path


COMMAND = ["eval", "interactions", "a:image", "b:audio", "--shuffles", "1", "--samples", "2", "--folds", "2"]


def test_the_command_takes_several_labels_and_writes_a_page(place, capsys):
    assert main([*COMMAND, "--labels", "labels.csv", "--label-field", "both", "--label-field", "see", "--html"]) == 0
    said = capsys.readouterr()
    assert "only image" in said.out and "labels shuffled" in said.out
    assert "1 labels are of ids that no memory holds" in said.err and "next: cmcr classify fit" in said.err
    kept = json.loads((place / "results/interactions/result.json").read_text())
    assert list(kept["labels"]) == ["both", "see"] and kept["labels"]["both"]["rows"] == 100
    assert (
        kept["settings"]["shuffles"] == 1 and kept["values"]["see"]["first"] == kept["labels"]["see"]["shares"]["first"]
    )
    page = (place / "results/interactions/index.html").read_text()
    assert "Interactions of image and audio" in page and "result.csv" in page
    assert (place / "results/interactions/result.csv").read_text().count("\n") == 4
    assert main([*COMMAND, "--labels", "labels.csv", "--label-field", "both", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "interactions"


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (["--labels", "labels.csv", "--label-field", "one"], 1, "one class only ('same')"),
        (["--labels", "labels.csv", "--label-field", "rare"], 1, "1 of 2 classes have one row ('odd')"),
        (
            ["--labels", "labels.csv", "--label-field", "both", "--label-field", "one"],
            1,
            "labels 'one': one class only",
        ),
        (["--labels", "labels.csv", "--label-field", "number"], 1, "100 of 100 classes have one row"),
        (["--labels", "labels.csv", "--label-field", "bth"], 1, "did you mean 'both'"),
        (["--labels", "few.csv"], 1, "12 rows to measure have a label, image and audio; expected 20 or more"),
        (["--labels", "none.csv"], 1, "no such file"),
        (["--labels", "split.csv"], 1, "one class only ('a') in the part that is measured on"),
        (["--labels", "short.csv"], 1, "10 rows to measure have a label, image and audio; expected 20 or more"),
        (["--labels", "few.csv", "--folds", "0"], 2, "--folds"),
    ],
)
def test_what_cannot_be_measured_is_said_in_a_line(place, capsys, flags, code, said):
    assert main([*COMMAND, *flags]) == code
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error
    assert not (place / "results").exists()


def test_memories_without_a_common_id_are_refused(place, capsys):
    see, _, _ = made(100)
    unit = (see / np.linalg.norm(see, axis=1, keepdims=True)).astype(np.float32)
    write(place / "c", "g", {Modality.AUDIO: (unit, rows("s", 100))})
    assert main(["eval", "interactions", "a:image", "c:audio", "--labels", "few.csv"]) == 1
    assert "no id is in both memories ('r0', ... and 's0', ...)" in capsys.readouterr().err
    assert main(["eval", "interactions", "a:image", "a:image", "--labels", "few.csv"]) == 1
    assert "stands there twice" in capsys.readouterr().err
    assert main(["eval", "interactions", "a:text", "b:audio", "--labels", "few.csv"]) != 0


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
def test_everybody_can_read_the_page(result, tmp_path, width):
    (tmp_path / "index.html").write_text(interactions_page(result))
    assert visit(tmp_path / "index.html", width)["svg"] == 5
