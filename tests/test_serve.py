"""The server: what it answers, that it answers as the command line does, and what it refuses."""

import asyncio
import json
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import numpy as np
import pytest
from served import AUDIO, CLOUD, IMAGE, TEXT, ask, client, npy, png, service, wav
from spaces import DIMS, FakeEncoder, make_memory, make_space, texts

from cmcr import Memory
from cmcr.ask import Subject, make_index, open_index
from cmcr.ask import ask as ask_space
from cmcr.ask.retrieve import retrieve
from cmcr.cli import main
from cmcr.errors import InputError, UnknownEncoderError
from cmcr.serve import ReadySubject, Service, Serving
from cmcr.serve.media import packed_points
from cmcr.serve.run import take_port
from cmcr.serve.workers import Workers


@pytest.fixture
def served(tmp_path, monkeypatch):
    return service(tmp_path, monkeypatch)


@pytest.fixture
def asked(served):
    with client(served) as opened:
        yield opened


def naive(served, modality, vector, k):
    """The hits of a search without a server: every row of the one memory, projected and sorted."""
    memory = next(each for each in served.memories if modality in each.modalities)
    rows = served.subject.space.project(memory, modality=modality).astype(np.float64)
    scores = rows @ vector.astype(np.float64)
    return [memory.ids(modality)[row] for row in np.argsort(-scores, kind="stable")[:k]]


def test_a_text_finds_what_retrieve_finds_in_the_same_shape(served, asked):
    code, answer = ask(asked, text="text 3", modality="audio", k=4)
    space = served.subject.space
    query, memory = ask_space(Subject("s", space), "text 3"), served.memories[1]
    found = retrieve(space, [query], memory, AUDIO, 4, open_index(space, memory, AUDIO))[0]
    assert code == 200
    assert [hit["id"] for hit in answer["hits"]] == [hit.id for hit in found] == naive(served, AUDIO, query.vector, 4)
    assert np.allclose([hit["score"] for hit in answer["hits"]], [hit.score for hit in found])
    assert [hit["rank"] for hit in answer["hits"]] == [1, 2, 3, 4]
    told = {name: answer[name] for name in ("space", "method", "modality", "gallery", "search", "query", "encoder")}
    assert told == {
        "space": "spaces/av", "method": "c-mcr", "modality": "audio", "gallery": 8, "search": "exact",
        "query": "text 3", "encoder": "seer",
    }  # fmt: skip


def test_the_answer_has_the_fields_that_retrieve_prints(served, asked, tmp_path, capsys):
    served.subject.space.save(tmp_path / "space")
    assert (
        main(["retrieve", str(tmp_path / "space"), "text 3", "--in", "mem/hearer", "--modality", "audio", "--json"])
        == 0
    )
    printed = json.loads(capsys.readouterr().out)
    _, answer = ask(asked, text="text 3", modality="audio")
    assert set(answer) == set(printed)
    assert set(answer["hits"][0]) == set(printed["hits"][0]) | {"row"}
    assert [hit["path"] for hit in answer["hits"]] == [hit["path"] for hit in printed["hits"]]


def test_a_row_asks_with_its_own_vector(served, asked):
    code, answer = ask(asked, row="image/5", modality="image", k=3)
    assert code == 200 and answer["hits"][0]["row"] == "image/5" and answer["hits"][0]["score"] == pytest.approx(1)
    assert (answer["query_modality"], answer["encoder"]) == ("image", "seer")
    _, other = ask(asked, row="image/5", modality="audio", k=8)
    vector = served.subject.space.project(served.memories[0], modality=IMAGE)[5]
    assert [hit["id"] for hit in other["hits"]] == naive(served, AUDIO, vector, 8)


@pytest.mark.parametrize(
    ("name", "made"), [("a.png", png), ("a.wav", wav), ("a.npy", npy), ("a.txt", lambda: b"text 3")]
)
def test_a_file_is_asked_as_its_suffix_says(served, asked, tmp_path, name, made):
    (tmp_path / name).write_bytes(made())
    query = ask_space(Subject("s", served.subject.space), str(tmp_path / name))
    answer = asked.post("/search", files={"file": (name, made())}, data={"modality": "image", "k": "5"})
    assert answer.status_code == 200
    found = answer.json()
    assert [hit["id"] for hit in found["hits"]] == naive(served, IMAGE, query.vector, 5)
    assert (found["query"], found["query_modality"]) == (name, query.modality)


