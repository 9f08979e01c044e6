"""VGGSound's audio-visual pairs out of parquet files, on the tiny world's own videos."""

import json

import pytest

from cmcr.cli import main
from cmcr.datasets import read_clips
from cmcr.decode import videos as video
from cmcr.errors import InputError
from cmcr.tiny import clips as tiny
from cmcr.tiny import world

pyarrow = pytest.importorskip("pyarrow")
from pyarrow import parquet  # noqa: E402

SCENES = world.test_scenes(0)[:6]


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ave")
    tiny.write_ave(folder, 0, SCENES, train=0)
    found = []
    for number, path in enumerate(sorted(folder.rglob("*.mp4"))[:6]):
        sound = folder / f"{number}.wav"
        video.unpack_sound(path, sound)
        found.append({"video": {"bytes": path.read_bytes(), "path": f"../../{path.name}"},
                      "audio": {"bytes": sound.read_bytes(), "path": None}, "video_caption": "seen"})  # fmt: skip
    return found


def write(folder, rows, parts=2):
    (folder / "data").mkdir(parents=True)
    for part in range(parts):
        table = pyarrow.Table.from_pylist(rows[part * len(rows) // parts : (part + 1) * len(rows) // parts])
        parquet.write_table(table, folder / "data" / f"test-{part:05d}-of-{parts:05d}.parquet")
    return folder


def test_rows_are_pairs_in_their_order(rows, tmp_path):
    clips = read_clips(write(tmp_path / "set", rows), unpack=tmp_path / "out")  # seen from what is there
    assert (clips.name, clips.expected, [clip.id for clip in clips.clips]) == (
        "vggsound-av",
        6,
        [f"{n:05d}" for n in range(6)],
    )
    assert "6 rows, where the protocol has 696" in clips.notes[0] and clips.settings["frames"] == "middle"
    for clip, row in zip(clips.clips, rows, strict=True):
        assert clip.problem is None and clip.audio.read() == row["audio"]["bytes"]
        assert clip.image.path.parent == tmp_path / "out" / "frames"
        assert (tmp_path / "out" / "media" / f"{clip.id}.mp4").read_bytes() == row["video"]["bytes"]
    assert not list(tmp_path.glob("*.mp4"))  # a path in a table leads nowhere


def test_a_row_that_lacks_something_is_counted(rows, tmp_path):
    broken = [dict(row) for row in rows]
    broken[1]["audio"] = {"bytes": None, "path": "x.wav"}
    broken[2]["video"] = {"bytes": b"no video", "path": "x.mp4"}
    clips = read_clips(write(tmp_path / "set", broken), "vggsound-av", unpack=tmp_path / "out")
    bad = {clip.id: clip.problem for clip in clips.clips if clip.problem}
    assert set(bad) == {"00001", "00002"} and bad["00001"] == "no audio in its row"


def test_the_evaluation_takes_the_layout(rows, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "set", rows)
    from test_sentence_transformers import tiny_space

    tiny_space("tiny-clip", "tiny-clap").save("space")
    assert main(["eval", "retrieval", "space", "--data", "set", "--layout", "vggsound-av", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["settings"]["layout"] == "vggsound-av" and "6 rows, where the protocol has 696" in json.dumps(found)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (
            lambda folder: (folder / "data" / "test-00000-of-00002.parquet").write_bytes(b"PAR1x"),
            {},
            "cannot be read as parquet",
        ),
        (lambda folder: [path.unlink() for path in folder.rglob("*.parquet")], {}, "no test-*.parquet in it"),
        (lambda folder: None, {"split": "val"}, "one list: test"),
        (lambda folder: None, {"frames": "event"}, "needs AVE's annotations"),
    ],
)
def test_what_cannot_be_is_refused(rows, tmp_path, change, options, message):
    folder = write(tmp_path / "set", rows)
    change(folder)
    with pytest.raises(InputError, match=r".*") as error:
        read_clips(folder, "vggsound-av", unpack=tmp_path / "out", **options)
    assert message in str(error.value)


def test_a_table_of_other_columns_is_refused(tmp_path):
    write(tmp_path / "set", [{"image": 1}], parts=1)
    with pytest.raises(InputError, match="no column 'video'; expected video and audio"):
        read_clips(tmp_path / "set", unpack=tmp_path / "out")
