"""Conditions that are put to a server, and the bounds of what it keeps."""

import json
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from served import AUDIO, CLOUD, IMAGE, TEXT, ask, client, png, service
from spaces import make_memory, texts

from cmcr.ask import filter_rows, filters, make_index
from cmcr.errors import InputError
from cmcr.memory import Memory, Row, columns
from cmcr.memory.columns import import_columns
from cmcr.serve import Service, conditions
from cmcr.serve import shelf as shelves
from cmcr.serve.conditions import Conditions
from cmcr.serve.kept import OWN, Kept
from cmcr.serve.question import read_question
from cmcr.serve.workers import LateError

pytest.importorskip("duckdb")
pytest.importorskip("pyarrow")


@pytest.fixture
def served(tmp_path, monkeypatch):
    made = service(tmp_path, monkeypatch)
    (tmp_path / "years.csv").write_text(
        "id,year\n" + "".join(f"{kind}{n},{2000 + n}\n" for kind in "ptsc" for n in range(12) if n != 3)
    )
    for memory in made.memories:
        import_columns(memory, tmp_path / "years.csv")
    return made


@pytest.fixture
def asked(served):
    with client(served) as opened:
        yield opened


def test_the_hits_are_those_of_all_rows_that_meet_the_condition(served, asked):
    for modality in ("image", "text"):  # a memory alone, and two that are mixed
        code, answer = ask(asked, row="image/1", modality=modality, k=50, where="year >= 2004 and id != 'p9'")
        every = ask(asked, row="image/1", modality=modality, k=50)[1]
        wanted = [hit for hit in every["hits"] if int(hit["id"][1:]) >= 4 and hit["id"] != "p9"]
        assert code == 200 and [(hit["id"], hit["row"], hit["score"]) for hit in answer["hits"]] == [
            (hit["id"], hit["row"], pytest.approx(hit["score"])) for hit in wanted
        ]
        assert [hit["rank"] for hit in answer["hits"]] == [*range(1, len(wanted) + 1)]
        assert answer["gallery"] == len(wanted) < every["gallery"] and "where" not in every
        rows = sum(memory.rows(modality) for memory in served.memories if modality in memory.modalities)
        lacking = rows // every["gallery"]  # number 3 has no year, in each memory
        assert answer["where"] == {"condition": "year >= 2004 and id != 'p9'", "rows": rows, "lacking": lacking}


def test_weights_files_and_nothing_left(served, asked):
    weights = {"seer:text": 0, "hearer:text": 1}
    every, some = (
        ask(asked, row="image/1", modality="text", k=50, weights=weights, **where)[1]["hits"]
        for where in ({}, {"where": "year < 2005"})
    )
    assert [(h["row"], h["score"]) for h in some] == [(h["row"], h["score"]) for h in every if h["id"] in "t0t1t2t4"]
    form = {"modality": "image", "k": "5", "where": "id = 'p2' or id = 'p5'"}
    answer = asked.post("/search", files={"file": ("a.png", png(50))}, data=form).json()
    assert {hit["id"] for hit in answer["hits"]} == {"p2", "p5"}
    code, answer = ask(asked, text="dog", modality="image", where="false")
    assert code == 200 and (answer["hits"], answer["gallery"]) == ([], 0)


def test_what_is_no_condition_is_told_in_one_line(asked):
    for where, status, why in (
        ("yaer > 2020", 422, "has no column 'yaer'; did you mean 'year'?"),
        ("year", 422, "is a BIGINT, expected a condition"),
        ("year IN (SELECT 1)", 422, "where 'year IN (SELECT 1)': subquery is not accepted"),
        ("repeat('x', 3000000000) = id", 422, "the function repeat() is not accepted"),
        (" ", 422, "expected a condition"),
        ("\0", 422, "expected a condition"),
        ("id = '\ud800'", 400, "no JSON"),
        (3, 400, "where is 3, expected"),
        (None, 400, "where is null; leave it out"),
    ):
        question = json.dumps({"text": "dog", "modality": "image", "where": where})
        answer = asked.post("/search", content=question, headers={"Content-Type": "application/json"})
        told = answer.json()["error"]
        assert answer.status_code == status and why in told and "--where" not in told and "\n" not in told, told


def test_an_embedding_has_no_condition(asked):
    assert ask(asked, "/embed", text="dog", where="true") == (
        400, {"error": "where chooses among rows, and /embed looks at none; leave it out"},
    )  # fmt: skip


def test_without_duckdb_the_extra_is_named(served, asked, monkeypatch):
    monkeypatch.setitem(sys.modules, "duckdb", None)
    code, answer = ask(asked, text="dog", modality="image", where="year > 3")
    assert code == 422 and "pip install 'cmcr[filters]'" in answer["error"] and "\n" not in answer["error"]
    assert ask(asked, text="dog", modality="image")[0] == 200


def test_a_condition_is_evaluated_once_and_the_last_few_are_kept(served, monkeypatch):
    seen = []
    monkeypatch.setattr(conditions, "filter_rows", lambda *a, **b: seen.append(a[2]) or filter_rows(*a, **b))
    own = Conditions(most=2 * OWN + 300)
    for where in ("true", "true", "year > 2005", "true", "year > 2006", "year > 2005"):
        own.meet(served.shelves[IMAGE], where, 30)
    assert seen == ["true", "year > 2005", "year > 2006", "year > 2005"]


