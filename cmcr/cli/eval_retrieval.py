"""``cmcr eval retrieval``: recall both ways over the pairs of a data set, or of two memories."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cmcr import console
from cmcr.cli.modalities import memory_side
from cmcr.cli.options import (
    AsJson,
    Device,
    EncoderWeight,
    MediaRoot,
    PrecisionName,
    SubjectName,
    Weights,
    open_subject,
    previews_in,
    warn_of_outside,
)
from cmcr.cli.results import folder_name, present
from cmcr.errors import InputError
from cmcr.modality import Modality

if TYPE_CHECKING:
    from cmcr.ask import Subject
    from cmcr.evaluate.retrieval.clips import Pair
    from cmcr.evaluate.retrieval.pairs import Paired

_MEMORIES = "Two memories"
_DATA = "A data set"
_OUT = Path("results/retrieval")


def retrieval(
    subject: SubjectName,
    data: Annotated[
        Path | None,
        typer.Option(
            help="A data set: AVE, VGG-SS or Flickr-SoundNet as downloaded, or a JSONL or CSV manifest of pairs.",
            rich_help_panel=_DATA,
        ),
    ] = None,
    layout: Annotated[
        Literal["ave", "vggss", "flickr", "pairs"] | None,
        typer.Option(help="How the data set lies. (default: seen from what is there)", rich_help_panel=_DATA),
    ] = None,
    split: Annotated[
        Literal["test", "val", "train", "all"], typer.Option(help="Which part of it.", rich_help_panel=_DATA)
    ] = "test",
    frames: Annotated[
        str,
        typer.Option(
            help="Which frame of a video: middle; mean:N, the mean of N evenly spaced ones; event, the middle of what "
            "AVE annotates.",
            rich_help_panel=_DATA,
        ),
    ] = "middle",
    modalities: Annotated[
        str | None,
        typer.Option(help="Which two, e.g. image,text. (default: the only two there are)", rich_help_panel=_DATA),
    ] = None,
    encoder: Annotated[
        list[str] | None,
        typer.Option(
            help="Who embeds what several encoders of the space can. (default: the first)", rich_help_panel=_DATA
        ),
    ] = None,
    up: Annotated[
        Literal["y", "z"] | None,
        typer.Option(
            help="The axis that points up in point clouds. (default: as the encoder expects)", rich_help_panel=_DATA
        ),
    ] = None,
    a: Annotated[
        list[str] | None,
        typer.Option("--a", help="MEMORY:MODALITY, e.g. mem/clap:audio; may be repeated.", rich_help_panel=_MEMORIES),
    ] = None,
    b: Annotated[
        list[str] | None, typer.Option("--b", help="MEMORY:MODALITY of the partners.", rich_help_panel=_MEMORIES)
    ] = None,
    weight: EncoderWeight = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Folder for result.json, the page and the vectors. (default: results/retrieval for --data)",
        ),
    ] = None,
    html: Annotated[
        bool, typer.Option("--html", help="Also write index.html: queries, their hits, the ranks.")
    ] = False,
    media_root: MediaRoot = None,
    as_json: AsJson = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 when pairs are missing.")] = False,
    device: Device = "auto",
    weights: Weights = None,
    precision: PrecisionName = "fp32",
) -> None:
    """Retrieval over pairs, both ways: a picture for its sound and a sound for its picture, or any other two.

    recall@k is the share of queries with a right answer among the first k, ties counted against it. Pairs come from a
    data set (--data), or from two memories whose rows carry the same ids (--a and --b). Where a side is several
    memories, rows of one id are one item, which each of their encoders sees.
    """
    _check(data, a, b, out)
    if data is None:
        sides = _side(a or [], "--a"), _side(b or [], "--b")
        paired, method = _of_memories(open_subject(subject, device, weights, precision, weight), sides)
        folder = out
    else:
        folder = out or _OUT
        options = {"device": device, "weights": weights or (), "precision": precision, "shares": weight or ()}
        reading = {"layout": layout, "split": split, "frames": _frames(frames)}
        asking = {"pair": _pair(modalities), "encoders": encoder or (), "up": up}
        paired, method = _of_data(subject, data, folder, options, reading, asking)
    roots = [*(media_root or ()), *([data] if data is not None and data.is_dir() else [])]
    _present(paired, subject, method, folder, html=html, as_json=as_json, strict=strict, roots=roots)
    _tell_next(subject, method, data, b[0] if b else "", folder, html)


def _check(data: Path | None, a: list[str] | None, b: list[str] | None, out: Path | None) -> None:
    if (data is None) != bool(a) or bool(a) != bool(b):
        raise typer.BadParameter("expected --data, or both --a and --b", param_hint="--data")
    if data is not None and out is not None and out.suffix == ".json":
        raise typer.BadParameter(f"{out}: expected a folder, for vectors are kept in it too", param_hint="--out")


def _frames(text: str) -> str:
    from cmcr.datasets.clips import FrameChoice

    try:
        return str(FrameChoice.of(text))
    except InputError as error:
        raise typer.BadParameter(str(error), param_hint="--frames") from None


def _pair(text: str | None) -> Pair | None:
    if text is None:
        return None
    names = text.split(",")
    if len(set(names)) != 2 or len(names) != 2 or not set(names) <= set(Modality):
        expected = f"expected two of {', '.join(Modality)} with a comma between"
        raise typer.BadParameter(f"{text!r}; {expected}", param_hint="--modalities")
    return Modality(names[0]), Modality(names[1])


def _side(given: list[str], option: str) -> tuple[list[Path], Modality]:
    sides = [memory_side(each, option) for each in given]
    kinds = dict.fromkeys(modality for _, modality in sides)
    if len(kinds) > 1:
        raise typer.BadParameter(f"{' and '.join(kinds)}; one side is of one modality", param_hint=option)
    return [path for path, _ in sides], sides[0][1]


def _of_memories(subject: Subject, sides: Sequence[tuple[list[Path], Modality]]) -> tuple[Paired, str]:
    from cmcr.evaluate.retrieval.pairs import evaluate_memories
    from cmcr.memory import Memory

    opened = [(subject.gallery([Memory.open(each) for each in paths], modality), modality) for paths, modality in sides]
    return evaluate_memories(subject, *opened[0], *opened[1]), subject.method


def _of_data(
    subject: str, data: Path, out: Path, options: dict[str, Any], reading: dict[str, Any], asking: dict[str, Any]
) -> tuple[Paired, str]:
    from cmcr.ask import Subject
    from cmcr.datasets import read_clips
    from cmcr.devices import choose_device
    from cmcr.evaluate.retrieval.clips import evaluate

    own = folder_name(data)
    with console.progress("reading clips") as progress:
        clips = read_clips(data, unpack=out / "unpacked" / own, progress=progress, **reading)
    opened = Subject.open(subject, **options | {"device": choose_device(options["device"])})
    with console.progress("embedding") as progress:
        paired = evaluate(opened, clips, folder=out / "memories" / own, progress=progress, **asking)
    return paired, opened.method


def _present(
    paired: Paired,
    subject: str,
    method: str,
    out: Path | None,
    *,
    html: bool,
    as_json: bool,
    strict: bool,
    roots: Sequence[Path],
) -> None:
    from cmcr.files import write_text

    page = None
    if out is not None and out.suffix == ".json":
        paired.result.save(out)
        out = None
    if html:
        from cmcr.evaluate.retrieval.page import paired_page

        out = out or _OUT
        previews = previews_in(roots)
        page = paired_page(paired, subject, previews)
        warn_of_outside(previews)
    if paired.missing and out is not None:
        lines = [json.dumps({"id": name, "reason": reason}) + "\n" for name, reason in paired.missing]
        write_text(out / "skipped.jsonl", "".join(lines))
        console.say(f"what is missing: {out / 'skipped.jsonl'}")
    title = f"{paired.result.name} in {subject} ({method})"
    present(paired.result, title=title, as_json=as_json, strict=strict, out=out, page=page)


def _tell_next(subject: str, method: str, data: Path | None, partners: str, out: Path | None, html: bool) -> None:
    if data is not None and not html:
        again = ["cmcr", "eval", "retrieval", subject, "--data", str(data), "-o", str(out), "--html"]
        console.say(f"next: {shlex.join(again)}, with the same options, to see and hear the hits")
    elif data is not None:
        console.say(f"next: cmcr eval compare, to set {subject} beside another space")
    elif method == "encoder":
        console.say("next: cmcr connect MEMORY MEMORY -o SPACE, to join this encoder's modalities with another's")
    else:
        memory, _, modality = partners.rpartition(":")
        console.say(f"next: cmcr retrieve {subject} QUERY --in {memory} --modality {modality} --html hits.html")
