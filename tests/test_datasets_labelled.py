"""Layouts of labelled data: what is read, what is wrong with the rest, and what no file can make us do."""

import json
import os
import pickle
import sys
from collections import Counter

import numpy as np
import pytest

from cmcr.datasets import modelnet, read_labelled
from cmcr.datasets.labelled import LAYOUTS, recognise
from cmcr.errors import InputError, MissingExtraError
from cmcr.modality import Modality
from cmcr.shapes.clouds import read_point_cloud
from cmcr.tiny.modelnet import CLASSES, shapes, write_dat, write_h5, write_modelnet

AUDIO, IMAGE, CLOUD = Modality.AUDIO, Modality.IMAGE, Modality.POINT_CLOUD


@pytest.fixture
def read(tmp_path):
    return lambda path, **more: read_labelled(path, unpack=tmp_path / "unpacked", **more)


@pytest.fixture
def textual(tmp_path):
    """Three classes, five shapes listed for the test, one for training."""
    folder = tmp_path / "modelnet40_normal_resampled"
    for name in ("bed_0001", "bed_0002", "night_stand_0001", "night_stand_0003", "xbox_0007", "xbox_0001"):
        path = folder / name.rpartition("_")[0] / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("0,0,0,0,0,1\n1,0,0,0,0,1\n0,1,0,0,0,1\n")
    (folder / "modelnet40_shape_names.txt").write_text("bed\nnight_stand\nxbox\n")
    (folder / "modelnet40_test.txt").write_text("bed_0001\nbed_0002\nnight_stand_0001\nnight_stand_0003\nxbox_0007\n")
    (folder / "modelnet40_train.txt").write_text("xbox_0001\n")
    return folder


def labelled(data):
    return {item.id: data.classes[data.labels[item.id]] for item in data.inputs.items if item.problem is None}


def problems(data):
    return Counter(item.problem for item in data.inputs.items if item.problem)


def test_text_clouds_and_their_split_files(textual, read):
    data = read(textual)
    assert (data.name, data.layout, data.split, data.expected) == ("modelnet40", "modelnet40", "test", 5)
    assert labelled(data) == {
        "bed/bed_0001": "bed", "bed/bed_0002": "bed", "night_stand/night_stand_0001": "night_stand",
        "night_stand/night_stand_0003": "night_stand", "xbox/xbox_0007": "xbox",
    }  # fmt: skip
    item = data.inputs.items[2]
    assert item.path == textual / "night_stand" / "night_stand_0001.txt"
    assert read_point_cloud(item.read(), item.suffix).shape == (3, 6)
    assert list(labelled(read(textual, split="train"))) == ["xbox/xbox_0001"]


def test_modelnet10_lies_in_the_same_folder_and_is_named(textual, read):
    (textual / "modelnet10_shape_names.txt").write_text("bed\nnight_stand\n")
    (textual / "modelnet10_test.txt").write_text("bed_0001\nnight_stand_0001\n")
    data = read(textual, layout="modelnet10")
    assert (data.name, data.classes, data.expected) == ("modelnet10", ("bed", "night_stand"), 2)
    assert read(textual).name == "modelnet40"


def test_what_the_split_lists_and_is_not_there_is_a_problem_each(textual, read):
    lines = ["bed_0009", "sofa_0001", "bed_0001", "../../bed_0001", ".._0001", "xbox", "bed/../bed_0002", "table_0001"]
    with (textual / "modelnet40_test.txt").open("a") as file:
        file.write("\n".join(lines) + "\n")
    names = textual / "modelnet40_shape_names.txt"
    names.write_text(names.read_text() + "table\n..\n../../bed\n")
    data = read(textual)
    assert data.expected == 13
    assert len(labelled(data)) == 5
    assert problems(data) == {
        "listed, but its file is missing": 1,
        "unknown class 'sofa'; not among the 6 names": 1,
        "unknown class 'bed/../bed'; not among the 6 names": 1,
        "listed twice": 1,
        "listed by a name without a class": 1,
        "class folder '../../bed' is missing": 1,
        "class folder '..' is missing": 1,
        "class folder 'table' is missing": 1,
    }
    assert len({item.id for item in data.inputs.items}) == 13


