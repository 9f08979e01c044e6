"""Pairs that are known: beside an overlap, or instead of one."""

import json

import numpy as np
import pytest
import torch

from cmcr import ArrayMemory, ConnectConfig, ConnectedSpace, Modality
from cmcr.cli import main
from cmcr.connect import connect
from cmcr.connect.methods import paired
from cmcr.errors import ArtifactError, InputError
from cmcr.memory.known import join_pairs, read_pairs
from cmcr.numbers import canonical, ranks, recall_at

TEXT, IMAGE, AUDIO = Modality.TEXT, Modality.IMAGE, Modality.AUDIO
RNG = np.random.default_rng(0)
SEE, HEAR = RNG.normal(size=(8, 20)), RNG.normal(size=(8, 14))


def seen(things):
    return things @ SEE


def heard(things, noise=0.1):
    return things @ HEAR + noise * np.random.default_rng(1).normal(size=(len(things), 14))


def both_ways(space, things):
    a = space.project(seen(things), encoder="eye", modality=IMAGE)
    b = space.project(heard(things), encoder="ear", modality=AUDIO)
    return (recall_at(ranks(a, b), 1) + recall_at(ranks(b, a), 1)) / 2


@pytest.fixture
def things():
    return np.random.default_rng(2).normal(size=(400, 8))


def unlike(things):
    """Memories of unlike modalities: row n of the pictures is row n of the sounds."""
    return ArrayMemory("eye", {"image": seen(things)}), ArrayMemory("ear", {"audio": heard(things)})


def same_rows(count):
    return [(str(row), str(row)) for row in range(count)]


@pytest.mark.parametrize("ridge", [0.01, 1.0])
def test_canonical_directions_are_those_of_a_plain_computation(ridge, things):
    x, y = seen(things) + 3, heard(things, 1.0) - 2

    def root(rows):
        covariance = (rows - rows.mean(axis=0)).T @ (rows - rows.mean(axis=0)) / len(rows)
        values, vectors = np.linalg.eigh(
            covariance + ridge * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
        )
        return vectors / np.sqrt(values) @ vectors.T

    cross = (x - x.mean(axis=0)).T @ (y - y.mean(axis=0)) / len(x)
    left, rho, right = np.linalg.svd(root(x) @ cross @ root(y), full_matrices=False)
    a = (x - x.mean(axis=0)) @ root(x) @ left * rho
    b = (y - y.mean(axis=0)) @ root(y) @ right.T * rho
    expected = (a / np.linalg.norm(a, axis=1)[:, None]) @ (b / np.linalg.norm(b, axis=1)[:, None]).T
    tensors = torch.from_numpy(x).float(), torch.from_numpy(y).float()
    found = canonical.fit_canonical(*tensors, canonical.Recipe(0.0, ridge, 1.0)).cosines(*tensors)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-3)


def unit(rows):
    return torch.nn.functional.normalize(torch.from_numpy(rows).float(), dim=1)


