"""Errors a user can act on. The message is one line: the value, what was expected, the cure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CmcrError(Exception):
    """Base of every error that cmcr raises on purpose; the command line prints it as one line and exits 1.

    >>> from cmcr import CmcrError, Memory, load_encoder
    >>> from cmcr.decode import read_image
    >>> for mistake in (lambda: load_encoder("clop"), lambda: Memory.open("nowhere"), lambda: read_image(b"text")):
    ...     try:
    ...         mistake()
    ...     except CmcrError as error:
    ...         print(f"{type(error).__name__}: {error}")
    UnknownEncoderError: unknown encoder 'clop'; expected one of tiny-clip, ...; did you mean 'clip'?
    ArtifactError: nowhere: does not exist; expected a memory made by cmcr embed
    ItemError: not a picture that Pillow can read
    """


class InputError(CmcrError):
    """A path, value or file given by the user cannot be used."""


class UnknownEncoderError(InputError):
    """No encoder has this name."""


class ItemError(CmcrError):
    """One item of a batch cannot be read or embedded; the batch goes on and the item is listed with this reason."""


class ArtifactError(CmcrError):
    """A memory, run, space or index is missing, damaged, in use, or does not belong to the others."""


class MissingExtraError(CmcrError):
    """An optional library is not installed; the message holds its pip command."""

    def __init__(self, library: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs {library}, which is not installed: pip install 'cmcr[{extra}]'")


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the known name closest to ``name``, or an empty string."""
    close = difflib.get_close_matches(name, [str(each) for each in known], n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""
