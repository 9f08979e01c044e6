"""What the folder of a classifier says of itself, checked before anything is made of it: it may be a stranger's."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from safetensors.torch import load as load_tensors

from cmcr.classify.network import Towers
from cmcr.classify.settings import ClassifySettings
from cmcr.classify.table import Channel
from cmcr.decode import memory_bytes
from cmcr.errors import ArtifactError, InputError
from cmcr.memory import MANIFEST
from cmcr.reading import read_bytes, read_json, reading
from cmcr.schema import checked
from cmcr.space.describe import CLASSIFIER

FORMAT, VERSION = CLASSIFIER, 1
HEADER_BYTES = 1 << 20
"""Bytes of names and shapes in a file of weights, at most."""
CURE = "fit anew with cmcr classify fit"


@dataclass(frozen=True)
class ModelConfig:
    """What config.json holds."""

    format: str
    version: int
    channels: tuple[Channel, ...]
    classes: tuple[str, ...]
    settings: ClassifySettings
    metrics: dict[str, Any]
    model_sha256: str
    versions: dict[str, Any]

    @property
    def steps(self) -> tuple[Channel, ...]:
        """The channels in the order in which a batch trains them."""
        return self.channels if self.settings.order == "given" else self.channels[::-1]

    def towers(self) -> Towers:
        """Return untrained towers of these sizes."""
        return Towers([each.dim for each in self.channels], self.settings.width, 1, len(self.classes))

    def check(self) -> None:
        """Check that the parts agree, and that this machine can hold the weights.

        Raises:
            ValueError: they do not.
        """
        _expect(bool(self.channels), "it has no channel")
        _expect(len(self.classes) > 1, f"it has {len(self.classes)} classes, expected two or more")
        _expect(len(set(self.classes)) == len(self.classes), "two classes have one name")
        check_channels(self.channels)
        width = self.settings.width
        numbers = (sum(each.dim for each in self.channels) + len(self.classes)) * (width + 1)
        numbers += len(self.channels) * width * (width + 3)
        check_size(numbers)


def check_channels(channels: Sequence[Channel]) -> None:
    """Check that each channel has components and stands there once.

    Raises:
        ValueError: one does not.
    """
    for number, each in enumerate(channels):
        _expect(each.dim > 0, f"channel {each.name!r} has {each.dim} components")
        twice = any(each.fits(other) or each.name == other.name for other in channels[:number])
        _expect(not twice, f"channel {each.name!r} stands there twice")


def check_size(numbers: int) -> None:
    """Check that this machine can hold so many float32 weights.

    Raises:
        ValueError: they take more than half of its memory.
    """
    _expect(4 * numbers <= memory_bytes() // 2, f"its weights take {4e-9 * numbers:.1f} GB, above half of memory")


class Checkable(Protocol):
    """A config that can tell whether its parts fit together: ValueError where they do not."""

    def check(self) -> None:
        """Refuse parts that do not fit together."""
        ...


_Config = TypeVar("_Config", bound=Checkable)
_Network = TypeVar("_Network", bound=torch.nn.Module)


def read_config(folder: Path) -> ModelConfig:
    """Return the config of a classifier's folder.

    Raises:
        ArtifactError: not a classifier, of another version, or damaged.
    """
    absent = f"not a classifier (no config.json); make one with: cmcr classify fit -o {folder}"
    return checked_config(ModelConfig, folder, (FORMAT, VERSION), absent, CURE)


def checked_config(of: type[_Config], folder: Path, form: tuple[str, int], absent: str, cure: str) -> _Config:
    """Return what ``config.json`` of a folder says, as ``of``, of the format and version ``form``.

    Raises:
        ArtifactError: there is none (then ``absent`` is told), or it is another, or damaged (then ``cure`` is).
    """
    path = folder / "config.json"
    if not path.exists():
        raise ArtifactError(f"{folder}: {absent}")
    with reading(path, cure, what="is damaged or was edited by hand"):
        value = read_json(path)
        _expect(isinstance(value, dict), "not an object")
        found = value.get("format"), value.get("version")
        if found != form:
            raise ArtifactError(
                f"{path}: format {found[0]!r} version {found[1]!r}, expected {form[0]!r} version {form[1]}; {cure}"
            )
        try:
            config: _Config = checked(of, value)
        except InputError as error:  # a setting out of its range
            raise ValueError(str(error)) from None
        config.check()
    return config


def read_towers(folder: Path, config: ModelConfig) -> Towers:
    """Return the trained towers of a classifier's folder.

    Raises:
        ArtifactError: the file of weights is missing, damaged, not the config's, or of other shapes.
    """
    return checked_weights(config.towers, folder / "model.safetensors", config.model_sha256, CURE)


def checked_weights(network: Callable[[], _Network], path: Path, sha256: str, cure: str) -> _Network:
    """Return the network of a config with the weights of a file, for use.

    No more is read than the config's own tensors take, and nothing is believed before its sha256 is the config's.

    Args:
        network: Makes the network, untrained.
        path: A safetensors file.
        sha256: What the config says of it.
        cure: What to do where it is not that.

    Raises:
        ArtifactError: it is missing, damaged, not the config's, or of other shapes.
    """
    with reading(path, cure, what="is damaged"):
        with torch.device("meta"):
            expected = network().state_dict()
        size = sum(tensor.numel() * tensor.element_size() for tensor in expected.values())
        data = read_bytes(path, size + HEADER_BYTES)
        if hashlib.sha256(data).hexdigest() != sha256:
            raise ArtifactError(f"{path} is not the file config.json names; {cure}")
        found = load_tensors(data)
        _expect(found.keys() == expected.keys(), "it has not the tensors that config.json asks for")
        for key, asked in expected.items():
            same = found[key].shape == asked.shape and found[key].dtype == asked.dtype
            _expect(same, f"{key} is {tuple(found[key].shape)}, config.json says {tuple(asked.shape)}")
            _expect(bool(found[key].isfinite().all()), f"{key} holds values that are not finite")
        made = network()
        made.load_state_dict(found)
    return made.eval()


def refuse_other(folder: Path) -> None:
    """Refuse to write a classifier where something else of cmcr lies.

    Raises:
        InputError: the folder is a memory, or a config.json in it is not a classifier's.
    """
    if (folder / MANIFEST).exists():
        raise InputError(f"{folder} is a memory; choose another folder for the classifier")
    path = folder / "config.json"
    if path.exists():
        try:
            known = read_json(path)["format"] == FORMAT
        except (OSError, ValueError, KeyError, TypeError):
            known = False
        if not known:
            raise InputError(f"{folder} holds a config.json that is no classifier's; choose another folder")


def _expect(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(what)
