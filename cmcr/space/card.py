"""The model card of a space."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cmcr.encoders.catalogue import OFFERS, Offer

UNKNOWN = "unknown"
_TAGS = {"image": "image", "audio": "audio", "text": "text", "point_cloud": "point-cloud"}
_SPDX = ("apache-2.0", "mit", "cc0-1.0", "bsd-3-clause")
_NAMED = re.compile(r"(?:.*:)?(?:hf-hub:)?([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)")
_SOURCE = re.compile(r"https://huggingface\.co/(?!datasets/)([\w.-]+/[\w.-]+)")


@dataclass(frozen=True)
class About:
    """What only the maker of a space knows, for its card.

    >>> from cmcr.space import About
    >>> About(licence="mit", datasets=("org/sounds",)).widget
    ()

    Attributes:
        licence: Of the space, as the Hub names it (``mit``); None: the encoders' where they agree, else ``other``.
        datasets: On the Hub, of the rows by which it was connected.
        widget: Texts that a reader may try.
    """

    licence: str | None = None
    datasets: tuple[str, ...] = ()
    widget: tuple[str, ...] = ()


def card(config: Mapping[str, Any], about: About | None = None) -> str:
    """Return the model card (Markdown with the Hub's front matter) of a space's config."""
    encoders = "\n".join(
        f"| {e['name']} | {', '.join(e['modalities'])} | {e['dim']} | {', '.join(shapes_of(config, e))} "
        f"| `{e['fingerprint'][:12]}` |"
        for e in config["encoders"]
    )
    metrics = "\n".join(f"| {' | '.join(line)} |" for line in measured_table(config["metrics"]))
    unmeasured = config["metrics"].get("unmeasured", "")
    recipe = "\n".join(f"{name} = {json.dumps(value)}" for name, value in sorted(config["recipe"].items()))
    first = config["encoders"][0]
    licences = "\n".join(f"- {e['name']}: {licence_of(e['name'])}" for e in config["encoders"])
    return f"""---
{front_matter(config, about or About())}
---

# A connected space: {" + ".join(e["name"] for e in config["encoders"])}

Made by cmcr with method `{config["method"]}` through **{config["overlap"]}**, without any
paired data of the modalities it connects.

The licences of the encoders' weights apply to it, as far as their sources state them:

{licences}

| encoder | modalities | dim | projector | fingerprint |
|---|---|--:|---|---|
{encoders}

```python
from cmcr import ConnectedSpace

space = ConnectedSpace.from_pretrained(".")
# (N, {config["dim"]}) unit vectors
vectors = space.project(rows, encoder={first["name"]!r}, modality={str(first["modalities"][0])!r})
```

## Measured while making it, on held-out overlap rows

| measure | value | by chance |
|---|--:|--:|
{metrics}
{chr(10) + unmeasured + chr(10) if unmeasured else ""}
## Recipe

```toml
{recipe}
```
"""


def front_matter(config: Mapping[str, Any], about: About) -> str:
    """Return what the Hub reads of a card: YAML, each value as JSON, which YAML is too."""
    names = [e["name"] for e in config["encoders"]]
    held = list(dict.fromkeys(str(m) for e in config["encoders"] for m in e["modalities"]))
    measured = measured_table(config["metrics"])
    found = {
        "library_name": "cmcr",
        "license": about.licence or _common_licence(names),
        "base_model": list(dict.fromkeys(filter(None, map(base_model, names)))),
        "datasets": list(about.datasets),
        "metrics": list(dict.fromkeys(name.rpartition(".")[2] for name, _, chance in measured if chance)),
        "tags": ["contrastive-learning", "multimodal", "retrieval", "c-mcr"] + [_TAGS.get(m, m) for m in held],
        "widget": [{"text": text} for text in about.widget],
    }
    lines = [f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in found.items() if value]
    return "\n".join(lines).replace('"cmcr"', "cmcr", 1)


def licence_of(encoder: str) -> str:
    """Return the licence of an encoder's weights as their source states it; ``unknown`` where nobody has said."""
    offer = _offer(encoder)
    return UNKNOWN if offer is None or offer.licence == "by model" else offer.licence


def base_model(encoder: str) -> str | None:
    """Return the model on the Hub that an encoder's name or source states; None: none is stated."""
    named = _NAMED.fullmatch(encoder)
    if named and encoder.startswith(("hf_clap:", "open_clip:hf-hub:", "sentence-transformers:")):
        return named[1]
    offer = _offer(encoder)
    return _model_in(offer.source) if offer else None


def _offer(encoder: str) -> Offer | None:
    """Return what cmcr offers under a name; of a family, whose models are anybody's, only the model of its source."""
    exact = next((offer for offer in OFFERS if encoder in (offer.name, offer.stands_for)), None)
    family = next((offer for offer in OFFERS if encoder == f"{offer.name}{_model_in(offer.source)}"), None)
    return exact or family


def _model_in(source: str) -> str | None:
    found = _SOURCE.match(source)
    return found[1] if found else None


def _common_licence(encoders: list[str]) -> str:
    found = {licence_of(name).lower() for name in encoders}
    return found.pop() if len(found) == 1 and found <= set(_SPDX) else "other"


def shapes_of(config: Mapping[str, Any], encoder: Mapping[str, Any]) -> list[str]:
    """Return the kinds of the maps that an encoder's vectors go through, of a config of either version."""
    if "projector" in encoder:
        return [encoder["projector"]["kind"]]
    kinds = {each["name"]: each["projector"]["kind"] for each in config["maps"]}
    names = dict.fromkeys(n for way in config["ways"] if way["encoder"] == encoder["name"] for n in way["maps"])
    return [kinds[name] for name in names]


def measured_table(metrics: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return (name, value, by chance) of what was measured: ``-`` for what is not known, nothing where no chance is."""
    lines = []
    for name, value in metrics.items():
        if name != "unmeasured" and name.removesuffix("_chance") not in metrics.keys() - {name}:
            chance = _figure(metrics[f"{name}_chance"]) if f"{name}_chance" in metrics else ""
            lines.append((name, _figure(value), chance))
    return lines


def _figure(value: object) -> str:
    return "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