def test_a_described_row_is_the_softmax_of_its_cosines_to_the_known_rows(things):
    """The directions are those of the descriptions, whatever basis of the kernel they were found in."""
    x, y = unit(seen(things[:40])), unit(heard(things[:40]))
    maps = canonical.fit_canonical(x, y, canonical.Recipe(0.5, 0.01, 1.0))
    weights = np.exp((x @ x.T).numpy() / 0.5)
    made = weights / weights.sum(axis=1)[:, None] @ maps.x.weight.numpy() + maps.x.bias.numpy()
    np.testing.assert_allclose(made.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(maps.x(x), made / np.linalg.norm(made, axis=1)[:, None], atol=1e-3)


def bent(things):
    """What a linear map cannot tell: the second space knows only how far apart things are, not on which side."""
    return things**2 @ np.random.default_rng(7).normal(size=(8, 14))


def test_descriptions_find_what_is_not_linear_and_folds_choose_them_where_they_do(things):
    x, y, straight = unit(seen(things)), unit(bent(things)), unit(heard(things, 0.5))
    known, folds = slice(150), canonical.folds_of(150, 0)
    recipes = [canonical.Recipe(0.5, 1.0), canonical.Recipe(0.0, 1.0)]
    assert canonical.pick(x[known], y[known], folds, recipes).tau == 0.5
    assert canonical.pick(x[known], straight[known], folds, recipes).tau == 0.0
    ranked = [
        canonical.log_ranks(canonical.fit_canonical(x[known], y[known], each).cosines(x[150:], y[150:])).mean()
        for each in recipes
    ]
    assert ranked[0] < ranked[1] - 0.3


def test_the_recipe_is_the_one_under_which_pairs_that_were_not_seen_rank_best(things):
    x, y = unit(seen(things[:60])), unit(heard(things[:60], 3.0))
    folds = canonical.folds_of(60, 0)
    assert sorted(np.concatenate(folds).tolist()) == list(range(60))

    def mean_log_rank(recipe):
        logs = []
        for fold in folds:
            known = [row for row in range(60) if row not in fold]
            cosines = canonical.fit_canonical(x[known], y[known], recipe).cosines(x[fold], y[fold]).numpy()
            for row in range(len(fold)):
                own = cosines[row, row]
                logs += [np.log(sum(cosines[row] >= own)), np.log(sum(cosines[:, row] >= own))]
        return np.mean(logs)

    recipes = [canonical.Recipe(0.0, ridge, 1.0) for ridge in canonical.RIDGES]
    picked = canonical.pick(x, y, folds, recipes)
    assert mean_log_rank(picked) == pytest.approx(min(map(mean_log_rank, recipes)))
    assert len({round(mean_log_rank(recipe), 3) for recipe in recipes}) > 3


def test_a_choice_that_is_better_by_luck_alone_is_not_taken():
    luck = torch.tensor([0.28, -0.3] * 10)
    assert canonical.chosen({"usual": torch.ones(20), "other": torch.ones(20) + luck}, "usual") == "usual"
    assert canonical.chosen({"usual": torch.ones(20), "other": torch.ones(20) + luck - 0.5}, "usual") == "other"
    assert canonical.chosen({"one": torch.ones(20), "other": torch.ones(20) + luck}, "usual") == "other"


def test_the_weights_are_those_under_which_pairs_rank_best():
    generator = torch.Generator().manual_seed(0)
    right, wrong, useless = torch.eye(60), *torch.rand(2, 60, 60, generator=generator)
    weights = (0.2, 0.2, 0.2, 0.2, 0.2)
    views = torch.stack([useless, 0.3 * right + wrong, useless.T, useless, wrong])
    share, _, _ = paired._chosen([9 * right + useless], [torch.stack([wrong] * 5)], weights)
    assert share >= 0.5  # as expected, or more
    share, tilt, _ = paired._chosen([useless.flip(0)], [views], weights)
    assert share == 0.0 and tilt > 1.0  # pairs that tell nothing do not count; what is learned knows more here


@pytest.mark.parametrize("method", ["csa", "linear", "route", "auto"])
def test_memories_that_share_no_modality_are_connected_by_pairs(method, things, tmp_path):
    made = connect(*unlike(things), out=tmp_path / "s", config=ConnectConfig(method), pairs=same_rows(300))
    space = ConnectedSpace.from_pretrained(tmp_path / "s")
    assert space.method == {"auto": "csa"}.get(method, method)
    assert both_ways(space, things[300:]) > 0.4  # 100 rows: 40 times chance
    assert (space.links[0].via, space.links[0].via_b) == (IMAGE, AUDIO)
    assert (made.overlap.only_a, made.overlap.only_b, made.overlap.other) == (100, 100, AUDIO)


def test_a_space_by_an_overlap_says_nothing_of_a_second_modality(things, tmp_path):
    a, b = (ArrayMemory(name, {"text": rows}) for name, rows in (("eye", seen(things)), ("ear", heard(things))))
    connect(a, b, out=tmp_path / "s", config=ConnectConfig("linear", pairing="none"))
    assert "via_b" not in json.loads((tmp_path / "s/config.json").read_text())["links"][0]


def overlapping(things):
    """A pair of memories whose texts know half of what pictures and sounds have in common."""
    dull = things * ([1] * 4 + [0.1] * 4)
    a = ArrayMemory("eye", {"text": seen(dull[:300]), "image": seen(things)})
    return a, ArrayMemory("ear", {"text": heard(dull[:300]), "audio": heard(things)})


@pytest.fixture
def quick():
    return ConnectConfig("ensemble", epochs=2, min_steps=10)


def test_pairs_beside_an_overlap_add_what_it_does_not_know(things, tmp_path, quick, monkeypatch):
    a, b = overlapping(things)
    plain = connect(a, b, out=tmp_path / "plain", config=quick).space
    made = connect(a, b, out=tmp_path / "s", config=quick, pairs=same_rows(200))
    asked = things[200:]
    assert both_ways(made.space, asked) > both_ways(plain, asked) + 0.1
    assert made.space.metrics["pairs"] == 200 and made.space.metrics["pairs_share"] in paired.SHARES[1:]
    assert any("200 known pairs count" in note for note in made.notes)
    again = ConnectedSpace.from_pretrained(tmp_path / "s")
    assert again.fingerprint == made.space.fingerprint
    config = again.projectors["eye"].config
    assert sum(config.weights) == pytest.approx(1) and len(config.segments) == 6
    share = made.space.metrics["pairs_share"]
    monkeypatch.setattr(paired, "SHARES", (0.0,))
    monkeypatch.setattr(paired, "TILTS", (1.0,))  # without their segment they add nothing
    without = connect(a, b, out=tmp_path / "without", config=quick, pairs=same_rows(200)).space
    assert share and both_ways(without, asked) == both_ways(plain, asked)


def test_a_dozen_pairs_beside_an_overlap_change_nothing_and_say_so(things, tmp_path, quick, monkeypatch):
    a, b = overlapping(things)
    plain = connect(a, b, out=tmp_path / "plain", config=quick).space
    made = connect(a, b, out=tmp_path / "few", config=quick, pairs=same_rows(paired.SCARCE - 1))
    assert "19 known pairs are too few to weigh and change nothing; 20 or more may" in made.notes
    x, y = (each.project(seen(things), encoder="eye", modality=IMAGE) for each in (plain, made.space))
    np.testing.assert_allclose(x, y, atol=1e-5)
    monkeypatch.setattr(paired, "SCARCE", 10)
    weighed = connect(a, b, out=tmp_path / "weighed", config=quick, pairs=same_rows(19)).space
    assert weighed.metrics["pairs_share"] or weighed.metrics["pairs_tilt"] != 1


def test_the_segment_beside_an_ensemble_counts_as_much_as_is_said(things, tmp_path, quick):
    a, b = overlapping(things)
    made = connect(a, b, out=tmp_path / "s", config=quick, pairs=same_rows(200)).space
    x = made.project(seen(things[:50]), encoder="eye", modality=IMAGE)
    y = made.project(heard(things[:50]), encoder="ear", modality=AUDIO)
    config = made.projectors["eye"].config
    cut = config.out_dim - config.segments[-1]
    np.testing.assert_allclose((x[:, cut:] ** 2).sum(axis=1), config.weights[-1], rtol=1e-3)
    np.testing.assert_allclose((y[:, :cut] ** 2).sum(axis=1), 1 - config.weights[-1], rtol=1e-3)


def test_another_list_of_pairs_is_another_run(things, tmp_path, quick):
    a, b = overlapping(things)
    connect(a, b, out=tmp_path / "s", config=quick, pairs=same_rows(50))
    with pytest.raises(ArtifactError, match="a run of other known pairs; choose another folder"):
        connect(a, b, out=tmp_path / "s", config=quick, pairs=same_rows(60))


def test_a_list_may_name_its_columns_or_have_two(tmp_path):
    for name, text in {
        "p.csv": "b,note,a\n1,x,2\n", "q.tsv": "sound\tpicture\n2\t1\n", "r.jsonl": '{"a": 2, "b": "1"}\n',
    }.items():  # fmt: skip
        (tmp_path / name).write_text(text)
        assert read_pairs(tmp_path / name) == [("2", "1")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x,y,z\n1,2,3\n", "columns x, y, z; expected a and b"),
        ("a,b\n1,\n", "p.csv:2: a pair lacks an id"),
        ("a,b\n", "no pairs"),
        (None, "no such file"),
    ],
)
def test_a_list_that_is_none_is_refused(tmp_path, text, message):
    if text is not None:
        (tmp_path / "p.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_pairs(tmp_path / "p.csv")


def test_ids_that_a_memory_lacks_are_counted_and_too_few_are_refused(things):
    a, b = unlike(things)
    found = join_pairs(a, b, IMAGE, AUDIO, [*same_rows(20), ("7", "7"), ("7", "x"), ("y", "8"), (" 9 ", "10")])
    assert (len(found.rows_a), found.unknown) == (21, 2)
    assert found.digest() != join_pairs(a, b, IMAGE, AUDIO, same_rows(20)).digest()
    with pytest.raises(InputError, match=r"9 of 10 pairs are image .* expected 10 or more.*not there: 'x', '1'"):
        join_pairs(a, b, IMAGE, AUDIO, [*same_rows(9), ("x", "1")])


def test_an_id_is_found_as_it_stands_and_one_that_may_be_either_of_two_rows_is_refused(things):
    names = ["0", *(str(row) for row in range(2, 400)), " 0"]
    a, b = ArrayMemory("eye", {"image": seen(things)}, ids={"image": names}), unlike(things)[1]
    found = join_pairs(a, b, IMAGE, AUDIO, [(name, "7") for name in (" 0", *map(str, range(2, 12)))])
    assert found.rows_a.tolist() == [*range(1, 11), 399]
    with pytest.raises(InputError, match="both may be '0 '"):
        join_pairs(a, b, IMAGE, AUDIO, [("0 ", "0"), *same_rows(20)])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"config": ConnectConfig("c-mcr")},
            "c-mcr learns from no known pairs; choose --method csa, ensemble, ridge, sotalign or tcl",
        ),
        ({"outer_a": TEXT}, "holds no text beside the overlap"),
    ],
)
def test_what_pairs_cannot_do_is_said(things, tmp_path, quick, change, message):
    a, b = overlapping(things)
    with pytest.raises(InputError, match=message):
        connect(a, b, **{"out": tmp_path / "s", "config": quick, "pairs": same_rows(50)} | change)


