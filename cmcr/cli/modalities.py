"""How the command line takes a modality: alone, or after the memory that holds it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from cmcr.errors import CmcrError, InputError
from cmcr.modality import OWN, Modality, ModalityError


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
    from cmcr.ask.row_names import split_side

    try:
        return split_side(value)
    except InputError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None


def one_modality(given: list[str], option: str) -> tuple[list[Path], Modality]:
    """Return the memories of a side and its one modality, of several MEMORY:MODALITY.

    Raises:
        typer.BadParameter: as ``memory_side``, or they say several modalities.
    """
    sides = [memory_side(each, option) for each in given]
    kinds = dict.fromkeys(modality for _, modality in sides)
    if len(kinds) > 1:
        raise typer.BadParameter(f"{' and '.join(kinds)}; one side is of one modality", param_hint=option)
    return [path for path, _ in sides], sides[0][1]


def names_side(value: str) -> bool:
    """Tell whether a text reads as MEMORY:MODALITY."""
    try:
        return bool(memory_side(value, ""))
    except typer.BadParameter:
        return False
