"""The embedded encoders tiny-clip, tiny-clap and tiny-ulip: small spaces that learned the tiny world."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch.nn import functional

from cmcr.decode.images import read_image
from cmcr.decode.sounds import read_audio
from cmcr.devices import Precision, inference
from cmcr.encoders.base import text_of, upright
from cmcr.errors import ArtifactError, ItemError
from cmcr.items import Item
from cmcr.modality import Modality
from cmcr.reading import parse_json, reading
from cmcr.shapes.clouds import read_point_cloud
from cmcr.tiny import prepare
from cmcr.tiny.sounds import SAMPLE_RATE, SECONDS
from cmcr.tiny.towers import SPECS, TOKENS, TinySpace, weights_path

MIN_POINTS = 32
"""A cloud of fewer points has no shape to speak of."""
_LONGEST = 2 * prepare.PIXELS - 2  # of a picture fitted whole: a thinner one would be less than half a pixel wide


def _read(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Return the metadata and the tensors of a weights file, after checking that they fit this code."""
    cure = "make them with python -m cmcr.tiny.train"
    with reading(path, cure, what="weights cannot be read"), safe_open(path, framework="pt") as file:
        about = dict(parse_json((file.metadata() or {}).get("cmcr", "{}")))
        state = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118  # not a dict
    if about.get("version") != prepare.VERSION:
        raise ArtifactError(f"{path}: for preprocessing {about.get('version')}, not {prepare.VERSION}; train anew")
    return about, state


class TinyEncoder:
    """One tiny space as an ``Encoder``.

    Sounds are mixed to mono at 16 kHz and read for their first two seconds; shorter ones are followed by silence.
    Pictures of any size are fitted into 64 x 64 pixels without cutting. Clouds keep their scale: the world is about
    four units wide, and z is up. Unknown words add nothing; a text of unknown words only is refused.

    Args:
        name: ``tiny-clip``, ``tiny-clap`` or ``tiny-ulip``.
        device: A torch device.
        precision: Of the matrix products.

    Raises:
        ArtifactError: the weights are missing, damaged, or of another preprocessing version.
    """

    def __init__(self, name: str, device: str = "cpu", precision: Precision = "fp32") -> None:
        path, spec = weights_path(name), SPECS[name]
        about, state = _read(path)
        digest = hashlib.sha256(path.read_bytes() + prepare.VERSION.encode())
        self.name, self.modalities, self.dim, self.fingerprint = name, spec.modalities, spec.dim, digest.hexdigest()
        self._row_of = {token: row for row, token in enumerate(about["vocabulary"])}
        self._device, self._precision, self.up = device, precision, "z"
        self._space = TinySpace(name, tuple(self._row_of))
        self._space.load_state_dict(state, strict=False)  # BatchNorm's counter is not kept
        self._space.eval().to(self._device)

    def prepare(self, item: Item, data: bytes) -> np.ndarray:
        """Decode one item into its tower's input; see ``Encoder.prepare``."""
        match item.modality:
            case Modality.IMAGE:
                return prepare.pixels(read_image(data, longest=_LONGEST))
            case Modality.AUDIO:
                return prepare.log_mel(read_audio(data, SAMPLE_RATE, SECONDS))
            case Modality.POINT_CLOUD:
                return self._cloud(upright(read_point_cloud(data, item.suffix)[:, :3], item.up, "z"))
            case Modality.TEXT:
                return self._text(data)
            case _:
                raise ValueError(item.modality)

    def _cloud(self, points: np.ndarray) -> np.ndarray:
        if len(points) < MIN_POINTS:
            raise ItemError(f"{len(points)} points; at least {MIN_POINTS} are needed")
        if not np.isfinite(points).all():
            raise ItemError("non-finite coordinates")
        return prepare.patches(points)

    def _text(self, data: bytes) -> np.ndarray:
        text = text_of(data)
        bag = prepare.bag(TOKENS[self.name](text), self._row_of)
        if not bag.any():
            raise ItemError(f"no word that {self.name} knows: {' '.join(text.split())[:60]!r}")
        return bag

    def prepare_texts(self, texts: Sequence[str]) -> list[np.ndarray | None]:
        """Prepare many texts at once; None: ``prepare`` refuses this one."""
        bags = prepare.bags(list(map(TOKENS[self.name], texts)), self._row_of)
        return [bag if known else None for bag, known in zip(bags, np.any(bags, axis=1), strict=True)]

    def encode(self, modality: Modality, prepared: Sequence[np.ndarray]) -> np.ndarray:
        """Embed what ``prepare`` returned; see ``Encoder.encode``."""
        if not prepared:
            return np.zeros((0, self.dim), np.float32)
        with inference(self._device, self._precision):
            stacked = torch.from_numpy(np.stack(prepared)).to(self._device)
            vectors = self._space(modality, stacked).float()
        if self._precision != "fp32":  # the tower's own unit length is of its precision
            vectors = functional.normalize(vectors, dim=1)
        made: np.ndarray = vectors.cpu().numpy()
        return made