def test_a_name_in_a_split_file_leads_to_no_other_folder(textual, read):
    (textual.parent / "secret.txt").write_text("1 2 3\n")
    (textual / "bed" / "bed_").mkdir()
    (textual / "modelnet40_test.txt").write_text("bed_0001\nbed_/../../../secret\n")
    assert (textual / "bed" / "bed_" / ".." / ".." / ".." / "secret.txt").is_file()
    assert problems(read(textual)) == {"listed, but its file is missing": 1}


@pytest.mark.parametrize(
    ("gone", "words"),
    [
        (
            "modelnet40_shape_names.txt",
            "looked for modelnet40_shape_names.txt with class names; found bed/, modelnet40",
        ),
        ("modelnet40_test.txt", "looked for modelnet40_test.txt with the shapes of the split; found bed/"),
    ],
)
def test_a_missing_file_names_what_was_looked_for_and_found(textual, read, gone, words):
    (textual / gone).unlink()
    with pytest.raises(InputError, match=words):
        read(textual)


def test_a_split_of_which_nothing_is_there(textual, read):
    (textual / "modelnet40_test.txt").write_text("bed_0101\nbed_0102\n")
    with pytest.raises(InputError, match=r"none of the 2 shapes.*looked for .*bed_0101.txt; found"):
        read(textual)


def test_the_tiny_shapes_read_the_same_from_every_form(tmp_path, read):
    text = read(write_modelnet(tmp_path / "text", 1, splits=["test"]))
    dat = read(write_dat(tmp_path / "dat", 1).parent)
    h5 = read(write_h5(tmp_path / "h5", 1).parent)
    assert [data.layout for data in (text, dat, h5)] == ["modelnet40", "ulip-dat", "h5"]
    named = [list(labelled(data).values()) for data in (text, dat, h5)]
    assert named[0] == named[1] == named[2] == sorted(CLASSES)
    clouds = [
        [read_point_cloud(item.read(), item.suffix)[:, :3] for item in data.inputs.items] for data in (text, dat, h5)
    ]
    np.testing.assert_allclose(clouds[0], clouds[1], atol=1e-6)
    np.testing.assert_array_equal(clouds[1], clouds[2])
    np.testing.assert_array_equal(clouds[1], [points for _, points in shapes("test", 1)])


def test_the_tiny_classes_are_forty_and_of_combinations_nothing_was_trained_on():
    from cmcr.tiny.scene import COUNTS, SIZES, is_held_out

    assert len(CLASSES) == 40
    for kind, count in CLASSES.values():
        assert count in COUNTS
        assert any(is_held_out(kind, count, size) for size in SIZES)


def test_an_archive_is_unpacked_once(tmp_path, read, folder_bytes, monkeypatch):
    folder = write_dat(tmp_path / "dat", 1).parent
    first = read(folder)
    before = folder_bytes(tmp_path / "unpacked")
    assert len(before) == 41
    monkeypatch.setattr(modelnet.unpickle, "load", lambda data: pytest.fail("read again"))
    assert read(folder) == first
    assert folder_bytes(tmp_path / "unpacked") == before


def test_another_archive_of_the_same_name_is_unpacked_anew(tmp_path, read):
    path = tmp_path / "modelnet40_test_4pts_fps.dat"
    (tmp_path / "modelnet40_shape_names.txt").write_text("bed\n")
    for value, clouds in ((1.0, 1), (2.0, 2)):
        path.write_bytes(
            pickle.dumps([[np.full((4, 6), value, np.float32)] * clouds, [np.array([0], np.int32)] * clouds])
        )
        data = read(path)
        assert [read_point_cloud(item.read(), ".npy")[0, 0] for item in data.inputs.items] == [value] * clouds


