"""Point-BERT against a reference written step by step, and the sampling and grouping it rests on."""

import math

import numpy as np
import pytest
import torch
from checkpoints_ulip import SMALL, Size, faint, point_shapes, random_tensor

from cmcr.encoders import point_bert
from cmcr.encoders.point_bert import PointBert, Sizes, farthest_points, group_points, nearest_points
from cmcr.encoders.weights import fill
from cmcr.errors import ArtifactError

PREFIX = "point_encoder."


def random_state(size=SMALL, seed=0):
    generator = torch.Generator().manual_seed(seed)
    named = {name: random_tensor(name, shape, generator) for name, shape in point_shapes(size).items()}
    return {name.removeprefix(PREFIX): value for name, value in named.items() if name.startswith(PREFIX)}


def network(state):
    built = PointBert(Sizes.of_state(state, "", "a test"))
    fill(built, state, "a test")
    return built.eval()


def embed(built, clouds, groups=16):
    with torch.inference_mode():
        return built(torch.from_numpy(np.stack([group_points(cloud, groups) for cloud in clouds]))).numpy()


def cloud(points, seed=0):
    return np.random.default_rng(seed).normal(size=(points, 3)).astype(np.float32)


def grid(side):
    """A cloud in which nearly every distance is shared."""
    axis = np.arange(side, dtype=np.float32)
    return np.stack(np.meshgrid(axis, axis, axis), axis=-1).reshape(-1, 3)


def slow_farthest(xyz, count):
    """Farthest point sampling as one would say it."""
    chosen = [0]
    while len(chosen) < min(count, len(xyz)):
        distances = [min(float(((point - xyz[other]) ** 2).sum()) for other in chosen) for point in xyz]
        chosen.append(distances.index(max(distances)))
    return [chosen[index % len(chosen)] for index in range(count)]


def slow_nearest(xyz, centre, count):
    distances = [float(((point - centre) ** 2).sum()) for point in xyz]
    return sorted(range(len(xyz)), key=lambda index: (distances[index], index))[:count]


@pytest.mark.parametrize(
    "xyz", [cloud(60), grid(4), np.repeat(cloud(20), 3, axis=0)], ids=["drawn", "ties", "repeated"]
)
def test_farthest_points_are_those_of_the_definition(xyz):
    assert farthest_points(xyz, 12).tolist() == slow_farthest(xyz, 12)


def test_a_cloud_of_fewer_points_is_gone_through_again():
    xyz = cloud(5)
    once = farthest_points(xyz, 5).tolist()
    assert sorted(once) == [0, 1, 2, 3, 4]
    assert farthest_points(xyz, 12).tolist() == once + once + once[:2] == slow_farthest(xyz, 12)


@pytest.mark.parametrize("count", [1, 7, 32])
@pytest.mark.parametrize(
    "xyz",
    [cloud(32), cloud(33), cloud(1023), cloud(1100), grid(10), np.zeros((70, 3), np.float32)],
    ids=["all", "one more", "few blocks", "a tail", "ties", "one place"],
)
def test_nearest_points_are_those_of_the_definition(xyz, count, monkeypatch):
    centres = xyz[:9]
    expected = [slow_nearest(xyz, centre, count) for centre in centres]
    for cached in (1, 4 * len(xyz), 1 << 16):  # one centre at a time, four, all
        monkeypatch.setattr(point_bert, "_CACHED", cached)
        assert nearest_points(xyz, centres, count).tolist() == expected


def test_groups_are_a_centre_and_its_points_relative_to_it():
    xyz = cloud(200)
    groups = group_points(xyz, 10, 8)
    assert groups.shape == (10, 9, 3) and groups.dtype == np.float32
    for (centre, *around), chosen in zip(groups, slow_farthest(xyz, 10), strict=True):
        np.testing.assert_array_equal(centre, xyz[chosen])
        np.testing.assert_array_equal(around, xyz[slow_nearest(xyz, centre, 8)] - centre)
        np.testing.assert_array_equal(around[0], 0)  # itself