def test_terms_are_added_and_taken_away(served, asked):
    space = served.subject.space
    dog, bark = (ask_space(Subject("s", space), text).vector for text in ("dog", "bark"))
    row = space.project(served.memories[0], modality=IMAGE)[2]
    terms = [{"text": "dog"}, {"text": "bark", "sign": -1}, {"row": "image/2"}]
    code, answer = ask(asked, terms=terms, modality="audio", k=8)
    assert code == 200 and answer["query"] == "dog - bark + image/2"
    assert [hit["id"] for hit in answer["hits"]] == naive(served, AUDIO, dog - bark + row, 8)
    code, refused = ask(asked, terms=[{"text": "dog"}, {"text": "dog", "sign": -1}], modality="audio")
    assert code == 422 and "cancel out" in refused["error"]


def test_weights_say_who_embeds_and_how_rows_are_mixed(served, asked):
    space = served.subject.space
    for weights, shares in (({"seer:text": 0, "hearer:text": 1}, [0, 1]), ({"seer:text": 1, "hearer:text": 3}, [1, 3])):
        code, answer = ask(asked, text="dog", modality="image", k=12, weights=weights)
        given = [f"{name}:text={share}" for name, share in zip(DIMS, shares, strict=True)]
        query = ask_space(Subject("s", space, shares=given), "dog")
        assert code == 200 and answer["encoder"] == query.encoder
        assert [hit["id"] for hit in answer["hits"]] == naive(served, IMAGE, query.vector, 12)
    plain = ask(asked, row="image/1", modality="text", k=9)[1]
    heard = ask(asked, row="image/1", modality="text", k=9, weights={"seer:text": 0, "hearer:text": 1})[1]
    vector = space.project(served.memories[0], modality=IMAGE)[1]
    rows = space.project(served.memories[1], modality=TEXT)
    assert [hit["score"] for hit in heard["hits"]] == pytest.approx(sorted(rows @ vector, reverse=True), abs=1e-6)
    assert [hit["score"] for hit in plain["hits"]] != pytest.approx([hit["score"] for hit in heard["hits"]])
    assert ask(asked, text="dog", modality="image", weights={"seer:text": 0})[0] == 422


def test_an_embedding_is_the_vector_that_is_searched_with(served, asked):
    assert ask(asked, text="dog")[0] == 400  # which modality to look for is open here
    assert len(ask(asked, text="dog", modality="image", k=3.0)[1]["hits"]) == 3
    code, answer = ask(asked, "/embed", text="dog")
    vector = ask_space(Subject("s", served.subject.space), "dog").vector
    assert code == 200 and answer["dim"] == len(vector)
    assert np.allclose(answer["vector"], vector, atol=1e-6)


def test_two_memories_of_one_encoder_are_merged_by_cosine(served, tmp_path):
    more = make_memory(tmp_path / "mem" / "more", "seer", {TEXT: texts(5, "other")})
    both = Service(served.subject, [*served.memories, more])
    shelf = both.shelves[TEXT]
    assert shelf.rows == 14 and [part.first for part in shelf.parts] == [0, 9]
    query = ask_space(Subject("s", served.subject.space), "other 3")
    found = shelf.search(query.vector, 14)
    assert found[0].number == 12 and found[0].hit.text == "other 3"
    assert [each.hit.score for each in found] == sorted((each.hit.score for each in found), reverse=True)
    assert [each.hit.rank for each in found] == [*range(1, 15)] and {each.number for each in found} == {*range(14)}


def test_memories_whose_ids_mean_different_things_are_searched_side_by_side(served, tmp_path):
    other = make_memory(tmp_path / "mem" / "other", "hearer", {TEXT: {"t0": ("x", "no such text", b"no such text")}})
    both = Service(served.subject, [served.memories[0], other])
    assert both.shelves[TEXT].rows == 10 and any("different content" in note for note in both.notes)


