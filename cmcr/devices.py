"""Where to compute."""

from __future__ import annotations

from cmcr.errors import InputError


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
