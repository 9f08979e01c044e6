"""Rows of two or three modalities with classes, known to the last bit: for tests of classification."""

import numpy as np

from cmcr.classify import join_table
from cmcr.memory import ArrayMemory

CLASSES = ("bell", "drum", "horn")


def world(rows=240, noise=(0.3, 0.3), seed=0, dims=(12, 10), names=("see:image", "hear:audio"), classes=CLASSES):
    """Return memories by `encoder:modality`, and labels: a class mean in each modality, and noise of this size."""
    rng = np.random.default_rng(seed)
    truth = rng.permutation(np.arange(rows) % len(classes))
    ids = [f"r{number:04d}" for number in range(rows)]
    memories = {}
    for name, dim, size in zip(names, dims, noise, strict=True):
        means = rng.normal(size=(len(classes), dim))
        x = means[truth] + size * dim**0.5 * rng.normal(size=(rows, dim))
        encoder, modality = name.split(":")
        memories[name] = ArrayMemory(encoder, {modality: x}, {modality: ids})
    return memories, {name: classes[number] for name, number in zip(ids, truth, strict=True)}


def table_of(memories, labels=None):
    return join_table([(memory, name.split(":")[1]) for name, memory in memories.items()], labels)


def table(**choices):
    return table_of(*world(**choices))