def test_indexes_are_used_where_they_are(served, tmp_path):
    space, memory = served.subject.space, Memory.open(tmp_path / "mem" / "seer")
    make_index(space, memory, IMAGE, "flat")
    indexed = Service(served.subject, [memory], index="flat")
    assert [part.kind for part in indexed.shelves[IMAGE].parts] == ["flat"]
    assert [part.kind for part in indexed.shelves[CLOUD].parts] == ["exact"]
    assert any("no flat index of its point_cloud" in note for note in indexed.notes)
    vector = served.shelves[IMAGE].vector(3)
    assert np.allclose(indexed.shelves[IMAGE].vector(3), vector)
    plain, fast = (each.shelves[IMAGE].search(vector, 5) for each in (served, indexed))
    assert [each.number for each in plain] == [each.number for each in fast]


@pytest.mark.parametrize(
    ("question", "status", "why"),
    [
        ({}, 400, "expected one of text, row and terms"),
        ({"text": "a", "row": "image/1"}, 400, "text and row given"),
        ({"text": " "}, 400, "not all blank"),
        ({"text": "a", "k": 0}, 400, "k is 0, expected 1 to 500"),
        ({"text": "a", "k": 10**6}, 400, "expected 1 to 500"),
        ({"text": "a", "k": True}, 400, "expected a whole number"),
        ({"text": "a", "modality": "smell"}, 400, "expected one of image, text, audio, point_cloud"),
        ({"text": "a", "modality": None}, 400, "modality is null; leave it out"),
        ({"text": "a", "k": 2.5}, 400, "k is 2.5, expected a whole number"),
        ({"text": "a", "wieghts": {}}, 400, "did you mean 'weights'?"),
        ({"text": "a", "weights": {"seer:smell": 1}}, 400, "expected one of seer:text"),
        ({"text": "a", "weights": {"seer:text": -1}}, 400, "expected a finite number of 0 or more"),
        ({"row": "../../etc/passwd"}, 400, "expected MODALITY/NUMBER"),
        ({"row": "image/12"}, 404, "expected one of image/0 to image/11"),
        ({"row": "smell/0"}, 404, "row smell/0 is not there"),
        ({"terms": []}, 400, "0 terms"),
        ({"terms": [{"text": "a"}] * 9}, 400, "9 terms; expected 1 to 8"),
        ({"terms": [{"text": "a", "sign": 2}]}, 400, "expected one of 1, -1"),
        ({"terms": [{"sign": 1}]}, 400, "or neither"),
    ],
)
def test_what_cannot_be_asked_is_told_in_one_line(asked, question, status, why):
    code, answer = ask(asked, **{"modality": "image"} | question)
    assert code == status and why in answer["error"] and "\n" not in answer["error"]


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("application/json", b"{", 400),
        ("application/json", b"[" * 100_000, 400),
        ("application/json", b"\xff", 400),
        ("application/json", b'{"text": "' + b"a" * 300_000 + b'"}', 413),
        ("text/plain", b"dog", 415),
        ("multipart/form-data", b"dog", 400),
        ("multipart/form-data; boundary=x", b"--x\r\nnothing", 400),
    ],
)
def test_bodies_that_are_none(asked, kind, body, status):
    answer = asked.post("/search", content=body, headers={"Content-Type": kind})
    assert answer.status_code == status and answer.json()["error"]


@pytest.mark.parametrize(
    ("files", "data", "status", "why"),
    [
        ({"file": ("a.exe", b"MZ")}, {}, 422, "file of suffix '.exe'; expected"),
        ({"file": ("a.png", b"")}, {}, 422, "image: "),
        ({"file": ("a.png", b"broken")}, {}, 422, "image: cannot be decoded"),
        ({"file": ("a.png", png())}, {"query_modality": "audio"}, 422, "as audio"),
        ({"file": ("a.png", png())}, {"query_modality": "smell"}, 400, "expected one of text, image"),
        ({"file": ("blob", npy())}, {"query_modality": "point_cloud"}, 200, ""),
        ({"file": ("a.png", png())}, {"up": "y"}, 422, "up is for point clouds"),
        ({"file": ("a.png", png())}, {"k": "many"}, 400, "k is 'many'"),
        ({"file": ("a.png", png())}, {"path": "/etc/passwd"}, 400, "field 'path'"),
        ({"picture": ("a.png", png())}, {}, 400, "field 'picture'"),
        ({}, {"k": "3"}, 415, "expected application/json or multipart/form-data"),
    ],
)
def test_forms_that_cannot_be_asked(asked, files, data, status, why):
    answer = asked.post("/search", files=files, data={"modality": "image"} | data)
    assert answer.status_code == status and (status == 200 or why in answer.json()["error"])


