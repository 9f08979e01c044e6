"""Arrays without files: from four of them to a saved space, and what is said where that cannot be."""

from pathlib import Path

import numpy as np
import pytest
from worlds import DIM_A, DIM_B, LATENT, space, two_memories

import cmcr
from cmcr import ArrayMemory, CmcrError, ConnectConfig, ConnectedSpace, Memory, connect_arrays, console
from cmcr.connect import connect
from cmcr.hooks import silent
from cmcr.numbers import ranks, recall_at

ROOT = Path(__file__).parent.parent
QUICK = ConnectConfig(method="linear")


@pytest.fixture
def arrays():
    """Two encoders' arrays, sharing 300 texts, and 40 true pairs that nothing is fitted on."""
    rng = np.random.default_rng(3)
    texts, images, sounds, test = (rng.normal(size=(rows, LATENT)) for rows in (300, 200, 220, 40))
    a = {"text": space(1, DIM_A, texts, 0), "image": space(1, DIM_A, images, 1)}
    b = {"text": space(2, DIM_B, texts, 0), "audio": space(2, DIM_B, sounds, 2)}
    return a, b, space(1, DIM_A, test, 1), space(2, DIM_B, test, 2)


def recall_of(made, image, sound):
    a = made.project(image, encoder="a", modality="image")
    return recall_at(ranks(made.project(sound, encoder="b", modality="audio"), a), 1)


@pytest.mark.parametrize("method", ["linear", "route"])
def test_four_arrays_become_a_space_that_retrieves_and_is_saved(arrays, tmp_path, monkeypatch, method):
    a, b, image, sound = arrays
    monkeypatch.chdir(tmp_path)
    made = connect_arrays(a=a, b=b, via="text", method=method)
    assert recall_of(made, image, sound) > 0.3
    assert list(tmp_path.iterdir()) == []  # nothing of the run is left where the user works
    made.save("space")
    again = ConnectedSpace.from_pretrained("space")
    assert recall_of(again, image, sound) == recall_of(made, image, sound)
    assert again.fingerprint == made.fingerprint


def test_arrays_give_the_weights_that_memories_of_the_same_rows_give(tmp_path):
    folders = two_memories(tmp_path / "mem")[:2]
    by_encoder = {}
    for folder in folders:
        memory = Memory.open(folder)
        by_encoder[memory.encoder.name] = {m: memory.vectors(m) for m in memory.modalities}
    on_disk = connect(*folders, tmp_path / "space", QUICK).space
    in_ram = connect_arrays(via="text", config=QUICK, **by_encoder)
    for name in by_encoder:
        for modality in by_encoder[name]:
            rows = by_encoder[name][modality][:20]
            first, second = (s.project(rows, encoder=name, modality=modality) for s in (on_disk, in_ram))
            assert np.allclose(first, second, atol=1e-4)


def test_rows_are_paired_by_position_or_by_ids(arrays):
    a, b, image, sound = arrays
    order = np.random.default_rng(0).permutation(300)[:250]
    shuffled = b | {"text": b["text"][order]}
    ids = {"a": range(300), "b": order}
    assert recall_of(connect_arrays(a=a, b=shuffled, via="text", config=QUICK, ids=ids), image, sound) > 0.3
    wrong = connect_arrays(a=a | {"text": a["text"][:250]}, b=shuffled, via="text", config=QUICK)
    assert recall_of(wrong, image, sound) < 0.2


def test_several_outer_modalities_ask_for_one(arrays):
    a, b, _, _ = arrays
    more = a | {"point_cloud": a["image"]}
    with pytest.raises(CmcrError, match="image, point_cloud"):
        connect_arrays(a=more, b=b, via="text", config=QUICK)
    made = connect_arrays(a=more, b=b, via="text", config=QUICK, outer={"a": "image"})
    assert set(made.modalities) == {"text", "image", "point_cloud", "audio"}


