"""Spaces as other people get them: a folder, a repository of the Hub (a stand-in of it), and their cards."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from hub_server import Hub
from spaces import DIMS, load_fake_encoder, make_memory, make_space, texts

from cmcr import ConnectedSpace, Modality
from cmcr.ask import subject as subject_module
from cmcr.cli import main
from cmcr.errors import ArtifactError, InputError
from cmcr.space import About
from cmcr.space.card import base_model, card, licence_of

pytest.importorskip("huggingface_hub")
from huggingface_hub import constants

yaml = pytest.importorskip("yaml")

NAME = "some-org/av.space"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = Hub()
    monkeypatch.setattr(constants, "ENDPOINT", found.address)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", found.address + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", "hf_known")
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    yield found
    found.close()


def same(first, second):
    rows = np.random.default_rng(0).standard_normal((5, DIMS["seer"]))
    return first.fingerprint == second.fingerprint and np.array_equal(
        *(each.project(rows, encoder="seer", modality="text") for each in (first, second))
    )


def front(text):
    return yaml.safe_load(text.split("---\n")[1])


def test_a_space_goes_through_a_folder(tmp_path):
    space = make_space()
    space.save_pretrained(tmp_path / "space", About("mit", ("org/sounds",), ("a dog: it barks",)))
    assert same(ConnectedSpace.from_pretrained(tmp_path / "space"), space)
    told = front((tmp_path / "space" / "README.md").read_text())
    assert (told["license"], told["datasets"]) == ("mit", ["org/sounds"])
    assert told["widget"] == [{"text": "a dog: it barks"}] and {"audio", "image", "point-cloud"} <= set(told["tags"])


def test_a_space_goes_through_the_hub(hub, capsys):
    space = make_space()
    address = space.push_to_hub(NAME, private=True)
    assert set(hub.repositories[NAME]) == {"config.json", "model.safetensors", "README.md"} and hub.private[NAME]
    assert address == f"{hub.address}/{NAME}/commit/{hub.commit_of(NAME)}"
    hub.repositories[NAME]["modeling.py"] = b"raise SystemExit"
    assert same(ConnectedSpace.from_pretrained(NAME), space)
    assert not [path for _, path in hub.asked if path.endswith("modeling.py")]
    assert same(ConnectedSpace.from_pretrained(NAME, local_only=True), space)
    hub.repositories[NAME]["README.md"] = b"another"  # there already: taken, and changed by the next commit
    make_space(seed=3).save("other")
    assert main(["push", "other", NAME, "--license", "cc0-1.0", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["repository"] == NAME and "the licence of seer, hearer is not known here" in err
    assert front(hub.repositories[NAME]["README.md"].decode())["license"] == "cc0-1.0"
    assert same(ConnectedSpace.from_pretrained(NAME), make_space(seed=3))


def test_a_command_takes_the_name_of_a_space_on_the_hub(hub, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(subject_module, "load_encoder", load_fake_encoder)
    make_space().push_to_hub(NAME)
    make_memory(tmp_path / "seen", "seer", {Modality.TEXT: texts(5)})
    assert main(["retrieve", NAME, "text 3", "--in", "seen", "-k", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["hits"][0]["id"] == "t3"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda hub, files: files.pop("model.safetensors"), "holds no model.safetensors; it is no connected space"),
        (
            lambda hub, files: hub.sizes.update({"config.json": 1 << 30}),
            "config.json has 1073741824 bytes, expected at most",
        ),
        (lambda hub, files: hub.sizes.update({"model.safetensors": 1 << 50}), "it was not fetched"),
        (lambda hub, files: files.update({"config.json": b"{"}), "config.json"),
        (lambda hub, files: files.update({"model.safetensors": b"x" * 100}), "is not the file config.json names"),
        (lambda hub, files: hub.repositories.clear(), "cannot be fetched from the Hub (404); check the name"),
    ],
)
def test_what_is_no_space_is_refused_in_one_line_before_it_is_fetched(hub, capsys, change, message):
    make_space().push_to_hub(NAME)
    change(hub, hub.repositories[NAME])
    with pytest.raises((ArtifactError, InputError)) as error:
        ConnectedSpace.from_pretrained(NAME)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_names_that_cannot_be_and_a_hub_that_refuses(hub, tmp_path, monkeypatch):
    for name in ("space", "a/b/c", "../etc/x", "org/na me", "org/..", "-o/x"):
        with pytest.raises(InputError, match="expected ORG/NAME"):
            make_space().push_to_hub(name)
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    with pytest.raises(ArtifactError, match=r"cannot be pushed \(401\); check the name, and log in"):
        make_space().push_to_hub(NAME)
    asked = len(hub.asked)
    hub_folder = tmp_path / "spaces"
    hub_folder.mkdir()
    with pytest.raises(ArtifactError, match="not a connected space"):  # a slip of the pen, and nobody is asked
        ConnectedSpace.from_pretrained("spaces/av")
    assert len(hub.asked) == asked


def test_licences_and_base_models_are_those_that_are_stated():
    known = {"tiny-clip": "Apache-2.0", "clip": "MIT", "hf_clap:laion/clap-htsat-fused": "Apache-2.0"}
    unknown = dict.fromkeys(
        ("somebody's", "open_clip:ViT-B-16/laion2b", "hf_clap:org/other", "hf_clap:f.pt"), "unknown"
    )
    assert {name: licence_of(name) for name in known | unknown} == known | unknown
    named = ("open_clip:hf-hub:org/model", "hf_clap:laion/clap-htsat-fused", "sentence-transformers:org/text")
    assert [base_model(name) for name in named] == ["org/model", "laion/clap-htsat-fused", "org/text"]
    assert [base_model(name) for name in ("tiny-clip", "ulip", "somebody's")] == [None] * 3
    assert base_model("clap") == "lukewys/laion_clap"


def test_the_front_matter_is_yaml_whatever_a_name_holds():
    encoders = [
        {"name": name, "modalities": ["text"], "dim": 2, "fingerprint": "", "projector": {"kind": "identity"}}
        for name in ('hf_clap:a/b"c: [', "hf_clap:org/one", "hf_clap:org/one-more")
    ]
    config = {
        "encoders": encoders,
        "method": "linear",
        "overlap": "text",
        "dim": 2,
        "recipe": {},
        "metrics": {"a.r1": 0.5, "a.r1_chance": 0.1, "a.rows": 3, "b.r1": 0.4, "b.r1_chance": 0.1},
    }
    told = front(card(config))
    assert told["base_model"] == ["org/one", "org/one-more"]
    assert (told["library_name"], told["license"], told["metrics"]) == ("cmcr", "other", ["r1"])


@pytest.mark.slow
def test_the_environment_names_another_hub(hub, tmp_path):
    make_space().push_to_hub(NAME)
    code = f"from cmcr import ConnectedSpace; print(ConnectedSpace.from_pretrained({NAME!r}).fingerprint)"
    where = {"HF_ENDPOINT": hub.address, "HF_HUB_CACHE": str(tmp_path / "other")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | where)
    assert done.stdout.strip() == make_space().fingerprint, done.stderr
