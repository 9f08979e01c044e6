"""Users' weights files: where they are looked for, how they are read without running them, what identifies them."""

from __future__ import annotations

import argparse
import hashlib
import os
import warnings
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from cmcr.errors import ArtifactError, InputError
from cmcr.files import open_file
from cmcr.reading import plainly, reading, why

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
VARIABLE = "CMCR_WEIGHTS"

_SCALAR = np.float64(0).__reduce__()[0]
# Classes that trainers leave beside the tensors: their arguments, and numpy's numbers (a best score, an epoch).
_ADMITTED: list[Any] = [
    argparse.Namespace,
    np.dtype,
    *(type(np.dtype(kind)) for kind in "?bhilqBHILQefd"),
    (_SCALAR, "numpy.core.multiarray.scalar"),
    (_SCALAR, "numpy._core.multiarray.scalar"),
]
_SMALL = 1 << 26
_WRAPPERS = ("state_dict", "model_state_dict", "model")


def weights_folder() -> Path:
    """Return the folder where weights are expected: ``$CMCR_WEIGHTS``, else ``~/.cache/cmcr/weights``."""
    chosen = os.environ.get(VARIABLE)
    return Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "cmcr/weights")


def find_weights(wanted: str, given: Sequence[Path] = (), kind: str = "weights") -> Path:
    """Return the file or folder called ``wanted``.

    Args:
        wanted: A path, or a bare name that is looked for in ``given`` and then in ``weights_folder()``.
        given: Files and folders named by the user. A single file stands for ``wanted`` whatever it is called.
        kind: What it is, for the message.

    Raises:
        InputError: it is nowhere, or one of ``given`` does not exist; the message names the places.
    """
    found = look_for(wanted, given)
    if found is None:
        looked = ", ".join(str(place) for place in (*given, weights_folder()))
        raise InputError(
            f"{kind} {wanted!r} not found (looked in {looked}); give it with --weights, or put it into "
            f"{weights_folder()} (another folder: set {VARIABLE})"
        )
    return found


def look_for(wanted: str, given: Sequence[Path] = ()) -> Path | None:
    """Like ``find_weights``, but return None when there is no such file or folder."""
    for place in given:
        if not place.exists():
            raise InputError(f"--weights {place}: no such file or folder; check the path")
    path = Path(wanted).expanduser()
    files = [place for place in given if place.is_file()]
    places = [path] if len(path.parts) > 1 else []
    places += [place if place.name == path.name else place / path.name for place in given]
    places += [*(files if len(files) == 1 and path.suffix in SUFFIXES else ()), weights_folder() / path.name, path]
    return next((place for place in places if place.exists()), None)


def read_state(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint, without the wrappers and the ``module.`` prefix that trainers add.

    A ``.pt`` is unpickled with ``weights_only=True``: of all classes only ``argparse.Namespace`` and numpy's numbers,
    which trainers save beside the tensors, are admitted. Zip files are mapped, not read.

    Raises:
        ArtifactError: not a checkpoint, damaged, or one that would run code.
    """
    try:
        with plainly(), open_file(path):
            found = load_file(path) if path.suffix == ".safetensors" else _unpickle(path)
    except (OSError, ValueError) as error:
        # torch precedes its reason with advice that nobody should follow with a stranger's file.
        reason = " ".join(str(error.__cause__ or error).split()) or why(error.__cause__ or error)
        for advice in ("WeightsUnpickler error: ", "from a trusted source. "):
            reason = reason.rpartition(advice)[2]
        reason = reason.split(" Please use")[0].split(" Check the")[0][:200]
        raise ArtifactError(
            f"{path}: cannot be read as weights ({reason}); expected a state dict of tensors"
        ) from error
    for wrapper in _WRAPPERS:
        if isinstance(found, Mapping) and isinstance(found.get(wrapper), Mapping):
            found = found[wrapper]
            break
    state = {key: value for key, value in found.items() if isinstance(value, Tensor)} if _named(found) else {}
    if not state:
        raise ArtifactError(
            f"{path}: holds no named tensors; expected a state dict, bare or under {', '.join(_WRAPPERS)}"
        )
    for key, value in state.items():
        _refuse_odd(value, f"{path}: {key}")
    if all(key.startswith("module.") for key in state):
        state = {key.removeprefix("module."): value for key, value in state.items()}
    return state


def _refuse_odd(tensor: Tensor, source: str) -> None:
    """Refuse a tensor that is not a plain table of real numbers, or that only pretends to have its size."""
    size = tensor.numel() * tensor.element_size()
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_complex() or tensor.is_meta:
        raise ArtifactError(f"{source}: {tensor.dtype} {tensor.layout}; expected a plain table of real numbers")
    if size > max(tensor.untyped_storage().nbytes(), _SMALL):  # the same few numbers again and again
        raise ArtifactError(f"{source}: shape {tuple(tensor.shape)} of fewer numbers; expected one for each place")


def _named(found: object) -> bool:
    return isinstance(found, Mapping) and all(isinstance(key, str) for key in found)


def _unpickle(path: Path) -> Any:
    with torch.serialization.safe_globals(_ADMITTED), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Detected pickle protocol")  # what it cannot read it refuses anyway
        warnings.filterwarnings("ignore", "Validating sparse tensor")  # they are refused
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))


def fingerprint(state: Mapping[str, Tensor], preprocessing: str) -> str:
    """Return the sha256 (hex) over names, shapes, types and bytes of all tensors, and over the preprocessing.

    The container does not count: the same tensors in ``.pt`` and ``.safetensors`` have one fingerprint.
    """
    digest = hashlib.sha256(preprocessing.encode())
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"\n{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def fill(module: nn.Module, state: Mapping[str, Tensor], source: str, optional: Iterable[str] = ()) -> None:
    """Load ``state`` into ``module``, whole and nothing more.

    Args:
        module: Gets the values, in its own types.
        state: Names as ``module`` has them.
        source: Where they come from, for the message.
        optional: Names that may be missing or left over.

    Raises:
        ArtifactError: names are missing, unexpected, or of another shape; the message says which.
    """
    own, free = module.state_dict(), set(optional)
    missing = sorted(own.keys() - state.keys() - free)
    unexpected = sorted(state.keys() - own.keys() - free)
    shapes = [
        f"{key} {tuple(state[key].shape)}, not {tuple(own[key].shape)}"
        for key in sorted(own.keys() & state.keys())
        if state[key].shape != own[key].shape
    ]
    faults = {"missing": missing, "unexpected": unexpected, "of another shape": shapes}
    told = "; ".join(f"{len(keys)} {fault}: {_some(keys)}" for fault, keys in faults.items() if keys)
    if told:
        raise ArtifactError(f"{source}: is not a checkpoint of this architecture ({told}); check file and encoder name")
    with reading(source, "check file and encoder name", what="does not fit this architecture"):
        module.load_state_dict({key: value for key, value in state.items() if key in own}, strict=False)


def block_count(state: Mapping[str, Tensor], prefix: str) -> int:
    """Return how many numbered blocks ``state`` holds under ``prefix`` (``"visual.blocks."``)."""
    # Of several numbers only how many there are: a name may hold any number, and would ask for as many blocks.
    return len({key[len(prefix) :].split(".", 1)[0] for key in state if key.startswith(prefix)})


def _some(keys: Sequence[str]) -> str:
    return ", ".join(keys[:3]) + (" ..." if len(keys) > 3 else "")
