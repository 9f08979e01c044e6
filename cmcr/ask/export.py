"""Take vectors and projectors elsewhere: .npy, parquet, FAISS, torch.export, ONNX. Every file is whole or absent."""

from __future__ import annotations

import io
import json
import logging
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cmcr.ask.debias import Debias
from cmcr.errors import ArtifactError, InputError, MissingExtraError
from cmcr.files import atomic, write_atomic, write_json
from cmcr.memory import Memory
from cmcr.modality import Modality
from cmcr.search import Bias, Blocks, build_index
from cmcr.space import ConnectedSpace

APPEND = (
    "append a 1 to a query's vector and compare by inner product, not by cosine: the last component is a row's bias"
)
"""How debiased vectors are asked."""


@dataclass(frozen=True)
class _Vectors:
    """What is written: the rows of a memory as they lie in the space, perhaps with their biases."""

    space: ConnectedSpace
    memory: Memory
    modality: Modality
    blocks: Blocks
    bias: Bias | None = None

    @property
    def dim(self) -> int:
        return self.space.dim + (self.bias is not None)


def export_vectors(
    space: ConnectedSpace, memory: Memory, modality: Modality, folder: Path, kind: str, debias: Debias | None = None
) -> list[Path]:
    """Write a memory's modality as it lies in the space, a block of rows at a time.

    Debiased vectors have one more component, the bias of the row, negative: a query gets a 1 appended, and the inner
    product is its cosine less the bias. Their files are called ``MODALITY-debiased``; a .json beside them says so.

    Args:
        space: The space.
        memory: Of one of its encoders.
        modality: Of the memory.
        folder: Where to; made when missing.
        kind: ``npy`` (float32 and, beside it, the ids one a line), ``parquet`` (id, vector, source, text) or ``faiss``
            (an exact index and the ids).
        debias: Against which rows; None: the vectors as they are.

    Returns:
        The files written.

    Raises:
        InputError: unknown kind, or a modality the memory lacks.
        ArtifactError: the memory belongs to another encoder than the space.
        MissingExtraError: parquet without pyarrow.
    """
    if kind not in VECTOR_KINDS:
        raise InputError(f"export of vectors as {kind!r}: expected one of {', '.join(VECTOR_KINDS)}")
    vectors = _vectors(space, memory, modality, debias)
    path = folder / f"{modality.value}{'-debiased' if vectors.bias else ''}.{kind}"
    VECTOR_KINDS[kind](vectors, path)
    written = [path] if kind == "parquet" else [path, _write_ids(memory, modality, path)]
    if vectors.bias:
        write_json(path.with_suffix(".json"), asdict(vectors.bias) | {"query": APPEND})
        written.append(path.with_suffix(".json"))
    return written


def _vectors(space: ConnectedSpace, memory: Memory, modality: Modality, debias: Debias | None) -> _Vectors:
    def blocks() -> Iterator[np.ndarray]:
        return space.project_blocks(memory, modality=modality)

    return _Vectors(space, memory, modality, *((blocks,) if debias is None else debias.extend(space, blocks)))


def _write_ids(memory: Memory, modality: Modality, beside: Path) -> Path:
    ids, path = memory.ids(modality), beside.with_name(f"{beside.stem}_ids.txt")
    broken = next((name for name in ids if "\n" in name or "\r" in name), None)
    if broken is not None:
        raise ArtifactError(f"id {broken!r} holds a line break, so ids cannot stand one a line; export as parquet")
    write_atomic(path, "".join(f"{name}\n" for name in ids).encode())
    return path


def _npy(vectors: _Vectors, path: Path) -> None:
    shape = vectors.memory.rows(vectors.modality), vectors.dim
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    with atomic(path) as file:
        np.lib.format.write_array_header_1_0(file, header)
        for block in vectors.blocks():
            file.write(block.astype("<f4").tobytes())


