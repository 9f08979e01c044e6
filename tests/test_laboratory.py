"""The laboratory of benchmarks/beds.py, on beds of a few rows."""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

import beds
import lab_bed
import lab_derived
import lab_judge
import lab_measure
import lab_report
from lab_bed import SIDES, Bed, Side
from lab_judge import Judged
from worlds import DIM_A, DIM_B, LATENT, space

from cmcr.numbers import difference_interval

TEXTS, PAIRS = 120, 24


def made(name="small", noise=0.1):
    """A bed whose sides see the same latents; some texts and a pair's text are double, as in real ones."""
    rng = np.random.default_rng(0)
    latent = {key: rng.normal(size=(n, LATENT)) for key, n in (("t", TEXTS), ("l", 60), ("r", 50), ("e", PAIRS))}
    latent["t"][5], latent["e"][3] = latent["t"][4], latent["e"][2]

    def side(seed, dim, memory):
        def text(x, number):
            first = np.unique(x, axis=0, return_inverse=True)[1].reshape(-1)
            return space(seed, dim, x, 0)[[int(np.flatnonzero(first == each)[0]) for each in first]]

        outer = [space(seed, dim, latent[key], number, noise=noise) for number, key in ((1, memory), (2, "e"))]
        return Side(text(latent["t"], 0), outer[0], outer[1], text(latent["e"], 3))

    return Bed(name, name, side(1, DIM_A, "l"), side(2, DIM_B, "r"), np.zeros(PAIRS, np.int64))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("beds") / "small"
    lab_bed.write_bed(made(), path)
    return path


@pytest.fixture
def bed():
    return made()


def keys(x):
    return {row.tobytes() for row in x}


def numbers(rows, among):
    """Where each row lies among others, of which the first equal one counts."""
    place = {row.tobytes(): number for number, row in reversed(list(enumerate(among)))}
    return [place[row.tobytes()] for row in rows]


# Beds