def dat(folder, content, size=4, split="test"):
    folder.mkdir(exist_ok=True)
    (folder / "modelnet40_shape_names.txt").write_text("bed\nxbox\n")
    path = folder / f"modelnet40_{split}_{size}pts_fps.dat"
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content))
    return folder


def test_of_several_sizes_the_one_asked_for_is_read_else_the_largest(tmp_path, read):
    for size in (2, 4, 8):
        folder = dat(tmp_path / "dat", [[np.ones((size, 6), np.float32)], [np.array([1], np.int32)]], size)
    for points, expected in ((4, 4), (3, 8), (0, 8)):
        data = read(folder, points=points)
        assert data.settings == {"file": f"modelnet40_test_{expected}pts_fps.dat"}
    with pytest.raises(InputError, match=r"modelnet40_test_4pts_fps.dat is one file; leave --split out"):
        read(folder / "modelnet40_test_4pts_fps.dat", split="train")
    assert read(folder / "modelnet40_test_4pts_fps.dat").split == "test"
    with pytest.raises(InputError, match=r"looked for modelnet40_train_\{N\}pts_fps.dat; found modelnet40_shape_names"):
        read(folder, split="train")


class Evil:
    def __reduce__(self):
        return print, ("this ran",)


def test_a_pickle_that_would_run_code_is_refused(tmp_path, read, capsys):
    with pytest.raises(InputError, match="only arrays"):
        read(dat(tmp_path / "dat", Evil()))
    assert "this ran" not in capsys.readouterr().out


def test_bad_clouds_and_labels_of_a_pickle_are_problems_and_a_bad_pickle_is_refused(tmp_path, read):
    good, label = np.zeros((4, 6), np.float32), np.array([0], np.int32)
    clouds = [good, good[:, :2], good, good, "text", good]
    labels = [label, label, np.array([2], np.int32), np.array([-1], np.int32), label, np.array([0.5])]
    data = read(dat(tmp_path / "dat", [clouds, labels]))
    assert list(labelled(data).values()) == ["bed"]
    reasons = " | ".join(problems(data))
    for words in ("float32 (4, 2)", "label 2; the 2 names are numbered 0 to 1", "label -1", "<U4 ()", "float64 (1,)"):
        assert words in reasons
    for content, words in (
        ([[good], [label, label]], "1 clouds and 2 labels"),
        ({"a": 1}, "a pickled dict"),
        (b"no pickle", "expected ULIP's"),
    ):
        with pytest.raises(InputError, match=words):
            read(dat(tmp_path / "bad", content))
        (tmp_path / "bad" / "modelnet40_test_4pts_fps.dat").unlink()


def test_h5_files_that_the_split_lists(tmp_path, read):
    h5py = pytest.importorskip("h5py")
    (tmp_path / "set" / "sub").mkdir(parents=True)
    (tmp_path / "set" / "shape_names.txt").write_text("bed\nxbox\n")
    for number in range(2):
        with h5py.File(tmp_path / "set" / f"part{number}.h5", "w") as file:
            file["data"], file["label"] = np.full((3, 5, 3), number, np.float32), np.array([[0], [1], [number * 2]])
    with pytest.raises(InputError, match=r"looked for test_files.txt or \*test\*.h5; found part0.h5, part1.h5"):
        read(tmp_path / "set")
    (tmp_path / "set" / "test_files.txt").write_text("data/elsewhere/part1.h5\ndata/elsewhere/part0.h5\n")
    data = read(tmp_path / "set")
    assert list(labelled(data).values()) == ["bed", "xbox", "bed", "xbox", "bed"]
    assert problems(data) == {"label 2; the 2 names are numbered 0 to 1": 1}
    assert data.settings == {"files": ["part1.h5", "part0.h5"]}
    with pytest.raises(InputError, match=r"part0.h5 is one file"):
        read(tmp_path / "set" / "part0.h5", split="test")
    (tmp_path / "set" / "test_files.txt").write_text("part9.h5\n")
    with pytest.raises(InputError, match=r"lists part9.h5; found part0.h5, part1.h5"):
        read(tmp_path / "set")


