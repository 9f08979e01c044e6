"""Recall against the weight of an encoder: the numbers are those of eval retrieval with the same weights."""

import json

import numpy as np
import pytest
from browser import visit
from worlds import DIM_A, DIM_B, LATENT, rows, space, two_memories, write

from cmcr import ConnectConfig, Memory, Modality
from cmcr.cli import main
from cmcr.connect import connect
from cmcr.evaluate.sweep.sweep import Sweep, evaluate

TEXT, IMAGE, AUDIO = Modality.TEXT, Modality.IMAGE, Modality.AUDIO
PAIRS = 60


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A space whose base sees texts with little noise and whose other encoder sees them as its sounds lie."""
    folder = tmp_path_factory.mktemp("sweep")
    two_memories(folder)
    connect(folder / "a", folder / "b", out=folder / "space", config=ConnectConfig(method="linear"))
    latent = np.random.default_rng(5).normal(size=(PAIRS, LATENT))
    for name, who, seed, dim, parts in (
        ("ta", "enc-a", 1, DIM_A, {TEXT: (0, 0.4)}),
        ("tb", "enc-b", 2, DIM_B, {TEXT: (0, 0.2)}),
        ("sb", "enc-b", 2, DIM_B, {AUDIO: (1, 0.2)}),
        ("ia", "enc-a", 1, DIM_A, {IMAGE: (1, 0.2)}),
    ):
        held = {
            m: (space(seed, dim, latent, which, noise=noise), rows("p", PAIRS)) for m, (which, noise) in parts.items()
        }
        write(folder / name, who, held)
    return folder


COMMAND = ["--of", "enc-b:text", "--a", "ta:text", "--a", "tb:text", "--b", "sb:audio"]


def test_each_share_is_what_eval_retrieval_measures_with_its_weights(folder, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(folder)
    out = tmp_path / "out"
    assert (
        main(["eval", "sweep", "space", *COMMAND, "--own", "ia:image", "--steps", "4", "-o", str(out), "--json"]) == 0
    )
    told = capsys.readouterr()
    found = json.loads(told.out)
    assert json.loads((out / "result.json").read_text())["values"] == found["values"]
    assert found["shares"] == [0, 0.25, 0.5, 0.75, 1] and found["n"] == PAIRS
    for share, flags in zip(found["shares"], found["flags"], strict=True):
        weights = [word for flag in flags for word in ("--weight", flag)]
        for b, whose, names in (("sb:audio", "", ("text", "audio")), ("ia:image", "own ", ("text", "image"))):
            sides = ["--a", "ta:text", "--a", "tb:text", "--b", b]
            assert main(["eval", "retrieval", "space", *sides, *weights, "--json"]) == 0
            expected = json.loads(capsys.readouterr().out)["values"]
            for one, other in (names, names[::-1]):
                numbers = found["values"][f"{whose}{one}->{other} at {share:g}"]
                assert numbers == {name: expected[f"{one}->{other}"][name] for name in numbers}
    curves = {name: np.array(points) for name, points in found["curves"].items()}
    assert curves["text->audio"][0] < curves["text->audio"][3] and "index.html" in told.err  # the weight acts
    best = int(np.argmax((curves["text->audio"] + curves["audio->text"]) / 2))
    assert f"cmcr preset space NAME --weight {found['flags'][best][0]}" in told.err
    page = (out / "index.html").read_text()
    assert "what the own space loses" in page and "own text-&gt;image" in page


def test_the_best_share_is_the_one_that_loses_least_of_equals_and_lost_is_told_from_share_0():
    curves = {
        "a->b": (0.2, 0.6, 0.6),
        "b->a": (0.4, 0.4, 0.4),
        "own a->c": (0.9, 0.8, 0.5),
        "own c->a": (0.7, 0.8, 0.5),
    }
    sweep = Sweep("sweep", {}, 9, 9, {"recall@1": 0.1}, shares=(0, 0.5, 1), curves=curves)
    assert np.allclose(sweep.lost(), [0, 0, 0.3]) and sweep.best() == 1
    assert sweep.table()[1][2] == ["1", "0.600", "0.400", "0.500", "0.500", "0.500", "0.300"]


def test_what_the_others_share_is_said_by_their_weights(folder):
    from cmcr import ConnectedSpace

    opened = ConnectedSpace.from_pretrained(folder / "space")
    texts, sounds = [Memory.open(folder / name) for name in ("ta", "tb")], [Memory.open(folder / "sb")]
    found = evaluate(opened, ("enc-b", TEXT), (sounds, AUDIO), (texts, TEXT), weights={"enc-a": 7}, steps=2)
    assert found.flags[1] == ("enc-a:text=0.5", "enc-b:text=0.5")  # alone it has all that is left, whatever it weighs


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ({"--of": "enc-c:text"}, 1, "--of 'enc-c:text': encoder 'enc-c' is not in this space"),
        ({"--of": "enc-b"}, 1, "expected ENCODER:MODALITY"),
        ({"--of": "enc-b:audio"}, 1, "enc-b:audio is not one of several that see a side"),
        ({"--weight": "enc-b:text=1"}, 1, "weight of enc-b; expected one of enc-a"),
        ({"--weight": "enc-a:text=0"}, 1, "the weights of enc-a sum to 0"),
        ({"--b": "ia:audio"}, 1, "ia holds image, no audio"),
        ({"--b": "ia"}, 2, "expected MEMORY:MODALITY"),
    ],
)
def test_what_cannot_be_swept_is_refused(folder, monkeypatch, capsys, change, code, message):
    monkeypatch.chdir(folder)
    arguments = [*COMMAND]
    for flag, value in change.items():
        if flag in arguments:
            arguments[arguments.index(flag) + 1] = value
        else:
            arguments += [flag, value]
    assert main(["eval", "sweep", "space", *arguments]) == code
    assert message in " ".join(capsys.readouterr().err.replace("│", " ").split())


@pytest.mark.slow
def test_the_page_opens_in_a_browser(folder, monkeypatch, tmp_path):
    monkeypatch.chdir(folder)
    assert main(["eval", "sweep", "space", *COMMAND, "--own", "ia:image", "-o", str(tmp_path)]) == 0
    assert visit(tmp_path / "index.html")["svg"] == 2
