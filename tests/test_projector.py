import pytest
import torch

from cmcr.errors import ArtifactError
from cmcr.space import Projector, ProjectorConfig, Route, initialise, rotate_output


def unit(rows, dim, seed=0):
    return torch.nn.functional.normalize(torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed)), dim=1)


@pytest.mark.parametrize("kind", ["mlp", "half-mlp", "linear"])
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


@pytest.mark.parametrize("kind", ["mlp", "linear"])
def test_a_turned_projector_is_the_old_one_times_the_matrix(kind):
    generator = torch.Generator().manual_seed(0)
    projector = Projector(ProjectorConfig(kind, 6, 4, hidden=8 if kind == "mlp" else 0))
    x = torch.randn(50, 6, generator=generator)
    projector.train()
    for norm in (layer for layer in projector.modules() if isinstance(layer, torch.nn.BatchNorm1d)):
        norm.weight.data.uniform_(0.5, 2, generator=generator)
        norm.bias.data.uniform_(-1, 1, generator=generator)
        norm.momentum = 1.0
    projector(x)  # running statistics away from their start
    projector.eval()
    matrix = torch.randn(4, 4, generator=generator)
    before = projector(x)
    with torch.no_grad():
        expected = torch.nn.functional.normalize(projector.body(x) @ matrix, dim=1)
        assert torch.allclose(rotate_output(projector, matrix)(x), expected, atol=1e-5)
        assert not torch.allclose(before, expected, atol=1e-2)
    assert torch.equal(projector(x), before)  # a copy


def test_a_body_that_ends_in_relu_is_not_turned():
    projector = Projector(ProjectorConfig("half-mlp", 6, 4)).eval()
    x = torch.randn(9, 6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(rotate_output(projector, torch.ones(4, 4))(x), projector(x))


def test_unknown_kind_is_refused():
    with pytest.raises(ArtifactError, match="expected one of mlp"):
        Projector(ProjectorConfig("mpl", 7, 5))