def test_an_h5_file_cannot_make_us_read_another_file(tmp_path, read):
    h5py = pytest.importorskip("h5py")
    (tmp_path / "shape_names.txt").write_text("bed\n")
    secret = tmp_path / "secret.bin"
    secret.write_bytes(bytes(48))
    path = tmp_path / "test.h5"
    for make in ("link", "external", "virtual", "huge"):
        with h5py.File(path, "w") as file:
            file["label"] = np.zeros((1, 1), np.uint8)
            if make == "link":
                with h5py.File(tmp_path / "other.hdf", "w") as other:
                    other["data"] = np.zeros((1, 4, 3), np.float32)
                file["data"] = h5py.ExternalLink("other.hdf", "data")
            elif make == "external":
                file.create_dataset("data", (1, 4, 3), np.float32, external=[(str(secret), 0, 48)])
            elif make == "virtual":
                layout = h5py.VirtualLayout((1, 4, 3), np.float32)
                layout[:] = h5py.VirtualSource(str(tmp_path / "other.hdf"), "data", (1, 4, 3))
                file.create_virtual_dataset("data", layout)
            else:
                file.create_dataset("data", (10**6, 10**6, 3), np.float32, chunks=(1, 1000, 3))
        with pytest.raises(InputError, match="no array 'data'" if make != "huge" else "expected numbers, up to"):
            read(path)


def test_a_damaged_h5_file_and_a_missing_library(tmp_path, read, monkeypatch):
    (tmp_path / "shape_names.txt").write_text("bed\n")
    path = tmp_path / "test.h5"
    path.write_bytes(b"not h5")
    with pytest.raises(InputError, match="damaged h5 file"):
        read(path)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingExtraError, match=r"cmcr\[h5\]"):
        read(path)


CUBE = "8 6 0\n" + "".join(f"{x} {y} {z}\n" for x in (0, 1) for y in (0, 1) for z in (0, 1))
CUBE += "4 0 1 3 2\n4 4 6 7 5\n4 0 4 5 1\n4 2 3 7 6\n4 0 2 6 4\n4 1 5 7 3\n"


def test_princeton_folders_and_glued_headers(tmp_path, read):
    for at, header in (
        ("bed/train/bed_0001", "OFF\n"), ("bed/test/bed_0002", "OFF\n"),
        ("xbox/test/xbox_0001", "OFF"), ("sofa/train/sofa_0001", "OFF\n"),
    ):  # fmt: skip
        path = tmp_path / "ModelNet40" / f"{at}.off"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(header + CUBE)
    data = read(tmp_path / "ModelNet40")
    assert (data.name, data.layout, data.up, data.expected) == ("modelnet40", "princeton", "z", 2)
    assert labelled(data) == {"bed/test/bed_0002": "bed", "xbox/test/xbox_0001": "xbox"}
    assert data.classes == ("bed", "sofa", "xbox")
    assert data.notes == ("no test folder with meshes in: sofa",)
    for item in data.inputs.items:
        points = read_point_cloud(item.read(), item.suffix)
        on_a_face = np.isclose(points, 0, atol=1e-5) | np.isclose(points, 1, atol=1e-5)
        assert len(points) == 10_000
        assert on_a_face.any(axis=1).all()
    with pytest.raises(InputError, match=r"looked for <class>/val/\*.off; found bed/, sofa/, xbox/ with test, train"):
        read(tmp_path / "ModelNet40", split="val")


