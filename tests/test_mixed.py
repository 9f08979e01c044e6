"""Items that several encoders of a space see: queries embedded by each, rows of one id in several memories."""

import json

import numpy as np
import pytest
from spaces import DIMS, load_fake_encoder, make_memory, make_space, texts, vector_of

from cmcr import Memory, Modality
from cmcr.ask import Gallery, Subject, ask
from cmcr.ask import subject as subject_module
from cmcr.ask.retrieve import retrieve
from cmcr.cli import main
from cmcr.errors import CmcrError, InputError

TEXT, IMAGE, AUDIO = Modality.TEXT, Modality.IMAGE, Modality.AUDIO
WORDS = b"a dog"
RAW = {name: vector_of(WORDS, dim)[None] for name, dim in DIMS.items()}


@pytest.fixture
def world(tmp_path, monkeypatch):
    """One space of two encoders of texts; t0-t4 are in both memories, t5-t7 in the second alone."""
    monkeypatch.setattr(subject_module, "load_encoder", load_fake_encoder)
    monkeypatch.chdir(tmp_path)
    make_space().save("space")
    things = {f"x{n}": (f"p{n}.png", None, b"%d" % n) for n in range(6)}
    make_memory(tmp_path / "seen", "seer", {IMAGE: things, TEXT: texts(5)})
    make_memory(tmp_path / "heard", "hearer", {TEXT: texts(8), AUDIO: things})
    return make_space()


