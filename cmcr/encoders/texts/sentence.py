"""``sentence-transformers:MODEL``: any text encoder of the library sentence-transformers, for texts alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cmcr.devices import Precision, inference
from cmcr.encoders.base import text_of
from cmcr.encoders.hub import patient_hub
from cmcr.encoders.weights import fingerprint, look_for
from cmcr.errors import ArtifactError, InputError, MissingExtraError
from cmcr.items import Item
from cmcr.modality import Modality
from cmcr.reading import why

PREPROCESSING = "sentence-transformers 1"


class SentenceEncoder:
    """A model of sentence-transformers as an ``Encoder`` of texts.

    Texts are encoded as the model encodes documents, with the prompt that it has by default, and cut at its length.
    The fingerprint covers the weights, the length, the default prompt and the kinds of its layers.

    Args:
        model: A folder as the library saves it, or the Hub's ``ORG/NAME``.
        device: A torch device.
        precision: Of the matrix products.
        weights: Where the folder is looked for first.

    Raises:
        InputError: the model is nowhere, or cannot be fetched.
        ArtifactError: it cannot be read, or wants to run code of its own.
        MissingExtraError: the library is not installed.
    """

    modalities = (Modality.TEXT,)

    def __init__(
        self, model: str, *, device: str = "cpu", precision: Precision = "fp32", weights: Sequence[Path] = ()
    ) -> None:
        library = _library()
        folder = look_for(model, weights)
        self.name = f"sentence-transformers:{model if folder is None else folder.name}"
        self._device, self._precision = device, precision
        try:
            with patient_hub():
                # No code of the model's own is run, whatever its files ask for.
                self._model = library.SentenceTransformer(str(folder or model), device=device, trust_remote_code=False)
        except OSError as error:
            raise InputError(
                f"{self.name}: no such folder, and not found on the Hub ({why(error)}); name a folder, or ORG/NAME"
            ) from error
        except Exception as error:
            raise ArtifactError(f"{self.name}: cannot be read as a text encoder ({why(error)}); check it") from error
        self._model.eval()
        self.dim = int(self._encoded(["a"]).shape[1])
        prompt = getattr(self._model, "default_prompt_name", None)
        settings = {
            "length": getattr(self._model, "max_seq_length", None),
            "prompt": (getattr(self._model, "prompts", None) or {}).get(prompt),
            "layers": [type(part).__name__ for part in self._model.children()],
        }
        about = f"{PREPROCESSING} {json.dumps(settings, sort_keys=True, default=str)}"
        self.fingerprint = fingerprint(self._model.state_dict(), about)

    def prepare(self, item: Item, data: bytes) -> str:
        """Return an item's text; see ``Encoder.prepare``."""
        return text_of(data)

    def encode(self, modality: Modality, prepared: Sequence[Any]) -> np.ndarray:
        """Embed what ``prepare`` returned; see ``Encoder.encode``."""
        return self._encoded(list(prepared)) if prepared else np.zeros((0, self.dim), np.float32)

    def _encoded(self, texts: list[str]) -> np.ndarray:
        with inference(self._device, self._precision):
            found = self._model.encode(
                texts, batch_size=len(texts), show_progress_bar=False, convert_to_numpy=True, normalize_embeddings=True
            )
        return np.asarray(found, np.float32)


def _library() -> Any:
    try:
        import sentence_transformers
    except ImportError:
        raise MissingExtraError("sentence-transformers", "sentence-transformers", "sentence-transformers:") from None
    return sentence_transformers