def test_the_start_is_pinned_and_random_states_are_left_alone():
    np.random.seed(0)  # noqa: NPY002 - it is the global state that must not matter
    torch.manual_seed(0)
    first, states = group_points(cloud(600)), (np.random.get_state()[1].tolist(), torch.get_rng_state())  # noqa: NPY002
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    np.testing.assert_array_equal(group_points(cloud(600)), first)
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)
    group_points(cloud(600))
    assert np.random.get_state()[1].tolist() == states[0] and torch.equal(torch.get_rng_state(), states[1])  # noqa: NPY002


# The reference: numpy, one cloud, one group, one point, one head at a time.


def layer_norm(x, weight, bias, eps=1e-5):
    return (x - x.mean()) / np.sqrt(x.var() + eps) * weight + bias


def gelu(x):
    return np.array([value * 0.5 * (1 + math.erf(value / math.sqrt(2))) for value in x.ravel()]).reshape(x.shape)


class Reference:
    def __init__(self, state):
        self.state = {name: value.double().numpy() for name, value in state.items()}

    def linear(self, name, x):
        out = self.state[f"{name}.weight"].reshape(self.state[f"{name}.weight"].shape[:2]) @ x
        return out + self.state[f"{name}.bias"] if f"{name}.bias" in self.state else out

    def norm(self, name, x):
        return layer_norm(x, self.state[f"{name}.weight"], self.state[f"{name}.bias"])

    def batch_norm(self, name, x):
        mean, variance = self.state[f"{name}.running_mean"], self.state[f"{name}.running_var"]
        return (x - mean) / np.sqrt(variance + 1e-5) * self.state[f"{name}.weight"] + self.state[f"{name}.bias"]

    def mini_encoder(self, points):
        first = []
        for point in points:
            hidden = np.maximum(self.batch_norm("encoder.first_conv.1", self.linear("encoder.first_conv.0", point)), 0)
            first.append(self.linear("encoder.first_conv.3", hidden))
        whole = np.max(first, axis=0)
        second = []
        for feature in first:
            both = self.linear("encoder.second_conv.0", np.concatenate([whole, feature]))
            hidden = np.maximum(self.batch_norm("encoder.second_conv.1", both), 0)
            second.append(self.linear("encoder.second_conv.3", hidden))
        return np.max(second, axis=0)

    def attention(self, name, tokens):
        width = tokens.shape[1]
        qkv = np.stack([self.linear(f"{name}.qkv", token) for token in tokens])
        out = np.zeros_like(tokens)
        for head in range(width // 64):
            q, k, v = (qkv[:, part * width + 64 * head :][:, :64] for part in range(3))
            for row, query in enumerate(q):
                weights = np.exp((k @ query) / 8 - ((k @ query) / 8).max())
                out[row, 64 * head :][:64] = weights @ v / weights.sum()
        return np.stack([self.linear(f"{name}.proj", token) for token in out])

    def block(self, name, tokens):
        normed = np.stack([self.norm(f"{name}.norm1", token) for token in tokens])
        tokens = tokens + self.attention(f"{name}.attn", normed)
        out = []
        for token in tokens:
            hidden = gelu(self.linear(f"{name}.mlp.fc1", self.norm(f"{name}.norm2", token)))
            out.append(token + self.linear(f"{name}.mlp.fc2", hidden))
        return np.stack(out)

    def __call__(self, xyz, groups, depth):
        centres = [xyz[index].astype(np.float64) for index in slow_farthest(xyz, groups)]
        around = [xyz[slow_nearest(xyz, centre, 32)] - centre for centre in centres]
        tokens = [self.linear("reduce_dim", self.mini_encoder(points)) for points in around]
        positions = [self.linear("pos_embed.2", gelu(self.linear("pos_embed.0", centre))) for centre in centres]
        tokens = np.stack([self.state["cls_token"][0, 0], *tokens])
        positions = np.stack([self.state["cls_pos"][0, 0], *positions])
        for number in range(depth):
            tokens = self.block(f"blocks.blocks.{number}", tokens + positions)
        tokens = np.stack([self.norm("norm", token) for token in tokens])
        return np.concatenate([tokens[0], tokens[1:].max(axis=0)])


@pytest.mark.parametrize(
    ("size", "points", "strength"),
    [(SMALL, 300, dict), (Size(point_width=128, point_depth=3, group_width=64), 40, dict), (SMALL, 300, faint)],
    ids=["one head", "two heads", "faint"],
)
def test_parity_with_the_reference(size, points, strength):
    state, xyz = strength(random_state(size)), cloud(points)
    expected = Reference(state)(xyz, 12, size.point_depth)
    assert expected.std() > 0.1
    np.testing.assert_allclose(embed(network(state), [xyz], 12)[0], expected, atol=2e-5, rtol=1e-5)


def test_a_bias_of_queries_is_taken_from_the_checkpoint():
    state = random_state()
    biases = {f"blocks.blocks.{block}.attn.qkv.bias": torch.randn(192) for block in range(2)}
    without, built = embed(network(state), [cloud(100)]), network(state | biases)
    assert np.abs(embed(built, [cloud(100)]) - without).max() > 1e-3
    expected = Reference(state | biases)(cloud(100), 12, 2)
    np.testing.assert_allclose(embed(built, [cloud(100)], 12)[0], expected, atol=2e-5, rtol=1e-5)


def test_a_vector_does_not_depend_on_its_batch_nor_on_the_chunks(monkeypatch):
    built, clouds = network(random_state()), [cloud(40 + 300 * number, seed=number) for number in range(5)]
    together = embed(built, clouds)
    for number, one in enumerate(clouds):
        np.testing.assert_allclose(embed(built, [one])[0], together[number], atol=1e-5)
    monkeypatch.setattr(point_bert, "_CHUNK", 7)
    np.testing.assert_allclose(embed(built, clouds), together, atol=1e-5)


def test_the_order_of_the_points_does_not_matter_but_for_the_first():
    built, xyz = network(random_state()), cloud(300)
    shuffled = np.concatenate([xyz[:1], np.random.default_rng(1).permutation(xyz[1:])])
    np.testing.assert_allclose(embed(built, [shuffled]), embed(built, [xyz]), atol=1e-5)


@pytest.mark.parametrize(
    "part", ["cls_pos", "pos_embed.2.bias", "encoder.first_conv.1.running_mean", "reduce_dim.bias"]
)
def test_every_part_acts(part):
    state = random_state()
    changed = state | {part: state[part] + torch.linspace(-1, 1, state[part].numel()).reshape(state[part].shape)}
    assert np.abs(embed(network(changed), [cloud(100)]) - embed(network(state), [cloud(100)])).max() > 1e-3


def test_the_position_joins_the_residual_stream():
    # Blocks that add nothing leave the tokens as they come: each must have left its position in them.
    state = random_state()
    for block in range(2):
        for name in ("attn.proj", "mlp.fc2"):
            for kind in ("weight", "bias"):
                state[f"blocks.blocks.{block}.{name}.{kind}"].zero_()
    cls = (state["cls_token"] + 2 * state["cls_pos"])[0, 0].double().numpy()
    expected = layer_norm(cls, state["norm.weight"].numpy(), state["norm.bias"].numpy())
    np.testing.assert_allclose(embed(network(state), [cloud(50)])[0, :64], expected, atol=1e-5)


def test_sizes_come_from_the_checkpoint():
    assert Sizes.of_state(random_state(), "", "x") == Sizes(64, 2, 32, False)
    full = {name: torch.empty(shape, device="meta") for name, shape in point_shapes(Size()).items()}
    assert Sizes.of_state(full, PREFIX, "x") == Sizes()
    with torch.device("meta"):
        built = PointBert()
    shapes = {PREFIX + name: tuple(value.shape) for name, value in built.state_dict().items()}
    assert shapes == {name: shape for name, shape in point_shapes(Size()).items() if name.startswith(PREFIX)}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"reduce_dim.weight": None}, "is missing"),
        ({"reduce_dim.weight": torch.zeros(100, 32)}, r"has the shape \(100, 32\).*multiple of 64"),
        ({"reduce_dim.weight": torch.zeros(64)}, r"has the shape \(64,\)"),
    ],
)
def test_another_network_is_refused(change, reason):
    state = {name: value for name, value in (random_state() | change).items() if value is not None}
    with pytest.raises(ArtifactError, match=f"^somewhere: reduce_dim.weight {reason}"):
        Sizes.of_state(state, "", "somewhere")


def test_coloured_clouds_are_another_network():
    state = random_state() | {"encoder.first_conv.0.weight": torch.zeros(128, 6, 1)}
    with pytest.raises(ArtifactError, match=r"first_conv.0.weight \(128, 6, 1\), not \(128, 3, 1\)"):
        network(state)
