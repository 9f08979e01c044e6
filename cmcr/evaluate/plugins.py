"""Evaluations of other installed packages: entry points of the group ``cmcr.evaluations``."""

from __future__ import annotations

import dataclasses
import json
import operator
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from cmcr.commands import EVALUATIONS
from cmcr.errors import CmcrError, InputError, nearest
from cmcr.hooks import Progress, silent
from cmcr.plugins import Plugin, Plugins, failure
from cmcr.settings import settings_of

if TYPE_CHECKING:
    from cmcr.ask import Subject
    from cmcr.evaluate.evaluation import Evaluation
    from cmcr.evaluate.result import Result

GROUP = "cmcr.evaluations"
TAKEN = frozenset({"subject", "out", "html", "as_json", "json", "strict", "device", "weights", "precision", "help"})
"""Names of the flags that every evaluation has."""
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")


def summaries() -> dict[str, str]:
    """Return each name that packages offer, with the package's own summary of itself; nothing of them is imported.

    Raises:
        InputError: a package's list cannot be read.
    """
    claims = Plugins(GROUP).claims
    return {
        name: " and ".join(f"{each.summary} ({each.package})".lstrip() for each in plugins)
        for name, plugins in claims.items()
        if name not in EVALUATIONS and _NAME.fullmatch(name)
    }


def load_evaluation(name: str) -> type[Evaluation]:
    """Return the class of an installed package's evaluation; its fields are its choices.

    Raises:
        InputError: nobody offers the name (the nearest is named), two packages do, or it is no evaluation.
    """
    return _class(_found(name))


def measure(
    name: str, subject: Subject | str, *, folder: Path | None = None, progress: Progress = silent, **choices: Any
) -> Result:
    """Measure a space or an encoder by an installed package's evaluation.

    Args:
        name: Of the evaluation.
        subject: A subject, or the folder of a space, or an encoder's name.
        folder: For what it keeps; None: nothing is kept.
        progress: Told as work proceeds.
        choices: Its fields.

    Returns:
        The result, named as the evaluation; its settings hold the choices, its versions the package's.

    Raises:
        InputError: as ``load_evaluation``; an unknown choice or an impossible value; or the package fails.
        CmcrError: whatever else it says to the user.
    """
    kind = load_evaluation(name)
    known = [each.name for each in settings_of(kind)]
    if unknown := [each for each in choices if each not in known]:
        told = f"expected one of {', '.join(known)}{nearest(unknown[0], known)}"
        raise InputError(f"evaluation {name!r} has no choice {unknown[0]!r}; {told}")
    if missing := [each.name for each in settings_of(kind) if each.needed and each.name not in choices]:
        raise InputError(f"evaluation {name!r}: no {missing[0]!r}; it must be given")
    return run_evaluation(name, kind(**choices), subject, folder, progress)


def run_evaluation(
    name: str, evaluation: Evaluation, subject: Subject | str, folder: Path | None, progress: Progress
) -> Result:
    """Let an evaluation of this name measure, and return its result whole.

    Raises:
        InputError: it fails, in whatever way, or returns no ``Result``.
    """
    from cmcr.ask import Subject

    opened = Subject.open(subject) if isinstance(subject, str) else subject
    start = time.perf_counter()
    with TemporaryDirectory() as nowhere, told_of(name) as found:
        measured = evaluation.measure(opened, folder or Path(nowhere), progress)
        return _whole(measured, found, evaluation, opened, round(time.perf_counter() - start, 3))


@contextmanager
def told_of(name: str) -> Iterator[Plugin]:
    """Turn whatever an evaluation's code raises into one line that names its package.

    Raises:
        InputError: it raised what is no word to the user.
    """
    found = _found(name)
    try:
        yield found
    except (CmcrError, OSError, MemoryError):
        raise
    except Exception as error:
        raise InputError(f"evaluation {found} failed ({failure(error)}); see what that package needs") from error


def _found(name: str) -> Plugin:
    plugins = Plugins(GROUP)
    if name in EVALUATIONS:
        raise InputError(f"evaluation {name!r} is cmcr's own, and no package's; call what cmcr.evaluate holds of it")
    found = plugins.find(name)
    if found is None:
        known = plugins.names()
        raise InputError(f"evaluation {name!r}; no installed package has it{nearest(name, known)}")
    return found


def _class(found: Plugin) -> type[Evaluation]:
    from cmcr.evaluate.evaluation import Evaluation

    kind = found.load()
    if not (isinstance(kind, type) and issubclass(kind, Evaluation) and "__dataclass_fields__" in vars(kind)):
        wrong = f"is {found.point.value}; expected a dataclass that is a subclass of cmcr.evaluate.Evaluation"
    elif odd := [each.name for each in settings_of(kind) if not each.known]:
        types = "bool, int, float, str, Path, a Literal of texts, or a list of one of these"
        wrong = f"has a choice {odd[0]} of no type of a flag; expected {types}"
    elif clash := TAKEN & {name for each in settings_of(kind) for name in (each.name, each.alias)}:
        wrong = f"names a choice {', '.join(sorted(clash))}, a flag that every evaluation has; expected another name"
    else:
        return kind
    raise InputError(f"evaluation {found} {wrong}: repair that package")


def _whole(result: Result, found: Plugin, evaluation: Evaluation, subject: Subject, seconds: float) -> Result:
    """Return a result of plain numbers, with what was chosen and whose it is."""
    settings = {"subject": subject.name, "method": subject.method, **evaluation.choices(), **result.settings}
    return dataclasses.replace(
        result,
        name=found.name,
        values={str(asked): _plain(numbers) for asked, numbers in result.values.items()},
        chance=_plain(result.chance),
        n=operator.index(result.n),
        gallery=operator.index(result.gallery),
        settings=json.loads(json.dumps(settings, default=str)),
        fingerprints={"subject": subject.fingerprint, **result.fingerprints},
        seconds=result.seconds or seconds,
        versions={**result.versions, found.package: found.version},
    )


def _plain(numbers: Mapping[str, Any]) -> dict[str, float]:
    return {str(name): float(value) for name, value in numbers.items()}
