"""Lists of ids, classes and splits, in the forms in which data sets for classification come."""

from pathlib import Path

import pytest

from cmcr.datasets import read_class_list
from cmcr.errors import InputError

CASES = {
    "table": ("l.csv", "id,label,split\na,x,train\nb,y,Test\n", "table", {"a": "x", "b": "y"},
              {"a": "train", "b": "test"}),
    "jsonl": ("l.jsonl", '{"id": "a", "label": "x", "split": "val"}\n{"id": "b", "label": "y"}\n', "table",
              {"a": "x", "b": "y"}, {"a": "val"}),
    "tabs": ("l.txt", "a\tx\ttrain\nb\ty\ttest\n", "id<TAB>class", {"a": "x", "b": "y"},
             {"a": "train", "b": "test"}),
    "crema-d": ("train.csv", "1001_DFA_ANG_XX,ANG\n1001_DFA_DIS_XX,DIS\n", "id,label",
                {"1001_DFA_ANG_XX": "ANG", "1001_DFA_DIS_XX": "DIS"}, None),
    "upmc-food-101": ("titles.csv", 'apple_pie_10.jpg,"Pie, with apples",apple_pie\nsushi_3.jpg,Sushi,sushi\n',
                      "id,label", {"apple_pie_10": "apple_pie", "sushi_3": "sushi"}, None),
    "ethz-food-101": ("meta.txt", "apple_pie/1005649\nsushi/14\n", "class/number",
                      {"apple_pie/1005649": "apple_pie", "sushi/14": "sushi"}, None),
    "kinetics": ("k.csv", "label,youtube_id,time_start,time_end,split\nplaying organ,ab-_1,5,15,train\n"
                 "bowling,--x,120,130,test\n", "Kinetics",
                 {"ab-_1_000005_000015": "playing organ", "--x_000120_000130": "bowling"},
                 {"ab-_1_000005_000015": "train", "--x_000120_000130": "test"}),
    "mvsa-single": ("labelResultAll.txt", "ID\ttext,image\n1\tpositive,positive\n2\tneutral,negative\n"
                    "3\tpositive,negative\n4\tneutral,neutral\n", "MVSA",
                    {"1": "positive", "2": "negative", "4": "neutral"}, None),
    "mvsa-multiple": ("labelResultAll.txt", "ID\ttext,image\ttext,image\ttext,image\n"
                      "1\tpositive,neutral\tpositive,positive\tnegative,positive\n"
                      "2\tpositive,neutral\tneutral,neutral\tnegative,neutral\n", "MVSA", {"1": "positive"}, None),
    "iemocap": ("Ses01F_impro01.txt", "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"
                "[6.2901 - 8.2357]\tSes01F_impro01_F000\tneu\t[2.5000, 2.5000, 2.5000]\n"
                "C-E2:\tNeutral;\t()\n[10.0 - 11.4]\tSes01F_impro01_F001\txxx\t[2.5, 2.5, 2.5]\n"
                "[14.8 - 18.0]\tSes01F_impro01_M001\tfru\t[2.5, 2.0, 2.5]\n", "IEMOCAP",
                {"Ses01F_impro01_F000": "neu", "Ses01F_impro01_M001": "fru"}, None),
    "blanks": ("my_train.txt", "clip_1 bowling\nclip_2 dancing\n", "id label",
               {"clip_1": "bowling", "clip_2": "dancing"}, None),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_list_is_read_as_its_users_have_it(case, tmp_path):
    name, text, layout, labels, splits = CASES[case]
    (tmp_path / name).write_text(text)
    found = read_class_list(tmp_path / name)
    assert found.layout == layout
    assert dict(found.labels) == labels
    assert (None if found.splits is None else dict(found.splits)) == splits
    left = {"mvsa-single": 1, "mvsa-multiple": 1, "iemocap": 1}.get(case)
    assert [note.split()[0] for note in found.notes] == ([str(left)] if left else [])


def test_files_of_a_folder_are_its_splits(tmp_path):
    (tmp_path / "train_titles.csv").write_text("a_1.jpg,one,a\nb_1.jpg,two,b\n")
    (tmp_path / "test_titles.csv").write_text("a_2.jpg,three,a\n")
    (tmp_path / "readme.txt").write_text("nothing here")
    (tmp_path / "._train_titles.csv").write_bytes(b"\x00\x05\x16\x07")
    found = read_class_list(tmp_path)
    assert dict(found.labels) == {"a_1": "a", "b_1": "b", "a_2": "a"}
    assert dict(found.splits) == {"a_1": "train", "b_1": "train", "a_2": "test"}


def test_sessions_of_iemocap_are_found_below_a_folder(tmp_path):
    for session in ("Session1", "Session2"):
        folder = tmp_path / session / "dialog" / "EmoEvaluation"
        folder.mkdir(parents=True)
        (folder / "x.txt").write_text(f"[1.0 - 2.0]\t{session}_F000\tang\t[2.5, 2.5, 2.5]\n")
        (folder / "._x.txt").write_bytes(b"\x00\x05\x16\x07")  # as a Mac left them in the archive
    assert dict(read_class_list(tmp_path).labels) == {"Session1_F000": "ang", "Session2_F000": "ang"}


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("l.txt", "one\ntwo\n", "'one'; expected a table with id and class"),
        ("l.csv", "a,x\na,y\n", "'a' has two classes, 'x' and 'y'; keep one"),
        ("l.txt", "a\tx\ttrain\na\tx\ttest\n", "'a' has two splits, 'train' and 'test'; keep one"),
        ("l.csv", "label,text\nx,hello\n", "looked for id and"),
        ("l.csv", "file,emotion,split\na.wav,ANG,train\n", "looked for id and .*; saw file emotion split"),
        ("l.txt", "\n\n", "no label in it"),
    ],
)
def test_what_is_no_list_is_one_line(name, text, said, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=said):
        read_class_list(tmp_path / name)


def test_a_place_without_lists(tmp_path):
    with pytest.raises(InputError, match="no list in it"):
        read_class_list(tmp_path)
    with pytest.raises(InputError, match="no such file or folder"):
        read_class_list(Path(tmp_path / "none"))
