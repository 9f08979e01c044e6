"""``cmcr export``: take vectors and projectors elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from cmcr import console
from cmcr.cli.modalities import modality_option
from cmcr.cli.search.index import Against, DebiasAlpha, DebiasK, read_debias
from cmcr.modality import Modality


def export(
    space: Annotated[Path, typer.Argument(help="A space folder made by cmcr connect.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to write into.", show_default=False)],
    memory: Annotated[
        Path | None, typer.Argument(help="A memory, for npy, parquet and faiss.", show_default=False)
    ] = None,
    kind: Annotated[
        Literal["npy", "parquet", "faiss", "torch", "onnx", "sentence-transformers"],
        typer.Option(
            "--format",
            help="npy, parquet, faiss: a memory's projected vectors. torch, onnx: the projectors. "
            "sentence-transformers: the space as a model folder of that library.",
        ),
    ] = "npy",
    modality: Annotated[
        Modality | None, modality_option(help="Only this modality of the memory. (default: all)")
    ] = None,
    debias: Against = None,
    debias_k: DebiasK = None,
    debias_alpha: DebiasAlpha = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Write projected vectors, or the projectors themselves, for other tools."""
    of_vectors = kind in ("npy", "parquet", "faiss")
    if of_vectors != (memory is not None):
        raise typer.BadParameter(
            f"--format {kind} writes "
            + ("a memory's vectors: name the memory" if of_vectors else "projectors: name no memory"),
            param_hint="MEMORY",
        )
    if debias is not None and not of_vectors:
        raise typer.BadParameter(f"is of vectors, and --format {kind} writes projectors", param_hint="--debias")
    from cmcr.ask import export_projectors, export_vectors
    from cmcr.ask.export import APPEND
    from cmcr.memory import Memory
    from cmcr.space import ConnectedSpace

    opened, against = ConnectedSpace.from_pretrained(space), read_debias(debias, debias_k, debias_alpha)
    if kind == "sentence-transformers":
        from cmcr.sharing.sentence_transformers import export_sentence_transformer

        written = export_sentence_transformer(opened, out)
    elif memory is None:
        written = export_projectors(opened, out, kind)
    else:
        source = Memory.open(memory)
        entry = opened.encoders.get(source.encoder.name)
        held = [each for each in source.modalities if entry is None or each in entry.modalities]
        chosen = [modality] if modality else held
        written = [path for each in chosen for path in export_vectors(opened, source, each, out, kind, against)]
    sizes = [(str(path), path.stat().st_size) for path in written]
    if as_json:
        console.show_json({"format": kind, "files": [{"path": path, "bytes": size} for path, size in sizes]})
    else:
        console.show_table(("file", "bytes"), sizes)
    if against is not None:
        console.say(f"debiased: {APPEND}")
    console.say(f"next: {_HINTS[kind].format(path=written[0], folder=out)}")


_HINTS = {
    "sentence-transformers": "SentenceTransformer('{folder}', trust_remote_code=True)",
    "npy": "numpy.load('{path}', mmap_mode='r')",
    "parquet": "pyarrow.parquet.read_table('{path}'), or import it into a vector database",
    "faiss": "faiss.read_index('{path}', faiss.IO_FLAG_MMAP)",
    "torch": "torch.export.load('{path}').module()(vectors)",
    "onnx": "onnxruntime.InferenceSession('{path}').run(None, {{'vectors': vectors}})",
}
