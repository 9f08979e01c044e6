import copy

import pytest
import torch

from cmcr.space import Projector, ProjectorConfig, lean_mlp


@pytest.fixture
def projector():
    torch.manual_seed(0)
    projector = Projector(ProjectorConfig("mlp", 7, 5, hidden=11))
    with torch.no_grad():
        for weight in projector.parameters():
            weight += 0.3 * torch.randn_like(weight)
    return projector


def layer_by_layer(projector, x):
    return torch.nn.functional.normalize(projector.body(x), dim=1)


@pytest.mark.parametrize(("dtype", "within"), [(torch.float32, 1e-4), (torch.float64, 1e-11)])
@pytest.mark.parametrize("rows", [2, 50, 64])
def test_same_output_gradients_and_running_statistics_as_the_layers(projector, monkeypatch, dtype, within, rows):
    monkeypatch.setattr(lean_mlp, "ROWS", 16)
    lean, plain = projector.to(dtype), copy.deepcopy(projector.to(dtype))
    seen = []
    for function, module in ((Projector.__call__, lean), (layer_by_layer, plain)):
        torch.manual_seed(1)
        x = torch.randn(rows, 7, dtype=dtype, requires_grad=True)
        out = function(module, x)
        (out * torch.randn_like(out)).sum().backward()
        weights = [weight.grad for weight in module.parameters()]
        seen.append([out.detach(), x.grad, *weights, *module.buffers()])
    for ours, theirs in zip(*seen, strict=True):
        assert torch.allclose(ours, theirs, rtol=within, atol=within)


def test_keeps_only_what_it_reads_again(projector):
    def held(function):
        x, kept = torch.randn(512, 7), {}

        def pack(tensor):
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            out = function(projector, x)
        assert out.requires_grad
        return sum(size for size in kept.values() if size >= 512 * 5 * 4)

    # The input and what enters the two BatchNorms, against each layer's result as well.
    assert held(Projector.__call__) == 512 * (7 + 11 + 5) * 4
    assert held(layer_by_layer) >= 1.5 * held(Projector.__call__)


def test_evaluation_uses_the_running_statistics(projector):
    x = torch.randn(9, 7)
    projector(x)
    projector.eval()
    assert not lean_mlp.fits(projector.body, x)
    assert torch.equal(projector(x), layer_by_layer(projector, x))


def test_a_single_row_has_no_variance(projector):
    with pytest.raises(ValueError, match="at least 2"):
        projector(torch.randn(1, 7))
