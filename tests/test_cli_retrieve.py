"""The commands a person types: what goes to stdout and stderr, the exit codes, and what is refused."""

import csv
import io
import json

import numpy as np
import pytest
from spaces import load_fake_encoder, make_memory, make_space, texts

from cmcr.ask import subject as subject_module
from cmcr.cli import main
from cmcr.modality import Modality

TEXT, IMAGE, AUDIO = Modality.TEXT, Modality.IMAGE, Modality.AUDIO


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.setattr(subject_module, "load_encoder", load_fake_encoder)
    monkeypatch.chdir(tmp_path)
    make_space().save("space")
    pairs = {f"x{n}": (f"../p{n}.png", None, b"%d" % n) for n in range(12)}
    make_memory(tmp_path / "seen", "seer", {IMAGE: pairs, TEXT: texts(5)})
    make_memory(tmp_path / "heard", "hearer", {AUDIO: {name: pairs[name] for name in list(pairs)[:9]}})
    make_memory(tmp_path / "alien", "seer", {IMAGE: pairs}, fingerprint="0" * 64)
    (tmp_path / "dog.wav").write_bytes(b"woof")
    (tmp_path / "broken.wav").write_bytes(b"broken")
    (tmp_path / "q.txt").write_text("text 1\ntext 2\n")
    return tmp_path


def run(capsys, *argv):
    code = main([str(part) for part in argv])
    out, err = capsys.readouterr()
    return code, out, err


def ask(capsys, *argv):
    code, out, err = run(capsys, "retrieve", "space", *argv)
    assert code == 0, err
    return out, err


def test_hits_are_tab_separated_away_from_a_terminal_and_the_talk_is_on_stderr(world, capsys):
    out, err = ask(capsys, "dog.wav", "--in", "seen", "--modality", "image", "-k", "3")
    rows = list(csv.reader(io.StringIO(out), delimiter="\t"))
    assert rows[0] == ["rank", "score", "id", "what"]
    assert [row[0] for row in rows[1:]] == ["1", "2", "3"]
    assert rows[1][3] == f"../p{rows[1][2][1:]}.png"
    assert err.startswith("next: cmcr retrieve space dog.wav --in seen --modality image")


def test_json_is_one_document_with_everything(world, capsys):
    out, _ = ask(capsys, "a dog", "--in", "seen", "--modality", "text", "--json")
    answer = json.loads(out)
    assert (answer["query"], answer["query_modality"], answer["encoder"]) == ("a dog", "text", "seer")
    assert (answer["space"], answer["gallery"], answer["search"]) == ("space", 5, "exact")
    assert [hit["rank"] for hit in answer["hits"]] == [1, 2, 3, 4, 5]
    assert set(answer["hits"][0]) == {"rank", "id", "score", "source", "text", "path"}


def test_a_batch(world, capsys):
    out, _ = ask(capsys, "--queries", "q.txt", "--in", "seen", "--modality", "text", "-k", "1")
    assert [line.split("\t")[:2] for line in out.splitlines()] == [["query", "rank"], ["text 1", "1"], ["text 2", "1"]]
    out, _ = ask(capsys, "--queries", "q.txt", "--in", "seen", "--modality", "text", "-k", "1", "--json")
    assert [query["hits"][0]["text"] for query in json.loads(out)["queries"]] == ["text 1", "text 2"]


def test_a_bad_query_of_a_batch_is_said_and_left_out(world, capsys):
    out, err = ask(capsys, "--queries", "*.wav", "--in", "seen", "--modality", "image", "-k", "1")
    assert len(out.splitlines()) == 2
    assert "broken.wav: cannot be decoded; left out" in err


def test_the_modality_may_be_left_out_where_there_is_one(world, capsys):
    out, err = ask(capsys, "heard#x3", "--in", "heard")
    assert out.splitlines()[1].split("\t")[2] == "x3"
    assert "the gallery holds 9 rows, fewer than -k 10" in err


def test_the_page_is_written(world, capsys):
    _, err = ask(capsys, "dog.wav", "--in", "seen", "--modality", "image", "--html", "out/hits.html")
    assert "wrote out/hits.html" in err
    assert "file not found" in (world / "out" / "hits.html").read_text()


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivf"])
def test_an_index_is_made_and_used(kind, world, capsys):
    exact, _ = ask(capsys, "dog.wav", "--in", "seen", "--modality", "image", "--json")
    code, out, err = run(capsys, "index", "seen", "--space", "space", "--modality", "image", "--kind", kind, "--json")
    assert (code, json.loads(out)["rows"]) == (0, 12)
    assert f"--index {kind}" in err
    found, _ = ask(capsys, "dog.wav", "--in", "seen", "--modality", "image", "--index", kind, "--json")
    assert [h["id"] for h in json.loads(found)["hits"]] == [h["id"] for h in json.loads(exact)["hits"]]