def test_a_slow_condition_is_ended_and_holds_no_other_question_up(served, monkeypatch):
    begun, ends = threading.Event(), []

    def slow(memory, modality, where, *, seconds):
        with columns.database(seconds=seconds) as db:
            begun.set()
            time.sleep(seconds * 1.2)  # between statements: an interrupt that came once would be forgotten
            try:
                db.execute("SELECT count(*) FROM range(1000000000000) a(x) WHERE x % 7 = 3").fetchall()
            except Exception as error:
                ends.append(error)
                raise InputError(str(error)) from error

    with client(served, threads=2, timeout=0.5) as opened:
        monkeypatch.setattr(conditions, "filter_rows", slow)
        answers = []
        ask_slowly = {"text": "dog", "modality": "image", "where": "year > 1"}
        late = [threading.Thread(target=lambda: answers.append(ask(opened, **ask_slowly)[0])) for _ in range(3)]
        for each in late:
            each.start()
        assert begun.wait(10)
        assert opened.app.state.api.queries.busy == 0
        assert served.search(read_question({"text": "dog", "modality": "image"}))["hits"]
        for each in late:
            each.join(20)
        assert answers == [504] * 3
        while opened.app.state.api.conditions.busy:
            time.sleep(0.01)
        assert ends  # it was interrupted, and no thread is left with it
    for seconds in (0.05, 0):
        with pytest.raises(LateError, match="takes longer"):
            Conditions().meet(served.shelves[IMAGE], "year > 1", seconds)


def test_reading_rows_for_a_condition_ends_with_its_time(served, monkeypatch):
    read = []

    def endless(memory, modality):
        while len(read) < 200_000:
            read.append(Row(f"p{len(read)}", "x", None, None))
            yield read[-1]

    monkeypatch.setattr(Memory, "metadata", endless)
    monkeypatch.setattr(filters, "time", SimpleNamespace(monotonic=lambda: len(read)))  # a second a row
    with pytest.raises(InputError, match=r"--where .*: not done after 5000 seconds; ask for less"):
        filter_rows(served.memories[0], IMAGE, "year > 2003", seconds=5000)
    assert 5000 <= len(read) <= 7000


def test_side_by_side_with_an_index_and_without_room_the_same_rows_are_found(served, tmp_path, monkeypatch):
    more = make_memory(tmp_path / "mem" / "more", "seer", {TEXT: texts(5, "other")})
    import_columns(more, tmp_path / "years.csv")
    make_index(served.subject.space, more, TEXT, "flat")
    memories = [*served.memories, more]
    question = read_question({"row": "image/1", "modality": "text", "k": 50, "where": "year % 2 = 0"})
    plain, indexed = Service(served.subject, memories), Service(served.subject, memories, index="flat")
    monkeypatch.setattr(shelves, "memory_bytes", lambda: 0)
    monkeypatch.setattr("cmcr.serve.service.memory_bytes", lambda: 0)
    streamed = Service(served.subject, memories)
    assert streamed.shelves[TEXT].bytes == 0 < plain.shelves[TEXT].bytes
    found = [each.search(question) for each in (plain, indexed, streamed)]
    assert len(found[0]["hits"]) == 5 + 3 and found[1]["search"] == "exact"
    for other in found[1:]:
        assert [hit["row"] for hit in other["hits"]] == [hit["row"] for hit in found[0]["hits"]]


def test_weightings_are_kept_within_bytes(served):
    space, seer, hearer = served.subject.space, *served.memories
    own = 9 * space.dim * 4
    most = 4 * (2 * (own + OWN))
    shelf = shelves.Shelf(space, [seer, hearer], TEXT, most=most)
    vector = shelf.vector(0)
    first = shelf.search(vector, 9, {"seer": 1.0, "hearer": 0.0})
    for share in range(1, 8):
        shelf.search(vector, 9, {"seer": 1.0, "hearer": float(share)})
        assert shelf.bytes <= own + most // 4
    assert shelf.bytes == own + 2 * (own + OWN)
    tight = shelves.Shelf(space, [seer, hearer], TEXT, most=own)  # no room for another weighting: projected anew
    again = tight.search(vector, 9, {"seer": 1.0, "hearer": 0.0})
    assert [(each.number, each.hit.score) for each in again] == [(each.number, each.hit.score) for each in first]
    tight.search(vector, 9, {"seer": 1.0, "hearer": 5.0})
    assert tight.bytes <= own + OWN and len([note for note in tight.notes if "projected anew" in note]) == 1


def test_the_memories_share_half_of_memory(served, monkeypatch):
    space = served.subject.space
    monkeypatch.setattr("cmcr.serve.service.memory_bytes", lambda: 2 * (9 + 8) * space.dim * 4 + 80)
    few = Service(served.subject, served.memories)
    kept = {modality for modality, shelf in few.shelves.items() if shelf.bytes}
    assert sum(shelf.bytes for shelf in few.shelves.values()) <= (9 + 8) * space.dim * 4 + 40
    assert kept and kept != {IMAGE, TEXT, AUDIO, CLOUD}
    assert any("projected anew" in note for note in few.notes)


def test_what_is_above_the_bound_displaces_nothing():
    kept = Kept[str, np.ndarray](most=3 * OWN)
    kept.keep("a", np.zeros(1), 8)
    kept.keep("b", np.zeros(1), 4 * OWN)
    kept.keep("a", np.ones(1), 16)
    assert kept.find("b") is None and kept.find("a")[0] == 1 and kept.bytes == OWN + 16
