"""``cmcr retrieve``, ``cmcr index``, ``cmcr export``: ask a space, make asking fast, take it elsewhere."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cmcr import console
from cmcr.cli.modalities import memory_side, modality_option
from cmcr.cli.options import EncoderWeight, MediaRoot, WeightPreset, previews_in, warn_of_outside
from cmcr.errors import InputError
from cmcr.modality import Modality

if TYPE_CHECKING:
    from cmcr.ask import Debias, Hit, Query
    from cmcr.memory import Memory
    from cmcr.report import Previews

_SPACE = typer.Argument(help="A space folder made by cmcr connect.", show_default=False)
Against = Annotated[
    str | None,
    typer.Option(
        "--debias",
        metavar="MEMORY:MODALITY",
        help="Take from each row what it owes to lying near everything: rows like the queries, of the space.",
        show_default=False,
    ),
]
DebiasK = Annotated[
    int | None, typer.Option(help="Reference rows that count for a row. (default: 128)", show_default=False)
]
DebiasAlpha = Annotated[
    float | None,
    typer.Option(help="How much of their mean cosine a row's score loses. (default: 0.75)", show_default=False),
]


def retrieve(
    space: Annotated[Path, _SPACE],
    gallery: Annotated[
        list[Path],
        typer.Option(
            "--in", help="The memory to look in; of several, rows of one id are one item.", show_default=False
        ),
    ],
    query: Annotated[
        str | None,
        typer.Argument(help="A text, a file, or MEMORY[:MODALITY]#ID: a row of a memory.", show_default=False),
    ] = None,
    modality: Annotated[
        Modality | None, modality_option(help="What to look for; may be left out where the memory holds one modality.")
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Hits a query.")] = 10,
    queries: Annotated[
        str | None, typer.Option(help="Many queries: a folder, glob, text file (one a line), manifest or tar.")
    ] = None,
    query_modality: Annotated[
        Modality | None, modality_option(help="The queries' modality, where it is not seen.")
    ] = None,
    encoder: Annotated[
        list[str] | None,
        typer.Option(help="Which encoder embeds the query; several are mixed. (default: the space's first that can)"),
    ] = None,
    weight: EncoderWeight = None,
    preset: WeightPreset = None,
    index: Annotated[
        Literal["exact", "flat", "hnsw", "ivf"],
        typer.Option(help="How to search; all but exact need cmcr index first."),
    ] = "exact",
    device: Annotated[str, typer.Option(help="Where the encoder runs: auto, cpu, cuda or mps.")] = "auto",
    weights: Annotated[
        list[Path] | None, typer.Option(help="Encoders' weights: files, or folders that hold them.")
    ] = None,
    up: Annotated[
        Literal["y", "z"] | None,
        typer.Option(help="The axis that points up in the query's point clouds. (default: as the encoder expects)"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    html: Annotated[Path | None, typer.Option(help="Also write a page to look at and listen to.")] = None,
    media_root: MediaRoot = None,
) -> None:
    """Find the rows of a memory nearest to a query of any modality of the space."""
    if (query is None) == (queries is None):
        raise typer.BadParameter("expected a QUERY or --queries FILE, and not both", param_hint="QUERY")
    from cmcr.ask import CHECKED_BYTES, Subject, ask, ask_many, open_index, retrieval_page
    from cmcr.ask.gallery import partly_seen
    from cmcr.ask.retrieve import facts_of
    from cmcr.ask.retrieve import retrieve as find
    from cmcr.devices import choose_device
    from cmcr.memory import Memory
    from cmcr.space import ConnectedSpace

    opened, memories = ConnectedSpace.from_pretrained(space), [Memory.open(path) for path in gallery]
    wanted = _modality(memories[0], modality)
    given: dict[str, Any] = {"weights": weights or (), "shares": weight or (), "preset": preset}
    subject = Subject(str(space), opened, device=choose_device(device), **given)
    memory = subject.gallery(memories, wanted)
    if not memory.check_content(wanted, CHECKED_BYTES):
        console.say(
            f"{memory.path}: too large to be compared with its sha256 at each query; cmcr info --verify does that"
        )
    searched = open_index(opened, memory, wanted, index, str(space))
    options: dict[str, Any] = {"modality": query_modality, "encoder": encoder, "up": up}
    if query is not None:
        asked = [ask(subject, query, **options)]
    else:
        asked, failed = ask_many(subject, str(queries), **options)
        for item, reason in failed:
            console.warn(f"{item.source}: {reason}; left out")
    subject.check_shares([(memory, wanted)], [each.modality for each in asked if each.memory is None])
    for each in asked:
        if each.note:
            console.warn(f"{each.name}: {each.note}")
    hits = find(opened, asked, memory, wanted, k, searched)
    facts = {"space": str(space)} | facts_of(opened, memory, wanted, index, searched) | subject.told_shares()
    for note in partly_seen(memory):
        console.say(note)
    _tell(facts, k)
    if html:
        previews = previews_in(media_root or ())
        _write_page(html, retrieval_page(asked, hits, memory, wanted, facts, previews), previews)
    _show(asked, hits, facts, as_json, many=query is None)
    if not html:
        flags: dict[str, Any] = {"--in": gallery, "--encoder": encoder, "--weight": weight, "--modality": [wanted]}
        flags |= {"--preset": [preset] if preset else [], "-k": [k]}
        again = [query] if query is not None else ["--queries", str(queries)]
        again += [text for flag, values in flags.items() for each in values or () for text in (flag, str(each))]
        console.say("next: " + shlex.join(["cmcr", "retrieve", str(space), *again, "--html", "hits.html"]))


def _tell(facts: dict[str, Any], k: int) -> None:
    if facts["gallery"] < k:
        console.say(f"the gallery holds {facts['gallery']} rows, fewer than -k {k}: all of them are shown")
    if "scores" in facts:
        console.say(f"scores are debiased: {facts['scores']}")


def _modality(memory: Memory, modality: Modality | None) -> Modality:
    if modality is not None:
        return modality
    if len(memory.modalities) != 1:
        held = " and ".join(memory.modalities) or "nothing"
        raise InputError(f"{memory.path} holds {held}; choose what to look for with --modality")
    return memory.modalities[0]


def _show(
    queries: Sequence[Query], hits: Sequence[Sequence[Hit]], facts: dict[str, Any], as_json: bool, many: bool
) -> None:
    if as_json:
        from cmcr.ask.retrieve import as_answers

        console.show_json(facts | as_answers(queries, hits, many=many))
        return
    rows = [
        [*([query.name] if many else []), hit.rank, f"{hit.score:.4f}", hit.id, hit.text or hit.path or hit.source]
        for query, found in zip(queries, hits, strict=True)
        for hit in found
    ]
    title = None if many else f"{queries[0].name} -> {facts['modality']} in {facts['memory']}"
    console.show_table([*(["query"] if many else []), "rank", "score", "id", "what"], rows, title=title)


def _write_page(path: Path, page: str, previews: Previews) -> None:
    from cmcr.files import write_text

    write_text(path, page)
    warn_of_outside(previews)
    console.say(f"wrote {path}: open it in a browser")


def index(
    memory: Annotated[Path, typer.Argument(help="The memory to index.", show_default=False)],
    space: Annotated[Path, typer.Option(help="The space it is searched in.", show_default=False)],
    modality: Annotated[
        Modality | None, modality_option(help="Of the memory; may be left out where it holds one.", show_default=False)
    ] = None,
    kind: Annotated[
        Literal["flat", "hnsw", "ivf"],
        typer.Option(help="flat is exact; hnsw is fast and large; ivf is smaller and maps into memory."),
    ] = "hnsw",
    seed: Annotated[int, typer.Option(min=0, help="Of the clustering of ivf.")] = 0,
    debias: Against = None,
    debias_k: DebiasK = None,
    debias_alpha: DebiasAlpha = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Build a FAISS index of a memory as it lies in a space, kept beside the memory."""
    from cmcr.ask import make_index
    from cmcr.memory import Memory
    from cmcr.space import ConnectedSpace

    opened = Memory.open(memory)
    wanted = _modality(opened, modality)
    against = _debias(debias, debias_k, debias_alpha)
    path, info = make_index(ConnectedSpace.from_pretrained(space), opened, wanted, kind, seed, against)
    if as_json:
        console.show_json({"index": str(path)} | asdict(info))
    else:
        settings = ", ".join(f"{name} {value}" for name, value in info.parameters.items())
        console.show_table(("index", "kind", "rows", "dim", "settings"), [(path, kind, info.rows, info.dim, settings)])
    if info.bias:
        console.say(f"debiased: a score is the cosine less the row's bias, {info.bias}")
    console.say(f"next: cmcr retrieve {space} QUERY --in {memory} --modality {wanted} --index {kind}")


