"""The demo, as a newcomer runs it."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from browser import visit

from cmcr import Memory, Modality
from cmcr.cli import main
from cmcr.demo import run as demo
from cmcr.tiny import folders, world


def test_nothing_that_is_written_is_a_pair(tmp_path):
    """Texts, pictures, sounds and shapes are drawn independently: as many agree by position as by chance."""
    sizes = {"texts": 400, "images": 400, "sounds": 400, "clouds": 400}
    drawn = [world.train_scenes(400, folders.UNPAIRED + number) for number in range(len(sizes))]
    for i, one in enumerate(drawn):
        for other in drawn[i + 1 :]:
            agree = np.mean([a.combo == b.combo for a, b in zip(one, other, strict=True)])
            assert agree < 0.02
    assert not {scene.combo for scenes in drawn for scene in scenes} & set(world.HELD_OUT)


def test_paired_files_join_by_id(tmp_path):
    scenes = world.test_scenes(0)[:3]
    folders.write_paired(tmp_path, scenes, 0)
    for folder, suffix in (("images", ".png"), ("sounds", ".wav"), ("clouds", ".npy")):
        assert sorted(path.name for path in (tmp_path / folder).iterdir()) == [f"0000{n}{suffix}" for n in range(3)]
    for name in ("texts", "heard", "scenes"):
        lines = [json.loads(line) for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()]
        assert [line["id"] for line in lines] == ["00000", "00001", "00002"]


def test_the_world_is_written_once_and_not_mixed_with_another_seeds(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo, "SIZES", dict.fromkeys(demo.SIZES, 2))
    monkeypatch.setattr(world, "test_scenes", lambda seed, all_scenes=world.test_scenes: all_scenes(seed)[:3])
    demo.write_world(tmp_path, 0)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    demo.write_world(tmp_path, 0)
    assert before == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    assert main(["demo", "-o", str(tmp_path), "--seed", "1"]) == 1
    assert "holds the demo of another seed than 1; choose another folder" in capsys.readouterr().err


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The whole demo, once."""
    folder = tmp_path_factory.mktemp("home") / "demo"
    assert main(["demo", "-o", str(folder)]) == 0
    return folder


def result(folder, name):
    return json.loads((folder / "results" / f"{name}.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("pair", demo.PAIRS, ids=lambda pair: pair.space)
def test_demo_answers_what_nobody_trained(made, pair):
    found = result(made, demo.name_of(pair))
    assert found["gallery"] == len(world.HELD_OUT)
    for values in found["values"].values():
        assert values["recall@1"] > 10 * found["chance"]["recall@1"]
        assert values["recall@10"] > 0.5


@pytest.mark.slow
def test_demo_memories_are_sound_and_hold_what_was_written(made):
    for path in sorted((made / "mem").iterdir()):
        assert Memory.open(path).verify() == []
    assert Memory.open(made / "mem" / "clip").rows(Modality.IMAGE) == demo.SIZES["images"]


@pytest.mark.slow
def test_demo_again_changes_nothing(made):
    def state():
        return {p: p.read_bytes() for p in made.rglob("*") if p.is_file() and "results" not in p.parts}

    before = state()
    assert main(["demo", "-o", str(made)]) == 0
    assert state() == before


@pytest.mark.slow
@pytest.mark.parametrize("width", [1200, 390])
def test_demo_page_in_a_browser(made, width):
    """CMCR_SCREENSHOT=docs/demo.png keeps the picture that the README shows."""
    keep = os.environ.get("CMCR_SCREENSHOT") if width == 1200 else None
    counts = visit(made / "index.html", width, screenshot=Path(keep).resolve() if keep else None)
    assert counts["audio"] == sum(pair.query[1] is Modality.AUDIO for pair in demo.PAIRS) * demo.SHOWN
    assert counts["img"] >= len(demo.PAIRS) * demo.SHOWN * 5 + 4
    assert counts["svg"] == 6


@pytest.mark.slow
def test_hits_page_in_a_browser(made):
    counts = visit(made / "hits.html")
    assert counts["img"] == 5 and counts["audio"] == 1