def test_the_cure_of_a_missing_index_is_a_command_that_works(world, capsys):
    search = ("retrieve", "space", "a dog", "--in", "seen", "--modality", "text", "--index", "ivf")
    code, out, err = run(capsys, *search)
    assert (code, out) == (1, "")
    cure = err.strip().rpartition("make it: cmcr ")[2]
    assert run(capsys, *cure.split())[0] == 0
    assert run(capsys, *search)[0] == 0


@pytest.mark.parametrize("kind", ["npy", "parquet", "faiss", "torch"])
def test_export(kind, world, capsys):
    source = ["seen"] if kind != "torch" else []
    code, out, err = run(capsys, "export", "space", *source, "-o", "out", "--format", kind, "--json")
    assert code == 0
    files = json.loads(out)["files"]
    assert all((world / file["path"]).stat().st_size == file["bytes"] for file in files)
    assert err.startswith("next: ")
    if kind == "npy":
        assert np.load(world / "out" / "image.npy").shape == (12, 10)


def test_eval_retrieval(world, capsys):
    argv = ["eval", "retrieval", "space", "--a", "heard:audio", "--b", "seen:image"]
    code, out, err = run(capsys, *argv, "-o", "result.json")
    assert code == 0
    assert [line.split("\t")[0] for line in out.splitlines()[1:]] == ["audio->image", "image->audio", "chance"]
    assert "3 of 12 image rows have no partner and were left out" in err
    assert "next: cmcr retrieve space QUERY --in seen --modality image" in err
    _, out, _ = run(capsys, *argv, "--json")
    assert json.loads(out)["values"] == json.loads((world / "result.json").read_text())["values"]


RETRIEVE = ["retrieve", "space", "a dog", "--in", "seen", "--modality", "image"]
FAILURES = {
    "no space": (["retrieve", "nowhere", "dog", "--in", "seen"], 1, "nowhere: not a connected space"),
    "no memory": (["retrieve", "space", "dog", "--in", "nowhere"], 1, "nowhere"),
    "no choice of modality": (
        ["retrieve", "space", "dog", "--in", "seen"],
        1,
        "choose what to look for with --modality",
    ),
    "another encoder": (["retrieve", "space", "dog", "--in", "alien"], 1, "alien was made by seer (000000000000)"),
    "modality not in the memory": ([*RETRIEVE[:-1], "audio"], 1, "no audio"),
    "unreadable query": (["retrieve", "space", "broken.wav", "--in", "heard"], 1, "cannot be decoded"),
    "missing file": (["retrieve", "space", "cat.wav", "--in", "heard"], 1, "cat.wav: no such file"),
    "missing row": (["retrieve", "space", "heard#y", "--in", "heard"], 1, "no row 'y'"),
    "unknown encoder": ([*RETRIEVE, "--encoder", "sear"], 1, "did you mean 'seer'?"),
    "unknown device": ([*RETRIEVE, "--device", "tpu"], 1, "unknown device 'tpu'"),
    "no queries": (["retrieve", "space", "--queries", "none/*", "--in", "heard"], 1, "none/*"),
    "export of no memory": (["export", "space", "nowhere", "-o", "out"], 1, "nowhere"),
    "eval of no pairs": (
        ["eval", "retrieval", "space", "--a", "heard:audio", "--b", "seen:text"],
        1,
        "no id is in both",
    ),
    "no query": (["retrieve", "space", "--in", "heard"], 2, "expected a QUERY or --queries FILE"),
    "two queries": ([*RETRIEVE, "--queries", "q.txt"], 2, "and not both"),
    "k of zero": ([*RETRIEVE, "-k", "0"], 2, "-k"),
    "unknown modality": ([*RETRIEVE[:-1], "smell"], 1, "holds no smell; it holds"),
    "unknown index": ([*RETRIEVE, "--index", "pq"], 2, "pq"),
    "vectors of no memory": (["export", "space", "-o", "out"], 2, "name the memory"),
    "projectors of a memory": (["export", "space", "seen", "-o", "out", "--format", "onnx"], 2, "name no memory"),
    "eval without a modality": (
        ["eval", "retrieval", "space", "--a", "heard", "--b", "seen:image"],
        2,
        "MEMORY:MODALITY",
    ),
    "eval of an unknown one": (["eval", "retrieval", "space", "--a", "heard:adio", "--b", "seen:image"], 2, "audio"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_failures_say_why_on_stderr_and_leave_stdout_empty(name, world, capsys):
    argv, expected, words = FAILURES[name]
    code, out, err = run(capsys, *argv)
    assert (code, out) == (expected, ""), err
    assert words in " ".join(err.replace("│", " ").split())
    if code == 1:
        assert err.startswith("error: ")
        assert err.count("\n") == 1
