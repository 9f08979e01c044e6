"""The connected space: which encoder goes through which projector, as a folder a person can open and share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
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
from cmcr.space.card import About, card
from cmcr.space.config import (
    FORMAT,
    VERSION,
    Preset,
    check_preset,
    checked_config,
    plain_links,
    read_config,
    read_tensors,
)
from cmcr.space.hub import Shared, local_folder
from cmcr.space.parts import Link, MeanOfMaps, Router, SpaceEncoder, Way, frozen_base
from cmcr.space.projector import OfModality, Projector
from cmcr.space.rows import checked_weights, route, unit_rows, weighted_mean
from cmcr.space.run import refuse_memory

__all__ = ["ConnectedSpace", "SpaceEncoder", "card"]

BLOCK_FLOATS = 1 << 25
"""Floats that one block of a projection may take, whatever the number of anchors a route has."""


class ConnectedSpace(Shared):
    """Several encoders' vectors in one space.

    Attributes:
        encoders: By name; the first embeds a query when several encoders could.
        maps: By name.
        ways: Through which maps each encoder's vectors enter.
        routers: What weighs the ways of an item that several encoders embed.
        base: The encoder whose vectors the space keeps as they are; None where every encoder's move.
        links: What connected the encoders, two at a time.
        overlap: The modality through which the first two encoders were connected.
        method: ``c-mcr``, ``linear``, ``route`` or another.
        recipe: The settings that made it.
        metrics: What was measured while making it.
        presets: By name, weights of encoders to choose from where several embed one item.

    >>> import numpy as np
    >>> from cmcr import ConnectedSpace, Modality
    >>> from cmcr.space import Projector, ProjectorConfig, SpaceEncoder
    >>> eye = Projector(ProjectorConfig("identity", 2, 2))
    >>> one, two = (SpaceEncoder(name, "", 2, (Modality.TEXT,)) for name in ("one", "two"))
    >>> space = ConnectedSpace({"one": one, "two": two}, {"one": eye, "two": eye}, Modality.TEXT, "linear")
    >>> space.project(np.array([[3.0, 4.0]]), encoder="two", modality="text")
    array([[0.6, 0.8]], dtype=float32)
    >>> space.mix({"one": np.array([[1.0, 0.0]]), "two": np.array([[0.0, 1.0]])}, modality="text", weights={"two": 0})
    array([[1., 0.]], dtype=float32)
    """

    def __init__(
        self,
        encoders: Mapping[str, SpaceEncoder],
        projectors: Mapping[str, Projector],
        overlap: Modality,
        method: str,
        recipe: Mapping[str, Any] | None = None,
        metrics: Mapping[str, Any] | None = None,
        *,
        ways: Sequence[Way] | None = None,
        routers: Sequence[Router] = (),
        links: Sequence[Link] | None = None,
        presets: Mapping[str, Preset] | None = None,
    ) -> None:
        """Put a space together.

        Args:
            encoders: By name, the base first.
            projectors: The maps by name; without ``ways``, the map of each encoder by its name.
            overlap: The modality through which the encoders were connected.
            method: How it was made.
            recipe: The settings that made it.
            metrics: What was measured while making it.
            ways: Which maps each encoder's vectors go through.
            routers: At most one a modality.
            links: What connected the encoders; each to the first through ``overlap`` when left out.
            presets: Weights to choose from, by name.
        """
        self.encoders = dict(encoders)
        self.ways = tuple(ways or (Way(e.name, e.modalities, (e.name,)) for e in self.encoders.values()))
        used = dict.fromkeys(name for way in self.ways for name in way.maps)
        self.maps = {name: projectors[name].eval() for name in used}
        self.routers = {router.modality: router.eval() for router in routers}
        self.links = tuple(plain_links(list(self.encoders.values()), overlap) if links is None else links)
        self.base = frozen_base(list(self.encoders.values()), self.ways, self.maps)
        self.overlap, self.method = overlap, method
        self.recipe, self.metrics = dict(recipe or {}), dict(metrics or {})
        self.presets = {name: {m: dict(own) for m, own in each.items()} for name, each in (presets or {}).items()}
        self._entrance = {(way.encoder, m): self._joined(way) for way in self.ways for m in way.modalities}

    def _joined(self, way: Way) -> Projector:
        return self.maps[way.maps[0]] if len(way.maps) == 1 else MeanOfMaps([self.maps[name] for name in way.maps])

    @property
    def projectors(self) -> dict[str, Projector]:
        """The map of each encoder by name; of one whose modalities enter by several ways, the first's."""
        return {name: self._entrance[name, encoder.modalities[0]] for name, encoder in self.encoders.items()}

    def __repr__(self) -> str:
        """Tell the encoders with their modalities, and how they were connected."""
        held = "; ".join(f"{each.name}: {', '.join(each.modalities)}" for each in self.encoders.values())
        return f"ConnectedSpace({held}; {self.method} via {self.overlap}, {self.dim} components)"

    @property
    def dim(self) -> int:
        """Components of a vector of the space."""
        return next(iter(self.maps.values())).config.out_dim

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """Every modality of the space, in the encoders' order."""
        return tuple(dict.fromkeys(m for encoder in self.encoders.values() for m in encoder.modalities))

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) over the encoders, the maps' shapes and weights: equal for equal projections."""
        return hashlib.sha256(json.dumps(self._identity(), sort_keys=True).encode() + self._weights()).hexdigest()

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
        return self._entrance[self.encoder_for(modality, encoder).name, modality].of(modality)

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
            blocks = iter([unit_rows(vectors, entry)])
        projector = self._entrance[entry.name, modality]
        rows = max(1, BLOCK_FLOATS // projector.config.width)
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
        if not any(own.matches(theirs.name, theirs.fingerprint) for own in self.encoders.values()):
            known = ", ".join(f"{e.name} ({e.fingerprint[:12] or 'any'})" for e in self.encoders.values())
            raise ArtifactError(
                f"{memory.path} was made by {theirs.name} ({theirs.fingerprint[:12]}), this space connects {known}; "
                "embed with that encoder, or connect anew"
            )
        if modality not in memory.modalities:
            raise InputError(f"{memory.path} holds {', '.join(memory.modalities) or 'nothing'}, no {modality}")
        return self.encoder_for(modality, theirs.name)

    def mix(
        self,
        vectors: Mapping[str, np.ndarray],
        *,
        modality: Modality | str,
        weights: Mapping[str, float] | None = None,
    ) -> np.ndarray:
        """Project items that several encoders embedded: the weighted sum of where each puts them, normalised.

        Args:
            vectors: By encoder, (N, D) rows of its own; row i is the same item in all.
            modality: Of the items.
            weights: By encoder; who is left out counts as its way says, or as the router of the modality finds.

        Returns:
            (N, dim) float32 unit vectors.

        Raises:
            InputError: as ``project``; arrays of different lengths; weights that name nobody of the call, are
                negative, or sum to nothing; or a router that reads who is not there, or does not weigh who is.
        """
        modality = Modality(modality)
        encoders = [self.encoder_for(modality, name) for name in vectors]
        raw = [unit_rows(rows, encoder) for rows, encoder in zip(vectors.values(), encoders, strict=True)]
        if len({len(rows) for rows in raw}) != 1:
            counts = ", ".join(f"{name} {len(rows)}" for name, rows in zip(vectors, raw, strict=True)) or "none"
            raise InputError(f"rows by encoder: {counts}; expected one or more encoders with the same items")
        given = checked_weights(weights or {}, list(vectors))
        shares = self._shares(modality, dict(zip(vectors, raw, strict=True)), given)
        projected = [
            self.project(rows, encoder=name, modality=modality) for name, rows in zip(vectors, raw, strict=True)
        ]
        lengths = [self._lengths(name, modality, rows) for name, rows in zip(vectors, raw, strict=True)]
        return weighted_mean(projected, [share * each for share, each in zip(shares, lengths, strict=True)])

    def _lengths(self, encoder: str, modality: Modality, rows: np.ndarray) -> np.ndarray | np.float32:
        """Return how long the (N, D) rows of an encoder are where they are mixed: 1, or (N, 1) norms of plain means."""
        way = next(way for way in self.ways if way.encoder == encoder and modality in way.modalities)
        entrance = self._entrance[encoder, modality]
        if not (way.plain_mean and isinstance(entrance, MeanOfMaps)):
            return np.float32(1)
        with torch.inference_mode():
            return np.asarray(entrance.mean(torch.from_numpy(rows), modality).norm(dim=1, keepdim=True).numpy())

    def way_weights(self, modality: Modality) -> dict[str, float]:
        """Return by encoder how much its view of a modality counts, unless a router or the caller says."""
        return {way.encoder: way.weight for way in self.ways if modality in way.modalities}

    def _shares(self, modality: Modality, raw: dict[str, np.ndarray], given: dict[str, float]) -> list[np.ndarray]:
        """Return for each encoder the (N, 1) weights of its rows."""
        router = self.routers.get(modality)
        if router is not None and not given and len(raw) > 1:
            found = route(router, raw)
            return [found[name] for name in raw]
        own = self.way_weights(modality)
        count = len(next(iter(raw.values())))
        weights = {name: given.get(name, own[name]) for name in raw}
        largest = max(weights.values()) or 1.0  # shares of it, for float32 holds no number however large or small
        shares = {name: np.full((count, 1), weight / largest, np.float32) for name, weight in weights.items()}
        if not np.all(np.sum(list(shares.values()), axis=0) > 0):
            raise InputError(f"the weights of {', '.join(raw)} sum to 0; expected one above 0")
        return [shares[name] for name in raw]

    def keep_preset(self, name: str, weights: Preset | None) -> None:
        """Store weights of encoders under a name, in the place of those that have it; None: none have it any more.

        Raises:
            InputError: a name that cannot be; a weight of nobody, below 0 or not finite; or all of a modality are 0.
        """
        if weights is None:
            self.presets.pop(name, None)
            return
        try:
            check_preset(name, weights, list(self.encoders.values()))
        except ValueError as error:
            raise InputError(f"{error}; see cmcr preset --help") from None
        self.presets[name] = {modality: dict(own) for modality, own in weights.items()}

    def _identity(self) -> Any:
        """Return what, with the weights, decides where vectors go."""
        plain = [Way(e.name, e.modalities, (e.name,)) for e in self.encoders.values()]
        shapes = {name: projector.config.to_dict() for name, projector in self.maps.items()}
        if list(self.ways) == plain and not self.routers:  # as version 1 did, so that its indexes are still found
            return [asdict(each) | {"projector": shapes[name]} for name, each in self.encoders.items()]
        return [[asdict(each) for each in self.encoders.values()], shapes, self._ways(), self._routers()]

    def _ways(self) -> list[dict[str, Any]]:
        told = [asdict(way) | {"weight": float(way.weight)} for way in self.ways]
        return [{name: value for name, value in way.items() if name != "plain_mean" or value} for way in told]

    def _routers(self) -> list[dict[str, Any]]:
        return [router.to_dict() for router in self.routers.values()]

    def _weights(self) -> bytes:
        parts: dict[str, torch.nn.Module] = {str(number): each for number, each in enumerate(self.maps.values())}
        parts |= {f"router.{number}": each for number, each in enumerate(self.routers.values())}
        tensors = {
            f"{name}.{key}": tensor.contiguous()
            for name, part in parts.items()
            for key, tensor in part.state_dict().items()
        }
        # An identity projector has no weights, and safetensors wants at least one tensor.
        return save_tensors(tensors or {"none": torch.zeros(0)})

    def save(self, path: str | Path, about: About | None = None) -> None:
        """Write config.json, model.safetensors and the card README.md, which tells ``about``, into the folder ``path``.

        Raises:
            InputError: the folder is a memory.
        """
        folder, weights = Path(path), self._weights()
        refuse_memory(folder)
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
            "encoders": [asdict(encoder) for encoder in self.encoders.values()],
            "maps": [{"name": name, "projector": each.config.to_dict()} for name, each in self.maps.items()],
            "ways": self._ways(),
            "routers": self._routers(),
            "base": self.base,
            "links": [link.to_dict() for link in self.links],
            "recipe": self.recipe,
            "metrics": self.metrics,
            "model_sha256": hashlib.sha256(weights).hexdigest(),
            "versions": {"cmcr": version("cmcr"), "torch": torch.__version__},
        } | ({"presets": self.presets} if self.presets else {})
        write_atomic(folder / "README.md", card(config, about).encode())
        # Last, since it is what makes the folder a space; its hash tells a half-replaced one.
        write_json(folder / "config.json", config)

    @classmethod
    def from_pretrained(cls, path: str | Path, **hub: Any) -> ConnectedSpace:
        """Open a space folder, or ``org/name`` of the Hub; runs no code from it (JSON and safetensors only).

        Further keywords are those of ``cmcr.space.hub.fetch``: ``revision``, ``token``, ``cache_dir``, ``local_only``.

        Raises:
            ArtifactError: missing, not a space, of another version, or damaged.
            MissingExtraError: it is on the Hub, and huggingface_hub is not installed.
        """
        folder = local_folder(path, **hub)
        raw = read_config(folder)
        with reading(folder, "connect anew", what="is damaged or was edited by hand"):
            config = checked_config(raw)
            tensors = read_tensors(folder / "model.safetensors", config)
            maps = {each.name: Projector(each.projector) for each in config.maps}
            routers = [config.router(each) for each in config.routers]
            parts: dict[str, torch.nn.Module] = {str(number): each for number, each in enumerate(maps.values())}
            parts |= {f"router.{number}": router for number, router in enumerate(routers)}
            for name, part in parts.items():
                prefix = f"{name}."
                part.load_state_dict({k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)})
            encoders = {encoder.name: encoder for encoder in config.encoders}
            return cls(
                encoders, maps, config.overlap, config.method, config.recipe, config.metrics,
                ways=config.ways, routers=routers, links=config.links, presets=config.presets,
            )  # fmt: skip
