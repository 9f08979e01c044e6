"""The projectors and routers that OmniBind's authors published: ``base.pt`` and ``large.pt``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cmcr.encoders.weights import fill
from cmcr.errors import ArtifactError
from cmcr.modality import Modality
from cmcr.space.heads.sides import AUDIO, CLOUD, IMAGE, MLP, TEXT, File, Sides, mapped
from cmcr.space.parts import Router, SpaceEncoder, Way
from cmcr.space.projector import Projector
from cmcr.space.space import ConnectedSpace

MIXES = 7
"""Projectors of a space, one for each mix of data."""
_HUB = "imagebind"
_WAVCAPS = ("wavcaps-pt", "wavcaps-ft-audiocaps", "wavcaps-ft-clotho")
_TEXT_SCALE = 10.0


@dataclass(frozen=True)
class _Size:
    """Who is in a model: experts of sounds, of pictures and of shapes, in its order, and whom its routers read."""

    audio: tuple[str, ...]
    image: tuple[str, ...]
    cloud: tuple[str, ...]
    reads: dict[Modality, tuple[str, ...]]

    @property
    def experts(self) -> tuple[str, ...]:
        """All of them, in the order of the projectors."""
        return self.audio + self.image + self.cloud

    def weighed(self) -> dict[Modality, tuple[str, ...]]:
        """Return whom each router weighs, in the order of its weights."""
        seen = {AUDIO: self.audio, IMAGE: self.image + self.cloud, CLOUD: self.cloud, TEXT: self.experts}
        return {m: names if m is CLOUD else (*names, _HUB) for m, names in seen.items()}

    def modalities(self, name: str) -> tuple[Modality, ...]:
        """Return what an expert sees."""
        return (AUDIO, TEXT) if name in self.audio else (IMAGE, TEXT) if name in self.image else (CLOUD, IMAGE, TEXT)


_BASE = _Size(
    _WAVCAPS, ("eva02-e14p",), ("uni3d-lvis",),
    {
        AUDIO: ("wavcaps-pt",), IMAGE: ("eva02-e14p",), CLOUD: ("uni3d-lvis",),
        TEXT: ("wavcaps-pt", "eva02-e14p", "uni3d-lvis"),
    },
)  # fmt: skip
_LARGE = _Size(
    ("clap-general", "clap-music", *_WAVCAPS), ("dfn-h14", "eva02-e14p", "siglip", "siglip-400m"),
    ("uni3d-lvis", "uni3d-mnet40", "uni3d-scanobjnn"),
    {
        AUDIO: ("wavcaps-pt",), IMAGE: ("siglip-400m",), CLOUD: ("uni3d-lvis",),
        TEXT: ("wavcaps-pt", "siglip-400m", "uni3d-lvis"),
    },
)  # fmt: skip
_ROUTERS = {AUDIO: "A_enc_router", IMAGE: "V_enc_router", CLOUD: "P_enc_router", TEXT: "T_enc_router"}


def fits(file: File) -> bool:
    """Tell whether a file has projectors and routers."""
    return bool(file.under("projs.0.")) and bool(file.under("ib_projs.0."))


def read(files: Sequence[File], sides: Sides) -> ConnectedSpace:
    """Return the space of the one file given.

    Keys ``projs.N.Head2.mlps.*``: seven projectors a space, those of sounds' experts first, then pictures', then
    shapes'; ``ib_projs.N``: ImageBind's seven; ``{A,V,P,T}_enc_router.router.{0,1,3,4,6}``: the routers. A way is the
    plain mean of its seven; ImageBind's of pictures and texts is normalised first.
    """
    (file,) = files
    size = _size(file)
    sides.check((*size.experts, _HUB), str(file.path))
    encoders: dict[str, SpaceEncoder] = {}
    maps: dict[str, Projector] = {}
    ways: list[Way] = []
    for number, side in enumerate((_HUB, *size.experts)):
        prefix, first = ("ib_projs", 0) if side == _HUB else ("projs", (number - 1) * MIXES)
        own = [_projector(file, f"{prefix}.{first + mix}.Head2.") for mix in range(MIXES)]
        modalities = (AUDIO, IMAGE, TEXT) if side == _HUB else size.modalities(side)
        encoder = encoders[side] = sides.encoder(side, own[0].config.in_dim, modalities)
        names = tuple(f"{encoder.name} {mix}" for mix in range(MIXES))
        maps |= dict(zip(names, own, strict=True))
        parts = {AUDIO: True, IMAGE: False, TEXT: False} if side == _HUB else dict.fromkeys(modalities, True)
        for plain in (True, False):
            if entering := tuple(modality for modality, kept in parts.items() if kept == plain):
                ways.append(Way(encoder.name, entering, names, plain_mean=plain))
    routers = [_router(file, m, size, encoders) for m, names in size.weighed().items() if len(names) > 1]
    sides.notes.append(
        f"{file.path.name}: {len(size.experts) + 1} spaces of {MIXES} projectors each, {len(routers)} routers"
    )
    made = {each.name: each for each in encoders.values()}
    return ConnectedSpace(made, maps, TEXT, "omnibind", ways=ways, routers=routers)


def _size(file: File) -> _Size:
    projectors = {key.split(".")[0] for key in file.under("projs.")}
    outs = {m: len(file.state.get(f"{name}.router.6.bias", ())) for m, name in _ROUTERS.items()}
    for size in (_BASE, _LARGE):
        if len(projectors) == MIXES * len(size.experts) and outs == {m: len(who) for m, who in size.weighed().items()}:
            return size
    weighed = ", ".join(f"{m} {count}" for m, count in outs.items())
    raise ArtifactError(
        f"{file.path}: {len(projectors)} projectors, and routers of {weighed} ways; expected base.pt or large.pt (what "
        "mixes EVA-CLIP-18B with ImageBind first, full.pt, is not read)"
    )


def _projector(file: File, prefix: str) -> Projector:
    return mapped(file.under(prefix), MLP, "mlp", f"{file.path}: {prefix[:-1]}")


def _router(file: File, modality: Modality, size: _Size, encoders: dict[str, SpaceEncoder]) -> Router:
    own, source = file.under(f"{_ROUTERS[modality]}.router."), f"{file.path}: {_ROUTERS[modality]}"
    reads, weighs = (
        tuple(encoders[side].name for side in sides) for sides in (size.reads[modality], size.weighed()[modality])
    )
    in_dim = sum(encoders[side].dim for side in size.reads[modality])
    hidden = tuple(len(own.get(f"{layer}.bias", ())) for layer in (0, 3))
    scale = _TEXT_SCALE if modality is TEXT else 1.0
    if not all(hidden):
        raise ArtifactError(f"{source}: keys {', '.join(sorted(own)[:3]) or 'none'}; expected router.0, .1, .3, .4, .6")
    router = Router(modality, reads, in_dim, weighs=weighs, hidden=hidden, scale=scale)
    fill(router, {f"body.{key}": tensor for key, tensor in own.items()}, source)
    return router.eval()
