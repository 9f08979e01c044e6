import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from spaces import make_memory, make_space

from cmcr import ConnectedSpace, Memory, Modality
from cmcr.ask import make_index
from cmcr.cli import main
from cmcr.errors import ArtifactError
from cmcr.search.verify import memory_problems
from cmcr.verify import run_problems, space_problems

IMAGE = Modality.IMAGE


def test_a_sound_space_has_no_problem(tmp_path, capsys):
    make_space("mlp").save(tmp_path / "space")
    assert space_problems(tmp_path / "space") == []
    assert main(["info", str(tmp_path / "space"), "--verify", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"space": str(tmp_path / "space"), "problems": []}


def card_without(text):
    def change(folder):
        card = folder / "README.md"
        card.write_text(card.read_text().replace(text, ""))

    return change


def config_with(group, value):
    def change(folder):
        config = json.loads((folder / "config.json").read_text())
        config[group] = {"x": value}
        (folder / "config.json").write_text(json.dumps(config))

    return change


def write(name, content):
    return lambda folder: (folder / name).write_bytes(content)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda folder: (folder / "README.md").unlink(), "README.md: no card"),
        (card_without("| seer |"), "README.md: is not the card of config.json, it lacks '| seer | text, image, point_"),
        (write("README.md", b"\xff"), "README.md: 'utf-8' codec"),
        (write("README.md", b"x" * 2_000_000), "README.md: more than"),
        (config_with("metrics", float("nan")), "config.json: metrics.x is nan"),
        (config_with("recipe", [{"y": float("inf")}]), "config.json: recipe.x is"),
        (write(".config.json.0123456789abcdef.partial", b""), ".config.json.0123456789abcdef.partial: left over"),
    ],
)
def test_what_is_wrong_with_a_space_is_told(tmp_path, change, problem, capsys):
    make_space().save(tmp_path / "space")
    change(tmp_path / "space")
    (found,) = space_problems(tmp_path / "space")
    assert found.startswith(problem)
    assert main(["info", str(tmp_path / "space"), "--verify"]) == 1
    out, err = capsys.readouterr()
    assert out.split("\n")[1].startswith(problem) and err == f"{tmp_path / 'space'}: 1 problems\n"


def test_escapes_in_a_card_and_weights_of_zeros_are_told(tmp_path):
    space = make_space("linear")
    with torch.no_grad():
        space.projectors["seer"].body.weight.zero_()
    space.save(tmp_path / "zeros")
    assert space_problems(tmp_path / "zeros") == ["model.safetensors: body.weight of 'seer' is all zeros"]
    make_space().save(tmp_path / "card")
    with (tmp_path / "card" / "README.md").open("a") as card:
        card.write("\x1b[2J")
    assert space_problems(tmp_path / "card") == ["README.md: holds characters that a terminal would obey"]


