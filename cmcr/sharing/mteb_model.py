"""A space as a model of mteb: texts, pictures, sounds and frames of videos, each by its encoder of the space."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mteb.models import ModelMeta
from mteb.models.abs_encoder import AbsEncoder

from cmcr.ask import Subject
from cmcr.errors import InputError
from cmcr.modality import Modality
from cmcr.sharing.values import embed_values
from cmcr.space.card import licence_of

COLUMNS = {"text": Modality.TEXT, "image": Modality.IMAGE, "audio": Modality.AUDIO, "video": Modality.IMAGE}
"""By column of a task: what of the space embeds it; of a video, its middle frame."""


class SpaceModel(AbsEncoder):  # type: ignore[misc]
    """What ``mteb.evaluate`` takes: a space behind mteb's protocol of encoders.

    Of an input of several columns (a video with its sound) the mean of the unit vectors counts, normalised. Prompts and
    instructions of tasks are not used. What a video shows is its middle frame: mteb prescribes no frame.

    >>> import numpy as np
    >>> from cmcr import Subject
    >>> from cmcr.sharing.mteb_model import SpaceModel
    >>> model = SpaceModel(Subject.open("tiny-clip"))
    >>> model.mteb_model_meta.modalities
    ['image', 'text', 'video']
    >>> found = model.encode([{"text": ["a red drum", "a bell"]}], task_metadata=None, hf_split="test", hf_subset="")
    >>> found.shape
    (2, 64)
    """

    def __init__(self, subject: Subject, name: str = "cmcr/space") -> None:
        """Take a space, or a bare encoder.

        Args:
            subject: Opened with the device and weights to use.
            name: ``org/name``, under which mteb keeps results.
        """
        self.subject = subject
        self.model = subject
        self.mteb_model_meta = _meta(subject, name)

    @classmethod
    def open(cls, space: str, name: str | None = None, **options: Any) -> SpaceModel:
        """Open a space (a folder, or ``org/name`` of the Hub) or an encoder; options are those of ``Subject.open``.

        Raises:
            InputError: as ``Subject.open``.
            ArtifactError: as ``Subject.open``.
        """
        own = space if space.count("/") == 1 and not Path(space).exists() else f"cmcr/{Path(space).name}"
        return cls(Subject.open(space, **options), name or own)

    def encode(
        self,
        inputs: Any,
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        prompt_type: Any = None,
        **kwargs: Any,
    ) -> np.ndarray:
        """Return the (N, dim) float32 unit vectors of a task's queries or documents.

        Raises:
            InputError: an input holds nothing that the space embeds, or one cannot be embedded.
        """
        parts = [self._batch(batch) for batch in _batches(inputs)]
        return np.concatenate(parts) if parts else np.zeros((0, self.mteb_model_meta.embed_dim), np.float32)

    def _batch(self, batch: Mapping[str, Sequence[Any]]) -> np.ndarray:
        held = [name for name in COLUMNS if name in batch and COLUMNS[name] in self.subject.modalities]
        if not held:
            raise InputError(f"a task's input of {', '.join(batch)}: {self.subject.name} embeds none of it")
        views = [embed_values(self.subject, [_value(v, n) for v in batch[n]], COLUMNS[n]) for n in held]
        mean = np.mean(views, axis=0)
        return np.asarray(mean / np.linalg.norm(mean, axis=1, keepdims=True), np.float32)


def _batches(inputs: Any) -> Iterator[Mapping[str, Sequence[Any]]]:
    """Yield batches by column; samples of any length and objects of any kind stay as they are."""
    if hasattr(inputs, "collate_fn"):
        inputs.collate_fn = lambda rows: {name: [row[name] for row in rows] for name in rows[0]}
    yield from inputs


def _value(value: Any, column: str) -> Any:
    """Return what a column holds as ``embed_values`` takes it."""
    if column == "audio" and hasattr(value, "get_all_samples"):  # a decoder of torchcodec
        samples = value.get_all_samples()
        return {"array": samples.data.numpy(), "sampling_rate": samples.sample_rate}
    if column == "audio":
        return {"array": value["array"], "sampling_rate": value["sampling_rate"]}
    if column == "video":
        return _frame(value)
    return value


def _frame(video: Any) -> np.ndarray:
    """Return the middle frame as (H, W, 3) uint8, of a decoder of torchcodec or (T, 3, H, W) frames."""
    frame = video[len(video) // 2]
    frame = np.asarray(frame.numpy() if hasattr(frame, "numpy") else frame)
    return np.ascontiguousarray(frame.transpose(1, 2, 0) if frame.shape[0] == 3 else frame).astype(np.uint8)


def _meta(subject: Subject, name: str) -> Any:
    encoders = [*subject.space.encoders] if subject.space else [subject.name]
    licences = {licence_of(each).lower() for each in encoders}
    held = [str(modality) for modality in subject.modalities if str(modality) in COLUMNS]
    dim = subject.space.dim if subject.space else subject.encoder_for(subject.modalities[0]).dim
    return ModelMeta(
        loader=None,
        name=name,
        revision=subject.fingerprint[:12] or "unknown",
        release_date=None,
        languages=["eng-Latn"],
        n_parameters=None,
        memory_usage_mb=None,
        max_tokens=None,
        embed_dim=dim,
        license=licences.pop() if len(licences) == 1 and licences <= {"mit", "apache-2.0", "cc0-1.0"} else None,
        open_weights=True,
        public_training_code=None,
        public_training_data=None,
        framework=["PyTorch"],
        similarity_fn_name="cosine",
        use_instructions=False,
        training_datasets=None,
        modalities=[*held, *(["video"] if "image" in held else [])],
        model_type=["dense"],
    )
