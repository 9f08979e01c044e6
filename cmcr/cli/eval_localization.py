"""``cmcr eval localization`` and ``cmcr eval counterfactual``: where in its picture a sound comes from, if at all."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cmcr import console
from cmcr.cli.options import PROTOCOL, WORK, AsJson, Device, PrecisionName, Strict, SubjectName, Weights, open_subject
from cmcr.cli.results import folder_name, present

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cmcr.datasets.clips import Clips
    from cmcr.evaluate.localization.locate import Located
    from cmcr.evaluate.localization.proposals import Proposals
    from cmcr.evaluate.result import Result

_Data = Annotated[
    Path, typer.Option(help="VGG-SS or Flickr-SoundNet: the folder of annotations and media.", show_default=False)
]
_Layout = Annotated[
    Literal["vggss", "flickr"] | None, typer.Option(help="How the data set lies. (default: seen from what is there)")
]
_Split = Annotated[
    Literal["test", "all"], typer.Option(help="The test list, or of Flickr-SoundNet all that is annotated.")
]
_Proposals = Annotated[
    str,
    typer.Option(
        help="Where to look: grid (100 windows), fine-grid (324), selective-search (OpenCV), or a JSON file that gives "
        "each picture's id a list of boxes, x0 y0 x1 y1 in fractions.",
        rich_help_panel=PROTOCOL,
    ),
]
_Limit = Annotated[
    int, typer.Option(min=1, help="Boxes kept of a selective search, the largest.", rich_help_panel=PROTOCOL)
]
_Map = Annotated[
    Literal["box", "heat"],
    typer.Option(
        "--map",
        help="The answer: the best box, or the upper half of the map of mean cosines, as the field's tables have it.",
        rich_help_panel=PROTOCOL,
    ),
]
_ImageEncoder = Annotated[
    str | None,
    typer.Option(help="Embeds the pictures. (default: the space's first that can)", rich_help_panel=PROTOCOL),
]
_AudioEncoder = Annotated[
    str | None, typer.Option(help="Embeds the sounds. (default: the space's first that can)", rich_help_panel=PROTOCOL)
]
_Memories = Annotated[
    Path | None,
    typer.Option(
        help="Folder for vectors and found boxes; one for both commands does nothing twice. (default: in --out)",
        rich_help_panel=WORK,
    ),
]
_Html = Annotated[bool, typer.Option("--html", help="Also write index.html: pictures with what is true and answered.")]


def localization(
    subject: SubjectName,
    data: _Data,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for results and vectors.")] = Path(
        "results/localization"
    ),
    layout: _Layout = None,
    split: _Split = "test",
    proposals: _Proposals = "grid",
    limit: _Limit = 200,
    shape: _Map = "box",
    image_encoder: _ImageEncoder = None,
    audio_encoder: _AudioEncoder = None,
    html: _Html = False,
    as_json: AsJson = False,
    strict: Strict = False,
    device: Device = "auto",
    weights: Weights = None,
    precision: PrecisionName = "fp32",
    memories: _Memories = None,
) -> None:
    """Sound source localisation: which part of its picture sounds? cIoU@0.5 and AUC on VGG-SS or Flickr-SoundNet.

    Boxes are proposed without listening; the one whose crop is nearest to the sound is the answer. Beside it stand the
    best proposal there was, the middle and the whole of the picture, and a proposal chosen at random.
    """
    from cmcr.evaluate.localization.locate import Choices, evaluate

    chosen = Choices(_opened(proposals, limit, memories or out), shape, "best", image_encoder, audio_encoder)
    clips = _read(data, layout, split, None, out)
    opened = open_subject(subject, device, weights, precision)
    with console.progress("looking") as progress:
        done = evaluate(opened, clips, chosen, folder=_memories(memories, out, data), progress=progress)
    page = None
    if html:
        from cmcr.evaluate.localization.page import localization_page

        page = localization_page(done, subject, shape)
    _show(done.result, done.located, out, page, as_json, strict)
    _tell_next("counterfactual" if html else "localization", subject, data, out, html)


def counterfactual(
    subject: SubjectName,
    data: _Data,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for results and vectors.")] = Path(
        "results/counterfactual"
    ),
    listing: Annotated[
        Path | None,
        typer.Option("--list", help="SLAVC's *_test_plus_silent.csv. (default: the one in --data or its metadata/)"),
    ] = None,
    layout: _Layout = None,
    split: _Split = "test",
    proposals: _Proposals = "grid",
    limit: _Limit = 200,
    shape: _Map = "box",
    confidence: Annotated[
        Literal["best", "top-quarter"],
        typer.Option(
            help="That something sounds: the best cosine, or as SLAVC the mean over the greatest quarter of the map.",
            rich_help_panel=PROTOCOL,
        ),
    ] = "best",
    image_encoder: _ImageEncoder = None,
    audio_encoder: _AudioEncoder = None,
    html: _Html = False,
    as_json: AsJson = False,
    strict: Strict = False,
    device: Device = "auto",
    weights: Weights = None,
    precision: PrecisionName = "fp32",
    memories: _Memories = None,
) -> None:
    """Counterfactual recognition: is what sounds in the picture at all? AP, max-F1, LocAcc on the Extended lists.

    To the ordinary test pairs come as many in which nothing in the picture sounds (SLAVC's Extended VGG-SS and Extended
    Flickr); each pair gets an answer as in localization, and a confidence.
    """
    from cmcr.evaluate.localization.counterfactual import evaluate
    from cmcr.evaluate.localization.locate import Choices

    chosen = Choices(_opened(proposals, limit, memories or out), shape, confidence, image_encoder, audio_encoder)
    clips = _read(data, layout, split, listing or _found_list(data), out)
    opened = open_subject(subject, device, weights, precision)
    with console.progress("looking") as progress:
        done = evaluate(opened, clips, chosen, folder=_memories(memories, out, data), progress=progress)
    page = None
    if html:
        from cmcr.evaluate.localization.page import counterfactual_page

        page = counterfactual_page(done, subject, shape)
    _show(done.result, done.located, out, page, as_json, strict)
    _tell_next("localization" if html else "counterfactual", subject, data, out, html)


def _opened(choice: str, limit: int, folder: Path) -> Proposals:
    from cmcr.evaluate.localization.proposals import open_proposals

    return open_proposals(choice, limit, keep=folder / "proposals")


def _read(data: Path, layout: str | None, split: str, listing: Path | None, out: Path) -> Clips:
    from cmcr.datasets import read_clips

    with console.progress("reading clips") as progress:
        unpack = out / "unpacked" / folder_name(data)
        return read_clips(data, layout, unpack=unpack, split=split, listing=listing, progress=progress)


def _found_list(data: Path) -> Path:
    """Return the one extended list of a data set.

    Raises:
        InputError: there is none, or several.
    """
    from cmcr.errors import InputError

    folders = (data, data / "metadata", data / "data")
    found = [path for folder in folders for path in sorted(folder.glob("*_test_plus_silent.csv"))]
    if len(found) != 1:
        looked = f"{data}: {len(found)} lists named *_test_plus_silent.csv in it, its metadata/ and data/"
        raise InputError(f"{looked}; give the one to use with --list FILE")
    return found[0]


def _memories(given: Path | None, out: Path, data: Path) -> Path:
    return (given or out / "memories") / folder_name(data)


def _show(result: Result, located: Sequence[Located], out: Path, page: str | None, as_json: bool, strict: bool) -> None:
    from cmcr.evaluate.localization.locate import records
    from cmcr.files import write_text

    lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in records(located)]
    write_text(out / "predictions.jsonl", "".join(lines))
    console.say(f"every answer: {out / 'predictions.jsonl'}")
    title = f"{result.name} in {result.settings['subject']} ({result.settings['method']})"
    present(result, title=title, as_json=as_json, strict=strict, out=out, page=page)


def _tell_next(name: str, subject: str, data: Path, out: Path, html: bool) -> None:
    command = ["cmcr", "eval", name, subject, "--data", str(data)]
    if html:
        console.say(f"next: {shlex.join(command)}")
    else:
        shown = shlex.join([*command, "-o", str(out), "--html"])
        console.say(f"next: {shown}, with the same options, to see and hear the answers")
