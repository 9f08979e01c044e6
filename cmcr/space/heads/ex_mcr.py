"""The heads that Ex-MCR's authors published: ``ex_clap.pt`` and ``ex_ulip.pt``."""

from __future__ import annotations

from collections.abc import Sequence

from cmcr.errors import InputError
from cmcr.space.heads.sides import AUDIO, CLOUD, IMAGE, TEXT, File, Sides, identity, mapped
from cmcr.space.join import join_spaces
from cmcr.space.parts import Link
from cmcr.space.space import ConnectedSpace

_LEAVES = {"clap": (AUDIO, TEXT), "ulip": (CLOUD, IMAGE)}
"""By side, its own modality and the one that it shares with CLIP."""
_LAYERS = {"Head1": "body.head"} | {
    f"Head2.mlp{block + 1}.{net}.{layer}": f"body.blocks.{5 * block + place}"
    for block in range(2)
    for net, layer, place in (("net1", 0, 0), ("net1", 1, 1), ("net2", 0, 3), ("net2", 1, 4))
}


def fits(file: File) -> bool:
    """Tell whether a file has the keys of an Ex-MCR head."""
    return "Head1.weight" in file.state and any(key.startswith("Head2.mlp1.") for key in file.state)


def read(files: Sequence[File], sides: Sides) -> ConnectedSpace:
    """Return the space of one file, or of both.

    Keys ``Head1.*``: a linear layer for sounds (shapes) alone; ``Head2.mlp{1,2}.net{1,2}.*``: two blocks of
    Linear-BatchNorm-ReLU-Linear-BatchNorm. CLIP's vectors stay as they are.
    """
    leaves = [_leaf(file, sides) for file in files]
    sides.check(["clip", *leaves], ", ".join(str(file.path) for file in files))
    return join_spaces(*(_one(file, leaf, sides) for file, leaf in zip(files, leaves, strict=True)))


def _leaf(file: File, sides: Sides) -> str:
    """Return whose head a file is: the two are alike but for their names."""
    named = [side for side in _LEAVES if side in file.path.name.lower()] or [s for s in _LEAVES if s in sides.named]
    if len(named) != 1:
        raise InputError(f"{file.path}: a head of CLAP, or of ULIP? Its name does not say; add --clap or --ulip")
    return named[0]


def _one(file: File, side: str, sides: Sides) -> ConnectedSpace:
    own, shared = _LEAVES[side]
    projector = mapped(dict(file.state), _LAYERS, "decoupled", str(file.path), outer=(own,))
    leaf = sides.encoder(side, projector.config.in_dim, (own, shared))
    base = sides.encoder("clip", projector.config.out_dim, (IMAGE, TEXT))
    sides.notes.append(f"{file.path.name}: Head1 for {own} alone, Head2 for {own} and {shared} of {side}")
    maps = {base.name: identity(base.dim), leaf.name: projector}
    return ConnectedSpace(
        {e.name: e for e in (base, leaf)}, maps, shared, "ex-mcr", links=[Link(base.name, leaf.name, shared)]
    )
