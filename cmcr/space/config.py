"""What a space's folder says of itself, checked before anything is made of it: it may be a stranger's."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_tensors

from cmcr.decode import memory_bytes
from cmcr.errors import ArtifactError
from cmcr.modality import Modality
from cmcr.reading import read_bytes, read_json, reading
from cmcr.schema import checked
from cmcr.space.parts import Link, Router, SpaceEncoder, Way
from cmcr.space.projector import ProjectorConfig, expect

FORMAT, VERSION, VERSIONS = "cmcr-space", 2, (1, 2)
ROUTED = "routed"
"""In the place of a preset: whatever the routers of the space say."""
Preset = Mapping[Modality, Mapping[str, float]]
"""By modality and encoder, how much a view counts."""
HEADER_BYTES = 1 << 20
"""Bytes of names and shapes in a file of weights, at most: a projector has some ten tensors."""


@dataclass(frozen=True)
class MapEntry:
    """A map as config.json has it."""

    name: str
    projector: ProjectorConfig


@dataclass(frozen=True)
class RouterEntry:
    """A router as config.json has it."""

    modality: Modality
    reads: tuple[str, ...]
    weighs: tuple[str, ...] = ()
    hidden: tuple[int, ...] = ()
    scale: float = 1.0


@dataclass(frozen=True)
class SpaceConfig:
    """What config.json holds; ``base`` is written for the reader, and follows from the maps."""

    format: str
    version: int
    method: str
    overlap: Modality
    dim: int
    encoders: tuple[SpaceEncoder, ...]
    maps: tuple[MapEntry, ...]
    ways: tuple[Way, ...]
    routers: tuple[RouterEntry, ...]
    base: str | None
    links: tuple[Link, ...]
    recipe: dict[str, Any]
    metrics: dict[str, Any]
    model_sha256: str
    versions: dict[str, Any]
    presets: dict[str, dict[Modality, dict[str, float]]] = field(default_factory=dict)

    def router(self, entry: RouterEntry) -> Router:
        """Return a new router, which reads the vectors of its encoders side by side."""
        dim = sum(each.dim for name in entry.reads for each in self.encoders if each.name == name)
        more: dict[str, Any] = {"weighs": entry.weighs, "hidden": entry.hidden, "scale": entry.scale}
        return Router(entry.modality, entry.reads, dim, **more)


def plain_links(encoders: Sequence[SpaceEncoder], via: Modality) -> tuple[Link, ...]:
    """Return the links of a space that does not say them: each other encoder to the first, through the overlap."""
    names = [each.name for each in encoders if via in each.modalities]
    return tuple(Link(names[0], name, via) for name in names[1:])


def checked_config(value: dict[str, Any]) -> SpaceConfig:
    """Return a config whose parts agree with each other, before anything is made of its numbers.

    Raises:
        ValueError: what does not.
    """
    first = value.get("version") == 1
    config: SpaceConfig = checked(SpaceConfig, _upgraded(value) if first else value)
    if first:
        config = replace(config, version=VERSION, links=plain_links(config.encoders, config.overlap))
    names = [entry.name for entry in config.encoders]
    expect(bool(names), "it has no encoder")
    expect(len(set(names)) == len(names), "two encoders have one name")
    for entry in config.encoders:
        expect(bool(entry.modalities), f"encoder {entry.name!r} has no modality")
        expect(len(set(entry.modalities)) == len(entry.modalities), f"encoder {entry.name!r} has a modality twice")
    _check_ways(config)
    _check_routers(config)
    expect(any(config.overlap in entry.modalities for entry in config.encoders), f"no encoder has {config.overlap}")
    _check_links(config)
    for name, preset in config.presets.items():
        check_preset(name, preset, config.encoders)
    return config


def _upgraded(value: dict[str, Any]) -> dict[str, Any]:
    """Return what version 1 said, whose two encoders had one map each, in the terms of version 2, without links."""
    held: list[dict[str, Any]] = checked(list[dict[str, Any]], value["encoders"], "encoders")
    maps = [{"name": each["name"], "projector": each["projector"]} for each in held]
    ways = [{"encoder": each["name"], "modalities": each["modalities"], "maps": [each["name"]]} for each in held]
    encoders = [{name: part for name, part in each.items() if name != "projector"} for each in held]
    return value | {"encoders": encoders, "maps": maps, "ways": ways, "routers": [], "base": None, "links": []}


def _check_ways(config: SpaceConfig) -> None:
    """Check that each modality of each encoder enters by one way, through maps of the right sizes; none is idle."""
    dims = {entry.name: entry.dim for entry in config.encoders}
    maps = {entry.name: entry.projector for entry in config.maps}
    expect(len(maps) == len(config.maps), "two maps have one name")
    for entry in config.maps:
        entry.projector.check()
    for way in config.ways:
        expect(way.encoder in dims, f"a way is of {way.encoder!r}, which is no encoder of it")
        expect(0 < way.weight < float("inf"), f"a way of {way.encoder!r} weighs {way.weight}, expected above 0")
        expect(bool(way.maps), f"a way of {way.encoder!r} has no map")
        for name in way.maps:
            expect(name in maps, f"a way of {way.encoder!r} goes through {name!r}, which is no map of it")
            found, own = (maps[name].in_dim, maps[name].out_dim), (dims[way.encoder], config.dim)
            shapes = f"{found[0]} -> {found[1]}, expected {own[0]} -> {own[1]}"
            expect(found == own, f"the projector of {name!r} maps {shapes}")
    entering = [(way.encoder, modality) for way in config.ways for modality in way.modalities]
    held = [(entry.name, modality) for entry in config.encoders for modality in entry.modalities]
    expect(sorted(entering) == sorted(held), "its ways are not one for each modality of each encoder")
    idle = maps.keys() - {name for way in config.ways for name in way.maps}
    expect(not idle, f"no way goes through map {min(idle, default='')!r}")


def _check_routers(config: SpaceConfig) -> None:
    held = {entry.name: entry.modalities for entry in config.encoders}
    for router in config.routers:
        weighs = router.weighs or router.reads
        expect(len(weighs) > 1, f"a router of {router.modality} reads {len(weighs)} encoders, not several")
        for verb, names in (("reads", router.reads), ("weighs", weighs)):
            for name in names:
                expect(
                    router.modality in held.get(name, ()), f"a router {verb} {router.modality} of {name!r}: not there"
                )
            expect(len(set(names)) == len(names) > 0, f"a router of {router.modality} {verb} an encoder twice, or none")
        expect(set(router.reads) <= set(weighs), f"a router of {router.modality} reads whom it does not weigh")
        expect(
            all(width > 0 for width in router.hidden), f"a router of {router.modality} has layers of {router.hidden}"
        )
        expect(0 < router.scale < float("inf"), f"a router of {router.modality} has the scale {router.scale}")
    weighed = [router.modality for router in config.routers]
    expect(len(set(weighed)) == len(weighed), "two routers are of one modality")


def _check_links(config: SpaceConfig) -> None:
    held = {entry.name: entry.modalities for entry in config.encoders}
    for link in config.links:
        for name, via, outer in ((link.a, link.via, link.outer_a), (link.b, link.via_b or link.via, link.outer_b)):
            expect(name in held, f"a link names {name!r}, which is no encoder of it")
            expect(via in held[name], f"a link is by {via}, which {name!r} lacks")
            expect(outer is None or outer in held[name], f"a link says {outer} of {name!r}, which it lacks")
        expect(link.a != link.b, f"a link joins {link.a!r} to itself")
    if config.base is not None:
        through = [way.maps for way in config.ways if way.encoder == config.base]
        own = [each.projector for each in config.maps if any(each.name in maps for maps in through)]
        kept = config.base == config.encoders[0].name and all(p.kind == "identity" and not p.centered for p in own)
        expect(kept, f"base is {config.base!r}, expected the first encoder, with a map that is the identity")


def check_preset(name: str, preset: Preset, encoders: Sequence[SpaceEncoder]) -> None:
    """Check that each weight of a preset is a number of 0 or more of an encoder that has the modality, and not all 0.

    Raises:
        ValueError: one is not; or the name is none, or taken.
    """
    expect(
        bool(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", name)), f"preset {name!r}: expected letters and digits"
    )
    expect(name != ROUTED, f"preset {name!r}: the name stands for what the routers of a space say")
    held = {entry.name: entry.modalities for entry in encoders}
    for modality, weights in preset.items():
        for encoder, weight in weights.items():
            expect(
                modality in held.get(encoder, ()), f"preset {name} weighs {modality} of {encoder!r}, which is not there"
            )
            fits = not isinstance(weight, bool) and 0 <= weight < float("inf")
            expect(fits, f"preset {name} weighs {encoder!r} {weight}, expected a finite number of 0 or more")
        expect(sum(weights.values()) > 0, f"the weights of preset {name} for {modality} sum to 0")


def read_tensors(path: Path, config: SpaceConfig) -> dict[str, torch.Tensor]:
    """Return the tensors of a space, if they are those that its config asks for.

    Raises:
        ArtifactError: another file than the config's.
        ValueError: another name, shape or type; or a value that is not finite.
    """
    expected = {
        f"{number}.{key}": tensor
        for number, entry in enumerate(config.maps)
        for key, tensor in entry.projector.tensors().items()
    }
    for number, router in enumerate(config.routers):
        with torch.device("meta"):
            body = config.router(router).state_dict()
        expected |= {f"router.{number}.{key}": tensor for key, tensor in body.items()}
    expected = expected or {"none": torch.zeros(0)}
    size = sum(tensor.numel() * tensor.element_size() for tensor in expected.values())
    expect(size <= memory_bytes() // 2, f"its projectors take {size / 1e9:.1f} GB, more than half of memory")
    data = read_bytes(path, size + HEADER_BYTES)
    if hashlib.sha256(data).hexdigest() != config.model_sha256:
        raise ArtifactError(f"{path} is not the file config.json names; connect anew")
    found = load_tensors(data)
    expect(found.keys() == expected.keys(), "it has not the tensors that config.json asks for")
    for key, asked in expected.items():  # in an order that is always the same
        tensor = found[key]
        expect(tensor.shape == asked.shape, f"{key} is {tuple(tensor.shape)}, config.json says {tuple(asked.shape)}")
        expect(tensor.dtype == asked.dtype, f"{key} is {tensor.dtype}, expected {asked.dtype}")
        expect(bool(tensor.isfinite().all()), f"{key} holds values that are not finite")
        expect(not key.endswith("running_var") or bool((tensor >= 0).all()), f"{key} holds negative variances")
    return found


def read_config(folder: Path) -> dict[str, Any]:
    """Return the content of a space's config.json, of the right format and version and else unchecked.

    Raises:
        ArtifactError: not a space, or of another version.
    """
    path = folder / "config.json"
    if not path.exists():
        raise ArtifactError(
            f"{folder}: not a connected space (no config.json); make one with: cmcr connect A B -o {folder}"
        )
    with reading(path, "connect anew", what="not readable as JSON"):
        config: dict[str, Any] = read_json(path)
        found = config.get("format"), config.get("version")
    if found[0] != FORMAT or type(found[1]) is not int or found[1] not in VERSIONS:
        known = " or ".join(map(str, VERSIONS))
        raise ArtifactError(f"{path}: format {found[0]!r} version {found[1]!r}, expected {FORMAT!r} version {known}")
    return config
