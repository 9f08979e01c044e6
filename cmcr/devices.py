"""Where to compute, and how precisely."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Literal

from cmcr.errors import InputError

Precision = Literal["fp32", "bf16", "fp16"]


def choose_device(name: str) -> str:
    """Return a torch device: the named one, or for ``auto`` CUDA, else Apple's MPS, else the CPU.

    Raises:
        InputError: unknown, or not available on this machine.
    """
    import torch

    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return next(device for device in ("cuda", "mps", "cpu") if available[device])
    if name not in available:
        raise InputError(f"unknown device {name!r}; expected auto, {', '.join(available)}")
    if not available[name]:
        raise InputError(f"device {name!r} is not available here; use --device auto or cpu")
    return name


@contextlib.contextmanager
def inference(device: str, precision: Precision = "fp32") -> Iterator[None]:
    """Run torch code without gradients, and with matrix products in bf16 or fp16 if so asked (weights stay float32)."""
    import torch

    if precision not in ("fp32", "bf16", "fp16"):
        raise InputError(f"unknown precision {precision!r}; expected fp32, bf16 or fp16")
    lower = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    with torch.inference_mode(), torch.autocast(device, lower, enabled=lower is not None):
        yield


def auto_batch_size(device: str) -> int:
    """Return how many items to encode at once: processors gain nothing beyond a few dozen, accelerators want more."""
    return 64 if device == "cpu" else 256


def out_of_memory(error: BaseException) -> bool:
    """Tell whether an error is the device's or the machine's lack of memory, and not an item's fault."""
    return isinstance(error, MemoryError) or any(
        sign in str(error) for sign in ("out of memory", "can't allocate memory") if isinstance(error, RuntimeError)
    )
