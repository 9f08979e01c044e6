"""``cmcr eval retrieval``: recall both ways over the pairs of a data set, or of two memories."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cmcr import console
from cmcr.cli.flags import with_flags
from cmcr.cli.modalities import one_modality
from cmcr.cli.options import EncoderWeight, MediaRoot, Run, SubjectName, WeightPreset, previews_in, warn_of_outside
from cmcr.cli.results import folder_name, tell_next
from cmcr.errors import InputError
from cmcr.evaluate.retrieval.choices import DATA, Choices
from cmcr.modality import Modality
from cmcr.settings import setting

if TYPE_CHECKING:
    from cmcr.ask import Subject
    from cmcr.evaluate.retrieval.clips import Pair
    from cmcr.evaluate.retrieval.pairs import Paired

_MEMORIES = "Two memories"
_OUT = Path("results/retrieval")


@dataclass(frozen=True)
class _Run(Run):
    strict: bool = setting(False, "Exit 1 when pairs are missing.")


@with_flags
def retrieval(
    subject: SubjectName,
    data: Annotated[
        Path | None,
        typer.Option(
            help="A data set as downloaded: AVE, VGG-SS, VGGSound-AV, Flickr-SoundNet; or a manifest (JSONL, CSV).",
            rich_help_panel=DATA,
        ),
    ] = None,
    *,
    choices: Choices,
    a: Annotated[
        list[str] | None,
        typer.Option("--a", help="MEMORY:MODALITY, e.g. mem/clap:audio; may be repeated.", rich_help_panel=_MEMORIES),
    ] = None,
    b: Annotated[
        list[str] | None, typer.Option("--b", help="MEMORY:MODALITY of the partners.", rich_help_panel=_MEMORIES)
    ] = None,
    weight: EncoderWeight = None,
    preset: WeightPreset = None,
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
    run: _Run,
) -> None:
    """Retrieval over pairs, both ways: a picture for its sound and a sound for its picture, or any other two.

    recall@k is the share of queries with a right answer among the first k, ties counted against it. Pairs come from a
    data set (--data), or from two memories whose rows carry the same ids (--a and --b). Where a side is several
    memories, rows of one id are one item, which each of their encoders sees.
    """
    _check(data, a, b, out)
    if data is None:
        sides = one_modality(a or [], "--a"), one_modality(b or [], "--b")
        opened = run.open(subject, weight, preset)
        paired, folder = _of_memories(opened, sides), out
    else:
        folder = out or _OUT
        opened, paired = _of_data(lambda: run.open(subject, weight, preset), data, folder, choices)
    roots = [*(media_root or ()), *([data] if data is not None and data.is_dir() else [])]
    _present(paired, opened, folder, roots if html else None, run)
    _tell_next(opened, data, b[0] if b else "", folder, html)


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


def _of_memories(subject: Subject, sides: Sequence[tuple[list[Path], Modality]]) -> Paired:
    from cmcr.evaluate.retrieval.pairs import evaluate_memories
    from cmcr.memory import Memory

    opened = [(subject.gallery([Memory.open(each) for each in paths], modality), modality) for paths, modality in sides]
    return evaluate_memories(subject, *opened[0], *opened[1])


def _of_data(opens: Callable[[], Subject], data: Path, out: Path, choices: Choices) -> tuple[Subject, Paired]:
    from cmcr.datasets import read_clips
    from cmcr.evaluate.retrieval.clips import evaluate

    own, frames, pair = folder_name(data), _frames(choices.frames), _pair(choices.modalities)
    with console.progress("reading clips") as progress:
        unpack = out / "unpacked" / own
        clips = read_clips(data, choices.layout, unpack=unpack, split=choices.split, frames=frames, progress=progress)
    subject, folder, encoders = opens(), out / "memories" / own, choices.encoder or ()
    with console.progress("embedding") as progress:
        return subject, evaluate(
            subject, clips, folder=folder, pair=pair, encoders=encoders, up=choices.up, progress=progress
        )


def _present(paired: Paired, subject: Subject, out: Path | None, shown: Sequence[Path] | None, run: Run) -> None:
    """Print and write a result; with a page, of files in the folders ``shown`` too, unless that is None."""
    from cmcr.files import write_text

    page = None
    if out is not None and out.suffix == ".json":
        paired.result.save(out)
        out = None
    if shown is not None:
        from cmcr.evaluate.retrieval.page import paired_page

        out = out or _OUT
        previews = previews_in(shown)
        page = paired_page(paired, subject.name, previews)
        warn_of_outside(previews)
    if paired.missing and out is not None:
        lines = [json.dumps({"id": name, "reason": reason}) + "\n" for name, reason in paired.missing]
        write_text(out / "skipped.jsonl", "".join(lines))
        console.say(f"what is missing: {out / 'skipped.jsonl'}")
    run.present(paired.result, f"{paired.result.name} in {subject.name} ({subject.method})", out, page)


def _tell_next(subject: Subject, data: Path | None, partners: str, out: Path | None, html: bool) -> None:
    if data is not None and not html:
        again = ["eval", "retrieval", subject.name, "--data", data, "-o", out, "--html"]
        tell_next(*again, then=", with the same options, to see and hear the hits")
    elif data is not None:
        tell_next("eval", "compare", then=f", to set {subject.name} beside another space")
    elif subject.space is None:
        tell_next("connect", then=" MEMORY MEMORY -o SPACE, to join this encoder's modalities with another's")
    else:
        memory, _, modality = partners.rpartition(":")
        then = f" {subject.name} QUERY --in {memory} --modality {modality} --html hits.html"
        tell_next("retrieve", then=then)
