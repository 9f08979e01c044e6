"""The connected space: which encoder goes through which projector, as a folder a person can open and share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save as save_tensors

from cmcr.errors import ArtifactError, InputError, nearest
from cmcr.files import left_behind, write_atomic, write_json
from cmcr.memory import Memory
from cmcr.modality import Modality
from cmcr.reading import reading
from cmcr.space.card import card
from cmcr.space.config import FORMAT, VERSION, SpaceEncoder, checked_config, read_config, read_tensors
from cmcr.space.projector import OfModality, Projector

__all__ = ["ConnectedSpace", "SpaceEncoder", "card"]

BLOCK_FLOATS = 1 << 25
"""Floats that one block of a projection may take, whatever the number of anchors a route has."""


class ConnectedSpace:
    """Several encoders' vectors in one space.

    Attributes:
        encoders: By name; the first is the base, which embeds a query when several encoders could.
        projectors: By encoder name.
        overlap: The modality through which the encoders were connected.
        method: ``c-mcr``, ``linear``, ``route`` or another.
        recipe: The settings that made it.
        metrics: What was measured while making it.
    """

    def __init__(
        self,
        encoders: Mapping[str, SpaceEncoder],
        projectors: Mapping[str, Projector],
        overlap: Modality,
        method: str,
        recipe: Mapping[str, Any] | None = None,
        metrics: Mapping[str, Any] | None = None,
    ) -> None:
        self.encoders = dict(encoders)
        self.projectors = {name: projectors[name].eval() for name in self.encoders}
        self.overlap, self.method = overlap, method
        self.recipe, self.metrics = dict(recipe or {}), dict(metrics or {})

    def __repr__(self) -> str:
        """Tell the encoders with their modalities, and how they were connected."""
        held = "; ".join(f"{each.name}: {', '.join(each.modalities)}" for each in self.encoders.values())
        return f"ConnectedSpace({held}; {self.method} via {self.overlap}, {self.dim} components)"

    @property
    def dim(self) -> int:
        """Components of a vector of the space."""
        return next(iter(self.projectors.values())).config.out_dim

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """Every modality of the space, in the encoders' order."""
        return tuple(dict.fromkeys(m for encoder in self.encoders.values() for m in encoder.modalities))

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) over the encoders, the projectors' shapes and weights: equal for equal projections."""
        return hashlib.sha256(json.dumps(self._structure(), sort_keys=True).encode() + self._weights()).hexdigest()

    def encoder_for(self, modality: Modality, encoder: str | None = None) -> SpaceEncoder:
        """Return the named encoder, or the first one that has ``modality``.

        Raises:
            InputError: no encoder has the modality, or the name is not of this space.
        """
        if encoder is not None and not (isinstance(encoder, str) and encoder in self.encoders):
            known = ", ".join(self.encoders)
            close = nearest(str(encoder), self.encoders)
            raise InputError(f"encoder {encoder!r} is not in this space ({known}){close}")
        named = [self.encoders[encoder]] if encoder is not None else list(self.encoders.values())
        found = next((candidate for candidate in named if modality in candidate.modalities), None)
        if found is None:
            held = "; ".join(f"{e.name}: {', '.join(e.modalities)}" for e in named)
            close = nearest(modality, {m for e in named for m in e.modalities})
            raise InputError(f"modality {str(modality)!r} is not in this space ({held}){close}")
        return found

    def projector(self, encoder: str, modality: Modality) -> OfModality:
        """Return the module that maps raw unit vectors (N, D) of one modality to (N, dim) unit vectors."""
        return self.projectors[self.encoder_for(modality, encoder).name].of(modality)

    def project(
        self, vectors: Memory | np.ndarray, *, encoder: str | None = None, modality: Modality | str
    ) -> np.ndarray:
        """Project vectors of one encoder and modality into the space.

        Args:
            vectors: A memory, or (N, D) rows of an encoder (normalised here).
            encoder: Whose vectors they are; may be left out for a memory or when only one encoder has the modality.
            modality: Their modality.

        Returns:
            (N, dim) float32 unit vectors.

        Raises:
            InputError: a wrong shape, non-finite values, or a modality or encoder the space lacks.
            ArtifactError: the memory belongs to another encoder than the space.
        """
        blocks = list(self.project_blocks(vectors, encoder=encoder, modality=modality))
        return np.concatenate(blocks) if blocks else np.zeros((0, self.dim), np.float32)

    def project_blocks(
        self, vectors: Memory | np.ndarray, *, encoder: str | None = None, modality: Modality | str
    ) -> Iterator[np.ndarray]:
        """Like ``project``, a block of rows at a time, in order."""
        modality = Modality(modality)
        if isinstance(vectors, Memory):
            entry = self.check_memory(vectors, modality, encoder)
            blocks: Iterator[np.ndarray] = vectors.blocks(modality)
        else:
            entry = self.encoder_for(modality, encoder)
            blocks = iter([_checked(vectors, entry)])
        projector = self.projectors[entry.name]
        rows = max(1, BLOCK_FLOATS // max(projector.config.anchors, entry.dim, self.dim))
        for block in blocks:
            for start in range(0, len(block), rows):
                with torch.inference_mode():
                    part = torch.from_numpy(np.array(block[start : start + rows], dtype=np.float32))
                    yield projector(part, modality).numpy()

    def check_memory(self, memory: Memory, modality: Modality, encoder: str | None = None) -> SpaceEncoder:
        """Return the encoder whose vectors of ``modality`` a memory holds, if this space connects it.

        Raises:
            InputError: the memory lacks the modality, or is not of ``encoder``.
            ArtifactError: its encoder is not the one this space connects.
        """
        theirs = memory.encoder
        if encoder not in (None, theirs.name):
            raise InputError(f"{memory.path} holds vectors of {theirs.name!r}, not of {encoder!r}")
        if not any(own.is_made_by(theirs.name, theirs.fingerprint) for own in self.encoders.values()):
            known = ", ".join(f"{e.name} ({e.fingerprint[:12] or 'any'})" for e in self.encoders.values())
            raise ArtifactError(
                f"{memory.path} was made by {theirs.name} ({theirs.fingerprint[:12]}), this space connects {known}; "
                "embed with that encoder, or connect anew"
            )
        if modality not in memory.modalities:
            raise InputError(f"{memory.path} holds {', '.join(memory.modalities) or 'nothing'}, no {modality}")
        return self.encoder_for(modality, theirs.name)

    def _structure(self) -> list[dict[str, Any]]:
        return [
            {
                "name": encoder.name,
                "fingerprint": encoder.fingerprint,
                "dim": encoder.dim,
                "modalities": list(encoder.modalities),
                "projector": self.projectors[encoder.name].config.to_dict(),
            }
            for encoder in self.encoders.values()
        ]

    def _weights(self) -> bytes:
        tensors = {
            f"{number}.{key}": tensor.contiguous()
            for number, name in enumerate(self.encoders)
            for key, tensor in self.projectors[name].state_dict().items()
        }
        # An identity projector has no weights, and safetensors wants at least one tensor.
        return save_tensors(tensors or {"none": torch.zeros(0)})

    def save(self, path: str | Path) -> None:
        """Write config.json, model.safetensors and the card README.md into the folder ``path``."""
        folder, weights = Path(path), self._weights()
        for left in left_behind(folder):
            if left.name.startswith((".config.json.", ".model.safetensors.", ".README.md.")):
                left.unlink(missing_ok=True)
        write_atomic(folder / "model.safetensors", weights)
        config = {
            "format": FORMAT,
            "version": VERSION,
            "method": self.method,
            "overlap": self.overlap,
            "dim": self.dim,
            "encoders": self._structure(),
            "recipe": self.recipe,
            "metrics": self.metrics,
            "model_sha256": hashlib.sha256(weights).hexdigest(),
            "versions": {"cmcr": version("cmcr"), "torch": torch.__version__},
        }
        write_atomic(folder / "README.md", card(config).encode())
        # Last, since it is what makes the folder a space; its hash tells a half-replaced one.
        write_json(folder / "config.json", config)

    @classmethod
    def from_pretrained(cls, path: str | Path) -> ConnectedSpace:
        """Open a space folder; runs no code from it (JSON and safetensors only).

        Raises:
            ArtifactError: missing, not a space, of another version, or damaged.
        """
        folder = Path(path)
        raw = read_config(folder)
        with reading(folder, "connect anew", what="is damaged or was edited by hand"):
            config = checked_config(raw)
            tensors = read_tensors(folder / "model.safetensors", config)
            encoders, projectors = {}, {}
            for number, entry in enumerate(config.encoders):
                prefix = f"{number}."
                projector = Projector(entry.projector)
                projector.load_state_dict(
                    {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}
                )
                encoders[entry.name], projectors[entry.name] = entry.encoder, projector
            return cls(encoders, projectors, config.overlap, config.method, config.recipe, config.metrics)


def _checked(vectors: np.ndarray, encoder: SpaceEncoder) -> np.ndarray:
    """Return float32 unit rows, or say what is wrong with the array."""
    expected = f"{encoder.name} has numbers of shape (N, {encoder.dim})"
    try:
        rows = np.asarray(vectors)
    except (TypeError, ValueError, RuntimeError) as error:  # ragged lists; tensors of a GPU or with gradients
        raise InputError(f"{type(vectors).__name__} is no array ({str(error).splitlines()[0]}); {expected}") from error
    if rows.ndim != 2 or rows.shape[1] != encoder.dim or rows.dtype.kind not in "fiu":
        raise InputError(f"array {rows.dtype} {rows.shape}; {expected}")
    with np.errstate(over="ignore", under="ignore"):  # what is too large or small for float32 is told below
        rows = rows.astype(np.float32)
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
    bad = ~np.isfinite(norms[:, 0]) | (norms[:, 0] == 0)
    if bad.any():
        raise InputError(f"row {int(bad.argmax())} of the array is zero or not finite as float32; remove it")
    unit: np.ndarray = rows / norms
    return unit
