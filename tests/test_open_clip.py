"""CLIP through open_clip: random small models, saved as users have them, loaded by name."""

import hashlib
import json
import shutil
import socket

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from cmcr.decode.transform import split_transform
from cmcr.encoders import load_encoder
from cmcr.errors import ArtifactError, InputError
from cmcr.items import Item
from cmcr.modality import Modality

VISION = {"image_size": 32, "layers": 2, "width": 64, "patch_size": 16}
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 2}
CONFIG = {"embed_dim": 24, "quick_gelu": True, "vision_cfg": VISION, "text_cfg": TEXT}
OTHER_MEAN = (0.1, 0.2, 0.3)


@pytest.fixture(scope="module")
def architectures(tmp_path_factory):
    """Two small models, one with QuickGELU, with a published tag each, known to open_clip."""
    folder, pretrained = tmp_path_factory.mktemp("configs"), open_clip.pretrained._PRETRAINED
    for name, quick in (("small-quickgelu", True), ("small", False)):
        (folder / f"{name}.json").write_text(json.dumps(CONFIG | {"quick_gelu": quick}))
        pretrained[name] = {
            "openai": {"hf_hub": "nobody/nothing/", "quick_gelu": True, "mean": OTHER_MEAN, "std": (0.5, 0.5, 0.5)}
        }
    open_clip.add_model_config(folder)
    yield folder
    for name in ("small-quickgelu", "small"):
        del pretrained[name]
        del open_clip.factory._MODEL_CONFIGS[name]


@pytest.fixture(scope="module")
def model(architectures):
    torch.manual_seed(0)
    logging = open_clip.factory.logging
    logging.disable(logging.CRITICAL)
    made = open_clip.create_model("small-quickgelu", load_weights=False)
    logging.disable(logging.NOTSET)
    return made.eval()


@pytest.fixture
def weights(model, tmp_path, monkeypatch):
    """A weights folder that holds the model under its tag's name."""
    folder = tmp_path / "weights"
    folder.mkdir()
    torch.save(model.state_dict(), folder / "small-quickgelu-openai.pt")
    monkeypatch.setenv("CMCR_WEIGHTS", str(folder))
    monkeypatch.setattr(socket, "create_connection", unreachable)
    return folder


def unreachable(*_, **__):
    raise OSError("no network here")


def picture(seed=0, size=(50, 40)):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (*size, 3), dtype=np.uint8))


def png(image, path):
    image.save(path, "PNG")
    return path.read_bytes()


def item(modality):
    return Item("a", modality, "a")


def test_pictures_and_texts_get_open_clips_own_vectors(weights, model, tmp_path):
    encoder = load_encoder("open_clip:small-quickgelu/openai")
    transform = open_clip.image_transform(32, is_train=False, mean=OTHER_MEAN, std=(0.5, 0.5, 0.5))
    pictures = [picture(seed, (30 + seed, 60 - seed)) for seed in range(3)]
    with torch.inference_mode():
        image = model.encode_image(torch.stack([transform(each) for each in pictures]), normalize=True).numpy()
        text = model.encode_text(open_clip.tokenize(["a dog", "one two three"]), normalize=True).numpy()
    data = [png(each, tmp_path / "p.png") for each in pictures]
    found = encoder.encode(Modality.IMAGE, [encoder.prepare(item(Modality.IMAGE), each) for each in data])
    said = encoder.encode(
        Modality.TEXT, [encoder.prepare(item(Modality.TEXT), each) for each in (b"a dog", b"one two three")]
    )
    np.testing.assert_allclose(found, image, atol=1e-6)
    np.testing.assert_allclose(said, text, atol=1e-6)
    assert found.dtype == np.float32 and encoder.dim == 24
    assert encoder.name == "open_clip:small-quickgelu/openai"
    assert encoder.encode(Modality.IMAGE, []).shape == (0, 24)


MODES = ["shortest", "longest", "squash"]


def with_mode(mode, monkeypatch):
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED["small-quickgelu"]["openai"], "resize_mode", mode)
    encoder = load_encoder("open_clip:small-quickgelu/openai")
    usual = {"mean": OTHER_MEAN, "std": (0.5, 0.5, 0.5), "resize_mode": mode}
    return encoder, open_clip.image_transform(32, is_train=False, **usual)


