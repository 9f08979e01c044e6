from dataclasses import replace

import numpy as np
import pytest
import torch

from cmcr.errors import ArtifactError
from cmcr.space import Projector, ProjectorConfig, Route, bridges, initialise


def unit(rows, dim, seed=0):
    return torch.nn.functional.normalize(torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed)), dim=1)


@pytest.mark.parametrize("kind", ["mlp", "half-mlp", "gelu-mlp", "linear", "decoupled"])
def test_projects_any_dims_to_unit_vectors(kind):
    projector = Projector(ProjectorConfig(kind, 7, 40, hidden=11))
    projected = projector(unit(9, 7))
    assert projected.shape == (9, 40)
    assert torch.allclose(projected.norm(dim=1), torch.ones(9), atol=1e-5)


def test_layers_are_those_of_the_official_heads():
    audio_visual = Projector(ProjectorConfig("mlp", 512, 512, hidden=1024)).body
    assert [type(layer).__name__ for layer in audio_visual] == [
        "Linear",
        "BatchNorm1d",
        "ReLU",
        "Linear",
        "BatchNorm1d",
    ]
    assert audio_visual[0].weight.shape == (1024, 512) and audio_visual[3].weight.shape == (512, 1024)
    cloud = Projector(ProjectorConfig("half-mlp", 512, 512))
    assert [type(layer).__name__ for layer in cloud.body] == ["Linear", "BatchNorm1d", "ReLU"]
    projected = cloud(unit(9, 512))
    assert (projected @ projected.T >= 0).all()  # it ends in a ReLU


def test_a_decoupled_map_sends_only_the_outer_modalities_through_its_head_and_all_through_the_same_blocks():
    config = ProjectorConfig("decoupled", 6, 4, hidden=12, outer=("audio",))
    projector = Projector(config).eval()
    body, x = projector.body, unit(9, 6)
    layers = ["Linear", "BatchNorm1d", "ReLU", "Linear", "BatchNorm1d"] * 2
    assert [type(layer).__name__ for layer in body.blocks] == layers
    assert [tuple(body.blocks[n].weight.shape) for n in (0, 3, 5, 8)] == [(12, 6), (4, 12), (12, 4), (4, 12)]
    by_hand = {"audio": body.blocks(body.head(x)), "text": body.blocks(x)}
    for modality, expected in by_hand.items():
        found = projector(x, modality)
        assert torch.equal(found, torch.nn.functional.normalize(expected, dim=1)), modality
        assert torch.equal(projector.of(modality)(x), found)
    config.check()
    assert ProjectorConfig(**config.to_dict()) == config
    assert not [key for key in Projector(replace(config, outer=())).state_dict() if "head" in key]
    for changes, message in (
        ({"kind": "mlp"}, "a mlp has no head for audio"),
        ({"outer": ("Audio!",)}, "expected modalities"),
        ({"hidden": 0}, "hidden of a decoupled is 0"),
    ):
        with pytest.raises(ValueError, match=message):
            replace(config, **changes).check()


def test_the_hidden_layer_of_textme_is_a_gelu():
    projector, x = Projector(ProjectorConfig("gelu-mlp", 6, 4, hidden=12)), unit(9, 6)
    first, norm, _, second, last = projector.body
    expected = last(second(torch.nn.functional.gelu(norm(first(x)))))
    assert torch.allclose(projector(x), torch.nn.functional.normalize(expected, dim=1), atol=1e-6)


def test_eval_mode_does_not_depend_on_the_batch():
    projector = Projector(ProjectorConfig("mlp", 7, 5, hidden=11))
    x = unit(9, 7)
    projector(x)
    projector.eval()
    assert torch.allclose(projector(x)[3:4], projector(x[3:4]), atol=1e-6)


def test_centre_belongs_to_its_modality():
    projector = Projector(ProjectorConfig("identity", 4, 4, centered=("image",)))
    projector.centers["image"].data += 0.5
    x = unit(3, 4)
    assert torch.allclose(projector(x, "image"), torch.nn.functional.normalize(x - 0.5, dim=1))
    assert torch.allclose(projector(x, "text"), x)
    assert torch.allclose(projector.of("image")(x), projector(x, "image"))


