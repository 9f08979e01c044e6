"""``cmcr eval localization`` and ``cmcr eval counterfactual``: where in its picture a sound comes from, if at all."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cmcr import console
from cmcr.cli.flags import with_flags
from cmcr.cli.options import WORK, Run, SubjectName
from cmcr.cli.results import folder_name, tell_next
from cmcr.commands import EVALUATIONS
from cmcr.evaluate.localization.choices import Protocol

if TYPE_CHECKING:
    from cmcr.evaluate.localization.locate import Outcome


def _look(
    name: str,
    subject: SubjectName,
    data: Annotated[
        Path, typer.Option(help="VGG-SS or Flickr-SoundNet: the folder of annotations and media.", show_default=False)
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for results and vectors.")],
    *,
    choices: Any,
    html: Annotated[
        bool, typer.Option("--html", help="Also write index.html: pictures with what is true and answered.")
    ] = False,
    run: Run,
    memories: Annotated[
        Path | None,
        typer.Option(
            help="Folder for vectors and found boxes; one for both commands does nothing twice. (default: in --out)",
            rich_help_panel=WORK,
        ),
    ] = None,
) -> None:
    from cmcr.evaluate.localization import counterfactual, locate
    from cmcr.evaluate.localization.page import PAGES

    opened = choices.opened(memories or out)
    extended = name == "counterfactual"
    with console.progress("reading clips") as progress:
        clips = choices.read(data, out / "unpacked" / folder_name(data), progress, extended=extended)
    looking = run.open(subject)
    folder = (memories or out / "memories") / folder_name(data)
    with console.progress("looking") as progress:
        evaluate = counterfactual.evaluate if extended else locate.evaluate
        done = evaluate(looking, clips, opened, folder=folder, progress=progress)
    page = PAGES[name](done, subject, choices.shape) if html else None
    _write_answers(done, out)
    result = done.result
    title = f"{result.name} in {result.settings['subject']} ({result.settings['method']})"
    run.present(result, title, out, page)
    if html:
        tell_next("eval", "localization" if extended else "counterfactual", subject, "--data", data)
    else:
        again = ["eval", name, subject, "--data", data, "-o", out, "--html"]
        tell_next(*again, then=", with the same options, to see and hear the answers")


def _write_answers(done: Outcome, out: Path) -> None:
    from cmcr.evaluate.localization.locate import records
    from cmcr.files import write_text

    lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in records(done.located)]
    write_text(out / "predictions.jsonl", "".join(lines))
    console.say(f"every answer: {out / 'predictions.jsonl'}")


def _command(name: str, about: str, leave: tuple[str, ...] = ()) -> Any:
    command = with_flags(functools.partial(_look, name), Protocol, leave=leave, out=Path(f"results/{name}"))
    command.__doc__ = f"{EVALUATIONS[name][1]}\n{about}"
    return command


localization = _command(
    "localization",
    """
Boxes are proposed without listening; the one whose crop is nearest to the sound is the answer. Beside it stand the
best proposal there was, the middle and the whole of the picture, and a proposal chosen at random.
""",
    leave=("listing", "confidence"),
)
counterfactual = _command(
    "counterfactual",
    """
To the ordinary test pairs come as many in which nothing in the picture sounds (SLAVC's Extended VGG-SS and Extended
Flickr); each pair gets an answer as in localization, and a confidence.
""",
)
