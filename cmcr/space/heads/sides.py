"""What the files of published heads have in common: whose vectors a head takes, and how its layers become a map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from cmcr.encoders import ALIASES, load_encoder
from cmcr.encoders.weights import fill
from cmcr.errors import ArtifactError, CmcrError, InputError
from cmcr.memory import MANIFEST, Memory
from cmcr.modality import Modality
from cmcr.space.parts import SpaceEncoder
from cmcr.space.projector import Kind, Projector, ProjectorConfig

IMAGE, TEXT, AUDIO, CLOUD = Modality.IMAGE, Modality.TEXT, Modality.AUDIO, Modality.POINT_CLOUD

State = Mapping[str, Tensor]
MLP = {"mlps.0": "body.0", "mlps.1": "body.1", "mlps.3": "body.3", "mlps.4": "body.4"}
"""Linear-BatchNorm-activation-Linear-BatchNorm as FreeBind, OmniBind and TextME name the layers."""


@dataclass(frozen=True)
class File:
    """A file of weights: where it lies and what is in it.

    >>> from pathlib import Path
    >>> from cmcr.space.heads.sides import File
    >>> File(Path("clap.pt"), {}).under("Head2.")
    {}
    """

    path: Path
    state: State

    def under(self, prefix: str) -> dict[str, Tensor]:
        """Return the tensors whose names begin so, without that."""
        return {key.removeprefix(prefix): value for key, value in self.state.items() if key.startswith(prefix)}


@dataclass
class Sides:
    """Who the sides of a file are: encoders, or memories made with them, that a user names; else the usual ones.

    >>> from cmcr import Modality
    >>> from cmcr.space.heads.sides import Sides
    >>> Sides({}).encoder("imagebind", 1024, (Modality.TEXT,)).name
    'imagebind'

    Attributes:
        named: By side.
        weights: Where the encoders' weights are looked for first.
        notes: What a user should know.
    """

    named: Mapping[str, str]
    weights: Sequence[Path] = ()
    notes: list[str] = field(default_factory=list)

    def check(self, sides: Sequence[str], what: str) -> None:
        """Refuse a named side that the files do not have.

        Raises:
            InputError: there is one.
        """
        if unknown := next((side for side in self.named if side not in sides), None):
            flag = f"--{unknown}" if unknown in ALIASES else f"--encoder {unknown}=..."
            raise InputError(f"{flag}: {what} connects {' and '.join(sides)}; leave it out")

    def encoder(self, side: str, dim: int, modalities: tuple[Modality, ...], usual: str = "") -> SpaceEncoder:
        """Return the encoder of a side.

        Args:
            side: Its name in the file's layout.
            dim: Components of the vectors that its head takes.
            modalities: What it brings into the space.
            usual: Its name where nobody says another and it is none that cmcr knows by the side's name.

        Raises:
            InputError: a named encoder that cannot be loaded, or one with other components.
        """
        named = self.named.get(side)
        if named is not None and (Path(named) / MANIFEST).is_file():
            info: Any = Memory.open(named).encoder
        elif named is None and side not in ALIASES:
            return SpaceEncoder(usual or side, "", dim, modalities)
        else:
            try:
                info = load_encoder(named or side, weights=self.weights)
            except CmcrError as error:
                if named is not None:
                    raise
                self.notes.append(f"{side} is matched by its name {ALIASES[side]} alone, for: {error}")
                return SpaceEncoder(ALIASES[side], "", dim, modalities)
        if info.dim != dim:
            raise InputError(f"{named or side} has {info.dim} components, and the {side} head takes {dim}")
        return SpaceEncoder(info.name, info.fingerprint, dim, modalities)


def mapped(own: State, layers: Mapping[str, str], kind: Kind, source: str, **more: Any) -> Projector:
    """Return a map whose layers are those of a file.

    Args:
        own: The layers, by the file's names.
        layers: The file's layer -> that of a ``Projector``.
        kind: Of the projector.
        source: The file and the part of it, for the message.
        more: Of the projector's config.

    Raises:
        ArtifactError: layers are missing, unexpected or of other shapes.
    """
    found = {_renamed(key, layers): tensor for key, tensor in own.items()}
    linears = sorted(key for key in found if key.endswith(".weight") and found[key].ndim == 2 and ".head." not in key)
    if not linears:
        raise ArtifactError(f"{source}: no linear layer; expected {', '.join(list(layers)[:2])}, ...")
    shapes = [found[key].shape for key in linears]
    hidden = 0 if kind == "half-mlp" else shapes[-1][1]
    projector = Projector(ProjectorConfig(kind, shapes[0][1], shapes[-1][0], hidden, **more))
    fill(projector, found, source)
    return projector.eval()


def _renamed(key: str, layers: Mapping[str, str]) -> str:
    layer, _, parameter = key.rpartition(".")
    return f"{layers.get(layer, layer)}.{parameter}"


def identity(dim: int) -> Projector:
    """Return the map of a base that stays as it is."""
    return Projector(ProjectorConfig("identity", dim, dim))
