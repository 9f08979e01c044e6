"""ULIP and ULIP-2 with Point-BERT: the point cloud, image and text towers of one official checkpoint.

The checkpoint is the state dict of ULIP_WITH_IMAGE (salesforce/ULIP, models/ULIP_models.py): ``point_encoder.*`` and
``pc_projection``; SLIP's ViT-B/16 as ``visual.*`` in timm's names and ``image_projection``; SLIP's text transformer in
CLIP's names and ``text_projection``. The towers here are plain torch and take their sizes from the tensors' shapes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from cmcr.decode.images import cut_ends, read_image
from cmcr.devices import Precision, inference
from cmcr.encoders.base import text_of, upright
from cmcr.encoders.bpe import bpe_tokenizer
from cmcr.encoders.point_bert import GROUP_SIZE, Block, PointBert, Sizes, attend, group_points, shape_of
from cmcr.encoders.weights import block_count, fill, find_weights, fingerprint, read_state
from cmcr.errors import ArtifactError, ItemError
from cmcr.items import Item, Up
from cmcr.modality import Modality
from cmcr.shapes.clouds import read_point_cloud

PREPROCESSING = (
    "ulip 1; cloud: xyz, y up, 8192 drawn with default_rng(0), minus mean, by largest norm, 512 farthest points from"
    " index 0, 32 nearest; image: short edge 224 bilinear, centre, ImageNet mean and std; text: CLIP BPE 77"
)
RAW_PREPROCESSING = PREPROCESSING.replace("8192 drawn with default_rng(0), minus mean, by largest norm", "as given")
RAW = "#raw"
"""At the end of the model's name: clouds are taken as they are, all points where they stand."""
POINTS = 8192
"""What the released models were trained and tested with."""

_FARTHEST = 1e3  # a coordinate of a raw cloud; a larger one is a mistake that would overflow in the network
_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_STD = np.array([0.229, 0.224, 0.225], np.float32)
_WORDS = 49_408  # CLIP's tokens
_UNUSED = ("logit_scale",)


class PointTower(nn.Module):
    """(B, groups, 1 + size, 3) groups to (B, dim)."""

    roots = ("point_encoder", "pc_projection")

    def __init__(self, state: Mapping[str, Tensor], source: str) -> None:
        super().__init__()
        sizes = Sizes.of_state(state, "point_encoder.", source)
        _, self.dim = shape_of(state, "pc_projection", 2, source, 0)
        self.point_encoder = PointBert(sizes)
        self.pc_projection = nn.Parameter(torch.empty(2 * sizes.width, self.dim))

    def forward(self, groups: Tensor) -> Tensor:
        """Embed groups of points."""
        features: Tensor = self.point_encoder(groups) @ self.pc_projection
        return features


