"""Embedding shared by several processes: at once, one after another, killed; the bytes are those of a run alone."""

import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cmcr.cli import main
from cmcr.embed import Part, embed, staging
from cmcr.embed.shard import Embedder
from cmcr.embed.staging import STAGED, Plan, Stage
from cmcr.errors import ArtifactError, InputError
from cmcr.items import Inputs, Item, read_items
from cmcr.memory import CHANGED, EncoderInfo, Memory, MemoryWriter
from cmcr.modality import Modality

TEXT, IMAGE = Modality.TEXT, Modality.IMAGE
RANKS = ("RANK", "WORLD_SIZE", "SLURM_PROCID", "SLURM_NTASKS")
ARRAY = [f"SLURM_ARRAY_TASK_{name}" for name in ("ID", "COUNT", "MIN", "STEP")]


def texts(count, bad=()):
    return Inputs(
        TEXT, [Item(f"t{n}", TEXT, f"t:{n}", text="unspeakable" if n in bad else f"a {n}") for n in range(count)]
    )


def as_part(encoder, inputs, memory, rank, size, **options):
    return embed(encoder, inputs, memory, part=Part(rank, size), **{"shard_size": 3, "batch_size": 2} | options)


@pytest.fixture
def alone(tmp_path, fake_encoder, folder_bytes):
    """``alone(inputs)``: the bytes of a memory that one run made."""

    def make(inputs, **options):
        embed(fake_encoder(), inputs, tmp_path / "alone", **{"shard_size": 3, "batch_size": 2} | options)
        return folder_bytes(tmp_path / "alone")

    return make


BAD = {1, 6, 7, 8, 13}  # the third shard of three holds nothing else


@pytest.mark.parametrize("order", list(itertools.permutations(range(3)))[::2])
@pytest.mark.parametrize(("count", "shard_size"), [(1, 1), (2, 5), (9, 3), (20, 3), (20, 4), (15, 5)])
def test_parts_in_any_order_make_the_bytes_of_a_run_alone(
    tmp_path, fake_encoder, folder_bytes, alone, order, count, shard_size
):
    inputs, memory = texts(count, BAD), tmp_path / "parts"
    reports = [as_part(fake_encoder(), inputs, memory, rank, 3, shard_size=shard_size) for rank in order]
    assert folder_bytes(memory) == alone(inputs, shard_size=shard_size)
    bad = len([n for n in BAD if n < count])
    assert sum(report.embedded for report in reports) == count - bad
    assert reports[-1].missing == 0 and len({skip.id for report in reports for skip in report.skipped}) == bad


def test_a_part_says_what_is_still_to_come_and_a_run_alone_makes_it(tmp_path, fake_encoder, folder_bytes, alone):
    inputs, memory = texts(20, BAD), tmp_path / "mem"
    first = as_part(fake_encoder(), inputs, memory, 1, 3)
    assert (first.shards, first.missing, first.rows, first.embedded) == (7, 7, 0, 5)
    again = as_part(fake_encoder(), inputs, memory, 1, 3)
    assert (again.embedded, again.already, len(again.skipped), again.missing) == (0, 5, 1, 7)
    rest = embed(fake_encoder(), inputs, memory, shard_size=3, batch_size=2)
    assert (rest.embedded, rest.already, len(rest.skipped), rest.missing) == (10, 5, 5, 0)
    assert folder_bytes(memory) == alone(inputs)
    late = as_part(fake_encoder(), inputs, memory, 2, 3)
    assert (late.embedded, late.already, len(late.skipped), late.shards) == (0, 15, 5, 0)
    assert folder_bytes(memory) == alone(inputs)


