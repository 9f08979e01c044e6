"""ULIP's three towers against timm and open_clip, and the encoder on checkpoints in the official layouts."""

import argparse
import concurrent.futures
import io
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from checkpoints_ulip import SMALL, faint, ulip_state, write_ulip
from PIL import Image

from cmcr.encoders import bpe, load_encoder, ulip
from cmcr.encoders.point_bert import GROUPS, group_points
from cmcr.encoders.ulip import ImageTower, TextTower, UlipEncoder
from cmcr.encoders.weights import fill
from cmcr.errors import ArtifactError, InputError, ItemError, MissingExtraError
from cmcr.items import Item
from cmcr.modality import Modality

CLOUD, IMAGE, TEXT = Modality.POINT_CLOUD, Modality.IMAGE, Modality.TEXT


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "pointbert_ULIP-2.pt"
    write_ulip(path)
    return path


@pytest.fixture(scope="module")
def encoder(checkpoint):
    return UlipEncoder(str(checkpoint))


def cloud(points=600, seed=0, scale=(1, 1, 1)):
    return (np.random.default_rng(seed).normal(size=(points, 3)) * scale).astype(np.float32)


def prepare_cloud(encoder, points, **about):
    file = io.BytesIO()
    np.save(file, points)
    return encoder.prepare(Item("a", CLOUD, "a.npy", path="a.npy", **about), file.getvalue())


def picture(width=60, height=48, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def prepare_picture(encoder, image):
    file = io.BytesIO()
    image.save(file, "PNG")
    return encoder.prepare(Item("a", IMAGE, "a.png", path="a.png"), file.getvalue())


def prepare_text(encoder, text):
    return encoder.prepare(Item("a", TEXT, "a", text=text), text.encode())


def some(encoder, modality):
    """Five prepared items that differ in size."""
    if modality is CLOUD:
        return [prepare_cloud(encoder, cloud(40 + 400 * seed, seed, (1, 1 + seed, 1))) for seed in range(5)]
    if modality is IMAGE:
        return [prepare_picture(encoder, picture(50 + 30 * seed, 90, seed)) for seed in range(5)]
    return [prepare_text(encoder, text) for text in ("a cat", "a chair made of wood", "z", "red " * 30, "word " * 200)]


def altered(path, change, **layout):
    """A checkpoint whose tensors ``change`` has altered in place."""
    state = ulip_state(**layout)
    change(state)
    torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()}}, path)
    return str(path)


# The towers against the libraries they were written with.


def tower_of(kind, state):
    built = kind(state, "a test")
    fill(built, {name: value for name, value in state.items() if name.split(".")[0] in built.roots}, "a test")
    return built.eval()


