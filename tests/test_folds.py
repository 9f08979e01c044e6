"""Connections of few rows: what is told of them, and that no figure rests on a row that was trained on."""

import json

import numpy as np
import pytest
from worlds import rows, two_memories, write

from cmcr import ConnectConfig, ConnectedSpace, Modality
from cmcr.cli import main
from cmcr.connect import connect
from cmcr.connect import train as training
from cmcr.connect.split import folds, split
from cmcr.connect.validation import Validation, untold
from cmcr.errors import ArtifactError, InputError
from cmcr.files import locked

TEXT, IMAGE, AUDIO = Modality.TEXT, Modality.IMAGE, Modality.AUDIO
METHODS = ("c-mcr", "distill", "ensemble", "linear", "route", "auto")
QUICK = ConnectConfig(epochs=3)


@pytest.fixture(scope="module")
def forty(tmp_path_factory):
    return two_memories(tmp_path_factory.mktemp("forty"), texts=40, outer=50)[:2]


def run(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("count", "fraction", "held"),
    [(1000, 0.05, 50), (400, 0.05, 20), (399, 0.05, 20), (389, 0.05, 20), (200, 0.05, 20), (199, 0.05, 0),
     (100, 0.5, 50), (30, 0.9, 27), (30, 0.5, 0), (3, 0.9, 0)],
)  # fmt: skip
def test_at_least_twenty_rows_are_held_out_or_none(count, fraction, held):
    train, kept = split(count, ConnectConfig(val_fraction=fraction))
    assert len(kept) == held and sorted([*train, *kept]) == list(range(count))


@pytest.mark.parametrize("count", [20, 23, 199])
def test_folds_hold_each_row_out_once(count):
    parts = folds(count, ConnectConfig(seed=3))
    assert sorted(np.concatenate([held for _, held in parts])) == list(range(count))
    for train, held in parts:
        assert sorted([*train, *held]) == list(range(count)) and len(held) >= 4
    assert folds(19, ConnectConfig()) == []


@pytest.mark.parametrize("method", ["c-mcr", "distill"])
def test_no_row_is_measured_by_projectors_that_were_trained_on_it(forty, tmp_path, monkeypatch, method):
    trained, measured, fit, measure = [], [], training.fit, Validation.measure

    def fits(pairs, train_rows, *rest, **more):
        trained.append(set(train_rows.tolist()))
        return fit(pairs, train_rows, *rest, **more)

    def measures(self, *projectors):
        assert not trained[-1] & set(self.held.tolist())
        measured.append(tuple(self.held.tolist()))
        return measure(self, *projectors)

    monkeypatch.setattr(training, "fit", fits)
    monkeypatch.setattr(Validation, "measure", measures)
    made = connect(*forty, tmp_path / "s", QUICK.replace(method=method))
    assert len(trained) == 6 and trained[-1] == set(range(40))  # the space itself is trained on every row
    assert sorted(row for held in set(measured) for row in held) == list(range(40))
    assert made.rows == (40, 40) and made.space.metrics["folds"] == 5


def test_figures_are_the_means_over_the_folds(forty, tmp_path):
    """Of the route, anew and naively."""
    config = ConnectConfig(method="route", center=False)
    metrics = connect(*forty, tmp_path / "s", config).space.metrics
    a, b = (np.load(tmp_path / "s.run" / "pairs" / f"overlap_{side}.npy").astype(float) for side in "ab")
    found = []
    for train, held in folds(40, config):
        weights = np.exp(b[held] @ b[train].T / config.route_tau)
        routed = weights @ a[train]
        scores = (routed / np.linalg.norm(routed, axis=1, keepdims=True)) @ a[held].T
        found += [*(scores.argmax(axis=1) == range(len(held))), *(scores.argmax(axis=0) == range(len(held)))]
    assert metrics["overlap_r1"] == pytest.approx(np.mean(found)) and 0 < metrics["overlap_r1"] < 1
    assert metrics["overlap_r1_chance"] == metrics["pseudo_r1_chance"] == pytest.approx(5 / 40)
    assert metrics["held_out"] == 40


def test_the_epoch_is_the_one_the_folds_chose(forty, tmp_path, monkeypatch):
    made = connect(*forty, tmp_path / "s", QUICK)
    records = run(tmp_path / "s.run")
    best = max(range(3), key=lambda n: (records[n]["selection"], n))
    assert made.space.metrics["epoch"] == best + 1
    assert all(record["overlap_r1_chance"] == pytest.approx(1 / 8) for record in records)
    # Measures that tie after every epoch keep the last.
    monkeypatch.setattr(Validation, "measure", lambda self, *p: {"overlap_r1": 1.0, "selection": 1.0})
    assert connect(*forty, tmp_path / "t", QUICK).space.metrics["epoch"] == 3


