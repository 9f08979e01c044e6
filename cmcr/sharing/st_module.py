"""A space as a module of the library sentence-transformers, which a ``Router`` of that library asks by modality.

That library imports this file by its name; nothing else does before it is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from sentence_transformers.base.modality import infer_batch_modality
from sentence_transformers.base.modules import InputModule

from cmcr.ask import Subject
from cmcr.errors import InputError
from cmcr.modality import Modality
from cmcr.sharing.values import embed_values
from cmcr.space import ConnectedSpace

SPACE = "space"
"""The folder of the space beside the module's config."""


class SpaceModule(InputModule):  # type: ignore[misc]
    """Embeds texts, pictures, sounds and files of points with the encoders of a space, and projects them.

    >>> import numpy as np
    >>> import cmcr
    >>> texts = np.random.default_rng(0).normal(size=(200, 8))
    >>> a, b = {"text": texts, "image": texts[:60]}, {"text": texts[:, ::-1], "audio": texts[:60, ::-1]}
    >>> space = cmcr.connect_arrays(a=a, b=b, via="text", method="linear")
    >>> from cmcr.sharing.st_module import SpaceModule
    >>> SpaceModule(space).modalities
    ['text', 'image', 'audio']
    """

    config_keys: list[str] = []  # noqa: RUF012 - as the library has it
    config_file_name = "space_module.json"
    forward_kwargs = {"task", "modality"}  # noqa: RUF012
    save_in_root = False

    def __init__(self, space: ConnectedSpace) -> None:
        super().__init__()
        self.space = space
        self._subjects: dict[str, Subject] = {}
        # Moves with the model, and so says where to compute.
        self.register_buffer("place", torch.zeros(0), persistent=False)

    @property
    def modalities(self) -> list[str]:
        """The names of the modalities it embeds."""
        return [str(modality) for modality in self.space.modalities]

    def get_embedding_dimension(self) -> int:
        """Return the components of a vector."""
        return self.space.dim

    def preprocess(self, inputs: Sequence[Any], prompt: str | None = None, **kwargs: Any) -> dict[str, Any]:
        """Return the inputs as they are: ``forward`` decodes them; a prompt is put before texts."""
        held = [prompt + each if prompt and isinstance(each, str) else each for each in inputs]
        return {"inputs": held}

    def forward(
        self, features: dict[str, Any], task: str | None = None, modality: str | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """Return the features with ``sentence_embedding``, (N, dim) unit vectors of the space.

        Raises:
            InputError: the space lacks the modality, or an input cannot be embedded.
        """
        # A task that is a modality says what the library cannot tell: a path of points looks like a text.
        asked = task if task in self.modalities else modality or infer_batch_modality(features["inputs"])
        if asked not in self.modalities:
            raise InputError(f"modality {asked!r}: this space has {', '.join(self.modalities)}")
        held = [each[asked] if isinstance(each, dict) and asked in each else each for each in features["inputs"]]
        vectors = embed_values(self._subject(), held, Modality(asked))
        return features | {"sentence_embedding": torch.from_numpy(vectors).to(self.place.device)}

    def _subject(self) -> Subject:
        where = str(self.place.device)
        if where not in self._subjects:
            self._subjects[where] = Subject("the space", self.space, device=where)
        return self._subjects[where]

    def save(self, output_path: str, *args: Any, **kwargs: Any) -> None:
        """Write the space beside the module's config."""
        self.save_config(output_path)
        self.space.save(Path(output_path) / SPACE)

    @classmethod
    def load(cls, model_name_or_path: str, subfolder: str = "", **kwargs: Any) -> SpaceModule:
        """Open what ``save`` wrote, in a folder or on the Hub; the space is data, and no code of it is run."""
        known = {name: kwargs.get(name) for name in ("token", "cache_folder", "revision", "local_files_only")}
        folder = cls.load_dir_path(model_name_or_path, subfolder=Path(subfolder, SPACE).as_posix(), **known)
        return cls(ConnectedSpace.from_pretrained(folder or Path(model_name_or_path, subfolder, SPACE)))
