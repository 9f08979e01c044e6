"""Point-BERT in plain torch: the point cloud tower of ULIP and ULIP-2.

A cloud is cut into groups (farthest point sampling, then the nearest neighbours of each centre) with numpy, where the
cloud is decoded; the network reads groups only, so clouds of different sizes share a batch. Layout and constants are
those of PointTransformer_8192point.yaml and point_encoder.py of salesforce/ULIP; module names are its state dict's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from cmcr.encoders.weights import block_count
from cmcr.errors import ArtifactError

GROUPS = 512
GROUP_SIZE = 32
"""A cloud of fewer points cannot fill one group."""
HEAD = 64
"""Components of an attention head; a checkpoint does not tell them, and every released one has 64."""

_CACHED = 1 << 16  # distances worked on together: 256 KB of them stay in the cache of any CPU
_CHUNK = 128  # groups that pass through the mini-encoder together on a CPU, for the same reason
_LARGE_CHUNK = 8192  # and elsewhere, where they take a gigabyte


def farthest_points(xyz: np.ndarray, count: int) -> np.ndarray:
    """Choose points that are far from each other, the first of the cloud first.

    Each next point has the greatest distance to those chosen; of equals, the one with the lowest index. The CUDA
    sampler that ULIP uses (pointnet2_ops) begins at index 0 as well, but passes over points within 0.03 of the origin;
    the torch version in C-MCR takes all, but begins at random, so that its vectors change from call to call. Only
    single float32 operations are used, which every CPU rounds alike.

    Args:
        xyz: (N, 3) float32.
        count: How many; a cloud of fewer points is gone through again in the same order.

    Returns:
        (count,) indices.
    """
    axes = np.ascontiguousarray(xyz.T)
    away, squared = np.empty_like(axes), np.empty_like(axes[0])
    nearest = np.full_like(squared, np.inf)
    chosen = np.zeros(min(count, len(xyz)), np.int64)
    for step in range(1, len(chosen)):
        _squared_distances(axes, axes[:, chosen[step - 1], None], away, squared)
        np.minimum(nearest, squared, out=nearest)
        chosen[step] = nearest.argmax()
    return np.resize(chosen, count)


def nearest_points(xyz: np.ndarray, centres: np.ndarray, count: int) -> np.ndarray:
    """Return the ``count`` nearest points of each centre, nearest first; of equals, the lower index first.

    Exact. Sorting whole rows would cost more than the distances: so the points are dealt into blocks, and the
    ``count``-th smallest of the block minima bounds what can be among the nearest. Only that is sorted.

    Args:
        xyz: (N, 3) float32, N >= count.
        centres: (G, 3) float32.
        count: Neighbours of each centre; a centre that is a point of the cloud is its own first.

    Returns:
        (G, count) indices.
    """
    axes, whole = np.ascontiguousarray(xyz.T), len(xyz) - len(xyz) % count
    height = max(1, _CACHED // len(xyz))
    away, squared = np.empty((3, height, len(xyz)), np.float32), np.empty((height, len(xyz)), np.float32)
    found = np.empty((len(centres), count), np.int64)
    for start in range(0, len(centres), height):
        tile = centres[start : start + height]
        rows = squared[: len(tile)]
        _squared_distances(axes[:, None], tile.T[:, :, None], away[:, : len(tile)], rows)
        minima = rows[:, :whole].reshape(len(tile), count, -1).min(axis=1)
        if minima.shape[1] < count:  # too few blocks to bound anything
            bound = np.full((len(tile), 1), np.inf, np.float32)
        else:
            bound = np.partition(minima, count - 1, axis=1)[:, count - 1, None]
        flat = np.flatnonzero(rows <= bound)
        row, column = np.divmod(flat, len(xyz))
        order = np.lexsort((rows.ravel()[flat], row))  # stable: equals stay in the order of their indices
        first = np.searchsorted(row, np.arange(len(tile)))
        found[start : start + height] = column[order[first[:, None] + np.arange(count)]]
    return found


def _squared_distances(points: np.ndarray, centres: np.ndarray, away: np.ndarray, out: np.ndarray) -> None:
    np.subtract(points, centres, out=away)
    np.multiply(away, away, out=away)
    np.add(away[0], away[1], out=out)
    np.add(out, away[2], out=out)


def group_points(xyz: np.ndarray, groups: int = GROUPS, size: int = GROUP_SIZE) -> np.ndarray:
    """Cut a cloud into what ``PointBert`` reads.

    Args:
        xyz: (N, 3) float32, N >= size.
        groups: Number of centres.
        size: Points in each group.

    Returns:
        (groups, 1 + size, 3) float32: a centre, then its nearest points relative to it.
    """
    centres = xyz[farthest_points(xyz, groups)]
    around = xyz[nearest_points(xyz, centres, size)] - centres[:, None]
    return np.concatenate([centres[:, None], around], axis=1)


def attend(qkv: Tensor, *, causal: bool = False) -> Tensor:
    """Attend with heads of ``HEAD`` components.

    Args:
        qkv: (B, T, 3 x width): queries, keys and values side by side.
        causal: Whether a token sees only itself and those before it.

    Returns:
        (B, T, width).
    """
    q, k, v = qkv.unflatten(-1, (3, -1, HEAD)).permute(2, 0, 3, 1, 4)
    heads = functional.scaled_dot_product_attention(q, k, v, is_causal=causal)
    return heads.transpose(1, 2).flatten(2)


class Attention(nn.Module):
    """Self-attention with timm's names."""

    def __init__(self, width: int, *, qkv_bias: bool) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width, bias=qkv_bias)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (B, T, width) to (B, T, width)."""
        mixed: Tensor = self.proj(attend(self.qkv(tokens)))
        return mixed


class Mlp(nn.Module):
    """Two layers with timm's names."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (B, T, width) to (B, T, width)."""
        mixed: Tensor = self.fc2(functional.gelu(self.fc1(tokens)))
        return mixed


