"""The towers of the three tiny spaces: small networks from prepared arrays to unit vectors.

Pictures and spectrograms go through convolutions, clouds through a small PointNet++ (arXiv 1706.02413), texts through
a sum over known tokens, words in one space and character groups in another: two towers of one modality share nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from cmcr.modality import Modality
from cmcr.tiny.prepare import MELS, grams, words


@dataclass(frozen=True, slots=True)
class SpaceSpec:
    """What makes a tiny space: its two modalities, its dim, its training steps, and the seed of its own scenes."""

    modalities: tuple[Modality, Modality]
    dim: int
    steps: int
    seed: int


SPECS: dict[str, SpaceSpec] = {
    "tiny-clip": SpaceSpec((Modality.IMAGE, Modality.TEXT), dim=64, steps=400, seed=101),
    "tiny-clap": SpaceSpec((Modality.AUDIO, Modality.TEXT), dim=48, steps=400, seed=202),
    "tiny-ulip": SpaceSpec((Modality.POINT_CLOUD, Modality.IMAGE), dim=56, steps=700, seed=303),
}


TOKENS: dict[str, Callable[[str], list[str]]] = {"tiny-clip": words, "tiny-clap": grams}
"""The tokenizer of each text tower."""


def weights_path(name: str) -> Path:
    """Where the package keeps the weights of a space."""
    return Path(__file__).with_name("weights") / f"{name}.safetensors"


def _block(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


class Convolutions(nn.Module):
    """Four convolutions, then mean and maximum over what may move: both axes of a picture, the time of a sound.

    Args:
        channels: 3 for pictures, 1 for spectrograms.
        rows: Rows kept apart at the end: 1 for pictures, all (pitch) for spectrograms.
        dim: Components of the result.
    """

    def __init__(self, channels: int, rows: int, dim: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _block(channels, 24, 5, 2), _block(24, 40, 3, 2), _block(40, 72, 3, 2), _block(72, 112, 3, 1)
        )
        self.rows = rows
        self.head = nn.Linear(112 * 2 * rows, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) -> (B, dim)."""
        maps = self.body(x.contiguous(memory_format=torch.channels_last))
        cells = maps.flatten(2) if self.rows == 1 else maps
        return self.head(torch.cat([cells.mean(-1), cells.max(-1).values], 1).flatten(1))  # type: ignore[no-any-return]


class PatchNet(nn.Module):
    """PointNet++ in three levels: a PointNet over each patch, one over nearby patches, one over all."""

    nearby = 10

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.local = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 64))
        self.gather = nn.Linear(64 + 3, 96)
        self.place = nn.Linear(3, 96)
        self.whole = nn.Sequential(
            nn.LayerNorm(96),
            nn.ReLU(),
            nn.Linear(96, 192),
            nn.LayerNorm(192),
            nn.ReLU(),
            nn.Linear(192, 192),
            nn.ReLU(),
        )
        self.head = nn.Sequential(nn.Linear(384, 192), nn.ReLU(), nn.Linear(192, dim))

    def forward(self, x: Tensor) -> Tensor:
        """(B, P, 1 + K, 3) -> (B, dim)."""
        centre, around = x[:, :, 0], x[:, :, 1:]
        offset = 4 * (around - x[:, :, :1])
        local = self.local(torch.cat([offset, offset.square()], -1)).max(2).values  # amax is slow to differentiate
        # Exact distances: those by matrix product depend on the batch.
        distance = torch.cdist(centre, centre, compute_mode="donot_use_mm_for_euclid_dist")
        near = distance.topk(self.nearby, largest=False).indices
        seen = self.gather(torch.cat([local, 4 * centre], -1))
        rows = near + torch.arange(0, near.shape[0] * near.shape[1], near.shape[1], device=x.device)[:, None, None]
        widest = functional.embedding_bag(rows.flatten(0, 1), seen.flatten(0, 1), mode="max").view_as(seen)
        context = widest - 4 * centre @ self.gather.weight[:, -3:].T
        each = self.whole(context + self.place(centre))
        return self.head(torch.cat([each.mean(1), each.max(1).values], -1))  # type: ignore[no-any-return]


class BagOfText(nn.Module):
    """Sum of learned rows, one for each token of the vocabulary, then a residual MLP."""

    def __init__(self, rows: int, dim: int, width: int = 96) -> None:
        super().__init__()
        self.rows = nn.Linear(rows, width, bias=False)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width))
        self.head = nn.Linear(width, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, rows) bags -> (B, dim)."""
        summed = self.rows(x)
        return self.head(summed + self.mlp(summed))  # type: ignore[no-any-return]


class TinySpace(nn.Module):
    """The two towers of one space.

    Args:
        name: A key of ``SPECS``.
        vocabulary: The tokens of the text tower; empty without one.
    """

    def __init__(self, name: str, vocabulary: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.name, self.spec, self.vocabulary = name, SPECS[name], vocabulary
        dim = self.spec.dim
        build: dict[Modality, Callable[[], nn.Module]] = {
            Modality.IMAGE: lambda: Convolutions(3, 1, dim),
            Modality.AUDIO: lambda: Convolutions(1, MELS // 8, dim),
            Modality.POINT_CLOUD: lambda: PatchNet(dim),
            Modality.TEXT: lambda: BagOfText(len(vocabulary), dim),
        }
        self.towers = nn.ModuleDict({m.value: build[m]() for m in self.spec.modalities})

    def forward(self, modality: Modality, x: Tensor) -> Tensor:
        """Prepared arrays of one modality, stacked -> (B, dim) unit vectors."""
        return functional.normalize(self.towers[modality.value](x), dim=1)
