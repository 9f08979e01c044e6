"""Embedding: resume, skips, order, and the promise that a killed run ends with the bytes of an undisturbed one."""

import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cmcr.embed import embed
from cmcr.encoders.base import Encoder
from cmcr.errors import ArtifactError, CmcrError, InputError, ItemError, MissingExtraError
from cmcr.items import Inputs, Item, read_items, unique_items
from cmcr.memory import CHANGED, MediaRoots, Memory, MemoryWriter
from cmcr.modality import Modality

TEXT, IMAGE, AUDIO, CLOUD = Modality.TEXT, Modality.IMAGE, Modality.AUDIO, Modality.POINT_CLOUD


def run(encoder, source, memory, modality=None, **options):
    return embed(encoder, read_items(str(source), modality, encoder.modalities), memory, **options)


def texts(*lines):
    items = [Item(f"t{line}", TEXT, f"texts.txt:{line}", text=f"text {line}") for line in lines]
    return unique_items(TEXT, items)


@pytest.mark.parametrize(("name", "modality"), [("fake-clip", IMAGE), ("fake-clap", AUDIO), ("fake-ulip", CLOUD)])
def test_files_of_each_modality_become_rows(tmp_path, fake_encoder, write_files, name, modality):
    encoder: Encoder = fake_encoder(name)
    folder = write_files("files", modality, 5)
    report = run(encoder, folder, tmp_path / "mem", batch_size=2, shard_size=3)
    memory = Memory.open(tmp_path / "mem")
    assert (report.embedded, report.rows, report.skipped) == (5, 5, [])
    assert memory.ids(modality) == [f"{n:03d}" for n in range(5)] and memory.verify() == []
    row = next(memory.metadata(modality))
    assert row.source.startswith("../files/000.") and row.text is None
    assert memory.source_bytes(row, MediaRoots([tmp_path])) == memory.source_path(row).read_bytes()
    item = read_items(str(folder), None, encoder.modalities).items[0]
    expected = encoder.encode(modality, [encoder.prepare(item, item.read())])
    np.testing.assert_allclose(memory.vectors(modality, [0]), expected, atol=1e-3)


def test_texts_and_images_lie_beside_each_other(tmp_path, fake_encoder, write_files):
    encoder = fake_encoder()
    run(encoder, write_files("photos", "image", 2), tmp_path / "mem")
    (tmp_path / "texts.txt").write_text("a dog\na cat\na dog\n")
    report = run(encoder, tmp_path / "texts.txt", tmp_path / "mem")
    memory = Memory.open(tmp_path / "mem")
    assert memory.modalities == (IMAGE, TEXT) and report.duplicates == 1
    assert [(row.text, row.source) for row in memory.metadata(TEXT)] == [
        ("a dog", "texts.txt:1"),
        ("a cat", "texts.txt:2"),
    ]


def test_only_what_is_new_is_embedded(tmp_path, fake_encoder, write_files, folder_bytes):
    class Counting(fake_encoder):
        seen = 0

        def prepare(self, item, data):
            Counting.seen += 1
            return super().prepare(item, data)

    photos = write_files("photos", "image", 3)
    run(Counting(), photos, tmp_path / "mem")
    before = folder_bytes(tmp_path / "mem")
    report = run(Counting(), photos, tmp_path / "mem")
    assert (Counting.seen, report.embedded, report.already) == (3, 0, 3)
    assert folder_bytes(tmp_path / "mem") == before
    write_files("photos", "image", 1, start=7)
    report = run(Counting(), photos, tmp_path / "mem")
    assert (Counting.seen, report.embedded, report.already, report.rows) == (4, 1, 3, 4)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=4), st.integers(1, 5), st.integers(1, 5), st.integers(1, 3))
