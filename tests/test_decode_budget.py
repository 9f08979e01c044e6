"""What is decoded at one time stays within one budget, and nobody waits for ever."""

import threading

import pytest

from cmcr.decode import common
from cmcr.embed import embed
from cmcr.errors import ItemError
from cmcr.items import read_items


@pytest.fixture
def budget(monkeypatch):
    made = common.Budget(100)
    monkeypatch.setattr(common, "BUDGET", made)
    return made


def test_an_item_above_the_whole_budget_is_refused_with_its_size(budget):
    with pytest.raises(ItemError, match="CMCR_DECODE_BYTES"), common.decoding():
        common.reserve(101)
    with pytest.raises(ItemError, match="takes"):
        common.reserve(101)


def test_what_an_item_holds_is_free_again_after_it(budget):
    for _ in range(5):
        with common.decoding():
            common.reserve(60)
            common.reserve(40)


def test_nothing_more_wanted_is_nothing_held(budget):
    with common.decoding() as item:
        common.reserve(0)
        assert item.reserved == 0


def test_a_file_is_reserved_before_it_is_read(monkeypatch, tmp_path, fake_encoder, write_files):
    monkeypatch.setattr(common, "BUDGET", common.Budget(8 << 20))
    photos = write_files("photos", "image", 1)
    (photos / "large.png").write_bytes(bytes((8 << 20) + 1))
    encoder = fake_encoder()
    report = embed(encoder, read_items(photos, None, encoder.modalities), tmp_path / "mem")
    assert [skip.id for skip in report.skipped] == ["large"] and "CMCR_DECODE_BYTES" in report.skipped[0].reason


def test_threads_never_hold_more_than_the_budget_together(budget):
    held, most, lock = 0, 0, threading.Lock()

    def work():
        nonlocal held, most
        for _ in range(50):
            with common.decoding():
                common.reserve(40)
                with lock:
                    held += 40
                    most = max(most, held)
                with lock:
                    held -= 40

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 40 <= most <= 100


def test_two_that_both_want_more_do_not_wait_for_each_other_for_ever(budget):
    both = threading.Barrier(2)

    def work():
        with common.decoding():
            common.reserve(50)
            both.wait()
            common.reserve(50)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)


def test_where_all_want_more_they_go_on_one_after_another_as_they_came(budget):
    hold, order = [threading.Event() for _ in range(4)], []

    def work(number):
        with common.decoding():
            common.reserve(25)
            hold[number].wait()
            common.reserve(25)
            order.append(number)

    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(4)]
    for number, thread in enumerate(threads):
        thread.start()
        while budget._used < 25 * (number + 1):
            pass
    for number in range(4):  # the last asker finds all others waiting
        hold[number].set()
        while number < 3 and budget._stuck < number + 1:
            pass
    for thread in threads:
        thread.join(60)
    assert order[0] == 0 and sorted(order) == [0, 1, 2, 3]


def test_notes_belong_to_the_item_they_were_made_in(budget):
    common.note("lost: nobody asks")
    with common.decoding() as first:
        common.note("clipped")
        common.note("clipped")
    with common.decoding() as second:
        pass
    assert (first.notes, second.notes) == (["clipped"], [])