def test_the_whole_test_split_is_expected_where_the_classes_are_modelnets(tmp_path, read):
    for name in modelnet.MODELNET40:
        (tmp_path / "m" / name / "test").mkdir(parents=True)
        (tmp_path / "m" / name / "test" / f"{name}_0001.off").write_text("OFF\n" + CUBE)
    assert (read(tmp_path / "m").expected, len(read(tmp_path / "m").labels)) == (2468, 40)
    textual = tmp_path / "t"
    for name in modelnet.MODELNET40:
        (textual / name).mkdir(parents=True)
        (textual / name / f"{name}_0001.txt").write_text("0,0,0\n")
    (textual / "modelnet40_shape_names.txt").write_text("\n".join(sorted(modelnet.MODELNET40)))
    (textual / "modelnet40_test.txt").write_text("\n".join(f"{name}_0001" for name in modelnet.MODELNET40))
    data = read(textual)
    assert data.expected == 40
    assert data.notes == ("modelnet40_test.txt lists 40 shapes; ModelNet40's test split has 2468",)


def test_esc50(tmp_path, read):
    (tmp_path / "meta").mkdir()
    (tmp_path / "audio").mkdir()
    (tmp_path / "meta" / "esc50.csv").write_text(
        "filename,fold,target,category,esc10,src_file,take\n1-a.wav,1,0,dog,True,1,A\n2-b.wav,2,1,crying_baby,False,2,A\n"
        "2-c.wav,2,1,crying_baby,False,2,B\n../meta/esc50.csv,3,0,dog,True,1,A\n3-d.wav,3,0,,True,1,A\n"
    )
    for name in ("1-a.wav", "2-b.wav", "3-d.wav"):
        (tmp_path / "audio" / name).write_bytes(b"RIFF")
    data = read(tmp_path)
    assert (data.name, data.layout, data.inputs.modality, data.expected) == ("esc50", "esc50", AUDIO, 5)
    assert labelled(data) == {"1-a": "dog", "2-b": "crying_baby"}
    assert problems(data) == {"listed, but its file is missing": 2, "no label": 1}
    assert data.folds["2-b"] == "2"
    with pytest.raises(InputError, match="has no splits"):
        read(tmp_path, split="test")
    (tmp_path / "meta" / "esc50.csv").write_text("file,label\n1-a.wav,dog\n")
    with pytest.raises(InputError, match="looked for the columns filename and category; found file, label"):
        read(tmp_path)


def test_class_folders(write_files, tmp_path, read):
    for name in ("dogs", "cats/young"):
        write_files(f"set/{name}", "image", 2)
    write_files("set", "image", 1)
    (tmp_path / "set" / "empty").mkdir()
    (tmp_path / "set" / "dogs" / "readme.md").write_text("x")
    data = read(tmp_path / "set")
    assert (data.name, data.layout, data.inputs.modality, data.classes) == ("set", "folders", IMAGE, ("cats", "dogs"))
    assert labelled(data) == {
        "cats/young/000": "cats", "cats/young/001": "cats", "dogs/000": "dogs", "dogs/001": "dogs",
    }  # fmt: skip
    assert data.notes == (
        "1 files lie beside the class folders and were left out",
        "folders without a usable file, no classes: empty",
        "left aside for their suffix: .md (1)",
    )
    names = tmp_path / "names.txt"
    names.write_text("dogs\nhorses\n")
    data = read(tmp_path / "set", names=names)
    assert data.classes == ("dogs", "horses")
    assert problems(data) == {"unknown class 'cats'; not among the 2 names": 2}
    write_files("set/dogs", "audio", 1, start=5)
    with pytest.raises(InputError, match="choose one with --modality"):
        read(tmp_path / "set")
    assert read(tmp_path / "set", modalities=[AUDIO]).classes == ("dogs",)


def test_a_folder_whose_name_is_not_utf8_is_a_class_and_can_be_written_down(tmp_path, read):
    for name in (b"d\xf6gs", b"cats", b"\xff"):
        os.makedirs(os.fsencode(tmp_path / "set") + b"/" + name)
    for at in (b"/d\xf6gs/a.png", b"/cats/b.png"):
        with open(os.fsencode(tmp_path / "set") + at, "wb") as file:
            file.write(b"x")
    data = read(tmp_path / "set")
    assert labelled(data) == {"cats/b": "cats", r"d\xf6gs/a": r"d\xf6gs"}
    assert problems(data) == {}
    assert "".join(data.classes + data.notes).encode()