@pytest.mark.parametrize("by", ["position", "ids"])
def test_three_encoders_lie_in_the_space_of_the_first(arrays, by):
    a, b, image, sound = arrays
    turn = np.linalg.qr(np.random.default_rng(9).normal(size=(DIM_A, DIM_A)))[0].astype(np.float32)
    c = {"image": a["image"] @ turn, "point_cloud": a["image"][:100] @ turn}
    ids = None
    if by == "ids":
        order = np.random.default_rng(0).permutation(200)[:150]
        c["image"] = c["image"][order]
        ids = {"a": {"text": range(300), "image": range(200)}, "b": range(300), "c": order}
    made = connect_arrays(a=a, b=b, c=c, via={"b": "text", "c": "image"}, method="linear", ids=ids)
    assert set(made.modalities) == {"text", "image", "audio", "point_cloud"} and made.base == "a"
    assert np.allclose(made.project(image, encoder="a", modality="image"), image, atol=1e-6)
    assert recall_of(made, image, sound) > 0.3
    shape = made.project(image @ turn, encoder="c", modality="point_cloud")
    heard = made.project(sound, encoder="b", modality="audio")
    assert recall_at(ranks(heard, shape), 1) > 0.3  # sounds and shapes were never linked directly


def test_encoders_whose_names_differ_in_signs_alone_are_kept_apart(arrays):
    a, b, _, _ = arrays
    made = connect_arrays(via="text", config=QUICK, **{"a": a, "b/1": b, "b_1": {"text": b["text"]}, "b.1": b})
    assert list(made.encoders) == ["a", "b/1", "b_1", "b.1"]


def test_progress_and_log_are_told(arrays):
    a, b, _, _ = arrays
    a["image"] = a["image"][:50]
    told, logged = [], []
    config = ConnectConfig(epochs=2, min_steps=1)
    with pytest.warns(UserWarning, match="learns too little"):
        connect_arrays(
            a=a, b=b, via="text", config=config,
            progress=lambda *args: told.append(args), log=lambda *args: logged.append(args),
        )  # fmt: skip
    assert told and len(logged) == 2


def test_progress_is_a_bar_on_a_terminal_unless_it_goes_elsewhere(arrays, monkeypatch):
    a, b, _, _ = arrays
    bars, real = [], console.progress
    monkeypatch.setattr(console, "progress", lambda label: bars.append(label) or real(label))
    connect_arrays(a=a, b=b, via="text", config=QUICK, progress=silent)
    assert bars == []
    connect_arrays(a=a, b=b, via="text", config=QUICK)
    assert bars == ["connecting"]


def test_a_space_tells_its_encoders_modalities_and_method(arrays):
    a, b, _, _ = arrays
    said = repr(connect_arrays(a=a, b=b, via="text", config=QUICK))
    assert said == f"ConnectedSpace(a: text, image; b: text, audio; linear via text, {DIM_A} components)"


def bad(array, row, value):
    array = array.copy()
    array[row] = value
    return array


