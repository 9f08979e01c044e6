"""A modality is any safe name: a memory of vectors takes it as it is, and the whole command line works with it."""

import copy
import json
import pickle

import numpy as np
import pytest

from cmcr.cli import main
from cmcr.errors import InputError
from cmcr.items import read_items
from cmcr.memory import EncoderInfo, Memory, MemoryWriter, Row
from cmcr.modality import Modality, in_order, of_suffix, register_modality
from cmcr.report import Previews
from cmcr.space import Projector, ProjectorConfig

EEG = Modality("eeg")


def test_a_modality_is_one_object_a_name_and_a_text_everywhere():
    assert Modality("image") is Modality.IMAGE and Modality("eeg") is EEG and EEG == "eeg" and hash(EEG) == hash("eeg")
    assert all(make(EEG) is EEG for make in (copy.copy, copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))))
    assert f"{EEG} {EEG!r}" == "eeg 'eeg'" and json.dumps({EEG: [EEG]}) == '{"eeg": ["eeg"]}'
    assert type(EEG.value) is str and (EEG.folder, Modality.IMAGE.folder, Modality.POINT_CLOUD.folder) == (
        "eeg",
        "img",
        "point",
    )
    assert list(Modality) == ["image", "text", "audio", "point_cloud"] and len(Modality) == 4 and EEG not in Modality
    assert ".png" in Modality.IMAGE.suffixes and EEG.suffixes == frozenset() and of_suffix(".PNG") is Modality.IMAGE
    assert EEG.columns == ("eeg", "eeg_path") and of_suffix(".eeg") is of_suffix("") is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("..", "expected image, text, audio, point_cloud, or a name of your own"),
        ("a/b", "a letter first"),
        ("Image", "did you mean 'image'"),
        ("1d", "a letter first"),
        ("eeg\n", "a letter first"),
        ("e" * 33, "up to 32"),
        ("", "modality ''"),
        (None, "modality None"),
        ("metadata", "a memory has a file or folder of that name; choose another"),
        ("index", "choose another"),
        ("staged", "choose another"),
        ("img", "that is the folder of image; expected image"),
        ("point", "that is the folder of point_cloud"),
    ],
)
def test_a_name_that_is_no_safe_folder_is_refused_in_one_line(name, message):
    with pytest.raises(InputError, match=message) as caught:
        Modality(name)
    assert isinstance(caught.value, ValueError) and "\n" not in str(caught.value)


def test_order_and_leftovers_follow_from_the_names_alone(tmp_path):
    names = [Modality(name) for name in ("gps", "audio", "eeg", "image")]
    assert in_order(names) == ["image", "audio", "eeg", "gps"]
    with MemoryWriter(tmp_path / "m", EncoderInfo("x", "fp", 3)) as writer:
        for name in names:
            writer.append(name, np.ones((1, 3)), [Row("a", "a", None, None)])
    memory = Memory.open(tmp_path / "m")
    assert memory.modalities == ("image", "audio", "eeg", "gps") and memory.verify() == []
    (tmp_path / "m" / "depth_emb").mkdir()
    for name in ("depth_emb/depth_emb_0000.npy", "metadata/depth_0000.jsonl", "metadata/eeg_0001.jsonl"):
        (tmp_path / "m" / name).write_bytes(b"cut")
    (tmp_path / "m" / "metadata" / "notes_2024.jsonl").write_bytes(b"somebody's own")
    left = ["depth_emb/depth_emb_0000.npy", "metadata/depth_0000.jsonl", "metadata/eeg_0001.jsonl"]
    assert memory.leftovers() == left
    with MemoryWriter(tmp_path / "m", EncoderInfo("x", "fp", 3)) as writer:
        assert writer.memory.leftovers() == []
    assert (tmp_path / "m" / "metadata" / "notes_2024.jsonl").exists()


def test_a_modality_may_be_called_as_a_method_of_a_module():
    names = ("half", "keys", "training")
    made = Projector(ProjectorConfig("linear", 3, 2, centered=names))
    assert {f"centers.{name}" for name in names} <= set(made.state_dict()) and made.eval()
    assert all(name in made.centers for name in names) and EEG not in made.centers


