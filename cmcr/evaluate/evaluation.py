"""What an evaluation of another package is: a dataclass whose fields are its choices, and which measures a subject."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmcr.settings import Checked, settings_of

if TYPE_CHECKING:
    from cmcr.ask import Subject
    from cmcr.evaluate.result import Result
    from cmcr.hooks import Progress
    from cmcr.report import Section

_SECTION = re.compile(r"\n\s*(Args|Attributes|Examples?|Raises|Returns):|\n\s*>>>")
"""Where the part of a docstring begins that is for programmers."""


@dataclass(frozen=True)
class Evaluation(Checked):
    """One measure of a space or an encoder; its fields, each a ``cmcr.settings.setting``, are its flags and keywords.

    The docstring is its help. docs/extending.md has one of a package's own, run by the tests.

    >>> from dataclasses import dataclass
    >>> from cmcr.evaluate import Evaluation
    >>> from cmcr.settings import setting
    >>> @dataclass(frozen=True)
    ... class Nothing(Evaluation):
    ...     "Measure nothing."
    ...     rows: int = setting(10, "Rows looked at.", positive=True)
    >>> Nothing(rows=3), Nothing.told()
    (Nothing(rows=3), 'Measure nothing.')
    """

    @classmethod
    def told(cls) -> str:
        """Return what ``--help`` says of it: the docstring, up to what is for programmers."""
        from inspect import cleandoc

        return _SECTION.split(f"\n{cleandoc(cls.__doc__ or '')}")[0].strip()

    def choices(self) -> dict[str, Any]:
        """Return the fields as they stand in a result's settings, JSON-ready."""
        values = {each.name: getattr(self, each.name) for each in settings_of(type(self))}
        return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}

    def measure(self, subject: Subject, folder: Path, progress: Progress) -> Result:
        """Return what was measured; ``cmcr.evaluate.measure`` adds the choices, and whose result it is.

        Args:
            subject: The space or encoder, which projects memories and embeds items.
            folder: For what is worth keeping, e.g. the memories of embedded items.
            progress: Told as work proceeds.

        Raises:
            CmcrError: it cannot be measured; the message is one line for the user.
        """
        raise NotImplementedError

    def sections(self, result: Result) -> Sequence[Section]:
        """Return what its page shows below the numbers."""
        return ()
