"""What is exported is read again by the library that users will read it with, and compared with the space."""

import numpy as np
import pytest
import torch
from spaces import make_memory, make_space, texts, vector_of

from cmcr.ask import export_projectors, export_vectors
from cmcr.errors import ArtifactError, InputError
from cmcr.modality import Modality

TEXT = Modality.TEXT


@pytest.fixture
def space():
    return make_space()


@pytest.fixture
def memory(tmp_path):
    return make_memory(tmp_path / "mem", "hearer", {TEXT: texts(25)})


def test_npy_and_ids(space, memory, tmp_path):
    vectors, ids = export_vectors(space, memory, TEXT, tmp_path / "out", "npy")
    read = np.load(vectors, mmap_mode="r")
    assert (read.dtype, read.shape) == (np.float32, (25, space.dim))
    np.testing.assert_allclose(read, space.project(memory, modality=TEXT), atol=1e-6)
    assert ids.read_text().splitlines() == memory.ids(TEXT)


def test_parquet(space, memory, tmp_path):
    from pyarrow import parquet

    (path,) = export_vectors(space, memory, TEXT, tmp_path, "parquet")
    table = parquet.read_table(path)
    assert table.column_names == ["id", "vector", "source", "text"]
    vectors = table["vector"].combine_chunks().flatten().to_numpy().reshape(25, -1)
    np.testing.assert_allclose(vectors, space.project(memory, modality=TEXT), atol=1e-6)
    assert table["id"].to_pylist() == memory.ids(TEXT)
    assert table["text"].to_pylist()[3] == "text 3"
    assert table.schema.metadata[b"cmcr_space"].decode() == space.fingerprint


def test_faiss(space, memory, tmp_path):
    import faiss

    path, ids = export_vectors(space, memory, TEXT, tmp_path, "faiss")
    index, projected = faiss.read_index(str(path)), space.project(memory, modality=TEXT)
    np.testing.assert_allclose(index.reconstruct_n(0, 25), projected, atol=1e-6)
    assert index.search(projected, 1)[1][:, 0].tolist() == list(range(25))
    assert len(ids.read_text().splitlines()) == 25


def _by_torch(path, rows):
    return torch.export.load(path).module()(torch.from_numpy(rows)).detach().numpy()


def _by_onnx(path, rows):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"vectors": rows})[0]


CASES = [("torch", _by_torch, kind) for kind in ("mlp", "linear", "identity", "route")]


@pytest.mark.parametrize(("kind", "run", "projector"), [*CASES, ("onnx", _by_onnx, "mlp"), ("onnx", _by_onnx, "route")])
def test_projectors_run_elsewhere_for_any_number_of_rows(kind, run, projector, tmp_path):
    space = make_space(projector, dim=9, centered=["text"])
    paths = {path.stem: path for path in export_projectors(space, tmp_path, kind)}
    assert sorted(paths) == ["hearer-audio", "hearer-text", "seer-image", "seer-point_cloud", "seer-text"]
    for encoder, modality in (("seer", TEXT), ("seer", Modality.POINT_CLOUD), ("hearer", Modality.AUDIO)):
        for count in (1, 2, 11):
            rows = np.stack([vector_of(b"%d" % n, space.encoders[encoder].dim) for n in range(count)])
            expected = space.project(rows, encoder=encoder, modality=modality)
            np.testing.assert_allclose(run(paths[f"{encoder}-{modality}"], rows), expected, atol=1e-5)


def test_refusals(space, memory, tmp_path):
    with pytest.raises(InputError, match="'csv': expected one of npy, parquet, faiss"):
        export_vectors(space, memory, TEXT, tmp_path, "csv")
    with pytest.raises(InputError, match="'jit': expected one of torch, onnx"):
        export_projectors(space, tmp_path, "jit")
    with pytest.raises(InputError, match="no image"):
        export_vectors(space, memory, Modality.IMAGE, tmp_path / "a", "npy")
    odd = make_memory(tmp_path / "odd", "hearer", {TEXT: {"two\nlines": ("x", "x", b"x")}})
    with pytest.raises(ArtifactError, match="export as parquet"):
        export_vectors(space, odd, TEXT, tmp_path / "b", "npy")
    assert not (tmp_path / "a").exists() or not list((tmp_path / "a").iterdir())
