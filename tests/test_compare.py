"""Comparing: means and deviations by hand, what stands in the way is said, and tests are of the same queries."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from browser import visit
from scipy import stats
from sklearn.metrics import label_ranking_average_precision_score
from worlds import DIM_A, DIM_B, LATENT, rows, space, unit, write

from cmcr.cli import main
from cmcr.errors import InputError
from cmcr.evaluate.compare.results import compare_results, spread
from cmcr.evaluate.compare.spaces import compare_spaces
from cmcr.evaluate.result import Result
from cmcr.evaluate.retrieval.pairs import evaluate
from cmcr.memory import Memory
from cmcr.modality import Modality
from cmcr.numbers import holm
from cmcr.space import ConnectedSpace, Projector, ProjectorConfig
from cmcr.space.space import SpaceEncoder

TEXT, IMAGE, AUDIO = Modality.TEXT, Modality.IMAGE, Modality.AUDIO
N = 80


def result(recall, method="c-mcr", space="s0", **changes):
    fields = {
        "values": {"audio->image": {"recall@1": recall, "recall@10": 0.9, "median rank": 2.0, "recall@1 low": 0.1}},
        "n": 50,
        "gallery": 50,
        "chance": {"recall@1": 0.02, "recall@10": 0.2, "median rank": 25.5},
        "settings": {"method": method, "ties": "against"},
        "fingerprints": {"space": space, "audio": "a" * 64},
    }
    return Result("paired-retrieval", **(fields | changes))


@pytest.fixture
def saved(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def save(name, made):
        made.save(Path(name))
        return name

    return save


def test_seeds_of_a_method_make_mean_and_deviation(saved):
    given = [saved(f"c{n}.json", result(r, space=f"s{n}")) for n, r in enumerate((0.5, 0.6, 0.8))]
    given.append(saved("route/result.json", result(0.4, "route", "s9")).removesuffix("/result.json"))
    found = compare_results(given)
    assert found.differs == ()
    assert list(found.groups) == ["c-mcr", "route"]
    numbers = found.to_json()["values"]["audio->image"]["c-mcr"]["recall@1"]
    assert numbers["mean"] == pytest.approx(np.mean([0.5, 0.6, 0.8]))
    assert numbers["deviation"] == pytest.approx(np.std([0.5, 0.6, 0.8], ddof=1))
    assert numbers["each"] == [0.5, 0.6, 0.8]
    columns, table = found.table()
    assert columns == ["", "group", "results", "median rank", "recall@1", "recall@10"]
    assert table[0] == ["audio->image", "c-mcr", "3", "2.0 ± 0.0", "0.633 ± 0.153", "0.900 ± 0.000"]
    assert table[1][4] == "0.400"
    assert table[2] == ["chance", "", "", "25.5", "0.020", "0.200"]


def test_groups_may_be_named_and_chosen(saved):
    files = [saved(f"{n}.json", result(n / 10, settings={"method": "c-mcr", "tau": n}, space=f"s{n}")) for n in (1, 2)]
    assert list(compare_results([f"cold={files[0]}", f"warm={files[1]}"]).groups) == ["cold", "warm"]
    assert list(compare_results(files, by="tau").groups) == ["1", "2"]
    assert compare_results(files, by="tau").differs == ()
    assert compare_results(files).differs == ("setting tau differs: 1 in 1.json; 2 in 2.json",)
    Path("a=b.json").write_text(Path(files[0]).read_text())
    assert list(compare_results(["a=b.json", files[1]]).groups) == ["c-mcr"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"n": 49}, "n differs: 50 in one.json; 49 in other.json"),
        ({"gallery": 40}, "gallery differs: 50 in one.json; 40 in other.json"),
        ({"fingerprints": {"space": "s1", "audio": "b" * 64}}, "data audio differs: aaaaaaaaaaaa in one.json"),
        ({"settings": {"method": "route"}}, 'setting ties differs: against in one.json; missing in other.json'),
        ({"versions": {"torch": "0.1"}}, "version of torch differs"),
        ({"expected": 60}, "other.json is over 50 of 60 items"),
        ({"fingerprints": {"space": "s0", "audio": "a" * 64}}, "c-mcr: some of its 2 results are of one space"),
    ],
)  # fmt: skip
def test_what_is_not_comparable_is_said(saved, capsys, changes, sentence):
    one = saved("one.json", result(0.5))
    other = saved("other.json", result(0.6, **({"fingerprints": {"space": "s1", "audio": "a" * 64}} | changes)))
    assert any(sentence in line for line in compare_results([one, other]).differs)
    asked = ["eval", "compare", one, other, "-o", "out"]
    assert main(asked) == 0
    assert f"warning: {sentence}" in capsys.readouterr().err
    assert main([*asked, "--strict"]) == 1
    assert sentence in " ".join(json.loads(Path("out/comparison.json").read_text())["differs"])


def test_a_question_that_one_lacks_is_left_out_and_said(saved):
    numbers = {"recall@1": 0.5}
    one = saved("one.json", result(0.5, values={"a->b": numbers, "b->a": numbers}))
    other = saved("other.json", result(0.5, space="s1", values={"b->a": numbers}))
    found = compare_results([one, other])
    assert list(found.values) == ["b->a"]
    assert "a->b is missing in other.json and left out" in found.differs
    with pytest.raises(InputError, match="no question is in all results"):
        compare_results([one, saved("third.json", result(0.5, values={"c": numbers}))])


def test_directions_of_several_captions_keep_their_own_chance(saved):
    values = {"audio->text": {"recall@1": 0.5}, "text->audio": {"recall@1": 0.4}}
    files = [saved(f"{n}.json", result(0.5, space=f"s{n}", values=values, chance={"recall@1": 0.1})) for n in (1, 2)]
    for file in files:
        path = Path(file)
        chances = {"audio->text": {"recall@1": 0.1}, "text->audio": {"recall@1": 0.02}}
        path.write_text(json.dumps(json.loads(path.read_text()) | {"chances": chances}))
    assert compare_results(files).table()[1][-2:] == [
        ["chance of audio->text", "", "", "0.100"],
        ["chance of text->audio", "", "", "0.020"],
    ]


def test_rows_and_columns_stand_in_the_order_of_their_numbers(saved):
    numbers = {"top-10": 0.9, "top-5": 0.7, "queries": 50, "top-5 low": 0.1}
    values = {"a recall@10": numbers, "a recall@5": numbers}
    files = [saved(f"{n}.json", result(0.5, space=f"s{n}", values=values, chance={})) for n in (1, 2)]
    columns, table = compare_results(files).table()
    assert columns == ["", "group", "results", "top-5", "top-10"]
    assert [row[0] for row in table] == ["a recall@5", "a recall@10"]


def test_refused_files(saved):
    one = saved("one.json", result(0.5))
    Path("bad.json").write_text("{")
    Path("other.json").write_text('{"name": "x", "values": {"a": {"b": "high"}}, "n": 1, "gallery": 1}')
    Path("list.json").write_text("[1]")
    for given, message in (
        ([one], "1 results; expected two"),
        ([one, one], "1 results; expected two"),
        ([one, "none.json"], "No such file"),
        ([one, "bad.json"], "not JSON"),
        ([one, "other.json"], "not the result of an evaluation"),
        ([one, "list.json"], "not the result of an evaluation"),
        (
            [one, saved("o.json", Result("localization", {"a": {"b": 1.0}}, 1, 1, {}))],
            "results of different benchmarks",
        ),
    ):
        with pytest.raises(InputError, match=message):
            compare_results(given)
    with pytest.raises(InputError, match=r"no setting 'methods' to group by .*did you mean 'method'"):
        compare_results([one, saved("two.json", result(0.6))], by="methods")


def test_spread_of_one_has_no_deviation():
    assert spread([0.5]) == "0.500"
    assert spread([]) == ""
    assert spread([1, 2], "median rank") == "1.5 ± 0.7"


def build(folder, method, seed, noise, recipe=None):
    """Save a space that finds partners less often the more noise its map has."""
    rng = np.random.default_rng(seed)
    weights = [np.linalg.pinv(np.random.default_rng(s).normal(size=(LATENT, d))).T for s, d in ((1, DIM_A), (2, DIM_B))]
    projectors = {}
    for name, weight, dim in (("enc-a", weights[0], DIM_A), ("enc-b", weights[1], DIM_B)):
        projector = Projector(ProjectorConfig("linear", dim, LATENT))
        with torch.no_grad():
            for parameter in projector.parameters():
                wanted = weight + noise * rng.normal(size=weight.shape) if parameter.dim() == 2 else np.zeros(LATENT)
                parameter.copy_(torch.as_tensor(wanted, dtype=torch.float32))
        projectors[name] = projector
    encoders = {
        "enc-a": SpaceEncoder("enc-a", "fp-enc-a", DIM_A, (TEXT, IMAGE)),
        "enc-b": SpaceEncoder("enc-b", "fp-enc-b", DIM_B, (TEXT, AUDIO)),
    }
    ConnectedSpace(encoders, projectors, TEXT, method, recipe or {"seed": seed, "method": method}).save(folder)


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    latents = np.random.default_rng(0).normal(size=(N, LATENT))
    write("a", "enc-a", {IMAGE: (space(1, DIM_A, latents, 1, gap=0, noise=0.5), rows("p", N))})
    write("b", "enc-b", {AUDIO: (space(2, DIM_B, latents, 1, gap=0, noise=0.5)[::-1], rows("p", N)[::-1])})
    for seed in (0, 1):
        build(f"good{seed}", "c-mcr", seed, 0.01)
        build(f"poor{seed}", "route", seed, 0.08)
    return tmp_path


def sides():
    return (Memory.open("b"), AUDIO), (Memory.open("a"), IMAGE)


def hits(name, k=1):
    opened = ConnectedSpace.from_pretrained(name)
    (b, _), (a, _) = sides()
    x = opened.project(b, modality=AUDIO)[::-1].astype(np.float64)
    y = opened.project(a, modality=IMAGE).astype(np.float64)
    return {"audio->image": ranks(x @ y.T) <= k, "image->audio": ranks(y @ x.T) <= k}, x, y


def ranks(scores):
    return np.array([np.sum(row >= row[i]) for i, row in enumerate(scores)])


def test_two_spaces_are_tested_query_by_query(place):
    found = compare_spaces([(None, Path("good0")), (None, Path("poor0"))], *sides())
    assert list(found.groups) == ["c-mcr", "route"]
    assert (found.n, found.gallery, found.differs) == (N, N, ())
    for test in found.tests:
        one, other = hits("good0")[0][test.asked], hits("poor0")[0][test.asked]
        assert (test.wins, test.losses) == (int((one & ~other).sum()), int((other & ~one).sum()))
        assert test.difference == pytest.approx(one.mean() - other.mean())
        assert test.p == pytest.approx(stats.binomtest(test.wins, test.wins + test.losses).pvalue)
        assert test.low < test.difference < test.high
        assert test.p <= test.p_holm <= min(1, 2 * test.p)
    assert [test.asked for test in found.tests] == ["audio->image", "image->audio"]
    assert found.tests[0].test == "McNemar, exact"
    assert found.tests[0].p_holm < 0.01
    assert [test.p_holm for test in found.tests] == holm([test.p for test in found.tests])
    assert max(test.p_holm / test.p for test in found.tests) == 2


def test_values_are_those_of_the_retrieval_benchmark(place):
    found = compare_spaces([(None, Path("good0")), (None, Path("poor0"))], *sides())
    (b, _), (a, _) = sides()
    expected = evaluate(ConnectedSpace.from_pretrained("poor0"), b, AUDIO, a, IMAGE)
    assert {
        asked: {name: values[0] for name, values in groups["route"].items()} for asked, groups in found.values.items()
    } == expected.values
    assert found.chance["audio->image"] == expected.chance


def test_seeds_are_averaged_query_by_query_and_permuted(place):
    spaces = [(None, Path(name)) for name in ("good0", "good1", "poor0", "poor1")]
    found = compare_spaces(spaces, *sides(), samples=2000)
    assert {name: len(members) for name, members in found.groups.items()} == {"c-mcr": 2, "route": 2}
    test = found.tests[0]
    assert test.test == "permutation"
    means = [
        np.mean([hits(f"{kind}{seed}")[0]["audio->image"] for seed in (0, 1)], axis=0) for kind in ("good", "poor")
    ]
    assert test.difference == pytest.approx(np.mean(means[0] - means[1]))
    assert test.p < 0.01
    assert found == compare_spaces(spaces, *sides(), samples=2000)
    rough = found.to_json()["values"]["audio->image"]["route"]["recall@1"]
    assert rough["each"] == pytest.approx([hits(f"poor{seed}")[0]["audio->image"].mean() for seed in (0, 1)])


def test_the_mean_reciprocal_rank_is_tested_by_permutation(place):
    found = compare_spaces([(None, Path("good0")), (None, Path("poor0"))], *sides(), measure="mAP", samples=500)
    _, x, y = hits("poor0")
    expected = label_ranking_average_precision_score(np.eye(N), x @ y.T)
    assert found.values["audio->image"]["route"]["mAP"][0] == pytest.approx(expected)
    assert found.tests[0].test == "permutation"
    assert found.tests[0].p == 1 / 501


def test_recipes_of_one_method_are_told_apart_by_what_differs_but_not_by_seed(place):
    build("cold", "c-mcr", 3, 0.02, {"seed": 3, "method": "c-mcr", "tau": 0.01})
    build("warm", "c-mcr", 4, 0.02, {"seed": 4, "method": "c-mcr", "tau": 0.1})
    build("warm2", "c-mcr", 5, 0.02, {"seed": 5, "method": "c-mcr", "tau": 0.1})
    spaces = [(None, Path("cold")), (None, Path("warm")), (None, Path("warm2")), ("mine", Path("poor0"))]
    groups = compare_spaces(spaces, *sides(), samples=50).groups
    assert groups == {"c-mcr tau=0.01": ["cold"], "c-mcr tau=0.1": ["warm", "warm2"], "mine": ["poor0"]}


def test_refused_spaces(place):
    with pytest.raises(InputError, match="two or more"):
        compare_spaces([(None, Path("good0")), ("again", Path("good0"))], *sides())
    with pytest.raises(InputError, match="did you mean 'recall@1'"):
        compare_spaces([(None, Path("good0")), (None, Path("poor0"))], *sides(), measure="recall1")
    write("c", "enc-a", {IMAGE: (unit(np.eye(3, DIM_A)), rows("q", 3))})
    with pytest.raises(InputError, match="no id is in both"):
        compare_spaces(
            [(None, Path("good0")), (None, Path("poor0"))], (Memory.open("b"), AUDIO), (Memory.open("c"), IMAGE)
        )


def test_the_command_on_spaces(place, capsys):
    asked = ["eval", "compare", "good0", "poor=poor0", "--a", "b:audio", "--b", "a:image", "-o", "out"]
    assert main([*asked, "--html"]) == 0
    out, err = capsys.readouterr()
    assert "McNemar, exact" in out
    assert "chance" in out
    assert "next: cmcr eval retention good0" in err
    page = Path("out/index.html").read_text()
    assert "<script" not in page
    assert "Which differences hold" in page
    assert main([*asked, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown == json.loads(Path("out/comparison.json").read_text())
    assert {"first", "second", "p", "p_holm", "wins", "losses"} <= set(shown["tests"][0])


def test_the_same_space_twice_in_a_group_is_said(place, capsys):
    build("copy", "c-mcr", 0, 0.01)
    assert main(["eval", "compare", "good0", "copy", "poor0", "--a", "b:audio", "--b", "a:image"]) == 0
    assert "warning: c-mcr: some of its 2 results are of one space" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options", [["--a", "b:audio"], ["--a", "b:audio", "--b", "image"], ["--a", "b:sound", "--b", "a:image"]]
)
def test_usage_errors(place, capsys, options):
    assert main(["eval", "compare", "good0", "poor0", *options]) == 2


def test_results_that_the_commands_wrote_can_be_compared(place, capsys):
    pairs = ["--a", "b:audio", "--b", "a:image"]
    for name in ("good0", "good1", "poor0"):
        (b, _), (a, _) = sides()
        evaluate(ConnectedSpace.from_pretrained(name), b, AUDIO, a, IMAGE).save(Path(f"{name}.json"))
    capsys.readouterr()
    assert main(["eval", "compare", "good0.json", "good1.json", "poor0.json", "--strict", "--json"]) == 0
    from_files = json.loads(capsys.readouterr().out)
    assert main(["eval", "compare", "good0", "good1", "poor0", *pairs, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["values"] == from_files["values"]


@pytest.mark.slow
def test_the_page_opens(place, capsys):
    main(["eval", "compare", "good0", "poor0", "--a", "b:audio", "--b", "a:image", "-o", "out", "--html"])
    visit(place / "out" / "index.html")
