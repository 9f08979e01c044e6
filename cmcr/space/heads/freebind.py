"""The projectors that FreeBind's authors published: a ``best.pt`` for each mix of data, averaged."""

from __future__ import annotations

from collections.abc import Sequence

from cmcr.errors import ArtifactError
from cmcr.modality import Modality
from cmcr.space.config import Preset
from cmcr.space.heads.sides import AUDIO, IMAGE, MLP, TEXT, File, Sides, identity, mapped
from cmcr.space.parts import Link, SpaceEncoder, Way
from cmcr.space.projector import Projector
from cmcr.space.space import ConnectedSpace

_LAYERS = {f"Head2.{theirs}": ours for theirs, ours in MLP.items()}
_BONDS = {(512, 1024): ("clap", "imagebind"), (1024, 768): ("imagebind", "internvl"), (512, 768): ("clap", "internvl")}
"""By components in and out: whose projectors they are, and into whose space."""
_MODALITIES = {
    "imagebind": (IMAGE, TEXT, AUDIO), "internvl": (IMAGE, TEXT), "clap": (AUDIO, TEXT), "clap-m": (AUDIO, TEXT),
}  # fmt: skip
_PRESETS = {"versatile": {TEXT: 0.1, AUDIO: 0.5}, "at-expertise": {TEXT: 0.5, AUDIO: 0.8}}
"""The factors of the authors' README, by what the sounds' experts count."""
_DISPLACED = 0.2
"""What ImageBind counts beside InternVL, for texts and pictures."""


def fits(file: File) -> bool:
    """Tell whether a file has the keys of one of the projectors."""
    return bool(file.under("Head2.mlps."))


def read(files: Sequence[File], sides: Sides) -> ConnectedSpace:
    """Return the space of one base, into which the files' projectors map; those of one expert are averaged.

    Keys ``Head2.mlps.{0,1,3,4}.*``: Linear-BatchNorm-ReLU-Linear-BatchNorm. The key names are those of OmniBind's
    class of the same name, for FreeBind's own is not published. A file in a folder ``..._M_Proj`` is the music CLAP's.
    """
    found: dict[str, list[Projector]] = {}
    bases = set()
    for file in files:
        projector = mapped(dict(file.state), _LAYERS, "mlp", str(file.path))
        expert, into = _bond(file, projector)
        found.setdefault(expert, []).append(projector)
        bases.add((into, projector.config.out_dim))
    if len(bases) > 1:
        raise ArtifactError(
            f"the files map into {' and '.join(sorted(side for side, _ in bases))}; give those of one base"
        )
    ((base_side, dim),) = bases
    sides.check([base_side, *found], f"{files[0].path.name} and others")
    base = sides.encoder(base_side, dim, _MODALITIES[base_side])
    encoders = {base_side: base}
    maps, ways, links = {base.name: identity(dim)}, [Way(base.name, base.modalities, (base.name,))], []
    for side, own in found.items():
        encoder = encoders[side] = sides.encoder(side, own[0].config.in_dim, _MODALITIES[side])
        names = [f"{encoder.name} {number}" for number in range(len(own))]
        maps |= dict(zip(names, own, strict=True))
        ways.append(Way(encoder.name, encoder.modalities, tuple(names)))
        links.append(Link(base.name, encoder.name, TEXT))
        sides.notes.append(f"{side} -> {base_side}: the mean of {len(own)} projectors")
    made = {each.name: each for each in encoders.values()}
    return ConnectedSpace(made, maps, TEXT, "freebind", ways=ways, links=links, presets=_presets(encoders, base_side))


def _bond(file: File, projector: Projector) -> tuple[str, str]:
    dims = projector.config.in_dim, projector.config.out_dim
    if dims not in _BONDS:
        known = ", ".join(f"{a} -> {b} ({expert} into {base})" for (a, b), (expert, base) in _BONDS.items())
        raise ArtifactError(f"{file.path}: maps {dims[0]} -> {dims[1]} components; expected {known}")
    expert, base = _BONDS[dims]
    music = expert == "clap" and any(part.endswith("_M_Proj") for part in file.path.parts)
    return ("clap-m" if music else expert), base


def _presets(encoders: dict[str, SpaceEncoder], base: str) -> dict[str, Preset]:
    """Return the authors' factors as weights of the encoders that are here; two CLAPs share theirs."""
    experts = [encoders[side].name for side in ("clap", "clap-m") if side in encoders]
    rest = {encoders[base].name: 1.0}
    if base == "internvl" and "imagebind" in encoders:
        rest = {encoders[base].name: 1 - _DISPLACED, encoders["imagebind"].name: _DISPLACED}
    found: dict[str, dict[Modality, dict[str, float]]] = {}
    for name, factors in _PRESETS.items():
        preset: dict[Modality, dict[str, float]] = {IMAGE: rest} if len(rest) > 1 else {}
        for modality, factor in factors.items():
            left = {e.name: 1.0 for e in encoders.values() if modality in e.modalities and e.name not in experts}
            left = rest if modality is TEXT else left
            factor = factor if experts else 0.0
            told = {who: (1 - factor if left else 1) * weight for who, weight in left.items()}
            told |= {who: factor / len(experts) for who in experts}
            preset |= {modality: told} if len(told) > 1 else {}
        found[name] = preset
    return found  # type: ignore[return-value]