@pytest.mark.parametrize("mode", MODES)
def test_pictures_of_any_usual_shape_are_open_clips_own_to_the_bit(mode, weights, tmp_path, monkeypatch):
    encoder, transform = with_mode(mode, monkeypatch)
    thin = (
        [] if mode == "longest" else [(7, 481), (100, 1), (3, 299), (2, 200)]
    )  # of these, open_clip makes nothing itself
    for size in [(32, 32), (33, 32), (640, 48), (7, 331), (1, 1), (1, 60), *thin]:
        image = picture(sum(size), size)
        prepared = encoder.prepare(item(Modality.IMAGE), png(image, tmp_path / "p.png"))
        _, scale = split_transform(transform)
        assert torch.equal(scale(prepared[None])[0], transform(image)), size


@pytest.mark.parametrize("mode", MODES)
def test_a_thin_picture_is_never_scaled_to_a_giant(mode, weights, tmp_path, monkeypatch):
    encoder, transform = with_mode(mode, monkeypatch)
    image, sizes, resize = picture(0, (1, 20_000)), [], Image.Image.resize

    def watched(self, size, *rest, **options):
        sizes.append(size)
        return resize(self, size, *rest, **options)

    monkeypatch.setattr(Image.Image, "resize", watched)
    prepared = encoder.prepare(item(Modality.IMAGE), png(image, tmp_path / "p.png"))
    assert prepared.shape == (32, 32, 3) and 0 < max(max(size) for size in sizes) <= 3232
    kept = {"shortest": 100, "longest": 62, "squash": 20_000}[mode]
    left = (20_000 - kept) // 2
    _, scale = split_transform(transform)
    assert torch.equal(scale(prepared[None])[0], transform(image.crop((left, 0, 20_000 - left, 1))))


def test_a_text_longer_than_the_context_is_cut(weights):
    encoder = load_encoder("open_clip:small-quickgelu/openai")
    assert encoder.prepare(item(Modality.TEXT), b"word " * 500).shape == (77,)


def test_the_container_of_the_weights_does_not_matter_and_their_content_does(weights, model, tmp_path):
    first = load_encoder("open_clip:small-quickgelu/openai")
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    torch.save({"state_dict": {f"module.{k}": v for k, v in model.state_dict().items()}}, tmp_path / "w.pt")
    for name in ("w.safetensors", "w.pt"):
        again = load_encoder("open_clip:small-quickgelu/openai", weights=[tmp_path / name])
        assert (again.name, again.fingerprint) == (first.name, first.fingerprint)
    changed = {key: value + 1 if key == "ln_final.bias" else value for key, value in model.state_dict().items()}
    save_file(changed, tmp_path / "c.safetensors")
    other = load_encoder("open_clip:small-quickgelu/openai", weights=[tmp_path / "c.safetensors"])
    assert other.fingerprint != first.fingerprint


def test_the_fingerprint_covers_preprocessing_and_activation(weights, monkeypatch):
    first = load_encoder("open_clip:small-quickgelu/openai").fingerprint
    tag = open_clip.pretrained._PRETRAINED["small-quickgelu"]["openai"]
    monkeypatch.setitem(tag, "mean", (0.4, 0.4, 0.4))
    assert load_encoder("open_clip:small-quickgelu/openai").fingerprint != first
    monkeypatch.undo()
    monkeypatch.setenv("CMCR_WEIGHTS", str(weights))
    shutil.copy(weights / "small-quickgelu-openai.pt", weights / "mine.pt")
    quick, plain = (load_encoder(f"open_clip:{name}/mine.pt").fingerprint for name in ("small-quickgelu", "small"))
    assert quick == first != plain


def test_a_bare_file_gets_the_preprocessing_that_its_architectures_tags_share(weights, monkeypatch):
    shutil.copy(weights / "small-quickgelu-openai.pt", weights / "mine.pt")
    encoder = load_encoder("open_clip:small-quickgelu/mine.pt")
    assert encoder._model.visual.preprocess_cfg["mean"] == OTHER_MEAN
    assert encoder.name == "open_clip:small-quickgelu/mine.pt"


