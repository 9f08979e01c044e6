"""The heads that C-MCR's authors published: ``clap_clip.pt`` and ``ulip_clip.pt``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cmcr.errors import ArtifactError
from cmcr.modality import Modality
from cmcr.space.heads.sides import AUDIO, CLOUD, IMAGE, TEXT, File, Sides, mapped
from cmcr.space.projector import Kind
from cmcr.space.space import ConnectedSpace


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
        {"clip": (IMAGE, TEXT), "clap": (AUDIO, TEXT)},
        TEXT,
        "mlp",
        {"net1.0": "body.0", "net1.1": "body.1", "net2.0": "body.3", "net2.1": "body.4"},
    ),
    "3d-language": _Layout(
        {"clip": "Head_A", "ulip": "Head_B"},
        {"clip": (IMAGE, TEXT), "ulip": (CLOUD, IMAGE)},
        IMAGE,
        "half-mlp",
        {"net.0": "body.0", "net.1": "body.1"},
    ),
}


def fits(file: File) -> bool:
    """Tell whether a file has the keys of one of the two."""
    return any(f"Head_A.{next(iter(layout.layers))}.weight" in file.state for layout in _LAYOUTS.values())


def read(files: Sequence[File], sides: Sides) -> ConnectedSpace:
    """Return the space of the one file given.

    Keys ``Head_{A,B}.net1.{0,1}.*`` and ``net2``: CLAP-CLIP, Linear-BatchNorm-ReLU-Linear-BatchNorm, A is CLAP's.
    Keys ``Head_{A,B}.net.{0,1}.*``: ULIP-CLIP, Linear-BatchNorm-ReLU, A is CLIP's. BatchNorm's statistics are kept.
    """
    (file,) = files
    name, layout = next(
        (name, layout)
        for name, layout in _LAYOUTS.items()
        if f"Head_A.{next(iter(layout.layers))}.weight" in file.state
    )
    sides.check(list(layout.sides), str(file.path))
    heads = ", ".join(f"{head} is {side}'s" for side, head in layout.sides.items())
    sides.notes.append(f"{file.path.name}: {name} heads: {heads}")
    encoders, projectors = {}, {}
    for side, head in layout.sides.items():
        own = file.under(f"{head}.")
        if not own:
            raise ArtifactError(f"{file.path}: no {head}; expected two heads")
        projector = mapped(own, layout.layers, layout.kind, f"{file.path}: {head}")
        encoder = sides.encoder(side, projector.config.in_dim, layout.modalities[side])
        encoders[encoder.name], projectors[encoder.name] = encoder, projector
    if other := sorted(key for key in file.state if not key.startswith(("Head_A.", "Head_B."))):
        sides.notes.append(f"left aside: {', '.join(other[:5])}")
    return ConnectedSpace(encoders, projectors, layout.overlap, "official-heads")