def test_an_upload_leaves_nothing_behind_and_its_name_leads_nowhere(served, tmp_path):
    with client(served) as opened:
        folder = Path(opened.app.state.api.uploads._folder.name)
        name = "../../../../" + str(tmp_path / "pictures" / "0.png")
        answer = opened.post("/search", files={"file": (name, png(7))}, data={"modality": "image"})
        assert answer.status_code == 200 and answer.json()["query"] == "0.png"
        assert not list(folder.iterdir())
    assert not folder.exists()
    assert (tmp_path / "pictures" / "0.png").read_bytes() == png(0)


def test_media_are_made_anew_and_rows_told(served, asked):
    picture, sound, cloud = (asked.get(f"/media/{row}") for row in ("image/3", "audio/2", "point_cloud/1"))
    kinds = [each.headers["content-type"] for each in (picture, sound, cloud)]
    assert kinds == ["image/jpeg", "audio/ogg", "application/octet-stream"]
    assert picture.content != png(3) and picture.content.startswith(b"\xff\xd8")
    assert sound.content[:4] == b"OggS" and len(cloud.content) == 300 * 6 * 4
    part = asked.get("/media/audio/2", headers={"Range": "bytes=4-7"})
    assert (part.status_code, part.content) == (206, sound.content[4:8])
    assert part.headers["content-range"] == f"bytes 4-7/{len(sound.content)}"
    assert asked.get("/media/audio/2", headers={"Range": "bytes=99999999-"}).status_code == 416
    assert asked.get("/rows/text/4").json()["text"] == "text 4"
    assert asked.get("/media/text/4").status_code == 422
    for nowhere in (
        "/media/image/12",
        "/media/image/-1",
        "/media/image/1.5",
        "/media/image/..%2f..%2fmem",
        "/media/x/1",
    ):
        assert asked.get(nowhere).status_code in (400, 404), nowhere


def test_points_of_a_cloud_are_few_centred_and_small():
    points = np.random.default_rng(0).normal(size=(10_000, 6)) * 50 + 1000
    packed = np.frombuffer(packed_points(points), "<f4").reshape(-1, 6)
    assert len(packed) <= 4096 and np.linalg.norm(packed[:, :3], axis=1).max() == pytest.approx(1)
    assert packed[:, 3:].min() >= 0 and packed[:, 3:].max() <= 1
    assert (np.frombuffer(packed_points(points[:, :3]), "<f4").reshape(-1, 6)[:, 3:] == -1).all()