@pytest.mark.parametrize(
    ("method", "stop"),
    [
        ("c-mcr", "fold 3: epoch 2"),
        *(pytest.param("c-mcr", stop, marks=pytest.mark.slow) for stop in ("fold 1: epoch 2", "epoch 2")),
        *(pytest.param("distill", stop, marks=pytest.mark.slow) for stop in ("fold 3: epoch 1", "fold 5: epoch 3")),
    ],
)
def test_a_stopped_run_goes_on_to_the_same_bytes(forty, tmp_path, folder_bytes, monkeypatch, method, stop):
    config = QUICK.replace(method=method)

    def stops(done, total, note=""):
        if note.startswith(stop):
            raise KeyboardInterrupt

    connect(*forty, tmp_path / "whole", config)
    with pytest.raises(KeyboardInterrupt):
        connect(*forty, tmp_path / "s", config, progress=stops)
    steps, step = [], training._step
    monkeypatch.setattr(training, "_step", lambda *rest: steps.append(1) or step(*rest))
    connect(*forty, tmp_path / "s", config)
    assert folder_bytes(tmp_path / "s") == folder_bytes(tmp_path / "whole")
    assert folder_bytes(tmp_path / "s.run") == folder_bytes(tmp_path / "whole.run")
    assert len(steps) < 18  # what was done is not done again: 6 trainings of 3 epochs of one step
    steps.clear()
    connect(*forty, tmp_path / "s", config)
    assert not steps


def test_another_recipe_forgets_the_folds(forty, tmp_path):
    config = QUICK.replace(method="route", center=False)
    connect(*forty, tmp_path / "s", config)
    with pytest.raises(ArtifactError, match=r"another recipe \(route_tau 0\.1, now 0\.5\)"):
        connect(*forty, tmp_path / "s", config.replace(route_tau=0.5))
    again = connect(*forty, tmp_path / "s", config.replace(route_tau=0.5), overwrite=True).space.metrics
    assert again == connect(*forty, tmp_path / "t", config.replace(route_tau=0.5)).space.metrics


def test_a_run_that_held_other_rows_out_is_not_gone_on_with(forty, tmp_path):
    connect(*forty, tmp_path / "s", ConnectConfig(method="route"))
    path = tmp_path / "s.run" / "config.json"
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "held_out"}))
    with pytest.raises(ArtifactError, match="another way to hold rows out, of an earlier version; choose another"):
        connect(*forty, tmp_path / "s", ConnectConfig(method="route"))


def test_of_eighteen_captions_nothing_is_called_perfect(tmp_path, capsys):
    a, b, _ = two_memories(tmp_path, texts=18, outer=18)
    assert main(["connect", str(a), str(b), "-o", str(tmp_path / "s")]) == 0
    out, err = capsys.readouterr()
    for name in ("overlap_r1", "pseudo_r1", "agreement"):
        assert f"\n{name}\t-\t" in out
    assert "18 to fit and none held out: too few to spare" in err
    counts = f"{a} (image) has 18 rows, {b} (audio) has 18 rows, the overlap has 18 rows"
    assert f"warning: {counts}: below 200, c-mcr learns too little to rely on; --method route finds more" in err
    assert "warning: 18 overlap rows are too few to hold any out (20 are wanted)" in err
    metrics = ConnectedSpace.from_pretrained(tmp_path / "s").metrics
    assert metrics["overlap_r1"] is metrics["pseudo_r1"] is metrics["agreement"] is None
    assert metrics["epoch"] == 36 and "too few to hold any out" in metrics["unmeasured"]
    assert {record["overlap_r1"] for record in run(tmp_path / "s.run")} == {None}
    card = (tmp_path / "s" / "README.md").read_text()
    assert "| overlap_r1 | - |  |" in card and f"\n{metrics['unmeasured']}\n" in card
    assert main(["info", str(tmp_path / "s")]) == 0
    assert "metrics.overlap_r1\t-\n" in capsys.readouterr().out


