"""The model card of a space."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def card(config: Mapping[str, Any]) -> str:
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
    return f"""---
library_name: cmcr
license: other
tags: [contrastive-learning, multimodal, retrieval, c-mcr]
---

# A connected space: {" + ".join(e["name"] for e in config["encoders"])}

Made by cmcr with method `{config["method"]}` through **{config["overlap"]}**, without any
paired data of the modalities it connects. The licences of the encoders apply to it.

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