def test_finished_shards_are_not_made_again_and_damaged_ones_are(tmp_path, fake_encoder, folder_bytes, alone):
    class Counting(fake_encoder):
        seen = ()

        def prepare(self, item, data):
            Counting.seen += (item.id,)
            return super().prepare(item, data)

    inputs = texts(12)
    as_part(fake_encoder(), inputs, tmp_path / "mem", 1, 2)
    _, fourth = sorted((tmp_path / "mem" / STAGED).glob("*.zip"))
    for damage in (lambda data: data[:50], lambda data: data[:200] + b"?" + data[201:]):
        whole = fourth.read_bytes()
        fourth.write_bytes(damage(whole))
        Counting.seen = ()
        as_part(Counting(), inputs, tmp_path / "mem", 1, 2)
        assert set(Counting.seen) == {"t9", "t10", "t11"} and fourth.read_bytes() == whole
    fourth.write_bytes(whole[:50])
    assert as_part(fake_encoder(), inputs, tmp_path / "mem", 0, 2).missing == 1  # never committed damaged
    as_part(Counting(), inputs, tmp_path / "mem", 1, 2)
    assert folder_bytes(tmp_path / "mem") == alone(inputs)


def test_all_follow_the_first_plan_though_the_memory_grows(tmp_path, fake_encoder, write_files, folder_bytes):
    """The memory holds texts, rows of a changed file and skips; ranks come when shards of the plan are in already."""
    photos = write_files("photos", "image", 5)
    (photos / "003.png").write_bytes(b"no picture")
    (tmp_path / "t.txt").write_text("a\nb\n")
    for source in (tmp_path / "t.txt", photos):
        embed(fake_encoder(), read_items(str(source), None, (IMAGE, TEXT)), tmp_path / "mem", shard_size=2)
    (photos / "001.png").write_bytes((photos / "002.png").read_bytes())
    write_files("photos", "image", 9, start=4)
    (photos / "006.png").write_bytes(b"no picture either")
    inputs = read_items(str(photos), None, (IMAGE, TEXT))
    shutil.copytree(tmp_path / "mem", tmp_path / "alone")
    embed(fake_encoder(), inputs, tmp_path / "alone", shard_size=3, batch_size=2)
    reports = [as_part(fake_encoder(), inputs, tmp_path / "mem", rank, 3) for rank in (0, 2, 1)]
    assert [report.missing for report in reports] == [2, 2, 0] and reports[0].rows > 4
    assert folder_bytes(tmp_path / "mem") == folder_bytes(tmp_path / "alone")
    assert CHANGED in {skip.reason for skip in reports[-1].skipped} and Memory.open(tmp_path / "mem").verify() == []


def test_parts_leave_out_another_files_id_as_a_run_alone_does(tmp_path, fake_encoder, write_files, folder_bytes):
    encoder, given = fake_encoder(), []
    for folder, start in (("A", 0), ("B", 5)):
        photos = write_files(folder, "image", 5, start=start)
        for number in range(start, start + 5):
            (photos / f"{number:03d}.png").rename(photos / f"{number - start}.png")
        given.append(read_items(str(photos), None, (IMAGE,)))
    for memory in ("alone", "mem"):
        embed(encoder, given[0], tmp_path / memory)
    reports = [embed(encoder, given[1], tmp_path / "alone", shard_size=2)]
    reports += [as_part(encoder, given[1], tmp_path / "mem", rank, 2, shard_size=2) for rank in (1, 0, 1)]
    assert folder_bytes(tmp_path / "mem") == folder_bytes(tmp_path / "alone")
    reason = "has the same id as ../A/3.png, which is in the memory: give --id-prefix"
    assert reports[0].reasons() == reports[3].reasons() == [("has the same id as another", 5)]
    assert reason in {skip.reason for skip in reports[-1].skipped} and reports[0].kept == 0


@pytest.mark.parametrize("others", ["the same plan", "a run alone of other items"])
def test_what_others_wrote_while_the_memory_was_looked_through_counts(
    tmp_path, fake_encoder, monkeypatch, folder_bytes, others
):
    inputs, memory, pending = texts(12, BAD), tmp_path / "mem", Embedder.pending
    alone = others == "a run alone of other items"
    first = Inputs(TEXT, [Item(name, TEXT, f"t:{name}", text=name) for name in "xyz"]) if alone else inputs

    def slow(self, *given):
        monkeypatch.setattr(Embedder, "pending", pending)
        found = pending(self, *given)
        embed(fake_encoder(), first, memory, shard_size=3, batch_size=2, part=None if alone else Part(0, 2))
        return found

    monkeypatch.setattr(Embedder, "pending", slow)
    for rank in (1, 0):
        last = as_part(fake_encoder(), inputs, memory, rank, 2)
    assert last.missing == 0
    for source in (first, inputs):
        embed(fake_encoder(), source, tmp_path / "alone", shard_size=3, batch_size=2)
    assert folder_bytes(memory) == folder_bytes(tmp_path / "alone")