@pytest.mark.parametrize(("texts", "outer"), [(199, 200), (200, 199)])
def test_auto_routes_below_two_hundred_of_anything(tmp_path, texts, outer):
    a, b, _ = two_memories(tmp_path, texts=texts, outer=outer)
    made = connect(a, b, tmp_path / "s", ConnectConfig(method="auto"))
    assert made.space.method == "route" and made.warnings == ()
    assert "199 rows (ensemble wants 200 of each)" in made.notes[0]


def test_enough_rows_have_no_warning_and_chance_beside_each_share(tmp_path, capsys):
    a, b, _ = two_memories(tmp_path, texts=200, outer=200)
    assert main(["connect", str(a), str(b), "-o", str(tmp_path / "s"), "--epochs", "1", "--json"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert found["overlap_r1_chance"] == found["pseudo_r1_chance"] == 1 / 20 and found["held_out"] == 20
    assert 0 < found["agreement_chance"] < 1 and "warning: the overlap" not in err and "too little" not in err
    assert "180 to fit and 20 held out" in err
    card = (tmp_path / "s" / "README.md").read_text()
    assert f"| overlap_r1 | {found['overlap_r1']:.4g} | 0.05 |" in card and "_chance |" not in card


@pytest.mark.parametrize(
    ("method", "texts", "outer"),
    [(method, *sizes) for method in METHODS for sizes in ((2, 1), (20, 1)) if sizes[0] == 2 or method != "auto"],
)
def test_however_few_rows_no_figure_is_made_up(tmp_path, method, texts, outer):
    a, b, _ = two_memories(tmp_path, texts=texts, outer=outer)
    space = connect(a, b, tmp_path / "s", ConnectConfig(method=method, epochs=1)).space
    assert space.metrics["agreement"] is None and "unmeasured" in space.metrics
    assert (space.metrics["overlap_r1"] is None) == (texts < 20)
    projected = space.project(np.eye(24, dtype=np.float32), encoder="enc-a", modality=IMAGE)
    assert np.isfinite(projected).all()


@pytest.mark.parametrize("method", ["c-mcr", "distill", "ensemble", "route"])
def test_rows_that_are_all_equal_find_nothing(tmp_path, method):
    def same(count, dim):
        return np.tile(np.eye(dim, dtype=np.float32)[0], (count, 1))

    a = write(tmp_path / "a", "enc-a", {TEXT: (same(30, 24), rows("t", 30)), IMAGE: (same(30, 24), rows("i", 30))})
    b = write(tmp_path / "b", "enc-b", {TEXT: (same(30, 16), rows("t", 30)), AUDIO: (same(30, 16), rows("s", 30))})
    metrics = connect(a, b, tmp_path / "s", ConnectConfig(method=method, epochs=1)).space.metrics
    assert metrics["overlap_r1"] == metrics["pseudo_r1"] == 0 and metrics["agreement"] is None


@pytest.mark.parametrize(
    ("chance", "rows", "held", "told"),
    [(0.4, 600, 20, True), (0.4, 600, 19, False), (0.4, 19, 100, False), (1.0, 100, 100, False),
     (0.9, 30, 30, False), (0.9, 40, 40, True), (float("nan"), 0, 50, False)],
)  # fmt: skip
def test_an_agreement_is_told_where_a_perfect_one_would_stand_out(chance, rows, held, told):
    assert (untold(chance, rows, held) == "") == told


def test_neither_run_nor_space_is_written_by_two(forty, tmp_path):
    config = ConnectConfig(method="route")
    for busy, run_folder in (("s", "other.run"), ("other.run", "other.run"), ("s.run", None)):
        with (
            locked(tmp_path / busy),
            pytest.raises(ArtifactError, match=f"{busy}: another run is writing to it; wait until it ends"),
        ):
            connect(*forty, tmp_path / "s", config, run=run_folder and tmp_path / run_folder)
    with pytest.raises(InputError, match="both the run and the space"):
        connect(*forty, tmp_path / "s", config, run=tmp_path / "x" / ".." / "s")
    connect(*forty, tmp_path / "s", config)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"config": {"method": "route"}}, "config is a dict; expected a ConnectConfig"),
        ({"device": "tpu"}, "unknown device 'tpu'"),
        ({"via": "sound"}, "--via sound: not in both memories"),
        ({"outer_a": "sound"}, "holds no sound beside the overlap"),
    ],
)
def test_what_connect_refuses(forty, tmp_path, settings, message):
    with pytest.raises(InputError, match=message):
        connect(*forty, tmp_path / "s", **settings)
    assert not (tmp_path / "s").exists()
