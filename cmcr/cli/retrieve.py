"""``cmcr retrieve``: ask a space."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cmcr import console
from cmcr.cli.modalities import modality_option
from cmcr.cli.options import EncoderWeight, MediaRoot, WeightPreset, previews_in, warn_of_outside
from cmcr.errors import InputError
from cmcr.modality import Modality

if TYPE_CHECKING:
    from cmcr.ask import Hit, Query
    from cmcr.memory import Memory
    from cmcr.report import Previews

Kind = Literal["exact", "flat", "hnsw", "ivf"]
_SPACE = typer.Argument(help="A space folder made by cmcr connect.", show_default=False)


def retrieve(
    space: Annotated[Path, _SPACE],
    gallery: Annotated[
        list[Path],
        typer.Option(
            "--in",
            help="The memory to look in; of several encoders', rows of one id are one item, else each stands alone.",
            show_default=False,
        ),
    ],
    query: Annotated[
        str | None,
        typer.Argument(help="A text, a file, or MEMORY[:MODALITY]#ID: a row of a memory.", show_default=False),
    ] = None,
    modality: Annotated[
        Modality | None, modality_option(help="What to look for; may be left out where the memory holds one modality.")
    ] = None,
    where: Annotated[
        str | None,
        typer.Option(
            help="Only rows of which this holds: year >= 2020 and license = 'cc0'; see cmcr columns.",
            metavar="CONDITION",
            show_default=False,
        ),
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
        Kind,
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
    from cmcr.memory import Memory, translation_notes
    from cmcr.space import ConnectedSpace

    opened, memories = ConnectedSpace.from_pretrained(space), [Memory.open(path) for path in gallery]
    wanted = modality_of(memories[0], modality)
    given: dict[str, Any] = {"weights": weights or (), "shares": weight or (), "preset": preset}
    subject = Subject(str(space), opened, device=choose_device(device), **given)
    searched_in, index, told = _filtered(memories, wanted, where, index)
    memory = subject.merged(searched_in, wanted)
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
    facts = {"space": str(space)} | facts_of(opened, memory, wanted, index, searched) | told | subject.told_shares()
    for note in (*partly_seen(memory), *translation_notes(memory)):
        console.say(note)
    _tell(facts, k)
    if html:
        previews = previews_in(media_root or ())
        _write_page(html, retrieval_page(asked, hits, memory, wanted, facts, previews), previews)
    _show(asked, hits, facts, as_json, many=query is None)
    if not html:
        flags: dict[str, Any] = {"--in": gallery, "--encoder": encoder, "--weight": weight, "--modality": [wanted]}
        flags |= {"--preset": [preset] if preset else [], "--where": [where] if where else [], "-k": [k]}
        _tell_page(space, [query] if query is not None else ["--queries", str(queries)], flags)


def _tell_page(space: Path, asked: list[str], flags: dict[str, Any]) -> None:
    """Tell the command that shows the same answer as a page."""
    again = asked + [text for flag, values in flags.items() for each in values or () for text in (flag, str(each))]
    console.say("next: " + shlex.join(["cmcr", "retrieve", str(space), *again, "--html", "hits.html"]))


def _filtered(
    memories: Sequence[Memory], modality: Modality, where: str | None, index: Kind
) -> tuple[Sequence[Memory], Kind, dict[str, Any]]:
    """Return the rows of memories that meet a condition, how to search them, and what an answer tells of it."""
    if where is None:
        return memories, index, {}
    from cmcr.ask import filter_rows

    kept = [filter_rows(memory, modality, where) for memory in memories]
    for each in kept:
        console.say(each.told())
    if index != "exact":
        console.say(f"--index {index} knows nothing of --where: the rows that are left are compared exactly")
    counts = {"rows": sum(each.of for each in kept), "lacking": sum(each.unknown for each in kept)}
    return kept, "exact", {"where": {"condition": where} | counts}


def _tell(facts: dict[str, Any], k: int) -> None:
    if facts["gallery"] < k:
        console.say(f"the gallery holds {facts['gallery']} rows, fewer than -k {k}: all of them are shown")
    if "scores" in facts:
        console.say(f"scores are debiased: {facts['scores']}")


def modality_of(memory: Memory, modality: Modality | None) -> Modality:
    """Return the modality asked for, or the only one of a memory."""
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
    apart = any(hit.memory for found in hits for hit in found)
    rows = [
        [*([query.name] if many else []), hit.rank, f"{hit.score:.4f}", *_cells(hit, apart)]
        for query, found in zip(queries, hits, strict=True)
        for hit in found
    ]
    title = None if many else f"{queries[0].name} -> {facts['modality']} in {facts['memory']}"
    columns = [*(["query"] if many else []), "rank", "score", *(["memory"] if apart else []), "id", "what"]
    console.show_table(columns, rows, title=title)


def _cells(hit: Hit, apart: bool) -> list[str]:
    return [*([hit.memory or ""] if apart else []), hit.id, hit.text or hit.path or hit.source]


def _write_page(path: Path, page: str, previews: Previews) -> None:
    from cmcr.files import write_text

    write_text(path, page)
    warn_of_outside(previews)
    console.say(f"wrote {path}: open it in a browser")
