"""What ``--verbose`` tells: on what a command ran, how long it took, and how much memory."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
import time
from collections.abc import Callable

from cmcr import console

LIBRARIES = ("cmcr", "torch", "numpy", "faiss-cpu")


def tell_surroundings() -> Callable[[], None]:
    """Say on what the command runs; return what says, once it is over, what it cost."""
    started = time.perf_counter()
    versions = [f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES]
    threads = os.environ.get("OMP_NUM_THREADS") or os.cpu_count()
    console.say(f"{', '.join(versions)}; Python {platform.python_version()}, {platform.platform()}, {threads} threads")

    def told() -> None:
        console.say(f"took {time.perf_counter() - started:.1f} s{_memory()}")

    return told


def _memory() -> str:
    """Return the most memory that the process has held, where the system tells it."""
    try:
        import resource
    except ImportError:  # Windows
        return ""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return f", at most {most / (2**20 if sys.platform == 'darwin' else 2**10):,.0f} MiB of memory"
