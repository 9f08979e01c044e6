"""cmcr: connect pretrained contrastive spaces without paired data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cmcr.connect import ConnectConfig
    from cmcr.encoders import load_encoder
    from cmcr.errors import CmcrError
    from cmcr.memory import Memory
    from cmcr.modality import Modality
    from cmcr.space import ConnectedSpace

__version__ = "0.1.0"

# Nouns live here, verbs in modules of their own name (cmcr.connect.run.connect). Loaded on first use (PEP 562), so that
# `import cmcr` and `cmcr --help` load no torch.
_HOME = {
    "ConnectConfig": "cmcr.connect.config",
    "ConnectedSpace": "cmcr.space.space",
    "CmcrError": "cmcr.errors",
    "Memory": "cmcr.memory.memory",
    "Modality": "cmcr.modality",
    "load_encoder": "cmcr.encoders",
}

__all__ = [
    "CmcrError",
    "ConnectConfig",
    "ConnectedSpace",
    "Memory",
    "Modality",
    "load_encoder",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'cmcr' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOME[name]), name)