def test_rows_that_others_committed_count_as_already_there(tmp_path, fake_encoder):
    as_part(fake_encoder(), texts(6, [1]), tmp_path / "mem", 0, 2)
    second = as_part(fake_encoder(), texts(6, [1]), tmp_path / "mem", 1, 2)
    assert (second.already, second.embedded, [skip.id for skip in second.skipped]) == (2, 3, ["t1"])


def test_a_memory_that_another_process_has_just_made_is_no_foreign_folder(tmp_path, fake_encoder, monkeypatch):
    listdir = os.listdir

    def late(path):
        monkeypatch.setattr(os, "listdir", listdir)
        embed(fake_encoder(), texts(1), tmp_path / "mem")
        return listdir(path)

    monkeypatch.setattr(os, "listdir", late)
    assert embed(fake_encoder(), texts(2), tmp_path / "mem").already == 1


@pytest.mark.parametrize(
    ("other", "what"),
    [
        ({"shard_size": 2}, "shard_size 3 there, 2 here"),
        ({"inputs": texts(13)}, "other items"),
        ({"inputs": texts(12, bad=[4])}, "other items"),
        ({"dtype": "float32"}, "stores float16, not float32"),
    ],
)
@pytest.mark.parametrize("part", [None, Part(0, 2)])
def test_a_plan_of_other_inputs_or_settings_is_refused(tmp_path, fake_encoder, folder_bytes, other, what, part):
    as_part(fake_encoder(), texts(12), tmp_path / "mem", 0, 2)
    before = folder_bytes(tmp_path / "mem")
    options = {"inputs": texts(12), "shard_size": 3} | other
    with pytest.raises(ArtifactError, match=what) as refused:
        embed(fake_encoder(), options.pop("inputs"), tmp_path / "mem", part=part, **options)
    assert "dtype" in other or f"or delete {tmp_path / 'mem' / STAGED} to drop" in str(refused.value)
    assert folder_bytes(tmp_path / "mem") == before
    shutil.rmtree(tmp_path / "mem" / STAGED)  # the cure it names
    assert embed(fake_encoder(), texts(12), tmp_path / "mem").rows == 12


def test_retry_skipped_is_for_a_run_alone(tmp_path, fake_encoder):
    as_part(fake_encoder(), texts(12), tmp_path / "mem", 0, 2)
    for part in (None, Part(1, 2)):
        with pytest.raises(InputError, match="--retry-skipped is for a run alone"):
            embed(fake_encoder(), texts(12), tmp_path / "mem", shard_size=3, part=part, retry_skipped=True)


def test_a_damaged_plan_and_a_foreign_writer_are_told(tmp_path, fake_encoder):
    memory, inputs = tmp_path / "mem", texts(12)
    as_part(fake_encoder(), inputs, memory, 1, 2)
    with MemoryWriter(memory, Memory.open(memory).encoder) as writer:
        part = Embedder(fake_encoder(), TEXT, memory, batch_size=1)
        with part:
            writer.append_packed(TEXT, part.shard([Item("z", TEXT, "t:z", text="z")]).packed("float16"))
    with pytest.raises(ArtifactError, match="has 12 items, and 1 are there: something else wrote too; delete staged/"):
        as_part(fake_encoder(), inputs, memory, 0, 2)
    (memory / STAGED / "plan.json").write_text("{")
    with pytest.raises(ArtifactError, match=r"plan.json: damaged .*; delete .*staged and start again"):
        as_part(fake_encoder(), inputs, memory, 0, 2)


