"""What a space's folder says of itself, checked before anything is made of it: it may be a stranger's."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_tensors

from cmcr.decode import memory_bytes
from cmcr.errors import ArtifactError
from cmcr.modality import Modality
from cmcr.reading import plainly, read_bytes, read_json
from cmcr.schema import checked
from cmcr.space.projector import ProjectorConfig

FORMAT, VERSION = "cmcr-space", 1
HEADER_BYTES = 1 << 20
"""Bytes of names and shapes in a file of weights, at most: a projector has some ten tensors."""


@dataclass(frozen=True)
class SpaceEncoder:
    """An encoder of a connected space: its name, fingerprint, dim, and the modalities the space holds of it.

    The fingerprint is empty where it is not known (imported heads): then the name alone decides.
    """

    name: str
    fingerprint: str
    dim: int
    modalities: tuple[Modality, ...]

    def is_made_by(self, name: str, fingerprint: str) -> bool:
        """Tell whether vectors of that encoder are this one's."""
        return name == self.name and self.fingerprint in ("", fingerprint)


@dataclass(frozen=True)
class Entry:
    """An encoder as config.json has it, with its projector."""

    name: str
    fingerprint: str
    dim: int
    modalities: tuple[Modality, ...]
    projector: ProjectorConfig

    @property
    def encoder(self) -> SpaceEncoder:
        """The encoder alone."""
        return SpaceEncoder(self.name, self.fingerprint, self.dim, self.modalities)


@dataclass(frozen=True)
class SpaceConfig:
    """What config.json holds."""

    format: str
    version: int
    method: str
    overlap: Modality
    dim: int
    encoders: tuple[Entry, ...]
    recipe: dict[str, Any]
    metrics: dict[str, Any]
    model_sha256: str
    versions: dict[str, Any]


def checked_config(value: dict[str, Any]) -> SpaceConfig:
    """Return a config whose parts agree with each other, before anything is made of its numbers.

    Raises:
        ValueError: what does not.
    """
    config: SpaceConfig = checked(SpaceConfig, value)
    names = [entry.name for entry in config.encoders]
    _expect(bool(names), "it has no encoder")
    _expect(len(set(names)) == len(names), "two encoders have one name")
    for entry in config.encoders:
        entry.projector.check()
        _expect(bool(entry.modalities), f"encoder {entry.name!r} has no modality")
        _expect(len(set(entry.modalities)) == len(entry.modalities), f"encoder {entry.name!r} has a modality twice")
        dims, own = (entry.projector.in_dim, entry.projector.out_dim), (entry.dim, config.dim)
        _expect(
            dims == own, f"the projector of {entry.name!r} maps {dims[0]} -> {dims[1]}, expected {own[0]} -> {own[1]}"
        )
    _expect(any(config.overlap in entry.modalities for entry in config.encoders), f"no encoder has {config.overlap}")
    return config


def read_tensors(path: Path, config: SpaceConfig) -> dict[str, torch.Tensor]:
    """Return the tensors of a space, if they are those that its config asks for.

    Raises:
        ArtifactError: another file than the config's.
        ValueError: another name, shape or type; or a value that is not finite.
    """
    expected = {
        f"{number}.{key}": tensor
        for number, entry in enumerate(config.encoders)
        for key, tensor in entry.projector.tensors().items()
    } or {"none": torch.zeros(0)}
    size = sum(tensor.numel() * tensor.element_size() for tensor in expected.values())
    _expect(size <= memory_bytes() // 2, f"its projectors take {size / 1e9:.1f} GB, more than half of memory")
    data = read_bytes(path, size + HEADER_BYTES)
    if hashlib.sha256(data).hexdigest() != config.model_sha256:
        raise ArtifactError(f"{path} is not the file config.json names; connect anew")
    found = load_tensors(data)
    _expect(found.keys() == expected.keys(), "it has not the tensors that config.json asks for")
    for key, asked in expected.items():  # in an order that is always the same
        tensor = found[key]
        _expect(tensor.shape == asked.shape, f"{key} is {tuple(tensor.shape)}, config.json says {tuple(asked.shape)}")
        _expect(tensor.dtype == asked.dtype, f"{key} is {tensor.dtype}, expected {asked.dtype}")
        _expect(bool(tensor.isfinite().all()), f"{key} holds values that are not finite")
        _expect(not key.endswith("running_var") or bool((tensor >= 0).all()), f"{key} holds negative variances")
    return found


def _expect(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(what)


def read_config(folder: Path) -> dict[str, Any]:
    """Return the content of a space's config.json, of the right format and version and else unchecked.

    Raises:
        ArtifactError: not a space, or of another version.
    """
    path = folder / "config.json"
    if not path.exists():
        raise ArtifactError(
            f"{folder}: not a connected space (no config.json); make one with: cmcr connect A B -o {folder}"
        )
    try:
        with plainly():
            config = read_json(path)
            found = config.get("format"), config.get("version")
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: not readable as JSON ({error}); connect anew") from error
    if found != (FORMAT, VERSION):
        raise ArtifactError(f"{path}: format {found[0]!r} version {found[1]!r}, expected {FORMAT!r} version {VERSION}")
    result: dict[str, Any] = config
    return result
