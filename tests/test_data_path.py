"""Pairs larger than memory: what is read, what stays in the process, and who waits."""

import dataclasses
import itertools
import sys
import threading
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from worlds import two_memories

from cmcr.connect import ConnectConfig, connect
from cmcr.connect import pairs as pairing
from cmcr.connect.methods.c_mcr import fit
from cmcr.connect.pairs import Pairs
from cmcr.connect.run import split
from cmcr.numbers.rows import ROWS, SPARSE, ahead, read_rows

PARTS = ("overlap_a", "overlap_b", "pseudo_a", "pseudo_b")


def write_pairs(folder, rows, dim=8):
    rng = np.random.default_rng(0)
    for part in PARTS:
        np.save(folder / f"{part}.npy", rng.normal(size=(rows, dim)).astype(np.float16))
    return Pairs(*(np.load(folder / f"{part}.npy", mmap_mode="r") for part in PARTS))


def in_memory(pairs):
    return Pairs(*(np.array(array) for array in vars(pairs).values()))


def resident(path):
    """Return how many kB of a mapped file count as this process's."""
    total, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if line.split()[0][-1] != ":":
            inside = line.endswith(str(path))
        elif inside and line.startswith("Rss:"):
            total += int(line.split()[1])
    return total


@pytest.mark.parametrize("count", [0, 1, 50, ROWS, 2 * ROWS + 7])
def test_rows_of_a_mapped_file_are_those_of_the_array(tmp_path, count):
    mapped = write_pairs(tmp_path, 40 * ROWS).overlap_a
    wanted = np.random.default_rng(1).integers(0, len(mapped), count)
    read = read_rows(mapped, wanted)
    assert read.dtype == np.float32 and np.array_equal(read, np.array(mapped)[wanted].astype(np.float32))
    assert np.array_equal(read_rows(mapped[5:], wanted[wanted < 9]), np.array(mapped)[5:][wanted[wanted < 9]])


def test_changes_to_a_private_mapping_are_kept(tmp_path):
    """Pages of a copy-on-write mapping are not on disk: dropping them would undo what was written."""
    write_pairs(tmp_path, 10)
    mapped = np.load(tmp_path / "overlap_a.npy", mmap_mode="c")
    mapped[3] = 7
    assert (read_rows(mapped, np.array([3, 3])) == 7).all() and (mapped[3] == 7).all()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("share", [SPARSE // 2, SPARSE * 4])  # dense and sparse
def test_pages_of_the_pairs_do_not_pile_up(tmp_path, share):
    pairs = write_pairs(tmp_path, 4096, 1024)  # 8 MB each
    for part in PARTS:
        assert len(np.array(getattr(pairs, part)[::share]))  # what indexing leaves behind
        assert resident(tmp_path / f"{part}.npy") > 4096 // share
    pairs.take(np.arange(0, 4096, share))
    for part in PARTS:
        assert resident(tmp_path / f"{part}.npy") == 0


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_ahead_gives_what_map_gives(count):
    with closing(ahead(lambda n: n * n, range(count))) as made:
        assert list(made) == [n * n for n in range(count)]


def test_the_next_is_made_while_the_caller_works_and_no_more_than_that():
    made, second = [], threading.Event()

    def make(number):
        made.append(number)
        if number == 1:
            second.set()
        return number

    with closing(ahead(make, itertools.count())) as numbers:
        assert next(numbers) == 0
        assert second.wait(timeout=60)
        assert made == [0, 1]
        assert next(numbers) == 1
    assert len(made) <= 3


def test_what_fails_comes_out_where_its_value_would():
    with closing(ahead(lambda n: 1 / (2 - n), range(5))) as made:
        assert next(made) == 0.5 and next(made) == 1
        with pytest.raises(ZeroDivisionError):
            next(made)
    assert not loaders()


def loaders():
    return [thread for thread in threading.enumerate() if thread.name.startswith("cmcr-loader")]


CONFIG = ConnectConfig(epochs=2, batch_size=64, hidden=16, tau=0.1)


def trained(pairs, **hooks):
    f_a, f_b, state = fit(pairs, np.arange(len(pairs)), CONFIG, lambda *p: {"selection": 0.0}, **hooks)
    return [*f_a.state_dict().values(), *f_b.state_dict().values()], state.history


def test_training_from_disk_has_the_bytes_of_training_from_memory(tmp_path):
    pairs = write_pairs(tmp_path, 200)
    mapped, held = trained(pairs), trained(in_memory(pairs))
    assert mapped[1] == held[1] and all(map(torch.equal, mapped[0], held[0]))


@pytest.mark.parametrize("step", [1, 3, 6])
def test_an_interrupted_run_leaves_no_thread(tmp_path, step):
    def interrupts(done, total, note):
        assert loaders()
        if done == step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(write_pairs(tmp_path, 200), progress=interrupts)
    assert not loaders()


def test_a_file_that_cannot_be_read_ends_the_run_with_its_error(tmp_path):
    pairs = write_pairs(tmp_path, 200)
    with pytest.raises(IndexError):
        trained(dataclasses.replace(pairs, pseudo_b=pairs.pseudo_b[:100]))
    assert not loaders()


@pytest.mark.parametrize(("method", "on"), [("route", "overlap"), ("route", "pseudo"), ("linear", "overlap")])
def test_methods_without_training_recall_only_for_what_is_measured(tmp_path, monkeypatch, method, on):
    a, b, _ = two_memories(tmp_path / "mem")
    whole = connect(a, b, tmp_path / "whole", ConnectConfig(method="linear", on="pseudo"))
    asked, recall = [], pairing.recall
    monkeypatch.setattr(pairing, "recall", lambda queries, *rest: asked.append(len(queries)) or recall(queries, *rest))
    config = ConnectConfig(method=method, on=on)
    made = connect(a, b, tmp_path / "s", config)
    assert asked == [20, 20] and made.space.metrics["held_out"] == 20
    assert {"pseudo_r1", "gap_after"} <= made.space.metrics.keys() and made.rows == whole.rows
    _, held = split(400, config)
    for part in PARTS:
        recalled = np.load(tmp_path / "s.run" / "held-out" / f"{part}.npy")
        assert np.array_equal(recalled, np.load(tmp_path / "whole.run" / "pairs" / f"{part}.npy")[held])
