"""``cmcr translate``: an archive in the space of a newer encoder, which says of itself that it was moved there."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import FakeEncoder
from worlds import DIM_A, DIM_B, LATENT, rows, space, write

from cmcr import ConnectConfig, connect_memories, translate_memory
from cmcr.cli import main
from cmcr.embed import embed
from cmcr.errors import ArtifactError, InputError
from cmcr.items import text_item, unique_items
from cmcr.memory import ArrayMemory, EncoderInfo, Memory, MemoryWriter, Row, Translated
from cmcr.modality import Modality

IMAGE, TEXT = Modality.IMAGE, Modality.TEXT
ITEMS, SAMPLE = 400, 150


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """An old memory of 400 pictures, a new one of 150 of them and some texts, and the space that connects the two."""
    place = tmp_path_factory.mktemp("translate")
    latent = np.random.default_rng(0).normal(size=(ITEMS, LATENT))
    items, told = rows("i", ITEMS), rows("t", 20)
    seen = {"old": space(2, DIM_B, latent, 1), "new": space(1, DIM_A, latent, 1)}
    write(place / "old", "old-clip", {IMAGE: (seen["old"], items)})
    texts = space(1, DIM_A, latent[-20:], 0)
    write(place / "new", "new-clip", {IMAGE: (seen["new"][:SAMPLE], items[:SAMPLE]), TEXT: (texts, told)})
    np.save(place / "anew.npy", seen["new"])
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert main(["connect", "new", "old", "-o", "space", "--method", "linear", "--freeze-base"]) == 0
        assert main(["translate", "old", "--space", "space", "-o", "moved"]) == 0
    return place


@pytest.fixture
def place(made, tmp_path, monkeypatch):
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(capsys, *argv):
    code = main(list(map(str, argv)))
    out, err = capsys.readouterr()
    return code, out, err


def opened(name="space"):
    from cmcr import ConnectedSpace

    return ConnectedSpace.from_pretrained(name)


def test_new_vectors_find_what_the_new_encoder_never_saw(place):
    moved, anew = Memory.open("moved"), np.load("anew.npy")
    assert moved.encoder == Memory.open("new").encoder and moved.dtype == Memory.open("old").dtype
    assert list(moved.metadata(IMAGE)) == list(Memory.open("old").metadata(IMAGE))
    nearest = (anew @ moved.vectors(IMAGE).T).argmax(axis=1)
    assert (nearest == np.arange(ITEMS))[SAMPLE:].mean() > 0.9
    assert moved.verify() == []


def test_the_new_encoders_queries_search_it(place, capsys):
    """Texts of the new encoder, which the old space knows nothing of."""
    code, out, err = run(capsys, "retrieve", "space", "new:text#t7", "--in", "moved", "-k", "3")
    assert code == 0 and f"i{ITEMS - 20 + 7}" in out.split("\n", 1)[1]
    assert "moved: image vectors were translated from old-clip, not embedded by new-clip" in err


def test_it_says_that_it_was_translated(place, capsys):
    code, out, _ = run(capsys, "info", "moved")
    said = dict(line.split("\t") for line in out.splitlines())
    assert code == 0 and said["encoder"] == "new-clip"
    told = "from old-clip (fp-old-clip) by linear, fitted on 150 rows; recall@1 "
    assert said["translated"].startswith(f"image: {told}") and said["translated"].endswith(" held out")
    manifest = json.loads(Path("moved/manifest.json").read_text())
    assert manifest["version"] == 2
    assert manifest["translated"]["image"]["space"] == opened().fingerprint
    assert manifest["translated"]["image"]["held_out"] == opened().metrics["held_out"]
    plain = json.loads(Path("old/manifest.json").read_text())  # what an earlier release opens
    assert plain["version"] == 1 and "translated" not in plain


def test_other_commands_say_it_too(place, capsys):
    _, _, err = run(capsys, "connect", "moved", "old", "-o", "s2", "--method", "linear", "--freeze-base")
    assert "moved: image vectors were translated from old-clip" in err
    _, _, err = run(capsys, "eval", "retrieval", "space", "--a", "moved:image", "--b", "old:image")
    assert "moved: image vectors were translated from old-clip" in err


def test_embedded_vectors_are_not_put_beside_translated_ones(place, capsys):
    code, _, err = run(capsys, "translate", "old", "--space", "space", "-o", "new")
    assert code == 1 and "new: holds vectors that new-clip embedded" in err and err.count("\n") == 1
    before = Path("moved/manifest.json").read_bytes()
    encoder = Memory.open("moved").encoder
    refused = "its image vectors were translated from old-clip; what new-clip embeds"
    with MemoryWriter("moved", encoder) as writer, pytest.raises(ArtifactError, match=refused):
        writer.append(TEXT, np.eye(DIM_A)[:1], [Row("x", "", None, "x")])
    assert Path("moved/manifest.json").read_bytes() == before


def test_embed_is_refused_before_anything_is_encoded(tmp_path):
    encoder = FakeEncoder()
    info = EncoderInfo(encoder.name, encoder.fingerprint, encoder.dim)
    with MemoryWriter(tmp_path / "m", info, translates=True) as writer:
        writer.record(TEXT, Translated("old", "1f", "2f", "linear", 9))
    encoder.encode = None
    with pytest.raises(ArtifactError, match="translated from old; what fake-clip embeds goes into a memory of its own"):
        embed(encoder, unique_items(TEXT, [text_item("a dog", "t:1")]), tmp_path / "m")


def test_what_an_interrupted_run_left_is_gone_on_with(place, monkeypatch):
    """Die at every commit in turn: the memory is whole each time, and ends as if nothing had happened."""
    from cmcr.memory import writer

    memory, whole = Memory.open("old"), translate_memory(Memory.open("old"), opened(), "once", shard_size=60)
    assert whole.translated == ITEMS and len(Memory.open("once").shards(IMAGE)) == 7
    left, write_json = [0], writer.write_json

    def dying(path, value):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        write_json(path, value)

    monkeypatch.setattr(writer, "write_json", dying)
    for commits in range(1, 20):
        left[0] = 2 if commits > 2 else commits - 1
        try:
            report = translate_memory(memory, opened(), "often", shard_size=60)
            break
        except KeyboardInterrupt:
            held = Memory.open("often") if Path("often/manifest.json").exists() else None
            assert held is None or not [each for each in held.verify() if "left over" not in each]
    assert commits > 4 and report.already + report.translated == ITEMS
    once, often = Memory.open("once"), Memory.open("often")
    assert list(often.metadata(IMAGE)) == list(once.metadata(IMAGE)) and often.shards(IMAGE)[0] == once.shards(IMAGE)[0]
    assert np.allclose(often.vectors(IMAGE), once.vectors(IMAGE), atol=1e-6)


def test_what_is_new_in_the_old_memory_is_added_and_what_changed_is_counted(place, capsys):
    old = Memory.open("old")
    more = [Row("i400", "i.txt:400", "a" * 64, None)]
    with MemoryWriter("old", old.encoder) as writer:
        writer.append(IMAGE, np.eye(DIM_B)[:1], more)
    code, out, _ = run(capsys, "translate", "old", "--space", "space", "-o", "moved")
    assert code == 0 and out.splitlines()[1:] == ["translated\t1", f"already\t{ITEMS}", "changed\t0"]
    assert Memory.open("moved").ids(IMAGE)[-1] == "i400"
    write(Path("else"), "old-clip", {IMAGE: (np.eye(DIM_B, dtype=np.float32)[:1], [Row("i3", "", "b" * 64, None)])})
    code, out, err = run(capsys, "translate", "else", "--space", "space", "-o", "moved", "--json")
    assert code == 0 and json.loads(out)["changed"] == 1
    assert "1 rows are of other content in else now, and stayed as they were in moved" in err


def test_another_modality_comes_into_the_same_folder_by_a_space_of_its_own(place, capsys):
    latent = np.random.default_rng(5).normal(size=(80, LATENT))
    parts = {TEXT: (space(2, DIM_B, latent, 0), rows("x", 80))}
    write(Path("texts"), "old-clip", parts)
    write(Path("told"), "new-clip", {TEXT: (space(1, DIM_A, latent, 0)[:60], rows("x", 60))})
    made = connect_memories("told", "texts", out="s4", config=ConnectConfig("linear"), freeze_base=True)
    assert translate_memory(Memory.open("texts"), made.space, "moved").translated == 80
    moved = Memory.open("moved")
    assert moved.modalities == (IMAGE, TEXT) and moved.manifest.translated[TEXT].fitted_on == 60
    assert moved.manifest.translated[IMAGE].fitted_on == SAMPLE and moved.verify() == []


def test_files_are_named_as_seen_from_the_new_memory(place):
    Path("pictures").mkdir()
    Path("pictures/a.png").write_bytes(b"png")
    sources = ["../pictures/a.png", "../pictures/a.png!x/b.png", "texts.txt:3", "", "/nowhere/c.png"]
    lines = [Row(f"n{n}", source, None, None) for n, source in enumerate(sources)]
    write(Path("small"), "old-clip", {IMAGE: (np.eye(DIM_B, dtype=np.float32)[:5], lines)})
    translate_memory(Memory.open("small"), opened(), "deep/er/moved")
    found = list(Memory.open("deep/er/moved").metadata(IMAGE))
    up = "../../../pictures/a.png"
    assert [row.source for row in found] == [up, f"{up}!x/b.png", *sources[2:]]
    assert Memory.open("deep/er/moved").source_path(found[0]).read_bytes() == b"png"


def test_what_cannot_be_translated_is_one_line(place, capsys):
    write(Path("third"), "third-clip", {IMAGE: (np.eye(DIM_B, dtype=np.float32), rows("i", DIM_B))})
    write(Path("other"), "old-clip", {IMAGE: (np.eye(DIM_B, dtype=np.float32), rows("i", DIM_B))}, fingerprint="fp-2")
    argv = {
        ("new",): "new holds vectors of new-clip, in whose own space they are; give an older one",
        ("old", "--modality", "text"): "the space was fitted on image rows of new-clip and old-clip",
        ("third",): "this space maps old-clip into new-clip, not third-clip",
        ("other",): "other was made by old-clip (fp-2), this space connects",
        ("nowhere",): "nowhere: does not exist",
    }
    for given, said in argv.items():
        code, out, err = run(capsys, "translate", *given, "--space", "space", "-o", "none")
        assert (code, out) == (1, "") and said in err and err.count("\n") == 1
    assert not Path("none").exists()
    assert run(capsys, "connect", "new", "old", "-o", "s2", "--method", "linear", "--pairing", "none")[0] == 0
    _, _, err = run(capsys, "translate", "old", "--space", "s2", "-o", "none")
    assert "connect the new encoder's memory first, with --freeze-base" in err
    connect_memories("new", "old", out="s3", config=ConnectConfig("linear", ridge=0.5), freeze_base=True)
    _, _, err = run(capsys, "translate", "old", "--space", "s3", "-o", "moved")
    assert "moved: its image was translated from old-clip" in err and "by another space; choose another folder" in err


def test_pairs_of_two_modalities_are_no_sample(tmp_path):
    rng = np.random.default_rng(0)
    see, hear = (
        ArrayMemory("see", {"image": rng.normal(size=(60, 8))}),
        ArrayMemory("hear", {"audio": rng.normal(size=(60, 9))}),
    )
    pairs = [(str(n), str(n)) for n in range(60)]
    method = ConnectConfig("csa")
    made = connect_memories(see, hear, out=tmp_path / "s", config=method, pairs=pairs)
    with pytest.raises(InputError, match=r"--freeze-base|expected rows that both embedded"):
        translate_memory(hear, made.space, tmp_path / "none")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.update(image=t["image"] | {"encoder": 3}), "translated.image.encoder is 3"),
        (lambda t: t.update(image=[]), "translated.image is"),
        (lambda t: t["image"].update(more=1), "unknown translated.image.more"),
    ],
)
def test_a_damaged_record_is_said(place, change, said):
    path = Path("moved/manifest.json")
    value = json.loads(path.read_text())
    change(value["translated"])
    path.write_text(json.dumps(value))
    with pytest.raises(ArtifactError, match=said):
        Memory.open("moved")