def test_no_file_outside_of_the_roots_is_shown(served, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("HOME", str(tmp_path))
    with client(served) as opened:
        answer = opened.get("/media/image/3")
    assert answer.status_code == 422 and "outside of the working directory" in answer.json()["error"]


def test_the_map_names_every_row_it_draws(served, asked):
    drawn = asked.get("/map").json()
    assert drawn["total"] == len(drawn["points"]) == 9 + 12 + 5 + 9 + 8
    groups = [(each["encoder"], each["modality"], each["rows"]) for each in drawn["groups"]]
    assert groups == [
        ("seer", "image", 12), ("seer", "text", 9), ("hearer", "text", 9), ("hearer", "audio", 8),
        ("seer", "point_cloud", 5),
    ]  # fmt: skip
    for x, y, group, row, title in drawn["points"]:
        told = asked.get(f"/rows/{row}").json()
        assert max(abs(x), abs(y)) <= 1 and title == (told["text"] or told["id"])
        assert told["modality"] == groups[group][1]


def test_health_metrics_and_the_page(served, asked):
    assert asked.get("/health").json()["status"] == "ok"
    ask(asked, text="a", modality="image")
    ask(asked, text="a", modality="image", k=0)
    text = asked.get("/metrics").text
    assert 'cmcr_requests_total{route="/search",status="200"} 1' in text
    assert 'cmcr_requests_total{route="/search",status="400"} 1' in text
    assert 'cmcr_request_seconds_bucket{route="/search",le="+Inf"} 2' in text and "cmcr_rows 34" in text
    assert "cmcr_kept_media_bytes 0" in text
    page = asked.get("/")
    assert (
        page.headers["content-type"].startswith("text/html") and "unsafe" not in page.headers["content-security-policy"]
    )
    assert asked.get("/static/page.js").headers["content-type"].startswith("text/javascript")
    for nowhere in ("/static/../app.py", "/static/app.py", "/nothing", "/static/"):
        assert asked.get(nowhere).status_code == 404
    refused = asked.get("/search")
    assert refused.status_code == 405 and refused.headers["allow"] == "POST" and refused.json()["error"]


def test_every_answer_leaves_with_the_headers_of_the_door(asked):
    for path in ("/", "/health", "/nothing", "/media/image/0", "/media/image/99"):
        headers = asked.get(path).headers
        assert (
            headers["x-content-type-options"] == "nosniff"
            and "default-src 'none'" in headers["content-security-policy"]
        )
        assert headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "127.0.0.1.evil.example"}, 421),
        ({"Host": ""}, 421),
        ({"Host": "localhost:1"}, 200),
        ({"Host": "[::1]:8321"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:3000"}, 403),
        ({"Origin": "http://127.0.0.1:8321"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Content-Length": str(33 << 20)}, 413),
        ({"Content-Length": "-1"}, 413),
    ],
)
def test_who_may_ask(asked, headers, status):
    body = {"headers": headers} | ({} if "Content-Length" in headers else {"json": {"text": "a", "modality": "image"}})
    answer = asked.post("/search", **body)
    assert answer.status_code == status


def test_a_link_from_elsewhere_may_be_followed_to_the_page_alone(asked):
    followed = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert asked.get("/?q=dog", headers=followed).status_code == 200
    assert asked.get("/media/image/0", headers=followed).status_code == 403


def test_a_body_longer_than_it_said_is_cut_off(served):
    with client(served, max_upload=1) as opened:
        chunks = (b"x" * 65_536 for _ in range(64))
        answer = opened.post("/search", content=chunks, headers={"Content-Type": "multipart/form-data; boundary=x"})
        assert answer.status_code == 413 and "--max-upload" in answer.json()["error"]


TOKEN = "0123456789abcdef"


def test_with_a_token_nothing_is_told_without_it(served):
    settings = Serving(host="0.0.0.0", token=TOKEN)
    with client(served, settings) as opened:
        assert opened.get("/health").status_code == 200
        for path in ("/", "/space", "/media/image/0", "/static/page.js", "/openapi.json", "/metrics", "/?token=wrong"):
            answer = opened.get(path)
            assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
        for wrong in ("Bearer wrong", f"Basic {TOKEN}", "Bearer", f"Bearer {TOKEN}x"):
            assert opened.get("/space", headers={"Authorization": wrong}).status_code == 401
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        assert opened.get("/space", headers=bearer).status_code == 200
        assert opened.get("/space", headers=bearer | {"Host": "any.example"}).status_code == 200
        linked = opened.get(f"/?token={TOKEN}", follow_redirects=False)
        cookie = linked.headers["set-cookie"]
        assert (linked.status_code, linked.headers["location"]) == (303, "/")
        assert "HttpOnly" in cookie and "SameSite=lax" in cookie and TOKEN not in cookie
        assert opened.get("/space").status_code == 200  # by the cookie that it now has
        told = opened.get("/openapi.json").json()
        assert told["security"] == [{"token": []}] and told["paths"]["/health"]["get"]["security"] == []


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"host": "0.0.0.0"}, "others reach it; expected --token"),
        ({"token": "short"}, "5 characters; expected"),
        ({"port": 70_000}, "port"),
    ],
)
def test_settings_that_are_refused(given, why):
    with pytest.raises(InputError, match=why):
        Serving(**given)


class Slow(FakeEncoder):
    """Decodes what begins with ``slow`` only when it is let."""

    begun, go = threading.Semaphore(0), threading.Event()

    def prepare(self, item, data):
        if data.startswith(b"slow"):
            Slow.begun.release()
            assert Slow.go.wait(20)
        return super().prepare(item, data)


@pytest.fixture
def slow(tmp_path, monkeypatch):
    Slow.go.clear()
    yield service(tmp_path, monkeypatch, lambda name, *rest, **more: Slow(name))
    Slow.go.set()


