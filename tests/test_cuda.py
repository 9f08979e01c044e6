"""What runs on a GPU gives what the processor gives. Needs CUDA; CI has none, and each skip says so."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from test_distributed import free_port
from worlds import two_memories

from cmcr import ConnectConfig, ConnectedSpace, Memory, Modality, load_encoder
from cmcr.cli import main
from cmcr.connect import connect
from cmcr.devices import choose_device, choose_products, has_bf16, inference, matrix_products, out_of_memory
from cmcr.items import read_items
from cmcr.numbers import info_nce
from cmcr.numbers.recall import recall
from cmcr.tiny import world

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA is missing: torch sees no GPU here")

METHODS = ("linear", "route", "c-mcr", "distill", "ensemble", "one-sided", "ex-mcr", "text-anchor")


def unit(rows, dim, seed, device="cpu"):
    x = torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed))
    return F.normalize(x, dim=1).to(device)


def test_auto_takes_the_gpu_and_multiplies_in_bf16_where_it_can():
    assert choose_device("auto") == "cuda"
    assert choose_products("cuda", "auto") == ("bf16" if has_bf16("cuda") else "fp32")


def test_matrix_products_are_exact_in_float32_and_close_in_bf16():
    x, y = unit(700, 512, 0), unit(900, 512, 1)
    true = x.double() @ y.double().T
    found = {}
    for precision in ("fp32", "bf16"):
        with matrix_products("cuda", precision):
            found[precision] = (x.cuda() @ y.cuda().T).cpu().double()
    assert (found["fp32"] - true).abs().max() < 1e-6
    assert 1e-6 < (found["bf16"] - true).abs().max() < 5e-3  # lower indeed, and close


@pytest.mark.parametrize(("precision", "close"), [("fp32", 1e-4), ("bf16", 2e-2)])
def test_recall_is_that_of_the_processor(precision, close):
    queries, memory = unit(300, 64, 0), unit(5000, 64, 1)
    true = (queries @ memory.T / 0.05).softmax(dim=1) @ memory
    with matrix_products("cuda", precision):
        found = recall(queries.cuda(), lambda: iter(memory.split(1100)), 0.05)
    assert found.is_cuda
    assert (found.cpu() - true).abs().max() < close


@pytest.mark.parametrize(("precision", "close"), [("fp32", 1e-4), ("bf16", 3e-2)])
def test_the_loss_has_the_value_and_the_gradients_of_the_processor(precision, close):
    def found(device, how):
        x, y = (unit(1500, 32, seed, device).requires_grad_() for seed in (0, 1))
        with matrix_products(device, how):
            loss = info_nce(x, y, 0.05)
            loss.backward()
        return [each.detach().cpu() for each in (loss, x.grad, y.grad)]

    for ours, true in zip(found("cuda", precision), found("cpu", "fp32"), strict=True):
        assert (ours - true).abs().max() <= close * true.abs().max()


@pytest.mark.parametrize("name", ["tiny-clip", "tiny-clap", "tiny-ulip"])
def test_tiny_encoders_give_the_processors_vectors(name, tmp_path):
    scenes = world.train_scenes(12, 0)
    made = {"clip": (world.write_images, Modality.IMAGE), "clap": (world.write_sounds, Modality.AUDIO)}
    write, modality = made.get(name.removeprefix("tiny-"), (world.write_clouds, Modality.POINT_CLOUD))
    write(tmp_path / "files", scenes, 0)
    vectors = []
    for device in ("cpu", "cuda"):
        encoder = load_encoder(name, device)
        items = read_items(str(tmp_path / "files"), modality, encoder.modalities).items
        vectors.append(encoder.encode(modality, [encoder.prepare(item, item.read()) for item in items]))
    assert np.abs(vectors[0] - vectors[1]).max() < 1e-4


def test_a_clip_of_open_clip_gives_the_processors_vectors(tmp_path):
    open_clip = pytest.importorskip("open_clip", reason="open_clip is missing")
    torch.manual_seed(0)
    weights = tmp_path / "ViT-B-32-quickgelu-openai.pt"
    torch.save(open_clip.CLIP(**open_clip.get_model_config("ViT-B-32-quickgelu")).state_dict(), weights)
    world.write_images(tmp_path / "files", world.train_scenes(8, 0), 0)
    found = {}
    for device, precision in (("cpu", "fp32"), ("cuda", "fp32"), ("cuda", "bf16"), ("cuda", "fp16")):
        encoder = load_encoder("clip", device, weights=[tmp_path], precision=precision)
        items = read_items(str(tmp_path / "files"), Modality.IMAGE, encoder.modalities).items
        prepared = [encoder.prepare(item, item.read()) for item in items]
        found[device, precision] = encoder.encode(Modality.IMAGE, prepared)
    true = found["cpu", "fp32"]
    assert np.abs(found["cuda", "fp32"] - true).max() < 1e-3
    for precision in ("bf16", "fp16"):
        assert (found["cuda", precision] * true).sum(axis=1).min() > 0.995


@pytest.mark.parametrize("method", METHODS)
def test_every_method_connects_on_the_gpu_as_well_as_on_the_processor(method, tmp_path):
    a, b, pairs = two_memories(tmp_path / "mem")
    found = {}
    for device in ("cpu", "cuda"):
        config = ConnectConfig(method, epochs=5, batch_size=64, seed=0)
        space = connect(a, b, out=tmp_path / device, config=config, device=device).space
        x = space.project(pairs[0], encoder="enc-a", modality="image")
        y = space.project(pairs[1], encoder="enc-b", modality="audio")
        found[device] = float(((x @ y.T).argmax(axis=1) == np.arange(len(x))).mean())
        reopened = ConnectedSpace.from_pretrained(tmp_path / device)
        again = reopened.project(pairs[0], encoder="enc-a", modality="image")
        assert np.abs(again - x).max() < 1e-5
    assert found["cuda"] > 0.1 or method == "text-anchor"  # which finds hardly more than chance, 1 in 60, in this world
    assert abs(found["cuda"] - found["cpu"]) < (0.01 if method in ("linear", "route") else 0.15)


def test_the_command_line_from_files_to_hits(tmp_path, capsys):
    scenes = world.train_scenes(60, 0)
    world.write_images(tmp_path / "images", scenes, 0)
    world.write_sounds(tmp_path / "sounds", scenes, 0)
    world.write_captions(tmp_path / "texts.txt", scenes, 0)
    memories = [str(tmp_path / name) for name in ("clip", "clap")]
    for memory, files in zip(memories, ("images", "sounds"), strict=True):
        for part in (files, "texts.txt"):
            command = ["embed", str(tmp_path / part), "-e", f"tiny-{memory[-4:]}", "-o", memory]
            assert main([*command, "--device", "cuda"]) == 0
    assert Memory.open(memories[0]).rows(Modality.IMAGE) == 60
    space = str(tmp_path / "space")
    assert main(["connect", *memories, "-o", space, "--device", "cuda", "--method", "c-mcr", "--epochs", "2"]) == 0
    capsys.readouterr()
    ask = ["retrieve", space, "a dog", "--in", memories[0], "--modality", "image", "--device", "cuda", "--json"]
    assert main(ask) == 0
    assert len(json.loads(capsys.readouterr().out)["hits"]) == 10


NCCL = """
import sys
import torch
from cmcr.ranks import Ranks

torch.cuda.set_device(0)
torch.distributed.init_process_group("nccl", init_method=sys.argv[1], rank=0, world_size=1)
made = Ranks(0, 2, None)  # it takes itself for one of two, so that it does talk: every collective goes through NCCL
x = torch.arange(6.0, device="cuda").reshape(3, 2)
world = torch.distributed.get_world_size()
assert torch.equal(made.reduce(x), x) and torch.equal(made.reduce(-x, "max"), -x)
assert made.broadcast(lambda: {"rank": 0}) == {"rank": 0}
parts = [torch.empty_like(x)]
torch.distributed.all_gather(parts, x)
assert torch.equal(parts[0], x) and world == 1
torch.distributed.destroy_process_group()
"""


def test_nccl_alone():
    place = f"tcp://127.0.0.1:{free_port()}"
    done = subprocess.run([sys.executable, "-c", NCCL, place], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_gpu_without_room_is_told_apart_from_a_bad_item():
    with pytest.raises(RuntimeError) as caught, inference("cuda"):
        torch.empty(2**46, device="cuda")
    assert out_of_memory(caught.value)
