"""The paper's two recipes, from files to an answer, on random checkpoints of full size: the numbers mean nothing."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from checkpoints_clap import write_laion, write_tokenizer
from checkpoints_ulip import write_ulip
from test_heads import audio_visual, three_d

from cmcr.cli import main
from cmcr.memory import Memory
from cmcr.tiny import world

pytestmark = pytest.mark.slow
EXAMPLES = Path(__file__).parent.parent / "examples"
COUNT = 24
# LAION's package wants numpy 1; where it is not installed, transformers runs the same checkpoint.
CLAP = "clap" if importlib.util.find_spec("laion_clap") else "hf_clap:630k-fusion-best.pt"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Every checkpoint under the name its publisher gave it."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    model = open_clip.CLIP(**open_clip.get_model_config("ViT-B-32-quickgelu"))
    torch.save(model.state_dict(), folder / "ViT-B-32-quickgelu-openai.pt")
    write_laion(folder / "630k-fusion-best.pt", "HTSAT-tiny", fusion=True, text_layers=12, text_width=768)
    write_tokenizer(folder / "roberta-base")
    write_ulip(folder / "pointbert_ULIP-2.pt", small=False)
    torch.save(audio_visual(), folder / "clap_clip.pt")
    torch.save(three_d(), folder / "ulip_clip.pt")
    return folder


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    scenes = world.train_scenes(COUNT, 0)
    world.write_images(folder / "images", scenes, 1)
    world.write_sounds(folder / "sounds", scenes, 2)
    world.write_clouds(folder / "clouds", scenes, 3)
    world.write_captions(folder / "captions.txt", scenes, 4)
    return folder


@pytest.fixture
def cmcr(weights, files, monkeypatch, capsys):
    monkeypatch.setenv("CMCR_WEIGHTS", str(weights))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(files)

    def call(*arguments):
        code = main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        assert code == 0, said.err
        return said.out

    return call


RECIPES = {
    "audio_visual.toml": {
        "embed": [("captions.txt", "clip"), ("captions.txt", CLAP), ("images", "clip"), ("sounds", CLAP)],
        "memories": ("mem/clip", "mem/clap"),
        "via": "text",
        "query": "sounds/00003.wav",
        "find": ("mem/clip", "image"),
    },
    "three_d_language.toml": {
        "embed": [("images", "clip"), ("images", "ulip"), ("captions.txt", "clip"), ("clouds", "ulip")],
        "memories": ("mem/clip", "mem/ulip"),
        "via": "image",
        "query": "a small red dog",
        "find": ("mem/ulip", "point_cloud"),
    },
}


@pytest.mark.parametrize("name", RECIPES)
def test_the_recipe_runs_from_files_to_an_answer(cmcr, name):
    recipe, space = RECIPES[name], f"spaces/{name}"
    for source, encoder in recipe["embed"]:
        folder = f"mem/{'clap' if 'clap' in encoder else encoder}"
        # A second run finds its rows again, also from the other recipe.
        cmcr("embed", source, "--encoder", encoder, "-o", folder, "--strict")
        (again,) = json.loads(cmcr("embed", source, "--encoder", encoder, "-o", folder, "--json"))["added"]
        assert (again["embedded"], again["already"]) == (0, again["items"])
    cmcr("connect", *recipe["memories"], "--via", recipe["via"], "--config", EXAMPLES / name, "-o", space)
    memory, modality = recipe["find"]
    found = json.loads(cmcr("retrieve", space, recipe["query"], "--in", memory, "--modality", modality, "--json"))
    assert found["gallery"] == COUNT and len(found["hits"]) == 10
    for folder in recipe["memories"]:
        opened = Memory.open(folder)
        assert opened.encoder.dim == 512 and opened.verify() == []
        for held in opened.modalities:  # random weights, and still different things get different vectors
            rows = opened.vectors(held).astype(np.float32)
            assert (rows @ rows.T)[~np.eye(len(rows), dtype=bool)].min() < 0.999


@pytest.mark.parametrize("heads", ["clap_clip.pt", "ulip_clip.pt"])
def test_the_published_heads_answer_and_are_checked_by_the_example(cmcr, weights, files, heads):
    (files / "assets").mkdir(exist_ok=True)
    for part in ("images", "sounds", "clouds"):
        for path in sorted((files / part).iterdir())[:3]:
            shutil.copy(path, files / "assets" / path.name)
    lines = (files / "captions.txt").read_text().splitlines()[:3]
    (files / "assets" / "texts.txt").write_text("\n".join(lines))
    side = [f"--clap={CLAP}"] if heads == "clap_clip.pt" else []
    cmcr("import-heads", weights / heads, "-o", f"spaces/{heads}", *side)
    cmcr("embed", "images", "--encoder", "clip", "-o", "mem/clip")
    found = json.loads(
        cmcr("retrieve", f"spaces/{heads}", "a red dog", "--in", "mem/clip", "--modality", "image", "-k", "3", "--json")
    )
    assert len(found["hits"]) == 3
    command = [sys.executable, str(EXAMPLES / "official_heads.py"), str(weights / heads), "assets", *side]
    done = subprocess.run([*command, "--weights", str(weights)], capture_output=True, text=True, check=False, cwd=files)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("largest difference") == 3
