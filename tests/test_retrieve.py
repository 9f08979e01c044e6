"""Asking a space: what a query may be, who embeds it, and what is refused."""

import re

import numpy as np
import pytest
from spaces import FakeEncoder, load_fake_encoder, make_memory, make_space, texts, vector_of

from cmcr.ask import ask, ask_many, make_index, open_index
from cmcr.ask import subject as module
from cmcr.ask.retrieve import retrieve
from cmcr.errors import ArtifactError, InputError, UnknownEncoderError
from cmcr.files import locked
from cmcr.items import Item
from cmcr.memory import Memory, Row
from cmcr.modality import Modality
from cmcr.search.faiss import FaissIndex

TEXT, IMAGE, AUDIO, CLOUD = Modality.TEXT, Modality.IMAGE, Modality.AUDIO, Modality.POINT_CLOUD


@pytest.fixture(autouse=True)
def encoders(monkeypatch):
    monkeypatch.setattr(module, "load_encoder", load_fake_encoder)


@pytest.fixture
def space():
    return make_space()


@pytest.fixture
def gallery(tmp_path):
    pictures = {f"p{n}": (f"../photos/p{n}.png", None, f"picture {n}".encode()) for n in range(20)}
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "p3.png").write_bytes(b"picture 3")
    return make_memory(tmp_path / "mem", "seer", {IMAGE: pictures, TEXT: texts(5)})


def naive(space, gallery, modality, vector):
    scores = space.project(gallery, modality=modality) @ vector
    return [gallery.ids(modality)[row] for row in np.argsort(-scores)]


def test_a_text_is_embedded_by_the_first_encoder_and_finds_what_a_naive_search_finds(space, gallery):
    query = ask(space, "a dog barks")
    expected = space.project(vector_of(b"a dog barks", 12)[None], encoder="seer", modality=TEXT)[0]
    assert (query.encoder, query.modality, query.name) == ("seer", TEXT, "a dog barks")
    np.testing.assert_allclose(query.vector, expected, atol=1e-6)
    (hits,) = retrieve(space, [query], gallery, IMAGE, k=7)
    assert [hit.id for hit in hits] == naive(space, gallery, IMAGE, expected)[:7]
    assert [hit.rank for hit in hits] == list(range(1, 8))
    assert hits[0].score == pytest.approx(np.max(space.project(gallery, modality=IMAGE) @ expected), abs=1e-6)


def test_one_maker_of_indexes_at_a_time(space, gallery):
    with locked(gallery.path / "index"), pytest.raises(ArtifactError, match="another run is writing to it"):
        make_index(space, gallery, IMAGE, "flat")
    path, _ = make_index(space, gallery, IMAGE, "flat")
    assert path.is_file()


def test_another_encoder_can_be_chosen(space):
    query = ask(space, "a dog barks", encoder="hearer")
    expected = space.project(vector_of(b"a dog barks", 9)[None], encoder="hearer", modality=TEXT)[0]
    np.testing.assert_allclose(query.vector, expected, atol=1e-6)


def test_a_file_is_embedded_by_the_encoder_of_its_modality(space, gallery, tmp_path):
    sound = tmp_path / "dog.wav"
    sound.write_bytes(b"woof")
    query = ask(space, str(sound))
    assert (query.encoder, query.modality) == ("hearer", AUDIO)
    assert isinstance(query.source, Item)
    (hits,) = retrieve(space, [query], gallery, IMAGE, k=1)
    assert hits[0].id == naive(space, gallery, IMAGE, query.vector)[0]


def test_a_row_of_a_memory_is_a_query_and_finds_itself_first(space, gallery):
    query = ask(space, f"{gallery.path}#p13")
    assert (query.modality, query.memory.path, query.source.id) == (IMAGE, gallery.path, "p13")
    (hits,) = retrieve(space, [query], gallery, IMAGE, k=3)
    assert hits[0].id == "p13"
    assert hits[0].score == pytest.approx(1, abs=1e-5)


def test_a_row_query_needs_no_encoder_that_runs(space, gallery, monkeypatch):
    monkeypatch.setattr(module, "load_encoder", lambda name, device, **_: 1 / 0)
    assert isinstance(ask(space, f"{gallery.path}#t2").source, Row)


def test_an_id_of_two_modalities_needs_a_choice(space, tmp_path):
    both = {"x": ("x", "x", b"x")}
    memory = make_memory(tmp_path / "m#1", "seer", {IMAGE: both, TEXT: both})
    with pytest.raises(InputError, match=r"m#1#x is image and text; say which: .*m#1:image#x"):
        ask(space, f"{memory.path}#x")
    assert ask(space, f"{memory.path}#x", modality=TEXT).modality is TEXT


