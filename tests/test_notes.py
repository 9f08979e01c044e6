"""What a decoder tells of an item is kept with its row, counted at the end, and said of a query."""

import json

import numpy as np
import pytest
import soundfile
from spaces import FakeEncoder as SpaceFake
from spaces import make_memory, make_space

from cmcr import media
from cmcr.ask import subject as subject_module
from cmcr.cli import main
from cmcr.decode import note
from cmcr.embed import Part, embed
from cmcr.items import read_items
from cmcr.memory import Memory
from cmcr.modality import Modality

AUDIO = Modality.AUDIO
TONE = np.sin(np.arange(800) * 0.1)


@pytest.fixture
def sounds(tmp_path, monkeypatch):
    """Six good sounds, two far above 1, and one of opposite channels."""
    (tmp_path / "sounds").mkdir()
    rng = np.random.default_rng(0)
    for number in range(6):
        soundfile.write(tmp_path / f"sounds/{number}.wav", rng.uniform(-0.5, 0.5, 800), 16_000)
    for name, peak in (("loud", 16_384), ("louder", 32_768)):
        soundfile.write(tmp_path / f"sounds/{name}.wav", TONE / TONE.max() * peak, 16_000, subtype="FLOAT")
    soundfile.write(tmp_path / "sounds/phase.wav", np.stack([TONE, -TONE], axis=1) / 2, 16_000)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "sounds"


def run(capsys, *argv):
    code = main([str(part) for part in argv])
    out, err = capsys.readouterr()
    return code, out, err


def test_a_note_is_kept_with_its_row_and_other_rows_have_no_such_key(sounds, fake_encoder):
    report = embed(fake_encoder("fake-clap"), read_items(str(sounds), AUDIO, (AUDIO,)), "mem")
    memory = Memory.open("mem")
    notes = {row.id: row.note for row in memory.metadata(AUDIO)}
    assert notes.pop("loud") == "samples reach 16384; clipped to [-1, 1]"
    assert notes.pop("louder") == "samples reach 32768; clipped to [-1, 1]"
    assert "cancel" in notes.pop("phase") and set(notes.values()) == {None}
    assert memory.row(AUDIO, 6).note == "samples reach 16384; clipped to [-1, 1]"
    lines = [json.loads(line) for line in (memory.path / "metadata/audio_0000.jsonl").read_text().splitlines()]
    assert [list(line) for line in lines[:6]] == [["id", "source", "hash", "text"]] * 6
    assert [list(line) for line in lines[6:]] == [["id", "source", "hash", "text", "note"]] * 3
    assert [(row.id, count) for row, count in report.notes()] == [("loud", 2), ("phase", 1)]
    assert memory.verify() == []


def test_parts_write_the_notes_of_a_run_alone(sounds, fake_encoder, folder_bytes):
    inputs, encoder = read_items(str(sounds), AUDIO, (AUDIO,)), fake_encoder("fake-clap")
    embed(encoder, inputs, "alone", shard_size=2)
    told = [embed(encoder, inputs, "shared", shard_size=2, part=Part(rank, 2)).noted for rank in (0, 1)]
    assert folder_bytes("shared") == folder_bytes("alone")
    assert sorted(row.id for part in told for row in part) == ["loud", "louder", "phase"]


def test_notes_are_counted_at_the_end(sounds, fake_encoders, capsys):
    code, out, err = run(capsys, "embed", sounds, "-e", "fake-clap", "-o", "mem", "--json")
    assert code == 0
    assert "noted 2: samples reach 16384; clipped to [-1, 1] (../sounds/loud.wav)" in err
    assert "noted 1: its channels cancel each other" in err
    (added,) = json.loads(out)["added"]
    assert added["noted"] == 3 and added["notes"]["samples reach 16384; clipped to [-1, 1]"] == 2
    code, out, err = run(capsys, "embed", sounds, "-e", "fake-clap", "-o", "mem", "--json")
    assert "noted" not in err and "noted" not in json.loads(out)["added"][0]  # nothing new


def test_a_query_with_a_note_is_told(sounds, monkeypatch, capsys):
    class Encoder(SpaceFake):
        def prepare(self, item, data):
            if item.modality is AUDIO:
                media.read_audio(data, 16_000)
            return super().prepare(item, data)

    def load(name, device="cpu", *, weights=(), precision="fp32"):
        return Encoder(name)

    monkeypatch.setattr(subject_module, "load_encoder", load)
    make_space().save("space")
    make_memory(sounds.parent / "seen", "seer", {Modality.IMAGE: {"x": ("p.png", None, b"1")}})
    warning = "warning: sounds/loud.wav: samples reach 16384; clipped to [-1, 1]\n"
    code, _, err = run(capsys, "retrieve", "space", "sounds/loud.wav", "--in", "seen")
    assert code == 0 and warning in err
    code, _, err = run(capsys, "retrieve", "space", "--queries", "sounds", "--in", "seen")
    assert code == 0 and err.count("warning: ") == 3
    code, out, err = run(
        capsys, "score", "a dog", "-w", "sounds/loud.wav", "-w", "sounds/1.wav", "-s", "space", "--json"
    )
    assert code == 0 and err.count("warning: ") == 1 and warning in err
    assert list(json.loads(out)["notes"]) == ["sounds/loud.wav"]
    code, out, err = run(capsys, "score", "a dog", "-w", "sounds/1.wav", "-s", "space", "--json")
    assert "warning" not in err and "notes" not in json.loads(out)


def test_several_notes_of_an_item_stand_in_one(sounds, fake_encoder):
    class Encoder(fake_encoder):
        def prepare(self, item, data):
            note("first")
            note("second")
            return super().prepare(item, data)

    embed(Encoder("fake-clap"), read_items(str(sounds / "1.wav"), AUDIO, (AUDIO,)), "mem")
    assert [row.note for row in Memory.open("mem").metadata(AUDIO)] == ["first; second"]
