"""How the command line takes a modality: alone, or after the memory that holds it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from cmcr.errors import CmcrError, nearest
from cmcr.modality import OWN, Modality, ModalityError, in_order


def modality_option(*flags: str, **settings: Any) -> Any:
    """Return a Typer option that takes the name of any modality; help and completion list the registered ones."""
    try:
        names = f"<{'|'.join(Modality)}|NAME>"
    except CmcrError:  # the list of installed packages is damaged; what needs it tells so
        names = f"<{'|'.join(OWN)}|NAME>"
    return typer.Option(*flags, parser=_parsed, metavar=names, autocompletion=_completions, **settings)


def _parsed(name: str) -> Modality:
    try:
        return Modality(name)
    except ModalityError as error:
        raise typer.BadParameter(str(error)) from None


def _completions(incomplete: str) -> list[str]:
    return [name for name in Modality if name.startswith(incomplete)]


def memory_side(value: str, option: str) -> tuple[Path, Modality]:
    """Return the two parts of MEMORY:MODALITY.

    Raises:
        typer.BadParameter: there are no two, or the modality is neither registered nor held by the memory.
    """
    path, _, name = value.rpartition(":")
    known = in_order({*Modality, *_held(path)})
    if not path or name not in known:
        expected = f"expected MEMORY:MODALITY with one of {', '.join(known)}{nearest(name, known)}"
        raise typer.BadParameter(f"{value!r}: {expected}", param_hint=option)
    return Path(path), Modality(name)


def names_side(value: str) -> bool:
    """Tell whether a text reads as MEMORY:MODALITY."""
    path, _, name = value.rpartition(":")
    return bool(path) and (name in Modality or name in _held(path))


def _held(path: str) -> tuple[Modality, ...]:
    from cmcr.memory import Memory

    try:
        return Memory.open(path).modalities if path else ()
    except (CmcrError, OSError, ValueError):  # whoever opens it tells what is wrong with it
        return ()
