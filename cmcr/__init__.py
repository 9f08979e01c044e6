"""cmcr: connect pretrained contrastive spaces without paired data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cmcr.arrays import connect_arrays
    from cmcr.ask.export import export_vectors
    from cmcr.ask.retrieve import ask as embed_query
    from cmcr.ask.retrieve import retrieve as retrieve_rows
    from cmcr.ask.score import score as score_items
    from cmcr.ask.subject import Subject
    from cmcr.ask.translate import translate as translate_memory
    from cmcr.connect import ConnectConfig
    from cmcr.connect.run import connect as connect_memories
    from cmcr.embed.run import embed as embed_items
    from cmcr.embed.vectors import import_vectors
    from cmcr.encoders import load_encoder
    from cmcr.errors import CmcrError
    from cmcr.evaluate.retrieval.pairs import evaluate as evaluate_retrieval
    from cmcr.items import read_items
    from cmcr.memory import ArrayMemory, Memory
    from cmcr.modality import Modality
    from cmcr.space import ConnectedSpace

__version__ = "0.1.0"

# Loaded on first use (PEP 562), so that `import cmcr` and `cmcr --help` load no torch. A verb whose own name is that of
# a room (cmcr.connect, cmcr.embed, cmcr.ask) also says here what it works on: a room hides a function of its name.
_HOME = {
    "ArrayMemory": "cmcr.memory.arrays:ArrayMemory",
    "CmcrError": "cmcr.errors:CmcrError",
    "ConnectConfig": "cmcr.connect.config:ConnectConfig",
    "ConnectedSpace": "cmcr.space.space:ConnectedSpace",
    "Memory": "cmcr.memory.memory:Memory",
    "Modality": "cmcr.modality:Modality",
    "Subject": "cmcr.ask.subject:Subject",
    "connect_arrays": "cmcr.arrays:connect_arrays",
    "connect_memories": "cmcr.connect.run:connect",
    "embed_items": "cmcr.embed.run:embed",
    "embed_query": "cmcr.ask.retrieve:ask",
    "evaluate_retrieval": "cmcr.evaluate.retrieval.pairs:evaluate",
    "export_vectors": "cmcr.ask.export:export_vectors",
    "import_vectors": "cmcr.embed.vectors:import_vectors",
    "load_encoder": "cmcr.encoders:load_encoder",
    "read_items": "cmcr.items.read:read_items",
    "retrieve_rows": "cmcr.ask.retrieve:retrieve",
    "score_items": "cmcr.ask.score:score",
    "translate_memory": "cmcr.ask.translate:translate",
}

__all__ = [
    "ArrayMemory",
    "CmcrError",
    "ConnectConfig",
    "ConnectedSpace",
    "Memory",
    "Modality",
    "Subject",
    "connect_arrays",
    "connect_memories",
    "embed_items",
    "embed_query",
    "evaluate_retrieval",
    "export_vectors",
    "import_vectors",
    "load_encoder",
    "read_items",
    "retrieve_rows",
    "score_items",
    "translate_memory",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'cmcr' has no attribute {name!r}")
    from importlib import import_module

    module, _, own_name = _HOME[name].partition(":")
    return getattr(import_module(module), own_name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