def timm_parity(state, **size):
    import timm

    theirs = timm.create_model("vit_base_patch16_224", pretrained=False, num_classes=0, **size).eval()
    visual = {name.removeprefix("visual."): value for name, value in state.items() if name.startswith("visual.")}
    theirs.load_state_dict(visual, strict=True)
    side = theirs.patch_embed.img_size[0]
    pixels = torch.randn(3, 3, side, side, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = theirs(pixels) @ state["image_projection"]
        torch.testing.assert_close(tower_of(ImageTower, state)(pixels), expected, atol=1e-4, rtol=1e-4)


def text_parity(state, width, depth):
    from open_clip.transformer import QuickGELU, TextTransformer

    theirs = TextTransformer(
        context_length=77, width=width, heads=width // 64, layers=depth, output_dim=512, act_layer=QuickGELU
    ).eval()
    own = {name: value for name, value in state.items() if name.split(".")[0] in TextTower.roots}
    theirs.load_state_dict(own, strict=True)
    texts = ("a cat", "a point cloud model of a night stand.", "word " * 200)
    tokens = torch.from_numpy(np.stack([bpe.bpe_tokenizer("a test")(text, 77) for text in texts]))
    with torch.inference_mode():
        torch.testing.assert_close(tower_of(TextTower, state)(tokens), theirs(tokens), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("strength", [dict, faint])
def test_the_image_tower_is_timms(strength):
    timm_parity(strength(ulip_state()), embed_dim=64, depth=2, num_heads=1, img_size=48)


@pytest.mark.parametrize("strength", [dict, faint])
def test_the_text_tower_is_open_clips_with_quick_gelu(strength):
    text_parity(strength(ulip_state()), 64, 2)


@pytest.mark.parametrize(
    ("width", "height"),
    [(224, 224), (225, 224), (224, 301), (640, 480), (481, 333), (97, 1201), (100, 50), (30, 31), (1, 1), (7, 700)],
)
def test_pictures_are_cut_as_torchvision_does(width, height):
    from torchvision import transforms

    image = picture(width, height)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    official = transforms.Compose(
        [transforms.Resize(224), transforms.CenterCrop(224), transforms.ToTensor(), transforms.Normalize(mean, std)]
    )
    np.testing.assert_allclose(ulip.crop(image, 224), official(image).numpy(), atol=1e-6)


def test_a_picture_of_a_million_by_one_pixels_is_cut_before_it_is_scaled():
    line = Image.new("RGB", (1_000_000, 1))
    line.paste((255, 255, 255), (499_999, 0, 500_001, 1))  # its two middle pixels fill the square
    pixels = ulip.crop(line, 224)
    assert pixels.shape == (3, 224, 224) and (pixels[0, :, 100:124] > 2).all()


def test_texts_are_tokenised_as_open_clip_does():
    import open_clip

    texts = ["A photo of   a Cat &amp; a dog!", "día 😀", "word " * 200]
    tokens = np.stack([bpe.bpe_tokenizer("a test")(text, 77) for text in texts])
    np.testing.assert_array_equal(tokens, open_clip.tokenize(texts).numpy())
    assert tokens[2, -1] == tokens.max()  # a text that is cut keeps its end token, where its feature is read


# The encoder.


def test_it_embeds_what_its_checkpoint_holds(encoder):
    assert encoder.name == "ulip:pointbert_ULIP-2.pt"
    assert set(encoder.modalities) == {CLOUD, IMAGE, TEXT} and encoder.dim == 512
    for modality in encoder.modalities:
        prepared = some(encoder, modality)
        vectors = encoder.encode(modality, prepared)
        assert vectors.shape == (5, 512) and vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
        assert np.abs(vectors @ vectors.T - np.eye(5)).max() < 0.99999  # different things, different vectors
        assert encoder.encode(modality, []).shape == (0, 512)


@pytest.mark.parametrize("modality", [CLOUD, IMAGE, TEXT])
def test_a_vector_does_not_depend_on_its_batch(encoder, modality):
    prepared = some(encoder, modality)
    together = encoder.encode(modality, prepared)
    for parts in ([[0], [1], [2], [3], [4]], [[0, 1, 2, 3], [4]], [[4, 2], [0, 3, 1]]):
        for part in parts:
            alone = encoder.encode(modality, [prepared[index] for index in part])
            np.testing.assert_allclose(alone, together[part], atol=1e-5)


def test_clouds_are_normalised_and_groups_are_512(encoder):
    points = cloud(1000)
    groups = prepare_cloud(encoder, points)
    assert groups.shape == (GROUPS, 33, 3)
    centred = points - points.mean(axis=0)
    expected = group_points((centred / np.linalg.norm(centred, axis=1).max()).astype(np.float32))
    np.testing.assert_allclose(groups, expected, atol=1e-6)
    moved = (points * 7 + [100, -20, 3]).astype(np.float32)
    vectors = encoder.encode(CLOUD, [groups, prepare_cloud(encoder, moved)])
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-4)


def test_normals_and_colours_are_left_aside(encoder):
    points = cloud()
    np.testing.assert_array_equal(
        prepare_cloud(encoder, np.concatenate([points, cloud(seed=3)], axis=1)), prepare_cloud(encoder, points)
    )


def test_a_cloud_with_z_up_is_turned(encoder):
    points = cloud(scale=(1, 2, 3))
    as_is = prepare_cloud(encoder, points)
    np.testing.assert_array_equal(prepare_cloud(encoder, points, up="y"), as_is)
    turned = prepare_cloud(encoder, points, up="z")
    x, y, z = points.T
    np.testing.assert_array_equal(turned, prepare_cloud(encoder, np.stack([x, z, -y], axis=1)))
    assert np.abs(turned - as_is).max() > 0.1


def test_of_many_points_8192_are_drawn_the_same_each_time(encoder):
    points = cloud(20_000)
    thinned = ulip.thin(points)
    assert len(thinned) == 8192 == len(np.unique(thinned, axis=0))
    rows = {tuple(row): index for index, row in enumerate(points)}
    drawn = [rows[tuple(row)] for row in thinned]
    assert drawn == sorted(drawn) and 9_500 < np.mean(drawn) < 10_500
    np.testing.assert_array_equal(prepare_cloud(encoder, points), prepare_cloud(encoder, thinned))
    np.testing.assert_array_equal(ulip.thin(points[:8192]), points[:8192])


def test_raw_clouds_are_taken_as_they_are(checkpoint, encoder):
    raw = UlipEncoder(f"{checkpoint}#raw")
    assert raw.name == "ulip:pointbert_ULIP-2.pt#raw" and raw.fingerprint != encoder.fingerprint
    points = cloud(9000) + np.float32(2)
    np.testing.assert_array_equal(prepare_cloud(raw, points), group_points(points))
    with pytest.raises(ItemError, match="expected at unit scale"):
        prepare_cloud(raw, points * 1000)


@pytest.mark.parametrize("points", [32, 33, 200, 511])
def test_small_clouds_fill_all_groups(encoder, points):
    groups = prepare_cloud(encoder, cloud(points))
    assert len(np.unique(groups[:, 0], axis=0)) == points
    np.testing.assert_array_equal(
        groups[points:], groups[: GROUPS - points] if 2 * points > GROUPS else groups[points:]
    )
    assert np.isfinite(encoder.encode(CLOUD, [groups])).all()


@pytest.mark.parametrize(
    ("points", "reason"),
    [
        (cloud(31), "31 points; at least 32"),
        (np.ones((100, 3)), "all 100 points are in one place"),
        (np.full((100, 3), 0.1), "in one place"),
        (np.full((100, 3), np.nan), "non-finite"),
        (np.concatenate([cloud(99), [[np.inf, 0, 0]]]), "non-finite"),
    ],
)
def test_a_degenerate_cloud_is_refused_with_a_reason(encoder, points, reason):
    with pytest.raises(ItemError, match=reason):
        prepare_cloud(encoder, points)


@pytest.mark.parametrize("points", [cloud() * np.float32(1e30), cloud() * np.float32(1e-30), cloud(scale=(1, 0, 0))])
def test_clouds_of_any_scale_and_flat_ones_have_vectors(encoder, points):
    assert np.isfinite(encoder.encode(CLOUD, [prepare_cloud(encoder, points)])).all()


def test_bad_texts_are_refused_with_a_reason(encoder):
    for data, reason in ((b"\xff", "not UTF-8 at byte 0"), (b"  ", "empty text")):
        with pytest.raises(ItemError, match=reason):
            encoder.prepare(Item("a", TEXT, "a", text="a"), data)


def test_prepare_is_the_same_in_threads_and_leaves_random_states_alone(encoder):
    expected = prepare_cloud(encoder, cloud(9000))
    np.random.seed(7)  # noqa: NPY002 - it is the global state that must not change
    torch.manual_seed(7)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: prepare_cloud(encoder, cloud(9000)), range(8)):
            np.testing.assert_array_equal(found, expected)
    after = np.random.random(), torch.rand(1)  # noqa: NPY002
    np.random.seed(7)  # noqa: NPY002
    torch.manual_seed(7)
    assert after == (np.random.random(), torch.rand(1))  # noqa: NPY002