def test_a_slow_query_holds_nobody_up(slow):
    with client(slow, threads=2) as opened:
        answers = []
        late = threading.Thread(target=lambda: answers.append(ask(opened, text="slow dog", modality="image")[0]))
        late.start()
        assert Slow.begun.acquire(timeout=10)
        assert [ask(opened, text=f"dog {n}", modality="image")[0] for n in range(5)] == [200] * 5
        assert opened.post("/search", files={"file": ("a.png", png())}, data={"modality": "text"}).status_code == 200
        assert not answers
        Slow.go.set()
        late.join(10)
        assert answers == [200]


@pytest.mark.parametrize("file", [("a.txt", b"slow dog"), ("a.png", b"slow" + png())])
def test_a_slow_decoder_holds_no_text_of_its_encoder_up(slow, monkeypatch, file):
    """Decoding happens outside of the encoder's lock, in the threads of uploads: one query thread serves on."""
    prepared = FakeEncoder.prepare
    monkeypatch.setattr(
        FakeEncoder, "prepare", lambda self, item, data: prepared(self, item, data.replace(b"slow", b""))
    )
    with client(slow, threads=1) as opened:
        answers = []
        send = {"files": {"file": file}, "data": {"modality": "image"}}
        late = threading.Thread(target=lambda: answers.append(opened.post("/search", **send).json()))
        late.start()
        assert Slow.begun.acquire(timeout=10)
        told = [ask(opened, text=f"dog {n}", modality="image") for n in range(5)]
        assert [(code, answer["encoder"]) for code, answer in told] == [(200, "seer")] * 5
        assert not answers
        Slow.go.set()
        late.join(10)
        assert answers[0]["encoder"] == "seer"


def test_a_query_is_embedded_in_the_thread_that_answers_it(tmp_path, monkeypatch):
    """Another thread a query would wait for a lock that all pools share, and the loop with it."""
    seen, before = set(), sys.getswitchinterval()

    class Watched(FakeEncoder):
        def prepare(self, item, data):
            seen.add(("prepare", threading.current_thread().name.rpartition("_")[0], sys.getswitchinterval()))
            return super().prepare(item, data)

        def encode(self, modality, prepared):
            seen.add(("encode", threading.current_thread().name.rpartition("_")[0], sys.getswitchinterval()))
            return super().encode(modality, prepared)

    with client(service(tmp_path, monkeypatch, lambda name, *rest, **more: Watched(name))) as opened:
        assert ask(opened, text="dog", modality="image")[0] == 200
        assert opened.post("/search", files={"file": ("a.png", png())}, data={"modality": "text"}).status_code == 200
    assert seen == {(each, "cmcr-serve", before) for each in ("prepare", "encode")}


def test_who_asks_first_is_served_first():
    begun, gate = [], threading.Event()

    async def many():
        workers = Workers(1, waiting=30, timeout=20.0)
        first = asyncio.ensure_future(workers.run(gate.wait, 20))
        others = [asyncio.ensure_future(workers.run(begun.append, number)) for number in range(25)]
        await asyncio.sleep(0)
        gate.set()
        await asyncio.gather(first, *others)
        workers.close()

    asyncio.run(many())
    assert begun == [*range(25)]


def test_late_and_too_many_queries_are_told_so(slow):
    with client(slow, threads=1, waiting=1, timeout=0.3) as opened:
        code, answer = ask(opened, text="slow dog", modality="image")
        assert code == 504 and "0.3 seconds" in answer["error"]  # its thread is still at work
        code, answer = ask(opened, text="dog", modality="image")
        assert code == 504
        workers = opened.app.state.api.queries
        workers.busy += 1
        refused = opened.post("/search", json={"text": "dog", "modality": "image"})
        assert refused.status_code == 503 and refused.headers["retry-after"] == "1"
        workers.busy -= 1
        Slow.go.set()
        while workers.busy:
            Slow.go.wait(0.01)
        assert ask(opened, text="dog", modality="image")[0] == 200