def asked(capsys, *arguments):
    capsys.readouterr()
    assert main(["retrieve", "space", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("options", "weights"),
    [
        ([], {"seer": 1}),
        (["--weight", "hearer:text=0.5"], {"seer": 1, "hearer": 0.5}),
        (["--weight", "hearer:text=2", "--weight", "seer:text=1e-1"], {"seer": 0.1, "hearer": 2}),
        (["--weight", "hearer:text=2", "--weight", "seer:text=0"], {"hearer": 1}),
        (["--encoder", "hearer", "--weight", "seer:text=3"], {"hearer": 1, "seer": 3}),
        (["--encoder", "hearer", "--encoder", "seer"], {"hearer": 1, "seer": 1}),
    ],
)
def test_a_query_is_the_weighted_mean_of_what_those_asked_for_see(world, capsys, options, weights):
    found = asked(capsys, "a dog", "--in", "seen", "--modality", "image", *options)
    raw = {name: RAW[name] for name in weights}
    vector = world.mix(raw, modality=TEXT, weights=weights)
    assert found["encoder"] == "+".join(weights)
    expected = retrieve(world, vector, Memory.open("seen"), IMAGE)[0]
    assert [hit["id"] for hit in found["hits"]] == [hit.id for hit in expected]
    assert np.allclose([hit["score"] for hit in found["hits"]], [hit.score for hit in expected], atol=1e-6)
    told = [option for option in options if ":" in option]
    assert found.get("weights", "").split(", ") == [each.replace("1e-1", "0.1") for each in told] or not told


def test_who_weighs_nothing_is_not_asked(world, monkeypatch):
    def load(name, *arguments, **options):
        assert name == "hearer"
        return load_fake_encoder(name)

    monkeypatch.setattr(subject_module, "load_encoder", load)
    subject = Subject("space", world, shares={TEXT: {"seer": 0, "hearer": 1}})
    assert ask(subject, "a dog").encoder == "hearer"


def test_what_one_of_them_cannot_embed_is_left_out_with_its_reason(world, monkeypatch):
    def load(name, *arguments, **options):
        encoder = load_fake_encoder(name)
        encoder.encode = lambda modality, prepared: np.stack(
            [vector_of(b"nothing" if name == "hearer" and data == b"hush" else data, encoder.dim) for data in prepared]
        )
        return encoder

    monkeypatch.setattr(subject_module, "load_encoder", load)
    subject = Subject("space", world, shares=["hearer:text=1"])
    assert ask(subject, "a dog").encoder == "seer+hearer"
    with pytest.raises(InputError, match="query 'hush'"):
        ask(subject, "hush")
    assert ask(world, "hush").encoder == "seer"


def test_rows_of_one_id_in_several_memories_are_one_item(world, capsys):
    seen, heard = Memory.open("seen"), Memory.open("heard")
    gallery = Gallery(world, [seen, heard], TEXT, {"hearer": 3})
    placed = np.concatenate(list(gallery.projected()))
    both = {"seer": seen.vectors(TEXT), "hearer": heard.vectors(TEXT)[:5]}
    assert gallery.ids(TEXT) == [f"t{n}" for n in range(8)]
    assert np.allclose(placed[:5], world.mix(both, modality=TEXT, weights={"hearer": 3}), atol=1e-6)
    assert np.allclose(placed[5:], world.project(heard, modality=TEXT)[5:], atol=1e-6)
    places = ["--in", "seen", "--in", "heard", "--modality", "text"]
    found = asked(capsys, "a dog", *places, "--weight", "hearer:text=3", "-k", "8")
    query = world.mix(RAW, modality=TEXT, weights={"hearer": 3})[0]
    scores = placed @ query
    assert [hit["id"] for hit in found["hits"]] == [f"t{n}" for n in np.argsort(-scores)]
    assert (found["gallery"], found["memory"]) == (8, "seen + heard")
    assert {hit["id"]: hit["text"] for hit in found["hits"]}["t7"] == "text 7"
    row = asked(capsys, "seen:text#t1", *places, "--weight", "hearer:text=0")  # a row is its own encoder's
    assert row["encoder"] == "seer" and row["hits"][0]["id"] == "t1"


def test_ids_join_whichever_memory_comes_first(world):
    one, other = (
        Gallery(world, [Memory.open(name) for name in names], TEXT) for names in (("seen", "heard"), ("heard", "seen"))
    )
    by_id = [dict(zip(each.ids(TEXT), np.concatenate(list(each.projected())), strict=True)) for each in (one, other)]
    assert by_id[0].keys() == by_id[1].keys()
    assert all(np.allclose(by_id[0][name], by_id[1][name], atol=1e-6) for name in by_id[0])


def test_a_page_shows_each_item_from_the_memory_that_holds_it(world, tmp_path, capsys):
    make_memory(tmp_path / "sub" / "more", "hearer", {TEXT: {"z": ("z.txt", None, b"zzz")}})
    (tmp_path / "sub" / "more" / "z.txt").write_text("of the second memory")
    gallery = Gallery(world, [Memory.open("seen"), Memory.open("sub/more")], TEXT)
    assert gallery.source_path(gallery.row(TEXT, 5)).read_text() == "of the second memory"
    assert gallery.source_bytes(gallery.row(TEXT, 5)) == b"of the second memory"
    arguments = ["a dog", "--in", "seen", "--in", "sub/more", "--modality", "text", "--html", "hits.html"]
    assert main(["retrieve", "space", *arguments]) == 0
    assert "text 3" in (tmp_path / "hits.html").read_text()


def test_retrieval_is_measured_with_mixed_sides(world, tmp_path, capsys):
    arguments = ["--a", "seen:text", "--a", "heard:text", "--b", "heard:text", "--weight", "seer:text=0"]
    assert main(["eval", "retrieval", "space", *arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["n"] == 8 and found["settings"]["weights"] == "seer:text=0"
    assert all(values["recall@1"] == 1 for values in found["values"].values())  # both sides are the hearer's alone
    assert main(["eval", "retrieval", "space", "--a", "seen:text", "--b", "heard:text", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n"] == 5


def test_a_data_set_is_embedded_by_all_that_are_named(world, tmp_path, capsys):
    lines = []
    for number in range(6):
        (tmp_path / f"{number}.png").write_bytes(b"%d" % number)
        lines.append(json.dumps({"id": str(number), "image": f"{number}.png", "text": f"text {number}"}))
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines))
    command = ["eval", "retrieval", "space", "--data", "pairs.jsonl", "-o", "r", "--json"]
    assert main([*command, "--weight", "hearer:text=2"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["settings"]["encoders"] == {"image": "seer", "text": "seer+hearer"}
    assert found["settings"]["weights"] == "hearer:text=2"
    assert main([*command, "--weight", "hearer:audio=2"]) == 1
    assert "--weight hearer:audio=2: no audio is mixed with its view here" in capsys.readouterr().err


SUM = "the weights of seer, hearer for text sum to 0"
TWICE = "hearer has a weight for text already; say one"
UNKNOWN = "encoder 'herer' is not in this space (seer, hearer); did you mean 'hearer'"
HERE = ["a dog", "--in", "seen", "--modality", "image"]
BOTH = ["a dog", "--in", "seen", "--in", "heard", "--modality", "text"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*HERE, "--weight", "hearer=1"], "'hearer=1'; expected ENCODER:MODALITY=WEIGHT, such as"),
        ([*HERE, "--weight", "1"], "'1'; expected ENCODER:MODALITY=WEIGHT"),
        ([*HERE, "--weight", "herer:text=1"], UNKNOWN),
        ([*HERE, "--weight", "hearer:image=1"], "modality 'image' is not in this space (hearer: text, audio)"),
        ([*HERE, "--weight", "hearer:tex/t=1"], "modality 'tex/t'"),
        ([*HERE, "--weight", "hearer:text=-1"], "'-1'; expected a finite number of 0 or more"),
        ([*HERE, "--weight", "hearer:text=nan"], "'nan'; expected a finite number of 0 or more"),
        ([*HERE, "--weight", "hearer:text=inf"], "'inf'; expected a finite number"),
        ([*HERE, "--weight", "hearer:text="], "''; expected a finite number"),
        ([*HERE, "--weight", "hearer:text=1", "--weight", "hearer:text=2"], TWICE),
        ([*HERE, "--weight", "hearer:text=0", "--weight", "seer:text=0"], SUM),
        ([*HERE, "--weight", "seer:image=1"], "seer:image=1: no image is mixed with its view here"),
        ([*HERE, "--encoder", "hearer", "--encoder", "herer"], "encoder 'herer' is not in this space"),
        (["a dog", "--in", "seen", "--in", "seen", "--modality", "text"], "seen is given twice; name each memory once"),
        (["a dog", "--in", "seen", "--in", "heard", "--modality", "image"], "heard holds text, audio, no image"),
        ([*BOTH, "--index", "hnsw"], "--index hnsw is of one memory, and the gallery is seen + heard"),
        (["seen:text#t1", *BOTH[1:], "--weight", "seer:text=0", "--weight", "hearer:text=0"], "sum to 0"),
    ],
)  # fmt: skip
def test_weights_and_galleries_that_cannot_be_are_refused_in_one_line(world, capsys, arguments, message):
    assert main(["retrieve", "space", *arguments]) == 1
    out, told = capsys.readouterr()
    assert message in told and told.startswith("error: ") and told.count("\n") == 1 and not out


def test_what_is_one_thing_by_id_alone_is_refused(world, tmp_path):
    make_memory(tmp_path / "other", "hearer", {TEXT: texts(3, prefix="other")})
    with pytest.raises(InputError, match="text 't0' has different content in seen and other"):
        Gallery(world, [Memory.open("seen"), Memory.open("other")], TEXT)
    with pytest.raises(CmcrError, match="this space connects"):
        make_memory(tmp_path / "alien", "seer", {TEXT: texts(3)}, fingerprint="0" * 64)
        Gallery(world, [Memory.open("heard"), Memory.open("alien")], TEXT)


def test_a_bare_encoder_has_nothing_to_mix(world, capsys):
    for options, message in (
        (["--a", "seen:text", "--b", "seen:image", "--weight", "seer:text=1"], "it is for the encoders of a space"),
        (
            ["--a", "seen:text", "--a", "heard:text", "--b", "seen:image"],
            "2 memories of one side, and seer is one encoder",
        ),
    ):
        assert main(["eval", "retrieval", "seer", *options]) == 1
        assert message in capsys.readouterr().err
    assert main(["eval", "retrieval", "space", "--a", "seen:text", "--a", "seen:image", "--b", "heard:text"]) == 2
    assert "text and image; one side is of one modality" in capsys.readouterr().err
