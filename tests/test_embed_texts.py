"""Texts of a list are prepared many at once, where the encoder can; nothing else may show it. Commits run behind."""

import gc
import threading

import numpy as np
import pytest

from cmcr import load_encoder
from cmcr.embed import embed
from cmcr.errors import CmcrError, ItemError
from cmcr.items import text_item, unique_items
from cmcr.memory import Memory, MemoryWriter
from cmcr.modality import Modality

TEXT = Modality.TEXT
AWKWARD = [
    "a dog",
    "  ",
    "an unspeakable cat",
    "\ud800 drum",
    "zwei Glöckchen",
    "drum " * 30_000,
    "a \u2028 line",
    "a\tb",
]


@pytest.fixture
def at_once(fake_encoder):
    """An encoder that prepares texts at once, and keeps how many came in each call."""

    class AtOnce(fake_encoder):
        def __init__(self):
            super().__init__()
            self.calls = []

        def prepare_texts(self, given):
            self.calls.append(len(given))
            return [self._one(each) for each in given]

        def _one(self, given):
            try:
                return self.prepare(text_item(given, "here"), given.encode())
            except ItemError:
                return None

    return AtOnce()


def listed(*lines):
    return unique_items(TEXT, [text_item(line, f"list.txt:{n}", f"i{n}") for n, line in enumerate(lines)])


def test_texts_prepared_at_once_leave_the_same_bytes(tmp_path, fake_encoder, at_once, folder_bytes):
    lines = [*AWKWARD, *(f"line {n}" for n in range(20)), "unspeakable", "the end"]
    sizes = {"batch_size": 4, "shard_size": 11}
    report = embed(at_once, listed(*lines), tmp_path / "at-once", **sizes)
    assert embed(fake_encoder(), listed(*lines), tmp_path / "each", **sizes).to_json() == report.to_json()
    assert folder_bytes(tmp_path / "at-once") == folder_bytes(tmp_path / "each")
    assert len(report.skipped) == 5 and len(at_once.calls) > 3 and max(at_once.calls) == 4


def test_where_preparing_at_once_fails_each_text_is_prepared_by_itself(tmp_path, fake_encoder, at_once, monkeypatch):
    monkeypatch.setattr(at_once, "prepare_texts", lambda given: 1 / 0)
    report = embed(at_once, listed("a", "unspeakable", "b"), tmp_path / "mem")
    assert (report.embedded, report.reasons()) == (2, [("a text that cannot be tokenised", 1)])


@pytest.mark.parametrize("name", ["tiny-clip", "tiny-clap"])
def test_a_tiny_encoder_prepares_texts_at_once_as_it_prepares_each(name):
    encoder = load_encoder(name)
    texts = ["two red drums", "qqq zzz", "Red, RED red!", "", "one small bell ringing"]
    for text, made in zip(texts, encoder.prepare_texts(texts), strict=True):
        if made is None:
            with pytest.raises(ItemError):
                encoder.prepare(text_item(text, "here"), text.encode())
        else:
            np.testing.assert_array_equal(made, encoder.prepare(text_item(text, "here"), text.encode()), strict=True)


def test_a_shard_is_committed_while_the_next_one_is_embedded(tmp_path, fake_encoder, monkeypatch):
    commit, encoder, later = MemoryWriter.append_packed, fake_encoder(), threading.Event()
    encode = encoder.encode

    def encoded(*given):
        if calls:  # of the second shard: the first one's commit waits for it
            later.set()
        calls.append(1)
        return encode(*given)

    def committed(*given, **more):
        assert later.wait(10)
        return commit(*given, **more)

    calls = []
    encoder.encode = encoded
    monkeypatch.setattr(MemoryWriter, "append_packed", committed)
    embed(encoder, listed("a", "b"), tmp_path / "mem", shard_size=1)
    assert Memory.open(tmp_path / "mem").ids(TEXT) == ["i0", "i1"]


@pytest.mark.parametrize("failing", [0, 2], ids=["first", "last"])
def test_a_commit_that_fails_stops_the_run_and_leaves_what_was_committed(tmp_path, fake_encoder, monkeypatch, failing):
    commit, done = MemoryWriter.append_packed, []

    def committed(*given, **more):
        if len(done) == failing:
            raise CmcrError("the disk is full")
        done.append(commit(*given, **more))

    monkeypatch.setattr(MemoryWriter, "append_packed", committed)
    with pytest.raises(CmcrError, match="disk is full"):
        embed(fake_encoder(), listed("a", "b", "c"), tmp_path / "mem", shard_size=1)
    assert Memory.open(tmp_path / "mem").rows(TEXT) == failing


def test_what_was_there_before_is_searched_for_garbage_again_afterwards(tmp_path, fake_encoder):
    encoder, frozen = fake_encoder(), []
    encode = encoder.encode
    encoder.encode = lambda *given: frozen.append(gc.get_freeze_count()) or encode(*given)
    embed(encoder, listed("a"), tmp_path / "mem")
    assert frozen[0] > 0 == gc.get_freeze_count()


def test_numpy_multiplies_with_one_thread_while_threads_decode_and_as_before_afterwards(tmp_path, fake_encoder):
    threadpoolctl, seen, encoder = pytest.importorskip("threadpoolctl"), [], fake_encoder()
    prepare = encoder.prepare

    def threads():
        found = threadpoolctl.ThreadpoolController().info()
        return {each["num_threads"] for each in found if "numpy" in each["filepath"]}

    encoder.prepare = lambda *given: seen.append(threads()) or prepare(*given)
    with threadpoolctl.threadpool_limits(2):
        before = threads()
        embed(encoder, listed("a"), tmp_path / "mem")
        assert threads() == before
    assert seen == [{1} if before else set()]
