"""The classifier as a folder: fit it to a table, save it, open it again, and let it predict."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save as save_tensors

from cmcr.classify.config import FORMAT, VERSION, read_config, read_towers, refuse_other
from cmcr.classify.mla import Mla, fit_mla
from cmcr.classify.settings import ClassifySettings
from cmcr.classify.table import Channel, Table
from cmcr.files import locked, write_atomic, write_json, write_text

DIGITS = 6


@dataclass(frozen=True)
class Predictions:
    """What a classifier says of N rows.

    >>> import numpy as np
    >>> from cmcr.classify import Predictions
    >>> said = Predictions(("a",), ("cat", "dog"), ("image",), np.array([[0.25, 0.75]]), np.array([[1.0]]))
    >>> said.labels
    ['dog']

    Attributes:
        ids: (N,).
        classes: (C,) names.
        channels: (M,) names of the modalities.
        probabilities: (N, C); rows sum to 1.
        weights: (N, M), how much each modality counted; 0 where the row lacks it.
    """

    ids: tuple[str, ...]
    classes: tuple[str, ...]
    channels: tuple[str, ...]
    probabilities: np.ndarray
    weights: np.ndarray

    @property
    def labels(self) -> list[str]:
        """The most probable class of each row."""
        return [self.classes[number] for number in self.probabilities.argmax(axis=1)]

    def save(self, path: Path) -> None:
        """Write a CSV: id, label, its probability, and how much each modality counted."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(["id", "label", "probability", *(f"weight of {name}" for name in self.channels)])
        best = self.probabilities.max(axis=1)
        for name, label, p, weights in zip(self.ids, self.labels, best, self.weights, strict=True):
            writer.writerow([name, label, *(f"{each:.{DIGITS}f}" for each in (p, *weights))])
        write_text(path, buffer.getvalue())


class Classifier:
    """MLA's towers, with the channels they read and the classes they tell apart.

    >>> import numpy as np
    >>> from cmcr.classify import Classifier, ClassifySettings, join_table
    >>> from cmcr.memory import ArrayMemory
    >>> see = ArrayMemory("see", {"image": np.eye(4)}, {"image": ["a", "b", "c", "d"]})
    >>> hear = ArrayMemory("hear", {"audio": np.eye(3)}, {"audio": ["b", "c", "e"]})
    >>> labels = {"a": "dog", "b": "dog", "c": "cat", "d": "cat"}
    >>> table = join_table([(see, "image"), (hear, "audio")], labels)
    >>> model = Classifier.fit(table, ClassifySettings(width=8))
    >>> model.save("model")
    >>> Classifier.from_pretrained("model").predict(join_table([(hear, "audio")])).labels[:2]
    ['dog', 'cat']

    Attributes:
        channels: What it reads, in the order in which it was trained.
        classes: Their names.
        settings: How it was trained.
        metrics: What was measured while making it.
    """

    def __init__(
        self,
        channels: tuple[Channel, ...],
        classes: tuple[str, ...],
        settings: ClassifySettings,
        mla: Mla,
        metrics: Mapping[str, Any] | None = None,
    ) -> None:
        self.channels, self.classes, self.settings, self.mla = channels, classes, settings, mla
        self.metrics = dict(metrics or {})

    @classmethod
    def fit(cls, table: Table, settings: ClassifySettings | None = None) -> Classifier:
        """Train on the rows of a table that have a label."""
        chosen = settings or ClassifySettings()
        mla = fit_mla(table.rows(table.labels >= 0), chosen)
        return cls(table.channels, table.classes, chosen, mla)

    def predict(self, table: Table) -> Predictions:
        """Return what it says of the rows of a table, whatever modalities each has.

        Raises:
            InputError: the table has a channel that it was not fitted on, or a row has none of the modalities.
        """
        own = table.of_channels(self.channels)
        probabilities, weights = self.mla.probabilities(own).numpy(), self.mla.weights(own).numpy()
        names = tuple(channel.name for channel in self.channels)
        return Predictions(own.ids, self.classes, names, probabilities, weights)

    def save(self, path: str | Path) -> None:
        """Write config.json and model.safetensors into the folder ``path``.

        Raises:
            InputError: something else of cmcr lies there.
            ArtifactError: another process writes there.
        """
        folder = Path(path)
        refuse_other(folder)
        weights = save_tensors({key: each.contiguous() for key, each in self.mla.towers.state_dict().items()})
        config = {
            "format": FORMAT,
            "version": VERSION,
            "channels": [asdict(channel) for channel in self.channels],
            "classes": list(self.classes),
            "settings": asdict(self.settings),
            "metrics": self.metrics,
            "model_sha256": hashlib.sha256(weights).hexdigest(),
            "versions": {"cmcr": version("cmcr"), "torch": torch.__version__},
        }
        with locked(folder):
            write_atomic(folder / "model.safetensors", weights)
            # Last, since it is what makes the folder a classifier; its hash tells a half-replaced one.
            write_json(folder / "config.json", config)

    @classmethod
    def from_pretrained(cls, path: str | Path) -> Classifier:
        """Open a classifier's folder; runs no code from it (JSON and safetensors only).

        Raises:
            ArtifactError: missing, not a classifier, of another version, or damaged.
        """
        config = read_config(Path(path))
        mla = Mla(read_towers(Path(path), config), config.settings.dynamic)
        return cls(config.channels, config.classes, config.settings, mla, config.metrics)