class Block(nn.Module):
    """A pre-norm transformer block with timm's names, as Point-BERT and ViT have it.

    Args:
        width: Components of a token, a multiple of ``HEAD``.
        qkv_bias: Whether queries, keys and values have biases.
        eps: Of the layer norms.
    """

    def __init__(self, width: int, *, qkv_bias: bool, eps: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps)
        self.attn = Attention(width, qkv_bias=qkv_bias)
        self.norm2 = nn.LayerNorm(width, eps)
        self.mlp = Mlp(width, 4 * width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (B, T, width) to (B, T, width)."""
        tokens = tokens + self.attn(self.norm1(tokens))
        mixed: Tensor = tokens + self.mlp(self.norm2(tokens))
        return mixed


def shape_of(state: Mapping[str, Tensor], name: str, axes: int, source: str, width: int) -> tuple[int, ...]:
    """Return the shape of a tensor off which sizes are read.

    Args:
        state: The checkpoint.
        name: Of the tensor.
        axes: How many it has.
        source: Where the checkpoint comes from, for the message.
        width: The axis along which heads lie.

    Raises:
        ArtifactError: the tensor is missing or of another shape.
    """
    shape = tuple(state[name].shape) if name in state else ()
    if len(shape) != axes or shape[width] % HEAD:
        found = f"has the shape {shape}" if name in state else "is missing"
        raise ArtifactError(
            f"{source}: {name} {found}; expected {axes} axes, axis {width} a multiple of {HEAD}: other networks are not"
            " read, check file and encoder name"
        )
    return shape


class MiniEncoder(nn.Module):
    """The small PointNet that turns a group into one token (``Encoder`` in the official dvae.py).

    Args:
        width: Components of its token.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first_conv = nn.Sequential(nn.Conv1d(3, 128, 1), nn.BatchNorm1d(128), nn.ReLU(), nn.Conv1d(128, 256, 1))
        self.second_conv = nn.Sequential(
            nn.Conv1d(512, 512, 1), nn.BatchNorm1d(512), nn.ReLU(), nn.Conv1d(512, width, 1)
        )

    def forward(self, around: Tensor) -> Tensor:
        """Map (G, size, 3) points relative to their centres to (G, width)."""
        parts = around.split(_CHUNK if around.device.type == "cpu" else _LARGE_CHUNK)
        return torch.cat([self._tokens(part) for part in parts])

    def _tokens(self, around: Tensor) -> Tensor:
        # A convolution of width one is a product with each point. The second one reads the maximum of the group
        # beside each point: the maximum's half of that product is the same for all points, so it is taken once.
        weight, bias = _with_norm(self.first_conv)
        points = functional.linear(around, weight, bias).relu_()
        points = functional.linear(points, *_product(self.first_conv[-1]))
        weight, bias = _with_norm(self.second_conv)
        of_group, of_point = weight.chunk(2, dim=1)
        group = functional.linear(points.amax(1, keepdim=True), of_group, bias)
        points = functional.linear(points, of_point).add_(group).relu_()
        return functional.linear(points, *_product(self.second_conv[-1])).amax(1)


def _with_norm(layers: nn.Sequential) -> tuple[Tensor, Tensor]:
    """Return weight and bias of the first convolution with the BatchNorm behind it."""
    weight, bias = _product(layers[0])
    norm = cast(nn.BatchNorm1d, layers[1])
    mean, variance = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
    scale = norm.weight * (variance + norm.eps).rsqrt()
    return weight * scale[:, None], (bias - mean) * scale + norm.bias


def _product(convolution: nn.Module) -> tuple[Tensor, Tensor]:
    """Return weight and bias of a convolution of width one."""
    return cast(Tensor, convolution.weight)[..., 0], cast(Tensor, convolution.bias)


@dataclass(frozen=True, slots=True)
class Sizes:
    """What differs between Point-BERTs; the defaults are the released ones.

    Attributes:
        width: Components of a token, a multiple of ``HEAD``.
        depth: Transformer blocks.
        group_width: Components of a group before ``reduce_dim``.
        qkv_bias: Whether attention's queries, keys and values have biases.
    """

    width: int = 384
    depth: int = 12
    group_width: int = 256
    qkv_bias: bool = False

    @classmethod
    def of_state(cls, state: Mapping[str, Tensor], prefix: str, source: str) -> Sizes:
        """Read the sizes off a checkpoint's shapes.

        Args:
            state: The checkpoint.
            prefix: Of the network's names in it, with the dot.
            source: Where it comes from, for the message.

        Raises:
            ArtifactError: this is another point cloud network.
        """
        width, group_width = shape_of(state, f"{prefix}reduce_dim.weight", 2, source, 0)
        biased = f"{prefix}blocks.blocks.0.attn.qkv.bias" in state
        return cls(width, block_count(state, f"{prefix}blocks.blocks."), group_width, biased)


class PointBert(nn.Module):
    """Groups of points to a feature; ready for ``eval`` only, as BatchNorm always uses its stored statistics.

    Args:
        sizes: Of the network.
    """

    def __init__(self, sizes: Sizes = Sizes()) -> None:
        super().__init__()
        width = sizes.width
        self.encoder = MiniEncoder(sizes.group_width)
        self.reduce_dim = nn.Linear(sizes.group_width, width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.cls_pos = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Sequential(nn.Linear(3, 128), nn.GELU(), nn.Linear(128, width))
        blocks = nn.ModuleList(Block(width, qkv_bias=sizes.qkv_bias, eps=1e-5) for _ in range(sizes.depth))
        self.blocks = nn.ModuleDict({"blocks": blocks})
        self.norm = nn.LayerNorm(width)

    def forward(self, groups: Tensor) -> Tensor:
        """Map (B, G, 1 + size, 3), see ``group_points``, to (B, 2 x width): CLS beside the maximum over tokens."""
        centres, around = groups[:, :, 0], groups[:, :, 1:]
        tokens = self.reduce_dim(self.encoder(around.flatten(0, 1))).unflatten(0, groups.shape[:2])
        tokens = torch.cat([self.cls_token.expand(len(groups), -1, -1), tokens], dim=1)
        position = torch.cat([self.cls_pos.expand(len(groups), -1, -1), self.pos_embed(centres)], dim=1)
        for block in cast(nn.ModuleList, self.blocks["blocks"]):
            tokens = block(tokens + position)  # the position joins the residual stream anew before every block
        tokens = self.norm(tokens)
        return torch.cat([tokens[:, 0], tokens[:, 1:].amax(1)], dim=-1)
