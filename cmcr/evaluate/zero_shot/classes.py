"""Zero-shot classification: class names x templates -> class vectors -> the nearest class.

After CLIP: each class is the mean of its phrases. In a connected space a projector lies between a phrase's vector and
the space; whether the mean is taken before or after it is published nowhere, and matters, for it is not linear.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from cmcr.errors import InputError, MissingExtraError, nearest
from cmcr.items import lines_of, read_text
from cmcr.reading import parse_json
from cmcr.search import Hits, exact_search

Order = Literal["project-first", "average-first"]
ORDERS: tuple[Order, ...] = get_args(Order)

BUILT_IN = {
    "imagenet": "the templates of ImageNet that come with open_clip",
    "sound": "This is a sound of {}.",
    "plain": "{}",
}
"""Templates known by name. The one for sounds is ours: what the ESC-50 numbers of others used is not published."""

_MAX_FILE = 10 << 20


@dataclass(frozen=True)
class Templates:
    """Phrases with ``{}`` where the class name goes.

    Attributes:
        name: Where they come from, e.g. ``imagenet`` or ``templates.json: modelnet40_64``.
        phrases: The templates, as they stand in their file.
    """

    name: str
    phrases: tuple[str, ...]

    @property
    def told(self) -> str:
        """The name, the number and a hash that tells other templates of one name."""
        digest = hashlib.sha256("\n".join(self.phrases).encode()).hexdigest()
        return f"{self.name} ({len(self.phrases)}, sha256 {digest[:12]})"


def phrases(names: Sequence[str], templates: Sequence[str]) -> list[str]:
    """Return every template filled with every name, the templates of the first name first.

    Raises:
        InputError: no name, no template, or a template without ``{}``.
    """
    if not names or not templates:
        raise InputError(f"{len(names)} class names and {len(templates)} templates: expected at least one of each")
    for template in templates:
        if "{}" not in template:
            raise InputError(f"template {template[:80]!r} has no {{}} for the class name")
    # Replaced, not formatted: a name or template from a file is data, and may hold braces.
    return [template.replace("{}", name) for name in names for template in templates]


def class_vectors(vectors: np.ndarray) -> np.ndarray:
    """Return (C, D) unit class vectors, the normalised means of (C, T, D) unit vectors of T phrases each."""
    means = vectors.mean(axis=1, dtype=np.float64)
    return np.asarray(means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12), np.float32)


def build_classifier(
    raw: np.ndarray, classes: int, project: Callable[[np.ndarray], np.ndarray], order: Order = "project-first"
) -> np.ndarray:
    """Return the (C, dim) class vectors in a space.

    Args:
        raw: (C * T, D) unit vectors of ``phrases`` by the text encoder.
        classes: C.
        project: Maps (N, D) raw vectors to (N, dim) unit vectors of the space.
        order: ``project-first`` averages after the projection: what "projector after encoder" gives where ULIP and
            open_clip have the encoder. ``average-first`` averages before it.
    """
    if order == "average-first":
        return project(class_vectors(raw.reshape(classes, -1, raw.shape[1])))
    projected = project(raw)
    return class_vectors(projected.reshape(classes, -1, projected.shape[1]))


def predict(vectors: np.ndarray, classes: np.ndarray, k: int = 1) -> Hits:
    """Return the ``k`` nearest classes of each vector: (N, k) cosines and class numbers, best first.

    Args:
        vectors: (N, D) unit vectors in the space.
        classes: (C, D) from ``build_classifier`` or ``class_vectors``.
        k: Classes wanted.
    """
    return exact_search([classes], vectors, k)


def load_templates(source: str, data: str = "", key: str | None = None) -> Templates:
    """Return the templates of a name or a file.

    Args:
        source: ``imagenet``, ``sound``, ``plain``, or a file: one template a line; or JSON, a list or, as ULIP has it,
            an object of lists. No template is mended, for a full stop is a token.
        data: Name of the data set: of several lists the one whose key begins with it is taken.
        key: Which list of an object.

    Raises:
        InputError: no such name or file, no template in it, or a list that cannot be chosen.
        MissingExtraError: ``imagenet``, and open_clip is not installed.
    """
    if source in BUILT_IN:
        if key is not None:
            raise InputError(f"template set {key!r} is for a JSON file of templates, not for {source!r}; leave it out")
        return Templates(source, _imagenet() if source == "imagenet" else (BUILT_IN[source],))
    path = Path(source)
    name, found = path.name, _read_lines_or_json(path, f"templates: {', '.join(BUILT_IN)}, or a file")
    if isinstance(found, Mapping):
        chosen = _chosen(found, data, key, path)
        name, found = f"{path.name}: {chosen}", found[chosen]
    elif key is not None:
        raise InputError(f"{path}: one list, no template set {key!r}; leave --template-set out")
    return Templates(name, _texts(found, path))


def _imagenet() -> tuple[str, ...]:
    try:
        from open_clip.zero_shot_metadata import OPENAI_IMAGENET_TEMPLATES
    except ImportError:
        raise MissingExtraError("open_clip", "clip", "templates imagenet (or give --templates FILE)") from None
    return tuple(template("{}") for template in OPENAI_IMAGENET_TEMPLATES)


def class_labels(classes: Sequence[str], source: Path | None = None, data: str = "") -> tuple[str, ...]:
    """Return what each class is called in a phrase: its name with blanks for underscores, or what a file says.

    Args:
        classes: Names, in the order of their numbers.
        source: One label a line, in that order; or JSON: such a list, an object of lists (ULIP's ``labels.json``), or
            an object from names to labels, where others keep their name.
        data: Name of the data set, which chooses a list.

    Raises:
        InputError: unknown class names, another number of labels, or the same names in another order.
    """
    plain = tuple(map(_blanks, classes))
    if source is None:
        return plain
    found = _read_lines_or_json(source, "labels: one a line, or JSON")
    if isinstance(found, Mapping) and all(isinstance(value, str) for value in found.values()):
        if unknown := [str(name) for name in found if name not in classes]:
            raise InputError(f"{source}: unknown classes {', '.join(unknown)}; expected {', '.join(classes)}")
        return tuple(found.get(name, label) for name, label in zip(classes, plain, strict=True))
    labels = _texts(
        found[_chosen(found, data, None, source, "a file of one list")] if isinstance(found, Mapping) else found, source
    )
    if len(labels) != len(classes):
        raise InputError(f"{source}: {len(labels)} labels; the data set has {len(classes)} classes")
    if sorted(map(_blanks, labels)) == sorted(plain) and tuple(map(_blanks, labels)) != plain:
        number = next(n for n, label in enumerate(labels) if _blanks(label) != plain[n])
        raise InputError(
            f"{source}: label {number} is {labels[number]!r} where the data set has {classes[number]!r}; "
            "expected the order of the data set's names"
        )
    return labels


def _blanks(name: str) -> str:
    return name.replace("_", " ")


def _read_lines_or_json(path: Path, expected: str) -> Any:
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected {expected}")
    if path.stat().st_size > _MAX_FILE:
        raise InputError(f"{path}: {path.stat().st_size} bytes; expected {expected}, at most {_MAX_FILE} bytes")
    text = read_text(path)
    if path.suffix.lower() != ".json":
        return [line for line in lines_of(text) if line.strip()]
    try:
        return parse_json(text, strict=True)
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error}); expected {expected}") from None


def _chosen(lists: Mapping[str, Any], data: str, key: str | None, path: Path, choose: str = "--template-set") -> str:
    """Return the key asked for, or the only one, or the only one that begins with the name of the data set."""
    if key is not None:
        if key not in lists:
            raise InputError(f"{path}: no {key!r} in it; expected {', '.join(lists)}{nearest(key, lists)}")
        return key
    fitting = [name for name in lists if data and name.startswith(data)] or list(lists)
    if len(fitting) != 1:
        raise InputError(f"{path}: holds {', '.join(fitting) or 'nothing'}; choose one with {choose}")
    return fitting[0]


def _texts(found: object, path: Path) -> tuple[str, ...]:
    if not isinstance(found, list) or not found or not all(isinstance(text, str) and text.strip() for text in found):
        raise InputError(f"{path}: expected texts, one a line or a JSON list of them")
    return tuple(found)
