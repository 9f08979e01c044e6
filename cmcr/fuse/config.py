"""What the folder of a fusion says of itself, checked before anything is made of it: it may be a stranger's."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_tensors

from cmcr.classify.config import checked_config
from cmcr.classify.table import Channel
from cmcr.decode import memory_bytes
from cmcr.errors import ArtifactError
from cmcr.fuse.network import Fusion
from cmcr.fuse.settings import FuseSettings
from cmcr.fuse.train import new_network
from cmcr.reading import read_bytes, reading

FORMAT, VERSION = "cmcr-fusion", 1
WEIGHTS = "model.safetensors"
HEADER_BYTES = 1 << 20
"""Bytes of names and shapes in a file of weights, at most."""
MAX_LAYERS = 1000
CURE = "fuse anew with cmcr fuse"


@dataclass(frozen=True)
class FusionConfig:
    """What config.json holds."""

    format: str
    version: int
    channels: tuple[Channel, ...]
    settings: FuseSettings
    metrics: dict[str, Any]
    model_sha256: str
    versions: dict[str, Any]

    def network(self) -> Fusion | None:
        """Return an untrained network of these sizes; None: of an objective that trains nothing."""
        if self.settings.objective == "concatenation":
            return None
        return new_network([each.dim for each in self.channels], self.settings)

    def check(self) -> None:
        """Check that the parts agree, and that this machine can hold the weights.

        Raises:
            ValueError: they do not.
        """
        _expect(len(self.channels) > 1, f"it has {len(self.channels)} channels, expected two or more")
        for number, each in enumerate(self.channels):
            _expect(each.dim > 0, f"channel {each.name!r} has {each.dim} components")
            twice = any(each.fits(other) or each.name == other.name for other in self.channels[:number])
            _expect(not twice, f"channel {each.name!r} stands there twice")
        width, layers = self.settings.width, self.settings.layers
        _expect(layers <= MAX_LAYERS, f"it has {layers} layers")
        numbers = sum(each.dim for each in self.channels) * (width + 1) + 13 * layers * width * (width + 1)
        _expect(4 * numbers <= memory_bytes() // 2, f"its weights take {4e-9 * numbers:.1f} GB, above half of memory")


def read_config(folder: Path) -> FusionConfig:
    """Return the config of a fusion's folder.

    Raises:
        ArtifactError: not a fusion, of another version, or damaged.
    """
    absent = "not a fusion (no config.json); make one with: cmcr fuse A:MODALITY B:MODALITY -o"
    return checked_config(FusionConfig, folder, (FORMAT, VERSION), absent, CURE)


def read_network(folder: Path, config: FusionConfig) -> Fusion | None:
    """Return the trained network of a fusion's folder; None: of an objective that trains nothing.

    Raises:
        ArtifactError: the file of weights is missing, damaged, not the config's, or of other shapes.
    """
    path = folder / WEIGHTS
    with reading(path, CURE, what="is damaged"):
        with torch.device("meta"):
            empty = config.network()
        expected = empty.state_dict() if empty else {}
        size = sum(tensor.numel() * tensor.element_size() for tensor in expected.values())
        data = read_bytes(path, size + HEADER_BYTES)
        if hashlib.sha256(data).hexdigest() != config.model_sha256:
            raise ArtifactError(f"{path} is not the file config.json names; {CURE}")
        found = load_tensors(data)
        _expect(found.keys() == expected.keys(), "it has not the tensors that config.json asks for")
        for key, asked in expected.items():
            same = found[key].shape == asked.shape and found[key].dtype == asked.dtype
            _expect(same, f"{key} is {tuple(found[key].shape)}, config.json says {tuple(asked.shape)}")
            _expect(bool(found[key].isfinite().all()), f"{key} holds values that are not finite")
        network = config.network()
        if network is not None:
            network.load_state_dict(found)
            network.eval()
    return network


def _expect(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(what)