def test_a_space_that_does_not_open_is_one_error(tmp_path, capsys):
    make_space().save(tmp_path / "space")
    (tmp_path / "space" / "model.safetensors").write_bytes(b"")
    with pytest.raises(ArtifactError):
        space_problems(tmp_path / "space")
    assert main(["info", str(tmp_path / "space"), "--verify"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


@pytest.fixture
def memory(tmp_path):
    rows = {str(number): (f"../{number}.png", None, str(number).encode()) for number in range(20)}
    return make_memory(tmp_path / "mem", "seer", {IMAGE: rows})


@pytest.mark.parametrize(
    "name", ["bytes", "structure", "opening", "sha256", "rows", "dim", "kind", "modality", "space"]
)
def test_every_field_of_an_index_is_compared(memory, name):
    path, info = make_index(make_space(), memory, IMAGE, "flat")
    assert memory_problems(memory) == []
    wrong = {"kind": "hnsw", "modality": "text", "dim": -1}.get(name)
    change = wrong or (getattr(info, name) + 1 if isinstance(getattr(info, name), int) else "0" * 64)
    stored = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps(stored | {name: change}))
    assert memory_problems(memory) and all(each.startswith(f"index/{path.name}: ") for each in memory_problems(memory))
    path.with_suffix(".json").write_text(json.dumps(stored | {name: ["no"]}))
    assert memory_problems(memory)


def test_the_files_of_a_run_are_read(tmp_path, capsys):
    make_space().save(tmp_path / "space")
    run = tmp_path / "space.run"
    (run / "pairs").mkdir(parents=True)
    (run / "config.json").write_text(json.dumps({"recipe": {"epochs": 3}, "memories": []}))
    (run / "metrics.jsonl").write_text('{"epoch": 1}\n')
    np.save(run / "pairs" / "overlap_a.npy", np.ones((3, 2), np.float16))
    assert space_problems(tmp_path / "space") == run_problems(run) == []
    assert main(["info", str(run), "--verify"]) == 0
    (run / "config.json").write_text(json.dumps({"recipe": {"epochs": "many"}, "memories": []}))
    (run / "metrics.jsonl").write_text("[]\n")
    np.save(run / "pairs" / "overlap_a.npy", np.full((3, 2), np.nan, np.float16))
    (run / "checkpoint.safetensors").write_bytes(b"none")
    (run / "pairs" / ".x.partial").touch()
    os.mkfifo(run / "pairs" / "overlap_b.npy")
    capsys.readouterr()
    assert main(["info", str(run), "--verify"]) == 1
    told = capsys.readouterr().out
    for name in ("config.json", "metrics.jsonl", "pairs/overlap_a.npy", "checkpoint.safetensors", "pairs/.x.partial",
                 "pairs/overlap_b.npy"):  # fmt: skip
        assert f"\n{name}: " in told
    assert len(space_problems(tmp_path / "space")) == 6


def changed(memory):
    """Change a vector as a stranger could: the file still opens, and its rows are of norm 1."""
    path = memory.path / memory.shards(IMAGE)[0].vectors
    stored = np.load(path)
    np.save(path, stored[::-1])


def test_content_is_compared_before_it_is_searched_or_connected(memory, tmp_path, capsys, monkeypatch):
    make_space().save(tmp_path / "space")
    command = ["retrieve", str(tmp_path / "space"), f"{memory.path}#0", "--in", str(memory.path)]
    assert main(command) == 0
    changed(memory)
    capsys.readouterr()
    assert main(command) == 1
    assert "img_emb_0000.npy: its sha256 is not the manifest's" in capsys.readouterr().err
    monkeypatch.setattr("cmcr.ask.retrieve.CHECKED_BYTES", 10)
    assert main(command) == 0
    assert "too large to be compared with its sha256" in capsys.readouterr().err
    texts = {str(n): ("x", str(n), str(n).encode()) for n in range(40)}
    other = make_memory(
        tmp_path / "other", "hearer", {Modality.TEXT: texts, Modality.AUDIO: {"a": ("a.wav", None, b"3")}}
    )
    both = {Modality.TEXT: texts, IMAGE: {"i": ("i.png", None, b"1"), "j": ("j.png", None, b"2")}}
    seer = make_memory(tmp_path / "seer", "seer", both)
    changed(seer)
    assert main(["connect", str(seer.path), str(other.path), "-o", str(tmp_path / "s"), "--method", "route"]) == 1
    assert "img_emb_0000.npy: its sha256 is not the manifest's" in capsys.readouterr().err
    with pytest.raises(ArtifactError, match="sha256"):
        Memory.open(seer.path).check_content(IMAGE)
    assert ConnectedSpace.from_pretrained(tmp_path / "space")


@pytest.mark.parametrize("name", ["c-mcr", "linear"])
def test_spaces_of_the_first_version_are_sound_with_the_cards_of_their_time(name):
    assert space_problems(Path(__file__).parent / "version_1" / name) == []