def test_a_row_is_named_with_its_modality_and_by_ids_and_folders_with_any_marks(space, tmp_path):
    ids = ["x", "a#b", "a:b", "image#x", "caf\u00e9"]
    entries = {name: (name, name, name.encode()) for name in ids}
    for folder in ("m", "m#1", "m:1", "m:image"):
        make_memory(tmp_path / folder, "seer", {IMAGE: entries, TEXT: {"x": ("x", "x", b"x")}})
        for name in ids:
            found = ask(space, f"{tmp_path}/{folder}:image#{name}")
            assert (found.modality, found.source.id, found.memory.path) == (IMAGE, name, tmp_path / folder)
    assert ask(space, f"{tmp_path}/m#cafe\u0301 ").source.id == "caf\u00e9"
    assert ask(space, f"{tmp_path}/m:text#x").modality is TEXT
    with pytest.raises(InputError, match="m:text#x is text, and image is asked for; say one of the two"):
        ask(space, f"{tmp_path}/m:text#x", modality=IMAGE)


def test_a_name_with_two_meanings_is_refused(space, tmp_path):
    make_memory(tmp_path / "m", "seer", {TEXT: {"1#x": ("x", "x", b"x"), "y": ("y", "y", b"y")}})
    make_memory(tmp_path / "m#1", "seer", {TEXT: {"x": ("x", "x", b"x")}})
    with pytest.raises(InputError, match=r"m#1#x: a row of .*m and of .*m#1; "):
        ask(space, f"{tmp_path}/m#1#x")
    assert ask(space, f"{tmp_path}/m#y").source.id == "y"
    twice = make_memory(tmp_path / "twice", "seer", {TEXT: {n: (n, n, n.encode()) for n in ("z ", " z")}})
    with pytest.raises(InputError, match="'z ' and ' z' differ only in how their letters are composed"):
        ask(space, f"{twice.path}#z")
    assert ask(space, f"{twice.path}#z ").source.id == "z "


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere:image#x", "nowhere:image#x: nowhere is no memory; expected MEMORY#ID"),
        ("mem/gone#x", "mem/gone is no memory"),
        ("folder#x", "folder is no memory"),
        ("m:imge#x", "'imge' is no modality; did you mean 'image'"),
    ],
)
def test_a_row_of_no_memory_is_not_taken_for_a_text(space, tmp_path, monkeypatch, name, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    make_memory(tmp_path / "m", "seer", {TEXT: {"x": ("x", "x", b"x")}})
    with pytest.raises(InputError, match=message):
        ask(space, name)


def test_texts_and_files_may_hold_the_marks_of_a_row(space, tmp_path):
    for text in ("#sunset", "in C# and F#", "either/or, see #1", "a" * 5000 + "#b"):
        assert ask(space, text).source.text == text
    (tmp_path / "a#1.wav").write_bytes(b"woof")
    assert ask(space, f"{tmp_path}/a#1.wav").modality is AUDIO


def test_a_batch_keeps_its_order_and_a_bad_item_does_not_stop_it(space, gallery, tmp_path):
    folder = tmp_path / "asked"
    folder.mkdir()
    for name, data in {"a": b"woof", "b": b"broken", "c": b"nothing", "d": b"meow"}.items():
        (folder / f"{name}.wav").write_bytes(data)
    queries, failed = ask_many(space, str(folder))
    assert [query.name.rpartition("/")[2] for query in queries] == ["a.wav", "d.wav"]
    assert [(item.id, reason) for item, reason in failed] == [
        ("b", "cannot be decoded"),
        ("c", "its vector is zero"),
    ]
    together = retrieve(space, queries, gallery, IMAGE, k=4)
    assert together == [retrieve(space, [query], gallery, IMAGE, k=4)[0] for query in queries]


def test_a_file_of_texts_is_a_batch(space, tmp_path):
    (tmp_path / "q.txt").write_text("\n".join(f"text {n}" for n in range(150)))
    queries, failed = ask_many(space, str(tmp_path / "q.txt"))
    assert [query.name for query in queries] == [f"text {n}" for n in range(150)]
    assert not failed


def test_many_hits_are_told_apart(space, gallery):
    vectors = space.project(gallery, modality=IMAGE)
    for query, hits in zip(gallery.ids(IMAGE), retrieve(space, vectors, gallery, IMAGE, k=50), strict=True):
        assert (hits[0].id, len(hits)) == (query, 20)


def test_a_hit_knows_its_file_and_its_text(space, gallery, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (hits,) = retrieve(space, [ask(space, f"{gallery.path}#p3")], gallery, IMAGE, k=20)
    assert (hits[0].path, hits[0].source, hits[0].text) == ("photos/p3.png", "../photos/p3.png", None)
    assert all(hit.path is None for hit in hits[1:])  # the other files are gone, and that is no error
    (hits,) = retrieve(space, [ask(space, "text 2")], gallery, TEXT, k=1)
    assert (hits[0].text, hits[0].path) == ("text 2", None)


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivf"])
def test_an_index_gives_the_hits_of_the_exact_search(kind, space, gallery):
    make_index(space, gallery, IMAGE, kind)
    index = open_index(space, gallery, IMAGE, kind)
    assert isinstance(index, FaissIndex)
    queries = [ask(space, f"text {n}") for n in range(5)]
    found, exactly = (retrieve(space, queries, gallery, IMAGE, index=each) for each in (index, None))
    for number, (got, want) in enumerate(zip(found, exactly, strict=True)):
        near = 1e-5 if kind == "flat" else 5e-4  # the others keep vectors as float16
        np.testing.assert_allclose([hit.score for hit in got], [hit.score for hit in want], atol=near)
        exact = {hit.id: hit.score for hit in retrieve(space, queries, gallery, IMAGE, k=20)[number]}
        np.testing.assert_allclose([hit.score for hit in got], [exact[hit.id] for hit in got], atol=near)


def test_an_index_of_a_memory_that_has_grown_or_of_another_space_is_refused(space, gallery):
    make_index(space, gallery, TEXT, "flat")
    grown = make_memory(gallery.path, "seer", {TEXT: {"new": ("new", "new", b"new")}})
    with pytest.raises(
        ArtifactError, match=r"is stale: made of memory .* cmcr index .* --space spaces/x --modality text"
    ):
        open_index(space, grown, TEXT, "flat", "spaces/x")
    with pytest.raises(ArtifactError, match="there is no index"):
        open_index(make_space(seed=5), grown, TEXT, "flat")


def _refusals(tmp_path, gallery):
    (tmp_path / "x.wav").write_bytes(b"broken")
    (tmp_path / "x.ply").write_bytes(b"cloud")
    other = make_memory(tmp_path / "other", "seer", {IMAGE: texts(2)}, fingerprint="0" * 64)
    return {
        "unreadable query": (lambda s: ask(s, str(tmp_path / "x.wav")), InputError, "cannot be decoded"),
        "no such file": (lambda s: ask(s, "dog.wav"), InputError, "no such file"),
        "empty text": (lambda s: ask(s, " "), InputError, "empty"),
        "missing row": (lambda s: ask(s, f"{gallery.path}#p99"), InputError, "has no row 'p99'; did you mean 'p9'?"),
        "no such encoder": (lambda s: ask(s, "dog", encoder="seeer"), InputError, "did you mean 'seer'?"),
        "encoder without the modality": (
            lambda s: ask(s, str(tmp_path / "x.ply"), encoder="hearer"),
            InputError,
            "not in this",
        ),
        "modality the space lacks": (
            lambda s: ask(make_space(names=("hearer",)), str(tmp_path / "x.ply")),
            InputError,
            "expected text or audio",
        ),
        "row of another encoder": (
            lambda s: ask(s, f"{other.path}#t1"),
            ArtifactError,
            "was made by seer (000000000000)",
        ),
        "gallery of another encoder": (
            lambda s: retrieve(s, [ask(s, "dog")], other, IMAGE),
            ArtifactError,
            "was made by seer (000000000000)",
        ),
        "gallery without the modality": (
            lambda s: retrieve(s, [ask(s, "dog")], gallery, CLOUD),
            InputError,
            "no point_cloud",
        ),
        "k of nothing": (lambda s: retrieve(s, [ask(s, "dog")], gallery, IMAGE, k=0), InputError, "k = 0"),
        "no query in a file": (lambda s: ask_many(s, str(tmp_path / "x.wav")), InputError, "none of 1 queries"),
    }


NAMES = [
    "unreadable query",
    "no such file",
    "empty text",
    "missing row",
    "no such encoder",
    "encoder without the modality",
    "modality the space lacks",
    "row of another encoder",
    "gallery of another encoder",
    "gallery without the modality",
    "k of nothing",
    "no query in a file",
]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_refused_says_why(name, space, gallery, tmp_path):
    act, error, words = _refusals(tmp_path, gallery)[name]
    with pytest.raises(error, match=re.escape(words)) as raised:
        act(space)
    assert "\n" not in str(raised.value)


def test_an_encoder_that_only_exists_as_vectors_names_who_else_could(space, monkeypatch):
    def only_hearer(name, device, **_):
        if name == "seer":
            raise UnknownEncoderError("unknown encoder 'seer'")
        return FakeEncoder(name)

    monkeypatch.setattr(module, "load_encoder", only_hearer)
    with pytest.raises(InputError, match=r"its vectors were imported.*--encoder hearer"):
        ask(space, "a dog")
    assert ask(space, "a dog", encoder="hearer").encoder == "hearer"


def test_missing_weights_are_not_taken_for_imported_vectors(space, monkeypatch):
    def without_weights(name, device, weights, precision):
        raise InputError(f"weights of {name} not found in {weights}")

    monkeypatch.setattr(module, "load_encoder", without_weights)
    with pytest.raises(InputError, match="weights of seer not found in my-folder"):
        ask(space, "a dog", weights="my-folder")


def test_an_encoder_of_other_weights_is_refused(space, monkeypatch):
    monkeypatch.setattr(module, "load_encoder", lambda name, device, **_: FakeEncoder(name, fingerprint="f" * 64))
    with pytest.raises(ArtifactError, match="encoder seer is ffffffffffff here"):
        ask(space, "a dog")


def test_a_memory_can_be_opened_again_between_the_calls(space, gallery):
    assert retrieve(space, [ask(space, "a")], Memory.open(gallery.path), TEXT) == retrieve(
        space, [ask(space, "a")], gallery, TEXT
    )