def _parquet(vectors: _Vectors, path: Path) -> None:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtraError("pyarrow", "parquet", "export as parquet") from error
    fields = {
        "id": pa.string(),
        "vector": pa.list_(pa.float32(), vectors.dim),
        "source": pa.string(),
        "text": pa.string(),
    }
    about = {"cmcr_space": vectors.space.fingerprint}
    if vectors.bias:
        about["cmcr_bias"] = json.dumps(asdict(vectors.bias) | {"query": APPEND})
    schema = pa.schema(list(fields.items()), metadata=about)
    metadata = vectors.memory.metadata(vectors.modality)
    with atomic(path) as file, parquet.ParquetWriter(file, schema) as writer:
        for block in vectors.blocks():
            rows = [next(metadata) for _ in range(len(block))]
            column = pa.FixedSizeListArray.from_arrays(pa.array(block.ravel(), pa.float32()), vectors.dim)
            texts = ([row.id for row in rows], column, [row.source for row in rows], [row.text for row in rows])
            writer.write_table(pa.table(list(texts), schema=schema))


def _faiss(vectors: _Vectors, path: Path) -> None:
    build_index("flat", vectors.blocks).write(path)


VECTOR_KINDS: dict[str, Callable[[_Vectors, Path], None]] = {
    "npy": _npy,
    "parquet": _parquet,
    "faiss": _faiss,
}


def export_projectors(space: ConnectedSpace, folder: Path, kind: str) -> list[Path]:
    """Write the projector of every encoder and modality: raw unit vectors (N, D) in, (N, dim) unit vectors out, any N.

    Args:
        space: The space.
        folder: Where to; made when missing.
        kind: ``torch`` (``torch.export``, read by ``torch.export.load(path).module()``) or ``onnx``.

    Raises:
        InputError: unknown kind.
        MissingExtraError: onnx without onnx and onnxscript.
    """
    if kind not in PROJECTOR_KINDS:
        raise InputError(f"export of projectors as {kind!r}: expected one of {', '.join(PROJECTOR_KINDS)}")
    suffix, serialise = PROJECTOR_KINDS[kind]
    written = []
    for name, encoder in space.encoders.items():
        done = dict[tuple[int, str], bytes]()
        for modality in encoder.modalities:
            bound = space.projector(name, modality).eval()
            # Modalities differ in their centres only; without centres one export serves them all.
            key = id(bound.projector), modality.value if modality in bound.projector.config.centered else ""
            if key not in done:
                done[key] = serialise(bound, encoder.dim)
            path = folder / f"{re.sub(r'[^A-Za-z0-9._-]+', '-', name)}-{modality.value}{suffix}"
            write_atomic(path, done[key])
            written.append(path)
    return written


def _example(dim: int) -> tuple[tuple[torch.Tensor], Any]:
    # Three rows: a batch of one or two would be taken for a constant.
    return (torch.nn.functional.normalize(torch.ones(3, dim)),), ({0: torch.export.Dim("rows", min=1)},)


def _torch(module: torch.nn.Module, dim: int) -> bytes:
    arguments, dynamic = _example(dim)
    buffer = io.BytesIO()
    torch.export.save(torch.export.export(module, arguments, dynamic_shapes=dynamic), buffer)
    return buffer.getvalue()


def _onnx(module: torch.nn.Module, dim: int) -> bytes:
    arguments, dynamic = _example(dim)
    try:
        import onnx  # noqa: F401
        import onnxscript  # type: ignore[import-untyped, unused-ignore] # noqa: F401
    except ImportError as error:
        raise MissingExtraError("onnx and onnxscript", "onnx", "export as ONNX") from error
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    with warnings.catch_warnings():
        # torch's exporter warns of its own deprecated calls and of libraries that are not there; neither can be helped.
        warnings.filterwarnings("ignore", module=r"(torch|onnxscript|onnx_ir|copyreg)(\..*)?")
        logger.setLevel(logging.ERROR)
        try:
            program = torch.onnx.export(
                module,
                arguments,
                dynamo=True,
                dynamic_shapes=dynamic,
                verbose=False,
                input_names=["vectors"],
                output_names=["projected"],
            )
        finally:
            logger.setLevel(level)
    if program is None:
        raise ArtifactError("torch.onnx returned no program for this projector; export as torch instead")
    data: bytes = program.model_proto.SerializeToString()
    return data


PROJECTOR_KINDS: dict[str, tuple[str, Callable[[torch.nn.Module, int], bytes]]] = {
    "torch": (".pt2", _torch),
    "onnx": (".onnx", _onnx),
}