def test_registrations_that_cannot_be_are_refused():
    for name, suffixes, message in (
        ("image", [".img"], "'image' is registered already"),
        ("depth", [], "depth has no suffix"),
        ("depth", ["depth"], "suffix 'depth' of depth; expected lower-case"),
        ("De", [".de"], "modality 'De'"),
    ):
        with pytest.raises(InputError, match=message):
            register_modality(name, suffixes=suffixes)


def test_files_of_a_modality_that_is_not_registered(tmp_path, write_files):
    folder = write_files("photos", "image", 1)
    with pytest.raises(InputError, match="modality eeg; this encoder embeds image and text: choose another encoder"):
        read_items(str(folder), EEG, [Modality.IMAGE, Modality.TEXT])
    with pytest.raises(InputError, match="looked for none, for no suffix is registered of eeg"):
        read_items(str(folder), EEG, [EEG])
    (tmp_path / "list.jsonl").write_text('{"eeg": "photos/000.png"}\n')
    assert [item.modality for item in read_items(str(tmp_path / "list.jsonl"), None, [EEG]).items] == ["eeg"]
    assert Previews().of(EEG, b"x", ".png").note == "no preview of eeg"


@pytest.fixture
def cmcr(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def call(line):
        code = main(line.split())
        out, err = capsys.readouterr()
        return code, out, err

    return call


def test_vectors_of_a_free_name_go_the_whole_way(cmcr, tmp_path, write_files):
    rng = np.random.default_rng(0)
    photos = write_files("photos", "image", 24)
    texts = [f"a {colour} {kind}" for colour in ("red", "green", "blue", "grey") for kind in ("dog", "cat", "car")]
    (tmp_path / "texts.txt").write_text("".join(f"{text}\n" for text in texts))
    assert cmcr("embed texts.txt -e tiny-clip -o n")[0] == cmcr("embed photos -e tiny-clip -o n")[0] == 0
    keys = {"text": Memory.open("n").ids(Modality.TEXT), "eeg": [path.stem for path in sorted(photos.iterdir())]}
    for name, ids in keys.items():
        np.save(f"{name}.npy", rng.normal(size=(len(ids), 20)).astype(np.float32))
        (tmp_path / f"{name}.ids").write_text("".join(f"{each}\n" for each in ids))
    imported = "embed --from-vectors {0}.npy --ids {0}.ids --modality {0} --encoder-name x -o m"
    assert cmcr(f"{imported.format('text')} --sources texts.txt")[0] == 0
    assert "24 eeg embedded" in cmcr(imported.format("eeg"))[2]
    assert (tmp_path / "m" / "eeg_emb" / "eeg_emb_0000.npy").exists()
    assert cmcr("connect n m -o s --method linear --outer-b eeg")[0] == 0
    for query in ("red", "m:eeg#003", "n:image#004", f"m#{keys['text'][0]}"):
        code, out, err = cmcr(f"retrieve s {query} --in m --modality eeg -k 2 --json --html hits.html")
        assert code == 0 and len(json.loads(out)["hits"]) == 2, err
    assert "no preview of eeg" in (tmp_path / "hits.html").read_text()
    assert json.loads(cmcr("retrieve s m#005 --in m --modality eeg -k 1 --json")[1])["hits"][0]["id"] == "005"
    assert cmcr("index m --space s --modality eeg --kind flat")[0] == 0
    assert cmcr("retrieve s red --in m --modality eeg --index flat")[0] == 0
    assert cmcr("export s m -o out")[0] == 0 and np.load("out/eeg.npy").shape[0] == 24
    assert cmcr("map m:eeg n --space s -o map.html")[0] == 0
    found = json.loads(cmcr("eval retrieval s --a m:eeg --b n:image --json")[1])
    assert "eeg" in str(found) and "24" in str(found)
    assert cmcr("score m:eeg#003 red --space s")[0] == 0
    for folder in ("m", "s"):
        assert cmcr(f"info {folder} --verify")[0] == 0
    assert "did you mean 'eeg'" in cmcr("retrieve s m:eg#003 --in n --modality image")[2]
    code, _, err = cmcr("eval retrieval s --a m:eg --b n:image")
    assert code == 2 and "did you mean 'eeg'" in err
    code, _, err = cmcr(imported.format("eeg").replace("--modality eeg", "--modality ../eeg"))
    assert code == 2 and "modality '../eeg'" in err
