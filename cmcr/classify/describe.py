"""What a classifier holds, in words: what ``cmcr info`` shows of one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cmcr.classify.config import ModelConfig, read_config, read_towers
from cmcr.files import left_behind
from cmcr.space.describe import in_words

CLASSES_SHOWN = 20


def classifier_rows(config: ModelConfig) -> Iterator[list[str]]:
    """Yield (what, value) of a classifier: what it reads and tells apart, its settings, and what was measured."""
    yield ["classifier", "MLA, a step each of " + ", ".join(each.name for each in config.steps)]
    for each in config.channels:
        about = f"{each.modality} of {each.encoder}; {each.dim} -> {config.settings.width}; {each.fingerprint[:12]}"
        yield [f"reads {each.name}", about]
    more = len(config.classes) - CLASSES_SHOWN
    names = ", ".join(config.classes[:CLASSES_SHOWN]) + (f", and {more} more" if more > 0 else "")
    yield ["classes", f"{len(config.classes)}: {names}"]
    for name, value in sorted(config.metrics.items(), key=lambda pair: (isinstance(pair[1], dict), pair[0] != "MLA")):
        yield [f"metrics.{name}", _measured(value)]
    yield from ([f"settings.{name}", in_words(value)] for name, value in asdict(config.settings).items())


def _measured(value: Any) -> str:
    """Return what a method reached, each number with three digits; whatever else stands there, as it is."""
    if not isinstance(value, dict) or not all(isinstance(each, float) for each in value.values()):
        return in_words(value)
    return ", ".join(
        f"{name} {each:.3f}" for name, each in sorted(value.items(), key=lambda pair: pair[0] != "accuracy")
    )


def classifier_problems(folder: Path) -> list[str]:
    """Return what lies beside a classifier that opens.

    Raises:
        ArtifactError: it does not open.
    """
    read_towers(folder, read_config(folder))
    return [f"{path.name}: left over" for path in left_behind(folder)]
