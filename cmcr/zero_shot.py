"""Zero-shot classification: class names x templates -> class vectors -> the nearest class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from cmcr.encoders.base import Encoder
from cmcr.errors import InputError
from cmcr.index import Hits, exact_search
from cmcr.inputs import Item
from cmcr.modality import Modality
from cmcr.space import ConnectedSpace

Order = Literal["project-first", "average-first"]


def phrases(names: Sequence[str], templates: Sequence[str]) -> list[str]:
    """Return every template filled with every name, the templates of the first name first.

    Raises:
        InputError: no name, no template, or a template without ``{}``.
    """
    if not names or not templates:
        raise InputError(f"{len(names)} class names and {len(templates)} templates: expected at least one of each")
    for template in templates:
        if "{}" not in template:
            raise InputError(f"template {template!r} has no {{}} for the class name")
    # Replaced, not formatted: a name or template from a file is data, and may hold braces.
    return [template.replace("{}", name) for name in names for template in templates]


def class_vectors(vectors: np.ndarray) -> np.ndarray:
    """Return (C, D) unit class vectors, the normalised means of (C, T, D) unit vectors of T phrases each."""
    means = vectors.mean(axis=1, dtype=np.float64)
    return np.asarray(means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12), np.float32)


def build_classifier(
    space: ConnectedSpace,
    encoder: Encoder,
    names: Sequence[str],
    templates: Sequence[str] = ("{}",),
    order: Order = "project-first",
) -> np.ndarray:
    """Return the (C, dim) class vectors of ``names`` in the space.

    Args:
        space: The connected space.
        encoder: An encoder of the space that embeds text.
        names: Class names.
        templates: Phrases with ``{}`` where the name goes.
        order: Whether phrases are averaged after the projection, as open_clip does with "projector after encoder" taken
            for the encoder, or before it. The projectors are not linear, so the two differ.
    """
    items = [Item(str(i), Modality.TEXT, "template", text=text) for i, text in enumerate(phrases(names, templates))]
    vectors = encoder.encode(Modality.TEXT, [encoder.prepare(item, item.read()) for item in items])
    if order == "average-first":
        averaged = class_vectors(vectors.reshape(len(names), len(templates), -1))
        return space.project(averaged, encoder=encoder.name, modality=Modality.TEXT)
    projected = space.project(vectors, encoder=encoder.name, modality=Modality.TEXT)
    return class_vectors(projected.reshape(len(names), len(templates), -1))


def predict(vectors: np.ndarray, classes: np.ndarray, k: int = 1) -> Hits:
    """Return the ``k`` nearest classes of each vector: (N, k) cosines and class numbers, best first.

    Args:
        vectors: (N, D) unit vectors in the space.
        classes: (C, D) from ``build_classifier`` or ``class_vectors``.
        k: Classes wanted; ``metrics.top_k_accuracy(hits.rows, labels, k)`` is the accuracy.
    """
    return exact_search([classes], vectors, k)
