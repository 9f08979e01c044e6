"""What the folder of a fusion says of itself, checked before anything is made of it: it may be a stranger's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cmcr.classify.config import check_channels, check_size, checked_config, checked_weights
from cmcr.classify.table import Channel
from cmcr.fuse.network import Fusion
from cmcr.fuse.settings import FuseSettings
from cmcr.fuse.train import new_network

FORMAT, VERSION = "cmcr-fusion", 1
WEIGHTS = "model.safetensors"
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
        check_channels(self.channels)
        width, layers = self.settings.width, self.settings.layers
        _expect(layers <= MAX_LAYERS, f"it has {layers} layers")
        numbers = sum(each.dim for each in self.channels) * (width + 1) + 13 * layers * width * (width + 1)
        check_size(numbers)


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
    # An objective that trains nothing has a file of no tensors, which is checked like any other.
    found = checked_weights(lambda: config.network() or torch.nn.Module(), folder / WEIGHTS, config.model_sha256, CURE)
    return found if isinstance(found, Fusion) else None


def _expect(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(what)