CASES = {
    "a: image: row 7 is zero or not finite": lambda a, b: {"a": a | {"image": bad(a["image"], 7, np.nan)}},
    "b: audio: row 0 is zero or not finite": lambda a, b: {"b": b | {"audio": bad(b["audio"], 0, 0)}},
    "a: image: float32 of shape \\(24,\\); expected numbers of shape": lambda a, b: {"a": a | {"image": a["image"][0]}},
    "a: image: .* of shape \\(0, 24\\)": lambda a, b: {"a": a | {"image": a["image"][:0]}},
    "a: image: <U1 of shape": lambda a, b: {"a": a | {"image": [["x"]]}},
    "a: image: no array": lambda a, b: {"a": a | {"image": [[1.0], [1.0, 2.0]]}},
    "a: text has 24 components and image 5": lambda a, b: {"a": a | {"image": a["image"][:, :5]}},
    "a: modality 'no/folder'": lambda a, b: {"a": {"text": a["text"], "no/folder": a["image"]}},
    "rows of text: a 300 and b 299; they are paired by position": lambda a, b: {"b": b | {"text": b["text"][1:]}},
    "via 'text': b has audio; give it the same text rows": lambda a, b: {"b": {"audio": b["audio"]}},
    "via.*'txt'": lambda a, b: {"via": "txt"},
    "c-mcr moves both sides": lambda a, b: {"c": a, "config": ConnectConfig()},
    "outer of a; it is for two encoders, here are 3": lambda a, b: {"c": a, "outer": {"a": "image"}},
    "via of b; expected that of b, c": lambda a, b: {"c": a, "via": {"b": "text"}},
    "rows of image: a 200 and c 199": lambda a, b: {"c": {"image": a["image"][1:]}, "via": {"b": "text", "c": "image"}},
    "ids of a: it shares image and text; give them by modality": lambda a, b: {
        "c": a,
        "via": {"b": "text", "c": "image"},
        "ids": {"a": range(300), "b": range(300), "c": range(200)},
    },
    "metod is a str; .*did you mean 'method'": lambda a, b: {"metod": "linear"},
    "a is a ndarray; expected the arrays of an encoder by modality": lambda a, b: {"a": a["text"]},
    "method 'liner'; .*did you mean 'linear'": lambda a, b: {"method": "liner"},
    "ids of c; expected them by encoder \\(a, b\\)": lambda a, b: {"ids": {"c": range(300)}},
    "outer of c; expected them by encoder \\(a, b\\)": lambda a, b: {"outer": {"c": "image"}},
    "ids of int; expected them by encoder": lambda a, b: {"ids": 5},
    "a: text: ids 5; expected one id a row": lambda a, b: {"ids": {"a": 5, "b": 6}},
    "config is a dict; expected a ConnectConfig": lambda a, b: {"config": {"epochs": 3}},
    "ids of a and none of b": lambda a, b: {"ids": {"a": range(300)}},
    "a: text: 2 ids for 300 rows": lambda a, b: {"ids": {"a": range(2), "b": range(300)}},
    "a: text: the id '0' stands there twice": lambda a, b: {"ids": {"a": [0] * 300, "b": range(300)}},
    "arrays of b holds only text": lambda a, b: {"b": {"text": b["text"]}},
}


def test_one_encoder_is_too_few(arrays):
    with pytest.raises(CmcrError, match=r"1 encoders \(a\); expected two or more"):
        connect_arrays(a=arrays[0], via="text")


@pytest.mark.parametrize("said", CASES)
def test_what_cannot_be_connected_is_said_in_one_line(arrays, said):
    a, b, _, _ = arrays
    given = {"a": a, "b": b, "via": "text", "config": QUICK} | CASES[said](a, b)
    with pytest.raises(CmcrError, match=said) as error:
        connect_arrays(**given)
    assert "\n" not in str(error.value)


def test_an_array_memory_reads_like_one_on_disk(tmp_path):
    folder = two_memories(tmp_path)[0]
    disk = Memory.open(folder)
    ids = {m: disk.ids(m) for m in disk.modalities}
    held = ArrayMemory(disk.encoder.name, {m: 3 * disk.vectors(m) for m in disk.modalities}, ids)
    assert held.modalities == disk.modalities
    for modality in disk.modalities:
        assert held.rows(modality) == disk.rows(modality) and held.ids(modality) == disk.ids(modality)
        assert np.allclose(np.concatenate(list(held.blocks(modality, 33))), disk.vectors(modality), atol=1e-6)
        assert np.allclose(held.vectors(modality, [5, 2]), disk.vectors(modality, [5, 2]), atol=1e-6)
        assert held.row(modality, 3).id == disk.row(modality, 3).id
        assert held.check_content(modality) and held.skipped() == []
        with pytest.raises(IndexError):
            held.vectors(modality, [disk.rows(modality)])
    vectors = disk.vectors("text")
    same, turned, named = (
        ArrayMemory(held.encoder.name, {"text": rows}, {"text": names}).fingerprint("text")
        for rows, names in (
            (3 * vectors, ids["text"]),
            (vectors[::-1], ids["text"]),
            (3 * vectors, range(len(vectors))),
        )
    )
    assert same == held.fingerprint("text") and len({same, turned, named}) == 3


def test_the_verbs_have_names_that_no_room_hides():
    rooms = {path.stem for path in Path(cmcr.__file__).parent.iterdir()}
    assert not rooms & set(cmcr.__all__)
    assert set(cmcr.__all__) <= set(dir(cmcr))
    for name in cmcr.__all__:
        assert callable(getattr(cmcr, name)), name


def test_types_are_shipped():
    from importlib.resources import files

    assert (files("cmcr") / "py.typed").is_file()