class VisionTransformer(nn.Module):
    """timm's ``vit_base_patch16_224`` without its head, of any size: (B, 3, side, side) pixels to (B, width)."""

    def __init__(self, width: int, patch: int, tokens: int, depth: int) -> None:
        super().__init__()
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, patch, patch)})
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.pos_embed = nn.Parameter(torch.empty(1, tokens, width))
        self.blocks = nn.Sequential(*(Block(width, qkv_bias=True, eps=1e-6) for _ in range(depth)))
        self.norm = nn.LayerNorm(width, 1e-6)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the features of the CLS token."""
        patches = self.patch_embed["proj"](pixels).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.expand(len(pixels), -1, -1), patches], dim=1) + self.pos_embed
        features: Tensor = self.norm(self.blocks(tokens)[:, 0])
        return features


class ImageTower(nn.Module):
    """(B, 3, side, side) pixels to (B, dim)."""

    roots = ("visual", "image_projection")

    def __init__(self, state: Mapping[str, Tensor], source: str) -> None:
        super().__init__()
        width, _, patch, _ = shape_of(state, "visual.patch_embed.proj.weight", 4, source, 0)
        _, tokens, _ = shape_of(state, "visual.pos_embed", 3, source, 2)
        _, self.dim = shape_of(state, "image_projection", 2, source, 0)
        self.side = patch * math.isqrt(tokens - 1)
        self.visual = VisionTransformer(
            width, patch, 1 + (self.side // patch) ** 2, block_count(state, "visual.blocks.")
        )
        self.image_projection = nn.Parameter(torch.empty(width, self.dim))

    def forward(self, pixels: Tensor) -> Tensor:
        """Embed pictures."""
        features: Tensor = self.visual(pixels) @ self.image_projection
        return features


class CausalAttention(nn.Module):
    """Self-attention to the tokens before, with the names of ``nn.MultiheadAttention``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (B, T, width) to (B, T, width)."""
        qkv = functional.linear(tokens, self.in_proj_weight, self.in_proj_bias)
        mixed: Tensor = self.out_proj(attend(qkv, causal=True))
        return mixed


class TextBlock(nn.Module):
    """A pre-norm transformer block with CLIP's names and its quick approximation of GELU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attn = CausalAttention(width)
        self.ln_1 = nn.LayerNorm(width)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(width, 4 * width), "c_proj": nn.Linear(4 * width, width)})
        self.ln_2 = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (B, T, width) to (B, T, width)."""
        tokens = tokens + self.attn(self.ln_1(tokens))
        hidden = self.mlp["c_fc"](self.ln_2(tokens))
        mixed: Tensor = tokens + self.mlp["c_proj"](hidden * torch.sigmoid(1.702 * hidden))
        return mixed


class TextTower(nn.Module):
    """(B, T) tokens to (B, dim)."""

    roots = ("transformer", "token_embedding", "positional_embedding", "ln_final", "text_projection")

    def __init__(self, state: Mapping[str, Tensor], source: str) -> None:
        super().__init__()
        self.length, width = shape_of(state, "positional_embedding", 2, source, 1)
        _, self.dim = shape_of(state, "text_projection", 2, source, 0)
        blocks = (TextBlock(width) for _ in range(block_count(state, "transformer.resblocks.")))
        self.transformer = nn.ModuleDict({"resblocks": nn.Sequential(*blocks)})
        # Without its random start, which on the meta device takes two seconds to import what it needs.
        self.token_embedding = nn.Embedding.from_pretrained(torch.empty(_WORDS, width))
        self.positional_embedding = nn.Parameter(torch.empty(self.length, width))
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.empty(width, self.dim))

    def forward(self, tokens: Tensor) -> Tensor:
        """Embed texts: their feature is read at the end token, which has the highest number."""
        end = tokens.argmax(dim=1)
        tokens = tokens[:, : int(end.max()) + 1]  # no token sees what comes after it, so the padding is left out
        states = self.token_embedding(tokens) + self.positional_embedding[: tokens.shape[1]]
        states = self.transformer["resblocks"](states)[torch.arange(len(end), device=end.device), end]
        features: Tensor = self.ln_final(states) @ self.text_projection
        return features


_Tower = PointTower | ImageTower | TextTower
_TOWERS: dict[Modality, type[_Tower]] = {
    Modality.POINT_CLOUD: PointTower,
    Modality.IMAGE: ImageTower,
    Modality.TEXT: TextTower,
}


def thin(xyz: np.ndarray, count: int = POINTS) -> np.ndarray:
    """Draw ``count`` points without replacement, the same each time, in their order; fewer are left as they are.

    The models were trained on points drawn evenly from surfaces. ULIP samples ModelNet40 by farthest points instead,
    once, and stores the result: from 10,000 points that takes 130 ms, nearly half of the network's own time on one
    core, and would hold up any GPU. A cloud that comes so sampled is left as it is.
    """
    if len(xyz) <= count:
        return xyz
    drawn = np.random.default_rng(0).choice(len(xyz), count, replace=False)
    return xyz[np.sort(drawn)]


def normalised(xyz: np.ndarray) -> np.ndarray:
    """Put the mean of (N, 3) positions at the origin and the farthest of them at distance 1 (ULIP's ``pc_norm``)."""
    centred = xyz - xyz.mean(axis=0)
    unit: np.ndarray = centred / np.linalg.norm(centred, axis=1).max()
    return unit


def crop(image: Image.Image, side: int) -> np.ndarray:
    """Scale the short edge to ``side``, cut the centre out and standardise it, as SLIP does in evaluation.

    Equal to torchvision's Resize (bilinear), CenterCrop, ToTensor and Normalize. A picture of more than 100 to 1 loses
    its ends first: scaled whole, one of a million by one pixels would fill the memory.

    Args:
        image: RGB.
        side: Of the square.

    Returns:
        (3, side, side) float32.
    """
    image = cut_ends(image)
    short = min(image.size)
    width, height = (side if edge == short else int(side * edge / short) for edge in image.size)
    square = _centre(image.resize((width, height), Image.Resampling.BILINEAR), side, side)
    pixels = np.asarray(square, np.float32) / 255
    return ((pixels - _MEAN) / _STD).transpose(2, 0, 1)


def _centre(image: Image.Image, width: int, height: int) -> Image.Image:
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))