def test_any_split_into_runs_gives_the_same_rows(tmp_path_factory, fake_encoder, cuts, shard_size, batch_size, workers):
    folder = tmp_path_factory.mktemp("m")
    for cut in (*cuts, 12):
        options = {"shard_size": shard_size, "batch_size": batch_size, "workers": workers, "dtype": "float32"}
        embed(fake_encoder(), texts(*range(cut)), folder / "parts", **options)
    embed(fake_encoder(), texts(*range(12)), folder / "whole", dtype="float32")
    parts, whole = Memory.open(folder / "parts"), Memory.open(folder / "whole")
    assert list(parts.metadata(TEXT)) == list(whole.metadata(TEXT))
    np.testing.assert_array_equal(parts.vectors(TEXT), whole.vectors(TEXT))


def test_bad_items_are_skipped_with_a_reason_and_not_tried_again(tmp_path, fake_encoder, write_files, folder_bytes):
    photos = write_files("photos", "image", 3)
    (photos / "001.png").write_bytes(b"no picture")
    (photos / "empty.png").write_bytes(b"")
    (photos / "000.jpg").write_bytes((photos / "002.png").read_bytes())
    (photos / "late.png").symlink_to(tmp_path / "late.png")
    report = run(fake_encoder(), photos, tmp_path / "mem", shard_size=2)
    reasons = {Path(skip.source).name: skip.reason for skip in report.skipped}
    assert reasons.keys() == {"001.png", "empty.png", "000.png"} and "same id" in reasons["000.png"]
    assert (report.embedded, report.rows) == (2, 2)
    before = folder_bytes(tmp_path / "mem")
    assert before["skipped.jsonl"].count(b"\n") == 3
    again = run(fake_encoder(), photos, tmp_path / "mem", shard_size=2)
    assert (again.embedded, again.already, len(again.skipped)) == (0, 2, 3)
    assert folder_bytes(tmp_path / "mem") == before


def test_a_mended_file_is_embedded_and_no_longer_listed(tmp_path, fake_encoder, write_files):
    photos = write_files("photos", "image", 2)
    good = (photos / "001.png").read_bytes()
    (photos / "001.png").write_bytes(good[:60])
    assert len(run(fake_encoder(), photos, tmp_path / "mem").skipped) == 1
    (photos / "001.png").write_bytes(good)
    report = run(fake_encoder(), photos, tmp_path / "mem")
    assert (report.embedded, report.skipped, Memory.open(tmp_path / "mem").skipped()) == (1, [], [])


def test_a_missing_file_of_a_manifest_is_tried_again_once_it_is_there(tmp_path, fake_encoder, write_files):
    photos = write_files("photos", "image", 2)
    (tmp_path / "list.csv").write_text("image\nphotos/000.png\nphotos/late.png\n")
    report = run(fake_encoder(), tmp_path / "list.csv", tmp_path / "mem")
    assert [skip.reason for skip in report.skipped] == ["cannot be read: No such file or directory"]
    assert len(run(fake_encoder(), tmp_path / "list.csv", tmp_path / "mem").skipped) == 1
    (photos / "001.png").rename(photos / "late.png")
    assert run(fake_encoder(), tmp_path / "list.csv", tmp_path / "mem").embedded == 1


def test_a_changed_file_keeps_its_old_row_and_is_counted(tmp_path, fake_encoder, write_files, folder_bytes):
    photos = write_files("photos", "image", 2)
    run(fake_encoder(), photos, tmp_path / "mem")
    old = Memory.open(tmp_path / "mem").vectors(IMAGE)
    (photos / "000.png").write_bytes((photos / "001.png").read_bytes())
    for _ in range(2):
        report = run(fake_encoder(), photos, tmp_path / "mem")
        assert [skip.reason for skip in report.skipped] == [CHANGED] and report.already == 1
        memory = Memory.open(tmp_path / "mem")
        np.testing.assert_array_equal(memory.vectors(IMAGE), old)
        assert [skip.reason for skip in memory.skipped()] == [CHANGED]


def test_retry_skipped_tries_again(tmp_path, fake_encoder):
    class Mended(fake_encoder):
        def prepare(self, item, data):
            return super().prepare(item, data.replace(b"unspeakable", b"plain"))

    items = Inputs(TEXT, [Item("a", TEXT, "t:1", text="unspeakable"), Item("b", TEXT, "t:2", text="fine")])
    assert embed(fake_encoder(), items, tmp_path / "mem").embedded == 1
    assert embed(Mended(), items, tmp_path / "mem").embedded == 0
    assert embed(Mended(), items, tmp_path / "mem", retry_skipped=True).embedded == 1
    assert not (tmp_path / "mem/skipped.jsonl").exists() and Memory.open(tmp_path / "mem").verify() == []


