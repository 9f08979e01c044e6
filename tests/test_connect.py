import json
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from worlds import DIM_A, rows, space, two_memories, write

from cmcr import ConnectConfig, ConnectedSpace, Memory, Modality
from cmcr.cli import main
from cmcr.connect import connect
from cmcr.numbers import ranks, recall_at

TEXT, IMAGE, AUDIO = Modality.TEXT, Modality.IMAGE, Modality.AUDIO
QUICK = ["--epochs", "4", "--device", "cpu"]


@pytest.fixture
def mem(tmp_path):
    return two_memories(tmp_path / "mem")


def outer_recall(connected, pairs):
    """Recall@1 of the true image-audio pairs, mean of both directions; 60 pairs, chance 1.7 %."""
    image = connected.project(pairs[0], encoder="enc-a", modality=IMAGE)
    audio = connected.project(pairs[1], encoder="enc-b", modality=AUDIO)
    return (recall_at(ranks(image, audio), 1) + recall_at(ranks(audio, image), 1)) / 2


def files(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != ".lock"}


@pytest.mark.parametrize(
    "flags",
    [["--method", "linear"], ["--method", "linear", "--on", "pseudo"], ["--method", "linear", "--no-center"],
     ["--method", "route"], ["--method", "route", "--route-top-k", "20"], ["--tau", "0.05"],
     ["--projector", "linear", "--tau", "0.05"], ["--projector", "half-mlp", "--dim", "64", "--tau", "0.05"]],
)  # fmt: skip
def test_every_method_connects_what_was_never_paired(mem, tmp_path, capsys, flags):
    a, b, pairs = mem
    assert main(["connect", str(a), str(b), "-o", str(tmp_path / "s"), *flags]) == 0
    connected = ConnectedSpace.from_pretrained(tmp_path / "s")
    assert outer_recall(connected, pairs) > 0.25  # 15 times chance
    assert connected.overlap == TEXT
    assert {m for e in connected.encoders.values() for m in e.modalities} == {TEXT, IMAGE, AUDIO}
    out, err = capsys.readouterr()
    assert out.startswith("measure (held-out overlap)\tvalue\tby chance\n")
    assert "joined 400 text rows by id (0 only in the first memory, 0 only in the second)" in err
    assert "next: cmcr retrieve" in err