def _debias(against: str | None, k: int | None, alpha: float | None) -> Debias | None:
    given: dict[str, Any] = {name: value for name, value in (("k", k), ("alpha", alpha)) if value is not None}
    if against is None:
        if given:
            raise typer.BadParameter("is a setting of --debias MEMORY:MODALITY", param_hint=f"--debias-{min(given)}")
        return None
    path, modality = memory_side(against, "--debias")
    from cmcr.ask import Debias
    from cmcr.memory import Memory

    return Debias(Memory.open(path), modality, **given)


def export(
    space: Annotated[Path, _SPACE],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to write into.", show_default=False)],
    memory: Annotated[
        Path | None, typer.Argument(help="A memory, for npy, parquet and faiss.", show_default=False)
    ] = None,
    kind: Annotated[
        Literal["npy", "parquet", "faiss", "torch", "onnx"],
        typer.Option(
            "--format", help="npy, parquet, faiss: a memory's projected vectors. torch, onnx: the projectors."
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

    opened, against = ConnectedSpace.from_pretrained(space), _debias(debias, debias_k, debias_alpha)
    if memory is None:
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
    console.say(f"next: {_HINTS[kind].format(path=written[0])}")


_HINTS = {
    "npy": "numpy.load('{path}', mmap_mode='r')",
    "parquet": "pyarrow.parquet.read_table('{path}'), or import it into a vector database",
    "faiss": "faiss.read_index('{path}', faiss.IO_FLAG_MMAP)",
    "torch": "torch.export.load('{path}').module()(vectors)",
    "onnx": "onnxruntime.InferenceSession('{path}').run(None, {{'vectors': vectors}})",
}
