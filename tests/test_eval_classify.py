"""``cmcr eval classify``: curves over missing modalities, and what stands beside them."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from browser import visit
from labelled import table, world
from worlds import rows, write

from cmcr.classify import ClassifySettings
from cmcr.cli import main
from cmcr.evaluate.classify.choices import MissingChoices
from cmcr.evaluate.classify.missing import evaluate
from cmcr.evaluate.classify.page import classify_page
from cmcr.modality import Modality

QUICK = ClassifySettings(epochs=6, width=16, batch=32)
METHODS = [
    "MLA", "MLA without P", "MLA, alpha annealed", "MLA, equal weights", "MLA, order reversed", "image alone",
    "audio alone", "concatenation", "sum", "late fusion", "OGM-GE", "QMF",
]  # fmt: skip


@pytest.fixture(scope="module")
def result():
    return evaluate(table(rows=120), QUICK, MissingChoices(seeds=2, missing=[0, 80]))


def test_every_method_has_a_number_at_every_share(result):
    assert list(result.curves) == METHODS
    for curve in result.curves.values():
        assert [at["missing"] for at in curve] == pytest.approx([0, 0.5], abs=0.08)
        assert all(0 <= at["accuracy"] <= 1 and at["ECE"] <= 1 and at["deviation"] >= 0 for at in curve)
    at = {name: [each["accuracy"] for each in curve] for name, curve in result.curves.items()}
    assert at["MLA"][0] > 0.9 and at["MLA"][1] > 0.7
    assert at["image alone"][1] < at["image alone"][0] - 0.1  # half of its rows are guessed
    assert result.values["MLA"]["accuracy"] == at["MLA"][0]
    assert result.notes == ("every row keeps one of 2 modalities, so at most 50 % can be missing",)


def test_classes_gap_and_forgetting_stand_beside(result):
    assert [len(each) for each in result.per_class["MLA"]] == [3, 3]
    counts = result.n / 3
    assert np.mean(result.per_class["sum"][0]) == pytest.approx(result.curves["sum"][0]["accuracy"], abs=1 / counts)
    assert list(result.gaps) == ["image, audio"] and list(result.gaps["image, audio"]) == [
        "untrained",
        "MLA",
        "sum",
        "concatenation",
    ]
    assert all(0 < gap < 2 for gap in result.gaps["image, audio"].values())
    first = "image, then audio, with P", "image, then audio, without P"
    assert list(result.forgotten)[:2] == [*first]
    assert list(result.forgotten[first[0]]) == ["before", "after", "second"]


def test_the_page_shows_all_of_it(result):
    page = classify_page(result)
    for said in (*METHODS, "Forgetting", "Modality gap", "Calibration", "Each class", "drum", "in fact missing"):
        assert said in page
    assert page.count("<svg") >= 2 and "<script" not in page
    lines = re.findall(r'<polyline style="([^"]+)"', page)
    marks = re.findall(r'<i style="(background[^"]+)"', page)
    assert len(set(lines[:8])) == len(set(marks[:8])) == 8  # no two look alike


def test_the_best_method_is_bold_whoever_it_is(result):
    for winner in ("MLA", "late fusion"):
        curves = {name: [at | {"accuracy": 1.0 if name == winner else 0.5, "ECE": 0.0 if name == winner else 0.5}
                         for at in curve] for name, curve in result.curves.items()}  # fmt: skip
        page = classify_page(replace(result, curves=curves))
        bold = re.findall(r'<tr class="strong">.*?<t[hd][^>]*>([^<]+)', page, re.DOTALL)
        assert bold == [winner, winner]


def test_training_rows_may_stay_complete():
    of = table(rows=90)
    both, test_only = (
        evaluate(of, QUICK, MissingChoices(seeds=1, missing=[50], complete=complete)) for complete in (False, True)
    )
    assert both.settings["missing in training"] and not test_only.settings["missing in training"]
    assert both.curves["MLA"][0]["missing"] == test_only.curves["MLA"][0]["missing"]
    assert both.curves["late fusion"] != test_only.curves["late fusion"]


def test_the_command_writes_a_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    memories, labels = world(rows=60)
    for name, memory in memories.items():
        encoder, modality = name.split(":")
        write(tmp_path / encoder, encoder, {Modality(modality): (memory.vectors(Modality(modality)), rows("r", 60))})
    Path("labels.csv").write_text("id,label\n" + "".join(f"r{int(n[1:])},{label}\n" for n, label in labels.items()))
    argv = ["eval", "classify", "--memory", "see:image", "--memory", "hear:audio", "--labels", "labels.csv"]
    argv += ["--seeds", "1", "--missing", "0", "--missing", "40", "--epochs", "2", "--width", "8", "-o", "out"]
    assert main([*argv, "--html"]) == 0
    out, err = capsys.readouterr()
    assert [line.split("\t")[0] for line in out.splitlines()] == ["method", *METHODS]
    assert out.splitlines()[0].split("\t")[1:] == ["0", "40"]
    assert "wrote out/index.html" in err
    saved = json.loads(Path("out/result.json").read_text())
    assert saved["name"] == "classify" and saved["settings"]["seeds"] == 1 and saved["n"] == 15
    assert Path("out/index.html").exists()
    assert main([*argv[:-2], "--missing", "100"]) == 1
    assert "expected a number below 100" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
def test_everybody_can_read_the_page(result, tmp_path, width):
    (tmp_path / "index.html").write_text(classify_page(result))
    assert visit(tmp_path / "index.html", width)["svg"] == 2