class Moody:
    """Mixed into the fake: some items spoil whole batches, others come out unusable."""

    batches: tuple[int, ...] = ()

    def encode(self, modality, prepared):
        Moody.batches += (len(prepared),)
        if self.bad in prepared:
            raise RuntimeError("the model\nfell over")
        vectors = super().encode(modality, prepared)
        vectors[[seed == self.zero for seed in prepared]] = 0
        vectors[[seed == self.infinite for seed in prepared]] = np.inf
        return vectors


def test_one_item_that_the_model_cannot_take_does_not_take_its_batch_along(tmp_path, fake_encoder):
    class Encoder(Moody, fake_encoder):
        pass

    encoder, items = Encoder(), texts(*range(6))
    seeds = [encoder.prepare(item, item.read()) for item in items.items]
    encoder.bad, encoder.zero, encoder.infinite = seeds[1], seeds[2], seeds[4]
    report = embed(encoder, items, tmp_path / "mem", batch_size=3)
    assert {skip.id: skip.reason for skip in report.skipped} == {
        "t1": "RuntimeError: the model fell over",
        "t2": "its vector is zero",
        "t4": "its vector is not finite",
    }
    memory = Memory.open(tmp_path / "mem")
    assert memory.ids(TEXT) == ["t0", "t3", "t5"] and Moody.batches == (3, 1, 1, 1, 3)
    np.testing.assert_allclose(
        memory.vectors(TEXT), fake_encoder().encode(TEXT, [seeds[0], seeds[3], seeds[5]]), atol=1e-3
    )


@pytest.mark.parametrize("error", [MissingExtraError("open_clip", "clip", "this encoder"), KeyboardInterrupt()])
def test_what_is_no_items_fault_stops_the_run(tmp_path, fake_encoder, error):
    class Broken(fake_encoder):
        def prepare(self, item, data):
            raise error

    with pytest.raises(type(error)):
        embed(Broken(), texts(1, 2), tmp_path / "mem")
    assert Memory.open(tmp_path / "mem").skipped() == []


def test_an_encoder_of_wrong_shape_is_an_error(tmp_path, fake_encoder):
    class Wrong(fake_encoder):
        def encode(self, modality, prepared):
            return super().encode(modality, prepared)[:, :3]

    with pytest.raises(CmcrError, match=r"fake-clip: gave \(1, 3\) for 1 items of 16"):
        embed(Wrong(), texts(1, 2), tmp_path / "mem")


@pytest.mark.parametrize("name", ["batch_size", "shard_size", "workers"])
def test_sizes_are_positive(tmp_path, fake_encoder, name):
    with pytest.raises(InputError, match=f"{name} -1; expected 1 or more"):
        embed(fake_encoder(), texts(1), tmp_path / "mem", **{name: -1})


def test_decoding_runs_ahead_but_is_bounded(tmp_path, fake_encoder):
    class Slow(fake_encoder):
        lock, waiting, most = threading.Condition(), 0, 0

        def prepare(self, item, data):
            with self.lock:
                Slow.waiting += 1
                Slow.most = max(Slow.most, Slow.waiting)
                self.lock.notify_all()
            return super().prepare(item, data)

        def encode(self, modality, prepared):
            with self.lock:
                self.lock.wait_for(lambda: Slow.most > 5, timeout=60)
                Slow.waiting -= len(prepared)
            return super().encode(modality, prepared)

    embed(Slow(), texts(*range(100)), tmp_path / "mem", batch_size=5, workers=4)
    assert 5 < Slow.most <= 11  # a batch in the encoder and one ahead