def test_lower_precision_is_near(checkpoint, encoder):
    lower = UlipEncoder(str(checkpoint), precision="bf16")
    for modality in (CLOUD, IMAGE, TEXT):
        cosines = (
            lower.encode(modality, some(lower, modality)) * encoder.encode(modality, some(encoder, modality))
        ).sum(1)
        assert cosines.min() > 0.99
        assert cosines.min() < 0.9999999  # it was indeed lower


# Checkpoints.


def test_the_container_does_not_count_but_weights_and_preprocessing_do(tmp_path, encoder):
    write_ulip(tmp_path / "bare.pt", module_prefix=False)
    write_ulip(tmp_path / "other.pt", seed=1)
    bare, other = UlipEncoder(str(tmp_path / "bare.pt")), UlipEncoder(str(tmp_path / "other.pt"))
    assert bare.fingerprint == encoder.fingerprint != other.fingerprint
    np.testing.assert_array_equal(bare.encode(TEXT, some(bare, TEXT)), encoder.encode(TEXT, some(encoder, TEXT)))


def test_the_preprocessing_is_part_of_the_fingerprint(checkpoint, encoder, monkeypatch):
    monkeypatch.setattr(ulip, "PREPROCESSING", "another")
    assert UlipEncoder(str(checkpoint)).fingerprint != encoder.fingerprint