def test_a_bed_is_read_as_it_was_written(folder, bed):
    read = lab_bed.read_bed(folder)
    assert read.name == read.family == "small"
    assert list(read.sizes) == [PAIRS] * PAIRS
    np.testing.assert_allclose(read.left.eval_text, bed.left.eval_text, atol=1e-6)
    assert read.digest == lab_bed.read_bed(folder).digest
    other = read.right.map({"memory": read.right.memory[::-1]})
    assert replace(read, right=other).digest != read.digest
    assert replace(read, galleries=np.arange(PAIRS) // 4).digest != read.digest


@pytest.mark.parametrize(
    ("name", "x", "told"),
    [
        ("text_left", None, "text_left.npy: cannot be read"),
        ("text_left", np.ones((3, 4), np.float32), "3 rows of text_left"),
        ("eval_right", np.zeros((PAIRS, DIM_B), np.float32), "a row is zero"),
        ("memory_left", np.arange(4), r"int64 \(4,\); expected floating-point vectors"),
        ("eval_gallery", np.zeros(3, np.int64), "expected one number a pair"),
    ],
)
def test_a_folder_that_is_no_bed_is_refused(bed, tmp_path, capsys, name, x, told):
    lab_bed.write_bed(bed, tmp_path / "bed")
    path = tmp_path / "bed" / f"{name}.npy"
    path.unlink() if x is None else np.save(path, x)
    with pytest.raises(lab_bed.InputError, match=told):
        lab_bed.read_bed(tmp_path / "bed")
    assert beds.main([str(tmp_path / "bed"), "-o", str(tmp_path / "r.jsonl")]) == 1
    assert len(capsys.readouterr().err.splitlines()) <= 2


def test_ranks_count_ties_against_and_stay_in_their_gallery():
    same = np.ones((4, 2), np.float32) / 2**0.5
    assert lab_bed.ranks_within(np.zeros(4), same, same).tolist() == [[4] * 4] * 2
    assert lab_bed.ranks_within(np.array([0, 0, 1, 1]), same, same).tolist() == [[2] * 4] * 2
    found = lab_bed.figures(np.array([[1, 2, 11], [1, 6, 3]]), np.array([11, 11, 11]))
    assert {name: list(x) for name, x in found.items()} == {
        "R@1": [100, 0, 0],
        "R@5": [100, 50, 50],
        "R@10": [100, 100, 50],
        "AUC": [100, 70, pytest.approx(40)],
    }


# Derived beds


@pytest.mark.parametrize("name", lab_derived.DERIVED)
def test_what_is_asked_for_lies_in_no_memory_and_no_overlap(bed, name):
    found = lab_derived.derive(bed, name)
    assert (found.name, found.family) == (f"small/{name}", "small")
    assert found.digest != bed.digest
    assert lab_derived.derive(bed, name).digest == found.digest
    assert len(found.left.text) == len(found.right.text) > 0
    assert len(found.left.eval) == len(found.right.eval) == len(found.galleries) > 0
    for side in (found.left, found.right):
        assert not keys(side.eval) & (keys(side.memory) | keys(side.text))
        for x in side.parts().values():
            assert len(x)
            np.testing.assert_allclose(np.linalg.norm(x, axis=1), 1, atol=1e-5)


def test_texts_become_outer_rows_of_both_sides(bed):
    found = lab_derived.derive(bed, "texts")
    assert numbers(found.left.eval, bed.left.text) == numbers(found.right.eval, bed.right.text)
    assert numbers(found.left.text, bed.left.text) == numbers(found.right.text, bed.right.text)
    ours, theirs = numbers(found.left.memory, bed.left.text), numbers(found.right.memory, bed.right.text)
    parts = [set(ours), set(theirs), *({*numbers(x, bed.left.text)} for x in (found.left.eval, found.left.text))]
    assert sum(map(len, parts)) == len(set().union(*parts)) == TEXTS - 1


@pytest.mark.parametrize(("name", "outer", "text"), [("left-to-text", *SIDES), ("text-to-right", *SIDES[::-1])])
def test_texts_become_outer_rows_of_one_side(bed, name, outer, text):
    # One pair's text is also in the overlap.
    bed = replace(
        bed,
        **{
            side: bed.side(side).map({"text": np.concatenate([bed.side(side).text, bed.side(side).eval_text[7:8]])})
            for side in SIDES
        },
    )
    found = lab_derived.derive(bed, name)
    asked = numbers(found.side(outer).eval, bed.side(outer).eval)
    assert numbers(found.side(text).eval, bed.side(text).eval_text) == asked
    assert len(asked) == PAIRS - 1
    assert found.side(outer).memory is bed.side(outer).memory
    shown = [numbers(found.side(side).text, bed.side(side).text) for side in SIDES]
    hidden = numbers(found.side(text).memory, bed.side(text).text)
    assert shown[0] == shown[1]
    assert not set(hidden) & set(shown[0])
    assert TEXTS not in hidden + shown[0]
    assert lab_derived.derive(replace(bed, left=bed.left.map({"eval_text": None})), name) is None


def test_the_other_regimes_are_what_they_say(bed):
    swapped, few, noisy, turned, narrow, far = (
        lab_derived.derive(bed, name) for name in ("swapped", "few", "noisy", "turned", "narrow", "far")
    )
    assert (swapped.left, swapped.right) == (bed.right, bed.left)
    assert [len(x) for x in (few.left.text, few.left.memory, few.right.memory)] == [12, 6, 5]
    assert numbers(few.left.text, bed.left.text) == numbers(few.right.text, bed.right.text)
    assert noisy.left is turned.left is bed.left
    assert noisy.right.memory is turned.right.memory is bed.right.memory
    for name in ("text", "eval_text"):
        before = getattr(bed.right, name)
        assert (getattr(noisy.right, name) * before).sum(axis=1).mean() == pytest.approx(0.82, abs=0.05)
        assert (getattr(turned.right, name) * before).sum(axis=1).mean() == pytest.approx(0.9, abs=0.08)
    np.testing.assert_allclose(turned.right.text @ turned.right.text.T, bed.right.text @ bed.right.text.T, atol=2e-3)
    assert narrow.right.eval.shape == (PAIRS, DIM_B // 4)

    def nearest(one):
        return np.mean([(one.side(side).text @ one.side(side).memory.T).max(axis=1).mean() for side in SIDES])

    assert len(far.left.text) == TEXTS // 2
    assert nearest(far) < nearest(bed)
    assert numbers(far.left.text, bed.left.text) == numbers(far.right.text, bed.right.text)


# Judging


def judged(name, hits, family=""):
    """A bed on which each recipe has the given R@1 = R@10 = AUC of each pair."""
    figures = {recipe: {measure: np.asarray(x, float) for measure in lab_judge.MEASURES} for recipe, x in hits.items()}
    count = len(next(iter(hits.values())))
    return Judged(name, family or name, np.full(count, count), figures)


def test_a_recipe_is_no_better_than_itself_and_a_planted_difference_is_found():
    rng = np.random.default_rng(0)
    base = 100.0 * (rng.random(400) < 0.3)
    better = np.where(rng.random(400) < 0.1, 100.0, base)
    one = judged("bed", {"low": np.zeros(400), "base": base, "better": better})
    same = lab_judge.difference(one, "base", ["low", "base"], "R@1")
    assert (same.baseline, same.mean, same.low, same.high, same.verdict) == ("base", 0, 0, 0, "tie")
    found = lab_judge.difference(one, "better", ["low", "base"], "R@10")
    assert found.low < found.mean < found.high
    assert found.mean == pytest.approx(7, abs=3)
    assert found.verdict == "win"
    assert lab_judge.difference(one, "low", ["base"], "AUC").verdict == "loss"
    shuffled = judged("bed", {"base": base, "other": rng.permutation(base)})
    assert lab_judge.difference(shuffled, "other", ["base"], "AUC").verdict == "tie"
    cancel = judged("bed", {"base": np.zeros(30), "other": np.tile([0.1, 0.2, -0.3], 10)})
    assert lab_judge.difference(cancel, "other", ["base"], "R@1").verdict == "tie"
    plain = difference_interval(better, base)
    assert (found.low, found.high) == pytest.approx(plain, abs=0.5)
    again = lab_judge.difference(one, "better", ["low", "base"], "R@10")
    assert again == found
    assert lab_judge.difference(one, "better", ["low", "base"], "R@10", seed=1) != found


def test_regret_is_the_mean_of_what_is_lost_in_each_measure():
    means = {"a": {"R@1": 10.0, "R@10": 40.0, "AUC": 80.0}, "b": {"R@1": 5.0, "R@10": 50.0, "AUC": 90.0}}
    assert lab_judge.regrets(means) == pytest.approx({"a": (0 + 0.2 + 0.5) / 3, "b": (0.5 + 0 + 0) / 3})
    nothing = {name: dict.fromkeys(lab_judge.MEASURES, 0.0) for name in "ab"}
    assert lab_judge.regrets(nothing) == {"a": 0, "b": 0}


def test_the_choice_for_a_bed_never_looks_at_it_nor_at_what_was_made_of_it():
    first = [judged("one", {"a": [30, 30], "b": [20, 20]}), judged("one/few", {"a": [9, 9], "b": [8, 8]}, "one")]
    second = [judged("two", {"a": [10, 10], "b": [20, 20]})]
    third = [judged("three", {"a": [50, 50], "b": [40, 40]})]
    before = {fold.family: fold for fold in lab_judge.leave_one_out([*first, *second, *third], ["a", "b"])}
    changed = [judged("one", {"a": [1, 1], "b": [90, 90]}), judged("one/few", {"a": [1, 1], "b": [90, 90]}, "one")]
    after = {fold.family: fold for fold in lab_judge.leave_one_out([*changed, *second, *third], ["a", "b"])}
    assert (after["one"].choice, after["one"].expected) == (before["one"].choice, before["one"].expected)
    assert before["two"].choice == "a"
    assert after["two"].choice == "b"
    assert set(before["one"].lost) == {"one", "one/few"}
    assert before["two"].lost["two"]["R@1"] == 10
    assert after["two"].lost["two"]["regret"] == 0
    assert lab_judge.leave_one_out(first, ["a", "b"]) == []


def test_a_family_counts_once_however_many_beds_were_made_of_it():
    many = [judged(f"one/{n}", {"a": [50, 50], "b": [40, 40]}, "one") for n in range(9)]
    other = judged("two", {"a": [10, 10], "b": [90, 90]})
    seen = lab_judge.average([*many, other], ["a", "b"])
    assert seen["b"] < seen["a"]


def test_a_criterion_is_judged_by_what_its_choices_lose():
    good, bad = [{"metrics": {"right": 2.0, "wrong": 0.1}}] * 2, [{"metrics": {"right": 1.0, "wrong": 0.2}}] * 2
    runs = {"good": good, "bad": bad, "mute": [{"metrics": {}}, {"failed": "no"}]}
    one = replace(judged("bed", {"good": [50, 50], "bad": [30, 30], "mute": [60, 60]}), runs=runs)
    lost = {name: lab_judge.lost_by(one, name, list(runs)) for name in ("right", "wrong", "unknown")}
    assert (lost["right"]["R@10"], lost["wrong"]["R@10"], lost["unknown"]) == (10, 30, None)
    turns = runs | {"bad": [bad[0], {"metrics": {"right": 3.0}}]}
    assert lab_judge.lost_by(replace(one, runs=turns), "right", list(runs))["R@10"] == 20
    table = lab_report.criteria_table([one], list(runs), ["right", "wrong", "unknown"])
    assert "| right | 17.8 | 10.0 | 10.0 | 10.0 | 10.0 (bed) |" in table
    assert "| always mute | 0.0 |" in table
    assert "unknown" not in table


# Measuring


def test_names_are_split_by_commas_and_settings_stay_with_their_method():
    asked = "linear, route,route_tau=0.05,route_top_k=0,distill,distill,own_weight=0.2,linear"
    names = ["linear", "route,route_tau=0.05,route_top_k=0", "distill", "distill,own_weight=0.2"]
    assert lab_measure.names_of(asked) == names
    lever = lab_measure.recipe("c-mcr,pairing=topk:5,renormalize=true,batch-size=64").config
    assert (lever.method, lever.pairing, lever.renormalize, lever.batch_size) == ("c-mcr", "topk:5", True, 64)
    plain = lab_measure.recipe("route")
    assert plain.key == lab_measure.recipe("route,route_tau=0.1,seed=4").key
    others = ["route,route_tau=0.2", "route,val_fraction=0.1", "distill,route_top_k=300", "linear"]
    assert plain.key not in [lab_measure.recipe(each).key for each in others]
    assert plain.key == lab_measure.recipe("route,own_weight=0.2").key  # of another method, and not used
    assert lab_measure.recipe("auto").key != lab_measure.recipe("auto,noise=0.1").key


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def command(folders, path, *more, methods="linear,route", seeds=1):
    given = [*map(str, folders), *more, "-o", str(path)]
    return beds.main([*given, "--seeds", str(seeds), "--methods", methods, "--against", "linear"])


def test_a_stopped_run_goes_on_with_the_same_numbers(folder, tmp_path, capsys, monkeypatch):
    whole, parts = tmp_path / "whole.jsonl", tmp_path / "parts.jsonl"
    assert command([folder], whole, "--derived", "few", seeds=2) == 0
    report = capsys.readouterr().out
    kept = whole.read_bytes().splitlines(keepends=True)
    assert len(kept) == 2 * 2 * 2
    assert lines(whole)[0]["metrics"] != lines(whole)[1]["metrics"]  # another seed
    parts.write_bytes(b"".join(kept[:5]) + kept[5][:40])  # killed while it wrote
    measured = []
    run = lab_measure.run
    monkeypatch.setattr(lab_measure, "run", lambda *given: measured.append(given) or run(*given))
    assert command([folder], parts, "--derived", "few", seeds=2) == 0
    assert len(measured) == 3
    for result in (found := [lines(whole), lines(parts)])[0] + found[1]:
        del result["seconds"]
    assert found[0] == found[1]
    again = capsys.readouterr().out
    command([folder], parts, "--derived", "few", seeds=2)
    assert (len(measured), capsys.readouterr().out) == (3, again)
    timeless = [re.sub(r"[\d.]+ ± [\d.]+ \|\n", "", text) for text in (report, again)]
    assert timeless[0] == timeless[1]


def test_another_recipe_or_bed_is_measured_anew_and_other_code_on_demand(folder, bed, tmp_path, capsys, monkeypatch):
    path = tmp_path / "r.jsonl"
    command([folder], path, methods="linear")
    monkeypatch.setattr(lab_measure, "code_digest", lambda: "other")
    command([folder], path, methods="linear")
    assert len(lines(path)) == 1
    assert "other code of cmcr than today's: 1 results" in capsys.readouterr().out
    command([folder], path, "--anew", "linear", methods="linear")
    assert len(lines(path)) == 2
    assert "other code" not in capsys.readouterr().out
    command([folder], path, methods="linear,linear,center=false")
    assert len(lines(path)) == 3
    changed = tmp_path / "small"
    lab_bed.write_bed(replace(bed, left=bed.left.map({"eval": bed.left.eval[::-1]})), changed)
    command([changed], path, methods="linear")
    assert len(lines(path)) == 4


def test_results_hold_ranks_and_what_each_space_keeps(folder, tmp_path):
    command([folder], tmp_path / "r.jsonl", methods="linear")
    result, read = lines(tmp_path / "r.jsonl")[0], lab_bed.read_bed(folder)
    assert np.shape(result["ranks"]) == (2, PAIRS)
    assert result["kept left"] == pytest.approx(100, abs=3)
    assert 0 < result["seconds"] < 60
    assert result["metrics"]
    assert np.mean(lab_bed.figures(np.array(result["ranks"]), read.sizes)["R@10"]) > 60


def test_what_cannot_be_connected_ranks_last_and_is_told(folder, tmp_path, capsys):
    path = tmp_path / "r.jsonl"
    assert command([folder], path, "--rows", "1") == 0
    assert lines(path)[0]["ranks"] == [[PAIRS] * PAIRS] * 2
    assert f"| linear (failed: {lines(path)[0]['failed']}) | 0.0 ± 0.0 |" in capsys.readouterr().out


def test_the_report_has_every_part(folder, tmp_path, capsys, monkeypatch):
    second = tmp_path / "second"
    lab_bed.write_bed(made(noise=0.5), second)
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- beds -->\nold\n<!-- /beds -->\nafter\n")
    monkeypatch.setattr(beds, "README", page)
    assert command([folder, second], tmp_path / "r.jsonl", "--derived", "texts", "--readme") == 0
    out = capsys.readouterr().out
    assert page.read_text() == f"before\n<!-- beds -->\n{out.rstrip()}\n<!-- /beds -->\nafter\n"
    for part in ("### small/texts", "| wins / ties / losses | R@1, given |", "chosen without it", "| chance | 4.2 |"):
        assert part in out
    assert "| small | +0.0 (+0.0 to +0.0) | +0.0 (+0.0 to +0.0) | +0.0 (+0.0 to +0.0) |" in out


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([], "no FOLDER"),
        (["x", "--derived", "fewer"], "--derived fewer; expected some of texts"),
        (["x", "--seeds", "0"], "--seeds 0; expected 1 or more"),
    ],
)
def test_a_wrong_command_is_a_usage_error(capsys, given, told):
    with pytest.raises(SystemExit, match="2"):
        beds.main(given)
    assert told in capsys.readouterr().err


def test_a_method_must_be_known_unless_it_is_of_the_default_list(folder, tmp_path, capsys, monkeypatch):
    assert command([folder], tmp_path / "r.jsonl", methods="no-such") == 1
    assert "no-such" in capsys.readouterr().err
    assert command([folder, folder], tmp_path / "r.jsonl", methods="linear") == 1
    assert "two beds are called so" in capsys.readouterr().err
    monkeypatch.setattr(beds, "RECIPES", "no-such,distill")
    found = [each.name for each in beds.recipes_of(beds.parsed(["x"]))]
    assert found == ["distill", "linear", "route", "c-mcr"]
    assert "left out: method 'no-such'" in capsys.readouterr().err
