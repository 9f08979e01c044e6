import numpy as np
import pytest

from cmcr.connect.pairs import build_pairs
from cmcr.errors import ArtifactError
from cmcr.memory import EncoderInfo, Memory, MemoryWriter, Row
from cmcr.memory.overlap import Side
from cmcr.modality import Modality
from cmcr.search import exact_search
from cmcr.search import graphs as module
from cmcr.search.graphs import graphs, pays

IMAGE, TEXT = Modality.IMAGE, Modality.TEXT
ROWS = 350


def unit(rows, dim, seed):
    x = np.random.default_rng(seed).normal(size=(rows, dim)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def write(path, seed):
    metadata = [Row(f"r{number}", "", None, None) for number in range(ROWS)]
    with MemoryWriter(path, EncoderInfo(f"encoder-{seed}", f"f{seed}", 12)) as writer:
        writer.append(IMAGE, unit(ROWS, 12, seed), metadata)
        writer.append(TEXT, unit(60, 12, seed + 1), metadata[:60])
    return Memory.open(path)


@pytest.fixture
def memory(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PIECE", 100)
    monkeypatch.setattr(module, "BUILDING", 20)
    monkeypatch.setattr(module, "ASKING", 20)
    return write(tmp_path / "memory", 0)


def test_pieces_find_what_a_search_of_the_whole_finds(memory, tmp_path):
    queries = memory.vectors(TEXT)
    for k in (1, 10, 400):
        found = graphs(memory, IMAGE, tmp_path / "graphs").search(queries, k)
        exact = exact_search(memory.blocks(IMAGE), queries, k)
        assert found.rows.shape == exact.rows.shape
        assert np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(found.rows, exact.rows, strict=True)]) > 0.99
        assert np.abs(found.scores - exact.scores).mean() < 1e-3
        assert (np.diff(found.scores, axis=1) <= 0).all()


def test_built_once_and_anew_where_damaged_or_of_another_memory(memory, tmp_path, monkeypatch):
    folder, built = tmp_path / "graphs", []
    original = module.build_index
    monkeypatch.setattr(module, "build_index", lambda *args, **named: built.append(1) or original(*args, **named))
    graphs(memory, IMAGE, folder)
    files = {path.name: path.read_bytes() for path in folder.glob("*.faiss")}
    assert len(built) == len(files) == 4
    graphs(memory, IMAGE, folder)
    assert len(built) == 4
    path = sorted(folder.glob("*.faiss"))[1]
    path.write_bytes(path.read_bytes()[:-9])
    graphs(memory, IMAGE, folder)
    assert len(built) == 5
    assert {path.name: path.read_bytes() for path in folder.glob("*.faiss")} == files
    graphs(write(tmp_path / "other", 5), IMAGE, folder)
    assert len(built) == 9


def test_graphs_are_built_where_that_costs_less_than_searching_every_row(monkeypatch):
    assert module.PIECE == 1 << 18
    few, many, rows = 8_000, 1_000_000, 1_000_000
    assert not pays(few, rows) and pays(many, rows)
    assert not pays(many, 50_000), "a graph is asked for longer than so few rows are met"
    least = next(queries for queries in range(0, many, 1000) if pays(queries, rows))
    building, asking = module.BUILDING * rows, 4 * module.ASKING * least
    assert building + asking == pytest.approx(least * rows, rel=0.02), "at the turning point both cost the same"
    monkeypatch.setattr(module, "BUILDING", 0)
    assert pays(few, rows), "graphs that cost nothing always pay"


def test_pairs_through_graphs_are_nearly_the_exact_ones(memory, tmp_path, monkeypatch):
    def pairs(folder, asked=60):
        other = write(tmp_path / f"{folder}-b", 7)
        sides = (Side(each, TEXT, np.arange(asked), IMAGE) for each in (memory, other))
        return build_pairs(*sides, tmp_path / folder, 0.05, 20)

    found = pairs("found")
    assert list((tmp_path / "found" / "graphs").glob("*.faiss"))
    pairs("few", 20)  # so few rows ask that building costs more than it spares
    assert not (tmp_path / "few" / "graphs").exists()
    monkeypatch.setattr(module, "BUILDING", ROWS)
    exact = pairs("exact")
    assert not (tmp_path / "exact" / "graphs").exists()
    left, right = (np.asarray(each.pseudo_b, np.float32) for each in (found, exact))
    cosines = (left * right).sum(1) / np.linalg.norm(left, axis=1) / np.linalg.norm(right, axis=1)
    assert cosines.mean() > 0.999


def test_an_interrupted_building_ends_soon_and_keeps_what_is_whole(memory, tmp_path, monkeypatch):
    folder, original = tmp_path / "graphs", module.load_index
    opened = []

    def stops(path, **known):
        original(path, **known)
        opened.append(path)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "load_index", stops)
    with pytest.raises(KeyboardInterrupt):
        graphs(memory, IMAGE, folder)
    monkeypatch.setattr(module, "load_index", original)
    assert not list(folder.glob("*.partial")) and opened
    assert len(graphs(memory, IMAGE, folder).pieces) == 4
    with pytest.raises(ArtifactError):
        original(opened[0], memory="another", space="x")