def test_a_quickgelu_mismatch_is_an_error_that_names_the_right_model(weights):
    with pytest.raises(InputError, match=r"QuickGELU mismatch.*use open_clip:small-quickgelu/openai"):
        load_encoder("open_clip:small/openai")
    with pytest.raises(InputError, match=r"use open_clip:ViT-B-32-quickgelu/openai"):
        load_encoder("open_clip:ViT-B-32/openai")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("open_clip:small-quickgelu", "names no weights; expected .* openai"),
        ("open_clip:small-quickgelu/opnai", "names no weights.*did you mean 'openai'"),
        ("open_clip:small-quickgelu/missing.pt", "'missing.pt' not found"),
        ("open_clip:ViT-B-23/openai", "unknown open_clip model 'ViT-B-23'; did you mean 'ViT-B-32'"),
        ("open_clip:local-dir:nowhere", "the folder 'nowhere' not found"),
    ],
)
def test_bad_names_say_what_is_expected(weights, name, message):
    with pytest.raises(InputError, match=message):
        load_encoder(name)


def test_no_network_is_one_line_at_once(weights):
    (weights / "small-quickgelu-openai.pt").unlink()
    with pytest.raises(ArtifactError, match=r"without a network give --weights FILE, or put it as small-quickgelu-ope"):
        load_encoder("open_clip:small-quickgelu/openai")
    with pytest.raises(ArtifactError, match=r"without a network .*local-dir:FOLDER"):
        load_encoder("open_clip:hf-hub:nobody/nothing")