def test_a_late_shard_of_an_older_plan_is_not_taken_for_this_ones(tmp_path, fake_encoder, folder_bytes, alone):
    """Somebody was given the same part twice, and the slower one ends when another plan is there."""
    old, new, memory = texts(6), Inputs(TEXT, texts(12, bad=[7, 8]).items), tmp_path / "mem"
    with Embedder(fake_encoder(), TEXT, memory, batch_size=2) as embedder:
        plan, pending = staging.agree(embedder, old.items, shard_size=3, dtype=None)
        slow = embedder.shard(pending.items[plan.part(1)])
    embed(fake_encoder(), old, memory, shard_size=3)
    as_part(fake_encoder(), new, memory, 0, 2)
    Stage(memory, plan).put(1, slow)
    assert Stage(memory, plan).commit() == 0
    as_part(fake_encoder(), new, memory, 1, 2)
    alone(old)
    assert folder_bytes(memory) == alone(new)


def processes(script, *arguments):
    paths = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parent.parent)])
    environment = os.environ | {"PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *script, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=200)


@pytest.mark.slow
def test_killed_at_any_step_of_writing_parts_end_with_the_same_bytes(tmp_path, fake_encoder, write_files, folder_bytes):
    photos = write_files("photos", "image", 3)
    (photos / "001.png").write_bytes(b"no picture")
    (tmp_path / "killed").mkdir()
    done = processes([Path(__file__).parent / "killed_embed.py"], photos, tmp_path / "killed", 2)
    assert done.returncode == 0, done.stderr
    inputs = read_items(str(photos), None, (IMAGE,))
    embed(fake_encoder(), inputs, tmp_path / "killed/undisturbed", batch_size=2, shard_size=2)
    expected = folder_bytes(tmp_path / "killed/undisturbed")
    ended = {path.name: folder_bytes(path) == expected for path in (tmp_path / "killed").iterdir()}
    assert all(ended.values()), ended
    assert int(done.stdout) > 30


TOGETHER = """
import os, sys
from conftest import FakeEncoder
from cmcr.embed import embed
from cmcr.embed.part import Part
from cmcr.items import read_items

inputs, children = read_items(sys.argv[1], None, FakeEncoder().modalities), []
for rank in range(4):
    children.append(os.fork())
    if not children[-1]:
        embed(FakeEncoder(), inputs, sys.argv[2], batch_size=2, shard_size=3, part=Part(rank, 4), workers=1)
        os._exit(0)
sys.exit(any(os.waitpid(child, 0)[1] for child in children))
"""


def test_processes_at_once(tmp_path, fake_encoder, write_files, folder_bytes):
    photos = write_files("photos", "image", 100)
    (photos / "050.png").write_bytes(b"no picture")
    done = processes(["-c", TOGETHER], photos, tmp_path / "mem")
    assert done.returncode == 0, done.stderr
    embed(fake_encoder(), read_items(str(photos), None, (IMAGE,)), tmp_path / "alone", batch_size=2, shard_size=3)
    assert folder_bytes(tmp_path / "mem") == folder_bytes(tmp_path / "alone")


def test_a_writer_waits_for_another_as_long_as_told(tmp_path, monkeypatch):
    info, naps = EncoderInfo("x", "f", 2), []
    with MemoryWriter(tmp_path, info) as first:
        monkeypatch.setattr("time.sleep", lambda seconds: naps.append(first.__exit__(None, None, None)))
        with pytest.raises(ArtifactError, match="another run"), MemoryWriter(tmp_path, info):
            pass
        assert not naps
        with MemoryWriter(tmp_path, info, wait=60):
            assert len(naps) == 1


ENVIRONMENTS = [
    ({}, None),
    ({"RANK": 1, "WORLD_SIZE": 4}, (1, 4)),
    ({"RANK": 0, "WORLD_SIZE": 1}, None),
    ({"SLURM_PROCID": 2, "SLURM_NTASKS": 3}, (2, 3)),
    ({"SLURM_NTASKS": 3}, None),
    ({"RANK": 1, "WORLD_SIZE": 2, "SLURM_PROCID": 0, "SLURM_NTASKS": 9}, (1, 2)),
    ({"SLURM_ARRAY_TASK_ID": 3, "SLURM_ARRAY_TASK_COUNT": 4}, (3, 4)),
    (
        {"SLURM_ARRAY_TASK_ID": 9, "SLURM_ARRAY_TASK_COUNT": 3, "SLURM_ARRAY_TASK_MIN": 5, "SLURM_ARRAY_TASK_STEP": 2},
        (2, 3),
    ),
    ({"SLURM_PROCID": 0, "SLURM_NTASKS": 1, "SLURM_ARRAY_TASK_ID": 1, "SLURM_ARRAY_TASK_COUNT": 2}, (1, 2)),
]


@pytest.fixture
def bare(monkeypatch):
    for name in (*RANKS, *ARRAY):
        monkeypatch.delenv(name, raising=False)
    return lambda values: [monkeypatch.setenv(name, str(value)) for name, value in values.items()]


@pytest.mark.parametrize(("values", "expected"), ENVIRONMENTS)
def test_parts_of_the_environment(bare, values, expected):
    bare(values)
    part = Part.from_environment()
    assert (part and (part.rank, part.size)) == expected


@pytest.mark.parametrize(
    "values",
    [
        {"RANK": 2, "WORLD_SIZE": 2},
        {"RANK": "one", "WORLD_SIZE": 2},
        {"RANK": -1, "WORLD_SIZE": 2},
        {"SLURM_ARRAY_TASK_ID": 7, "SLURM_ARRAY_TASK_COUNT": 3, "SLURM_ARRAY_TASK_MIN": 1},  # --array=1,5,7
        {"SLURM_ARRAY_TASK_ID": 4, "SLURM_ARRAY_TASK_COUNT": 3, "SLURM_ARRAY_TASK_MIN": 1, "SLURM_ARRAY_TASK_STEP": 2},
    ],
)
def test_variables_that_make_no_part_name_the_cure(bare, values):
    bare(values)
    with pytest.raises(InputError, match=f"{next(iter(values))}.*give --part K/N"):
        Part.from_environment()


@pytest.fixture
def cmcr(tmp_path, monkeypatch, capsys, fake_encoders, bare):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.txt").write_text("".join(f"text {n}\n" for n in range(7)))

    def call(*arguments):
        code = main(["embed", "t.txt", "-e", "fake-clip", "-o", "mem", "--shard-size", "2", *arguments])
        return code, *capsys.readouterr()

    return call


def test_the_command_takes_a_part_and_says_what_is_missing(cmcr, bare):
    bare({"RANK": 0, "WORLD_SIZE": 2})
    code, out, err = cmcr("--part", "2/2", "--json")  # what is said wins over the environment
    assert code == 0 and "4 of 4 shards are not in it yet: other parts have still to make them" in err
    assert "next:" not in err and "warning" not in err
    added = json.loads(out)["added"][0]
    assert (added["embedded"], added["shards"], added["missing"], added["rows"]) == (3, 4, 4, 0)
    code, _, err = cmcr()
    assert code == 0 and "mem: 4 text embedded; it holds 7" in err and "not in it yet" not in err and "next:" in err
    assert Memory.open("mem").verify() == [] and not Path("mem", STAGED).exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--part", "0/2"],
        ["--part", "3/2"],
        ["--part", "2"],
        ["--part", "a/b"],
        ["--part", "1/0"],
        ["--part", ""],
        ["--part", "1/2", "--retry-skipped"],
        ["--part", "1/2", "--workers", "ray"],
        ["--ray-actors", "2"],
        ["--workers", "0"],
        ["--workers", "many"],
    ],
)
def test_usage_errors_are_2(cmcr, arguments):
    assert cmcr(*arguments)[:2] == (2, "") and not Path("mem").exists()


def test_progress_of_a_part_counts_its_own_items(tmp_path, fake_encoder):
    calls = []
    as_part(fake_encoder(), texts(12), tmp_path / "mem", 1, 2)
    as_part(fake_encoder(), texts(12), tmp_path / "mem", 0, 2, progress=lambda *call: calls.append(call[:2]))
    assert calls == [(2, 6), (3, 6), (5, 6), (6, 6)]


def test_a_plan_is_read_as_it_was_written(tmp_path):
    plan = Plan(EncoderInfo("x", "f", 2), "float16", TEXT, 3, 10, "digest", 1, 2, 3)
    plan.write(tmp_path)
    assert Plan.read(tmp_path) == plan and Plan.read(tmp_path / "other") is None