def test_it_is_found_by_its_name(checkpoint, monkeypatch, tmp_path):
    monkeypatch.setenv("CMCR_WEIGHTS", str(tmp_path))
    with pytest.raises(InputError, match=r"pointbert_ULIP-2\.pt.*not found"):
        load_encoder("ulip")
    assert load_encoder("ulip", weights=[checkpoint.parent]).name == "ulip:pointbert_ULIP-2.pt"


def test_a_file_of_the_point_cloud_side_alone_embeds_point_clouds(tmp_path, encoder):
    write_ulip(tmp_path / "ulip1.pt", layout="ulip-1")
    alone = UlipEncoder(str(tmp_path / "ulip1.pt"))
    assert alone.modalities == (CLOUD,)
    vectors = alone.encode(CLOUD, some(alone, CLOUD))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_a_tower_is_loaded_with_its_first_item_only(tmp_path):
    damaged = UlipEncoder(altered(tmp_path / "a.pt", lambda state: state.pop("visual.norm.weight")))
    assert len(damaged.encode(CLOUD, some(damaged, CLOUD))) == 5
    for _ in range(2):
        with pytest.raises(ArtifactError, match=r"a\.pt: .*1 missing: visual\.norm\.weight"):
            damaged.encode(IMAGE, some(damaged, IMAGE))


def test_a_tower_is_loaded_once(checkpoint, monkeypatch):
    loads = []
    monkeypatch.setattr(ulip, "fill", lambda *args, **options: loads.append(fill(*args, **options)))
    encoder = UlipEncoder(str(checkpoint))
    assert not loads
    for modality in (TEXT, IMAGE, TEXT, IMAGE):
        encoder.encode(modality, some(encoder, modality))
    assert len(loads) == 2


def test_the_counter_of_batch_norm_may_be_absent(tmp_path, encoder):
    def drop(state):
        for name in [name for name in state if name.endswith("num_batches_tracked")]:
            del state[name]

    without = UlipEncoder(altered(tmp_path / "a.pt", drop))
    np.testing.assert_array_equal(
        without.encode(CLOUD, some(without, CLOUD)), encoder.encode(CLOUD, some(encoder, CLOUD))
    )


CHANGES = {
    "no projection": (lambda state: state.pop("pc_projection"), "expected point_encoder.* and pc_projection"),
    "no point cloud tower": (
        lambda state: [state.pop(name) for name in list(state) if name.startswith("point_encoder.")],
        r"holds logit_scale, positional_embedding, token_embedding, transformer, ln_final \.\.\.; expected point_",
    ),
    "another point cloud tower": (lambda state: state.pop("point_encoder.reduce_dim.weight"), "reduce_dim.weight is"),
    "open_clip's towers": (
        lambda state: state.update({"open_clip_model.logit_scale": torch.ones(())}),
        "unexpected open_clip_model",
    ),
    "another space": (lambda state: state.update(text_projection=torch.zeros(64, 256)), "point_cloud 512.*text 256"),
    "half a tower": (lambda state: state.pop("visual.pos_embed"), "visual.pos_embed is missing"),
}


