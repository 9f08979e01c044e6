"""Conditions of embedding: how threads change places, what is searched for garbage, who multiplies."""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def quick_switches() -> Iterator[None]:
    """Let threads change places after a tenth of a millisecond, not five.

    The encoder calls many short operations and needs the interpreter again after each; beside decoding threads that
    keep it for five milliseconds it would mostly wait.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.0001)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


@contextlib.contextmanager
def items_at_rest() -> Iterator[None]:
    """Leave what is there already out of the search for garbage: with every text that is embedded it would come due."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextlib.contextmanager
def one_thread_a_product() -> Iterator[None]:
    """Let each decoding thread multiply alone, as NumPy does it: threads of its own would wait in a loop for theirs.

    Torch multiplies by other means, and encoders go on as they are.
    """
    from threadpoolctl import ThreadpoolController

    numpy = [each["filepath"] for each in ThreadpoolController().info() if "numpy" in each["filepath"]]
    with ThreadpoolController().select(filepath=numpy).limit(limits=1):
        yield