def test_pairs_of_several_others_and_of_several_modalities_are_refused(things, tmp_path):
    a, b = unlike(things)
    both = ArrayMemory("both", {"point_cloud": seen(things), "text": seen(things)})
    with pytest.raises(InputError, match="pairs are of two memories"):
        connect(a, b, both, out=tmp_path / "s", config=ConnectConfig("linear"), pairs=same_rows(50))
    with pytest.raises(InputError, match="say with --outer-a / --outer-b what the pairs are of"):
        connect(a, both, out=tmp_path / "s", config=ConnectConfig("csa"), pairs=same_rows(50))
    made = connect(
        a, both, out=tmp_path / "s", config=ConnectConfig("csa"), pairs=same_rows(50), outer_b=Modality.POINT_CLOUD
    )
    assert made.space.links[0].via_b == Modality.POINT_CLOUD


def test_the_command_connects_by_pairs_and_says_how_many(things, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, modality, rows in (("eye", "image", seen(things)), ("ear", "audio", heard(things))):
        np.save(f"{name}.npy", rows.astype(np.float32))
        arguments = ["embed", "--from-vectors", f"{name}.npy", "--encoder-name", name, "--modality", modality]
        (tmp_path / f"{name}.txt").write_text("".join(f"{name}{row}\n" for row in range(len(rows))))
        assert main([*arguments, "--ids", f"{name}.txt", "-o", f"mem/{name}"]) == 0
    lines = [f"eye{row},ear{row}" for row in range(300)] + ["eye1,nothing"]
    (tmp_path / "pairs.csv").write_text("\n".join(["picture,sound", *lines]))
    capsys.readouterr()
    assert main(["connect", "mem/eye", "mem/ear", "-o", "s", "--method", "csa", "--pairs", "pairs.csv"]) == 0
    said = capsys.readouterr().err
    assert "joined 300 known pairs of image and audio (100 only in the first memory" in said
    assert "1 listed pairs are not of rows of both memories: left out" in said
    assert both_ways(ConnectedSpace.from_pretrained("s"), things[300:]) > 0.4
    assert main(["info", "s"]) == 0 and "by image paired with audio" in capsys.readouterr().out
    assert main(["info", "s", "--verify"]) == 0