@pytest.mark.parametrize("top_k", [0, 1, 4, 12, 99])
def test_route_is_the_naive_weighted_mean(top_k):
    route = Route(12, 6, 3, tau=0.05, top_k=top_k)
    route.keys.copy_(unit(12, 6, 1))
    route.values.copy_(unit(12, 3, 2))
    x = unit(5, 6, 3)
    for row, found in zip(x, route(x), strict=True):
        similarity = [float(row @ key) for key in route.keys]
        kept = sorted(range(12), key=lambda j: -similarity[j])[: top_k or 12]
        weights = torch.tensor([similarity[j] / 0.05 for j in kept]).softmax(dim=0)
        assert torch.allclose(found, weights @ route.values[kept], atol=1e-5)


def test_initialisation_comes_from_the_generator_alone():
    def made(seed, init="default"):
        projector = Projector(ProjectorConfig("mlp", 7, 5, hidden=11))
        initialise(projector, init, torch.Generator().manual_seed(seed))
        return projector.state_dict()["body.0.weight"]

    assert torch.equal(made(1), made(1))
    assert not torch.equal(made(1), made(2))
    assert torch.equal(made(1, "identity"), torch.eye(11, 7))
    assert made(1, "xavier").abs().max() <= (6 / 18) ** 0.5
    assert made(1, "xavier").abs().max() > 7**-0.5


def ensemble_of(weights=(1.0, 2.0, 1.0)):
    """A route into 5 components and the identity of 4, cut into segments of 3, 2 and 4, centred for two modalities."""
    generator = torch.Generator().manual_seed(0)
    keys, values = torch.randn(9, 4, generator=generator), torch.randn(9, 5, generator=generator)
    centers = {"image": torch.randn(4, generator=generator), "text": torch.randn(4, generator=generator)}
    parts = [bridges.route_bridge(keys, values, 0.3, 0, {}), bridges.identity(4, {})]
    made = bridges.ensemble(parts, (3, 2, 4), weights, centers)
    for name in centers:
        made.body.means[name].data.copy_(torch.randn(9, generator=generator))
    return made


def test_the_cosine_of_an_ensemble_is_the_weighted_mean_of_its_segments_cosines():
    projector, x = ensemble_of(), torch.nn.functional.normalize(torch.randn(6, 4), dim=1)
    keys, values = (getattr(projector.body.parts[0], name).numpy() for name in ("keys", "values"))

    def segments(modality):
        found = []
        for row in x.numpy():
            row = row - projector.centers[modality].numpy()
            row = row / np.linalg.norm(row)
            weight = np.exp(keys @ row / 0.3)
            made = np.concatenate([weight / weight.sum() @ values, row]) - projector.body.means[modality].numpy()
            found.append([part / np.linalg.norm(part) for part in np.split(made, [3, 5])])
        return [np.stack(part) for part in zip(*found, strict=True)]

    pairs = zip(segments("image"), segments("text"), (0.25, 0.5, 0.25), strict=True)
    expected = sum(weight * a @ b.T for a, b, weight in pairs)
    image, text = projector(x, "image"), projector(x, "text")
    np.testing.assert_allclose((image @ text.T).detach().numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(image.norm(dim=1).detach().numpy(), 1, atol=1e-6)
    other = bridges.reweighted(projector, (1, 1, 2))
    assert other.config.weights == (0.25, 0.25, 0.5) and not torch.allclose(other(x, "image"), image)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": (0.5, 0.5)}, "2 weights of 3 segments"),
        ({"weights": (0.5, 0.5, 0.5)}, "expected above 0 and 1 in sum"),
        ({"weights": (1.5, -1.0, 0.5)}, "expected above 0"),
        ({"segments": (3, 2, 5)}, "segments of 10, expected 9"),
        ({"segments": (9, 1, -1)}, "1 or more components each"),
        ({"parts": ()}, "parts of 0"),
        ({"parts": (ProjectorConfig("ensemble", 4, 9),)}, "a part is an ensemble"),
        ({"parts": (ProjectorConfig("identity", 4, 4, centered=("text",)),)}, "centred by itself"),
        ({"parts": (ProjectorConfig("identity", 5, 5),)}, "a part of 5 components, expected 4"),
        ({"kind": "linear"}, "a linear has no parts"),
    ],
)
def test_an_ensemble_that_cannot_be_is_refused(changes, message):
    config = ensemble_of().config
    config.check()
    with pytest.raises(ValueError, match=message):
        replace(config, **changes).check()


def test_unknown_kind_is_refused():
    with pytest.raises(ArtifactError, match="expected one of mlp"):
        Projector(ProjectorConfig("mpl", 7, 5))