@pytest.mark.parametrize(("change", "reason"), CHANGES.values(), ids=CHANGES)
def test_another_checkpoint_is_refused_with_what_was_found(tmp_path, change, reason):
    with pytest.raises(ArtifactError, match=reason) as caught:
        UlipEncoder(altered(tmp_path / "a.pt", change))
    assert str(tmp_path / "a.pt") in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "modality", "reason"),
    [
        ({"point_encoder.extra": torch.zeros(1)}, CLOUD, "1 unexpected: point_encoder.extra"),
        ({"point_encoder.norm.bias": torch.zeros(63)}, CLOUD, r"norm.bias \(63,\), not \(64,\)"),
        ({"point_encoder.encoder.first_conv.0.weight": torch.zeros(128, 6, 1)}, CLOUD, r"\(128, 6, 1\), not \(128, 3"),
        ({"visual.pos_embed": torch.zeros(1, 12, 64)}, IMAGE, r"pos_embed \(1, 12, 64\), not \(1, 10, 64\)"),
        ({"token_embedding.weight": torch.zeros(9, 64)}, TEXT, r"\(9, 64\), not \(49408, 64\)"),
    ],
)
def test_tensors_that_do_not_fit_are_named(tmp_path, change, modality, reason):
    damaged = UlipEncoder(altered(tmp_path / "a.pt", lambda state: state.update(change)))
    with pytest.raises(ArtifactError, match=reason):
        damaged.encode(modality, some(damaged, modality))


class Reduced:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_hostile_checkpoint_is_refused_and_runs_nothing(tmp_path, legacy):
    saved = {"state_dict": ulip_state(layout="ulip-1"), "args": argparse.Namespace(x=Reduced(f"touch {tmp_path}/ran"))}
    torch.save(saved, tmp_path / "hostile.pt", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(ArtifactError, match=r"cannot be read as weights \(.*posix.system"):
        UlipEncoder(str(tmp_path / "hostile.pt"))
    assert not (tmp_path / "ran").exists()


def test_text_without_open_clip_names_the_extra(encoder, monkeypatch):
    monkeypatch.setitem(sys.modules, "open_clip.tokenizer", None)
    bpe.bpe_tokenizer.cache_clear()
    with pytest.raises(MissingExtraError, match=r"needs open_clip_torch.*pip install 'cmcr\[clip\]'"):
        prepare_text(encoder, "a cat")


def test_clouds_and_pictures_load_no_model_library(checkpoint):
    script = (
        "import io, sys, numpy as np\n"
        "from PIL import Image\n"
        "from cmcr.encoders.ulip import UlipEncoder\n"
        "from cmcr.items.read import Item\n"
        f"encoder = UlipEncoder({str(checkpoint)!r})\n"
        "points, image = io.BytesIO(), io.BytesIO()\n"
        "np.save(points, np.random.default_rng(0).normal(size=(100, 3)))\n"
        "Image.new('RGB', (60, 50), 'red').save(image, 'PNG')\n"
        "for modality, file in zip(encoder.modalities, (points, image)):\n"
        "    item = Item('a', modality, 'a.npy', path='a.npy')\n"
        "    encoder.encode(modality, [encoder.prepare(item, file.getvalue())])\n"
        "print(*({'open_clip', 'timm', 'torchvision', 'transformers', 'trimesh', 'laion_clap'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.slow
def test_full_size(tmp_path):
    state = write_ulip(tmp_path / "pointbert_ULIP-2.pt", small=False)
    encoder = load_encoder("ulip", weights=[tmp_path])
    assert set(encoder.modalities) == {CLOUD, IMAGE, TEXT} and encoder.dim == 512
    for modality in encoder.modalities:
        prepared = some(encoder, modality)
        vectors = encoder.encode(modality, prepared)
        assert vectors.shape == (5, 512)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
        alone = np.concatenate([encoder.encode(modality, [one]) for one in prepared])
        np.testing.assert_allclose(alone, vectors, atol=1e-5)
    timm_parity(state)
    text_parity(state, 512, 12)


def test_the_small_checkpoint_has_every_part_of_the_full_one():
    import re

    from checkpoints_ulip import Size, image_shapes, point_shapes, text_shapes

    def parts(size):
        names = (*text_shapes(size), *image_shapes(size), *point_shapes(size))
        return {re.sub(r"blocks\.\d+\.", "blocks.N.", name) for name in names}

    assert parts(SMALL) == parts(Size())
