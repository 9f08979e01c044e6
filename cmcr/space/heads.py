"""The heads that C-MCR's authors published (``clap_clip.pt``, ``ulip_clip.pt``) as connected spaces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from cmcr.encoders import ALIASES, load_encoder
from cmcr.encoders.weights import fill, read_state
from cmcr.errors import ArtifactError, CmcrError, InputError
from cmcr.files import sha256_file
from cmcr.memory import MANIFEST, Memory
from cmcr.modality import Modality
from cmcr.space.projector import Kind, Projector, ProjectorConfig
from cmcr.space.space import ConnectedSpace, SpaceEncoder

_IMAGE, _TEXT, _AUDIO, _CLOUD = Modality.IMAGE, Modality.TEXT, Modality.AUDIO, Modality.POINT_CLOUD


@dataclass(frozen=True)
class _Layout:
    """One of the two published files.

    Attributes:
        sides: Which head belongs to which encoder; the first is the space's base. A and B swap between the files.
        modalities: What each encoder brings into the space.
        overlap: Through what the authors connected them.
        kind: Of both projectors.
        layers: Their layer -> our layer in ``Projector.body``.
    """

    sides: dict[str, str]
    modalities: dict[str, tuple[Modality, ...]]
    overlap: Modality
    kind: Kind
    layers: dict[str, str]


_LAYOUTS = {
    "audio-visual": _Layout(
        {"clip": "Head_B", "clap": "Head_A"},
        {"clip": (_IMAGE, _TEXT), "clap": (_AUDIO, _TEXT)},
        _TEXT,
        "mlp",
        {"net1.0": "body.0", "net1.1": "body.1", "net2.0": "body.3", "net2.1": "body.4"},
    ),
    "3d-language": _Layout(
        {"clip": "Head_A", "ulip": "Head_B"},
        {"clip": (_IMAGE, _TEXT), "ulip": (_CLOUD, _IMAGE)},
        _IMAGE,
        "half-mlp",
        {"net.0": "body.0", "net.1": "body.1"},
    ),
}


def import_heads(
    path: str | Path, *, sides: Mapping[str, str] | None = None, weights: Sequence[Path] = ()
) -> tuple[ConnectedSpace, list[str]]:
    """Turn a published heads file into a space.

    Keys ``Head_{A,B}.net1.{0,1}.*`` and ``net2``: CLAP-CLIP, Linear-BatchNorm-ReLU-Linear-BatchNorm, A is CLAP's.
    Keys ``Head_{A,B}.net.{0,1}.*``: ULIP-CLIP, Linear-BatchNorm-ReLU, A is CLIP's. BatchNorm's statistics are kept.

    Args:
        path: The file; read without running anything in it.
        sides: For ``clip``, ``clap`` or ``ulip`` the name of an encoder, or a memory made with it: whose vectors go
            through that head. Left out: the encoder the authors used.
        weights: Where the encoders' weights are looked for first.

    Returns:
        The space, and remarks for the user. An encoder that cannot be loaded, and was not named, enters without a
        fingerprint: its memories are then told by their encoder's name alone.

    Raises:
        InputError: no such file, a side that the file does not have, or a named encoder that cannot be loaded.
        ArtifactError: not a heads file, or damaged.
    """
    file, named = Path(path), dict(sides or {})
    if not file.is_file():
        raise InputError(f"{file}: no such file; expected clap_clip.pt or ulip_clip.pt")
    state = read_state(file)
    connects, layout = _recognise(state, file)
    if unknown := named.keys() - layout.sides.keys():
        raise InputError(f"--{min(unknown)}: {file} connects {' and '.join(layout.sides)}; leave it out")
    encoders: dict[str, SpaceEncoder] = {}
    projectors: dict[str, Projector] = {}
    notes = [f"{file.name}: {connects} heads: " + ", ".join(f"{head} is {s}'s" for s, head in layout.sides.items())]
    for side, head in layout.sides.items():
        projector = _projector(state, head, layout, file)
        name, fingerprint, note = _encoder(side, named.get(side), projector.config.in_dim, weights)
        encoders[name] = SpaceEncoder(name, fingerprint, projector.config.in_dim, layout.modalities[side])
        projectors[name] = projector
        notes += [note] if note else []
    if other := sorted(key for key in state if not key.startswith(("Head_A.", "Head_B."))):
        notes.append(f"left aside: {', '.join(other[:5])}")
    recipe = {"heads": file.name, "heads_sha256": sha256_file(file)}
    return ConnectedSpace(encoders, projectors, layout.overlap, "official-heads", recipe), notes


def _recognise(state: Mapping[str, Tensor], file: Path) -> tuple[str, _Layout]:
    for name, layout in _LAYOUTS.items():
        if f"Head_A.{next(iter(layout.layers))}.weight" in state:
            return name, layout
    raise ArtifactError(
        f"{file}: keys {', '.join(sorted(state)[:3])} ...; expected Head_A.net1.0.weight (clap_clip.pt) or "
        "Head_A.net.0.weight (ulip_clip.pt)"
    )


def _projector(state: Mapping[str, Tensor], head: str, layout: _Layout, file: Path) -> Projector:
    own: dict[str, Any] = {}
    for key, tensor in state.items():
        if not key.startswith(f"{head}."):
            continue
        layer, _, parameter = key.removeprefix(f"{head}.").rpartition(".")
        own[f"{layout.layers.get(layer, layer)}.{parameter}"] = tensor
    linears = [tensor for key, tensor in own.items() if key.endswith(".weight") and tensor.ndim == 2]
    if not linears:
        raise ArtifactError(f"{file}: no {head}; expected two heads")
    hidden = len(linears[0]) if layout.kind == "mlp" else 0
    projector = Projector(ProjectorConfig(layout.kind, linears[0].shape[1], len(linears[-1]), hidden))
    fill(projector, own, f"{file}: {head}")
    return projector


def _encoder(side: str, named: str | None, dim: int, weights: Sequence[Path]) -> tuple[str, str, str | None]:
    """Return name and fingerprint of the encoder of one side, and a remark."""
    if named is not None and (Path(named) / MANIFEST).is_file():
        info = Memory.open(named).encoder
    else:
        try:
            info = load_encoder(named or side, weights=weights)  # type: ignore[assignment]  # has the same attributes
        except CmcrError as error:
            if named is not None:
                raise
            return ALIASES[side], "", f"{side} is matched by its name {ALIASES[side]} alone, for: {error}"
    if info.dim != dim:
        raise InputError(f"{named or side} has {info.dim} components, and the {side} head takes {dim}")
    return info.name, info.fingerprint, None
