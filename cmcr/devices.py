"""Where to compute, and how precisely."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

from cmcr.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

Precision = Literal["fp32", "bf16", "fp16"]
Products = Literal["auto", "bf16", "fp32"]


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
    with (
        torch.inference_mode(),
        torch.autocast(device, lower, enabled=lower is not None),
        _attention(device, precision),
    ):
        yield


def _attention(device: str, precision: Precision) -> contextlib.AbstractContextManager[None]:
    """Return a context in which attention runs where torch's fused kernel for bf16 would stop with an error.

    The kernel packs its matrices wherever the processor multiplies bf16, and cannot where torch was told, by
    ``ATEN_CPU_CAPABILITY``, to leave AVX-512 alone. Attention is then computed by its formula, in bf16 all the same.
    """
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    held_back = torch.backends.cpu.get_cpu_capability() in ("DEFAULT", "NO AVX", "AVX2")
    if device == "cpu" and precision == "bf16" and held_back and has_bf16(device):
        formula: contextlib.AbstractContextManager[None] = sdpa_kernel(SDPBackend.MATH)
        return formula
    return contextlib.nullcontext()


def has_bf16(device: str) -> bool:
    """Tell whether a device multiplies bf16 matrices faster than float32 ones: AMX, AVX512-BF16 or tensor cores."""
    import torch

    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device == "cpu" and any(_ability(name) for name in ("amx_bf16", "avx512_bf16", "bf16"))


def _ability(name: str) -> bool:
    """Tell whether the processor has an ability; torch lists them since 2.8."""
    import torch

    abilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(abilities.get(name, False))


def choose_products(device: str, precision: Products) -> Literal["bf16", "fp32"]:
    """Return how to multiply matrices: as asked, or for ``auto`` in bf16 where ``has_bf16``."""
    if precision == "auto":
        return "bf16" if has_bf16(device) else "fp32"
    return precision


@contextlib.contextmanager
def matrix_products(device: str, precision: Products) -> Iterator[None]:
    """Multiply float32 matrices in bf16, summing in float32, where ``choose_products`` says so.

    Inputs and results of the products are float32, so weights, gradients and their sums keep their digits. On CUDA
    torch takes TF32 for it: the same range, three more bits, half the rate.
    """
    import torch

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium" if choose_products(device, precision) == "bf16" else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def narrow_products(device: str) -> bool:
    """Tell whether bf16 matrices are what ``matrix_products`` multiplies here: a processor is given them as such.

    It has no product of float32 matrices in bf16 that would not convert them anew each time, which takes as long as the
    product. The price is a result in bf16, so it is for sums of parts that are kept in float32 themselves. It is known
    to be faster with AMX alone: where AVX512-BF16 multiplied, it took half as long again as float32.
    """
    import torch

    return device == "cpu" and torch.get_float32_matmul_precision() == "medium" and _ability("amx_bf16")


def narrowed(rows: Tensor) -> Tensor:
    """Return bf16 rows and, up to a multiple of 32, rows of zeros.

    Where a product's sums are of another length, oneDNN reads on beyond a row of the first matrix and trusts zeros of
    its own to take back what it reads; what is not a number there they do not (its issue 5717).
    """
    import torch

    made: Tensor = torch.nn.functional.pad(rows.bfloat16(), (0, 0, 0, padded(len(rows)) - len(rows)))
    return made


def padded(length: int) -> int:
    """Return the length up to which ``narrowed`` adds zeros."""
    return length + -length % 32


def narrow_into(room: Tensor, tile: Tensor) -> Tensor:
    """Return ``room``, which is bf16, with an (m, n) tile in its corner and zeros beyond."""
    m, n = tile.shape
    room[:m, :n] = tile
    room[m:], room[:, n:] = 0, 0
    return room


def tile_rows(device: str) -> int:
    """Return rows and columns of a tile of similarities: 4 MiB of float32 for a processor's cache, more for a GPU."""
    return 1024 if device == "cpu" else 8192


def auto_batch_size(device: str) -> int:
    """Return how many items to encode at once: processors gain nothing beyond a few dozen, accelerators want more."""
    return 64 if device == "cpu" else 256


def out_of_memory(error: BaseException) -> bool:
    """Tell whether an error is the device's or the machine's lack of memory, and not an item's fault."""
    return isinstance(error, MemoryError) or any(
        sign in str(error) for sign in ("out of memory", "can't allocate memory") if isinstance(error, RuntimeError)
    )


def choose_gpu() -> None:
    """Give each of several processes on one machine a GPU of its own."""
    import torch

    local = os.environ.get("LOCAL_RANK") or os.environ.get("SLURM_LOCALID") or "0"
    torch.cuda.set_device(int(local) % torch.cuda.device_count())
