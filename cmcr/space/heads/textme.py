"""The projections and offsets that TextME's authors published: ``clip.pt``, ``clap.pt``, ..., into a text space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from cmcr.decode import pickles
from cmcr.errors import ArtifactError, InputError, ItemError
from cmcr.modality import Modality
from cmcr.reading import read_bytes
from cmcr.space.heads.sides import AUDIO, CLOUD, IMAGE, MLP, TEXT, File, Sides, identity, mapped
from cmcr.space.join import join_spaces
from cmcr.space.parts import Link, Way
from cmcr.space.projector import Projector
from cmcr.space.space import ConnectedSpace

BASE = "sentence-transformers:Qwen/Qwen3-Embedding-4B"
"""The text encoder of the published projections."""
_OWN = {"clap": AUDIO, "uni3d": CLOUD, "moleculestm": Modality("molecule"), "viclip": Modality("video")}
"""By file name, what its encoder sees beside texts; of the others pictures."""
_OFFSETS = {"text_embed_mean.pkl": True, "img_embed_mean.pkl": False}
"""The files of a folder of offsets, and whether it is that of texts."""
_MOST = 1 << 22


def fits(file: File) -> bool:
    """Tell whether a file has the keys of a projection."""
    return "mlps.0.weight" in file.state


def read(files: Sequence[File], sides: Sides, offsets: Mapping[str, Path]) -> ConnectedSpace:
    """Return the space of a text encoder, into which each file maps the encoder of its name.

    Keys ``mlps.{0,1,3,4}.*``: Linear-BatchNorm-GELU-Linear-BatchNorm of a vector less the mean of its modality. The
    mean goes into the first layer's bias, so each modality has a map of its own.

    Raises:
        InputError: the offsets of a file are not given.
        ArtifactError: offsets that are more than arrays, or of another size.
    """
    leaves = [file.path.stem for file in files]
    sides.check(["base", *leaves], ", ".join(str(file.path) for file in files))
    if unknown := next((side for side in offsets if side and side not in leaves), None):
        raise InputError(f"--offsets {unknown}=...: here are the projections of {', '.join(leaves)}")
    parts = []
    for file, side in zip(files, leaves, strict=True):
        folder = offsets.get(side) or (offsets.get("") if len(files) == 1 else None)
        if folder is None:
            raise InputError(
                f"{file.path} needs the means of its vectors: --offsets {side}=FOLDER, with {', '.join(_OFFSETS)}"
            )
        parts.append(_one(file, side, sides, folder))
    return join_spaces(*parts)


def _one(file: File, side: str, sides: Sides, folder: Path) -> ConnectedSpace:
    own = _OWN.get(side, IMAGE)
    plain = mapped(dict(file.state), MLP, "gelu-mlp", str(file.path))
    base = sides.encoder("base", plain.config.out_dim, (TEXT,), BASE)
    leaf = sides.encoder(side, plain.config.in_dim, (own, TEXT))
    maps, ways = {base.name: identity(base.dim)}, [Way(base.name, (TEXT,), (base.name,))]
    for name, of_text in _OFFSETS.items():
        modality = TEXT if of_text else own
        maps[f"{leaf.name} {modality}"] = _less(plain, offset(folder / name, leaf.dim))
        ways.append(Way(leaf.name, (modality,), (f"{leaf.name} {modality}",)))
    sides.notes.append(f"{file.path.name}: texts and {own} of {side} into {base.name}")
    links = [Link(base.name, leaf.name, TEXT)]
    return ConnectedSpace({e.name: e for e in (base, leaf)}, maps, TEXT, "textme", ways=ways, links=links)


def _less(projector: Projector, mean: np.ndarray) -> Projector:
    """Return the map of x - mean: its first layer's bias has the mean."""
    own = {key: tensor.clone() for key, tensor in projector.state_dict().items()}
    own["body.0.bias"] -= own["body.0.weight"] @ torch.from_numpy(mean)
    found = Projector(projector.config)
    found.load_state_dict(own)
    return found.eval()


def offset(path: Path, dim: int) -> np.ndarray:
    """Return the (dim,) float32 mean of a modality that a pickle holds: an array or a tensor of (dim,) or (1, dim).

    Raises:
        InputError: no such file.
        ArtifactError: it holds anything else.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected a folder with {' and '.join(_OFFSETS)}")
    try:
        found = pickles.load(read_bytes(path, _MOST), tensors=True)
    except ItemError as error:
        raise ArtifactError(f"{path}: {error}; expected the mean of vectors, an array") from None
    if not isinstance(found, np.ndarray) or found.dtype.kind != "f" or found.size != dim:
        what = f"{found.dtype} {found.shape}" if isinstance(found, np.ndarray) else type(found).__name__
        raise ArtifactError(f"{path}: {what}; expected {dim} numbers, a component each")
    mean = found.reshape(-1).astype(np.float32)
    if not np.isfinite(mean).all():
        raise ArtifactError(f"{path}: holds values that are not finite")
    return mean
