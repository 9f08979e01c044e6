"""Views: what a memory stores of them, what becomes of a run that dies, and what other commands see."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cmcr.cli import main
from cmcr.embed import Part, embed
from cmcr.embed.run import views_for
from cmcr.embed.views import prepared_views
from cmcr.errors import ArtifactError, InputError
from cmcr.items import Item, read_items
from cmcr.memory import (
    EncoderInfo,
    Memory,
    MemoryWriter,
    Row,
    ViewSpec,
    pack,
    read_views,
    view_count,
    views_fingerprint,
)
from cmcr.modality import Modality
from cmcr.tiny.world import train_scenes, write_clouds, write_images, write_sounds

THREE = ViewSpec(3)


class Raw:
    """Stands for an encoder: what it prepares is the content, which the tests look at."""

    up = "z"

    def prepare(self, item, data):
        assert item.suffix or item.modality is Modality.TEXT
        return item.suffix, data


@pytest.fixture
def photos(tmp_path, write_files):
    return write_files("photos", "image", 7)


def made(encoder, photos, memory, **options):
    return embed(encoder, read_items(str(photos), None, encoder.modalities), memory, **options)


def test_a_row_has_its_own_vector_as_before_and_views_beside_it(tmp_path, fake_encoder, photos, folder_bytes):
    encoder = fake_encoder()
    report = made(encoder, photos, tmp_path / "with", shard_size=3, views=THREE)
    made(encoder, photos, tmp_path / "without", shard_size=3)
    assert report.views == 3 and report.to_json()["views"] == 3
    seen, plain = Memory.open(tmp_path / "with"), Memory.open(tmp_path / "without")
    assert np.array_equal(seen.vectors(Modality.IMAGE), plain.vectors(Modality.IMAGE))
    assert seen.fingerprint(Modality.IMAGE) == plain.fingerprint(Modality.IMAGE)  # so indexes and runs stay good
    views = read_views(seen, Modality.IMAGE)
    assert views.shape == (7, 3, encoder.dim) and np.allclose(np.linalg.norm(views, axis=2), 1, atol=1e-3)
    assert np.array_equal(read_views(seen, Modality.IMAGE, np.array([6, 0])), views[[6, 0]])
    assert view_count(plain, Modality.IMAGE) == 0 and views_fingerprint(plain, Modality.IMAGE) == ""
    assert "views" not in json.loads((tmp_path / "without/manifest.json").read_text())
    assert seen.verify() == []
    with pytest.raises(ArtifactError, match="holds no views of image; make some with cmcr embed --views K"):
        read_views(plain, Modality.IMAGE)
    made(encoder, photos, tmp_path / "again", shard_size=3, views=THREE)
    assert folder_bytes(tmp_path / "again") == folder_bytes(tmp_path / "with")
    made(encoder, photos, tmp_path / "seeded", shard_size=3, views=ViewSpec(3, seed=1))
    other = Memory.open(tmp_path / "seeded")
    assert not np.array_equal(read_views(other, Modality.IMAGE), views)
    assert views_fingerprint(other, Modality.IMAGE) != views_fingerprint(seen, Modality.IMAGE)


def test_a_memory_goes_on_as_it_is_and_parts_make_the_same_bytes(
    tmp_path, fake_encoder, photos, write_files, folder_bytes
):
    encoder = fake_encoder()
    made(encoder, photos, tmp_path / "alone", shard_size=3, views=THREE)
    for rank in (1, 0):
        made(encoder, photos, tmp_path / "parts", shard_size=3, views=THREE, part=Part(rank, 2))
    assert folder_bytes(tmp_path / "parts") == folder_bytes(tmp_path / "alone")
    write_files("photos", "image", 2, start=7)
    assert made(encoder, photos, tmp_path / "alone").views == 3
    assert len(read_views(Memory.open(tmp_path / "alone"), Modality.IMAGE)) == 9


def test_a_run_that_dies_leaves_rows_and_views_alike(tmp_path, fake_encoder, photos, folder_bytes, monkeypatch):
    encoder = fake_encoder()
    made(encoder, photos, tmp_path / "whole", shard_size=3, views=THREE)
    import cmcr.memory.writer as writer

    write, calls = writer.write_atomic, []

    def dying(path, data):
        write(path, data)
        calls.append(path)
        if path.name == "img_views_0001.npy":
            raise KeyboardInterrupt

    monkeypatch.setattr(writer, "write_atomic", dying)
    with pytest.raises(KeyboardInterrupt):
        made(encoder, photos, tmp_path / "died", shard_size=3, views=THREE)
    monkeypatch.undo()
    died = Memory.open(tmp_path / "died")
    assert len(read_views(died, Modality.IMAGE)) == died.rows(Modality.IMAGE) == 3
    assert "img_views/img_views_0001.npy" in died.leftovers()
    made(encoder, photos, tmp_path / "died", shard_size=3, views=THREE)
    assert folder_bytes(tmp_path / "died") == folder_bytes(tmp_path / "whole")


def test_every_row_has_as_many(tmp_path, fake_encoder, photos, capsys):
    encoder = fake_encoder()
    made(encoder, photos, tmp_path / "mem", shard_size=4, views=THREE)
    for spec, said in ((ViewSpec(2), "3 (seed 0) in this memory, 2 (seed 0)"), (ViewSpec(3, 1), "3 (seed 1) asked")):
        with pytest.raises(ArtifactError, match="every row has as many") as caught:
            made(encoder, photos, tmp_path / "mem", views=spec)
        assert said in str(caught.value)
    made(encoder, photos, tmp_path / "plain")
    with pytest.raises(ArtifactError, match="none in this memory, 3"):
        made(encoder, photos, tmp_path / "plain", views=THREE)
    with pytest.raises(InputError, match="no views are made of eeg"):
        views_for(tmp_path / "new", Modality("eeg"), THREE)
    path = tmp_path / "mem/img_views/img_views_0000.npy"
    np.save(path, np.load(path)[:, :2])
    assert main(["info", str(tmp_path / "mem"), "--verify"]) == 1
    told = "".join(capsys.readouterr())
    assert "img_views_0000.npy: views are float16 of shape (4, 2," in told and "every row has as many" in told
    with pytest.raises(ArtifactError, match="every row has as many"):
        read_views(Memory.open(tmp_path / "mem"), Modality.IMAGE)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda v: v["image"].update(sha256=[]), "views of 0 of 1 shards of image; every row has as many"),
        (lambda v: v["image"].update(count=0), "0 views of image"),
        (lambda v: v.update(audio=v.pop("image")), "views of 1 of 0 shards of audio"),
    ],
)
def test_a_manifest_is_believed_only_where_it_fits(tmp_path, fake_encoder, photos, change, said):
    made(fake_encoder(), photos, tmp_path / "mem", views=THREE)
    path = tmp_path / "mem/manifest.json"
    value = json.loads(path.read_text())
    change(value["views"])
    path.write_text(json.dumps(value))
    with pytest.raises(ArtifactError, match=said):
        Memory.open(tmp_path / "mem")


def test_damage_is_found(tmp_path, fake_encoder, photos):
    made(fake_encoder(), photos, tmp_path / "mem", views=THREE)
    path = tmp_path / "mem/img_views/img_views_0000.npy"
    stored = np.load(path)
    stored[0, 0] = stored[0, 1]
    np.save(path, stored)
    memory = Memory.open(tmp_path / "mem")
    assert memory.verify() == ["img_views/img_views_0000.npy: its sha256 is not the manifest's"]
    stored[0, 0] = np.nan
    np.save(path, stored)
    assert "views that are not finite or zero" in memory.verify()[0]
    path.unlink()
    assert "No such file" in memory.verify()[0]


def views_of(folder, modality, suffix, spec=THREE, up=None):
    path = next(Path(folder).glob(f"*{suffix}"))
    item = Item("x", modality, str(path), path=path, up=up)
    return [data for _, data in prepared_views(Raw(), item, path.read_bytes(), "ab" * 32, spec, ("", b"whole"))]


def test_views_are_the_thing_changed_a_little(tmp_path):
    scene = train_scenes(1, 0)
    write_images(tmp_path / "i", scene, 0)
    write_sounds(tmp_path / "s", scene, 0)
    write_clouds(tmp_path / "c", scene, 0)
    pictures = views_of(tmp_path / "i", Modality.IMAGE, ".png")
    assert len(set(pictures)) == 3 and pictures == views_of(tmp_path / "i", Modality.IMAGE, ".png")
    before = np.asarray(Image.open(next((tmp_path / "i").glob("*"))), float)
    for each in pictures:
        after = np.asarray(Image.open(io.BytesIO(each)), float)
        assert after.shape == before.shape and 0 < abs(after.mean() - before.mean()) < 50
    import soundfile

    for each in views_of(tmp_path / "s", Modality.AUDIO, ".wav"):
        samples, rate = soundfile.read(io.BytesIO(each))
        assert rate == 48_000 and len(samples) == 96_000 and 0.005 < np.abs(samples).max() <= 1
    cloud = np.load(next((tmp_path / "c").glob("*")))
    for each in views_of(tmp_path / "c", Modality.POINT_CLOUD, ".npy"):
        points = np.load(io.BytesIO(each))
        assert 0.65 * len(cloud) < len(points) < len(cloud)
        height, spread = np.ptp(cloud[:, 2]), np.ptp(points[:, 2])
        assert abs(spread - height) < 0.25 * height  # turned about z: what is up stays up
    turned = [np.load(io.BytesIO(v)) for v in views_of(tmp_path / "c", Modality.POINT_CLOUD, ".npy", up="y")]
    assert all(abs(np.ptp(p[:, 1]) - np.ptp(cloud[:, 1])) < 0.25 * np.ptp(cloud[:, 1]) for p in turned)


def test_a_text_loses_words_and_never_all():
    text = "two small red bells ring steadily in the far garden"
    item = Item("x", Modality.TEXT, "t.txt:1", text=text)
    views = [v.decode() for _, v in prepared_views(Raw(), item, text.encode(), "0" * 64, ViewSpec(20), None)]
    assert len(set(views)) > 5
    for view in views:
        words = iter(text.split())
        assert view and all(word in words for word in view.split())  # in their order
    one = prepared_views(Raw(), Item("y", Modality.TEXT, "t", text="bell"), b"bell", "0" * 64, ViewSpec(9), None)
    assert {v for _, v in one} == {b"bell"}


def test_a_view_that_the_encoder_refuses_is_the_item_as_it_is(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("texts.txt").write_text("zzz bell\n\nqqq\n")
    assert main(["embed", "texts.txt", "-e", "tiny-clip", "-o", "mem", "--views", "30"]) == 0
    assert "1 text embedded, 1 skipped; it holds 1, 30 views each" in capsys.readouterr().err
    memory = Memory.open("mem")
    views = read_views(memory, Modality.TEXT)[0]
    assert np.allclose(views, memory.vectors(Modality.TEXT), atol=1e-2)  # "zzz" alone is no word it knows
    assert main(["info", "mem"]) == 0
    assert "views\ttext: 30" in capsys.readouterr().out
    assert main(["embed", "texts.txt", "-e", "tiny-clip", "-o", "mem", "--views", "2"]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    np.save("v.npy", np.eye(2, dtype=np.float32))
    assert main(["embed", "--from-vectors", "v.npy", "--encoder-name", "x", "-o", "m2", "--views", "2"]) == 2


def test_what_is_written_as_vectors_has_no_views(tmp_path):
    with MemoryWriter(tmp_path / "m", EncoderInfo("toy", "fp", 2)) as writer:
        writer.append(Modality.TEXT, np.eye(2), [Row("a", "", None, "a"), Row("b", "", None, "b")])
        assert writer.memory.manifest.views == {}
        writer.memory.manifest.to_json()


def test_views_follow_removed_rows_and_a_memory_that_holds_them_is_not_compacted(tmp_path, capsys):
    rows = [Row(str(number), f"{number}.png", None, None) for number in range(6)]
    rng = np.random.default_rng(0)
    vectors, views = rng.normal(size=(6, 8)), rng.normal(size=(6, 2, 8))
    with MemoryWriter(tmp_path / "m", EncoderInfo("made", "", 8), dtype="int8") as writer:
        writer.append_packed(Modality.IMAGE, pack(vectors, "int8", rows, views=views), views=ViewSpec(2))
    before = read_views(Memory.open(tmp_path / "m"), Modality.IMAGE)
    assert main(["remove", str(tmp_path / "m"), "--ids", "1,4"]) == 0
    held = Memory.open(tmp_path / "m")
    np.testing.assert_array_equal(read_views(held, Modality.IMAGE), before[[0, 2, 3, 5]])
    np.testing.assert_array_equal(read_views(held, Modality.IMAGE, np.array([3, 1])), before[[5, 2]])
    np.testing.assert_allclose(before, views / np.linalg.norm(views, axis=2, keepdims=True), atol=0.02)
    assert held.verify() == []
    assert main(["compact", str(tmp_path / "m")]) == 1
    assert "hold views, which are not rewritten" in capsys.readouterr().err


def test_a_release_that_knows_no_views_does_not_add_rows_without_them(tmp_path):
    for name, spec, version in (("with", ViewSpec(2), 2), ("without", None, 1)):
        views = None if spec is None else np.ones((1, 2, 8))
        with MemoryWriter(tmp_path / name, EncoderInfo("made", "", 8)) as writer:
            packed = pack(np.ones((1, 8)), "float16", [Row("a", "a.png", None, None)], views=views)
            writer.append_packed(Modality.IMAGE, packed, views=spec)
        assert json.loads((tmp_path / name / "manifest.json").read_text())["version"] == version
