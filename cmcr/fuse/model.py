"""The fusion as a folder: train it on rows, save it, open it again, and let it fuse rows of any of its modalities."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save as save_tensors

from cmcr.classify.table import Channel, Table
from cmcr.files import write_atomic, write_json
from cmcr.fuse.config import FORMAT, VERSION, WEIGHTS, read_config, read_network
from cmcr.fuse.network import Fusion
from cmcr.fuse.settings import FuseSettings
from cmcr.memory import EncoderInfo

_BLOCK = 4096


class Fuser:
    """A trained fusion, with the channels it reads.

    >>> import numpy as np
    >>> from cmcr.fuse import Fuser, FuseSettings, join_rows
    >>> from cmcr.fuse.train import train
    >>> from cmcr.memory import ArrayMemory
    >>> ids = ["a", "b", "c", "d"]
    >>> see = ArrayMemory("see", {"image": np.eye(4)}, {"image": ids})
    >>> hear = ArrayMemory("hear", {"audio": np.eye(4)[::-1]}, {"audio": ids})
    >>> rows = join_rows([(see, "image"), (hear, "audio")])
    >>> settings = FuseSettings(epochs=2, width=16)
    >>> fuser = Fuser(rows.table.channels, settings, train(rows, settings)[0])
    >>> fuser.save("fusion")
    >>> alone = Fuser.from_pretrained("fusion").fuse(join_rows([(hear, "audio")]).table)
    >>> alone.shape
    (4, 16)

    Attributes:
        channels: What it reads, in this order.
        settings: How it was trained.
        metrics: What was measured while training it.
    """

    def __init__(
        self,
        channels: tuple[Channel, ...],
        settings: FuseSettings,
        network: Fusion | None,
        metrics: Mapping[str, Any] | None = None,
    ) -> None:
        """Take a trained network; None: of an objective that trains nothing."""
        self.channels, self.settings, self.network = channels, settings, network
        self.metrics = dict(metrics or {})
        self._weights = save_tensors({k: v.contiguous() for k, v in network.state_dict().items()} if network else {})

    @property
    def dim(self) -> int:
        """Components of a fused vector: of ``cross`` and ``cross-self`` those of each modality side by side."""
        if self.network is None:
            return sum(channel.dim for channel in self.channels)
        return self.settings.width * (1 if self.settings.objective == "comm" else len(self.channels))

    @property
    def encoder(self) -> EncoderInfo:
        """As what it signs a memory; the fingerprint is that of its channels, objective and weights."""
        reads = [[c.encoder, c.fingerprint, str(c.modality), c.dim] for c in self.channels]
        known = json.dumps([reads, self.settings.objective, self.settings.width, self.settings.layers]).encode()
        names = "+".join(channel.name for channel in self.channels)
        digest = hashlib.sha256(known + hashlib.sha256(self._weights).digest()).hexdigest()
        return EncoderInfo(f"cmcr:fuse/{self.settings.objective}/{names}", digest, self.dim)

    @torch.inference_mode()
    def fuse(self, table: Table) -> np.ndarray:
        """Return a vector of each row, made of what the row has: (N, dim) float32, not normalised.

        Raises:
            InputError: the table has a channel that it was not trained on, or a row has none of the modalities.
        """
        own = table.of_channels(self.channels)
        made = [self._fused(own.rows(np.arange(at, min(at + _BLOCK, len(own))))) for at in range(0, len(own), _BLOCK)]
        return np.concatenate([np.empty((0, self.dim), np.float32), *made])

    def _fused(self, table: Table) -> np.ndarray:
        if self.network is None:
            return np.concatenate(table.vectors, axis=1)
        present = torch.from_numpy(table.present)
        tokens = [self.network.tokens(m, torch.from_numpy(each)) for m, each in enumerate(table.vectors)]
        if self.settings.objective == "comm":
            made: np.ndarray = self.network.fuse(tokens, present).numpy()
            return made
        alone = [self.network.alone(m, each) * present[:, m, None] for m, each in enumerate(tokens)]
        return torch.cat(alone, dim=1).numpy()

    def save(self, path: str | Path) -> None:
        """Write config.json and model.safetensors into the folder ``path``."""
        folder = Path(path)
        config = {
            "format": FORMAT,
            "version": VERSION,
            "channels": [asdict(channel) for channel in self.channels],
            "settings": asdict(self.settings),
            "metrics": self.metrics,
            "model_sha256": hashlib.sha256(self._weights).hexdigest(),
            "versions": {"cmcr": version("cmcr"), "torch": torch.__version__},
        }
        write_atomic(folder / WEIGHTS, self._weights)
        # Last, since it is what makes the folder a fusion; its hash tells a half-replaced one.
        write_json(folder / "config.json", config)

    @classmethod
    def from_pretrained(cls, path: str | Path) -> Fuser:
        """Open a fusion's folder; runs no code from it (JSON and safetensors only).

        Raises:
            ArtifactError: missing, not a fusion, of another version, or damaged.
        """
        config = read_config(Path(path))
        return cls(config.channels, config.settings, read_network(Path(path), config), config.metrics)