class UlipEncoder:
    """One checkpoint as an ``Encoder``, with the modalities whose towers it holds: at least point clouds.

    Clouds are taken as y-up unless the item says otherwise; of more than 8192 points that many are drawn; the mean goes
    to the origin and the farthest point to distance 1, as in ULIP's ModelNet40 protocol. A cloud of fewer than 512
    points has fewer groups, each read several times.

    The official C-MCR example takes clouds as they are: so does ``FILE#raw``, to compare with it.

    Args:
        model: The checkpoint's file, as ``find_weights`` finds it; with ``#raw`` behind it for clouds as they are.
        device: A torch device.
        precision: Of the matrix products.
        weights: Files and folders where the checkpoint is looked for first.

    Raises:
        InputError: there is no such file.
        ArtifactError: the file is damaged, would run code, or is not a ULIP checkpoint with Point-BERT.
    """

    def __init__(
        self, model: str, *, device: str = "cpu", precision: Precision = "fp32", weights: Sequence[Path] = ()
    ) -> None:
        self._raw = model.endswith(RAW)
        path = find_weights(model.removesuffix(RAW), weights, "ULIP checkpoint")
        self._source, self._state = str(path), read_state(path)
        self._device, self._precision = device, precision
        self.modalities = _modalities(self._state, self._source)
        with torch.device("meta"):  # names and sizes; the memory comes with the first item
            self._towers = {modality: _TOWERS[modality](self._state, self._source) for modality in self.modalities}
        self._loaded: set[Modality] = set()
        self.name = f"ulip:{path.name}{RAW if self._raw else ''}"
        dims = {modality: tower.dim for modality, tower in self._towers.items()}
        if len(set(dims.values())) > 1:
            told = ", ".join(f"{modality} {dim}" for modality, dim in dims.items())
            raise ArtifactError(
                f"{path}: its towers end in different spaces ({told}); expected one number of components"
            )
        self.dim = dims[Modality.POINT_CLOUD]
        self.fingerprint = fingerprint(self._state, RAW_PREPROCESSING if self._raw else PREPROCESSING)

    def prepare(self, item: Item, data: bytes) -> np.ndarray:
        """Decode one item into its tower's input; see ``Encoder.prepare``."""
        match item.modality:
            case Modality.POINT_CLOUD:
                return self._groups(read_point_cloud(data, item.suffix, centre=not self._raw), item.up)
            case Modality.IMAGE:
                return crop(read_image(data), cast(ImageTower, self._towers[Modality.IMAGE]).side)
            case _:
                length = cast(TextTower, self._towers[Modality.TEXT]).length
                return bpe_tokenizer("text of ULIP")(text_of(data), length)

    def _groups(self, points: np.ndarray, up: Up | None) -> np.ndarray:
        if len(points) < GROUP_SIZE:
            raise ItemError(f"{len(points)} points; at least {GROUP_SIZE} are needed")
        kept = points[:, :3] if self._raw else thin(points[:, :3])
        xyz = upright(kept.astype(np.float64), up, "y")
        if (xyz == xyz[0]).all():
            raise ItemError(f"all {len(xyz)} points are in one place")
        if not self._raw:
            xyz = normalised(xyz)
        elif np.abs(xyz).max() > _FARTHEST:
            raise ItemError(f"coordinates up to {np.abs(xyz).max():.3g}; raw clouds are expected at unit scale")
        return group_points(xyz.astype(np.float32))

    def encode(self, modality: Modality, prepared: Sequence[Any]) -> np.ndarray:
        """Embed what ``prepare`` returned; see ``Encoder.encode``.

        Raises:
            ArtifactError: at a modality's first items, if its tower's tensors are not all there or are of other shapes.
        """
        if not prepared:
            return np.zeros((0, self.dim), np.float32)
        tower = self._loaded_tower(modality)
        stacked = torch.from_numpy(np.stack(prepared)).to(self._device)
        with inference(self._device, self._precision):
            vectors: np.ndarray = functional.normalize(tower(stacked).float(), dim=-1).cpu().numpy()
        return vectors

    def _loaded_tower(self, modality: Modality) -> _Tower:
        tower = self._towers[modality]
        if modality not in self._loaded:
            tower.to_empty(device=self._device)
            own = {key: value for key, value in self._state.items() if _root(key) in tower.roots}
            # BatchNorm's counter of training steps is no part of what it computes.
            counters = [name for name in tower.state_dict() if name.endswith("num_batches_tracked")]
            fill(tower, own, self._source, optional=counters)
            self._loaded.add(modality)
        return tower


def _root(key: str) -> str:
    return key.split(".", 1)[0]


def _modalities(state: Mapping[str, Tensor], source: str) -> tuple[Modality, ...]:
    """Return the modalities whose towers ``state`` holds; refuse what is no ULIP checkpoint."""
    roots = list(dict.fromkeys(map(_root, state)))
    if not set(PointTower.roots) <= set(roots):
        raise ArtifactError(
            f"{source}: holds {', '.join(roots[:5])}{' ...' if len(roots) > 5 else ''}; expected point_encoder.* and"
            " pc_projection of an official ULIP checkpoint"
        )
    known = {*_UNUSED, *(root for tower in _TOWERS.values() for root in tower.roots)}
    if unexpected := [root for root in roots if root not in known]:
        raise ArtifactError(
            f"{source}: unexpected {', '.join(unexpected[:3])}; expected ULIP with SLIP's towers or none"
        )
    return tuple(modality for modality, tower in _TOWERS.items() if not set(roots).isdisjoint(tower.roots))