def test_progress_counts_to_the_end(tmp_path, fake_encoder):
    calls = []
    embed(
        fake_encoder(),
        texts(*range(7)),
        tmp_path / "mem",
        batch_size=2,
        shard_size=4,
        progress=lambda *call: calls.append(call),
    )
    assert [call[0] for call in calls] == [2, 4, 6, 7] and {call[1] for call in calls} == {7}


def test_project_folder_can_be_moved(tmp_path, fake_encoder, write_files):
    run(fake_encoder(), write_files("project/photos", "image", 2), tmp_path / "project/mem/clip")
    (tmp_path / "project").rename(tmp_path / "elsewhere")
    memory = Memory.open(tmp_path / "elsewhere/mem/clip")
    rows = list(memory.metadata(IMAGE))
    assert rows[0].source == "../../photos/000.png" and memory.source_path(rows[0]).is_file()
    photos = tmp_path / "elsewhere/photos"
    assert run(fake_encoder(), photos, tmp_path / "elsewhere/mem/clip").already == 2


def test_interrupted_writer_leaves_whole_shards(tmp_path, fake_encoder):
    class Dying(fake_encoder):
        def prepare(self, item, data):
            if item.id == "t5":
                raise KeyboardInterrupt
            return super().prepare(item, data)

    with pytest.raises(KeyboardInterrupt):
        embed(Dying(), texts(*range(8)), tmp_path / "mem", shard_size=2, batch_size=1)
    assert Memory.open(tmp_path / "mem").ids(TEXT) == ["t0", "t1", "t2", "t3"]