def test_a_modality_that_nothing_embeds_here_is_told_with_its_reason(tmp_path, monkeypatch):
    def load(name, *rest, **more):
        if name == "hearer":
            raise UnknownEncoderError("unknown encoder 'hearer'")
        return FakeEncoder(name)

    with client(service(tmp_path, monkeypatch, load)) as opened:
        told = {each["modality"]: each for each in opened.get("/space").json()["queries"]}
        assert told["image"]["missing"] == "" and "its vectors were imported" in told["audio"]["missing"]
        answer = opened.post("/search", files={"file": ("a.wav", wav())}, data={"modality": "image"})
        assert answer.status_code == 422 and answer.json()["error"] == told["audio"]["missing"]
        assert ask(opened, row="audio/3", modality="image")[0] == 200  # a row needs no encoder


def test_encoders_are_loaded_once_whoever_asks(tmp_path, monkeypatch):
    loaded = []
    served = service(tmp_path, monkeypatch, lambda name, *rest, **more: loaded.append(name) or FakeEncoder(name))
    with client(served) as opened:
        for weights in ({}, {"hearer:text": 1}, {"seer:text": 2}):
            assert ask(opened, text="dog", modality="image", weights=weights)[0] == 200
    assert sorted(loaded) == ["hearer", "seer"]


def test_a_fault_is_told_without_its_inside(served, asked, monkeypatch):
    monkeypatch.setattr(Service, "search", lambda self, question: 1 / 0)
    code, answer = ask(asked, text="a", modality="image")
    assert code == 500 and answer["error"].startswith("ZeroDivisionError; this is a fault of cmcr")


def test_nothing_to_search_is_refused(served, tmp_path):
    with pytest.raises(InputError, match="hold nothing"):
        Service(ReadySubject("s", served.subject.space), [])


def test_where_the_first_encoder_does_not_run_another_one_embeds(tmp_path, monkeypatch):
    def load(name, *rest, **more):
        if name == "seer":
            raise UnknownEncoderError("unknown encoder 'seer'")
        return FakeEncoder(name)

    with client(service(tmp_path, monkeypatch, load)) as opened:
        code, answer = ask(opened, text="dog", modality="audio")
        assert (code, answer["encoder"]) == (200, "hearer")
        told = {each["modality"]: each["missing"] for each in opened.get("/space").json()["queries"]}
        assert told["text"] == told["audio"] == "" and "seer embeds image" in told["image"]


def test_the_token_may_be_said_unseen(monkeypatch):
    monkeypatch.setenv("CMCR_TOKEN", TOKEN)
    assert Serving(host="0.0.0.0").token == TOKEN


def test_a_port_in_use_is_told_in_one_line(served, tmp_path, capsys):
    served.subject.space.save(tmp_path / "space")
    with take_port(Serving(port=0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["serve", "space", "--in", "mem/seer", "--port", port]) == 1
    told = capsys.readouterr().err
    assert told == f"error: port {port} of 127.0.0.1 is in use; choose another with --port\n"


def test_a_server_without_its_libraries_names_the_extra(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert main(["serve", "space", "--in", "mem/seer"]) == 1
    assert "pip install 'cmcr[serve]'" in capsys.readouterr().err


@pytest.mark.slow
def test_a_server_begins_answers_and_ends_at_ctrl_c(tmp_path):
    """From the command line, on imported vectors: rows are asked, words cannot be, and the end is quiet."""
    memory = make_memory(tmp_path / "seer", "seer", {TEXT: texts(9), IMAGE: {"a": ("a.png", None, b"a")}})
    make_space().save(tmp_path / "space")
    command = [sys.executable, "-m", "cmcr", "serve", "space", "--in", memory.path.name, "--port", "0"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as server:
        said = []
        while not said or "Ctrl-C ends" not in said[-1]:
            said.append(server.stderr.readline())
            assert said[-1], said
        address = re.search(r"open (http://\S+)", said[-1])[1]
        answer = httpx.post(f"{address}search", json={"row": "image/0", "modality": "text", "k": 2}, timeout=60)
        words = httpx.post(f"{address}search", json={"text": "a", "modality": "text"}, timeout=60)
        server.send_signal(signal.SIGINT)
        server.send_signal(signal.SIGINT)  # pressed twice
        rest = server.stderr.read()
    assert (answer.status_code, len(answer.json()["hits"])) == (200, 2)
    assert words.status_code == 422 and "imported" in words.json()["error"]
    assert any(line.startswith("warning: no query of text: ") for line in said)
    assert (server.returncode, rest) == (0, "ended\n")