def test_json_states_the_metrics_and_the_run_keeps_them(mem, tmp_path, capsys):
    a, b, _ = mem
    assert main(["connect", str(a), str(b), "-o", str(tmp_path / "s"), "--json", *QUICK]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert found["held_out"] == 20 and found["overlap_rows"] == 400 and 0 <= found["overlap_r1"] <= 1
    assert "batch size 80 instead of the paper's 10240" in err
    records = [json.loads(line) for line in (tmp_path / "s.run" / "metrics.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in records] == [1, 2, 3, 4]
    best = max(records, key=lambda record: record["selection"])
    assert found["epoch"] == best["epoch"] and found["gap_after"] == best["gap_after"]
    assert (tmp_path / "s.run" / "config.json").exists()


def test_flags_win_over_the_recipe_which_wins_over_defaults(mem, tmp_path):
    a, b, _ = mem
    (tmp_path / "r.toml").write_text("epochs = 2\nlambda = 3\n")
    flags = ["--config", str(tmp_path / "r.toml"), "--epochs", "1", "--noise", "0.001"]
    assert main(["connect", str(a), str(b), "-o", str(tmp_path / "s"), *flags]) == 0
    recipe = ConnectedSpace.from_pretrained(tmp_path / "s").recipe
    assert (recipe["epochs"], recipe["intra_weight"], recipe["noise"], recipe["tau"]) == (1, 3, 0.001, 0.01)


def test_held_out_rows_are_never_trained_on(mem, tmp_path):
    """The route keeps the rows it is made of: none of the held-out ones is among them."""
    a, b, _ = mem
    made = connect(a, b, tmp_path / "s", ConnectConfig(method="route", center=False))
    keys = made.space.projectors["enc-b"].body.keys.numpy()
    assert made.rows == (380, 20) and len(keys) == 380
    texts = Memory.open(b).vectors(TEXT)
    nearest = (texts @ keys.T).max(axis=1)
    assert (nearest < 0.9999).sum() == 20


def test_centring_subtracts_the_mean_of_each_modalitys_memory(mem, tmp_path):
    a, b, _ = mem
    centers = connect(a, b, tmp_path / "s", ConnectConfig(method="route")).space.projectors["enc-b"].centers
    assert np.allclose(centers["audio"].numpy(), Memory.open(b).vectors(AUDIO).mean(axis=0), atol=1e-6)
    assert set(centers) == {"text", "audio"}


@pytest.mark.parametrize(
    ("method", "change"),
    [
        ("linear", {"on": "pseudo"}),
        ("linear", {"center": False}),
        ("linear", {"ridge": 5.0}),
        ("route", {"center": False}),
        ("route", {"route_tau": 0.5}),
        ("route", {"route_top_k": 3}),
    ],
)
def test_every_switch_of_the_training_free_methods_acts(mem, tmp_path, method, change):
    a, b, pairs = mem
    config = ConnectConfig(method=method)
    projected = [
        connect(a, b, tmp_path / str(n), made).space.project(pairs[1], encoder="enc-b", modality=AUDIO)
        for n, made in enumerate((config, config.replace(**change)))
    ]
    assert np.abs(projected[0] - projected[1]).max() > 1e-2


def test_the_gap_closes_where_the_intra_loss_pulls(mem, tmp_path):
    a, b, _ = mem
    gaps = {}
    for weight in (0.0, 10.0):
        config = ConnectConfig(epochs=20, batch_size=64, tau=0.05, intra_weight=weight)
        gaps[weight] = connect(a, b, tmp_path / f"s{weight}", config).space.metrics["gap_after"]
    assert gaps[10.0] < 0.9 * gaps[0.0]


def test_the_same_call_again_changes_nothing(mem, tmp_path):
    a, b, _ = mem
    args = ["connect", str(a), str(b), "-o", str(tmp_path / "s"), *QUICK]
    assert main(args) == 0
    before = files(tmp_path / "s") | files(tmp_path / "s.run")
    assert main(args) == 0
    assert before == files(tmp_path / "s") | files(tmp_path / "s.run")


def test_another_recipe_needs_another_folder_or_overwrite(mem, tmp_path, capsys):
    a, b, _ = mem
    args = ["connect", str(a), str(b), "-o", str(tmp_path / "s"), *QUICK]
    assert main(args) == 0
    capsys.readouterr()
    assert main([*args, "--tau", "0.02"]) == 1
    assert "is a run of another recipe (tau 0.01, now 0.02); choose another folder or add --overwrite" in (
        capsys.readouterr().err
    )
    assert main([*args, "--tau", "0.02", "--overwrite"]) == 0
    assert ConnectedSpace.from_pretrained(tmp_path / "s").recipe["tau"] == 0.02
    shutil.rmtree(tmp_path / "s.run")
    assert main(args) == 1
    assert "holds a space without its run" in capsys.readouterr().err


def test_a_flag_can_be_corrected_after_a_run_that_never_began(mem, tmp_path, capsys):
    a, b, _ = mem
    args = ["connect", str(a), str(b), "-o", str(tmp_path / "s"), *QUICK]
    assert main([*args, "--batch-size", "1000"]) == 1
    assert "batch size 1000 is above the 380 training rows" in capsys.readouterr().err
    assert main([*args, "--batch-size", "100"]) == 0


HELD = """
import os, signal, sys
import torch
from cmcr.cli import main

owner, name = {"fsync": (os, "fsync"), "backward": (torch.Tensor, "backward")}[sys.argv[1]]
real, calls = getattr(owner, name), 0

def counted(*args, **options):
    global calls
    calls += 1
    if calls == int(sys.argv[2]):
        print("held", flush=True)
        signal.pause()
    return real(*args, **options)

setattr(owner, name, counted)
main(sys.argv[3:])
"""


@pytest.mark.parametrize(("place", "call"), [("fsync", 2), ("backward", 7), ("fsync", 14), ("backward", 25)])
def test_kill_and_resume_give_the_bytes_of_an_undisturbed_run(mem, tmp_path, place, call):
    a, b, _ = mem
    flags = ["connect", str(a), str(b), "--epochs", "12", "--device", "cpu"]
    assert main([*flags, "-o", str(tmp_path / "whole")]) == 0
    command = [sys.executable, "-c", HELD, place, str(call), *flags, "-o", str(tmp_path / "s")]
    killed = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert killed.stdout.readline() == "held\n" and killed.poll() is None
    killed.kill()
    assert killed.wait() == -signal.SIGKILL
    killed.stdout.close()
    assert main([*flags, "-o", str(tmp_path / "s")]) == 0
    assert files(tmp_path / "s") == files(tmp_path / "whole")
    assert files(tmp_path / "s.run") == files(tmp_path / "whole.run")


def test_a_second_run_at_once_is_refused(mem, tmp_path, capsys):
    from cmcr.files import locked

    a, b, _ = mem
    with locked(tmp_path / "s.run"):
        command = [sys.executable, "-m", "cmcr", "connect", str(a), str(b), "-o", str(tmp_path / "s")]
        second = subprocess.run(command, capture_output=True, text=True, check=False)
    assert second.returncode == 1
    assert second.stderr.startswith("error: ") and "another run is writing to it" in second.stderr


def test_image_is_an_overlap_like_any_other(tmp_path):
    rng = np.random.default_rng(0)
    shared, outer = rng.normal(size=(200, 6)), rng.normal(size=(150, 6))
    cloud = Modality.POINT_CLOUD
    a = write(
        tmp_path / "a",
        "enc-a",
        {IMAGE: (space(1, 24, shared, 0), rows("i", 200)), TEXT: (space(1, 24, outer, 1), rows("t", 150))},
    )
    b = write(
        tmp_path / "b",
        "enc-b",
        {IMAGE: (space(2, 16, shared, 0), rows("i", 200)), cloud: (space(2, 16, outer, 1), rows("p", 150))},
    )
    made = connect(a, b, tmp_path / "s", ConnectConfig(method="route"))
    assert made.overlap.modality == IMAGE
    assert made.space.encoders["enc-b"].modalities == (IMAGE, cloud)


def constant_column(tmp_path, a):
    memory = Memory.open(a)
    parts = {}
    for modality in memory.modalities:
        vectors = memory.vectors(modality).copy()
        vectors[:, 3] = 0.5
        parts[modality] = (vectors, list(memory.metadata(modality)))
    return write(tmp_path / "constant", "enc-a", parts)


@pytest.mark.parametrize("method", ["c-mcr", "linear", "route"])
def test_a_constant_feature_column_does_no_harm(mem, tmp_path, method):
    a, b, _ = mem
    made = connect(constant_column(tmp_path, a), b, tmp_path / "s", ConnectConfig(method=method, epochs=2))
    projected = made.space.project(np.ones((3, DIM_A)), encoder="enc-a", modality=IMAGE)
    assert np.isfinite(projected).all()


def make_failing(name, tmp_path, a, b):
    """The arguments of a call that must fail, by the name of its cause."""
    vectors = space(2, 16, np.random.default_rng(0).normal(size=(3, 6)), 0)
    other = {
        "no common modality": {AUDIO: (vectors, rows("x", 3))},
        "no common ids": {TEXT: (vectors, rows("x", 3)), AUDIO: (vectors, rows("y", 3))},
        "one common id": {TEXT: (vectors[:1], rows("t", 1)), AUDIO: (vectors, rows("y", 3))},
        "only the overlap": {TEXT: (vectors, rows("t", 3))},
    }
    if name in other:
        return [str(a), str(write(tmp_path / "other", "enc-b", other[name]))]
    return {
        "missing memory": [str(a), str(tmp_path / "nowhere")],
        "same encoder twice": [str(a), str(a)],
        "batch above the rows": [str(a), str(b), "--batch-size", "1000"],
        "unknown overlap": [str(a), str(b), "--via", "image"],
        "impossible setting": [str(a), str(b), "--tau", "0"],
        "missing recipe": [str(a), str(b), "--config", "none.toml"],
        "pseudo without memories": [str(a), str(b), "--method", "linear", "--on", "pseudo", "--pairing", "none"],
        "unknown device": [str(a), str(b), "--device", "tpu"],
    }[name]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no common modality", "no common modality"),
        ("no common ids", "share 0 text id(s)"),
        ("one common id", "share 1 text id(s)"),
        ("only the overlap", "holds only text; embed the items it should recall"),
        ("missing memory", "nowhere"),
        ("same encoder twice", "both memories are of enc-a"),
        ("batch above the rows", "batch size 1000 is above the 380 training rows"),
        ("unknown overlap", "--via image: not in both memories"),
        ("impossible setting", "tau 0.0; expected a number above 0"),
        ("missing recipe", "none.toml: No such file or directory; expected a TOML recipe"),
        ("pseudo without memories", "--on pseudo needs what the memories recall"),
        ("unknown device", "unknown device 'tpu'"),
    ],
)
def test_how_it_fails(mem, tmp_path, capsys, name, message):
    arguments = make_failing(name, tmp_path, *mem[:2])
    assert main(["connect", *arguments, "-o", str(tmp_path / "s")]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1
    assert message in err
    assert not (tmp_path / "s").exists()


def test_usage_errors_exit_2(capsys):
    assert main(["connect", "a", "b"]) == 2
    assert main(["connect", "a", "b", "-o", "s", "--method", "magic"]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_pairs_of_two_rows_are_the_least(tmp_path):
    a, b, _ = two_memories(tmp_path, texts=3, outer=5)
    made = connect(a, b, tmp_path / "s", ConnectConfig(epochs=1))
    assert made.rows == (3, 0)


def test_tensorboard_on_request(mem, tmp_path):
    a, b, _ = mem
    flags = [*QUICK, "--tensorboard", str(tmp_path / "tb")]
    assert main(["connect", str(a), str(b), "-o", str(tmp_path / "s"), *flags]) == 0
    assert list((tmp_path / "tb").glob("events.out.tfevents.*"))