def test_a_manifest_with_names_numbers_and_splits(write_files, tmp_path, read):
    write_files("pictures", "image", 3)
    manifest = tmp_path / "set.jsonl"
    rows = [
        {"path": "pictures/000.png", "label": "dog", "split": "test"},
        {"path": "pictures/001.png", "label": "cat", "split": "test", "id": "mine"},
        {"path": "pictures/002.png", "label": "dog", "split": "train"},
        {"path": "pictures/009.png", "label": "dog", "split": "test"},
        {"label": "dog", "split": "test"},
        {"path": "pictures/002.png", "split": "test"},
    ]
    manifest.write_text("\n".join(map(json.dumps, rows)) + "\nno json\n")
    data = read(manifest)
    assert (data.name, data.layout, data.classes, data.expected) == ("set", "manifest", ("cat", "dog"), 7)
    assert labelled(data) == {"pictures/000": "dog", "mine": "cat", "pictures/002": "dog"}
    assert problems(data) == {
        "listed, but its file is missing": 1,
        "no path in this row": 1,
        "no label": 1,
        "not JSON: Expecting value: line 1 column 1 (char 0)": 1,
    }
    assert list(labelled(read(manifest, split="train"))) == ["pictures/002"]
    with pytest.raises(InputError, match=r"no row of split 'val'; found test, train"):
        read(manifest, split="val")
    table = tmp_path / "set.csv"
    table.write_text("image,class\npictures/000.png,1\npictures/001.png,0\npictures/002.png,2\n")
    names = tmp_path / "names.txt"
    names.write_text("cat\ndog\n")
    data = read(table, names=names)
    assert labelled(data) == {"pictures/000": "dog", "pictures/001": "cat"}
    assert problems(data) == {"label 2; the 2 names are numbered 0 to 1": 1}
    table.write_text("image,text\npictures/000.png,a dog\n")
    with pytest.raises(
        InputError, match=r"looked for a path \(.*\) and a label \(label, class, category\); found image"
    ):
        read(table)


def test_what_is_no_layout_says_what_was_looked_for(tmp_path, read):
    (tmp_path / "lonely.bin").write_bytes(b"x")
    with pytest.raises(
        InputError, match=r"no layout known here; looked for modelnet40_shape_names.txt.*found lonely.bin"
    ):
        read(tmp_path)
    with pytest.raises(InputError, match=r"expected a folder, or a file .dat .h5"):
        read(tmp_path / "lonely.bin")
    with pytest.raises(InputError, match="no such file or folder"):
        read(tmp_path / "gone")
    with pytest.raises(InputError, match="did you mean 'princeton'"):
        read(tmp_path, layout="princton")
    with pytest.raises(InputError, match="expected class names, one a line"):
        read(tmp_path, names=tmp_path / "gone.txt")
    names = tmp_path / "names.txt"
    names.write_text("bed\nbed\n")
    (tmp_path / "bed").mkdir()
    with pytest.raises(InputError, match="'bed' twice"):
        read(tmp_path, layout="modelnet40", names=names)


def test_every_layout_is_recognised_or_named(textual):
    assert recognise(textual) == "modelnet40"
    (textual / "modelnet40_test_8192pts_fps.dat").write_bytes(b"")
    assert recognise(textual) == "modelnet40"  # the clouds themselves come before ULIP's cache of them
    for name in ("bed", "night_stand", "xbox"):
        for file in (textual / name).iterdir():
            file.unlink()
        (textual / name).rmdir()
    assert recognise(textual) == "ulip-dat"
    assert set(LAYOUTS) >= {"modelnet10", "princeton", "h5", "esc50", "manifest", "folders"}
