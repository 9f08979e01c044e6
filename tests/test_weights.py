"""Weights files are data: found where users put them, read without running them, told apart by their content."""

import argparse
import os
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from cmcr.encoders import weights
from cmcr.errors import ArtifactError, InputError


def state(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {"a.weight": torch.randn(3, 2, generator=generator), "a.bias": torch.randn(3, generator=generator)}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("CMCR_WEIGHTS", str(tmp_path / "weights"))
    (tmp_path / "weights").mkdir()
    return tmp_path / "weights"


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model", "model_state_dict"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_every_usual_wrapping_gives_the_same_tensors(tmp_path, wrapper, prefix):
    held = {prefix + key: value for key, value in state().items()}
    left = {"epoch": 3, "best": np.float64(0.5), "step": np.int32(7), "args": argparse.Namespace(lr=0.1)}
    content = left | {wrapper: held, "optimizer": {}} if wrapper else held
    torch.save(content, tmp_path / "w.pt")
    assert same(weights.read_state(tmp_path / "w.pt"), state())


def test_the_old_file_format_and_safetensors_are_read(tmp_path):
    torch.save(state(), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    save_file(state(), tmp_path / "new.safetensors")
    assert same(weights.read_state(tmp_path / "old.pt"), weights.read_state(tmp_path / "new.safetensors"))


class Hostile:
    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return os.system, (f"touch {self.file}",)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_that_would_run_code_is_refused_and_does_not_run(tmp_path, zipped):
    torch.save(
        {"state_dict": state(), "x": Hostile(tmp_path / "ran")},
        tmp_path / "w.pt",
        _use_new_zipfile_serialization=zipped,
    )
    with pytest.raises(ArtifactError, match="cannot be read as weights") as raised:
        weights.read_state(tmp_path / "w.pt")
    assert "system" in str(raised.value) and "weights_only=False" not in str(raised.value)
    assert not (tmp_path / "ran").exists()


def test_an_object_in_a_numpy_number_is_refused(tmp_path):
    class Scalar:
        def __reduce__(self):
            scalar = np.float64(0).__reduce__()[0]
            return scalar, (np.dtype("O"), Hostile(tmp_path / "ran"))

    torch.save({"state_dict": state(), "x": Scalar()}, tmp_path / "w.pt")
    with pytest.raises(ArtifactError, match="cannot be read as weights"):
        weights.read_state(tmp_path / "w.pt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", pickle.dumps([1, 2])])
def test_what_is_no_checkpoint_is_refused(tmp_path, content):
    (tmp_path / "w.pt").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"w\.pt"):
        weights.read_state(tmp_path / "w.pt")


def test_a_truncated_file_is_refused(tmp_path):
    torch.save({"big": torch.zeros(10_000)}, tmp_path / "w.pt")
    (tmp_path / "w.pt").write_bytes((tmp_path / "w.pt").read_bytes()[:20_000])
    with pytest.raises(ArtifactError, match="cannot be read as weights"):
        weights.read_state(tmp_path / "w.pt")


def test_the_fingerprint_is_of_the_content_and_not_of_the_file(tmp_path):
    torch.save({"state_dict": state()}, tmp_path / "w.pt")
    save_file(state(), tmp_path / "w.safetensors")
    one, other = (weights.fingerprint(weights.read_state(tmp_path / f"w{s}"), "v1") for s in (".pt", ".safetensors"))
    assert one == other and len(one) == 64
    assert one != weights.fingerprint(state(), "v2")
    assert one != weights.fingerprint(state(1), "v1")
    assert one != weights.fingerprint({key: value.half() for key, value in state().items()}, "v1")
    reshaped = state() | {"a.weight": state()["a.weight"].reshape(2, 3)}
    assert one != weights.fingerprint(reshaped, "v1")


def test_fill_takes_all_or_says_what_does_not_fit():
    module = nn.ModuleDict({"a": nn.Linear(2, 3)})
    weights.fill(module, state() | {"extra": torch.zeros(1)}, "w.pt", optional=["extra"])
    assert torch.equal(module["a"].weight, state()["a.weight"])
    with pytest.raises(ArtifactError, match=r"w\.pt: .*1 missing: a\.bias; 1 unexpected: b"):
        weights.fill(module, {"a.weight": state()["a.weight"], "b": torch.zeros(1)}, "w.pt")
    with pytest.raises(ArtifactError, match=r"a\.weight \(2, 3\), not \(3, 2\)"):
        weights.fill(module, state() | {"a.weight": torch.zeros(2, 3)}, "w.pt")


def test_weights_are_looked_for_by_path_then_where_the_user_says_then_in_the_folder(tmp_path, folder):
    for place in (folder, tmp_path / "mine"):
        place.mkdir(exist_ok=True)
        (place / "w.pt").write_text("")
    assert weights.find_weights("w.pt") == folder / "w.pt"
    assert weights.find_weights("w.pt", [tmp_path / "mine"]) == tmp_path / "mine" / "w.pt"
    assert weights.find_weights("w.pt", [tmp_path / "mine" / "w.pt"]) == tmp_path / "mine" / "w.pt"
    assert weights.find_weights(str(folder / "w.pt"), [tmp_path / "mine"]) == folder / "w.pt"


def test_a_single_given_file_stands_for_the_wanted_one(tmp_path, folder):
    for name in ("other.pt", "third.pt"):
        (tmp_path / name).write_text("")
    assert weights.find_weights("w.pt", [tmp_path / "other.pt"]) == tmp_path / "other.pt"
    with pytest.raises(InputError, match=r"'w\.pt' not found"):
        weights.find_weights("w.pt", [tmp_path / "other.pt", tmp_path / "third.pt"])
    with pytest.raises(InputError, match="roberta-base"):  # a file is no folder
        weights.find_weights("roberta-base", [tmp_path / "other.pt"])


def test_missing_weights_name_every_place(tmp_path, folder):
    with pytest.raises(InputError, match=f"not found.*{folder}.*CMCR_WEIGHTS"):
        weights.find_weights("w.pt")
    with pytest.raises(InputError, match=r"--weights .*nowhere: no such file"):
        weights.find_weights("w.pt", [tmp_path / "nowhere"])