def test_a_local_folder_brings_its_own_preprocessing(model, weights, tmp_path):
    folder = tmp_path / "my-clip"
    folder.mkdir()
    config = {"model_cfg": CONFIG, "preprocess_cfg": {"mean": [0.3, 0.3, 0.3], "std": [1, 1, 1]}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(ArtifactError, match="my-clip: cannot be made ready"):  # never a random model
        load_encoder(f"open_clip:local-dir:{folder}")
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    encoder = load_encoder(f"open_clip:local-dir:{folder}")
    assert encoder.name == "open_clip:local-dir:my-clip"
    assert encoder.fingerprint != load_encoder("open_clip:small-quickgelu/openai").fingerprint
    again = load_encoder(encoder.name, weights=[tmp_path])  # by name, wherever the folder lies now
    assert again.fingerprint == encoder.fingerprint


def test_weights_of_another_architecture_are_refused(weights):
    state = torch.load(weights / "small-quickgelu-openai.pt", weights_only=True)
    for name, broken in {
        "less": {key: value for key, value in state.items() if key != "ln_final.bias"},
        "more": state | {"surplus": torch.zeros(1)},
        "wider": state | {"positional_embedding": torch.zeros(77, 99)},
    }.items():
        torch.save(broken, weights / f"{name}.pt")
        with pytest.raises(ArtifactError, match=f"{name}.pt: cannot be loaded as small-quickgelu"):
            load_encoder(f"open_clip:small-quickgelu/{name}.pt")


def test_a_hostile_checkpoint_is_refused(weights, tmp_path):
    class Hostile:
        def __reduce__(self):
            return open, (str(tmp_path / "ran"), "w")

    torch.save({"state_dict": {}, "x": Hostile()}, weights / "hostile.pt")
    with pytest.raises(ArtifactError, match=r"hostile\.pt"):
        load_encoder("open_clip:small-quickgelu/hostile.pt")
    assert not (tmp_path / "ran").exists()


@pytest.fixture
def program(model, tmp_path):
    """A TorchScript archive in the layout that OpenAI published: half precision, three constants beside the weights."""

    class Archive(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("input_resolution", torch.tensor(32))
            self.register_buffer("context_length", torch.tensor(77))
            self.register_buffer("vocab_size", torch.tensor(49408))

        def forward(self, x):
            return x

    archive = Archive()
    for name, child in model.named_children():
        setattr(archive, name, shell(child))
    for name, parameter in model.named_parameters(recurse=False):
        archive.register_parameter(name, torch.nn.Parameter(parameter.detach().half()))
    torch.jit.save(torch.jit.trace(archive, torch.zeros(1)), tmp_path / "ViT-B-32.pt")
    return tmp_path / "ViT-B-32.pt"


def shell(module):
    """The same names and tensors, without code that TorchScript would have to understand."""
    made = torch.nn.Module()
    made.forward = lambda x: x
    for name, parameter in module.named_parameters(recurse=False):
        made.register_parameter(name, torch.nn.Parameter(parameter.detach().half()))
    for name, child in module.named_children():
        made.add_module(name, shell(child))
    return made


@pytest.mark.filterwarnings("ignore")  # torch warns that TorchScript is on its way out
def test_torchscript_is_run_only_if_it_is_the_published_archive(weights, program, monkeypatch):
    with pytest.raises(ArtifactError, match=r"a TorchScript program .* programs are not run"):
        load_encoder("open_clip:small-quickgelu/openai", weights=[program])
    digest = hashlib.sha256(program.read_bytes()).hexdigest()
    tag = open_clip.pretrained._PRETRAINED["small-quickgelu"]["openai"]
    monkeypatch.setitem(tag, "url", f"https://example.org/{digest}/ViT-B-32.pt")
    shutil.copy(program, weights / "ViT-B-32.pt")
    ours = load_encoder("open_clip:small-quickgelu/openai")
    (weights / "small-quickgelu-openai.pt").unlink()
    theirs = load_encoder("open_clip:small-quickgelu/openai")  # found under the name that OpenAI gave it
    prepared = [ours.prepare(item(Modality.TEXT), b"a dog")]
    np.testing.assert_allclose(theirs.encode(Modality.TEXT, prepared), ours.encode(Modality.TEXT, prepared), atol=2e-3)
    assert theirs._model.visual.preprocess_cfg == ours._model.visual.preprocess_cfg
    tag = open_clip.pretrained._PRETRAINED["small"]["openai"]
    monkeypatch.setitem(tag, "url", f"https://example.org/{digest}/ViT-B-32.pt")
    with pytest.raises(InputError, match=r"QuickGELU mismatch.*use open_clip:small-quickgelu/ViT-B-32\.pt"):
        load_encoder("open_clip:small/ViT-B-32.pt")


def test_only_the_tower_in_use_goes_to_the_device(weights, monkeypatch):
    encoder = load_encoder("open_clip:small-quickgelu/openai")
    monkeypatch.setattr(encoder, "_device", "meta")
    encoder._place(Modality.IMAGE)
    places = {name: tensor.device.type for name, tensor in encoder._model.named_parameters()}
    assert {places[name] for name in places if name.startswith("visual.")} == {"meta"}
    assert {places[name] for name in places if not name.startswith("visual.")} == {"cpu"}
    encoder._place(Modality.TEXT)
    assert {tensor.device.type for tensor in (*encoder._model.parameters(), *encoder._model.buffers())} == {"meta"}


def test_a_split_transform_gives_the_bits_of_the_whole_one():
    from torchvision import transforms

    parts = [transforms.Resize(20), transforms.CenterCrop(16), transforms.ToTensor()]
    whole = transforms.Compose([*parts, transforms.Normalize((0.48, 0.46, 0.41), (0.27, 0.26, 0.28))])
    pixels = np.random.default_rng(0).integers(0, 256, (3, 40, 30, 3), dtype=np.uint8)
    pictures = [Image.fromarray(each) for each in pixels]
    cut, scale = split_transform(whole)
    prepared = [cut(each) for each in pictures]
    assert prepared[0].dtype == torch.uint8 and prepared[0].shape == (16, 16, 3)
    batch = scale(torch.stack(prepared))
    assert batch.is_contiguous() and torch.equal(batch, torch.stack([whole(each) for each in pictures]))
    from open_clip.transform import PreprocessCfg, image_transform_v2

    theirs = image_transform_v2(PreprocessCfg(size=16), is_train=False)
    cut, scale = split_transform(theirs)
    assert cut(pictures[0]).dtype == torch.uint8  # open_clip's own is cut, too
    assert torch.equal(
        scale(torch.stack([cut(each) for each in pictures])), torch.stack([theirs(each) for each in pictures])
    )
    other = transforms.Compose(parts)
    same, nothing = split_transform(other)
    assert same is other and nothing(batch) is batch