def child(*arguments):
    paths = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parent.parent)])
    environment = os.environ | {"PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    return [sys.executable, *map(str, arguments)], environment


def test_killed_at_any_step_of_writing_it_ends_with_the_same_bytes(tmp_path, fake_encoder, write_files, folder_bytes):
    photos = write_files("photos", "image", 6)
    for name in ("001.png", "004.png"):
        (photos / name).write_bytes(b"no picture")
    (tmp_path / "killed").mkdir()
    command, environment = child(Path(__file__).parent / "killed_embed.py", photos, tmp_path / "killed")
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    run(fake_encoder(), photos, tmp_path / "killed/undisturbed", batch_size=2, shard_size=3, workers=2)
    expected = folder_bytes(tmp_path / "killed/undisturbed")
    ended = {path.name: folder_bytes(path) == expected for path in (tmp_path / "killed").iterdir()}
    assert all(ended.values()), ended
    assert int(done.stdout) > 20 and len(expected) == 6  # two shards, their metadata, the manifest and the skips


LOOP = """
import signal, sys
from conftest import FakeEncoder
from cmcr.embed import embed
from cmcr.inputs import read_items

class Held(FakeEncoder):
    calls = 0

    def encode(self, modality, prepared):
        Held.calls += 1
        if Held.calls == int(sys.argv[3]):
            print("held", flush=True)
            signal.pause()
        return super().encode(modality, prepared)

embed(Held(), read_items(sys.argv[1], None, Held().modalities), sys.argv[2], batch_size=8, shard_size=20)
"""


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_sigkill_at_random_batches(tmp_path, write_files, fake_encoder, folder_bytes, seed):
    photos = write_files("photos", "image", 1500)
    rng, kills, held = random.Random(seed), 0, True
    while held:
        command, environment = child("-c", LOOP, photos, tmp_path / "killed", rng.randint(1, 60))
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
            held = process.stdout.readline() == "held\n"
            if held:
                assert process.poll() is None
                process.kill()
            assert process.wait() == (-signal.SIGKILL if held else 0)
        kills += held
    assert kills
    run(fake_encoder(), photos, tmp_path / "whole", batch_size=8, shard_size=20)
    assert folder_bytes(tmp_path / "killed") == folder_bytes(tmp_path / "whole")


def test_fake_encoder_refuses_what_it_cannot_read(fake_encoder):
    with pytest.raises(ItemError):
        fake_encoder().prepare(Item("a", IMAGE, "a.png"), b"no picture")


def test_another_run_on_the_memory_is_refused(tmp_path, fake_encoder):
    embed(fake_encoder(), texts(1), tmp_path / "mem")
    info = Memory.open(tmp_path / "mem").encoder
    with MemoryWriter(tmp_path / "mem", info), pytest.raises(ArtifactError, match="another run is writing"):
        embed(fake_encoder(), texts(2), tmp_path / "mem")


class Cramped:
    """An encoder on a device that has the memory for a few items at once."""

    def __init__(self, encoder, room, error):
        self.encoder, self.room, self.error, self.sizes = encoder, room, error, []

    def __getattr__(self, name):
        return getattr(self.encoder, name)

    def encode(self, modality, prepared):
        if len(prepared) > self.room:
            raise self.error
        self.sizes.append(len(prepared))
        return self.encoder.encode(modality, prepared)


OUT_OF_MEMORY = [
    RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    MemoryError(),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=["cuda", "cpu", "python"])
def test_a_batch_too_large_for_the_device_is_halved_and_nothing_is_skipped(tmp_path, fake_encoder, error):
    encoder = Cramped(fake_encoder(), 3, error)
    (tmp_path / "t.txt").write_text("".join(f"text {number}\n" for number in range(30)))
    report = run(encoder, tmp_path / "t.txt", tmp_path / "mem", batch_size=8)
    assert (report.embedded, report.skipped, report.batch_size) == (30, [], 2)
    assert encoder.sizes == [2] * 15  # not tried too large again
    run(fake_encoder(), tmp_path / "t.txt", tmp_path / "plain", batch_size=8)
    kept, plain = (Memory.open(tmp_path / name).vectors("text") for name in ("mem", "plain"))
    assert np.array_equal(kept, plain)


def test_no_memory_for_a_single_item_stops_the_run(tmp_path, fake_encoder):
    (tmp_path / "t.txt").write_text("a\nb\nc\n")
    with pytest.raises(CmcrError, match="out of memory with a batch of one; use --device cpu"):
        run(Cramped(fake_encoder(), 0, MemoryError()), tmp_path / "t.txt", tmp_path / "mem")


def test_clouds_with_another_axis_up_get_the_same_vector_once_it_is_said(tmp_path):
    from cmcr.encoders import load_encoder

    points = np.random.default_rng(0).normal(size=(500, 3)).astype(np.float32)
    for name, turned in (("z", points), ("y", points[:, [0, 2, 1]] * [1, 1, -1])):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "cloud.npy", turned.astype(np.float32))
    encoder, vectors = load_encoder("tiny-ulip"), {}
    for name, up in (("z", None), ("z", "z"), ("y", "y"), ("y", None)):
        inputs = read_items(str(tmp_path / name), None, encoder.modalities, up=up)
        embed(encoder, inputs, tmp_path / f"{name} {up}", dtype="float32")
        vectors[name, up] = Memory.open(tmp_path / f"{name} {up}").vectors("point_cloud")
    np.testing.assert_array_equal(vectors["z", None], vectors["z", "z"])
    np.testing.assert_allclose(vectors["y", "y"], vectors["z", "z"], atol=1e-6)
    assert np.abs(vectors["y", None] - vectors["z", "z"]).max() > 0.01
    again = embed(encoder, read_items(str(tmp_path / "y"), None, encoder.modalities, up="z"), tmp_path / "y y")
    assert [skip.reason for skip in again.skipped] == [CHANGED]  # another turn is another content


def test_up_is_for_point_clouds(tmp_path, fake_encoder, write_files):
    with pytest.raises(InputError, match="--up z is for point clouds; these items are image"):
        read_items(str(write_files("photos", "image", 1)), None, fake_encoder().modalities, up="z")


def test_threads_change_places_quickly_while_it_runs_and_as_before_afterwards(tmp_path, fake_encoder):
    encoder, before, seen = fake_encoder(), sys.getswitchinterval(), []
    encode = encoder.encode
    encoder.encode = lambda *given: seen.append(sys.getswitchinterval()) or encode(*given)
    (tmp_path / "t.txt").write_text("a\nb\n")
    run(encoder, tmp_path / "t.txt", tmp_path / "mem")
    assert seen[0] < 0.001 < before == sys.getswitchinterval()
