"""What lies in a memory or a space, in words: what ``cmcr info`` shows."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmcr.reading import read_json, reading

if TYPE_CHECKING:
    from cmcr.memory import Memory

SPACE, CLASSIFIER = "cmcr-space", "cmcr-classifier"
"""What the config.json of a folder says that it is."""


def described(memory: Memory) -> dict[str, Any]:
    """Return what a memory holds: its encoder, rows, removed rows, shards, views, bytes, and why items were skipped."""
    from cmcr.memory.views import view_count, view_files

    shards = memory.manifest.shards
    files = [
        memory.path / name for each in shards.values() for shard in each for name in (shard.vectors, shard.metadata)
    ]
    files += [memory.path / name for name in view_files(memory)]
    views = {str(kind): view_count(memory, kind) for kind in shards if view_count(memory, kind)}
    removed = {str(kind): each.rows for kind, each in memory.manifest.removed.items()}
    reasons: dict[str, int] = {}
    skipped = memory.skipped()
    for skip in skipped:
        reasons[skip.reason] = reasons.get(skip.reason, 0) + 1
    return {
        "memory": str(memory.path),
        "encoder": memory.encoder.name,
        "fingerprint": memory.encoder.fingerprint,
        "dim": memory.encoder.dim,
        "dtype": memory.dtype,
        "rows": {str(kind): memory.rows(kind) for kind in memory.modalities},
        **({"translated": translated} if (translated := _translated(memory)) else {}),
        **({"removed": removed} if removed else {}),
        "shards": {str(kind): len(each) for kind, each in shards.items()},
        **({"views": views} if views else {}),
        "bytes": sum(file.stat().st_size for file in files),
        "skipped": len(skipped),
        "reasons": dict(sorted(reasons.items(), key=lambda pair: -pair[1])[:5]),
    }


def _translated(memory: Memory) -> dict[str, str]:
    """Return by modality how vectors came about that the encoder never made."""
    return {str(kind): str(each) for kind, each in memory.manifest.translated.items()}


def config_in(path: Path, formats: Collection[str] = (SPACE,)) -> dict[str, Any] | None:
    """Return the config of the space, or of what else has one of these formats, in a folder; None: it holds none.

    Raises:
        ArtifactError: its config.json is not JSON.
    """
    if not (path / "config.json").exists():
        return None
    with reading(path / "config.json", "restore it", what="not JSON"):
        config = read_json(path / "config.json")
    return config if isinstance(config, dict) and config.get("format") in formats else None


def space_rows(config: dict[str, Any]) -> Iterator[list[str]]:
    """Yield (what, value) of a space: method, encoders, then what was measured and how it was made."""
    from cmcr.space import shapes_of

    yield from ([name, in_words(config.get(name))] for name in ("method", "overlap", "dim"))
    for encoder in config.get("encoders", []):
        shapes = ", ".join(shapes_of(config, encoder))
        about = f"{in_words(encoder['modalities'])}; {encoder['dim']} -> {config['dim']}, {shapes}"
        kept = "; the base, kept as it is" if config.get("base") == encoder["name"] else ""
        yield [f"encoder {encoder['name']}", f"{about}; {encoder['fingerprint'][:12]}{kept}"]
    for link in config.get("links", []):
        outer = " and ".join(link[side] for side in ("outer_a", "outer_b") if link[side])
        pairs = f" paired with {link['via_b']}" if link.get("via_b") else ""
        yield [f"link {link['a']} - {link['b']}", f"by {link['via']}{pairs}{outer and f', for {outer}'}"]
    for router in config.get("routers", []):
        weighs = in_words(router.get("weighs", router["reads"]))
        yield [f"router of {router['modality']}", f"reads {in_words(router['reads'])}; weighs {weighs}"]
    for name, preset in config.get("presets", {}).items():
        told = [f"{who}:{m}={weight:g}" for m, weights in preset.items() for who, weight in weights.items()]
        yield [f"preset {name}", ", ".join(told)]
    for group in ("metrics", "recipe"):
        yield from ([f"{group}.{name}", in_words(value)] for name, value in config.get(group, {}).items())


def in_words(value: Any) -> str:
    """Return a value of a config or a count as a cell of a table."""
    if isinstance(value, dict):
        return ", ".join(f"{key}: {in_words(each)}" for key, each in value.items()) or "none"
    return ", ".join(map(in_words, value)) if isinstance(value, list) else "-" if value is None else str(value)
